//! What can be typed after `clasp-rt`, and with which exit code each ends.

pub mod artnet;
pub mod bridge;
pub mod check;
pub mod client;
mod dmx;
pub mod doctor;
pub mod hist;
mod http;
mod midi;
mod mqtt;
mod mqtt_listener;
pub mod osc;
pub mod plan;
mod record;
mod sacn;
pub mod server;
mod socketio;
pub mod top;
pub mod value;
pub mod watch;
pub mod watched;
mod websocket;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;
use std::{env, fmt};

use clap::{CommandFactory, Parser, Subcommand};

use crate::log;

/// Routes control signals between lighting, sound, sensors and web pages, in microseconds
#[derive(Debug, Parser)]
#[command(
    name = "clasp-rt",
    version,
    override_usage = "clasp-rt [OPTIONS OF server]\n       clasp-rt <COMMAND>",
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = LONG_HELP,
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a router; `clasp-rt` with its flags, or with none, does the same
    Server(server::ServerArgs),
    /// Show what `server` would do on this machine: shards, cores, ports, limits, memory
    Plan(plan::PlanArgs),
    /// Find every mistake of a configuration file; touches nothing
    Check(check::CheckArgs),
    /// Say what this machine costs in latency, and how to change it; measures its cores
    Doctor(doctor::DoctorArgs),
    /// Translate between OSC devices and a router, both ways
    Osc(osc::OscArgs),
    /// Translate between Art-Net universes and a router, both ways
    Artnet(artnet::ArtnetArgs),
    /// Translate between sACN (E1.31) universes and a router, both ways
    Sacn(sacn::SacnArgs),
    /// Translate between MIDI devices and a router, both ways
    Midi(midi::MidiArgs),
    /// Translate between DMX interfaces on USB and a router, both ways
    Dmx(dmx::DmxArgs),
    /// Let web programs use a router over HTTP; poll servers, and tell them what changes
    Http(http::HttpArgs),
    /// Translate between the topics of an MQTT broker and a router, both ways
    Mqtt(mqtt::MqttArgs),
    /// Let MQTT clients connect to a router without any broker
    MqttListener(mqtt_listener::MqttListenerArgs),
    /// Serve programs that speak WebSocket and JSON, or join one that does
    Websocket(websocket::WebsocketArgs),
    /// Serve browsers and programs that speak Socket.IO, or join a server that does
    Socketio(socketio::SocketioArgs),
    /// Record what passes at a router, for `clasp-bench replay` to play again
    Record(record::RecordArgs),
    /// Send one event
    Pub(client::PubArgs),
    /// Set a param, and wait until the router has taken it
    Set(client::SetArgs),
    /// Print the value of a param
    Get(client::GetArgs),
    /// Print what happens at the addresses of a pattern, line by line
    Sub(client::SubArgs),
    /// Say who wins an address, who loses, and since when
    Why(why::WhyArgs),
    /// Show the newest value of each address of a pattern, as a live table
    Watch(watch::WatchArgs),
    /// Show what a running router does, and how long it takes, as a live table
    Top(top::TopArgs),
    /// Write how long messages take in a running router, for HdrHistogram's tools
    ///
    /// DIR/clasp-rt.hlog has a line for each interval and histogram, written as it goes; at the end
    /// DIR/SHARD-CLASS-PATH-STAGE.hgrm has the percentiles of all of it, in microseconds, and
    /// DIR/line-BRIDGE-DEVICE.hgrm those between the frames of a DMX line that are made here.
    Hist(hist::HistArgs),
    /// Print a script that lets a shell complete these commands
    ///
    /// For bash: clasp-rt completions bash > /etc/bash_completion.d/clasp-rt
    Completions { shell: clap_complete::Shell },
}

const EXAMPLES: &str = "\
Examples:
  clasp-rt                                  start a router on port 7330
  clasp-rt --cores 2-7                      a shard pinned to each of six cores
  clasp-rt plan --cores 2-7                 what that would take on this machine
  clasp-rt doctor --cores 2-7               is this machine fit for it?
  clasp-rt osc --port 9000                  OSC devices send to port 9000
  clasp-rt set /lights/strip1/brightness 0.8
  clasp-rt sub '/lights/**'

