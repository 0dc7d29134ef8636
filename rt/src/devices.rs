//! The threads that drive devices of this machine for bridges: serial lines and MIDI ports.
//!
//! Each looks for its device once a second until it is there, says so once, and begins again when
//! the device goes.

pub mod intervals;
#[cfg(feature = "midi")]
mod midi;
mod open_dmx;
mod serial;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use clasp_rt_bridges::devices::{MidiPort, SerialLine, Speech};
use clasp_rt_perf::buckets::Writer;
use clasp_rt_ring::Alarm;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tracing::{info, warn};

use crate::bridge_thread::device::{Device, DeviceThread, Heard, Wanted, pair};

#[cfg(feature = "midi")]
pub use midi::ports as midi_ports;

/// How often a device that is not there is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// How soon a host that is behind is told again.
const BEHIND: Duration = Duration::from_millis(1);

/// What a bridge and a device may have on the way to each other, each way.
const RING_BYTES: usize = 256 << 10;

/// Bytes that one device may take beyond its thread's stack.
pub const BYTES_MAX: u64 = 2 * RING_BYTES as u64;

/// Starts the thread of a MIDI port.
#[cfg(feature = "midi")]
pub fn midi(who: &str, port: MidiPort, alarm: Alarm) -> io::Result<Device> {
    start(who, alarm, move |line| midi::run(line, &port))
}

/// There are no MIDI ports in this program.
#[cfg(not(feature = "midi"))]
pub fn midi(who: &str, _: MidiPort, _: Alarm) -> io::Result<Device> {
    let why = format!("{who} needs MIDI ports: build clasp-rt with its feature `midi`");
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Starts the thread of a serial line. One that makes frames counts them in the next of `pages`.
pub fn serial(
    who: &str,
    SerialLine { device, speech }: SerialLine,
    alarm: Alarm,
    pages: &mut impl Iterator<Item = Writer>,
) -> io::Result<Device> {
    match speech {
        Speech::Bytes { baud, stop_bits } => {
            start(who, alarm, move |end| serial::run(end, &device, baud, stop_bits))
        }
        Speech::Dmx { rate_hz, break_us, mark_us } => {
            // Where nobody looks it counts for itself.
            let page = pages.next().unwrap_or_else(|| intervals::page().0);
            let timing = open_dmx::Timing::new(rate_hz, break_us, mark_us);
            start(who, alarm, move |end| open_dmx::run(end, &device, &timing, page))
        }
    }
}

fn start(who: &str, alarm: Alarm, run: impl FnOnce(End) + Send + 'static) -> io::Result<Device> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let ring = Arc::clone(&bell);
    // A bell that cannot be rung any further has not been heard yet.
    let wake = move || {
        let _ = rustix::io::write(&*ring, &1_u64.to_ne_bytes());
    };
    let (device, thread) = pair(RING_BYTES, alarm, wake);
    let end = End { thread, bell, who: who.to_owned() };
    let thread = std::thread::Builder::new().name(format!("{who} device"));
    Ok(device.run_by(thread.spawn(move || run(end))?))
}

/// A device thread's end of its stream.
struct End {
    thread: DeviceThread,
    /// Rings when the host wants something.
    bell: Arc<OwnedFd>,
    who: String,
}

/// Why a device is not driven any further.
enum Over {
    /// The host leaves.
    Left,
    /// The bridge gave it up, or it went.
    Gone(String),
}

impl End {
    /// Opens the device again and again, and drives it as long as it is there. Where it cannot be
    /// opened that is said as "{what} {why}".
    fn keep<D>(
        &mut self,
        what: &str,
        mut open: impl FnMut() -> Result<(String, D), String>,
        mut drive: impl FnMut(&mut Self, &str, D) -> Over,
    ) {
        let mut said: Option<String> = None;
        while !self.thread.is_left() {
            match open() {
                Ok((name, device)) => {
                    info!("{}: {name} is there", self.who);
                    self.insist(Heard::Opened(&name));
                    let over = drive(self, &name, device);
                    self.insist(Heard::Ended);
                    let Over::Gone(why) = over else { return };
                    info!("{}: {name} is gone: {why}", self.who);
                    said = None;
                }
                Err(why) => {
                    if said.as_ref() != Some(&why) {
                        warn!("{}: {what} {why}", self.who);
                    }
                    said = Some(why);
                }
            }
            // What was meant for the device that went means nothing to the next.
            while self.thread.wanted().is_some() {
                self.thread.done();
            }
            if !self.thread.is_left() {
                self.listen(None, LOOK);
            }
        }
    }

    /// Says what must be said, however far behind the host is.
    fn insist(&mut self, heard: Heard<'_>) {
        while !self.thread.say(heard) && !self.thread.is_left() {
            std::thread::sleep(BEHIND);
        }
    }

    /// Sleeps until the bell rings, `line` can be read (or written, where that is wanted), or
    /// `limit` is over. What the line is ready for, with `ERR` and `HUP`.
    fn listen(&self, line: Option<(&OwnedFd, PollFlags)>, limit: Duration) -> PollFlags {
        let mut polled = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        polled.extend(line.map(|(line, wanted)| PollFd::new(line, wanted)));
        // A signal ends it early, like the bell.
        let limit = Timespec::try_from(limit).ok();
        let _ = poll(&mut polled, limit.as_ref());
        let (rang, ready) = match polled.as_slice() {
            [bell, line] => (bell.revents(), line.revents()),
            [bell] => (bell.revents(), PollFlags::empty()),
            _ => (PollFlags::empty(), PollFlags::empty()),
        };
        if rang.contains(PollFlags::IN) {
            // Its count means nothing.
            let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
        }
        ready
    }

    /// The oldest thing that the host wants, without the bridge's wish to end, which is an error
    /// that says so.
    fn wanted(&mut self) -> Result<Option<&[u8]>, Over> {
        match self.thread.wanted() {
            None => Ok(None),
            Some(Wanted::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Wanted::End) => Err(Over::Gone("the bridge gave it up".to_owned())),
        }
    }
}
