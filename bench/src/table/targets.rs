//! What was promised: each target, the keys it is measured by, and what would reach it.

/// One line of the promise.
#[derive(Debug)]
pub struct Target {
    pub what: &'static str,
    pub against: &'static str,
    pub cells: Vec<Cell>,
}

/// One number of it.
#[derive(Debug)]
pub struct Cell {
    /// What tells it from the others of its target.
    pub label: String,
    /// `KEY#FIELD`: see `Results::series`.
    pub ours: String,
    pub to: To,
    pub goal: Goal,
}

/// What our number is held against, round by round.
#[derive(Debug)]
pub enum To {
    /// Nothing: it stands for itself, in this unit.
    Itself(&'static str),
    /// How many times that it is.
    Times(String),
    /// How many times as quick as that it is: nanoseconds by nanoseconds.
    Quicker(String),
    /// How much more than that it is, in this unit.
    Above(String, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    pub fn is_reached(self, found: f64) -> bool {
        match self {
            Self::AtMost(most) => found <= most,
            Self::AtLeast(least) => found >= least,
        }
    }
}

const PEERS: [&str; 4] = ["reference", "mosquitto", "nats", "zenoh"];

/// All of them, in the order in which they were promised.
pub fn targets() -> Vec<Target> {
    let mut targets = hops();
    targets.extend(crowds());
    targets.extend(codecs());
    targets.extend(sizes());
    targets.extend(shows());
    targets
}

fn hops() -> Vec<Target> {
    let beside_floor = |idle: &str, p50, p99_9| {
        let mut cells = Vec::new();
        for scheme in ["ws", "tcp"] {
            let key = format!("hop/{scheme}/set/1000/{idle}");
            // Over TCP only where it spins: what waiting costs does not depend on the transport.
            if scheme == "ws" || idle == "spin" {
                cells.push(times(&format!("{scheme} p50"), &key, "p50", p50));
                cells.push(times(&format!("{scheme} p99.9"), &key, "p99.9", p99_9));
            }
        }
        cells
    };
    let mut ahead = Vec::new();
    for idle in ["adaptive", "park"] {
        for peer in PEERS {
            for quantile in ["p50", "p99.9"] {
                let ours = format!("peer/clasp-rt-{idle}/hop/1000#{quantile}");
                let to = To::Times(format!("peer/{peer}/hop/1000#{quantile}"));
                let label = format!("{idle}, {peer} {quantile}");
                ahead.push(Cell { label, ours, to, goal: Goal::AtMost(1.0) });
            }
        }
    }
    vec![
        Target {
            what: "one hop, spinning",
            against: "bare busy-poll relay",
            cells: beside_floor("spin", 1.2, 1.5),
        },
        Target {
            what: "one hop, `nohalt`, 1,000/s",
            against: "the same relay, spinning",
            cells: beside_floor("nohalt", 1.5, 1.5),
        },
        Target { what: "one hop, sleeping, 1,000/s", against: "each peer", cells: ahead },
        Target {
            what: "ACK on one connection",
            against: "itself; a hop through the bare relay at that pace",
            cells: vec![
                Cell {
                    label: "1,000/s p50".to_owned(),
                    ours: "peer/clasp-rt-spin/ack/1000#p50".to_owned(),
                    to: To::Itself("µs"),
                    goal: Goal::AtMost(20.0),
                },
                Cell {
                    label: "20/s p50".to_owned(),
                    ours: "peer/clasp-rt-spin/ack/20#p50".to_owned(),
                    to: To::Times("peer/floor/ack/20#p50".to_owned()),
                    goal: Goal::AtMost(1.2),
                },
            ],
        },
        Target {
            what: "idle with 1,000 connections",
            against: "one core",
            cells: ["adaptive", "park"]
                .map(|idle| plain(idle, &format!("idle/1000/{idle}"), "%", Goal::AtMost(0.5)))
                .into(),
        },
    ]
}

fn crowds() -> Vec<Target> {
    let rate = |label: &str, what: &str, peer: &str, least| Cell {
        label: label.to_owned(),
        ours: format!("peer/clasp-rt-spin/{what}#per_second"),
        to: To::Times(format!("peer/{peer}/{what}#per_second")),
        goal: Goal::AtLeast(least),
    };
    let fan_out = |subscribers: u32| {
        let key = format!("fanout/{subscribers}/last");
        [
            times(&format!("{subscribers} p50"), &key, "p50", 1.0),
            times(&format!("{subscribers} p99.9"), &key, "p99.9", 1.2),
        ]
    };
    let by_two = |subscribers: u32| {
        ["p50", "p99.9"].map(|quantile| Cell {
            label: format!("{subscribers} {quantile}"),
            ours: format!("shards/{subscribers}/2#{quantile}"),
            to: To::Times(format!("shards/{subscribers}/1#{quantile}")),
            goal: Goal::AtMost(1.0),
        })
    };
    vec![
        Target {
            what: "throughput, one to one",
            against: "nats-server; the published router",
            cells: vec![
                rate("nats", "throughput", "nats", 1.5),
                rate("reference", "throughput", "reference", 10.0),
            ],
        },
        Target {
            what: "fan-out, last receiver",
            against: "bare loop of writes",
            cells: [fan_out(100), fan_out(1_000)].into_iter().flatten().collect(),
        },
        Target {
            what: "fan-out by two shards, last receiver",
            against: "by one",
            cells: [by_two(100), by_two(1_000)].into_iter().flatten().collect(),
        },
        Target {
            what: "stream to 100, deliveries/s",
            against: "one write a message; the published router",
            cells: vec![
                rate("floor", "stream-fanout/100", "floor", 5.0),
                rate("reference", "stream-fanout/100", "reference", 10.0),
            ],
        },
    ]
}

fn codecs() -> Vec<Target> {
    let (mut quicker, mut ahead) = (Vec::new(), Vec::new());
    for way in ["decode", "encode"] {
        for mix in ["set", "publish", "mix"] {
            let key = format!("codec/{way}/{mix}/ours");
            let to = To::Quicker(format!("codec/{way}/{mix}/clasp-core"));
            let (label, goal) = (format!("{way} {mix}"), Goal::AtLeast(5.0));
            quicker.push(Cell { label, ours: key.clone(), to, goal });
            let allocations = format!("{key}/allocations");
            let label = format!("{way} {mix}, allocations");
            quicker.push(plain(&label, &allocations, "", Goal::AtMost(0.0)));
        }
        let to = To::Quicker(format!("codec/{way}/mix/rumqttc"));
        let ours = format!("codec/{way}/mix/ours");
        ahead.push(Cell { label: way.to_owned(), ours, to, goal: Goal::AtLeast(1.0) });
    }
    vec![
        Target {
            what: "codec, times as quick",
            against: "the published crate `clasp-core`",
            cells: quicker,
        },
        Target { what: "codec, times as quick", against: "MQTT of `rumqttc`", cells: ahead },
    ]
}

fn sizes() -> Vec<Target> {
    let crossing = |quantile: &str| Cell {
        label: quantile.to_owned(),
        ours: format!("crossing/across#{quantile}"),
        to: To::Above(format!("crossing/same#{quantile}"), "µs"),
        goal: Goal::AtMost(0.5),
    };
    let flat = |label: &str, few: &str, many: &str, unit: &str| Cell {
        label: format!("{label}, {unit}"),
        ours: format!("flat/{many}/{unit}"),
        to: To::Times(format!("flat/{few}/{unit}")),
        goal: Goal::AtMost(1.5),
    };
    let mut flats = Vec::new();
    for unit in ["instructions", "ns"] {
        let (few, many) = ("subscriptions/10", "subscriptions/100000");
        flats.push(flat("1,000 to 1,000,000 params", "params/1000", "params/1000000", unit));
        flats.push(flat("10 to 100,000 subscriptions, SET", few, many, unit));
        let [few, many] = [few, many].map(|key| format!("{key}/stream"));
        flats.push(flat("10 to 100,000 subscriptions, stream", &few, &many, unit));
    }
    let others = "snapshot/100000/others";
    vec![
        Target {
            what: "crossing one shard boundary",
            against: "the same hop in one shard",
            cells: ["p50", "p99"].map(crossing).into(),
        },
        Target { what: "cost of a message", against: "itself", cells: flats },
        Target {
            what: "joining with 100,000 params held",
            against: "itself",
            cells: vec![
                Cell {
                    label: "complete, p50".to_owned(),
                    ours: "snapshot/100000/complete#p50".to_owned(),
                    to: To::Itself("µs"),
                    goal: Goal::AtMost(100_000.0),
                },
                Cell {
                    label: "others' p99 meanwhile".to_owned(),
                    ours: format!("{others}/meanwhile#p99"),
                    to: To::Times(format!("{others}/undisturbed#p99")),
                    goal: Goal::AtMost(1.5),
                },
            ],
        },
        Target {
            what: "bytes",
            against: "the published router: 475 and 19,700",
            cells: vec![
                plain("a held param", "memory/param", "B", Goal::AtMost(160.0)),
                plain("an idle connection", "memory/idle-connection", "B", Goal::AtMost(8_192.0)),
            ],
        },
    ]
}

fn shows() -> Vec<Target> {
    let (mut least, mut universes, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
    for (protocol, title) in [("artnet", "Art-Net"), ("sacn", "sACN")] {
        for (change, of) in [("16", "16 slots"), ("whole", "whole")] {
            for direction in ["in", "out"] {
                universes.push(plain(
                    &format!("{title} {direction}, {of}"),
                    &format!("{protocol}/{direction}/most/{change}"),
                    "universes",
                    Goal::AtLeast(4_096.0),
                ));
            }
        }
        for direction in ["in", "out"] {
            let lost = format!("{protocol}/{direction}/1024/16#lost");
            least.push(plain(&format!("{title} {direction}"), &lost, "lost", Goal::AtMost(0.0)));
        }
        universes.push(plain(
            &format!("{title} in, unchanged"),
            &format!("{protocol}/in/most/0"),
            "universes",
            Goal::AtLeast(4_096.0),
        ));
        for unit in ["instructions", "ns"] {
            unchanged.push(Cell {
                label: format!("{title}, {unit}"),
                ours: format!("unchanged/{protocol}/{unit}"),
                to: To::Times(format!("unchanged/comparison/{unit}")),
                goal: Goal::AtMost(2.0),
            });
        }
    }
    vec![
        Target {
            what: "a GO under overload, p99.9",
            against: "itself, unloaded",
            cells: vec![Cell {
                label: "GO p99.9".to_owned(),
                ours: "lanes/go/overload#p99.9".to_owned(),
                to: To::Times("lanes/go/unloaded#p99.9".to_owned()),
                goal: Goal::AtMost(2.0),
            }],
        },
        Target {
            what: "throughput with histograms",
            against: "without",
            cells: vec![Cell {
                label: "on by off".to_owned(),
                ours: "histograms/on#per_second".to_owned(),
                to: To::Times("histograms/off#per_second".to_owned()),
                goal: Goal::AtLeast(0.98),
            }],
        },
        Target {
            what: "1,024 universes at 44 Hz, 16 slots each",
            against: "no loss",
            cells: least,
        },
        Target {
            what: "universes at 44 Hz, one core",
            against: "the first loss",
            cells: universes,
        },
        Target {
            what: "a packet of an unchanged universe",
            against: "a comparison of 512 octets",
            cells: unchanged,
        },
    ]
}

/// A row against its own floor.
fn times(label: &str, key: &str, quantile: &str, most: f64) -> Cell {
    Cell {
        label: label.to_owned(),
        ours: format!("{key}#{quantile}"),
        to: To::Times(format!("{key}#floor.{quantile}")),
        goal: Goal::AtMost(most),
    }
}

fn plain(label: &str, key: &str, unit: &'static str, goal: Goal) -> Cell {
    Cell { label: label.to_owned(), ours: key.to_owned(), to: To::Itself(unit), goal }
}
