//! The outbox by hand, and against a naive one that has neither limits of memory nor of time.

use proptest::prelude::*;

use super::*;

const A: LinkId = LinkId(0);
const B: LinkId = LinkId(1);

fn limits(link_bytes_max: u32, entries_max: u32, pool_bytes: u64) -> Limits {
    Limits {
        links_max: 3,
        outbox_bytes_max: link_bytes_max,
        outbox_entries_max: entries_max,
        outbox_pool_bytes: pool_bytes,
        ..Limits::default()
    }
}

fn roomy() -> Outbox {
    Outbox::new(&limits(1_000, 100, 10_000))
}

const ONE: Option<Writer> = Some(Writer::number(1));
const TWO: Option<Writer> = Some(Writer::number(2));

const fn param(key: u64) -> Kind {
    Kind::Param { key }
}

const fn stream(key: u64) -> Kind {
    Kind::Stream { key }
}

const fn move_of(key: u64) -> Kind {
    Kind::Move { key }
}

const fn turn(key: u64) -> Kind {
    Kind::Turn { key }
}

const EVENT: Kind = Kind::Event { key: 99 };

fn push(outbox: &mut Outbox, link: LinkId, kind: Kind, frame: &str) -> Push {
    push_by(outbox, link, kind, ONE, frame)
}

fn push_by(
    outbox: &mut Outbox,
    link: LinkId,
    kind: Kind,
    writer: Option<Writer>,
    frame: &str,
) -> Push {
    outbox.push(link, Class::new(kind, false, writer), frame.as_bytes(), &mut None)
}

fn push_bytes(outbox: &mut Outbox, link: LinkId, kind: Kind, frame: &[u8]) -> Push {
    outbox.push(link, Class::new(kind, false, ONE), frame, &mut None)
}

fn front(outbox: &Outbox, link: LinkId) -> Option<&[u8]> {
    outbox.front(link).map(|(_, frame)| frame)
}

fn bytes(outbox: &Outbox, link: LinkId) -> u32 {
    outbox.links[link.0 as usize].bytes
}

fn drain(outbox: &mut Outbox, link: LinkId) -> Vec<String> {
    let mut frames = vec![];
    while let Some(frame) = front(outbox, link) {
        frames.push(String::from_utf8(frame.to_vec()).unwrap());
        outbox.pop(link);
    }
    assert_eq!((bytes(outbox, link), outbox.is_empty(link)), (0, true));
    frames
}

fn assert_empty(outbox: &Outbox) {
    assert_eq!(outbox.pool.bytes_used(), 0);
    assert!(outbox.newest.is_empty());
    let count = |mut at: u32, next: &dyn Fn(u32) -> u32| {
        let mut count = 0;
        while at != NONE {
            (at, count) = (next(at), count + 1);
        }
        count
    };
    let entries = count(outbox.vacant_entry, &|at| outbox.entries[at as usize].next);
    let frames = count(outbox.vacant_frame, &|at| outbox.frames[at as usize].references);
    assert_eq!((entries, frames), (outbox.entries.len(), outbox.frames.len()));
}

#[test]
fn a_frame_waits_since_it_came_and_a_newer_value_since_that_came() {
    let mut outbox = roomy();
    let pushes = [(1, param(1), "old"), (2, EVENT, "go"), (3, param(1), "new")];
    for (at, kind, frame) in pushes {
        outbox.begin(Time(at));
        let _ = push(&mut outbox, A, kind, frame);
    }
    let mut left = Vec::new();
    while let Some(frame) = front(&outbox, A) {
        left.push((frame.to_vec(), outbox.front_since(A)));
        outbox.pop(A);
    }
    left.sort();
    assert_eq!(left, [(b"go".to_vec(), Some(Time(2))), (b"new".to_vec(), Some(Time(3)))]);
    assert_eq!(outbox.front_since(A), None);
}

