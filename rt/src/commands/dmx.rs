//! `clasp-rt dmx`: a DMX interface of this machine, as a client of a router elsewhere.

use std::io::Write;
use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::json;
use serialport::SerialPortType;

use super::Failure;
use super::bridge::{self, JoinArgs};

#[derive(Args, Debug)]
pub struct DmxArgs {
    /// Serial line of the interface, such as /dev/ttyUSB0. Default: the first FTDI adapter
    #[arg(long, value_name = "DEVICE")]
    port: Option<String>,
    /// USB serial number of its adapter, instead
    #[arg(long, value_name = "NUMBER", conflicts_with = "port")]
    usb_serial: Option<String>,
    /// What it is: an ENTTEC DMX USB Pro or alike, or an adapter without a processor
    #[arg(long, value_enum, default_value_t = Kind::Pro)]
    kind: Kind,
    /// Whether it sends or receives
    #[arg(long, value_enum, default_value_t = Direction::Out)]
    direction: Direction,
    /// Number of its universe in addresses: /dmx/0/1
    #[arg(long, default_value_t = 0)]
    universe: u16,
    /// Slots of each frame: their number, or 1-NUMBER
    #[arg(long, value_name = "SLOTS", default_value = "1-512", value_parser = slots)]
    channels: u16,
    /// Frames a second at most; of an open interface always
    #[arg(long, value_name = "HZ", default_value_t = 40)]
    refresh: u8,
    /// Tell levels as 0.0 to 1.0 instead of 0 to 255
    #[arg(long)]
    normalize: bool,
    /// Segments put before universe and slot: /dmx/0/1
    #[arg(long, default_value = "/dmx")]
    namespace: String,
    /// Print the serial lines of this machine that are adapters on USB, and end
    #[arg(long)]
    list_ports: bool,
    #[command(flatten)]
    join: JoinArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Pro,
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Direction {
    In,
    Out,
}

fn slots(text: &str) -> Result<u16, String> {
    let last = text.strip_prefix("1-").unwrap_or(text);
    last.parse().map_err(|_| "slots look like 512 or 1-512".to_owned())
}

pub fn run(args: &DmxArgs) -> Result<(), Failure> {
    if args.list_ports {
        return list_ports();
    }
    let is_open = args.kind == Kind::Open;
    let device = json!([{
        "universe": args.universe,
        "port": args.port,
        "usb_serial": args.usb_serial,
        "kind": if is_open { "open" } else { "pro" },
        "direction": if args.direction == Direction::In { "in" } else { "out" },
        "slots": args.channels,
        "rate_hz": is_open.then_some(args.refresh),
    }]);
    let options = [
        ("device", device),
        ("rate_hz_max", json!(args.refresh)),
        ("normalize", json!(args.normalize)),
        ("namespace", json!(args.namespace)),
    ];
    bridge::run("dmx", &args.join, options)
}

fn list_ports() -> Result<(), Failure> {
    // Without that folder the list cannot be made.
    let ports = match Path::new("/sys/class/tty").exists() {
        true => serialport::available_ports(),
        false => Ok(Vec::new()),
    };
    let ports = ports.map_err(|why| Failure::Failed(format!("serial lines: {why}")))?;
    let mut out = std::io::stdout().lock();
    let mut any = false;
    for port in &ports {
        let SerialPortType::UsbPort(usb) = &port.port_type else { continue };
        any = true;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        // Who reads no further has seen enough.
        let _ = writeln!(
            out,
            "{}  {:04x}:{:04x}  serial {}  {} {}",
            port.port_name,
            usb.vid,
            usb.pid,
            text(&usb.serial_number),
            text(&usb.manufacturer),
            text(&usb.product)
        );
    }
    match any {
        true => Ok(()),
        false => Err(Failure::Nothing("no USB adapter is plugged in".to_owned())),
    }
}
