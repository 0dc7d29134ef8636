//! `clasp-rt midi`: MIDI devices of this machine, as a client of a router elsewhere.

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::bridge::{self, JoinArgs};

#[derive(Args, Debug)]
pub struct MidiArgs {
    /// Part of a port's name, or its number; NAME= puts a segment before its addresses. May be
    /// given more than once. Default: the first port there is
    #[arg(long = "device", value_name = "[NAME=]PORT")]
    devices: Vec<String>,
    /// Make a port that other programs connect to; may be given more than once
    #[arg(long = "virtual", value_name = "[NAME=]PORT")]
    virtual_ports: Vec<String>,
    /// Serial line with MIDI as on a cable (31250 baud); may be given more than once
    #[arg(long = "serial", value_name = "[NAME=]DEVICE")]
    serial_lines: Vec<String>,
    /// Tell values as they are on a cable (0 to 127), not as 0.0 to 1.0
    #[arg(long)]
    raw: bool,
    /// Tell every clock, 24 a quarter note
    #[arg(long)]
    ticks: bool,
    /// Segments put before MIDI addresses: /midi/ch/1/cc/7
    #[arg(long, default_value = "/midi")]
    namespace: String,
    /// Print the ports of this machine, and end
    #[arg(long)]
    list_ports: bool,
    #[command(flatten)]
    join: JoinArgs,
}

pub fn run(args: &MidiArgs) -> Result<(), Failure> {
    if args.list_ports {
        return list_ports();
    }
    let ways =
        [("port", &args.devices), ("virtual", &args.virtual_ports), ("serial", &args.serial_lines)];
    let devices = ways.into_iter().flat_map(|(way, list)| {
        list.iter().map(move |text| {
            let (name, port) = text.split_once('=').unwrap_or(("", text));
            json!({ "name": name, way: port })
        })
    });
    let options = [
        ("device", Value::from_iter(devices)),
        ("values", json!(if args.raw { "raw" } else { "unit" })),
        ("ticks", json!(args.ticks)),
        ("namespace", json!(args.namespace)),
    ];
    bridge::run("midi", &args.join, options)
}

#[cfg(feature = "midi")]
fn list_ports() -> Result<(), Failure> {
    use std::io::Write;

    // A machine without a sequencer has no port either.
    let ports = crate::devices::midi_ports("clasp-rt").map_err(Failure::Nothing)?;
    let mut out = std::io::stdout().lock();
    for (number, port) in ports.iter().enumerate() {
        let ways = match (port.can_be_heard(), port.can_be_told()) {
            (true, true) => "in, out",
            (true, false) => "in",
            _ => "out",
        };
        // Who reads no further has seen enough.
        let _ = writeln!(out, "{number}  {ways:8} {}", port.name);
    }
    match ports.is_empty() {
        true => Err(Failure::Nothing("this machine has no MIDI port".to_owned())),
        false => Ok(()),
    }
}

#[cfg(not(feature = "midi"))]
fn list_ports() -> Result<(), Failure> {
    let why = "this program knows serial lines only: build it with its feature `midi`";
    Err(Failure::Failed(why.to_owned()))
}