#[test]
fn a_newer_value_takes_the_place_of_the_one_that_waits() {
    let mut outbox = roomy();
    let (x, y) = (param(1), param(2));
    assert_eq!(push(&mut outbox, A, x, "x1"), Push::Kept);
    assert_eq!(push(&mut outbox, A, Kind::Reply, "reply"), Push::Kept);
    assert_eq!(push(&mut outbox, A, y, "y1"), Push::Kept);
    assert_eq!(push(&mut outbox, B, x, "x1"), Push::Kept);
    assert_eq!(push(&mut outbox, A, x, "x2 longer"), Push::Replaced);
    assert_eq!(bytes(&outbox, A), 16);
    assert_eq!(drain(&mut outbox, A), ["x2 longer", "reply", "y1"]);
    assert_eq!(push(&mut outbox, A, x, "x3"), Push::Kept, "what left is not replaced");
}

#[test]
fn a_value_does_not_overtake_a_snapshot() {
    for critical in [false, true] {
        let mut outbox = roomy();
        let x = Class::new(param(1), critical, ONE);
        for (frame, expected) in [("x1", Push::Kept), ("x2", Push::Replaced)] {
            assert_eq!(outbox.push(A, x, frame.as_bytes(), &mut None), expected);
        }
        let _ = push_by(&mut outbox, A, Kind::Snapshot, None, "snapshot with x2");
        for (frame, expected) in [("x3", Push::Kept), ("x4", Push::Replaced)] {
            assert_eq!(outbox.push(A, x, frame.as_bytes(), &mut None), expected);
        }
        assert_eq!(drain(&mut outbox, A), ["x2", "snapshot with x2", "x4"]);
        assert_empty(&outbox);
    }
}

#[test]
fn a_move_does_not_overtake_the_end_of_its_gesture() {
    let mut outbox = roomy();
    for (kind, frame, expected) in [
        (move_of(1), "move 1", Push::Kept),
        (move_of(1), "move 2", Push::Replaced),
        (param(1), "a param of the same key", Push::Kept),
        (Kind::Reply, "a reply", Push::Kept),
        (turn(2), "another gesture", Push::Kept),
        (move_of(1), "move 3", Push::Replaced),
        (turn(1), "end", Push::Kept),
        (move_of(1), "move 4", Push::Kept),
        (move_of(1), "move 5", Push::Replaced),
    ] {
        assert_eq!(push(&mut outbox, A, kind, frame), expected, "{frame}");
    }
    let expected =
        ["a param of the same key", "a reply", "another gesture", "move 3", "end", "move 5"];
    assert_eq!(drain(&mut outbox, A), expected);
    assert_empty(&outbox);
}

#[test]
fn an_event_overtakes_samples_moves_and_what_other_sessions_wrote() {
    let mut outbox = roomy();
    for (kind, writer, frame) in [
        (stream(1), ONE, "sample"),
        (move_of(1), ONE, "move"),
        (param(1), ONE, "own param"),
        (param(2), TWO, "param of two"),
        (Kind::Reply, None, "reply"),
        (EVENT, ONE, "go"),
        (param(3), ONE, "param after it"),
        (EVENT, TWO, "go of two"),
        (EVENT, None, "go of nobody"),
    ] {
        assert_eq!(push_by(&mut outbox, A, kind, writer, frame), Push::Kept, "{frame}");
    }
    let order = [
        "own param",
        "go",
        "param of two",
        "go of two",
        "go of nobody",
        "reply",
        "param after it",
        "sample",
        "move",
    ];
    assert_eq!(drain(&mut outbox, A), order);
    assert_empty(&outbox);
}

#[test]
fn an_event_does_not_overtake_a_param_of_its_address_or_one_whose_place_its_session_took() {
    let mut outbox = roomy();
    let _ = push_by(&mut outbox, A, param(1), TWO, "x of two");
    let _ = push_by(&mut outbox, A, param(99), TWO, "of the same address");
    let _ = push_by(&mut outbox, A, param(2), TWO, "y of two");
    let _ = push_by(&mut outbox, A, param(3), TWO, "z of two");
    assert_eq!(push_by(&mut outbox, A, EVENT, ONE, "go"), Push::Kept);
    assert_eq!(push_by(&mut outbox, A, param(2), ONE, "y of one"), Push::Replaced);
    assert_eq!(push_by(&mut outbox, A, EVENT, ONE, "go on"), Push::Kept);
    let order = ["x of two", "of the same address", "go", "y of one", "go on", "z of two"];
    assert_eq!(drain(&mut outbox, A), order);
    assert_empty(&outbox);
}

