//! Timelines that play: keyframes held by the home of their address, emitted as a param.
//!
//! A timeline is a map: `keyframes` (array of maps with `time` in microseconds from the start,
//! `value`, `easing`, `bezier`), `loop` or `loop_`, `start_time` (microseconds since the Unix
//! epoch; absent: now) and `duration` (microseconds; absent: the last keyframe's time). A
//! keyframe's easing shapes the way to the next one. Numbers, and arrays of numbers element by
//! element, are interpolated; anything else steps.

use alloc::vec::Vec;

use super::refused::Refused;
use super::session_id::SessionId;
use crate::arena::{Arena, Block};
use crate::index::Index;
use crate::limits::{Limits, PARAM_BYTES_MAX};
use crate::time::{Span, Time};
use crate::timers::Timers;
use crate::value::{self, Value};

/// The share of places and of bytes that one session may take, so that it leaves some to others.
const SHARE: u64 = 8;

#[derive(Clone, Copy)]
struct Timeline {
    hash: u64,
    address: Block,
    /// The data of the map.
    map: Block,
    writer: SessionId,
    start: Time,
    /// Position in the timeline, in microseconds, that `start` stands for.
    offset_us: u64,
    duration_us: u64,
    repeats: bool,
}

const VACANT: Timeline = Timeline {
    hash: 0,
    address: Block::EMPTY,
    map: Block::EMPTY,
    writer: SessionId::NONE,
    start: Time(0),
    offset_us: 0,
    duration_us: 0,
    repeats: false,
};

pub(crate) struct Timelines {
    slots: Vec<Timeline>,
    free: Vec<u32>,
    index: Index,
    due: Timers,
    bytes: Arena,
    interval: Span,
}

/// What a timeline says at one instant: address and value are in the buffers that were lent.
pub(crate) struct Emission {
    pub hash: u64,
    pub writer: SessionId,
}

