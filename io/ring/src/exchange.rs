//! Byte rings between threads: one writer, one reader, records with stamps, and who is asleep.
//!
//! A record is `u32 length, u64 stamp, note, bytes`, published as a whole. Stamps are Lamport
//! clocks: what a thread pushes after it popped a record has a higher stamp than that record. A
//! reader that takes the records of several rings from one picture of all of them
//! ([`Inbound::look`]), lowest stamp first, therefore never handles an effect before its cause.
//! Notes are the writer's own, carried as they are.

use std::os::fd::RawFd;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::sync::{AtomicBool, AtomicI32, Ordering, fence};

/// What a record costs beside its bytes.
pub const RECORD_HEADER_BYTES: usize = 12 + NOTE_BYTES;

/// What a writer wants to go along with a record, such as when it began.
pub type Note = [u8; NOTE_BYTES];

const NOTE_BYTES: usize = 12;

/// Nothing goes along.
pub const NO_NOTE: Note = [0; NOTE_BYTES];

/// Room for a copy of one record: the longest frame and what goes with it. Longer ones grow it.
const RECORD_BYTES: usize = 72 << 10;

/// Pictures taken before giving up for this turn. Writers that never pause fill their rings and
/// then must; so one is taken in the end.
const LOOKS_MAX: usize = 64;

/// A ring of `bytes`, from one thread to another.
pub fn pair(bytes: usize) -> (Sender, Receiver) {
    assert!(bytes > RECORD_HEADER_BYTES, "room for one record at least");
    let (writer, reader) = RingBuffer::new(bytes);
    let record = Vec::with_capacity(RECORD_BYTES.min(bytes));
    let receiver = Receiver { ring: reader, taken: 0, record, head: None, note: NO_NOTE };
    (Sender { ring: writer }, receiver)
}

/// A ring from every thread to every other: for each thread what it sends by and what it receives
/// by.
pub fn mesh(threads: usize, bytes: usize) -> Vec<(Vec<Option<Sender>>, Inbound)> {
    let mut senders: Vec<Vec<Option<Sender>>> = (0..threads).map(|_| Vec::new()).collect();
    let mut inbounds = Vec::with_capacity(threads);
    for to in 0..threads {
        let mut receivers = Vec::with_capacity(threads);
        for (from, senders) in senders.iter_mut().enumerate() {
            let (sender, receiver) = if from == to { (None, None) } else { split(pair(bytes)) };
            senders.push(sender);
            receivers.push(receiver);
        }
        inbounds.push(Inbound::new(receivers));
    }
    senders.into_iter().zip(inbounds).collect()
}

fn split((sender, receiver): (Sender, Receiver)) -> (Option<Sender>, Option<Receiver>) {
    (Some(sender), Some(receiver))
}

/// A thread's Lamport clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps(u64);

impl Stamps {
    /// The stamp of what is pushed now.
    pub fn tick(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    /// Takes note of a popped record, so that whatever is pushed from now on comes after it.
    pub fn heard(&mut self, stamp: u64) {
        self.0 = self.0.max(stamp);
    }
}

/// The writing end.
#[derive(Debug)]
pub struct Sender {
    ring: Producer<u8>,
}

impl Sender {
    /// Free bytes. A record takes [`RECORD_HEADER_BYTES`] more than its own.
    pub fn room(&self) -> usize {
        self.ring.slots()
    }

    /// Whether `bytes` are free. Looks at the reader's side only when its last known state says no.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.ring.cached_slots() >= bytes || self.ring.slots() >= bytes
    }

    /// Appends a record, or does nothing and says `false` when it does not fit.
    #[must_use]
    pub fn push(&mut self, stamp: u64, record: &[u8]) -> bool {
        self.push_noted(stamp, NO_NOTE, record)
    }

