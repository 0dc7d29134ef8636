//! The thread that writes a recording, and the ring by which frames reach it.
//!
//! Whoever records pushes into a ring and never waits; the thread here looks at the ring every few
//! milliseconds, so that recording wakes nobody. Files bypass the page cache (`O_DIRECT`) in blocks
//! of 1 MiB, so that a long recording pushes nothing else out of memory.
//!
//! Measured, 256 MiB with a sync every 50 ms, three runs on a shared 2-vCPU machine with ext4 on
//! virtio: this 1,270 to 1,450 MB/s; `glommio`'s `DmaStreamWriter` (128 KiB, 8 behind) 400 to 590;
//! buffered writes of 128 KiB 140 to 810, with syncs of 12 to 48 ms instead of 4 to 8. So a
//! thread that may block does without a runtime of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clasp_rt_bridges::record::Tape;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_perf::calendar;
use clasp_rt_perf::capture::{self, Header, Item, Record};
use clasp_rt_ring::exchange::{self, Receiver, Sender};
use rustix::fs::OFlags;
use tracing::{error, info, warn};

use crate::clock::{self, Clock};

/// What one write hands to the disk.
const BLOCK_BYTES: usize = 1 << 20;

/// Every write begins and ends at a multiple of it, as `O_DIRECT` asks.
const PAGE_BYTES: usize = 4_096;

/// Frames on their way to the disk: a second of the most that one shard can say.
const QUEUE_BYTES: usize = 64 << 20;

/// How often the thread looks at an empty ring.
const NAP: Duration = Duration::from_millis(5);

/// What was recorded so long ago is on the disk.
const FLUSH_EVERY: Span = Span::from_secs(1);

/// After a disk failed, a new file is tried so much later.
const RETRY_AFTER: Span = Span::from_secs(1);

/// The ending of the files' names.
pub const SUFFIX: &str = ".clasprec";

/// In a stamp: the record is no frame but a note, as its first byte says.
const NOTE: u64 = 1 << 63;
const LOST: u8 = 0;
const START: u8 = 1;
const END: u8 = 2;

/// What a recording takes: the queue, and a block twice.
pub const MEMORY_BYTES: u64 = (QUEUE_BYTES + 2 * BLOCK_ROOM) as u64;

/// Where a recording goes, and how much of it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reel {
    pub folder: PathBuf,
    /// A file that has reached it is followed by the next.
    pub file_bytes: u64,
    /// Recordings of the folder that stay; beyond it the oldest goes.
    pub files_max: usize,
}

/// The recording end: lives on a bridge's thread.
pub struct RingTape {
    ring: Option<Sender>,
    /// Since the last frame that had room.
    lost: u64,
    /// The writer knows when instant 0 was.
    started: bool,
    writer: Option<JoinHandle<()>>,
}

impl RingTape {
    /// Opens the first file, so that a folder that cannot be used is known at once.
    pub fn start(reel: Reel) -> io::Result<Self> {
        let (sender, receiver) = exchange::pair(QUEUE_BYTES);
        let (ready, opened) = mpsc::channel();
        let run = move || match Writer::open(reel, receiver) {
            Err(why) => {
                let _ = ready.send(Err(why));
            }
            Ok(mut writer) => {
                let _ = ready.send(Ok(()));
                writer.run();
            }
        };
        let writer = thread::Builder::new().name("tape".to_owned()).spawn(run)?;
        opened.recv().map_err(io::Error::other)??;
        Ok(Self { ring: Some(sender), lost: 0, started: false, writer: Some(writer) })
    }

    fn push(&mut self, stamp: u64, body: &[u8]) -> bool {
        self.ring.as_mut().is_some_and(|ring| ring.push(stamp, body))
    }

    fn note(&mut self, now: Time, what: u8, number: u64) -> bool {
        let mut body = [what; 9];
        body[1..].copy_from_slice(&number.to_le_bytes());
        self.push(now.0 | NOTE, &body)
    }

    /// Says how many frames are missing, if any are; `false` when there was no room for that.
    fn tell_lost(&mut self, now: Time) -> bool {
        if self.lost > 0 && !self.note(now, LOST, self.lost) {
            return false;
        }
        self.lost = 0;
        true
    }
}

impl Tape for RingTape {
    fn clock(&mut self, now: Time, unix_us: u64) {
        if !self.started {
            self.started = self.note(now, START, unix_us.saturating_sub(now.0 / 1_000));
        }
    }

    fn put(&mut self, now: Time, frame: &[u8]) -> bool {
        let kept = self.tell_lost(now) && self.push(now.0, frame);
        self.lost += u64::from(!kept);
        kept
    }