impl Timelines {
    pub(crate) fn new(limits: &Limits, interval: Span) -> Self {
        let max = limits.timelines_max;
        Self {
            slots: alloc::vec![VACANT; max as usize],
            free: (0..max).rev().collect(),
            index: Index::new(max),
            due: Timers::new(max),
            bytes: Arena::new(limits.held_bytes_max),
            interval: interval.max(Span::from_millis(1)),
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.slots.len() * (size_of::<Timeline>() + size_of::<u32>())) as u64
            + self.index.memory_bytes()
            + self.due.memory_bytes()
            + self.bytes.memory_bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Plays `timeline` on `address`, instead of what played there. No keyframes: nothing plays.
    pub(crate) fn start(
        &mut self,
        now: Time,
        unix_us: u64,
        hash: u64,
        address: &str,
        timeline: Value<'_>,
        writer: SessionId,
    ) -> Result<(), Refused> {
        let plan = check(timeline)?;
        self.stop(hash, address.as_bytes());
        if plan.keyframes == 0 {
            return Ok(());
        }
        let busy = Refused::Busy { what: "timelines" };
        if !self.has_share(writer, timeline.data().len()) {
            return Err(busy);
        }
        let address = self.bytes.put(&[address.as_bytes()]).ok_or(busy)?;
        let Some(map) = self.bytes.put(&[timeline.data()]) else {
            self.bytes.free(address);
            return Err(busy);
        };
        let Some(slot) = self.free.pop() else {
            self.bytes.free(address);
            self.bytes.free(map);
            return Err(busy);
        };
        let start_us = plan.start_us.unwrap_or(unix_us);
        let wait = Span::from_micros(start_us.saturating_sub(unix_us));
        let offset_us = unix_us.saturating_sub(start_us);
        self.slots[slot as usize] = Timeline {
            hash,
            address,
            map,
            writer,
            start: now + wait,
            offset_us,
            duration_us: plan.duration_us,
            repeats: plan.repeats,
        };
        self.index.insert(hash, slot).expect("the index holds as many as there are slots");
        self.due.set(slot, now + wait);
        Ok(())
    }

    /// Whether `writer` may play one more of so many bytes. Costs a look at every place.
    fn has_share(&self, writer: SessionId, bytes: usize) -> bool {
        let own = self.slots.iter().filter(|timeline| timeline.writer == writer);
        let (count, held) = own
            .filter(|timeline| !timeline.map.is_empty())
            .fold((0, 0), |(count, bytes), timeline| {
                (count + 1, bytes + u64::from(timeline.map.len()))
            });
        let capacity = self.bytes.bytes_used() + self.bytes.bytes_free();
        (count + 1) * SHARE <= (self.slots.len() as u64).max(SHARE)
            && (held + bytes as u64) * SHARE <= capacity.max(bytes as u64 * SHARE)
    }

    /// Ends what plays on `address`: somebody else wrote it.
    pub(crate) fn stop(&mut self, hash: u64, address: &[u8]) {
        let found = self
            .index
            .find(hash, |slot| self.bytes.get(self.slots[slot as usize].address) == address);
        if let Some(slot) = found {
            self.give_back(slot);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.due.next()
    }

    /// The next value that is due: its address in `address`, code and data in `out`.
    pub(crate) fn pop(
        &mut self,
        now: Time,
        address: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Option<Emission> {
        let slot = self.due.pop(now)?;
        let timeline = self.slots[slot as usize];
        let elapsed_us = timeline.offset_us + now.since(timeline.start).as_micros();
        let repeats = timeline.repeats && timeline.duration_us > 0;
        let ended = !repeats && elapsed_us >= timeline.duration_us;
        let position_us = match repeats {
            true => elapsed_us % timeline.duration_us,
            false => elapsed_us.min(timeline.duration_us),
        };
        address.clear();
        address.extend_from_slice(self.bytes.get(timeline.address));
        out.clear();
        let map = Value { code: value::code::MAP, data: self.bytes.get(timeline.map) };
        sample(map, position_us as f64, out);
        if ended {
            self.give_back(slot);
        } else {
            self.due.set(slot, now + self.interval);
        }
        Some(Emission { hash: timeline.hash, writer: timeline.writer })
    }

    fn give_back(&mut self, slot: u32) {
        let gone = core::mem::replace(&mut self.slots[slot as usize], VACANT);
        self.bytes.free(gone.address);
        self.bytes.free(gone.map);
        self.due.clear(slot);
        self.index.remove(gone.hash, slot);
        self.free.push(slot);
    }
}

struct Plan {
    keyframes: usize,
    start_us: Option<u64>,
    duration_us: u64,
    repeats: bool,
}

/// Reads what does not change while it plays, or says why it cannot be played.
fn check(timeline: Value<'_>) -> Result<Plan, Refused> {
    let bad = |why| Refused::Timeline { why };
    let keyframes = timeline
        .get("keyframes")
        .and_then(|keyframes| keyframes.array())
        .ok_or(bad("value must be a map with an array `keyframes`"))?;
    let (mut count, mut last_us) = (0, 0.0);
    for keyframe in keyframes {
        let time_us = keyframe
            .get("time")
            .and_then(|time| time.as_f64())
            .filter(|time| (0.0..9e15).contains(time))
            .ok_or(bad("every keyframe needs a `time` in microseconds, 0 or more"))?;
        if keyframe.get("value").is_none() {
            return Err(bad("every keyframe needs a `value`"));
        }
        if Easing::of(keyframe).is_none() {
            return Err(bad(
                "easing is linear, ease-in, ease-out, ease-in-out, step, or cubic-bezier with \
                 `bezier` of four numbers, the first and third 0 to 1",
            ));
        }
        if time_us < last_us {
            return Err(bad("keyframes must be in order of `time`"));
        }
        last_us = time_us;
        count += 1;
    }
    let micros = |key| {
        let number = timeline.get(key).and_then(|v| v.as_f64());
        number.filter(|us| (0.0..9e15).contains(us)).map(|us| us as u64)
    };
    let repeats = ["loop", "loop_"]
        .iter()
        .any(|key| timeline.get(key).and_then(|v| v.as_bool()) == Some(true));
    Ok(Plan {
        keyframes: count,
        start_us: micros("start_time"),
        duration_us: micros("duration").unwrap_or(last_us as u64),
        repeats,
    })
}

/// Writes the value at `position_us` to `out`.
fn sample(timeline: Value<'_>, position_us: f64, out: &mut Vec<u8>) {
    let mut before: Option<Value<'_>> = None;
    let mut after: Option<Value<'_>> = None;
    for keyframe in timeline.get("keyframes").and_then(|k| k.array()).into_iter().flatten() {
        if time_of(keyframe) > position_us {
            after = Some(keyframe);
            break;
        }
        before = Some(keyframe);
    }
    let held = before.or(after).and_then(|k| k.get("value")).unwrap_or(Value::NULL);
    if let (Some(from), Some(to)) = (before, after) {
        let (start, end) = (time_of(from), time_of(to));
        let progress = (position_us - start) / (end - start);
        let easing = Easing::of(from).unwrap_or(Easing::Linear);
        if let (Some(a), Some(b)) = (from.get("value"), to.get("value"))
            && blend(a, b, easing.at(progress), out)
        {
            return;
        }
    }
    value::push_value(out, held);
}

fn time_of(keyframe: Value<'_>) -> f64 {
    keyframe.get("time").and_then(|time| time.as_f64()).unwrap_or(0.0)
}

/// Appends the mix of two numbers, or of two arrays of as many numbers. False, and nothing
/// appended, for anything else.
fn blend(a: Value<'_>, b: Value<'_>, weight: f64, out: &mut Vec<u8>) -> bool {
    let mixed = |a: f64, b: f64| a + (b - a) * weight;
    if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
        push_f64(mixed(a, b), out);
        return true;
    }
    let (Some(from), Some(to)) = (a.array(), b.array()) else { return false };
    let restore = out.len();
    out.extend_from_slice(&[value::code::ARRAY, 0, 0]);
    let (mut count, mut numbers) = (0_u16, true);
    let mut to = to;
    for a in from {
        // Written as 64 bits each, short numbers may become more than a param holds.
        let fits = out.len() - restore + F64_BYTES <= PARAM_BYTES_MAX;
        match (a.as_f64(), to.next().and_then(|b| b.as_f64())) {
            (Some(a), Some(b)) if fits => push_f64(mixed(a, b), out),
            _ => numbers = false,
        }
        count += 1;
    }
    if !numbers || to.next().is_some() {
        out.truncate(restore);
        return false;
    }
    out[restore + 1..restore + 3].copy_from_slice(&count.to_be_bytes());
    true
}

/// Bytes of a number with its type code.
const F64_BYTES: usize = 9;

fn push_f64(number: f64, out: &mut Vec<u8>) {
    out.push(value::code::F64);
    out.extend_from_slice(&number.to_be_bytes());
}

/// The shape of the way from one keyframe to the next.
///
/// The named curves are those of CSS Easing Functions Level 1 §2.2, as their authors will expect.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Easing {
    Linear,
    Step,
    Bezier([f64; 4]),
}

impl Easing {
    fn of(keyframe: Value<'_>) -> Option<Self> {
        let Some(name) = keyframe.get("easing").and_then(|easing| easing.as_str()) else {
            return Some(Self::Linear);
        };
        Some(match name {
            "linear" => Self::Linear,
            "step" => Self::Step,
            "ease-in" => Self::Bezier([0.42, 0.0, 1.0, 1.0]),
            "ease-out" => Self::Bezier([0.0, 0.0, 0.58, 1.0]),
            "ease-in-out" => Self::Bezier([0.42, 0.0, 0.58, 1.0]),
            "cubic-bezier" => Self::Bezier(handles(keyframe)?),
            _ => return None,
        })
    }

