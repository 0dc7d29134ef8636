//! A thread that reads and writes a device for a bridge, and the two rings that join it to the
//! host.
//!
//! Serial lines and MIDI ports are driven by libraries that wait. Their threads say what they hear
//! in records of a bounded ring and ring the host's alarm; what the bridge says goes the other way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use clasp_rt_ring::Alarm;
use clasp_rt_ring::exchange::{self, RECORD_HEADER_BYTES, Receiver, Sender};

/// The host's end.
pub struct Device {
    inbound: Receiver,
    outbound: Sender,
    /// Makes the thread look at its ring: `Thread::unpark`, or a write to an event counter.
    wake: Box<dyn Fn() + Send>,
    touched: bool,
    left: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's end.
pub struct DeviceThread {
    outbound: Sender,
    inbound: Receiver,
    alarm: Alarm,
    left: Arc<AtomicBool>,
}

/// What a device's thread tells the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The device is there, under this name.
    Opened(&'a str),
    Bytes(&'a [u8]),
    /// The device is gone.
    Ended,
}

/// What the host tells a device's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Bytes for the device.
    Bytes(&'a [u8]),
    /// The bridge gave the stream up: close the device, say that it ended, and look for it again.
    End,
}

// A record's stamp says what it is, as in a port.
const OPENED: u64 = 0;
const BYTES: u64 = 1;
const ENDED: u64 = 2;

/// Both ends, over rings of `bytes`.
pub fn pair(
    bytes: usize,
    alarm: Alarm,
    wake: impl Fn() + Send + 'static,
) -> (Device, DeviceThread) {
    let (to_host, from_thread) = exchange::pair(bytes);
    let (to_thread, from_host) = exchange::pair(bytes);
    let left = Arc::new(AtomicBool::new(false));
    let device = Device {
        inbound: from_thread,
        outbound: to_thread,
        wake: Box::new(wake),
        touched: false,
        left: Arc::clone(&left),
        thread: None,
    };
    (device, DeviceThread { outbound: to_host, inbound: from_host, alarm, left })
}

impl DeviceThread {
    /// Tells the host, which is woken. `false`: the host is behind, and nothing was said.
    #[must_use]
    pub fn say(&mut self, heard: Heard<'_>) -> bool {
        let said = match heard {
            Heard::Opened(name) => self.outbound.push(OPENED, name.as_bytes()),
            Heard::Bytes(bytes) => self.outbound.push(BYTES, bytes),
            Heard::Ended => self.outbound.push(ENDED, &[]),
        };
        if said {
            self.alarm.ring();
        }
        said
    }

    /// The oldest thing that the host wants and [`DeviceThread::done`] has not dropped.
    pub fn wanted(&mut self) -> Option<Wanted<'_>> {
        match self.inbound.peek()? {
            (BYTES, bytes) => Some(Wanted::Bytes(bytes)),
            _ => Some(Wanted::End),
        }
    }

    pub fn done(&mut self) {
        self.inbound.pop();
    }

    /// Whether the host is leaving. What is still [`DeviceThread::wanted`] is done, then the thread
    /// ends, soon: the host waits for it.
    pub fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }
}

impl Device {
    /// Names the thread, so that the host waits for its end.
    pub fn run_by(mut self, thread: JoinHandle<()>) -> Self {
        self.thread = Some(thread);
        self
    }

    pub(super) fn room(&self) -> usize {
        self.outbound.room().saturating_sub(RECORD_HEADER_BYTES)
    }

    pub(super) fn say(&mut self, wanted: Wanted<'_>) -> bool {
        let said = match wanted {
            Wanted::Bytes(bytes) => self.outbound.push(BYTES, bytes),
            Wanted::End => self.outbound.push(ENDED, &[]),
        };
        self.touched |= said;
        said
    }

    /// Wakes the thread, if there is something new for it.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.touched) {
            (self.wake)();
        }
    }

    pub(super) fn hear(&mut self) -> Option<Heard<'_>> {
        match self.inbound.peek()? {
            (OPENED, name) => Some(Heard::Opened(str::from_utf8(name).unwrap_or_default())),
            (BYTES, bytes) => Some(Heard::Bytes(bytes)),
            _ => Some(Heard::Ended),
        }
    }

    pub(super) fn heard(&mut self) {
        self.inbound.pop();
    }

    pub(super) fn is_silent(&self) -> bool {
        self.inbound.is_empty()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
        (self.wake)();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use clasp_rt_ring::{Event, Ring, Sizes, Wait};

    use super::*;

    const SIZES: Sizes = Sizes {
        accepted_max: 0,
        fixed_max: 1,
        stream_buffers: 1,
        packet_buffers: 1,
        datagrams_max: 1,
    };

    /// The thread's side of a device that gives back what it is given.
    fn echo(mut end: DeviceThread) {
        assert!(end.say(Heard::Opened("echo")));
        loop {
            // Before looking: what was wanted before the host left is seen below.
            let is_left = end.is_left();
            while let Some(wanted) = end.wanted() {
                let said = match wanted {
                    Wanted::Bytes(bytes) => bytes.to_vec(),
                    Wanted::End => b"end".to_vec(),
                };
                end.done();
                assert!(end.say(Heard::Bytes(&said)));
            }
            if is_left {
                return;
            }
            std::thread::park();
        }
    }

    #[test]
    fn a_device_s_thread_hears_the_host_wakes_it_and_ends_with_it() {
        let mut ring = Ring::new(&SIZES).expect("a ring");
        let alarm = ring.alarm().expect("an alarm");
        let (tell, told) = std::sync::mpsc::channel::<DeviceThread>();
        let thread = std::thread::spawn(move || echo(told.recv().expect("the other end")));
        let waking = thread.thread().clone();
        let (device, end) = pair(1 << 10, alarm, move || waking.unpark());
        tell.send(end).expect("the thread waits for it");
        let mut device = device.run_by(thread);
        let mut heard = Vec::new();
        assert!(device.say(Wanted::Bytes(b"abc")) && device.say(Wanted::End));
        device.flush();
        while heard.len() < 3 {
            ring.enter(Wait::For(None)).expect("a turn");
            while let Some(event) = ring.next_event() {
                assert!(matches!(event, Event::Woken));
            }
            while let Some(said) = device.hear() {
                heard.push(format!("{said:?}"));
                device.heard();
            }
        }
        let bytes = |bytes: &[u8]| format!("{:?}", Heard::Bytes(bytes));
        assert_eq!(heard, ["Opened(\"echo\")".to_string(), bytes(b"abc"), bytes(b"end")]);
        assert!(!device.say(Wanted::Bytes(&[0; 1 << 10])), "more than the ring holds");
        drop(device);
    }
}
