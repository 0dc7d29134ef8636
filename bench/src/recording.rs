//! Plays a recording of `clasp-rt record` into a running router, and follows every message to a
//! subscriber.
//!
//! One connection says what several had said, each message at its instant. The digests say whether
//! two replays came out alike: one of the last value of every address, one of every message of
//! every address in its order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clasp_rt_core::message::{Message, Publish, Set};
use clasp_rt_core::signal::{Qos, Signal};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{binary, header};
use clasp_rt_perf::capture::{self, Item};
use clasp_rt_perf::histogram::Latency;

use crate::digest::Digest;
use crate::pace::Schedule;
use crate::peer::Peer;
use crate::report;

/// After the last message, how long nothing may come out before the replay is over.
const QUIET: Duration = Duration::from_secs(2);

/// Messages on their way at most when the replay goes as fast as it can: far less than a router
/// keeps for a slow link, so that none is joined or dropped.
const WINDOW: u64 = 1_024;

/// One message of the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Since the first message.
    pub offset: Duration,
    frame: Vec<u8>,
    /// What a subscriber will be told of it.
    told: Vec<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    address: String,
    /// Signal, value and samples.
    what: u64,
}

/// All that a recording holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    pub said: Vec<Said>,
    /// Frames that the recorder had no room for.
    pub lost: u64,
    /// It ended in order, and no file of it was cut.
    pub whole: bool,
}

/// The files of a recording: `path` itself, or those of its folder, in order.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "clasprec") {
            files.push(file);
        }
    }
    files.sort_unstable();
    if files.is_empty() {
        let message = format!("{} holds no .clasprec file", path.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(files)
}

/// Whether the bytes are a recording and not, say, a pcap file.
pub fn is_one(file: &[u8]) -> bool {
    file.starts_with(&capture::MAGIC)
}

/// What the files of a recording hold, in order. A recorder that was killed before its first block
/// was written leaves a file of nothing, which is left out.
pub fn load(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let files = files(path)?;
    let mut files = files.iter().map(fs::read).collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| !file.is_empty());
    if files.is_empty() {
        return Err(io::Error::other(format!("{} is empty: nothing to play", path.display())));
    }
    Ok(files)
}

/// Reads files of one recording, in order.
pub fn read(files: &[Vec<u8>]) -> Result<Recording, String> {
    let mut recording = Recording { whole: true, ..Recording::default() };
    let mut first_ns = None;
    let mut ended = false;
    for file in files {
        let (_, records) = capture::read(file).map_err(|why| why.to_string())?;
        for record in records {
            let Ok(record) = record else {
                recording.whole = false;
                break;
            };
            match record.item {
                Item::Frame(frame) => {
                    let start_ns = *first_ns.get_or_insert(record.at_ns);
                    let offset = Duration::from_nanos(record.at_ns.saturating_sub(start_ns));
                    said(frame, offset, &mut recording.said);
                }
                Item::Lost(count) => recording.lost += count,
                Item::End => ended = true,
            }
        }
    }
    recording.whole &= ended;
    Ok(recording)
}

/// Appends what must be said so that a subscriber hears `frame` again.
fn said(frame: &[u8], offset: Duration, out: &mut Vec<Said>) {
    let message = header::parse(frame).and_then(|frame| binary::decode(frame.payload));
    let mut say = |message: Message<'_>, told: Vec<Told>| {
        let mut frame = Vec::new();
        if binary::encode(&message, Qos::Fire, &mut frame).is_ok() {
            out.push(Said { offset, frame, told });
        }
    };
    match message {
        Ok(Message::Set(set)) => say(Message::Set(again(set)), vec![told_of_set(&set)]),
        Ok(Message::Publish(publish)) => {
            say(Message::Publish(publish), vec![told_of_publish(&publish)]);
        }
        Ok(Message::Snapshot { params }) => {
            for param in params.iter() {
                let set = Set {
                    address: param.address,
                    value: param.value,
                    revision: None,
                    lock: false,
                    unlock: false,
                    ttl: None,
                };
                say(Message::Set(set), vec![told_of_set(&set)]);
            }
        }
        _ => {}
    }
}