    fn at(self, progress: f64) -> f64 {
        match self {
            Self::Linear => progress,
            Self::Step => 0.0,
            Self::Bezier([x1, y1, x2, y2]) => {
                // x rises with the curve's parameter, so halving finds it to the last bit that
                // counts.
                let (mut low, mut high) = (0.0, 1.0);
                for _ in 0..50 {
                    let middle = (low + high) / 2.0;
                    if bezier(x1, x2, middle) < progress {
                        low = middle;
                    } else {
                        high = middle;
                    }
                }
                bezier(y1, y2, (low + high) / 2.0)
            }
        }
    }
}

fn handles(keyframe: Value<'_>) -> Option<[f64; 4]> {
    let mut numbers = keyframe.get("bezier")?.array()?.map(|v| v.as_f64());
    let mut next = || numbers.next()?.filter(|v| v.is_finite());
    let handles = [next()?, next()?, next()?, next()?];
    let in_range = |x: f64| (0.0..=1.0).contains(&x);
    (in_range(handles[0]) && in_range(handles[2])).then_some(handles)
}

/// One coordinate of a cubic Bézier curve from 0 to 1 with handles `a` and `b`.
fn bezier(a: f64, b: f64, t: f64) -> f64 {
    let u = 1.0 - t;
    3.0 * u * u * t * a + 3.0 * u * t * t * b + t * t * t
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Vec<u8> {
        let mut out = (s.len() as u16).to_be_bytes().to_vec();
        out.extend_from_slice(s.as_bytes());
        out
    }

    fn number(v: f64) -> Vec<u8> {
        let mut out = Vec::new();
        push_f64(v, &mut out);
        out
    }

    fn string(s: &str) -> Vec<u8> {
        [&[value::code::STRING][..], &text(s)].concat()
    }

    fn array(items: &[Vec<u8>]) -> Vec<u8> {
        let count = (items.len() as u16).to_be_bytes();
        [&[value::code::ARRAY][..], &count, &items.concat()].concat()
    }

    fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let body: Vec<u8> =
            entries.iter().flat_map(|(k, v)| [text(k), v.clone()].concat()).collect();
        let count = (entries.len() as u16).to_be_bytes();
        [&[value::code::MAP][..], &count, &body].concat()
    }

