//! Workloads as files: what is sent, how often, to how many, and through which routers.
//!
//! One TOML file each, named after what it measures:
//!
//! ```toml
//! kind = "hop"             # hop, throughput, fanout, stream-fanout, ack or sweep
//! message = "set"          # set, event or stream, where the protocol tells them apart
//! rate = 1000              # messages a second; of a sweep the first rate, which then doubles
//! rate_max = 1000000       # of a sweep alone: where it ends, unless the router ends before
//! size = 8                 # bytes of the value, 8 or more
//! subscribers = 1          # of a fanout or stream-fanout
//! seconds = 2.0            # of each round (a sweep: of each rate), without the warm-up
//! rounds = 5               # all routers take turns in each round
//! peers = ["floor", "clasp-rt-spin", "nats"]
//! ```
//!
//! A `stream-fanout` without `rate` sends as much as all subscribers take.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::launch::{PROGRAMS, Program};
use crate::frames::{Kind, NUMBER_LEN};

/// A round that shows only that it runs.
const SHORT: Duration = Duration::from_millis(100);

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    Hop {
        rate_hz: f64,
    },
    Throughput,
    FanOut {
        rate_hz: f64,
        subscribers: usize,
    },
    /// As much as all take, or an open loop at a rate.
    StreamFanOut {
        rate_hz: Option<f64>,
        subscribers: usize,
    },
    Ack {
        rate_hz: f64,
    },
    Sweep {
        rate_hz: f64,
        rate_hz_max: f64,
    },
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The bare relay of the same bytes.
    Floor,
    Program(Program),
}

/// A file that was read and found to make sense.
#[derive(Clone, Debug)]
pub struct Workload {
    pub load: Load,
    pub message: Kind,
    pub value_bytes: usize,
    /// Of each round; of a sweep, of each rate.
    pub length: Duration,
    pub rounds: u32,
    /// With their names in keys.
    pub contenders: Vec<(String, Contender)>,
}

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: String,
    message: String,
    rate: Option<f64>,
    rate_max: Option<f64>,
    size: usize,
    subscribers: Option<usize>,
    seconds: f64,
    rounds: u32,
    peers: Vec<String>,
}

impl Contender {
    pub fn named(name: &str) -> Option<Self> {
        if name == "floor" {
            return Some(Self::Floor);
        }
        Program::named(name).map(Self::Program)
    }
}

impl Workload {
    /// All `.toml` files of `folder`, in the order of their names.
    pub fn read_all(folder: &Path) -> io::Result<Vec<Self>> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("workloads of {}: {error}", folder.display()))
        };
        let entries = fs::read_dir(folder).map_err(named)?;
        let mut paths: Vec<_> =
            entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().map_err(named)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            let text = fs::read_to_string(path)?;
            Self::parse(&text).map_err(|why| {
                io::Error::new(ErrorKind::InvalidData, format!("{}: {why}", path.display()))
            })
        };
        paths.iter().map(read).collect()
    }

    /// One short round: enough to see that it runs, too little to count on.
    pub fn shorten(&mut self) {
        self.rounds = 1;
        self.length = self.length.min(SHORT);
    }

    /// Reads one file; the error says which key is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|why| why.to_string())?;
        let rate = || file.rate.ok_or(format!("kind `{}` needs a `rate`", file.kind));
        let crowd = || file.subscribers.ok_or(format!("kind `{}` needs `subscribers`", file.kind));
        let load = match file.kind.as_str() {
            "hop" => Load::Hop { rate_hz: rate()? },
            "throughput" => Load::Throughput,
            "fanout" => Load::FanOut { rate_hz: rate()?, subscribers: crowd()? },
            "stream-fanout" => Load::StreamFanOut { rate_hz: file.rate, subscribers: crowd()? },
            "ack" => Load::Ack { rate_hz: rate()? },
            "sweep" => {
                let most = file.rate_max.ok_or("kind `sweep` needs a `rate_max`")?;
                Load::Sweep { rate_hz: rate()?, rate_hz_max: most }
            }
            other => {
                return Err(format!(
                    "kind `{other}` is none of hop, throughput, fanout, stream-fanout, ack, sweep"
                ));
            }
        };
        let needless = [
            ("rate", file.rate.is_some() && load == Load::Throughput),
            ("rate_max", file.rate_max.is_some() && !matches!(load, Load::Sweep { .. })),
            ("subscribers", file.subscribers.is_some() && load.subscribers().is_none()),
        ];
        if let Some((key, _)) = needless.iter().find(|(_, needless)| *needless) {
            return Err(format!("kind `{}` knows no `{key}`", file.kind));
        }
        let message = match file.message.as_str() {
            "set" => Kind::Set,
            "event" => Kind::Event,
            "stream" => Kind::Stream,
            other => return Err(format!("message `{other}` is none of set, event, stream")),
        };
        for (key, rate_hz) in [("rate", file.rate), ("rate_max", file.rate_max)] {
            if rate_hz.is_some_and(|rate_hz| !(1.0..=1e7).contains(&rate_hz)) {
                return Err(format!("`{key}` is a number from 1 to 10,000,000 a second"));
            }
        }
        if !(NUMBER_LEN..=8_192).contains(&file.size) {
            return Err(format!("`size` is {} to 8192 bytes, not {}", NUMBER_LEN, file.size));
        }
        if file.subscribers.is_some_and(|count| !(1..=1_000).contains(&count)) {
            return Err("`subscribers` is a number from 1 to 1000".to_owned());
        }
        if !(0.01..=60.0).contains(&file.seconds) || !(1..=100).contains(&file.rounds) {
            return Err("`seconds` is 0.01 to 60, `rounds` 1 to 100".to_owned());
        }
        let mut contenders = Vec::with_capacity(file.peers.len());
        for name in file.peers {
            let Some(contender) = Contender::named(&name) else {
                let known = PROGRAMS.map(|(name, _)| name).join(", ");
                return Err(format!("peer `{name}` is none of floor, {known}"));
            };
            if matches!(load, Load::Ack { .. }) && !contender.acknowledges() {
                return Err(format!("peer `{name}` speaks no CLASP, whose ACK is measured"));
            }
            contenders.push((name, contender));
        }
        Ok(Self {
            load,
            message,
            value_bytes: file.size,
            length: Duration::from_secs_f64(file.seconds),
            rounds: file.rounds,
            contenders,
        })
    }
}

