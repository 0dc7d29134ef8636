//! Other routers, driven by the same generator as ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::machine::Places;
use crate::picture::{self, Curve};
use crate::report::{Report, Row};
use crate::suite::Size;

pub mod curves;
pub mod launch;
pub mod mqtt;
pub mod nats;
pub mod run;
pub mod workload;
pub mod zenoh;

use launch::Installed;
use run::Comparison;
use workload::Workload;

/// `clasp-bench peers`.
#[derive(Args)]
pub struct Command {
    /// Our router.
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    /// Results go to `DIR/<date>-<machine>/`.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    results: PathBuf,
    /// Only these, and the floor: `clasp-rt-spin`, `clasp-rt-nohalt`, `clasp-rt-adaptive`,
    /// `clasp-rt-park`, `reference`, `mosquitto`, `nats`, `zenoh`.
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    only: Vec<String>,
    /// `small`: each workload once and for a moment, to see that all can be measured.
    #[arg(long, value_enum, default_value = "canonical")]
    size: Size,
    /// Where the workloads lie, as TOML files.
    #[arg(long, value_name = "DIR", default_value = "bench/workloads")]
    workloads: PathBuf,
    /// Where `bench/setup.sh` built the routers that no package brings.
    #[arg(long, value_name = "DIR", default_value = "bench/peers/target/release")]
    built: PathBuf,
}

impl Command {
    /// Measures, writes the results and gives them back.
    pub fn run(&self, places: Places) -> io::Result<Report> {
        let installed = Installed { clasp_rt: self.spawn.clone(), built: self.built.clone() };
        let comparison = Comparison { installed, places, only: self.only.clone() };
        let mut workloads = Workload::read_all(&self.workloads)?;
        if self.size == Size::Small {
            workloads.iter_mut().for_each(Workload::shorten);
        }
        let compared = comparison.run(&workloads, |line| eprintln!("{line}"))?;
        let mut router = format!("one at a time: {}", compared.versions.join(", "));
        if !compared.missing.is_empty() {
            router += &format!("; not measured: {}", compared.missing.join("; "));
        }
        let (rows, rates) = (compared.rows, compared.rates);
        let report = Report { rows, rates, ..Report::new("Routers side by side", places, router) };
        draw(&report, &report.keep(&self.results, "peers")?)?;
        Ok(report)
    }
}

/// A picture of each workload whose results are curves, and one of the sweep.
fn draw(report: &Report, folder: &Path) -> io::Result<()> {
    let mut subjects: Vec<&str> = report.rows.iter().filter_map(subject).collect();
    subjects.sort_unstable();
    subjects.dedup();
    for what in subjects.into_iter().filter(|what| !what.starts_with("sweep")) {
        let rows = report.rows.iter().filter(|row| subject(row) == Some(what));
        let curves: Vec<Curve<'_>> = rows
            .map(|row| Curve {
                name: peer(row).unwrap_or_default(),
                latency: &row.latency,
                reference: peer(row) == Some("floor"),
            })
            .collect();
        let svg = picture::percentile_curves(&format!("{}: {what}", report.title), &curves);
        fs::write(folder.join(format!("peers-{}.svg", what.replace('/', "-"))), svg)?;
    }
    let svg = curves::sweep(&report.rows);
    svg.map_or(Ok(()), |svg| fs::write(folder.join("peers-sweep.svg"), svg))
}

/// `nats` of `peer/nats/hop/1000`.
fn peer(row: &Row) -> Option<&str> {
    Some(row.key.strip_prefix("peer/")?.split_once('/')?.0)
}