#[test]
fn what_the_settings_call_critical_overtakes_and_is_never_dropped() {
    let mut outbox = Outbox::new(&limits(30, 100, 10_000));
    let critical = |kind| Class::new(kind, true, ONE);
    for (class, frame) in [
        (Class::new(param(1), false, TWO), "1"),
        (Class::new(stream(1), false, TWO), "2"),
        (critical(stream(2)), "a"),
        (critical(stream(2)), "b"),
        (critical(param(3)), "c"),
        (critical(turn(4)), "d"),
        (critical(move_of(4)), "e"),
        (critical(turn(4)), "f"),
    ] {
        assert_eq!(outbox.push(A, class, frame.as_bytes(), &mut None), Push::Kept, "{frame}");
    }
    let long = "a frame of 25 bytes, long";
    let pushed = outbox.push(A, critical(stream(2)), long.as_bytes(), &mut None);
    assert_eq!(pushed, Push::MustClose, "rather than to lose one");
    assert_eq!(drain(&mut outbox, A), ["a", "b", "c", "d", "e", "f", "1"]);
    assert_empty(&outbox);
}

#[test]
fn samples_with_a_newer_one_behind_them_make_room_first_then_the_oldest() {
    let mut outbox = Outbox::new(&limits(10, 100, 10_000));
    for (kind, frame, expected) in [
        (stream(1), "a1", Push::Kept),
        (stream(2), "b1", Push::Kept),
        (stream(2), "b2", Push::Kept),
        (stream(1), "a2", Push::Kept),
        (stream(3), "c1", Push::Kept),
        (stream(3), "c2", Push::DroppedStream(1)),
        (stream(4), "d1", Push::DroppedStream(1)),
    ] {
        assert_eq!(push(&mut outbox, A, kind, frame), expected, "{frame}");
    }
    // b1 went first, because b2 came before a2; then a1. The next is c1, then the oldest.
    assert_eq!(push(&mut outbox, A, stream(5), "e12"), Push::DroppedStream(2));
    assert_eq!(drain(&mut outbox, A), ["a2", "c2", "d1", "e12"]);
    assert_empty(&outbox);
}

#[test]
fn samples_make_room_for_what_may_not_be_dropped() {
    let mut outbox = Outbox::new(&limits(10, 100, 10_000));
    for (kind, frame, expected) in [
        (stream(1), "s01", Push::Kept),
        (Kind::Reply, "k", Push::Kept),
        (stream(1), "s02", Push::Kept),
        (stream(1), "s03", Push::Kept),
        (stream(1), "s04", Push::DroppedStream(1)),
        (EVENT, "keep", Push::DroppedStream(2)),
        (stream(1), "12345678901", Push::DroppedStream(1)),
        (stream(1), "sample", Push::DroppedStream(2)),
        (move_of(1), "12345", Push::Kept),
        (move_of(1), "123456", Push::DroppedStream(1)),
        (param(1), "123456", Push::MustClose),
        (EVENT, "123456", Push::MustClose),
    ] {
        assert_eq!(push(&mut outbox, A, kind, frame), expected, "{frame}");
    }
    assert_eq!(drain(&mut outbox, A), ["k", "keep"]);
    assert_empty(&outbox);
}

#[test]
fn when_no_entry_is_left_a_link_drops_only_its_own_samples() {
    let mut outbox = Outbox::new(&limits(1_000, 2, 10_000));
    assert_eq!(push(&mut outbox, A, stream(1), "a"), Push::Kept);
    assert_eq!(push(&mut outbox, B, param(1), "b1"), Push::Kept);
    assert_eq!(push(&mut outbox, B, stream(1), "b2"), Push::DroppedStream(1));
    assert_eq!(push(&mut outbox, B, EVENT, "b3"), Push::MustClose);
    assert_eq!(push(&mut outbox, B, param(1), "b4"), Push::Replaced);
    assert_eq!(push(&mut outbox, A, EVENT, "c"), Push::DroppedStream(1));
    assert_eq!(
        (drain(&mut outbox, A), drain(&mut outbox, B)),
        (vec!["c".into()], vec!["b4".into()])
    );
    assert_empty(&outbox);
}

