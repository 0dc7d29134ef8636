//! Everything that passes, handed to a tape: a bridge whose other side is a recording.

use clasp_rt_core::message::Message;
use clasp_rt_core::pattern;
use clasp_rt_core::time::Time;
use clasp_rt_core::wire::binary::{self, SnapshotBuilder, code};
use clasp_rt_core::wire::header;

use crate::uplink::Uplink;
use crate::{Bridge, ConfigError, Counters, Input, Out};

/// Takes what is recorded; never waits.
pub trait Tape: Send {
    /// What the wall clock shows at `now`, in microseconds since the Unix epoch.
    fn clock(&mut self, now: Time, unix_us: u64);

    /// Keeps `frame`, which passed at `now`; `false` when there was no room.
    fn put(&mut self, now: Time, frame: &[u8]) -> bool;

    /// The recording ends here.
    fn end(&mut self, now: Time);
}

/// Records SET, PUBLISH, BUNDLE and SNAPSHOT frames of the addresses that `patterns` match.
///
/// A recording begins with a snapshot, and has one after every interruption.
pub fn open(
    patterns: Vec<String>,
    token: Option<String>,
    tape: Box<dyn Tape>,
) -> Result<Box<dyn Bridge>, ConfigError> {
    if patterns.is_empty() {
        return Err(ConfigError::new("patterns", "an empty list records nothing"));
    }
    for text in &patterns {
        pattern::check(text)
            .map_err(|why| ConfigError::new("patterns", format!("`{text}`: {why}")))?;
    }
    let uplink = Uplink::new(NAME, token);
    let (counters, snapshot) = (Counters::default(), Vec::new());
    Ok(Box::new(Recorder { uplink, patterns, tape, counters, snapshot }))
}

const NAME: &str = "record";

struct Recorder {
    uplink: Uplink,
    patterns: Vec<String>,
    tape: Box<dyn Tape>,
    counters: Counters,
    /// Entries of a SNAPSHOT that are wanted, as a frame.
    snapshot: Vec<u8>,
}

impl Recorder {
    fn hear(&mut self, now: Time, frame: &[u8], out: &mut dyn Out) {
        let kind = header::parse(frame).ok().and_then(|frame| frame.payload.first());
        match kind {
            Some(&(code::SET | code::PUBLISH | code::BUNDLE)) => self.keep(now, frame),
            Some(&code::SNAPSHOT) => self.keep_snapshot(now, frame),
            _ => self.uplink.hear(frame, &mut self.counters, out, &mut |_, _, _, _| {}),
        }
    }

    fn keep(&mut self, now: Time, frame: &[u8]) {
        self.counters.frames_in += 1;
        if !self.tape.put(now, frame) {
            self.counters.overflowed += 1;
        }
    }

    /// The snapshot of a new session holds everything that it may read.
    fn keep_snapshot(&mut self, now: Time, frame: &[u8]) {
        let message = header::parse(frame).and_then(|frame| binary::decode(frame.payload));
        let Ok(Message::Snapshot { params }) = message else {
            self.counters.malformed += 1;
            return;
        };
        let mut wanted = std::mem::take(&mut self.snapshot);
        let mut builder = SnapshotBuilder::start(&mut wanted);
        for param in params.iter().filter(|param| self.wants(param.address)) {
            // What came in one frame fits one frame.
            builder.push(&mut wanted, &param);
        }
        if builder.count() > 0 {
            builder.finish(&mut wanted);
            self.keep(now, &wanted);
        }
        self.snapshot = wanted;
    }

    fn wants(&self, address: &str) -> bool {
        self.patterns.iter().any(|wanted| pattern::matches(wanted, address))
    }
}

impl Bridge for Recorder {
    fn name(&self) -> &str {
        NAME
    }