    fn end(&mut self, now: Time) {
        let _ = self.tell_lost(now) && self.note(now, END, 0);
        // The writer ends when the ring is abandoned and empty.
        self.ring = None;
    }
}

impl Drop for RingTape {
    fn drop(&mut self) {
        self.ring = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            error!("the recording's thread panicked");
        }
    }
}

/// The writing end: a thread of its own.
struct Writer {
    reel: Reel,
    ring: Receiver,
    /// At instant 0 of the frames' clock.
    start_unix_us: u64,
    /// Of the recording, in names of files.
    started: String,
    /// Of the newest file.
    number: u32,
    file: Option<Part>,
    block: Block,
    clock: Clock,
    flushed: Time,
    /// When the disk refused something last; `None`: it took what it was given since.
    failed: Option<Time>,
    /// Frames that neither a file nor the block has, since the last one that was written.
    lost: u64,
    last_ns: u64,
}

/// One file of a recording.
struct Part {
    file: File,
    path: PathBuf,
    /// Bytes that are in it for sure.
    written: u64,
}

impl Writer {
    fn open(reel: Reel, ring: Receiver) -> io::Result<Self> {
        fs::create_dir_all(&reel.folder)?;
        let start_unix_us = clock::unix_us();
        let started = calendar::instant(start_unix_us / 1_000_000);
        let mut writer = Self {
            reel,
            ring,
            start_unix_us,
            started,
            number: 0,
            file: None,
            block: Block::new(),
            clock: Clock::start(),
            flushed: Time(0),
            failed: None,
            lost: 0,
            last_ns: 0,
        };
        writer.next_file()?;
        Ok(writer)
    }

    fn run(&mut self) {
        loop {
            let gone = self.ring.is_abandoned();
            while self.take_one() {}
            if gone || self.clock.now().since(self.flushed) >= FLUSH_EVERY {
                self.flush();
            }
            if gone {
                break;
            }
            thread::sleep(NAP);
        }
        if self.lost > 0 {
            error!("the recording ends without its last {} frames", self.lost);
        }
        if let Err(why) = self.close_file() {
            warn!("the recording may not be on the disk: {why}");
        }
    }

    /// Moves one record from the ring to the block; `false` when there is none.
    fn take_one(&mut self) -> bool {
        self.see_to_file();
        let Some((stamp, body)) = self.ring.peek() else { return false };
        let at_ns = stamp & !NOTE;
        let item = match (stamp & NOTE, body) {
            (0, frame) => Item::Frame(frame),
            (_, [START, number @ ..]) => {
                self.start_unix_us = count(number);
                self.ring.pop();
                return true;
            }
            (_, [LOST, number @ ..]) => Item::Lost(count(number)),
            (_, _) => Item::End,
        };
        self.last_ns = at_ns;
        let rests = self.failed.is_some_and(|since| self.clock.now().since(since) < RETRY_AFTER);
        match &self.file {
            Some(part) if !rests => {
                if self.block.len() == 0 {
                    let (number, start_unix_us) = (self.number, self.start_unix_us);
                    let header = Header { number, start_unix_us };
                    let missing = mem::take(&mut self.lost);
                    self.block.begin(header, part.written, at_ns, missing);
                }
                self.block.put(Record { at_ns, item });
            }
            _ => self.lost += frames_of(item),
        }
        self.ring.pop();
        if self.block.len() >= BLOCK_BYTES {
            self.flush();
        }
        true
    }

    /// Begins the next file where this one is full, or where there is none.
    fn see_to_file(&mut self) {
        let now = self.clock.now();
        let rests = self.failed.is_some_and(|since| now.since(since) < RETRY_AFTER);
        let wanted = match &self.file {
            Some(part) => part.written >= self.reel.file_bytes && !self.ring.is_empty(),
            None => true,
        };
        if wanted
            && !rests
            && let Err(why) = self.next_file()
        {
            self.fail(&why);
        }
    }

    /// Hands everything to the disk.
    fn flush(&mut self) {
        self.flushed = self.clock.now();
        if self.block.len() == 0 {
            return;
        }
        let missing = self.block.missing;
        match self.write() {
            Ok(()) if self.failed.take().is_some() => {
                let path = self.file.as_ref().map(|part| part.path.display());
                let path = path.map(|path| path.to_string()).unwrap_or_default();
                info!("the recording goes on in {path}; {missing} frames are missing");
            }
            Ok(()) => {}
            Err(why) => self.fail(&why),
        }
    }

    /// Writes the block. Only with its first block a file counts, and the oldest beyond what may
    /// stay goes: a disk that takes nothing costs no earlier recording.
    fn write(&mut self) -> io::Result<()> {
        let Some(part) = &mut self.file else { return Ok(()) };
        let mut len = part.take(&mut self.block);
        let is_first = part.written == 0;
        let has_no_room = matches!(&len, Err(why) if is_full(why));
        if is_first && has_no_room && forget_oldest(&self.reel, &part.path) > 0 {
            // That made room.
            len = part.take(&mut self.block);
        }
        part.written += len?;
        if is_first {
            forget_oldest(&self.reel, &part.path);
        }
        Ok(())
    }