/// `hop/1000` of `peer/nats/hop/1000`.
fn subject(row: &Row) -> Option<&str> {
    Some(row.key.strip_prefix("peer/")?.split_once('/')?.1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::launch::{PROGRAMS, Program};
    use super::*;
    use crate::frames::{Kind, Message};
    use crate::machine::allowed_cores;
    use crate::pace::Schedule;
    use crate::router::Idle;
    use crate::{connection, fanout, hop};

    const MESSAGES: u64 = 1_000;

    /// The routers of others, and ours if `clasp_rt` is there.
    fn installed(clasp_rt: &Path) -> Installed {
        let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
        Installed { clasp_rt: clasp_rt.to_owned(), built: bench.join("peers/target/release") }
    }

    fn places() -> Places {
        let core = allowed_cores().unwrap()[0];
        Places { router: core, client: core }
    }

    fn a_thousand_messages_pass_in_order_through(program: Program) {
        a_thousand_messages_pass_in_order(&installed(Path::new("nowhere")), program);
    }

    fn a_thousand_messages_pass_in_order(installed: &Installed, program: Program) {
        let running = installed.start(program, places()).unwrap();
        for bytes in [8, 500] {
            let message = Message { bytes, ..Message::new(Kind::Event, "/bench/test/1") };
            let mut subscriber = connection::subscriber(running.url(), &message).unwrap();
            let mut publisher = connection::publisher(running.url(), &message).unwrap();
            let mut numbers = Vec::new();
            for number in 0..MESSAGES {
                publisher.publish(number);
            }
            crate::socket::wait_until(|| {
                publisher.flush()?;
                publisher.poll(&mut |_| {})?;
                subscriber.poll(&mut |number| numbers.push(number))?;
                Ok(numbers.len() as u64 >= MESSAGES)
            })
            .unwrap();
            assert!(numbers.iter().copied().eq(0..MESSAGES), "{numbers:?}");
            assert_eq!(publisher.unsent_bytes(), 0);
        }
        // The same through the runs that are measured, at a rate that no machine is too slow for.
        let schedule = Schedule::jittered(200.0, Duration::from_millis(100), 1);
        let message = Message::new(Kind::Event, "/bench/hop/1");
        let mut path = connection::Path::through_router(running.url(), &message).unwrap();
        let measured = hop::run(&mut path, &schedule).unwrap();
        assert_eq!((measured.arrived, measured.reordered), (measured.sent, 0));
        let message = Message { pattern: "/bench/**", ..message };
        let mut fan = fanout::FanOut::through_router(running.url(), 5, &message).unwrap();
        let measured = fan.run(&schedule).unwrap();
        assert_eq!(measured.arrived, 5 * schedule.len() as u64);
    }

    #[test]
    fn a_thousand_messages_pass_in_order_through_mosquitto() {
        a_thousand_messages_pass_in_order_through(Program::Mosquitto);
    }

    #[test]
    fn a_thousand_messages_pass_in_order_through_nats_server() {
        a_thousand_messages_pass_in_order_through(Program::Nats);
    }

    #[test]
    #[ignore = "needs what `bash bench/setup.sh` builds"]
    fn a_thousand_messages_pass_in_order_through_the_reference_router() {
        a_thousand_messages_pass_in_order_through(Program::Reference);
    }

    #[test]
    #[ignore = "needs what `bash bench/setup.sh` builds"]
    fn a_thousand_messages_pass_in_order_through_a_zenoh_router() {
        a_thousand_messages_pass_in_order_through(Program::Zenoh);
    }

    #[test]
    fn a_thousand_messages_pass_in_order_through_ours_however_it_idles() {
        let installed = installed(clasp_rt_tests::program::clasp_rt());
        for (name, program) in PROGRAMS {
            let Program::ClaspRt(idle) = program else { continue };
            match installed.find(program) {
                // Without the right to keep cores awake there is no such mode.
                Err(why) if idle == Idle::NoHalt => eprintln!("{name}: {why}"),
                _ => a_thousand_messages_pass_in_order(&installed, program),
            }
        }
    }

    #[test]
    fn every_kind_of_workload_is_run_and_what_is_missing_is_said() {
        let kinds = [
            ("hop", "rounds = 2\nrate = 200"),
            ("throughput", "rounds = 1"),
            ("fanout", "rounds = 1\nrate = 50\nsubscribers = 3"),
            ("stream-fanout", "rounds = 1\nsubscribers = 3"),
            ("stream-fanout", "rounds = 1\nrate = 200\nsubscribers = 3"),
            ("sweep", "rounds = 1\nrate = 100\nrate_max = 400"),
        ];
        let workloads = kinds.map(|(kind, more)| {
            let text = format!(
                "kind = \"{kind}\"\n{more}\nmessage = \"stream\"\nsize = 8\nseconds = 0.05\n\
                 peers = [\"floor\", \"mosquitto\", \"nats\", \"reference\"]\n"
            );
            Workload::parse(&text).unwrap()
        });
        let nowhere = PathBuf::from("nowhere");
        let installed = Installed { clasp_rt: nowhere.clone(), built: nowhere };
        let comparison = Comparison { installed, places: places(), only: Vec::new() };
        let mut said = Vec::new();
        let compared = comparison.run(&workloads, |line| said.push(line.to_owned())).unwrap();
        let missing = "reference-router is not installed: bash bench/setup.sh";
        assert_eq!(said[0], missing);
        assert_eq!(compared.missing, [format!("reference: {missing}")]);
        let [mosquitto, nats] = &compared.versions[..] else { panic!("{:?}", compared.versions) };
        assert!(mosquitto.contains("mosquitto version") && nats.contains("nats-server"));
        for row in &compared.rows {
            let rounds = if row.key.contains("/hop/") { 2 } else { 1 };
            assert!(row.rounds.len() == rounds || row.key.contains("/sweep/"), "{row:?}");
            assert!(row.arrived > 0 && row.latency.count() > 0, "{}", row.key);
        }
        for rate in &compared.rates {
            assert!(rate.rounds.len() == 1 && rate.per_second() > 0.0, "{rate:?}");
        }
        let keys: Vec<&str> = compared.rows.iter().map(|row| row.key.as_str()).collect();
        let rates: Vec<&str> = compared.rates.iter().map(|rate| rate.key.as_str()).collect();
        for peer in ["floor", "mosquitto", "nats"] {
            for wanted in ["hop/200", "fanout/3/each", "fanout/3/last", "stream-fanout/3/200"] {
                assert!(keys.contains(&format!("peer/{peer}/{wanted}").as_str()), "{keys:?}");
            }
            assert!(keys.contains(&format!("peer/{peer}/sweep/100").as_str()), "{keys:?}");
            for wanted in ["throughput", "stream-fanout/3", "stream-fanout/3/200/deliveries"] {
                assert!(rates.contains(&format!("peer/{peer}/{wanted}").as_str()), "{rates:?}");
            }
        }
        let folder = std::env::temp_dir().join(format!("clasp-peers-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (rows, rates) = (compared.rows, compared.rates);
        let report = Report { rows, rates, ..Report::new("A run", places(), "") };
        draw(&report, &folder).unwrap();
        for subject in ["hop-200", "fanout-3-last", "stream-fanout-3-200", "sweep"] {
            let svg = fs::read_to_string(folder.join(format!("peers-{subject}.svg"))).unwrap();
            assert!(svg.contains("nats") && svg.contains("floor"), "{subject}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_peer_that_nobody_knows_is_named() {
        let nowhere = PathBuf::from("nowhere");
        let installed = Installed { clasp_rt: nowhere.clone(), built: nowhere };
        let only = vec!["rats".to_owned()];
        let comparison = Comparison { installed, places: places(), only };
        let error = comparison.run(&[], |_| {}).unwrap_err().to_string();
        assert!(error.contains("`rats` is none of floor, clasp-rt-spin"), "{error}");
    }
}