    fn keyframe(time_us: f64, value: Vec<u8>, easing: &str) -> Vec<u8> {
        map(&[("time", number(time_us)), ("value", value), ("easing", string(easing))])
    }

    fn play(timeline: &[u8], at_us: &[u64]) -> Vec<(u64, Option<f64>)> {
        let mut t = Timelines::new(&Limits::default(), Span::from_millis(1));
        let value = Value { code: timeline[0], data: &timeline[1..] };
        t.start(Time(0), 0, 1, "/a", value, SessionId::NONE).unwrap();
        let (mut address, mut out, mut got) = (Vec::new(), Vec::new(), Vec::new());
        for &us in at_us {
            if t.pop(Time(us * 1000), &mut address, &mut out).is_some() {
                got.push((us, Value { code: out[0], data: &out[1..] }.as_f64()));
            }
        }
        got
    }

    #[test]
    fn values_follow_their_easing_and_end_on_the_last_keyframe() {
        // (easing, position in µs of 0..=1_000_000, value)
        let cases = [
            ("linear", 250_000, 25.0),
            ("step", 999_000, 0.0),
            ("ease-in", 500_000, 31.535),
            ("ease-out", 500_000, 68.464),
            ("ease-in-out", 500_000, 50.0),
            ("linear", 1_000_000, 100.0),
        ];
        for (easing, at_us, want) in cases {
            let frames =
                [keyframe(0.0, number(0.0), easing), keyframe(1e6, number(100.0), "linear")];
            let timeline = map(&[("keyframes", array(&frames))]);
            let got = play(&timeline, &[at_us])[0].1.unwrap();
            assert!((got - want).abs() < 0.01, "{easing} at {at_us}: {got}");
        }
    }