#[test]
fn links_share_the_frame_they_wait_for() {
    let mut outbox = roomy();
    let mut shared = None;
    for link in [A, B, LinkId(2)] {
        assert_eq!(outbox.push(link, Class::REPLY, &[7; 200], &mut shared), Push::Kept);
    }
    assert_eq!(outbox.pool.bytes_used(), 208);
    outbox.clear(A);
    outbox.clear(B);
    assert_eq!(front(&outbox, LinkId(2)), Some(&[7; 200][..]));
    outbox.clear(LinkId(2));
    assert_empty(&outbox);
    // The fan-out goes on although nobody kept its frame.
    let mut other = None;
    assert_eq!(outbox.push(A, Class::REPLY, &[8; 200], &mut other), Push::Kept);
    assert_eq!(outbox.push(B, Class::REPLY, &[7; 200], &mut shared), Push::Kept);
    assert_eq!(front(&outbox, A), Some(&[8; 200][..]));
    assert_eq!(front(&outbox, B), Some(&[7; 200][..]));
}

#[test]
fn the_only_frame_of_a_full_pool_can_be_replaced() {
    let mut outbox = Outbox::new(&limits(1_000, 4, 128));
    let x = param(1);
    assert_eq!(push_bytes(&mut outbox, A, x, &[1; 100]), Push::Kept);
    assert_eq!(push_bytes(&mut outbox, A, x, &[2; 120]), Push::Replaced);
    assert_eq!(push_bytes(&mut outbox, A, x, &[3; 121]), Push::MustClose);
    assert_empty(&outbox);
}

#[derive(Clone, Debug)]
enum Step {
    Push { links: Vec<u32>, class: Class, len: usize },
    Pop(u32),
}

