//! What Art-Net and sACN have in common: universes by number, told, paced and chosen alike.

pub(crate) mod contest;
pub(crate) mod outgoing;
pub(crate) mod table;
pub(crate) mod telling;
pub(crate) mod written;

use clasp_rt_core::time::Time;
use serde::Deserialize;

/// What the router is told of a universe from the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A param for each slot, and of a frame those that changed.
    #[default]
    Channel,
    /// One param of bytes, slot 1 first, told whole when any slot changed: for more universes than
    /// a router has params for, and for those who want all slots at once anyway.
    Universe,
}

/// The first of what is due.
pub(crate) fn first_of<const N: usize>(due: [Option<Time>; N]) -> Option<Time> {
    const NEVER: Time = Time(u64::MAX);
    let first = due.into_iter().fold(NEVER, |first, due| first.min(due.unwrap_or(NEVER)));
    (first != NEVER).then_some(first)
}

/// Universe and slot, as they are written, of a `place` such as `19/512`: up to five digits, a
/// slash, up to three, neither with zeros in front. Most addresses below a namespace are such a
/// one; whatever else there is, is `None`.
pub(crate) fn plain_slot(place: &[u8]) -> Option<(u16, u16)> {
    let (universe, rest) = leading_number(place, 5)?;
    let (slot, rest) = leading_number(rest.strip_prefix(b"/")?, 3)?;
    let universe = u16::try_from(universe).ok()?;
    rest.is_empty().then_some((universe, slot as u16))
}

/// The number that `text` begins with, if it has one to `digits_max` digits, and what follows it.
fn leading_number(text: &[u8], digits_max: usize) -> Option<(u32, &[u8])> {
    let (mut number, mut count) = (0, 0);
    for byte in text.iter().take(digits_max) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number * 10 + u32::from(digit);
        count += 1;
    }
    let has_zeros = count > 1 && text.first() == Some(&b'0');
    (count > 0 && !has_zeros).then(|| (number, text.get(count..).unwrap_or_default()))
}

/// The number of a universe, as one protocol counts them.
pub trait Number: Copy + Ord {
    /// What people of that protocol call it.
    const NAME: &'static str;
    const ALL: (Self, Self);

    fn parse(text: &str) -> Option<Self>;
    fn number(self) -> u16;
}

/// A choice of universes: `all`, `none`, or numbers and ranges such as `0-15, 100`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "N: Number")]
pub enum Chosen<N: Number> {
    All,
    /// Ranges with both their ends.
    Some(Vec<(N, N)>),
}

impl<N: Number> Chosen<N> {
    /// How many are chosen; one that stands in several ranges counts once.
    pub(crate) fn count(&self) -> usize {
        let mut ranges = self.ranges();
        ranges.sort_unstable();
        let mut next = 0;
        let each = ranges.into_iter().map(|(first, last)| {
            let count = (usize::from(last) + 1).saturating_sub(next.max(usize::from(first)));
            next = next.max(usize::from(last) + 1);
            count
        });
        each.sum()
    }

    pub fn contain(&self, number: N) -> bool {
        match self {
            Self::All => true,
            Self::Some(ranges) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
            }
        }
    }

    /// The ranges with both their ends, as they were written.
    pub(crate) fn ranges(&self) -> Vec<(u16, u16)> {
        match self {
            Self::All => vec![(N::ALL.0.number(), N::ALL.1.number())],
            Self::Some(ranges) => {
                ranges.iter().map(|(first, last)| (first.number(), last.number())).collect()
            }
        }
    }
}

impl<N: Number> TryFrom<String> for Chosen<N> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.trim() {
            "all" => return Ok(Self::All),
            "none" => return Ok(Self::Some(Vec::new())),
            _ => {}
        }
        let wrong = |part: &str| format!("`{part}` is not a {} or a range such as 1-15", N::NAME);
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim(), last.trim());
            N::parse(first)
                .zip(N::parse(last))
                .filter(|(first, last)| first <= last)
                .ok_or_else(|| wrong(part.trim()))
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self::Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artnet::packet::PortAddress;

    #[test]
    fn a_plain_slot_is_read_by_its_digits() {
        let cases = [
            ("19/512", Some((19, 512))),
            ("0/1", Some((0, 1))),
            ("0/0", Some((0, 0))),
            ("00019/7", None),
            ("19/007", None),
            ("00/1", None),
            ("65535/999", Some((65_535, 999))),
            ("65536/1", None),
            ("000001/1", None),
            ("1/0001", None),
            ("1/+1", None),
            ("1/1/priority", None),
            ("0:1:3/1", None),
            ("1", None),
            ("1/", None),
            ("/1", None),
            ("", None),
        ];
        for (place, slot) in cases {
            assert_eq!(plain_slot(place.as_bytes()), slot, "{place}");
        }
    }

    #[test]
    fn a_number_beyond_the_last_universe_is_refused_with_their_range() {
        let why = Chosen::<PortAddress>::try_from("0-3,40000".to_owned()).unwrap_err();
        assert!(why.contains("`40000`") && why.contains("0 to 32767"), "{why}");
    }

    #[test]
    fn a_choice_of_universes_is_read_and_counted() {
        let cases = [
            ("all", Some(32_768)),
            ("none", Some(0)),
            ("7", Some(1)),
            ("0-15, 100", Some(17)),
            ("0-15,8-20,3", Some(21)),
            ("5-1", None),
            ("1-", None),
            ("", None),
            ("some", None),
        ];
        for (text, count) in cases {
            let chosen = Chosen::<PortAddress>::try_from(text.to_owned());
            assert_eq!(chosen.ok().map(|chosen| chosen.count()), count, "{text}");
        }
    }
}