    /// The same, with a note that the reader finds beside the record.
    #[must_use]
    pub fn push_noted(&mut self, stamp: u64, note: Note, record: &[u8]) -> bool {
        let len = u32::try_from(record.len()).expect("a record is shorter than its ring");
        let Ok(mut chunk) = self.ring.write_chunk(RECORD_HEADER_BYTES + record.len()) else {
            return false;
        };
        let mut header = [0; RECORD_HEADER_BYTES];
        header[..4].copy_from_slice(&len.to_le_bytes());
        header[4..12].copy_from_slice(&stamp.to_le_bytes());
        header[12..].copy_from_slice(&note);
        let (first, second) = chunk.as_mut_slices();
        fill(first, second, &header, record);
        // One store of the tail: a reader sees the whole record or nothing of it.
        chunk.commit_all();
        true
    }

    /// Whether the reader is gone.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

/// Writes `header` and `record` over two pieces that are as long as both together.
fn fill(first: &mut [u8], second: &mut [u8], header: &[u8], record: &[u8]) {
    if second.is_empty() {
        let (head, body) = first.split_at_mut(header.len());
        head.copy_from_slice(header);
        body.copy_from_slice(record);
        return;
    }
    let places = first.iter_mut().chain(second);
    places.zip(header.iter().chain(record)).for_each(|(place, byte)| *place = *byte);
}

/// The reading end.
#[derive(Debug)]
pub struct Receiver {
    ring: Consumer<u8>,
    /// Bytes ever taken out of the ring.
    taken: u64,
    /// The oldest record, copied out so that it lies in one piece; valid while `head` is some.
    record: Vec<u8>,
    head: Option<u64>,
    /// Goes with `head`.
    note: Note,
}

impl Receiver {
    /// The oldest record with its stamp.
    pub fn peek(&mut self) -> Option<(u64, &[u8])> {
        let stamp = self.load()?;
        Some((stamp, &self.record))
    }

    /// Drops the record that `peek` showed.
    pub fn pop(&mut self) {
        self.head = None;
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_none() && self.ring.is_empty()
    }

    /// Whether the writer is gone and nothing is left.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned() && self.is_empty()
    }

    /// Copies the oldest record out of the ring, unless that is done already.
    fn load(&mut self) -> Option<u64> {
        if self.head.is_some() {
            return self.head;
        }
        let mut header = [0; RECORD_HEADER_BYTES];
        self.ring.pop_entire_slice(&mut header).ok()?;
        let [a, b, c, d, s0, s1, s2, s3, s4, s5, s6, s7, note @ ..] = header;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let stamp = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let chunk = self.ring.read_chunk(len).expect("records are published as a whole");
        let (first, second) = chunk.as_slices();
        self.record.clear();
        self.record.extend_from_slice(first);
        self.record.extend_from_slice(second);
        chunk.commit_all();
        self.taken += (RECORD_HEADER_BYTES + len) as u64;
        self.head = Some(stamp);
        self.note = note;
        self.head
    }

    /// Bytes ever pushed, as far as they can be seen now.
    fn seen(&self) -> u64 {
        self.taken + self.ring.slots() as u64
    }
}

/// The reading ends of several rings, taken as one.
#[derive(Debug)]
pub struct Inbound {
    receivers: Vec<Option<Receiver>>,
    /// For each ring, the bytes that the last picture held.
    ends: Vec<u64>,
    /// The same, as seen last.
    round: Vec<u64>,
    heads: Vec<Option<u64>>,
}

impl Inbound {
    /// Ring `n` comes from thread `n`; a thread has none from itself.
    pub fn new(receivers: Vec<Option<Receiver>>) -> Self {
        let rings = receivers.len();
        Self { receivers, ends: vec![0; rings], round: vec![0; rings], heads: vec![None; rings] }
    }

    pub fn is_empty(&self) -> bool {
        self.receivers.iter().flatten().all(Receiver::is_empty)
    }

    /// Takes a picture of all rings at one instant; [`Inbound::peek`] stays inside it.
    ///
    /// Ring for ring, what is seen may be an effect whose cause was pushed into a ring that was
    /// looked at before. When writers are too busy for a picture, the one before remains.
    pub fn look(&mut self) {
        let Self { receivers, ends, round, .. } = self;
        let seen = |ring: usize| receivers[ring].as_ref().map_or(0, Receiver::seen);
        if picture(round, seen) {
            ends.copy_from_slice(round);
        }
    }

