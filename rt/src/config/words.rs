//! Values that are written as text: lists of cores, and sizes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// A list of cores, written `2-7` or `2,4-5`: ascending, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

/// A size: a number of bytes, or text such as `"16 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// Where a flag says to listen: the interface with that address.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let wrong = "should be an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 for all";
    text.parse().map_err(|_| wrong.to_owned())
}

/// Where a flag says to listen: an address as above, and a port.
pub fn address_and_port(text: &str) -> Result<SocketAddr, String> {
    let wrong = "should be an IP address and a port, such as 127.0.0.1:7331";
    text.parse().map_err(|_| wrong.to_owned())
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = match (first.trim().parse(), last.trim().parse()) {
                (Ok(first), Ok(last)) if first <= last && last < CORE_MAX => (first, last),
                _ => return Err(format!("`{part}` is not a core or a range such as 2-7")),
            };
            cores.extend::<std::ops::RangeInclusive<usize>>(first..=last);
        }
        Self::new(cores)
    }
}

/// More than any kernel is built for; keeps a slip of the finger from filling memory.
const CORE_MAX: usize = 8_192;

impl Cores {
    fn new(mut cores: Vec<usize>) -> Result<Self, String> {
        cores.sort_unstable();
        if let Some(pair) = cores.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("core {} is named twice", pair[0]));
        }
        Ok(Self(cores))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CoresVisitor;
        impl<'de> Visitor<'de> for CoresVisitor {
            type Value = Cores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("cores such as \"2-7\" or [2, 4, 5]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cores, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Cores, A::Error> {
                let mut cores = Vec::new();
                while let Some(core) = list.next_element()? {
                    cores.push(core);
                }
                Cores::new(cores).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(CoresVisitor)
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].trim() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            unit => return Err(format!("`{unit}` is not a unit: use KiB, MiB or GiB")),
        };
        let count: u64 =
            digits.replace('_', "").parse().map_err(|_| format!("`{text}` is not a size"))?;
        let bytes = count.checked_mul(1 << shift);
        bytes.map(Self).ok_or_else(|| format!("`{text}` is more than any machine has"))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or text such as \"16 MiB\"")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Bytes, E> {
                let count = u64::try_from(count);
                count.map(Bytes).map_err(|_| E::custom("a size cannot be negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(BytesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_written_as_ranges_and_lists() {
        let cases: [(&str, &[usize], &str); 5] = [
            ("2-7", &[2, 3, 4, 5, 6, 7], "2-7"),
            ("2,4-5", &[2, 4, 5], "2,4-5"),
            ("0", &[0], "0"),
            ("5,1", &[1, 5], "1,5"),
            ("1, 2-3", &[1, 2, 3], "1-3"),
        ];
        for (text, cores, shown) in cases {
            let parsed: Cores = text.parse().expect(text);
            assert_eq!(parsed.0, cores, "{text}");
            assert_eq!(parsed.to_string(), shown, "{text}");
        }
        for text in ["", "2-", "-2", "a", "7-2", "1,,2", "1,1", "0-3,2", "0-99999999"] {
            assert!(text.parse::<Cores>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_numbers_or_carry_a_unit() {
        let cases = [("17", 17), ("16 KiB", 16 << 10), ("2MiB", 2 << 20), ("1 GiB", 1 << 30)];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "MiB", "1 MB", "-1", "99999999999 GiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
