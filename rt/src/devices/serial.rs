//! A serial line: bytes both ways, no more of them on their way out than it sends in a moment.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use clasp_rt_bridges::devices::{SerialDevice, StopBits};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serialport::{DataBits, FlowControl, Parity, SerialPort, SerialPortType, TTYPort};

use super::{BEHIND, End, LOOK, Over};
use crate::bridge_thread::device::Heard;

/// Bytes that may wait in the kernel before more are said: what waits there cannot be replaced by
/// something newer.
const QUEUE_BYTES_MAX: u32 = 32;

/// The maker of the adapters in most DMX interfaces.
const FTDI: u16 = 0x0403;

pub(super) fn run(mut end: End, device: &SerialDevice, baud: u32, stop_bits: StopBits) {
    let open = || open(device, baud, stop_bits);
    end.keep(&text(device), open, |end, _, line| match carry(end, &line) {
        Ok(over) => over,
        Err(why) => Over::Gone(why.to_string()),
    });
}

/// An open line: its settings, and the same line again, to wait for and to read and write.
pub(super) struct Line {
    pub(super) settings: TTYPort,
    file: OwnedFd,
}

/// Opens the device, or says why that does not work.
pub(super) fn open(
    device: &SerialDevice,
    baud: u32,
    stop_bits: StopBits,
) -> Result<(String, Line), String> {
    let path = find(device)?;
    hurry(&path);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::empty()).map_err(cannot_open)?;
    if !file.is_terminal() {
        return Err(format!("is there, but it is no serial port; {}", ports_there()));
    }
    let settings = serialport::new(&path, baud)
        .data_bits(DataBits::Eight)
        .parity(Parity::None)
        .stop_bits(match stop_bits {
            StopBits::One => serialport::StopBits::One,
            StopBits::Two => serialport::StopBits::Two,
        })
        .flow_control(FlowControl::None)
        .timeout(LOOK)
        .open_native()
        .map_err(|why| format!("cannot be set up: {why}"))?;
    Ok((path, Line { settings, file }))
}

/// What follows the name of a device that cannot be opened.
fn cannot_open(why: Errno) -> String {
    match why {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            format!("is not there; {}", ports_there())
        }
        Errno::ACCESS | Errno::PERM => "is there, but this user may not open it: \
             `sudo usermod -aG dialout $USER` allows it from the next login on"
            .to_owned(),
        Errno::BUSY => "is there, but another program has it".to_owned(),
        other => format!("cannot be opened: {other}"),
    }
}

/// Names that would be right.
fn ports_there() -> String {
    /// More than a person looks through.
    const NAMED_MAX: usize = 8;
    // Without that folder the list cannot be made.
    let found = match Path::new("/sys/class/tty").exists() {
        true => serialport::available_ports().unwrap_or_default(),
        false => Vec::new(),
    };
    let names: Vec<_> = found.into_iter().map(|port| port.port_name).take(NAMED_MAX).collect();
    match names.as_slice() {
        [] => "one is named like /dev/ttyUSB0 or /dev/ttyACM0, and none is plugged in".to_owned(),
        names => format!("those that are: {}", names.join(", ")),
    }
}

/// How a person would name it.
pub(super) fn text(device: &SerialDevice) -> String {
    match device {
        SerialDevice::Path(path) => path.clone(),
        SerialDevice::UsbSerial(serial) => format!("the adapter with USB serial number {serial}"),
        SerialDevice::FirstFtdi => "an FTDI adapter".to_owned(),
    }
}

fn find(device: &SerialDevice) -> Result<String, String> {
    let wanted = |usb: &serialport::UsbPortInfo| match device {
        SerialDevice::UsbSerial(serial) => usb.serial_number.as_ref() == Some(serial),
        _ => usb.vid == FTDI,
    };
    if let SerialDevice::Path(path) = device {
        return Ok(path.clone());
    }
    // Without that folder the list cannot be made.
    if !Path::new("/sys/class/tty").exists() {
        return Err("is not found: /sys is not there to be searched; name its path".to_owned());
    }
    let ports = serialport::available_ports().map_err(|why| format!("is not found: {why}"))?;
    let found = ports.into_iter().find(|port| match &port.port_type {
        SerialPortType::UsbPort(usb) => wanted(usb),
        _ => false,
    });
    found.map(|port| port.port_name).ok_or_else(|| "is not plugged in".to_owned())
}

/// Lets an FTDI adapter hand over what it received after 1 ms instead of 16, where that is allowed.
fn hurry(path: &str) {
    let name = fs::canonicalize(path).unwrap_or_default();
    if let Some(name) = name.file_name().and_then(|name| name.to_str()) {
        let timer = format!("/sys/bus/usb-serial/devices/{name}/latency_timer");
        let _ = fs::write(timer, "1");
    }
}

/// Carries bytes until the device or the host leaves.
fn carry(end: &mut End, line: &Line) -> io::Result<Over> {
    let mut buffer = vec![0; 4096];
    // Bytes that were read and not yet said, of the record in hand those that were written.
    let (mut unsaid, mut written) = (0, 0);
    loop {
        let is_left = end.thread.is_left();
        let mut wants = if unsaid == 0 { PollFlags::IN } else { PollFlags::empty() };
        let mut limit = if unsaid == 0 { LOOK } else { BEHIND };
        if written == 0 && line.settings.bytes_to_write()? > QUEUE_BYTES_MAX {
            limit = BEHIND;
        } else {
            match end.wanted() {
                Err(over) => {
                    end.thread.done();
                    return Ok(over);
                }
                Ok(None) if is_left => return Ok(Over::Left),
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    match rustix::io::write(&line.file, bytes.get(written..).unwrap_or_default()) {
                        Ok(count) if written + count >= bytes.len() => {
                            written = 0;
                            end.thread.done();
                            limit = Duration::ZERO;
                        }
                        Ok(count) => written += count,
                        Err(Errno::AGAIN | Errno::INTR) => {}
                        Err(why) => return Err(why.into()),
                    }
                    if written > 0 || limit != Duration::ZERO {
                        wants |= PollFlags::OUT;
                    }
                }
            }
        }
        // A device that takes nothing does not hold up the end.
        if is_left && limit != Duration::ZERO {
            return Ok(Over::Left);
        }
        let ready = end.listen(Some((&line.file, wants)), limit);
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && unsaid == 0 {
            unsaid = match rustix::io::read(&line.file, &mut buffer) {
                Ok(0) => return Ok(Over::Gone("unplugged".to_owned())),
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(why) => return Err(why.into()),
            };
        }
        if unsaid > 0 && end.thread.say(Heard::Bytes(buffer.get(..unsaid).unwrap_or_default())) {
            unsaid = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_opened_is_told_as_what_it_is() {
        let open = |path: &str| {
            let opened = open(&SerialDevice::Path(path.to_owned()), 250_000, StopBits::Two);
            opened.err().expect("no serial port")
        };
        let is_there = open("/dev/null");
        assert!(is_there.starts_with("is there, but it is no serial port; "), "{is_there}");
        let is_not = open("/dev/no-such-device");
        assert!(is_not.starts_with("is not there; "), "{is_not}");
        for said in [is_there, is_not] {
            assert!(said.contains("/dev/tty"), "which names would be right: {said}");
        }
        let cases = [
            (Errno::ACCESS, "sudo usermod -aG dialout"),
            (Errno::BUSY, "another program has it"),
            (Errno::IO, "cannot be opened: "),
        ];
        for (why, said) in cases {
            assert!(cannot_open(why).contains(said), "{why}: {}", cannot_open(why));
        }
    }
}
