//! What goes wrong in a simulated world, and how often.

use clasp_rt_core::time::Span;

use crate::random::Random;

/// The weather of a run. A share is "once in that many chances"; 0 is never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    pub name: &'static str,
    /// One in so many honest listeners reads in fits and starts.
    pub slow_readers: usize,
    /// How long such a reader pauses at most. Beyond the stall time-out its link is closed.
    pub pause_max: Span,
    /// How often an honest writer loses its connection, by actions.
    pub disconnects: usize,
    /// How often a shard's thread loses its core, by steps.
    pub stalls: usize,
    pub stall_max: Span,
    /// How long a frame travels to the router at most.
    pub delay_max: Span,
    /// Bytes that a ring between two shards holds beyond the room that one step needs.
    pub ring_spare_bytes: usize,
    pub clumsy: usize,
    pub hostile: usize,
}

impl Faults {
    /// Nothing goes wrong.
    pub const fn none() -> Self {
        Self {
            name: "none",
            slow_readers: 0,
            pause_max: Span::ZERO,
            disconnects: 0,
            stalls: 0,
            stall_max: Span::ZERO,
            delay_max: Span::from_micros(200),
            ring_spare_bytes: 512 * 1024,
            clumsy: 0,
            hostile: 0,
        }
    }

    /// Tablets that come and go, and read when they feel like it.
    pub const fn flaky_wifi() -> Self {
        Self {
            name: "flaky_wifi",
            slow_readers: 2,
            pause_max: Span::from_millis(400),
            disconnects: 60,
            delay_max: Span::from_millis(30),
            ..Self::none()
        }
    }

    /// A machine that others use too: threads lose their cores, rings fill up.
    pub const fn busy_host() -> Self {
        Self {
            name: "busy_host",
            slow_readers: 4,
            pause_max: Span::from_millis(40),
            stalls: 400,
            stall_max: Span::from_millis(50),
            ring_spare_bytes: 2 * 1024,
            ..Self::none()
        }
    }

    /// Strangers: some make mistakes, some mean harm.
    pub const fn open_house() -> Self {
        Self {
            name: "open_house",
            slow_readers: 3,
            pause_max: Span::from_secs(15),
            disconnects: 100,
            clumsy: 3,
            hostile: 3,
            ..Self::none()
        }
    }

    /// All at once.
    pub const fn festival() -> Self {
        Self {
            name: "festival",
            slow_readers: 3,
            pause_max: Span::from_millis(900),
            disconnects: 80,
            stalls: 600,
            stall_max: Span::from_millis(80),
            delay_max: Span::from_millis(20),
            ring_spare_bytes: 4 * 1024,
            clumsy: 2,
            hostile: 2,
        }
    }

    pub const ALL: [Self; 5] =
        [Self::none(), Self::flaky_wifi(), Self::busy_host(), Self::open_house(), Self::festival()];

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|faults| faults.name == name)
    }

    /// The weather of a seed.
    pub fn of(random: &mut Random) -> Self {
        Self::ALL[random.below(Self::ALL.len())].clone()
    }
}

/// Whether something that happens once in `times` chances happens now.
pub fn strikes(random: &mut Random, times: usize) -> bool {
    times > 0 && random.once_in(times)
}

/// A length of time up to, not including, `max`.
pub fn up_to(random: &mut Random, max: Span) -> Span {
    Span(random.below(usize::try_from(max.0).unwrap_or(usize::MAX)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_switched_off_never_strikes() {
        let mut random = Random::new(1);
        assert!((0..1_000).all(|_| !strikes(&mut random, 0)));
        assert!((0..1_000).any(|_| strikes(&mut random, 10)));
        assert_eq!(up_to(&mut random, Span::ZERO), Span::ZERO);
    }

    #[test]
    fn every_weather_is_found_by_its_name() {
        for faults in Faults::ALL {
            assert_eq!(Faults::by_name(faults.name), Some(faults));
        }
        assert_eq!(Faults::by_name("sunshine"), None);
    }
}
