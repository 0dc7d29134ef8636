//! `clasp-bench`: open-loop load against a real router, next to the floor of the same machine.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod ack;
mod connection;
mod counts;
mod expect;
mod fanout;
mod flame;
mod floor;
mod frames;
mod hop;
mod lanes;
mod load;
mod machine;
mod overhead;
mod pace;
mod pcap;
mod peer;
mod peers;
mod picture;
mod recording;
mod replay;
mod report;
mod router;
mod rows;
mod socket;
mod stream;
mod suite;
mod table;
mod throughput;
mod universes;

use frames::Kind;
use load::Load;
use machine::{Machine, Places};
use pace::Schedule;
use peer::Peer;
use report::{Rate, Report, Row};
use router::{Idle, Router, Source};
use suite::{Crowd, Hop, Size};

/// Measures a CLASP router from outside.
///
/// Messages leave on a schedule that was fixed before the run, and latency counts from the instant
/// of that schedule, so a stall shows in every message it delayed. Every result stands next to the
/// floor: a bare relay of the same bytes, measured in the same run on the router's core.
#[derive(Parser)]
#[command(name = "clasp-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Core of the router and of the floor; the last but one unless told.
    #[arg(long, global = true, value_name = "CORE")]
    router_core: Option<usize>,
    /// Core of the load generator; the last one unless told.
    #[arg(long, global = true, value_name = "CORE")]
    client_core: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Publisher to router to subscriber.
    Hop {
        #[command(flatten)]
        router: RouterArgs,
        /// `ws` or `tcp`; with `--router` the scheme of the URL counts.
        #[arg(long, default_value = "ws")]
        transport: String,
        #[arg(long, value_enum, default_value = "set")]
        kind: Kind,
        /// Messages a second.
        #[arg(long, default_value_t = 1_000.0)]
        rate: f64,
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// How often floor and router take turns.
        #[arg(long, default_value_t = 2)]
        rounds: u32,
    },
    /// One publisher to many subscribers.
    Fanout {
        #[command(flatten)]
        router: RouterArgs,
        #[arg(long, default_value = "ws")]
        transport: String,
        #[arg(long, default_value_t = 100)]
        subscribers: usize,
        #[arg(long, default_value_t = 50.0)]
        rate: f64,
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// As many messages a second as pass in order and without loss.
    Throughput {
        #[command(flatten)]
        router: RouterArgs,
        #[arg(long, default_value = "ws")]
        transport: String,
        #[arg(long, value_enum, default_value = "event")]
        kind: Kind,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// A GO event alone, among more samples than its way carries, and to a slow reader.
    Lanes {
        #[command(flatten)]
        router: RouterArgs,
        #[arg(long, default_value = "ws")]
        transport: String,
        /// GO events a second.
        #[arg(long, default_value_t = 20.0)]
        rate: f64,
        /// Of each case and round.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        #[arg(long, default_value_t = 1)]
        rounds: u32,
        /// Results go to `DIR/<date>-<machine>/`, too.
        #[arg(long, value_name = "DIR")]
        results: Option<PathBuf>,
    },
    /// The bare relay alone: what this machine can do at best.
    Floor {
        #[arg(long, default_value_t = 1_000.0)]
        rate: f64,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// All of it, into a folder of results.
    Suite {
        #[command(flatten)]
        router: RouterArgs,
        #[arg(long, value_enum, default_value = "canonical")]
        size: Size,
        /// Results go to `DIR/<date>-<machine>/`.
        #[arg(long, value_name = "DIR", default_value = "bench/results")]
        results: PathBuf,
    },
    /// What needs no other router: the codec, one boundary, size, joiners, memory, idleness.
    Rows(rows::Command),
    /// What a message costs in instructions, system calls and allocations; fails when it costs
    /// more than is committed.
    Counts(counts::Command),
    /// Every target beside what was measured, from a folder of results; renews the README's part.
    Table(table::Command),
    /// Routers side by side: ours, the published one, mosquitto, nats-server and zenoh.
    ///
    /// `bash bench/setup.sh` installs what is compared; what is not there is named and left out.
    Peers(peers::Command),
    /// A flame graph and a list of functions, from what `perf script -F comm,ip,sym` printed.
    Flame(flame::Command),
    /// What histograms cost: throughput with and without them, in turns.
    Overhead(overhead::Command),
    /// Art-Net and sACN at 44 frames a second, from few universes to many, until something is lost.
    Universes(universes::Command),
    /// Fill a router with connections and params, and keep it so until the input ends.
    Load {
        #[arg(long, default_value_t = 1_000)]
        connections: usize,
        #[arg(long, default_value_t = 1_000_000)]
        params: usize,
        /// Its rate limit must be off: `--rate-limit 0`.
        #[arg(long, default_value = "ws://localhost:7330")]
        router: String,
    },
    /// A capture or a recording into a running router, and what comes out of it.
    ///
    /// Of a pcap file the UDP packets and what MQTT clients said, to the bridges that `--to` names;
    /// best into a router that was just started, because a value that it already holds does not
    /// come out again, and counts as missing. Of a recording of `clasp-rt record` (a file, or the
    /// folder) every message.
    Replay {
        /// A pcap file, a .clasprec file, or a folder of those.
        file: PathBuf,
        /// `osc=ADDR`, `artnet=ADDR`, `sacn=ADDR`, `mqtt=ADDR`: where a protocol's packets go.
        #[arg(long, value_delimiter = ',')]
        to: Vec<replay::Target>,
        /// `1`: as captured, `N`: N times as fast, `max`: without pauses.
        #[arg(long, default_value = "1", value_parser = replay::speed)]
        speed: f64,
        /// Where a CLASP subscriber watches.
        #[arg(long, default_value = "ws://localhost:7330")]
        router: String,
    },
}

#[derive(Args)]
struct RouterArgs {
    /// A router that already runs: `ws://HOST:PORT` or `tcp://HOST:PORT`; `mqtt://` and `nats://`
    /// measure other routers.
    #[arg(long, value_name = "URL", required_unless_present = "spawn")]
    router: Option<String>,
    /// A router to start for this run; it must print `listening URL` lines.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "router")]
    spawn: Option<PathBuf>,
    /// Its arguments, after `--`; without any: one shard that spins on the router's core, free
    /// ports.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clasp-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> io::Result<()> {
    let places = Places::choose(cli.router_core, cli.client_core)?;
    match &cli.command {
        Command::Replay { file, to, speed, router } => {
            let files = recording::files(file)?;
            let mut files = files.iter().map(std::fs::read).collect::<io::Result<Vec<_>>>()?;
            if files.iter().all(|file| recording::is_one(file)) {
                let recording = recording::read(&files).map_err(io::Error::other)?;
                let mut subscriber = Peer::connect(router)?;
                subscriber.join("bench replay subscriber")?;
                subscriber.subscribe(1, "/**")?;
                let mut publisher = Peer::connect(router)?;
                publisher.join("bench replay")?;
                let played = recording::play(&recording, *speed, &mut publisher, &mut subscriber)?;
                print!("{}", played.text(&recording));
                return Ok(());
            }
            if to.is_empty() {
                return Err(io::Error::other("say with --to where the packets of a pcap file go"));
            }
            let bytes = files.swap_remove(0);
            let capture = pcap::read(&bytes).map_err(io::Error::other)?;
            let mut subscriber = Peer::connect(router)?;
            subscriber.join("bench replay")?;
            subscriber.subscribe(1, "/**")?;
            let replayed = replay::run(&capture, to, *speed, &mut subscriber)?;
            print!("{}", replayed.text());
            Ok(())
        }
        Command::Rows(command) => {
            show(cli, &command.run(places)?);
            Ok(())
        }
        Command::Counts(command) => command.run(places),
        Command::Table(command) => command.run(),
        Command::Flame(command) => command.run(),
        Command::Overhead(command) => {
            show(cli, &command.run(places)?);
            Ok(())
        }
        Command::Universes(command) => {
            show(cli, &command.run(places)?);
            Ok(())
        }
        Command::Load { connections, params, router } => {
            let load = Load::run(router, *connections, *params, |step| println!("{step}"))?;
            println!("{}", load.text());
            io::copy(&mut io::stdin(), &mut io::sink())?;
            Ok(())
        }
        Command::Floor { rate, seconds } => {
            let schedule = Schedule::jittered(*rate, length(*seconds)?, 1);
            let measured =
                machine::on_core(places.client, || suite::floor(places, Kind::Set, &schedule))?;
            let mut row =
                Row::new(format!("peer/floor/hop/{rate:.0}"), format!("floor tcp {rate:.0}/s"));
            row.round(&measured.latency, None);
            row.sent = measured.sent;
            row.expected = measured.sent;
            row.arrived = measured.arrived;
            row.reordered = measured.reordered;
            show(cli, &report(places, "Floor", "none", vec![row], Vec::new()));
            Ok(())
        }
        Command::Hop { router, transport, kind, rate, seconds, rounds } => {
            let (running, name) = open(router, places)?;
            let hop = Hop {
                scheme: scheme(router, transport),
                kind: *kind,
                rate_hz: *rate,
                length: length(*seconds)?,
                rounds: (*rounds).max(1),
                idle: idle(router),
            };
            let row = machine::on_core(places.client, || suite::hop(&running, places, hop))?;
            show(cli, &report(places, "One hop", &name, vec![row], Vec::new()));
            Ok(())
        }
        Command::Fanout { router, transport, subscribers, rate, seconds } => {
            let (running, name) = open(router, places)?;
            let crowd = Crowd {
                scheme: scheme(router, transport),
                subscribers: *subscribers,
                rate_hz: *rate,
                length: length(*seconds)?,
                rounds: 1,
            };
            let rows = machine::on_core(places.client, || suite::fan_out(&running, places, crowd))?;
            show(cli, &report(places, "Fan-out", &name, rows.into(), Vec::new()));
            Ok(())
        }
        Command::Throughput { router, transport, kind, seconds } => {
            let (running, name) = open(router, places)?;
            let (scheme, length) = (scheme(router, transport), length(*seconds)?);
            let rate = machine::on_core(places.client, || {
                suite::throughput(&running, places, scheme, *kind, length, 1)
            })?;
            show(cli, &report(places, "Throughput", &name, Vec::new(), vec![rate]));
            Ok(())
        }
        Command::Lanes { router, transport, rate, seconds, rounds, results } => {
            let (running, name) = open(router, places)?;
            let wish = lanes::Wish {
                scheme: scheme(router, transport),
                go_hz: *rate,
                length: length(*seconds)?,
                rounds: (*rounds).max(1),
            };
            let measure = || lanes::measure(&running, wish);
            let (rows, figures) = machine::on_core(places.client, measure)?;
            let report = report(places, "GO among streams", &name, rows, Vec::new());
            let report = Report { figures, ..report };
            if let Some(results) = results {
                report.write(&report::folder_of_today(results, &report.machine)?, "lanes")?;
            }
            show(cli, &report);
            Ok(())
        }
        Command::Peers(command) => {
            show(cli, &command.run(places)?);
            Ok(())
        }
        Command::Suite { router, size, results } => {
            let (running, name) = open(router, places)?;
            let schemes = match &router.router {
                Some(_) => vec![scheme(router, "ws")],
                None => vec!["ws", "tcp"],
            };
            let (mut rows, rates) = machine::on_core(places.client, || {
                suite::all(&running, places, &schemes, idle(router), *size)
            })?;
            drop(running);
            if let (Some(program), []) = (&router.spawn, router.arguments.as_slice()) {
                // The same hop where the core is shared with others, as on a desk's own computer.
                let running = Router::open_idling(program, places, Idle::NoHalt)?;
                let hop = || suite::easy_hop(&running, places, Idle::NoHalt.name(), *size);
                rows.push(machine::on_core(places.client, hop)?);
            }
            let report = report(places, "clasp-rt, measured from outside", &name, rows, rates);
            let folder = report::folder_of_today(results, &report.machine)?;
            report.write(&folder, "suite")?;
            show(cli, &report);
            eprintln!("written to {}", folder.display());
            Ok(())
        }
    }
}

/// The router of the command line, and its name in reports.
fn open(arguments: &RouterArgs, places: Places) -> io::Result<(Router, String)> {
    let (source, name) = match (&arguments.router, &arguments.spawn) {
        (Some(url), _) => (Source::Running(url.clone()), url.clone()),
        (None, Some(program)) => {
            let file = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
            let arguments = arguments.arguments.clone();
            let name = format!("{file} {}", arguments.join(" "));
            (Source::Spawned { program: program.clone(), arguments }, name)
        }
        (None, None) => return Err(io::Error::other("say --router URL or --spawn PROGRAM")),
    };
    let router = Router::open(&source, places)?;
    Ok((router, name.trim_end().to_owned()))
}

fn scheme<'a>(arguments: &'a RouterArgs, transport: &'a str) -> &'a str {
    let url = arguments.router.as_deref();
    url.and_then(|url| url.split_once("://")).map_or(transport, |(scheme, _)| scheme)
}

/// What the router does while nothing arrives, where we know: see [`Router::open`].
fn idle(arguments: &RouterArgs) -> &'static str {
    let ours = arguments.spawn.is_some() && arguments.arguments.is_empty();
    if ours { Idle::Spin.name() } else { "unknown" }
}

fn length(seconds: f64) -> io::Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(io::Error::other)
}

fn report(places: Places, title: &str, router: &str, rows: Vec<Row>, rates: Vec<Rate>) -> Report {
    let (title, router) = (title.to_owned(), router.to_owned());
    let (machine, figures) = (Machine::look(), Vec::new());
    Report { title, machine, places, router, rows, rates, figures }
}

fn show(cli: &Cli, report: &Report) {
    if cli.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.markdown());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let typed = ["clasp-bench", "hop", "--spawn", "clasp-rt", "--rate", "5", "--", "server"];
        assert!(Cli::try_parse_from(typed).is_ok());
        assert!(Cli::try_parse_from(["clasp-bench", "hop"]).is_err(), "no router named");
    }
}
