//! How a thread waits when nothing happens: what that costs the next message, and everybody else.
//!
//! A halted core needs an interrupt and, in a virtual machine, an entry into the guest before it
//! can run again. Measured on a 2-vCPU virtual machine, one hop from idle: 13 µs when the shard
//! spins, 20 µs when it sleeps but its core may not halt, 50 to 70 µs when the core halts.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// Writing a zero here and keeping the file open keeps every core from halting.
pub const LATENCY_DEVICE: &str = "/dev/cpu_dma_latency";

/// About what one sleep costs both sides: at worst twice the best choice, whatever the gaps are.
pub const ADAPTIVE_SPIN: Duration = Duration::from_micros(50);

/// How long a shard that would sleep polls the network card first: `50us`, at most 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BusyPoll(pub Duration);

const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

impl FromStr for BusyPoll {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim() {
            "us" | "µs" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            unit => return Err(format!("`{unit}` is not a unit: write `50us` or `1ms`")),
        };
        let count: u32 = digits.parse().map_err(|_| format!("`{text}` is not a time"))?;
        match unit.checked_mul(count) {
            Some(time) if (Duration::from_micros(1)..=BUSY_POLL_MAX).contains(&time) => {
                Ok(Self(time))
            }
            _ => Err(format!("`{text}` is not within 1us and 10ms")),
        }
    }
}

impl TryFrom<String> for BusyPoll {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What a shard does when a turn found nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// One of the others, chosen at start by [`resolve`].
    #[default]
    Auto,
    /// Never sleeps: the lowest latency, a whole core.
    Spin,
    /// Sleeps in the kernel while a zero latency demand keeps the cores from halting.
    NoHalt,
    /// Spins for [`ADAPTIVE_SPIN`], then sleeps.
    Adaptive,
    /// Sleeps at once.
    Park,
}

impl Idle {
    /// How long to poll before sleeping; `None`: for ever.
    pub fn spin(self) -> Option<Duration> {
        match self {
            Self::Spin => None,
            Self::Adaptive => Some(ADAPTIVE_SPIN),
            Self::Auto | Self::NoHalt | Self::Park => Some(Duration::ZERO),
        }
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Spin => "spin",
            Self::NoHalt => "nohalt",
            Self::Adaptive => "adaptive",
            Self::Park => "park",
        })
    }
}

/// What the choice depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Cores this process may run on.
    pub cores: usize,
    /// Threads of ours that want one each: shards and bridge threads.
    pub threads: usize,
    /// Every shard has a core that the scheduler gives to nobody else (`isolcpus`).
    pub shards_isolated: bool,
    /// A control group takes the processor away when a quota is used up.
    pub quota: bool,
    /// [`LATENCY_DEVICE`] opens for writing.
    pub may_forbid_halt: bool,
}

/// Chooses for `wanted`, and says why in words for the person who started the router.
pub fn resolve(wanted: Idle, host: &HostFacts) -> (Idle, String) {
    let HostFacts { cores, threads, .. } = *host;
    match wanted {
        Idle::NoHalt if !host.may_forbid_halt => (
            Idle::Adaptive,
            format!("{LATENCY_DEVICE} does not open, so cores cannot be kept awake"),
        ),
        Idle::Auto if host.shards_isolated => {
            (Idle::Spin, "every shard has an isolated core to itself".to_owned())
        }
        Idle::Auto if host.quota => {
            (Idle::Park, "a processor quota would be spent on spinning".to_owned())
        }
        Idle::Auto if host.may_forbid_halt => {
            (Idle::NoHalt, format!("cores are shared, and {LATENCY_DEVICE} keeps them awake"))
        }
        Idle::Auto if threads >= cores => (
            Idle::Park,
            format!("{threads} threads on {cores} cores: spinning would rob a neighbour"),
        ),
        Idle::Auto => {
            (Idle::Adaptive, format!("cores are shared, and {LATENCY_DEVICE} does not open"))
        }
        chosen => (chosen, "as configured".to_owned()),
    }
}

/// Whether the host would let us keep its cores awake.
pub fn may_forbid_halt() -> bool {
    OpenOptions::new().write(true).open(LATENCY_DEVICE).is_ok()
}

/// Keeps every core of the host from halting until dropped, also when the process dies.
#[derive(Debug)]
pub struct Awake {
    _demand: File,
}

impl Awake {
    pub fn new() -> io::Result<Self> {
        Self::at(Path::new(LATENCY_DEVICE))
    }

    fn at(device: &Path) -> io::Result<Self> {
        let mut demand = OpenOptions::new().write(true).open(device)?;
        demand.write_all(&0_i32.to_ne_bytes())?;
        Ok(Self { _demand: demand })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_follows_from_what_the_host_offers() {
        let shared = HostFacts { cores: 4, threads: 2, ..HostFacts::default() };
        let isolated = HostFacts { shards_isolated: true, ..shared.clone() };
        let privileged = HostFacts { may_forbid_halt: true, ..shared.clone() };
        let quota = HostFacts { quota: true, ..privileged.clone() };
        let crowded = HostFacts { threads: 4, ..shared.clone() };
        let cases = [
            (Idle::Auto, &shared, Idle::Adaptive),
            (Idle::Auto, &isolated, Idle::Spin),
            (Idle::Auto, &privileged, Idle::NoHalt),
            (Idle::Auto, &quota, Idle::Park),
            (Idle::Auto, &crowded, Idle::Park),
            (Idle::NoHalt, &shared, Idle::Adaptive),
            (Idle::NoHalt, &privileged, Idle::NoHalt),
            (Idle::Spin, &crowded, Idle::Spin),
            (Idle::Park, &isolated, Idle::Park),
        ];
        for (wanted, host, chosen) in cases {
            let (idle, why) = resolve(wanted, host);
            assert_eq!(idle, chosen, "{wanted} on {host:?}");
            assert!(!why.is_empty());
        }
    }

    #[test]
    fn a_time_to_poll_has_a_unit_and_a_bound() {
        let cases = [("50us", 50), ("1 us", 1), ("200µs", 200), ("10ms", 10_000)];
        for (text, us) in cases {
            assert_eq!(text.parse(), Ok(BusyPoll(Duration::from_micros(us))), "{text}");
        }
        for text in ["", "50", "us", "0us", "11ms", "4294967295ms", "1s", "-1us", "1.5us"] {
            assert!(text.parse::<BusyPoll>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_demand_is_a_zero_of_four_bytes() {
        let file = std::env::temp_dir().join(format!("clasp-rt-awake-{}", std::process::id()));
        std::fs::write(&file, b"").unwrap();
        let awake = Awake::at(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), [0; 4]);
        drop(awake);
        std::fs::remove_file(&file).unwrap();
    }
}
