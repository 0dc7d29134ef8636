//! One connection that publishes, subscribes and asks for an acknowledgement of each message.
//!
//! Two small answers to one message, its ACK and its own echo, are where a socket with Nagle's
//! algorithm waits for the other side.

use std::io;
use std::time::{Duration, Instant};

use clasp_rt_core::signal::Qos;
use clasp_rt_core::wire::binary::code;
use clasp_rt_perf::histogram::Latency;

use crate::frames::{self, Message, Numbered};
use crate::pace::Schedule;
use crate::peer::Peer;

/// How long the last ACK may take before it counts as lost.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// From the intended instant to the ACK.
    pub latency: Latency,
    pub sent: u64,
    pub arrived: u64,
}

/// Sends what `schedule` says to the CLASP router at `url`. Every sample is kept.
pub fn run(url: &str, message: &Message<'_>, schedule: &Schedule) -> io::Result<Measured> {
    let mut peer = Peer::connect(url)?;
    peer.join("bench")?;
    peer.subscribe(1, message.pattern)?;
    let mut numbered = Numbered::with(message, Qos::Confirm)?;
    let mut measured = Measured::default();
    let total = schedule.len() as u64;
    let start = Instant::now() + Duration::from_millis(1);
    let mut last_progress = start;
    loop {
        let now = Instant::now();
        if schedule.due(start, measured.sent).is_some_and(|due| due <= now) {
            peer.queue(numbered.frame(measured.sent));
            peer.flush()?;
            measured.sent += 1;
            last_progress = now;
        }
        peer.poll(|frame| {
            let seen = Instant::now();
            // An ACK carries no number: they come in the order of what they acknowledge.
            if !frames::is(frame, code::ACK) {
                return;
            }
            let Some(due) = schedule.due(start, measured.arrived) else { return };
            measured.latency.record_duration(seen.saturating_duration_since(due));
            measured.arrived += 1;
            last_progress = seen;
        })?;
        let gave_up = now.saturating_duration_since(last_progress) > GRACE;
        if measured.sent == total && (measured.arrived == total || gave_up) {
            return Ok(measured);
        }
    }
}
