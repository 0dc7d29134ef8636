//! OSC time tags: NTP's count of seconds since 1900, and what it means on CLASP's clock.

/// Seconds from 1900 to 1970.
const UNIX_EPOCH_S: i64 = 2_208_988_800;

/// Seconds of one NTP era: the count began again in 2036.
const ERA_S: i64 = 1 << 32;

const US_PER_S: i64 = 1_000_000;

/// 32 bits of seconds, 32 bits of 1/2^32 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeTag(pub u64);

impl TimeTag {
    /// The one value that is no time.
    pub const IMMEDIATELY: Self = Self(1);

    /// Microseconds since 1970, rounded to the nearest; `None`: immediately.
    ///
    /// Without the top bit the seconds count from 2036, as NTP has it, so that this goes on
    /// working.
    pub fn unix_us(self) -> Option<i64> {
        if self == Self::IMMEDIATELY {
            return None;
        }
        let seconds = (self.0 >> 32) as i64;
        let era = if seconds < ERA_S / 2 { ERA_S } else { 0 };
        let fraction = self.0 & 0xFFFF_FFFF;
        let us = (fraction * US_PER_S as u64 + (1 << 31)) >> 32;
        Some((seconds + era - UNIX_EPOCH_S) * US_PER_S + us as i64)
    }

    /// The tag of an instant from 1968 to 2104; outside those years the count wraps.
    pub fn from_unix_us(us: i64) -> Self {
        let seconds = us.div_euclid(US_PER_S).wrapping_add(UNIX_EPOCH_S);
        let fraction = ((us.rem_euclid(US_PER_S) as u64) << 32).div_ceil(US_PER_S as u64);
        Self((seconds as u64) << 32 | fraction)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_tags_are_instants_since_1970() {
        let tag = |seconds: u64, fraction: u64| TimeTag(seconds << 32 | fraction);
        let cases = [
            (TimeTag::IMMEDIATELY, None),
            (tag(2_208_988_800, 0), Some(0)),
            (tag(2_208_988_800, 1 << 31), Some(500_000)),
            (tag(2_208_988_801, 0xFFFF_FFFF), Some(2_000_000)),
            (tag(0xEEAD_DCFD, 0x3F24_8000), Some(1_795_382_909_246_651)),
            // 2036-02-07T06:28:16Z, when the count begins again.
            (tag(0, 0), Some(2_085_978_496_000_000)),
            (tag(0, 2), Some(2_085_978_496_000_000)),
            (tag(0xFFFF_FFFF, 0), Some(2_085_978_495_000_000)),
        ];
        for (tag, us) in cases {
            assert_eq!(tag.unix_us(), us, "{tag:?}");
        }
    }

    proptest! {
        #[test]
        fn an_instant_survives_as_a_tag(us in -40_000_000_000_000_i64..4_000_000_000_000_000) {
            prop_assert_eq!(TimeTag::from_unix_us(us).unix_us(), Some(us));
        }
    }
}