`clasp-rt COMMAND --help` explains a command.";

const LONG_HELP: &str = "\
Examples:
  clasp-rt                                  start a router on port 7330
  clasp-rt --cores 2-7                      a shard pinned to each of six cores
  clasp-rt --config show.toml               ports, bridges, routes and rules from a file
  clasp-rt check show.toml                  is that file right?
  clasp-rt plan --config show.toml          what it would take on this machine
  clasp-rt doctor --cores 2-7               is this machine fit for it?
  clasp-rt osc --port 9000 --target 192.168.1.20:8000
                                            a tablet sends to 9000 and listens on 8000
  clasp-rt artnet --universes 0-15          Art-Net universes as params, and back
  clasp-rt midi --device nanoKONTROL        a MIDI device as params, and back
  clasp-rt dmx --port /dev/ttyUSB0          a DMX interface on USB
  clasp-rt set /lights/strip1/brightness 0.8
  clasp-rt sub '/lights/**'                 every change, line by line
  clasp-rt why /rig/1/dimmer                who wins it, and who loses
  clasp-rt watch '/**'                      everything, as a live table
  clasp-rt --metrics 127.0.0.1:7331         a router that tells what it counts, for
  clasp-rt top                              rates and latencies, as a live table
  clasp-rt hist --out night --seconds 60    the latencies of a minute, as files

Addresses are paths such as /lights/strip1/brightness. In a pattern `*` stands for one segment and
`**` for any number of them; quote it, so that the shell leaves it alone.

Exit codes:
  0  done
  1  something failed while running, or the router refused
  2  the command line or the configuration is wrong
  3  no router could be reached
  4  nothing was there: no such param, or nothing arrived before --timeout";

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// Failed while running, or refused by the router.
    Failed(String),
    /// The command line or the configuration is wrong.
    Wrong(String),
    /// No router answers.
    Unreachable(String),
    /// The answer is: nothing.
    Nothing(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Wrong(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Nothing(_) => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(what)
        | Self::Wrong(what)
        | Self::Unreachable(what)
        | Self::Nothing(what)) = self;
        f.write_str(what)
    }
}

impl Cli {
    /// What was typed; ends the program where that is wrong, or asks for help.
    pub fn typed() -> Self {
        Self::parse_from(with_command(env::args_os().collect()))
    }

    pub fn run(self) -> ExitCode {
        let code = match self.obey() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                log::say(&format!("clasp-rt: {failure}"));
                failure.exit_code()
            }
        };
        log::end();
        code
    }

    fn obey(self) -> Result<(), Failure> {
        let command =
            self.command.unwrap_or_else(|| Command::Server(server::ServerArgs::default()));
        match command {
            Command::Server(args) => server::run(&args),
            Command::Plan(args) => plan::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Osc(args) => osc::run(&args),
            Command::Artnet(args) => artnet::run(&args),
            Command::Sacn(args) => sacn::run(&args),
            Command::Midi(args) => midi::run(&args),
            Command::Dmx(args) => dmx::run(&args),
            Command::Http(args) => http::run(&args),
            Command::Mqtt(args) => mqtt::run(&args),
            Command::MqttListener(args) => mqtt_listener::run(&args),
            Command::Websocket(args) => websocket::run(&args),
            Command::Socketio(args) => socketio::run(&args),
            Command::Record(args) => record::run(&args),
            Command::Pub(args) => client::publish(&args),
            Command::Set(args) => client::set(&args),
            Command::Get(args) => client::get(&args),
            Command::Sub(args) => client::subscribe(&args),
            Command::Why(args) => why::run(&args),
            Command::Watch(args) => watch::run(&args),
            Command::Top(args) => top::run(&args),
            Command::Hist(args) => hist::run(&args),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "clasp-rt", &mut script);
                client::print(&script)
            }
        }
    }
}