fn classes() -> impl Strategy<Value = Class> {
    let kind = prop_oneof![
        3 => (0..3_u64).prop_map(param),
        3 => (0..3_u64).prop_map(stream),
        2 => (0..2_u64).prop_map(move_of),
        1 => (0..2_u64).prop_map(turn),
        2 => (0..3_u64).prop_map(|key| Kind::Event { key }),
        1 => Just(Kind::Snapshot),
        1 => Just(Kind::Reply),
    ];
    let writer = prop_oneof![1 => Just(None), 4 => (0..3_u8).prop_map(|n| Some(Writer::number(n)))];
    (kind, prop::bool::weighted(0.2), writer).prop_map(|(kind, critical, writer)| match kind {
        Kind::Snapshot | Kind::Reply => Class::new(kind, false, None),
        // A gesture is its session's own.
        Kind::Move { key } | Kind::Turn { key } => {
            Class::new(kind, critical, Some(Writer::number(key as u8)))
        }
        _ => Class::new(kind, critical, writer),
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let links = prop::sample::subsequence(vec![0, 1, 2], 1..=3);
    let step = prop_oneof![
        6 => (links, classes(), 4..40_usize)
            .prop_map(|(links, class, len)| Step::Push { links, class, len }),
        2 => (0..3_u32).prop_map(Step::Pop),
    ];
    prop::collection::vec(step, 0..120)
}

/// One link, without care for time and memory.
#[derive(Default)]
struct Naive {
    /// In the order in which they leave.
    waiting: Vec<Place>,
    snapshots: u32,
    turns: [u32; 2],
    pushes: u32,
}

#[derive(Clone, Debug)]
struct Place {
    kind: Kind,
    rank: Rank,
    /// All whose frames came here.
    writers: Vec<Writer>,
    /// What must not have changed for another one to take this place.
    fence: u32,
    /// Since when a newer sample of its address waits.
    stale: Option<u32>,
    frame: Vec<u8>,
}

impl Naive {
    fn position(&self, kind: Kind) -> Option<usize> {
        self.waiting.iter().rposition(|place| place.kind == kind)
    }

    /// Moves `range` of what waits to the end of the queue of `rank`.
    fn bring(&mut self, range: std::ops::Range<usize>, rank: Rank) {
        let mut moved: Vec<Place> = self.waiting.drain(range).collect();
        moved.iter_mut().for_each(|place| place.rank = rank);
        let end = self.end_of(rank);
        self.waiting.splice(end..end, moved);
    }

    fn end_of(&self, rank: Rank) -> usize {
        self.waiting.partition_point(|place| place.rank <= rank)
    }

    fn order(&mut self, class: Class) {
        if class.rank == Rank::Critical {
            let stays_behind = |place: &Place| {
                let own = class.writer.is_some_and(|writer| place.writers.contains(&writer));
                let same = match class.kind {
                    Kind::Event { key } => place.kind == Kind::Param { key },
                    Kind::Param { .. } => place.kind == class.kind || place.kind == Kind::Snapshot,
                    _ => false,
                };
                place.rank == Rank::Ordinary && (own || same)
            };
            if let Some(last) = self.waiting.iter().rposition(stays_behind) {
                let first = self.end_of(Rank::Critical);
                self.bring(first..last + 1, Rank::Critical);
            }
        }
        let brought = match class.kind {
            Kind::Turn { key } => self.position(Kind::Move { key }),
            Kind::Move { .. } if class.rank == Rank::Critical => self.position(class.kind),
            _ => None,
        };
        // Moves before the last turn of their gesture left with it.
        if let Some(at) = brought.filter(|&at| self.waiting[at].rank == Rank::Sample) {
            self.bring(at..at + 1, class.rank);
        }
    }

    fn push(
        &mut self,
        class: Class,
        frame: Vec<u8>,
        bytes_max: usize,
        entries_left: usize,
    ) -> Push {
        self.order(class);
        self.pushes += 1;
        self.snapshots += u32::from(class.kind == Kind::Snapshot);
        let fence = match class.kind {
            Kind::Param { .. } => self.snapshots,
            Kind::Move { key } => self.turns[key as usize],
            _ => 0,
        };
        if let Kind::Turn { key } = class.kind {
            self.turns[key as usize] += 1;
        }
        let replaces = matches!(class.kind, Kind::Param { .. } | Kind::Move { .. });
        let same = self.position(class.kind);
        let older = same.filter(|&at| replaces && self.waiting[at].fence == fence);
        if let Some(at) = older {
            self.waiting[at].frame.clear();
        }
        if let (Kind::Stream { .. }, Some(at)) = (class.kind, same) {
            self.waiting[at].stale = Some(self.pushes);
        }
        let mut dropped = 0;
        loop {
            let bytes: usize = self.waiting.iter().map(|place| place.frame.len()).sum();
            let has_entry = older.is_some() || entries_left + dropped > 0;
            if bytes + frame.len() <= bytes_max && has_entry {
                break;
            }
            let samples = || {
                let all = self.waiting.iter().enumerate();
                all.filter(|(_, place)| matches!(place.kind, Kind::Stream { .. }))
            };
            let stale = samples().filter_map(|(at, place)| Some((place.stale?, at))).min();
            let Some(at) = stale.map(|(_, at)| at).or(samples().next().map(|(at, _)| at)) else {
                self.waiting.retain(|place| !place.frame.is_empty());
                return match class.rank {
                    Rank::Sample => Push::DroppedStream(dropped as u32 + 1),
                    _ => Push::MustClose,
                };
            };
            self.waiting.remove(at);
            dropped += 1;
        }
        match self.waiting.iter_mut().find(|place| place.frame.is_empty()) {
            Some(older) => {
                older.frame = frame;
                older.writers.extend(class.writer);
            }
            None => {
                let Class { kind, rank, writer } = class;
                let writers = writer.into_iter().collect();
                let end = self.end_of(rank);
                self.waiting.insert(end, Place { kind, rank, writers, fence, stale: None, frame });
            }
        }
        match (dropped, older) {
            (0, None) => Push::Kept,
            (0, Some(_)) => Push::Replaced,
            (dropped, _) => Push::DroppedStream(dropped as u32),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_outbox_is_its_naive_self(steps in steps()) {
        const LINK_BYTES: u32 = 200;
        const ENTRIES: usize = 20;
        let mut outbox = Outbox::new(&limits(LINK_BYTES, ENTRIES as u32, 100_000));
        let memory_bytes = outbox.memory_bytes();
        let mut naive: [Naive; 3] = Default::default();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { links, class, len } => {
                    let frame = vec![n as u8; len];
                    let mut shared = None;
                    for link in links {
                        let used: usize = naive.iter().map(|naive| naive.waiting.len()).sum();
                        let expected = naive[link as usize].push(
                            class, frame.clone(), LINK_BYTES as usize, ENTRIES - used,
                        );
                        let found = outbox.push(LinkId(link), class, &frame, &mut shared);
                        prop_assert_eq!(found, expected);
                        if found == Push::MustClose {
                            outbox.clear(LinkId(link));
                            naive[link as usize].waiting.clear();
                        }
                    }
                }
                Step::Pop(link) => {
                    outbox.pop(LinkId(link));
                    let waiting = &mut naive[link as usize].waiting;
                    waiting.drain(..waiting.len().min(1));
                }
            }
            for (link, naive) in (0..).zip(&naive) {
                let first = naive.waiting.first().map(|place| &place.frame[..]);
                let expected: usize = naive.waiting.iter().map(|place| place.frame.len()).sum();
                prop_assert_eq!(front(&outbox, LinkId(link)), first);
                prop_assert_eq!(bytes(&outbox, LinkId(link)) as usize, expected);
            }
        }
        for (link, naive) in (0..).zip(&naive) {
            for place in &naive.waiting {
                prop_assert_eq!(front(&outbox, LinkId(link)), Some(&place.frame[..]));
                outbox.pop(LinkId(link));
            }
            prop_assert!(outbox.is_empty(LinkId(link)));
        }
        assert_empty(&outbox);
        prop_assert_eq!(outbox.memory_bytes(), memory_bytes);
    }

    #[test]
    fn a_pool_that_is_too_small_loses_samples_and_moves_only(steps in steps()) {
        let mut outbox = Outbox::new(&limits(10_000, 100, 512));
        let (mut kept, mut newest) = (vec![0; 3], vec![[None; 3]; 3]);
        let (mut arrived, mut last) = (kept.clone(), newest.clone());
        // The first byte of a frame says what it is.
        let mut pop = |outbox: &mut Outbox, link: u32| {
            if let Some(&[kind, n, ..]) = front(outbox, LinkId(link)) {
                match kind {
                    b'k' => arrived[link as usize] += 1,
                    key @ 0..3 => last[link as usize][usize::from(key)] = Some(n),
                    _ => {}
                }
                outbox.pop(LinkId(link));
            }
        };
        let mut closed = [false; 3];
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { links, class, len } => {
                    let mut frame = vec![n as u8; len];
                    frame[0] = match class.kind {
                        Kind::Param { key } => key as u8,
                        Kind::Stream { .. } | Kind::Move { .. } => b's',
                        _ => b'k',
                    };
                    let mut shared = None;
                    for link in links {
                        if closed[link as usize] {
                            continue;
                        }
                        match outbox.push(LinkId(link), class, &frame, &mut shared) {
                            Push::MustClose => {
                                outbox.clear(LinkId(link));
                                closed[link as usize] = true;
                            }
                            _ => match class.kind {
                                Kind::Param { key } => {
                                    newest[link as usize][key as usize] = Some(n as u8);
                                }
                                Kind::Stream { .. } | Kind::Move { .. } => {}
                                _ => kept[link as usize] += 1,
                            },
                        }
                    }
                }
                Step::Pop(link) => pop(&mut outbox, link),
            }
        }
        for link in 0..3 {
            while !outbox.is_empty(LinkId(link)) {
                pop(&mut outbox, link);
            }
        }
        for link in (0..3).filter(|&link| !closed[link]) {
            prop_assert_eq!(arrived[link], kept[link]);
            prop_assert_eq!(last[link], newest[link]);
        }
        assert_empty(&outbox);
    }
}