    /// The record with the lowest stamp inside the picture, and which thread it is from.
    pub fn peek(&mut self) -> Option<(usize, u64, &[u8])> {
        self.peek_noted().map(|(from, stamp, _, record)| (from, stamp, record))
    }

    /// The same, with the note between stamp and record.
    pub fn peek_noted(&mut self) -> Option<(usize, u64, Note, &[u8])> {
        let rings = self.receivers.iter_mut().zip(&self.ends);
        for ((receiver, end), head) in rings.zip(&mut self.heads) {
            *head = receiver.as_mut().and_then(|receiver| {
                let inside = receiver.head.is_some() || receiver.taken < *end;
                if inside { receiver.load() } else { None }
            });
        }
        let from = oldest(&self.heads)?;
        let receiver = self.receivers.get_mut(from)?.as_mut()?;
        let stamp = receiver.head?;
        Some((from, stamp, receiver.note, &receiver.record))
    }

    /// Drops the record that `peek` showed.
    pub fn pop(&mut self, from: usize) {
        if let Some(Some(receiver)) = self.receivers.get_mut(from) {
            receiver.pop();
        }
    }
}

/// Which head is next: the lowest stamp, and of equal ones the lowest thread.
fn oldest(heads: &[Option<u64>]) -> Option<usize> {
    let heads = heads.iter().enumerate();
    heads.filter_map(|(from, head)| Some(((*head)?, from))).min().map(|(_, from)| from)
}

/// Fills `round` with counts that all held at one instant, or says that there was none.
///
/// `round` holds what was seen before. Counts only rise: if a whole round finds the same as the one
/// before it, nothing moved from the end of that one to the start of this.
fn picture(round: &mut [u64], mut seen: impl FnMut(usize) -> u64) -> bool {
    for _ in 0..LOOKS_MAX {
        let mut still = true;
        for (ring, count) in round.iter_mut().enumerate() {
            still &= std::mem::replace(count, seen(ring)) == *count;
        }
        if still {
            return true;
        }
    }
    false
}

/// Whether a thread sleeps in the kernel, and how to wake it. Shared by the thread and its peers.
///
/// The owner says that it will sleep and then looks at its rings once more; a writer pushes and
/// then looks whether the owner sleeps. A fence on both sides makes one of them see the other.
#[derive(Debug)]
pub struct Sleeper {
    asleep: AtomicBool,
    /// The file descriptor of the owner's ring; negative while it has none.
    ring: AtomicI32,
}

impl Sleeper {
    pub fn new() -> Self {
        Self { asleep: AtomicBool::new(false), ring: AtomicI32::new(-1) }
    }

    /// The owner has a ring: [`crate::Ring::number`].
    pub fn attach(&self, ring: RawFd) {
        self.ring.store(ring, Ordering::Release);
    }

    /// The owner's ring is about to be closed.
    pub fn detach(&self) {
        self.ring.store(-1, Ordering::Release);
    }