    fn fail(&mut self, why: &io::Error) {
        if self.failed.is_none() {
            let folder = self.reel.folder.display();
            error!("{folder} takes no recording, and is tried again every second: {why}");
        }
        self.failed = Some(self.clock.now());
        self.lost += self.block.clear();
        // Where room is missing, no other file has more of it. What a disk refuses for another
        // reason may be the fault of this file: another is tried.
        let stays = is_full(why) && self.file.as_ref().is_some_and(Part::rewind);
        if !stays {
            // What failed is told already.
            let _ = self.close_file();
        }
    }

    fn next_file(&mut self) -> io::Result<()> {
        self.close_file()?;
        let number = self.number + 1;
        let path = self.reel.folder.join(format!("{}-{number:06}{SUFFIX}", self.started));
        let file = create(&path)?;
        self.number = number;
        if self.failed.is_none() {
            info!("recording to {}", path.display());
        }
        self.file = Some(Part { file, path, written: 0 });
        Ok(())
    }

    /// Leaves the file, and nothing of one that holds nothing.
    fn close_file(&mut self) -> io::Result<()> {
        let Some(part) = self.file.take() else { return Ok(()) };
        if part.written > 0 {
            return part.file.sync_data();
        }
        self.number -= 1;
        fs::remove_file(&part.path)
    }
}

impl Part {
    /// Writes all of `block`, and says how many bytes that were; or leaves it as it was.
    fn take(&mut self, block: &mut Block) -> io::Result<u64> {
        let len = block.write_to(&mut self.file);
        if len.is_err() {
            self.rewind();
        }
        len
    }

    /// Goes back to the end of what was written as a whole; `false`: the file does not let us.
    fn rewind(&self) -> bool {
        let cut = self.file.set_len(self.written);
        cut.and_then(|()| (&self.file).seek(SeekFrom::Start(self.written))).is_ok()
    }
}