    #[test]
    fn a_timeline_ends_once_and_a_loop_goes_on() {
        let frames = [keyframe(0.0, number(0.0), "linear"), keyframe(1e4, number(10.0), "linear")];
        let once = map(&[("keyframes", array(&frames))]);
        let at = [0, 5_000, 10_000, 15_000];
        let want = [(0, Some(0.0)), (5_000, Some(5.0)), (10_000, Some(10.0))];
        assert_eq!(play(&once, &at), want);
        let repeats = [value::code::BOOL, 1].to_vec();
        let looped = map(&[("keyframes", array(&frames)), ("loop_", repeats)]);
        let want = [(0, Some(0.0)), (5_000, Some(5.0)), (10_000, Some(0.0)), (15_000, Some(5.0))];
        assert_eq!(play(&looped, &at), want);
        let frames = [keyframe(0.0, number(7.0), "linear")];
        let repeats = [value::code::BOOL, 1].to_vec();
        let still = map(&[("keyframes", array(&frames)), ("loop", repeats)]);
        assert_eq!(play(&still, &at), [(0, Some(7.0))], "a loop of no length is over at once");
    }

    #[test]
    fn what_cannot_be_played_is_refused_with_the_reason() {
        let broken = map(&[("time", number(5.0))]);
        let backwards =
            [keyframe(5.0, number(0.0), "linear"), keyframe(1.0, number(0.0), "linear")];
        let cases = [
            number(1.0),
            map(&[("keyframes", number(1.0))]),
            map(&[("keyframes", array(&[broken]))]),
            map(&[("keyframes", array(&backwards))]),
            map(&[("keyframes", array(&[keyframe(0.0, number(0.0), "bouncy")]))]),
            map(&[("keyframes", array(&[keyframe(0.0, number(0.0), "cubic-bezier")]))]),
        ];
        for timeline in cases {
            let value = Value { code: timeline[0], data: &timeline[1..] };
            assert!(matches!(check(value), Err(Refused::Timeline { .. })), "{timeline:?}");
        }
    }

    #[test]
    fn arrays_blend_element_by_element_and_words_step() {
        let from = array(&[number(0.0), number(10.0)]);
        let to = array(&[number(10.0), number(20.0)]);
        let frames = [keyframe(0.0, from, "linear"), keyframe(10.0, to, "linear")];
        let timeline = map(&[("keyframes", array(&frames))]);
        let mut out = Vec::new();
        sample(Value { code: timeline[0], data: &timeline[1..] }, 5.0, &mut out);
        assert_eq!(out, array(&[number(5.0), number(15.0)]));
        let frames =
            [keyframe(0.0, string("off"), "linear"), keyframe(10.0, string("on"), "linear")];
        let timeline = map(&[("keyframes", array(&frames))]);
        out.clear();
        sample(Value { code: timeline[0], data: &timeline[1..] }, 5.0, &mut out);
        assert_eq!(out, string("off"));
    }

    #[test]
    fn a_mix_that_would_be_longer_than_a_param_steps_instead() {
        let short = |v: u8| [value::code::I8, v].to_vec();
        let many = |v| array(&vec![short(v); 20_000]);
        let frames = [keyframe(0.0, many(1), "linear"), keyframe(10.0, many(3), "linear")];
        let timeline = map(&[("keyframes", array(&frames))]);
        let mut out = Vec::with_capacity(PARAM_BYTES_MAX + F64_BYTES);
        let room = out.capacity();
        sample(Value { code: timeline[0], data: &timeline[1..] }, 5.0, &mut out);
        assert_eq!((out == many(1), out.capacity()), (true, room));
    }

    #[test]
    fn one_session_leaves_places_and_bytes_to_others() {
        let frames = |v| array(&[keyframe(0.0, v, "linear")]);
        let small = map(&[("keyframes", frames(number(1.0)))]);
        let large = map(&[("keyframes", frames(string(&"x".repeat(30_000))))]);
        let (greedy, modest) = (SessionId([1; 16]), SessionId([2; 16]));
        for (timeline, started_max) in [(small, 4), (large, 2)] {
            let limits = Limits { timelines_max: 32, held_bytes_max: 500_000, ..Limits::default() };
            let mut t = Timelines::new(&limits, Span::from_millis(1));
            let value = Value { code: timeline[0], data: &timeline[1..] };
            let started = (0..9)
                .filter(|&n| t.start(Time(0), 0, n, &format!("/{n}"), value, greedy).is_ok())
                .count();
            assert_eq!(started, started_max);
            assert_eq!(t.start(Time(0), 0, 99, "/m", value, modest), Ok(()));
        }
    }
}
