//! `clasp-bench`: open-loop load against a real router, next to the floor of the same machine.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod ack;
mod commands;
mod connection;
mod counts;
mod digest;
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
mod svg;
mod table;
mod throughput;
mod universes;

use machine::Places;

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
    Hop(commands::Hop),
    /// One publisher to many subscribers.
    Fanout(commands::Fanout),
    /// As many messages a second as pass in order and without loss.
    Throughput(commands::Throughput),
    /// A GO event alone, among more samples than its way carries, and to a slow reader.
    Lanes(lanes::Command),
    /// The bare relay alone: what this machine can do at best.
    Floor(commands::Floor),
    /// All of it, into a folder of results.
    Suite(commands::Suite),
    /// What needs no other router: the codec, shards, size, joiners, memory, idleness.
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
    Load(load::Command),
    /// A capture or a recording into a running router, and what comes out of it.
    ///
    /// Of a pcap file the UDP packets and what MQTT clients said, to the bridges that `--to` names;
    /// best into a router that was just started, because a value that it already holds does not
    /// come out again, and counts as missing. Of a recording of `clasp-rt record` every message.
    Replay(replay::Command),
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
    let report = match &cli.command {
        Command::Hop(command) => command.run(places)?,
        Command::Fanout(command) => command.run(places)?,
        Command::Throughput(command) => command.run(places)?,
        Command::Lanes(command) => command.run(places)?,
        Command::Floor(command) => command.run(places)?,
        Command::Suite(command) => command.run(places)?,
        Command::Rows(command) => command.run(places)?,
        Command::Peers(command) => command.run(places)?,
        Command::Overhead(command) => command.run(places)?,
        Command::Universes(command) => command.run(places)?,
        Command::Counts(command) => return command.run(places),
        Command::Table(command) => return command.run(),
        Command::Flame(command) => return command.run(),
        Command::Load(command) => return command.run(),
        Command::Replay(command) => return command.run(),
    };
    if cli.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.markdown());
    }
    Ok(())
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
