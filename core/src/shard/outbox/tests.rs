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

fn push(outbox: &mut Outbox, link: LinkId, class: Class, frame: &str) -> Push {
    outbox.push(link, class, frame.as_bytes(), &mut None)
}

fn bytes(outbox: &Outbox, link: LinkId) -> u32 {
    outbox.links[link.0 as usize].bytes
}

fn drain(outbox: &mut Outbox, link: LinkId) -> Vec<String> {
    let mut frames = vec![];
    while let Some(frame) = outbox.front(link) {
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
fn a_newer_value_takes_the_place_of_the_one_that_waits() {
    let mut outbox = roomy();
    let (x, y) = (Class::Param { key: 1 }, Class::Param { key: 2 });
    assert_eq!(push(&mut outbox, A, x, "x1"), Push::Kept);
    assert_eq!(push(&mut outbox, A, Class::Keep, "event"), Push::Kept);
    assert_eq!(push(&mut outbox, A, y, "y1"), Push::Kept);
    assert_eq!(push(&mut outbox, B, x, "x1"), Push::Kept);
    assert_eq!(push(&mut outbox, A, x, "x2 longer"), Push::Replaced);
    assert_eq!(bytes(&outbox, A), 16);
    assert_eq!(drain(&mut outbox, A), ["x2 longer", "event", "y1"]);
    assert_eq!(push(&mut outbox, A, x, "x3"), Push::Kept, "what left is not replaced");
}

#[test]
fn a_value_does_not_overtake_a_snapshot() {
    let mut outbox = roomy();
    let x = Class::Param { key: 1 };
    for (frame, expected) in [("x1", Push::Kept), ("x2", Push::Replaced)] {
        assert_eq!(push(&mut outbox, A, x, frame), expected);
    }
    let _ = push(&mut outbox, A, Class::Keep, "snapshot with x2");
    outbox.barrier(A);
    for (frame, expected) in [("x3", Push::Kept), ("x4", Push::Replaced)] {
        assert_eq!(push(&mut outbox, A, x, frame), expected);
    }
    assert_eq!(drain(&mut outbox, A), ["x2", "snapshot with x2", "x4"]);
    assert_empty(&outbox);
}

#[test]
fn a_move_does_not_overtake_the_end_of_its_gesture() {
    let mut outbox = roomy();
    let touch = Class::Move { key: 1 };
    for (class, frame, expected) in [
        (touch, "move 1", Push::Kept),
        (touch, "move 2", Push::Replaced),
        (Class::Param { key: 1 }, "a param of the same key", Push::Kept),
        (Class::Keep, "an event", Push::Kept),
        (Class::Turn { key: 2 }, "another gesture", Push::Kept),
        (touch, "move 3", Push::Replaced),
        (Class::Turn { key: 1 }, "end", Push::Kept),
        (touch, "move 4", Push::Kept),
        (touch, "move 5", Push::Replaced),
    ] {
        assert_eq!(push(&mut outbox, A, class, frame), expected, "{frame}");
    }
    let expected =
        ["move 3", "a param of the same key", "an event", "another gesture", "end", "move 5"];
    assert_eq!(drain(&mut outbox, A), expected);
}

#[test]
fn the_oldest_samples_make_room() {
    let mut outbox = Outbox::new(&limits(10, 100, 10_000));
    for (class, frame, expected) in [
        (Class::Stream, "s01", Push::Kept),
        (Class::Keep, "k", Push::Kept),
        (Class::Stream, "s02", Push::Kept),
        (Class::Stream, "s03", Push::Kept),
        (Class::Stream, "s04", Push::DroppedStream(1)),
        (Class::Keep, "keep", Push::DroppedStream(2)),
        (Class::Stream, "12345678901", Push::DroppedStream(1)),
        (Class::Stream, "sample", Push::DroppedStream(2)),
        (Class::Move { key: 1 }, "12345", Push::Kept),
        (Class::Move { key: 1 }, "123456", Push::DroppedStream(1)),
        (Class::Param { key: 1 }, "123456", Push::MustClose),
        (Class::Keep, "123456", Push::MustClose),
    ] {
        assert_eq!(push(&mut outbox, A, class, frame), expected, "{frame}");
    }
    assert_eq!(drain(&mut outbox, A), ["k", "keep"]);
    assert_empty(&outbox);
}

#[test]
fn when_no_entry_is_left_a_link_drops_only_its_own_samples() {
    let mut outbox = Outbox::new(&limits(1_000, 2, 10_000));
    assert_eq!(push(&mut outbox, A, Class::Stream, "a"), Push::Kept);
    assert_eq!(push(&mut outbox, B, Class::Param { key: 1 }, "b1"), Push::Kept);
    assert_eq!(push(&mut outbox, B, Class::Stream, "b2"), Push::DroppedStream(1));
    assert_eq!(push(&mut outbox, B, Class::Keep, "b3"), Push::MustClose);
    assert_eq!(push(&mut outbox, B, Class::Param { key: 1 }, "b4"), Push::Replaced);
    assert_eq!(push(&mut outbox, A, Class::Keep, "c"), Push::DroppedStream(1));
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
        assert_eq!(outbox.push(link, Class::Keep, &[7; 200], &mut shared), Push::Kept);
    }
    assert_eq!(outbox.pool.bytes_used(), 208);
    outbox.clear(A);
    outbox.clear(B);
    assert_eq!(outbox.front(LinkId(2)), Some(&[7; 200][..]));
    outbox.clear(LinkId(2));
    assert_empty(&outbox);
    // The fan-out goes on although nobody kept its frame.
    let mut other = None;
    assert_eq!(outbox.push(A, Class::Keep, &[8; 200], &mut other), Push::Kept);
    assert_eq!(outbox.push(B, Class::Keep, &[7; 200], &mut shared), Push::Kept);
    assert_eq!(outbox.front(A), Some(&[8; 200][..]));
    assert_eq!(outbox.front(B), Some(&[7; 200][..]));
}

#[test]
fn the_only_frame_of_a_full_pool_can_be_replaced() {
    let mut outbox = Outbox::new(&limits(1_000, 4, 128));
    let x = Class::Param { key: 1 };
    assert_eq!(outbox.push(A, x, &[1; 100], &mut None), Push::Kept);
    assert_eq!(outbox.push(A, x, &[2; 120], &mut None), Push::Replaced);
    assert_eq!(outbox.push(A, x, &[3; 121], &mut None), Push::MustClose);
    assert_empty(&outbox);
}

#[derive(Clone, Debug)]
enum Step {
    Push { links: Vec<u32>, class: Class, len: usize },
    Pop(u32),
    Barrier(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = prop_oneof![
        3 => (0..3_u64).prop_map(|key| Class::Param { key }),
        2 => Just(Class::Stream),
        2 => (0..2_u64).prop_map(|key| Class::Move { key }),
        1 => (0..2_u64).prop_map(|key| Class::Turn { key }),
        2 => Just(Class::Keep),
    ];
    let links = prop::sample::subsequence(vec![0, 1, 2], 1..=3);
    let step = prop_oneof![
        6 => (links, class, 4..40_usize)
            .prop_map(|(links, class, len)| Step::Push { links, class, len }),
        2 => (0..3_u32).prop_map(Step::Pop),
        1 => (0..3_u32).prop_map(Step::Barrier),
    ];
    prop::collection::vec(step, 0..120)
}

/// One link, without care for time and memory: what waits, with the fence it came behind.
#[derive(Default)]
struct Naive {
    waiting: Vec<(Class, u32, Vec<u8>)>,
    barriers: u32,
    turns: [u32; 2],
}

impl Naive {
    fn push(
        &mut self,
        class: Class,
        frame: Vec<u8>,
        bytes_max: usize,
        entries_left: usize,
    ) -> Push {
        let (fence, replaces) = match class {
            Class::Param { .. } => (self.barriers, true),
            Class::Move { key } => (self.turns[key as usize], true),
            _ => (0, false),
        };
        if let Class::Turn { key } = class {
            self.turns[key as usize] += 1;
        }
        let older = self.waiting.iter().rposition(|(c, _, _)| *c == class);
        let older = older.filter(|&at| replaces && self.waiting[at].1 == fence);
        if let Some(at) = older {
            self.waiting[at].2.clear();
        }
        let mut dropped = 0;
        loop {
            let bytes: usize = self.waiting.iter().map(|(_, _, frame)| frame.len()).sum();
            let has_entry = older.is_some() || entries_left + dropped > 0;
            if bytes + frame.len() <= bytes_max && has_entry {
                break;
            }
            let oldest = self.waiting.iter().position(|(c, _, _)| *c == Class::Stream);
            let Some(oldest) = oldest else {
                self.waiting.retain(|(_, _, frame)| !frame.is_empty());
                return match class {
                    Class::Param { .. } | Class::Turn { .. } | Class::Keep => Push::MustClose,
                    _ => Push::DroppedStream(dropped as u32 + 1),
                };
            };
            self.waiting.remove(oldest);
            dropped += 1;
        }
        match self.waiting.iter_mut().find(|(_, _, frame)| frame.is_empty()) {
            Some(older) => older.2 = frame,
            None => self.waiting.push((class, fence, frame)),
        }
        match (dropped, older) {
            (0, None) => Push::Kept,
            (0, Some(_)) => Push::Replaced,
            (dropped, _) => Push::DroppedStream(dropped as u32),
        }
    }
}

proptest! {
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
                Step::Barrier(link) => {
                    outbox.barrier(LinkId(link));
                    naive[link as usize].barriers += 1;
                }
            }
            for (link, naive) in (0..).zip(&naive) {
                let front = naive.waiting.first().map(|(_, _, frame)| &frame[..]);
                let expected: usize = naive.waiting.iter().map(|(_, _, frame)| frame.len()).sum();
                prop_assert_eq!(outbox.front(LinkId(link)), front);
                prop_assert_eq!(bytes(&outbox, LinkId(link)) as usize, expected);
            }
        }
        for (link, naive) in (0..).zip(&naive) {
            for (_, _, frame) in &naive.waiting {
                prop_assert_eq!(outbox.front(LinkId(link)), Some(&frame[..]));
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
        let (mut kept, mut newest) = (vec![vec![]; 3], vec![[None; 3]; 3]);
        let (mut arrived, mut last) = (kept.clone(), newest.clone());
        // The first byte of a frame says what it is.
        let mut pop = |outbox: &mut Outbox, link: u32| {
            if let Some(&[kind, n, ..]) = outbox.front(LinkId(link)) {
                match kind {
                    b'k' => arrived[link as usize].push(n),
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
                    frame[0] = match class {
                        Class::Keep | Class::Turn { .. } => b'k',
                        Class::Param { key } => key as u8,
                        Class::Stream | Class::Move { .. } => b's',
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
                            _ => match class {
                                Class::Keep | Class::Turn { .. } => {
                                    kept[link as usize].push(n as u8);
                                }
                                Class::Param { key } => {
                                    newest[link as usize][key as usize] = Some(n as u8);
                                }
                                Class::Stream | Class::Move { .. } => {}
                            },
                        }
                    }
                }
                Step::Pop(link) => pop(&mut outbox, link),
                Step::Barrier(link) => outbox.barrier(LinkId(link)),
            }
        }
        for link in 0..3 {
            while !outbox.is_empty(LinkId(link)) {
                pop(&mut outbox, link);
            }
        }
        for link in (0..3).filter(|&link| !closed[link]) {
            prop_assert_eq!(&arrived[link], &kept[link]);
            prop_assert_eq!(last[link], newest[link]);
        }
        assert_empty(&outbox);
    }
}