    /// The owner will sleep, unless its rings turn out not to be empty after this.
    pub fn doze(&self) {
        // A swap, because it comes after whatever a writer last did to the flag in every order that
        // loom tries; a store would too, but only by an argument that loom does not follow.
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// The owner does not sleep, or not any more.
    pub fn rouse(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// After a push: the ring to wake the owner by, if it sleeps and nobody else wakes it already.
    pub(crate) fn call(&self) -> Option<RawFd> {
        fence(Ordering::SeqCst);
        if !self.asleep.load(Ordering::Relaxed) || !self.asleep.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(self.ring.load(Ordering::Acquire)).filter(|ring| *ring >= 0)
    }
}

impl Default for Sleeper {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_out_whole_wherever_the_ring_ends() {
        let (mut sender, mut receiver) = pair(64);
        for turn in 0_u8..200 {
            let record = vec![turn; usize::from(turn % 40)];
            assert!(sender.push(u64::from(turn), &record));
            assert_eq!(receiver.peek(), Some((u64::from(turn), &record[..])));
            assert_eq!(
                receiver.peek(),
                Some((u64::from(turn), &record[..])),
                "held and offered again"
            );
            receiver.pop();
            assert!(receiver.is_empty());
        }
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_no_trace() {
        let (mut sender, mut receiver) = pair(RECORD_HEADER_BYTES + 20);
        assert_eq!(sender.room(), RECORD_HEADER_BYTES + 20);
        assert!(sender.push(1, &[7; 10]));
        assert_eq!(sender.room(), 10);
        assert!(!sender.push(2, b""));
        assert_eq!(receiver.peek(), Some((1, &[7; 10][..])));
        receiver.pop();
        assert_eq!(receiver.peek(), None);
        assert!(sender.push(3, &[8; 20]));
        assert!(!sender.push(3, b""));
    }

    #[test]
    fn a_note_stays_with_its_record() {
        let mut mesh = mesh(2, 256);
        let (_, mut inbound) = mesh.pop().unwrap();
        let (mut out, _) = mesh.pop().unwrap();
        let out = out[1].as_mut().unwrap();
        assert!(out.push_noted(1, [9; NOTE_BYTES], b"a"));
        assert!(out.push(2, b"b"));
        inbound.look();
        let mut taken = Vec::new();
        while let Some((from, stamp, note, _)) = inbound.peek_noted() {
            taken.push((stamp, note));
            inbound.pop(from);
        }
        assert_eq!(taken, [(1, [9; NOTE_BYTES]), (2, NO_NOTE)]);
    }

    #[test]
    fn an_effect_is_stamped_after_its_cause() {
        let (mut near, mut far) = (Stamps::default(), Stamps::default());
        let cause = (0..5).map(|_| far.tick()).last().unwrap();
        near.heard(cause);
        assert!(near.tick() > cause);
        near.heard(1);
        assert_eq!(near.tick(), cause + 2);
    }

    #[test]
    fn the_lowest_stamp_is_next_and_then_the_lowest_thread() {
        let cases: [(&[Option<u64>], Option<usize>); 6] = [
            (&[], None),
            (&[None, None], None),
            (&[None, Some(4)], Some(1)),
            (&[Some(4), Some(3)], Some(1)),
            (&[Some(3), None, Some(3)], Some(0)),
            (&[Some(u64::MAX), Some(0)], Some(1)),
        ];
        for (heads, next) in cases {
            assert_eq!(oldest(heads), next, "{heads:?}");
        }
    }

    #[test]
    fn a_picture_is_taken_only_of_counts_that_stood_still() {
        // Each row is what one ring shows, look after look.
        let cases = [
            ([&[0][..], &[0]], [0, 0]),
            ([&[0, 5, 5], &[9, 9, 9]], [5, 9]),
            ([&[1, 2, 3, 3], &[7, 7, 8, 8]], [3, 8]),
        ];
        for (shown, ends) in cases {
            let (mut round, mut looks) = ([0, 0], [0, 0]);
            let seen = |ring: usize| {
                let look = looks[ring];
                looks[ring] += 1;
                shown[ring][look]
            };
            assert!(picture(&mut round, seen));
            assert_eq!(round, ends);
        }
    }

    #[test]
    fn writers_that_never_pause_are_given_up_for_a_turn() {
        let mut count = 0;
        let rising = |_| {
            count += 1;
            count
        };
        assert!(!picture(&mut [0, 0], rising));
    }

    #[test]
    fn records_of_several_rings_come_merged_by_stamp_and_stay_inside_the_picture() {
        let mut mesh = mesh(3, 256);
        let (mut third_out, _) = mesh.pop().unwrap();
        let (mut second_out, _) = mesh.pop().unwrap();
        let (first_out, mut inbound) = mesh.pop().unwrap();
        assert!(first_out[0].is_none() && first_out[1].is_some());
        let second = second_out[0].as_mut().unwrap();
        let third = third_out[0].as_mut().unwrap();
        assert!(second.push(2, b"b2") && second.push(5, b"b5"));
        assert!(third.push(1, b"c1") && third.push(5, b"c5"));
        assert!(inbound.peek().is_none(), "no picture, no record");
        inbound.look();
        assert!(second.push(6, b"later"));
        let mut taken = Vec::new();
        while let Some((from, stamp, record)) = inbound.peek() {
            taken.push((from, stamp, record.to_vec()));
            inbound.pop(from);
        }
        let expected = [(2, 1, b"c1"), (1, 2, b"b2"), (1, 5, b"b5"), (2, 5, b"c5")];
        assert_eq!(taken, expected.map(|(from, stamp, record)| (from, stamp, record.to_vec())));
        assert!(!inbound.is_empty());
        inbound.look();
        assert_eq!(inbound.peek(), Some((1, 6, &b"later"[..])));
    }

    #[test]
    fn only_one_writer_wakes_a_sleeper_and_none_a_busy_thread() {
        let sleeper = Sleeper::new();
        sleeper.attach(7);
        assert_eq!(sleeper.call(), None);
        sleeper.doze();
        assert_eq!((sleeper.call(), sleeper.call()), (Some(7), None));
        sleeper.doze();
        sleeper.rouse();
        assert_eq!(sleeper.call(), None);
        sleeper.doze();
        sleeper.detach();
        assert_eq!(sleeper.call(), None);
    }

    #[test]
    fn two_threads_pass_every_record_in_order() {
        let records = if cfg!(miri) { 50 } else { 20_000_u64 };
        let (mut sender, mut receiver) = pair(256);
        let writer = std::thread::spawn(move || {
            for stamp in 0..records {
                let record = vec![stamp as u8; (stamp % 90) as usize];
                while !sender.push(stamp, &record) {
                    std::thread::yield_now();
                }
            }
        });
        for stamp in 0..records {
            let (got, record) = loop {
                // The borrow of a peeked record cannot leave the loop, so look twice.
                if receiver.peek().is_some() {
                    break receiver.peek().unwrap();
                }
                std::thread::yield_now();
            };
            assert_eq!(got, stamp);
            assert_eq!(record.len() as u64, stamp % 90);
            assert!(record.iter().all(|byte| *byte == stamp as u8));
            receiver.pop();
        }
        writer.join().unwrap();
        assert!(receiver.is_abandoned());
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test -p clasp-rt-ring --release --lib sleeper`.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Notify};
    use loom::thread;

    const CAPACITY: usize = 2;

    /// A ring of which only the counts matter, and the kernel as something to sleep on.
    struct Shared {
        pushed: AtomicUsize,
        popped: AtomicUsize,
        sleeper: Sleeper,
        kernel: Notify,
    }

    /// Loom fails the model when the reader can sleep for ever.
    #[test]
    fn a_sleeper_is_woken_whatever_the_order() {
        loom::model(|| {
            let shared = Arc::new(Shared {
                pushed: AtomicUsize::new(0),
                popped: AtomicUsize::new(0),
                sleeper: Sleeper::new(),
                kernel: Notify::new(),
            });
            shared.sleeper.attach(1);
            let writer = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || write(&shared, CAPACITY))
            };
            read(&shared, CAPACITY);
            writer.join().unwrap();
        });
    }

    fn write(shared: &Shared, records: usize) {
        for record in 1..=records {
            shared.pushed.store(record, Ordering::Release);
            if shared.sleeper.call().is_some() {
                shared.kernel.notify();
            }
        }
    }

    fn read(shared: &Shared, records: usize) {
        let is_empty =
            || shared.pushed.load(Ordering::Acquire) == shared.popped.load(Ordering::Relaxed);
        while shared.popped.load(Ordering::Relaxed) < records {
            if !is_empty() {
                let popped = shared.popped.load(Ordering::Relaxed);
                shared.popped.store(popped + 1, Ordering::Release);
                continue;
            }
            shared.sleeper.doze();
            if is_empty() {
                shared.kernel.wait();
            }
            shared.sleeper.rouse();
        }
    }
}