/// The words that were typed, with the command that flags without one are meant for: a router
/// starts by `clasp-rt --cores 2-7` as by `clasp-rt server --cores 2-7`.
fn with_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let about_us = ["-h", "--help", "-V", "--version"];
    let is_flag = |word: &OsString| {
        word.as_encoded_bytes().starts_with(b"-") && about_us.iter().all(|about| word != about)
    };
    if words.get(1).is_some_and(is_flag) {
        words.insert(1, "server".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_without_a_command_are_those_of_the_server() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, meant) in [
            ("clasp-rt --cores 2-7", "clasp-rt server --cores 2-7"),
            ("clasp-rt --config show.toml", "clasp-rt server --config show.toml"),
            ("clasp-rt", "clasp-rt"),
            ("clasp-rt --help", "clasp-rt --help"),
            ("clasp-rt -V", "clasp-rt -V"),
            ("clasp-rt get --port 7331", "clasp-rt get --port 7331"),
        ] {
            assert_eq!(with_command(words(line)), words(meant));
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_told_under_the_flag_that_was_typed() {
        let lines = [
            "clasp-rt artnet --universes x",
            "clasp-rt dmx --refresh 45",
            "clasp-rt dmx --channels 600",
            "clasp-rt http --cors show.example",
            "clasp-rt http --every 0 --poll /a=http://h/",
            "clasp-rt http --poll /a*=http://h/",
            "clasp-rt http --webhook a=http://h/",
            "clasp-rt http --cert /nowhere --key /nowhere",
            "clasp-rt mqtt --broker http://h",
            "clasp-rt mqtt --qos 3",
            "clasp-rt mqtt-listener --clients-max 0",
            "clasp-rt mqtt-listener --queue-max 0",
            "clasp-rt osc --namespace x",
            "clasp-rt osc --target no:such:host",
            "clasp-rt sacn --universes x",
            "clasp-rt sacn --priority 201",
            "clasp-rt socketio --cors show.example",
            "clasp-rt socketio --socketio-namespace ctl",
            "clasp-rt socketio --url ws://h",
            "clasp-rt websocket --origin show.example",
            "clasp-rt websocket --url http://h",
        ];
        for line in lines {
            let typed = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|why| panic!("{why}"));
            let flag = line.split(' ').nth(2).expect("each has one");
            match typed.obey() {
                Err(Failure::Wrong(said)) => assert!(said.starts_with(flag), "{line}: {said}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_flag_that_a_mistake_may_name_is_there() {
        let mut program = Cli::command();
        program.build();
        for (kind, option, flag) in bridge::FLAGS {
            let command = program.find_subcommand(kind).expect(kind);
            let is_there = command.get_arguments().any(|one| one.get_long() == Some(*flag));
            assert!(is_there, "{option} of {kind} is not --{flag}");
        }
    }

    #[test]
    fn lines_that_people_type_are_understood_and_wrong_ones_are_not() {
        let cases = [
            ("clasp-rt", true),
            ("clasp-rt server --port 7330", true),
            ("clasp-rt server --cores 2-7 --shards 6 --idle nohalt", true),
            ("clasp-rt server --cores 2,4-5 --lock-memory", true),
            ("clasp-rt server --rate-limit 0 --session-timeout 0", true),
            ("clasp-rt server --auth-mode authenticated --token-file tokens", true),
            ("clasp-rt plan --cores 0 --json", true),
            ("clasp-rt check show.toml", true),
            ("clasp-rt doctor --cores 2-7 --seconds 0.5 --json", true),
            ("clasp-rt doctor --cores 7-2", false),
            ("clasp-rt osc --port 9000", true),
            ("clasp-rt osc --port 9000 --target 10.0.0.2:8000 --target 10.0.0.3:8000", true),
            ("clasp-rt artnet --universes 0-15 --router ws://10.0.0.1:7330", true),
            ("clasp-rt midi --list-ports", true),
            ("clasp-rt midi --device nanoKONTROL --device keys=2 --virtual stage --raw", true),
            ("clasp-rt dmx --list-ports", true),
            ("clasp-rt dmx --port /dev/ttyUSB0 --universe 3 --direction in", true),
            ("clasp-rt dmx --kind open --refresh 30 --channels 1-24", true),
            ("clasp-rt dmx --kind closed", false),
            ("clasp-rt sacn --bind 10.0.0.1 --universes 1-64 --priority 120", true),
            ("clasp-rt sacn --priority high", false),
            ("clasp-rt http --port 8080 --cors https://show.example", true),
            ("clasp-rt http --cert c.pem --key k.pem --client-ca ca.pem", true),
            ("clasp-rt http --cert c.pem", false),
            ("clasp-rt http --poll /t=https://h/now#/temp --every 2.5", true),
            ("clasp-rt http --webhook /cue/*=https://h/{1} --ca ca.pem", true),
            ("clasp-rt http --every 2.5", false),
            ("clasp-rt mqtt --broker mqtts://b --ca ca.pem --subscribe a/# --subscribe b/+", true),
            ("clasp-rt mqtt --mqtt-version 6", false),
            ("clasp-rt mqtt-listener --port 1884 --cert c.pem --key k.pem", true),
            ("clasp-rt websocket --port 9000 --origin https://show.example", true),
            ("clasp-rt websocket --url ws://10.0.0.9:8080 --subscribe /a/**", true),
            ("clasp-rt socketio --port 3000 --socketio-namespace /ctl", true),
            ("clasp-rt socketio --url http://h --auth {} --transport websocket --acks", true),
            ("clasp-rt socketio --url http://h --auth []", false),
            ("clasp-rt socketio --auth {}", false),
            ("clasp-rt record show --pattern /lights/** --file-bytes 1GiB", true),
            ("clasp-rt record", false),
            ("clasp-rt pub /cue/go", true),
            ("clasp-rt set /a -1", true),
            ("clasp-rt get /a --json --timeout 2", true),
            ("clasp-rt sub /** --count 3", true),
            ("clasp-rt watch /**", true),
            ("clasp-rt why /rig/1 --json", true),
            ("clasp-rt why", false),
            ("clasp-rt top --once --router-metrics 10.0.0.2:7331", true),
            ("clasp-rt hist --out night --seconds 60 --interval 0.5", true),
            ("clasp-rt hist --out night --interval 0", false),
            ("clasp-rt hist --out night --seconds 1e19", false),
            ("clasp-rt sub /x --timeout 1e19", false),
            ("clasp-rt hist", false),
            ("clasp-rt server --histograms off", true),
            ("clasp-rt server --histograms never", false),
            ("clasp-rt completions zsh", true),
            ("clasp-rt completions cmd", false),
            ("clasp-rt server --cores 7-2", false),
            ("clasp-rt server --port 70000", false),
            ("clasp-rt server --idle sometimes", false),
            ("clasp-rt set /a", false),
            ("clasp-rt check", false),
            ("clasp-rt serve", false),
        ];
        for (line, good) in cases {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), good, "{line}: {:?}", parsed.err().map(|e| e.to_string()));
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_one_that_would_do() {
        let (port, bind) = ("such as 127.0.0.1:7331", "such as 127.0.0.1, or 0.0.0.0 for all");
        let cases = [
            ("clasp-rt top --router-metrics 7331", port),
            ("clasp-rt top --router-metrics localhost", port),
            ("clasp-rt top --router-metrics localhost:70000", port),
            ("clasp-rt top --router-metrics :7331", port),
            ("clasp-rt hist --out night --router-metrics ::1", port),
            ("clasp-rt hist --out night --router-metrics http://127.0.0.1:7331", port),
            ("clasp-rt server --metrics 127.0.0.1", port),
            ("clasp-rt server --metrics localhost:7331", port),
            ("clasp-rt server --bind localhost", bind),
            ("clasp-rt osc --bind eth0", bind),
            ("clasp-rt top --router-metrics desk:7331", ""),
            ("clasp-rt top --router-metrics [::1]:7331", ""),
            ("clasp-rt server --metrics [::1]:7331 --bind ::1", ""),
        ];
        for (line, told) in cases {
            let said = Cli::try_parse_from(line.split(' ')).err().map(|e| e.to_string());
            let good = match &said {
                None => told.is_empty(),
                Some(said) => !told.is_empty() && said.contains(told),
            };
            assert!(good, "{line}: {said:?}");
        }
    }
}