/// Whether the disk, or our part of it, has no room: other files have none either.
fn is_full(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// How many frames `item` stands for.
fn frames_of(item: Item<'_>) -> u64 {
    match item {
        Item::Frame(_) => 1,
        Item::Lost(count) => count,
        _ => 0,
    }
}

fn count(number: &[u8]) -> u64 {
    number.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// Creates a file that bypasses the page cache; where the file system cannot, one that does not.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let direct = options.clone().custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path);
    match direct {
        Err(why) if why.kind() == io::ErrorKind::InvalidInput => {
            // Some file systems create the file before they refuse the flag.
            let _ = fs::remove_file(path);
            options.open(path)
        }
        opened => opened,
    }
}

/// Removes the oldest recordings of the folder beyond what may stay beside `current`, and says how
/// many. Names sort by age.
fn forget_oldest(reel: &Reel, current: &Path) -> usize {
    let forgotten = others_in(&reel.folder, current).and_then(|mut others| {
        others.sort_unstable();
        let beyond = (others.len() + 1).saturating_sub(reel.files_max.max(1));
        others.truncate(beyond);
        others.iter().try_for_each(fs::remove_file).map(|()| others.len())
    });
    forgotten.unwrap_or_else(|why| {
        warn!("{}: the oldest recording cannot be removed: {why}", reel.folder.display());
        0
    })
}

fn others_in(folder: &Path, current: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let is_other = |path: &PathBuf| path.to_string_lossy().ends_with(SUFFIX) && path != current;
    paths.filter(|path| path.as_ref().map_or(true, is_other)).collect()
}

/// Records on their way to the disk, in memory that begins at a page.
struct Block {
    records: Vec<u8>,
    /// Frames that it holds, or tells as lost.
    frames: u64,
    /// Those that it tells at its begin.
    missing: u64,
    pages: Vec<u8>,
    first: usize,
}

/// A block is handed over once it is this long; one more record may come on top.
const BLOCK_ROOM: usize =
    BLOCK_BYTES + (capture::RECORD_HEADER_LEN + capture::BODY_LEN_MAX) + 2 * PAGE_BYTES;

impl Block {
    fn new() -> Self {
        let pages = vec![0; BLOCK_ROOM + PAGE_BYTES];
        let first = pages.as_ptr().align_offset(PAGE_BYTES);
        Self { records: Vec::with_capacity(BLOCK_ROOM), frames: 0, missing: 0, pages, first }
    }

    fn len(&self) -> usize {
        self.records.len()
    }

    /// Begins with the header, where `written` of the file says that it has none, and with how
    /// many frames are `missing` before.
    fn begin(&mut self, header: Header, written: u64, at_ns: u64, missing: u64) {
        if written == 0 {
            header.put(&mut self.records);
        }
        self.missing = missing;
        if missing > 0 {
            self.put(Record { at_ns, item: Item::Lost(missing) });
        }
    }

    fn put(&mut self, record: Record<'_>) {
        self.frames += frames_of(record.item);
        capture::put(record, &mut self.records);
    }

    /// Forgets everything, and says how many frames that were.
    fn clear(&mut self) -> u64 {
        self.records.clear();
        mem::take(&mut self.frames)
    }

    /// Writes everything, padded to whole pages, and says how much that was.
    fn write_to(&mut self, file: &mut File) -> io::Result<u64> {
        capture::pad(PAGE_BYTES, &mut self.records);
        let len = self.records.len();
        let aligned = &mut self.pages[self.first..self.first + len];
        aligned.copy_from_slice(&self.records);
        file.write_all(aligned)?;
        self.clear();
        Ok(len as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let name = format!("clasp-rt-tape-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_unstable();
        files
    }

    #[test]
    fn what_was_put_stands_in_the_file_in_order_and_is_ended() {
        let folder = folder("order");
        let reel = Reel { folder: folder.clone(), file_bytes: 1 << 30, files_max: 2 };
        let mut tape = RingTape::start(reel).unwrap();
        let frames: Vec<Vec<u8>> = (0..5_000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
        for (now, frame) in (0..).zip(&frames) {
            assert!(tape.put(Time(now), frame));
        }
        tape.end(Time(9_999));
        drop(tape);
        let written = files(&folder);
        assert_eq!(written.len(), 1);
        let bytes = fs::read(&written[0]).unwrap();
        assert_eq!(bytes.len() % PAGE_BYTES, 0);
        let (header, records) = capture::read(&bytes).unwrap();
        assert_eq!(header.number, 1);
        let records: Vec<_> = records.map(Result::unwrap).collect();
        assert_eq!(records.len(), frames.len() + 1);
        for ((now, frame), record) in (0..).zip(&frames).zip(&records) {
            assert_eq!(*record, Record { at_ns: now, item: Item::Frame(frame) });
        }
        assert_eq!(records.last().unwrap().item, Item::End);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn files_are_changed_when_full_and_the_oldest_go() {
        let folder = folder("rotation");
        let reel = Reel { folder: folder.clone(), file_bytes: 1, files_max: 3 };
        let mut tape = RingTape::start(reel).unwrap();
        let frame = vec![7; 1 << 19];
        // Two frames fill a block, and every block fills a file.
        for now in 0..20 {
            while !tape.put(Time(now), &frame) {
                thread::yield_now();
            }
        }
        tape.end(Time(20));
        drop(tape);
        let written = files(&folder);
        assert_eq!(written.len(), 3, "{written:?}");
        let numbers = written
            .iter()
            .map(|path| capture::read(&fs::read(path).unwrap()).expect("a capture").0.number);
        let numbers: Vec<_> = numbers.collect();
        assert!(numbers[0] > 1 && numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn frames_without_room_are_told_where_they_are_missing() {
        let (sender, mut receiver) = exchange::pair(80);
        let mut tape = RingTape { ring: Some(sender), lost: 0, started: true, writer: None };
        assert!(tape.put(Time(1), &[1; 40]));
        assert!(!tape.put(Time(2), &[2; 40]));
        assert!(!tape.put(Time(3), &[3; 40]));
        receiver.peek().unwrap();
        receiver.pop();
        assert!(tape.put(Time(4), &[4; 8]));
        assert_eq!(receiver.peek(), Some((4 | NOTE, &[LOST, 2, 0, 0, 0, 0, 0, 0, 0][..])));
        receiver.pop();
        assert_eq!(receiver.peek(), Some((4, &[4; 8][..])));
    }

    #[test]
    fn a_recording_that_never_began_leaves_no_file() {
        let folder = folder("empty");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("20260101T000000Z-000001.clasprec"), b"night").unwrap();
        let reel = Reel { folder: folder.clone(), file_bytes: 1 << 30, files_max: 1 };
        drop(RingTape::start(reel).unwrap());
        assert_eq!(files(&folder).len(), 1);
        assert_eq!(fs::read(&files(&folder)[0]).unwrap(), b"night");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_is_told_at_once() {
        let file = folder("file");
        fs::write(&file, b"").unwrap();
        let reel = Reel { folder: file.clone(), file_bytes: 1, files_max: 1 };
        assert!(RingTape::start(reel).is_err());
        fs::remove_file(&file).unwrap();
    }
}