impl Contender {
    /// Whether it can take part where ACKs are measured: the floor stands in with a hop.
    fn acknowledges(self) -> bool {
        matches!(self, Self::Floor | Self::Program(Program::ClaspRt(_) | Program::Reference))
    }
}

impl Load {
    /// Of a crowd; the other kinds have one.
    pub fn subscribers(self) -> Option<usize> {
        match self {
            Self::FanOut { subscribers, .. } | Self::StreamFanOut { subscribers, .. } => {
                Some(subscribers)
            }
            Self::Hop { .. } | Self::Throughput | Self::Ack { .. } | Self::Sweep { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: &str = "kind = \"hop\"\nmessage = \"set\"\nrate = 1000\nsize = 8\n\
                       seconds = 2.0\nrounds = 5\npeers = [\"floor\", \"nats\"]\n";

    #[test]
    fn a_file_becomes_a_workload() {
        let workload = Workload::parse(HOP).unwrap();
        assert_eq!(workload.load, Load::Hop { rate_hz: 1_000.0 });
        assert_eq!((workload.message, workload.value_bytes, workload.rounds), (Kind::Set, 8, 5));
        assert_eq!(workload.length, Duration::from_secs(2));
        let mut short = workload.clone();
        short.shorten();
        assert_eq!((short.rounds, short.length), (1, SHORT));
        let nats = ("nats".to_owned(), Contender::Program(Program::Nats));
        assert_eq!(workload.contenders, [("floor".to_owned(), Contender::Floor), nats]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (from, to, wanted) in [
            ("\"hop\"", "\"hops\"", "none of hop, throughput"),
            ("\"hop\"", "\"fanout\"", "needs `subscribers`"),
            ("\"hop\"", "\"sweep\"", "needs a `rate_max`"),
            ("\"hop\"", "\"throughput\"", "knows no `rate`"),
            ("\"hop\"", "\"ack\"", "peer `nats` speaks no CLASP"),
            ("\"set\"", "\"sets\"", "none of set, event, stream"),
            ("rate = 1000\n", "", "needs a `rate`"),
            ("rate = 1000", "rate = 0", "from 1 to"),
            ("rate = 1000", "rate = nan", "from 1 to"),
            ("rate = 1000", "rates = 1000", "unknown field"),
            ("rate = 1000", "rate = 1000\nsubscribers = 3", "knows no `subscribers`"),
            ("rate = 1000", "rate = 1000\nrate_max = 3", "knows no `rate_max`"),
            ("size = 8", "size = 7", "8 to 8192 bytes, not 7"),
            ("seconds = 2.0", "seconds = -1.0", "0.01 to 60"),
            ("rounds = 5", "rounds = 0", "1 to 100"),
            ("\"nats\"", "\"rats\"", "peer `rats` is none of floor, clasp-rt-spin"),
        ] {
            let error = Workload::parse(&HOP.replace(from, to)).unwrap_err();
            assert!(error.contains(wanted), "{to}: {error}");
        }
        let crowd = HOP.replace("\"hop\"", "\"fanout\"") + "subscribers = 1001\n";
        assert!(Workload::parse(&crowd).unwrap_err().contains("1 to 1000"));
    }

    #[test]
    fn the_workloads_that_are_kept_here_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
        let workloads = Workload::read_all(&folder).unwrap();
        assert!(workloads.len() >= 8, "{}", workloads.len());
        assert!(workloads.iter().all(|workload| workload.rounds >= 1));
    }
}
