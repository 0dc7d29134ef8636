//! Frames that many links get, wrapped once: a log of one turn that sends point into.
//!
//! A fan-out to a thousand links would else write the same bytes into a thousand buffers, each of
//! them cold. All links that get the same frames in the same order share one run of the log, so
//! that a stream to many costs no copy for each of them either.

use std::ops::Range;
use std::rc::Rc;

/// Bytes of one log: what a turn makes of the frames it takes, and rarely more. A frame that finds
/// no room is copied to each of its links.
const LOG_BYTES: usize = 32 << 10;

/// Logs of one wrapping. A link that reads slowly keeps one from being used again; when none is
/// free, frames are copied.
const LOGS: usize = 24;

/// Bytes that one [`SharedLog`] takes, all from the start.
pub(super) const SHARED_LOG_BYTES: u64 = (LOGS * LOG_BYTES) as u64;

/// The frames of a turn, each once, behind each other, wrapped for one kind of transport.
#[derive(Debug)]
pub(super) struct SharedLog {
    wrap: fn(&[u8], &mut Vec<u8>),
    logs: Vec<Rc<Vec<u8>>>,
    /// The log of this turn; `None` before its first frame.
    current: Option<usize>,
    /// Where the newest frame lies, with what the transport adds and without.
    newest: Range<u32>,
    newest_frame: Range<u32>,
    /// No log is free in this turn.
    exhausted: bool,
}

impl SharedLog {
    pub(super) fn new(wrap: fn(&[u8], &mut Vec<u8>)) -> Self {
        Self {
            wrap,
            logs: (0..LOGS).map(|_| Rc::new(Vec::with_capacity(LOG_BYTES))).collect(),
            current: None,
            newest: 0..0,
            newest_frame: 0..0,
            exhausted: false,
        }
    }

    /// Adds `frame` to the `run` of a link. `false` when it would not follow the run directly, or
    /// there is no room: the link then needs bytes of its own.
    pub(super) fn add(&mut self, frame: &[u8], run: &mut Range<u32>) -> bool {
        let follows = |at| Range::is_empty(run) || run.end == at;
        if !(follows(self.newest.start) && self.is_newest(frame)) {
            let end = self.current.map_or(0, |log| self.logs[log].len() as u32);
            // The newest frame again, for a link that has it: it comes a second time.
            if !follows(end) || !self.append(frame) {
                return false;
            }
        }
        if Range::is_empty(run) {
            *run = self.newest.clone();
        } else {
            run.end = self.newest.end;
        }
        true
    }

    /// The bytes of a run of this turn.
    pub(super) fn bytes(&self, run: Range<u32>) -> &[u8] {
        let log = self.current.map_or(&[][..], |log| self.logs[log].as_slice());
        &log[run.start as usize..run.end as usize]
    }

    /// A share in the log of this turn, for a send.
    pub(super) fn share(&self) -> Rc<Vec<u8>> {
        Rc::clone(&self.logs[self.current.expect("a run lies in a log")])
    }

    /// Ends the turn: the runs of the next one lie in another log.
    pub(super) fn end_turn(&mut self) {
        self.current = None;
        self.newest = 0..0;
        self.exhausted = false;
    }

    fn is_newest(&self, frame: &[u8]) -> bool {
        !self.newest.is_empty()
            && self.current.is_some_and(|log| {
                let Range { start, end } = self.newest_frame;
                self.logs[log][start as usize..end as usize] == *frame
            })
    }

    /// Takes the first log that nobody sends from: often the one that is in the cache.
    fn begin_turn(&mut self) {
        self.current = self.logs.iter().position(|log| Rc::strong_count(log) == 1);
        self.exhausted = self.current.is_none();
        if let Some(bytes) = self.current.and_then(|log| Rc::get_mut(&mut self.logs[log])) {
            bytes.clear();
        }
    }

    fn append(&mut self, frame: &[u8]) -> bool {
        if self.current.is_none() && !self.exhausted {
            self.begin_turn();
        }
        let Some(bytes) = self.current.and_then(|log| Rc::get_mut(&mut self.logs[log])) else {
            return false;
        };
        let start = bytes.len();
        if frame.len() + WRAP_BYTES_MAX > bytes.capacity() - start {
            return false;
        }
        (self.wrap)(frame, bytes);
        let end = bytes.len() as u32;
        self.newest = start as u32..end;
        self.newest_frame = end - frame.len() as u32..end;
        true
    }
}

/// The longest header of a server's WebSocket frame: two bytes, and eight of length.
const WRAP_BYTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use clasp_rt_link::stream::wrap_for_peers;

    const LONG: usize = 10_000;

    #[test]
    fn links_that_get_the_same_frames_share_them_and_others_are_told() {
        let mut log = SharedLog::new(wrap_for_peers);
        let (mut first, mut second, mut late) = (0..0, 0..0, 0..0);
        for frame in [b"ab", b"cd"] {
            assert!(log.add(frame, &mut first) && log.add(frame, &mut second));
        }
        assert_eq!((&first, &second), (&(0..12), &(0..12)));
        assert_eq!(log.bytes(first.clone()), b"\0\0\0\x02ab\0\0\0\x02cd");
        assert!(log.add(b"cd", &mut late));
        assert_eq!(log.bytes(late.clone()), b"\0\0\0\x02cd");
        // What the others have not got comes between: their runs would have a gap.
        assert!(log.add(b"only late", &mut late));
        assert!(log.add(b"ef", &mut late));
        assert!(!log.add(b"ef", &mut first));
        assert_eq!(first, 0..12, "as it was");
    }

    #[test]
    fn a_frame_that_comes_twice_is_sent_twice() {
        let mut log = SharedLog::new(wrap_for_peers);
        let mut runs = [0..0, 0..0];
        for _ in 0..2 {
            runs.iter_mut().for_each(|run| assert!(log.add(b"go", run)));
        }
        for run in runs {
            assert_eq!(log.bytes(run), b"\0\0\0\x02go\0\0\0\x02go");
        }
    }

    #[test]
    fn a_log_is_used_again_once_nobody_sends_from_it() {
        let mut log = SharedLog::new(wrap_for_peers);
        let mut sent = Vec::new();
        for number in 0..LOGS {
            assert!(log.add(&[number as u8; LONG], &mut (0..0)));
            sent.push(log.share());
            log.end_turn();
        }
        assert!(!log.add(b"no log is free", &mut (0..0)));
        for (number, share) in sent.iter().enumerate() {
            assert_eq!(share[4..], [number as u8; LONG], "a share stays as it was");
        }
        sent.pop();
        log.end_turn();
        let mut run = 0..0;
        assert!(log.add(b"again", &mut run));
        assert_eq!(log.bytes(run), b"\0\0\0\x05again");
    }

    #[test]
    fn a_frame_without_room_is_refused_and_nothing_grows() {
        let mut log = SharedLog::new(wrap_for_peers);
        let mut run = 0..0;
        let kept = (0..LOG_BYTES / LONG + 1).filter(|n| log.add(&[*n as u8; LONG], &mut run));
        assert_eq!(kept.count(), LOG_BYTES / LONG);
        assert!(!log.add(&[0; LOG_BYTES], &mut (0..0)));
        assert_eq!(log.share().capacity(), LOG_BYTES);
    }
}