    fn step(&mut self, now: Time, input: Input<'_>, out: &mut dyn Out) {
        match input {
            Input::Joined => {
                let patterns = self.patterns.iter().map(String::as_str);
                self.uplink.join(patterns, &mut self.counters, out);
            }
            Input::Lost => self.uplink.lose(),
            Input::Frame(frame) => self.hear(now, frame, out),
            Input::Stop => self.tape.end(now),
            Input::Clock { unix_us } => self.tape.clock(now, unix_us),
            Input::Packet { .. } | Input::Deadline => {}
            Input::Opened { .. } | Input::Bytes { .. } | Input::Ended { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use clasp_rt_core::message::{ParamValue, Set};
    use clasp_rt_core::signal::Qos;
    use clasp_rt_core::value::Value;

    use super::*;

    type Kept = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

    /// Keeps up to `room` frames.
    struct Reel {
        room: usize,
        kept: Kept,
    }

    impl Tape for Reel {
        fn clock(&mut self, _now: Time, _unix_us: u64) {}

        fn put(&mut self, now: Time, frame: &[u8]) -> bool {
            let mut kept = self.kept.lock().unwrap();
            let fits = kept.len() < self.room;
            if fits {
                kept.push((now.0, frame.to_vec()));
            }
            fits
        }

        fn end(&mut self, now: Time) {
            self.kept.lock().unwrap().push((now.0, Vec::new()));
        }
    }

    #[derive(Default)]
    struct Said(usize);

    impl Out for Said {
        fn to_router(&mut self, _frame: &[u8]) {
            self.0 += 1;
        }

        fn to_network(&mut self, _socket: u8, _to: std::net::SocketAddr, _bytes: &[u8]) {}
    }

    fn recorder(patterns: &[&str], room: usize) -> (Box<dyn Bridge>, Kept) {
        let kept = Kept::default();
        let tape = Reel { room, kept: Arc::clone(&kept) };
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        (open(patterns, None, Box::new(tape)).unwrap(), kept)
    }

    fn set(address: &str) -> Vec<u8> {
        let set = Set {
            address,
            value: Value::NULL,
            revision: Some(1),
            lock: false,
            unlock: false,
            ttl: None,
        };
        let mut frame = Vec::new();
        binary::encode(&Message::Set(set), Qos::Fire, &mut frame).unwrap();
        frame
    }

    fn snapshot(addresses: &[&str]) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut builder = SnapshotBuilder::start(&mut frame);
        for address in addresses {
            let param = ParamValue {
                address,
                value: Value::NULL,
                revision: 1,
                writer: None,
                timestamp_us: None,
            };
            assert!(builder.push(&mut frame, &param));
        }
        builder.finish(&mut frame);
        frame
    }

    #[test]
    fn what_passes_is_kept_with_its_instant_and_what_is_asked_is_answered() {
        let (mut recorder, kept) = recorder(&["/a/**"], 10);
        let mut said = Said::default();
        recorder.step(Time(1), Input::Joined, &mut said);
        assert_eq!(said.0, 2, "HELLO and one SUBSCRIBE");
        let mut ping = Vec::new();
        binary::encode(&Message::Ping, Qos::Fire, &mut ping).unwrap();
        recorder.step(Time(2), Input::Frame(&ping), &mut said);
        assert_eq!(said.0, 3, "PONG");
        recorder.step(Time(3), Input::Frame(&set("/a/b")), &mut said);
        recorder.step(Time(4), Input::Stop, &mut said);
        assert_eq!(*kept.lock().unwrap(), [(3, set("/a/b")), (4, Vec::new())]);
    }

    #[test]
    fn of_a_snapshot_only_what_is_wanted_is_kept() {
        let (mut recorder, kept) = recorder(&["/a/**"], 10);
        let mut said = Said::default();
        recorder.step(Time(1), Input::Frame(&snapshot(&["/b", "/a/c", "/b/a"])), &mut said);
        recorder.step(Time(2), Input::Frame(&snapshot(&["/b"])), &mut said);
        assert_eq!(*kept.lock().unwrap(), [(1, snapshot(&["/a/c"]))]);
    }

    #[test]
    fn what_the_tape_has_no_room_for_is_counted() {
        let (mut recorder, kept) = recorder(&["/**"], 1);
        for _ in 0..3 {
            recorder.step(Time(1), Input::Frame(&set("/a")), &mut Said::default());
        }
        assert_eq!(kept.lock().unwrap().len(), 1);
        assert_eq!(recorder.counters().overflowed, 2);
    }

    #[test]
    fn a_wrong_pattern_is_refused_by_name() {
        let reel = || Box::new(Reel { room: 0, kept: Kept::default() });
        let wrong = open(vec!["lights".to_owned()], None, reel()).err().expect("an error");
        assert!(wrong.to_string().contains("`lights`"), "{wrong}");
        assert!(open(Vec::new(), None, reel()).is_err());
    }
}