/// The revision of an update is what the router made it; said again it would be a condition.
fn again(set: Set<'_>) -> Set<'_> {
    Set { revision: None, lock: false, unlock: false, ..set }
}

fn told_of_set(set: &Set<'_>) -> Told {
    Told { address: set.address.to_owned(), what: digest_of(Signal::Param, set.value, None) }
}

fn told_of_publish(publish: &Publish<'_>) -> Told {
    let signal = publish.signal.unwrap_or_default();
    let value = publish.value.or(publish.payload).unwrap_or(Value::NULL);
    let samples = publish.samples.map(|samples| samples.iter().map(f64::to_bits).collect());
    Told { address: publish.address.to_owned(), what: digest_of(signal, value, samples) }
}

/// What happened at an address, as a number.
fn digest_of(signal: Signal, value: Value<'_>, samples: Option<Vec<u64>>) -> u64 {
    let mut digest = Digest::default();
    digest.byte(signal as u8);
    digest.byte(value.code());
    digest.piece(value.data());
    samples.into_iter().flatten().for_each(|bits| digest.piece(&bits.to_le_bytes()));
    digest.0
}

/// What a replay showed.
#[derive(Debug, Default)]
pub struct Played {
    pub said: u64,
    pub arrived: u64,
    /// Overtaken by a newer value of its address on the way.
    pub superseded: u64,
    /// Arrived, and was not said.
    pub unexpected: u64,
    pub missing: u64,
    pub seconds: f64,
    pub latency: Latency,
    pub addresses: usize,
    /// Of the last value of every address.
    pub state_digest: u64,
    /// Of every message of every address, in its order.
    pub order_digest: u64,
}

/// What was said and has not come out, by address.
#[derive(Debug, Default)]
struct Awaited {
    queues: HashMap<String, VecDeque<(u64, u64)>>,
    count: u64,
}

impl Awaited {
    fn expect(&mut self, told: &Told, due_ns: u64) {
        match self.queues.get_mut(&told.address) {
            Some(queue) => queue.push_back((told.what, due_ns)),
            None => {
                let queue = VecDeque::from([(told.what, due_ns)]);
                self.queues.insert(told.address.clone(), queue);
            }
        }
        self.count += 1;
    }

    /// When what came was due, and how many before it did not come.
    fn arrived(&mut self, address: &str, what: u64) -> Option<(u64, u64)> {
        let queue = self.queues.get_mut(address)?;
        let at = queue.iter().position(|(expected, _)| *expected == what)?;
        let (_, due_ns) = queue.drain(..=at).next_back()?;
        self.count -= at as u64 + 1;
        Some((due_ns, at as u64))
    }
}

/// Says the recording by `publisher` while `subscriber`, who listens to everything, hears it.
///
/// An infinite `speed` says it as fast as the router takes it.
pub fn play(
    recording: &Recording,
    speed: f64,
    publisher: &mut Peer,
    subscriber: &mut Peer,
) -> io::Result<Played> {
    let schedule = Schedule::recorded(recording.said.iter().map(|said| said.offset), speed);
    let mut played = Played::default();
    let mut awaited = Awaited::default();
    let mut state: BTreeMap<String, u64> = BTreeMap::new();
    let mut order: BTreeMap<String, Digest> = BTreeMap::new();
    let mut next = 0;
    let start = Instant::now() + Duration::from_millis(1);
    let mut last_progress = start;
    loop {
        let now = Instant::now();
        while let (Some(due_ns), Some(said)) = (schedule.offset_ns(next), recording.said.get(next))
        {
            let due = start + Duration::from_nanos(due_ns);
            let full = awaited.count >= WINDOW || publisher.unsent_bytes() > 0;
            if due > now || (speed.is_infinite() && full) {
                break;
            }
            // As fast as possible means that it was due when there was room.
            let due_ns = match speed.is_infinite() {
                true => u64::try_from((now - start.min(now)).as_nanos()).unwrap_or(u64::MAX),
                false => due_ns,
            };
            said.told.iter().for_each(|told| awaited.expect(told, due_ns));
            publisher.queue(&said.frame);
            played.said += 1;
            last_progress = now;
            next += 1;
        }
        publisher.flush()?;
        subscriber.poll(|frame| {
            let Some(told) = heard(frame) else { return };
            let seen = Instant::now();
            last_progress = seen;
            played.arrived += 1;
            match awaited.arrived(&told.address, told.what) {
                None => played.unexpected += 1,
                Some((due_ns, superseded)) => {
                    played.superseded += superseded;
                    let due = start + Duration::from_nanos(due_ns);
                    played.latency.record_duration(seen.saturating_duration_since(due));
                }
            }
            order.entry(told.address.clone()).or_default().piece(&told.what.to_le_bytes());
            state.insert(told.address, told.what);
        })?;
        publisher.poll(|_| {})?;
        let quiet = now.saturating_duration_since(last_progress);
        let patience = if awaited.count == 0 { QUIET / 8 } else { QUIET };
        if next == recording.said.len() && quiet > patience {
            played.missing = awaited.count;
            played.seconds = (last_progress - start.min(last_progress)).as_secs_f64();
            played.addresses = order.len();
            played.state_digest =
                Digest::of(state.iter().map(|(address, what)| (address, what.to_le_bytes())));
            played.order_digest =
                Digest::of(order.iter().map(|(address, said)| (address, said.0.to_le_bytes())));
            return Ok(played);
        }
    }
}

fn heard(frame: &[u8]) -> Option<Told> {
    match binary::decode(header::parse(frame).ok()?.payload).ok()? {
        Message::Set(set) => Some(told_of_set(&set)),
        Message::Publish(publish) => Some(told_of_publish(&publish)),
        _ => None,
    }
}

impl Played {
    pub fn text(&self, recording: &Recording) -> String {
        let mut out = String::new();
        let complete = match (recording.whole, recording.lost) {
            (true, 0) => "whole".to_owned(),
            (true, lost) => format!("{lost} frames are missing in it"),
            (false, lost) => format!("cut before its end, {lost} frames are missing in it"),
        };
        let rate = self.arrived as f64 / self.seconds.max(f64::MIN_POSITIVE);
        let _ = writeln!(out, "recording: {} messages, {complete}", recording.said.len());
        let _ = writeln!(
            out,
            "said {}, arrived {}, superseded {}, unexpected {}, missing {}; {:.3} s, {rate:.0}/s",
            self.said, self.arrived, self.superseded, self.unexpected, self.missing, self.seconds
        );
        let _ = writeln!(out, "{}", report::latency_text(&self.latency));
        let _ = writeln!(
            out,
            "digest of the state {:#018x}, of the order {:#018x}, {} addresses",
            self.state_digest, self.order_digest, self.addresses
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::message::ParamValue;
    use clasp_rt_core::value::push_i64;
    use clasp_rt_core::wire::binary::SnapshotBuilder;
    use clasp_rt_perf::capture::{Header, Record};
    use clasp_rt_tests::temporary::TempFolder;

    use super::*;

    fn set_frame(address: &str, number: i64, revision: Option<u64>) -> Vec<u8> {
        let (mut value, mut frame) = (Vec::new(), Vec::new());
        push_i64(&mut value, number);
        let value = Value::from_encoded(&value).unwrap();
        let set = Set { address, value, revision, lock: true, unlock: false, ttl: None };
        binary::encode(&Message::Set(set), Qos::Fire, &mut frame).unwrap();
        frame
    }

    fn file(items: &[Item<'_>]) -> Vec<u8> {
        let mut file = Vec::new();
        Header { number: 1, start_unix_us: 0 }.put(&mut file);
        for (n, item) in (0..).zip(items) {
            capture::put(Record { at_ns: 500 + n * 1_000, item: *item }, &mut file);
        }
        file
    }

    #[test]
    fn what_was_recorded_is_said_again_without_conditions() {
        let frame = set_frame("/a", 5, Some(9));
        let recording = read(&[file(&[Item::Frame(&frame), Item::Lost(2), Item::End])]).unwrap();
        assert_eq!(recording.lost, 2);
        assert!(recording.whole);
        let said = &recording.said[0];
        assert_eq!(said.offset, Duration::ZERO);
        let payload = header::parse(&said.frame).unwrap().payload;
        let Ok(Message::Set(set)) = binary::decode(payload) else { panic!("a SET") };
        assert_eq!((set.revision, set.lock), (None, false));
        // What the router will tell of it is what is expected.
        assert_eq!(heard(&set_frame("/a", 5, Some(1))).as_ref(), Some(&said.told[0]));
        assert_ne!(heard(&set_frame("/a", 6, Some(1))).as_ref(), Some(&said.told[0]));
    }

    #[test]
    fn a_snapshot_becomes_writes_and_a_cut_file_is_told() {
        let mut frame = Vec::new();
        let mut builder = SnapshotBuilder::start(&mut frame);
        for address in ["/a", "/b"] {
            let param = ParamValue {
                address,
                value: Value::NULL,
                revision: 4,
                writer: None,
                timestamp_us: None,
            };
            assert!(builder.push(&mut frame, &param));
        }
        builder.finish(&mut frame);
        let mut cut = file(&[Item::Frame(&frame), Item::Frame(&frame)]);
        cut.truncate(cut.len() - 9);
        let recording = read(&[cut]).unwrap();
        assert_eq!(recording.said.len(), 2, "the second frame is cut off");
        assert!(!recording.whole);
    }

    #[test]
    fn a_value_that_was_overtaken_is_counted_and_not_awaited() {
        let told = |what| Told { address: "/a".to_owned(), what };
        let mut awaited = Awaited::default();
        (0..3).for_each(|n| awaited.expect(&told(n), n * 10));
        assert_eq!(awaited.arrived("/a", 1), Some((10, 1)));
        assert_eq!(awaited.count, 1);
        assert_eq!(awaited.arrived("/a", 1), None);
        assert_eq!(awaited.arrived("/b", 2), None);
        assert_eq!(awaited.arrived("/a", 2), Some((20, 0)));
        assert_eq!(awaited.count, 0);
    }

    #[test]
    fn a_file_of_nothing_is_left_out_and_alone_it_is_named() {
        let folder = TempFolder::new();
        fs::write(folder.join("1.clasprec"), file(&[Item::End])).unwrap();
        fs::write(folder.join("2.clasprec"), []).unwrap();
        assert_eq!(load(&folder).unwrap(), [file(&[Item::End])]);
        fs::write(folder.join("1.clasprec"), []).unwrap();
        for path in [folder.to_path_buf(), folder.join("2.clasprec")] {
            let why = load(&path).unwrap_err().to_string();
            assert!(why.ends_with("is empty: nothing to play"), "{why}");
        }
    }
}
