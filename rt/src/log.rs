//! The log: lines on their way to stderr, which may be slow, full or gone while the show goes on.
//!
//! Whoever logs puts a line into a bounded queue and never waits; a thread of its own writes. What
//! finds no room, or cannot be written, is counted and told in its place.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::panic;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::config::LogLevel;
use crate::plain;

/// Bytes that wait for stderr at most: some 10,000 lines. The writing thread has as many at most.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long the end of the program waits for stderr.
const END_WITHIN: Duration = Duration::from_secs(1);

static STDERR: Queue = Queue::new(WAITING_BYTES_MAX);

/// Sends what is logged from `level` on to stderr; stdout is for what a program may read.
pub fn start(level: LogLevel) -> io::Result<()> {
    STDERR.lock().is_read = true;
    let write = || loop {
        STDERR.write_to(&mut io::stderr());
    };
    thread::Builder::new().name("log".to_owned()).spawn(write)?;
    // The lines before a panic say how it came to it.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        STDERR.drain(END_WITHIN);
        hook(panic);
    }));
    tracing_subscriber::fmt()
        .with_env_filter(level.name())
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would tell a write that failed with `eprintln!`, which panics where stderr is gone.
        .log_internal_errors(false)
        .with_writer(|| &STDERR)
        .init();
    Ok(())
}

/// Waits until everything is written, a second at most.
pub fn end() {
    STDERR.drain(END_WITHIN);
}

/// Says `text` on stderr, after the log where there is one. Nobody has to read it.
pub fn say(text: &str) {
    let text = plain::lines(text) + "\n";
    if STDERR.lock().is_read {
        STDERR.push(&text);
        STDERR.drain(END_WITHIN);
    } else {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Text that waits to be written.
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something waits, or all is written.
    changed: Condvar,
    bytes_max: usize,
}

struct Waiting {
    text: String,
    /// Lines of it, with those that it tells as missing.
    lines: u64,
    /// Lines that are missing after it.
    lost: u64,
    /// The thread is at it.
    is_written: bool,
    /// There is a thread.
    is_read: bool,
}

impl Queue {
    const fn new(bytes_max: usize) -> Self {
        let text = String::new();
        let waiting = Waiting { text, lines: 0, lost: 0, is_written: false, is_read: false };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new(), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one line, or counts it as lost.
    fn push(&self, line: &str) {
        let mut waiting = self.lock();
        if waiting.text.len() + line.len() > self.bytes_max {
            waiting.lost += 1;
            return;
        }
        waiting.tell_lost();
        waiting.text.push_str(line);
        waiting.lines += 1;
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits for text, and writes all that is there.
    fn write_to(&self, out: &mut dyn Write) {
        let waiting = self.changed.wait_while(self.lock(), |waiting| waiting.text.is_empty());
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.is_written = true;
        let (text, lines) = (mem::take(&mut waiting.text), mem::take(&mut waiting.lines));
        drop(waiting);
        let written = out.write_all(text.as_bytes());
        let mut waiting = self.lock();
        waiting.is_written = false;
        if written.is_err() {
            waiting.lost += lines;
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits until everything is written, `within` at most.
    fn drain(&self, within: Duration) {
        let mut waiting = self.lock();
        if !waiting.is_read {
            return;
        }
        waiting.tell_lost();
        self.changed.notify_all();
        let busy = |waiting: &mut Waiting| waiting.is_written || !waiting.text.is_empty();
        drop(self.changed.wait_timeout_while(waiting, within, busy));
    }
}

impl Waiting {
    fn tell_lost(&mut self) {
        let lost = mem::take(&mut self.lost);
        if lost > 0 {
            self.text.push_str(&format!("clasp-rt: {lost} lines of the log are missing here\n"));
            self.lines += lost;
        }
    }
}

/// Takes one event of the log at a time, and never fails.
impl Write for &Queue {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.push(&one_entry(&String::from_utf8_lossy(event)));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The entry with every line but its first set in, so that no name from outside looks like an
/// entry of its own. Escape characters are those of the colours: others were escaped before.
fn one_entry(event: &str) -> String {
    let mut entry = String::with_capacity(event.len());
    for char in event.strip_suffix('\n').unwrap_or(event).chars() {
        match char {
            '\n' => entry.push_str("\n  "),
            '\x1b' => entry.push(char),
            char => plain::push(&mut entry, char),
        }
    }
    entry.push('\n');
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what is written, while it has room.
    struct Disk {
        text: String,
        has_room: bool,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.has_room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text.push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_without_room_are_counted_where_they_are_missing() {
        let queue = Queue::new(16);
        let mut disk = Disk { text: String::new(), has_room: true };
        for line in ["one one\n", "two two\n", "three\n", "four\n"] {
            queue.push(line);
        }
        queue.write_to(&mut disk);
        queue.push("five\n");
        queue.write_to(&mut disk);
        let missing = "clasp-rt: 2 lines of the log are missing here\n";
        assert_eq!(disk.text, format!("one one\ntwo two\n{missing}five\n"));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_until_one_can() {
        let queue = Queue::new(1 << 10);
        let mut disk = Disk { text: String::new(), has_room: false };
        for line in ["one\n", "two\n", "three\n"] {
            queue.push(line);
            queue.write_to(&mut disk);
        }
        disk.has_room = true;
        queue.push("four\n");
        queue.write_to(&mut disk);
        assert_eq!(disk.text, "clasp-rt: 3 lines of the log are missing here\nfour\n");
    }

    #[test]
    fn a_name_from_outside_cannot_look_like_a_line_of_the_log() {
        let cases = [
            ("INFO joined\n", "INFO joined\n"),
            ("2 problems\n  a\n  b\n", "2 problems\n    a\n    b\n"),
            ("\x1b[2mINFO\x1b[0m x\r2026 ERROR\0\n", "\x1b[2mINFO\x1b[0m x\\r2026 ERROR\\u{0}\n"),
        ];
        for (event, entry) in cases {
            assert_eq!(one_entry(event), entry);
        }
    }
}
