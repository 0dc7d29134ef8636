//! An interface without a processor (Open DMX, bare FTDI): this thread makes the frames.
//!
//! Each begins with a break and a mark, then come the start code and the slots at 250,000 baud; the
//! newest frame is repeated at the configured rate whether or not it changes, because fixtures
//! count a silent line as lost. How even the rate is depends on this machine: it is measured,
//! logged, told to the bridge, and counted for those who watch the router.

use std::io::Write;
use std::time::Duration;

use clasp_rt_bridges::devices::{SerialDevice, StopBits};
use clasp_rt_bridges::dmx::message::{Decoder, Found, Message, label};
use clasp_rt_perf::buckets::Writer;
use clasp_rt_perf::histogram::Latency;
use serialport::SerialPort;
use tracing::info;

use super::serial::{Line, open, text};
use super::{End, LOOK, Over};
use crate::bridge_thread::device::Heard;
use crate::clock::{monotonic_ns, sleep_until};

const BAUD: u32 = 250_000;

/// How often the intervals are told to the bridge, and to the log.
const TELL_NS: u64 = 10_000_000_000;
const LOG_NS: u64 = 60_000_000_000;

/// When what happens on the line.
pub(super) struct Timing {
    interval_ns: u64,
    break_ns: u64,
    mark_ns: u64,
}

impl Timing {
    pub(super) fn new(rate_hz: u8, break_us: u32, mark_us: u32) -> Self {
        Self {
            interval_ns: 1_000_000_000 / u64::from(rate_hz.max(1)),
            break_ns: u64::from(break_us) * 1_000,
            mark_ns: u64::from(mark_us) * 1_000,
        }
    }
}

pub(super) fn run(mut end: End, device: &SerialDevice, timing: &Timing, mut page: Writer) {
    let open = || open(device, BAUD, StopBits::Two);
    end.keep(&text(device), open, |end, name, line| {
        let mut intervals = Intervals::new(name, &mut page);
        let over = play(end, line, timing, &mut intervals);
        intervals.log(&end.who);
        over
    });
}

fn play(end: &mut End, mut line: Line, timing: &Timing, intervals: &mut Intervals<'_>) -> Over {
    let mut decoder = Decoder::default();
    let mut frame = Vec::new();
    let mut next = monotonic_ns();
    loop {
        let is_left = end.thread.is_left();
        let mut is_new = false;
        loop {
            match end.wanted() {
                Err(over) => {
                    end.thread.done();
                    return over;
                }
                Ok(None) => break,
                Ok(Some(bytes)) => decoder.push(bytes, |found| {
                    if let Found::Message(Message { label: label::SEND, data }) = found {
                        is_new = true;
                        frame.clear();
                        frame.extend_from_slice(data);
                    }
                }),
            }
            end.thread.done();
        }
        // The last look leaves before the end, if it has not.
        if is_left && !is_new {
            return Over::Left;
        }
        if frame.is_empty() {
            end.listen(None, LOOK);
            next = monotonic_ns();
            continue;
        }
        sleep_until(next);
        let begun = monotonic_ns();
        if let Err(why) = send(&mut line, timing, &frame) {
            return Over::Gone(why.to_string());
        }
        intervals.note(begun, end);
        // A line that was held up does not catch up with frames closer together.
        next = (next + timing.interval_ns).max(begun + timing.interval_ns / 2);
    }
}

/// One frame; returns when it is on the line.
fn send(line: &mut Line, timing: &Timing, frame: &[u8]) -> std::io::Result<()> {
    line.settings.set_break()?;
    sleep_until(monotonic_ns() + timing.break_ns);
    line.settings.clear_break()?;
    sleep_until(monotonic_ns() + timing.mark_ns);
    line.settings.write_all(frame)?;
    line.settings.flush()
}

/// From the beginning of one frame to the beginning of the next.
struct Intervals<'p> {
    name: String,
    /// Since the router began.
    page: &'p mut Writer,
    /// Since the device is there.
    all: Latency,
    before: Option<u64>,
    /// Of the last while.
    lately: Latency,
    tell_at: u64,
    log_at: u64,
}

impl<'p> Intervals<'p> {
    fn new(name: &str, page: &'p mut Writer) -> Self {
        let now = monotonic_ns();
        Self {
            name: name.to_owned(),
            page,
            all: Latency::new(),
            before: None,
            lately: Latency::new(),
            tell_at: now + TELL_NS,
            log_at: now + LOG_NS,
        }
    }

    fn note(&mut self, begun: u64, end: &mut End) {
        if let Some(before) = self.before.replace(begun) {
            let interval = begun.saturating_sub(before);
            self.lately.record(interval);
            self.page.record(0, interval, 1);
        }
        if begun < self.tell_at {
            return;
        }
        self.tell_at = begun + TELL_NS;
        let summary = self.lately.summary();
        let quantiles = [summary.p50_ns, summary.p99_ns, summary.max_ns];
        let data = quantiles.map(|ns| ((ns / 1_000) as u32).to_le_bytes()).concat();
        let mut bytes = Vec::new();
        Message { label: label::INTERVALS, data: &data }.write(&mut bytes);
        // A host that is behind hears the next ones.
        let _ = end.thread.say(Heard::Bytes(&bytes));
        self.all.merge(&self.lately);
        self.lately.clear();
        if begun >= self.log_at {
            self.log_at = begun + LOG_NS;
            self.log(&end.who);
        }
    }

    fn log(&mut self, who: &str) {
        self.all.merge(&self.lately);
        self.lately.clear();
        let summary = self.all.summary();
        if summary.count > 0 {
            let ms = |ns: u64| Duration::from_nanos(ns).as_secs_f64() * 1e3;
            info!(
                "{who}: {}: {} frames, {:.2} ms apart (p50), {:.2} (p99), {:.2} (longest)",
                self.name,
                summary.count + 1,
                ms(summary.p50_ns),
                ms(summary.p99_ns),
                ms(summary.max_ns),
            );
        }
    }
}
