//! The capture format: frames as they passed, each with its instant, in files that survive a cut.
//!
//! A file is a header and records, all little-endian, each beginning at a multiple of 8 bytes:
//!
//! | bytes | header |
//! |---|---|
//! | 8 | `CLASPREC` |
//! | 4 | version, 1 |
//! | 4 | number of the file in its recording, from 1 |
//! | 8 | microseconds since the Unix epoch at instant 0 of the recording |
//! | 40 | zeros |
//!
//! | bytes | record |
//! |---|---|
//! | 4 | length of the body |
//! | 1 | kind: 1 frame, 2 lost, 3 padding, 4 end |
//! | 3 | zeros |
//! | 8 | nanoseconds since instant 0; the same instant 0 in all files of a recording |
//! | n | body: the frame; a u64 count of frames that are missing here; anything; nothing |
//! | 0-7 | zeros, to a multiple of 8 |
//!
//! Padding fills pages, so that a writer can bypass the page cache. A recording that was stopped in
//! order ends with `end`; one that was cut reads up to its last whole record.

use std::fmt;

pub const MAGIC: [u8; 8] = *b"CLASPREC";
pub const HEADER_LEN: usize = 64;
pub const RECORD_HEADER_LEN: usize = 16;

/// Longer bodies are not written, and not believed when read.
pub const BODY_LEN_MAX: usize = 1 << 20;

const VERSION: u32 = 1;
const UNIT: usize = 8;

const FRAME: u8 = 1;
const LOST: u8 = 2;
const PADDING: u8 = 3;
const END: u8 = 4;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// From 1, in the order of the recording.
    pub number: u32,
    /// The wall clock at instant 0.
    pub start_unix_us: u64,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub at_ns: u64,
    pub item: Item<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Frame(&'a [u8]),
    /// So many frames passed here that the recorder had no room for.
    Lost(u64),
    /// The recording was ended in order.
    End,
}

/// The bytes are no capture, or stop being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The first bytes are not those of a capture.
    Magic,
    Version {
        found: u32,
    },
    /// The file ends in the middle of the record at this offset: it was cut while it was written.
    Cut {
        offset: usize,
    },
    /// No record can begin like this.
    Record {
        offset: usize,
        kind: u8,
        len: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("the file does not begin with CLASPREC"),
            Self::Version { found } => {
                write!(f, "version {found} of the capture format; this reads version {VERSION}")
            }
            Self::Cut { offset } => write!(f, "the record at byte {offset} is cut off"),
            Self::Record { offset, kind, len } => {
                write!(f, "no record has kind {kind} and {len} bytes, as at byte {offset}")
            }
        }
    }
}

impl std::error::Error for Malformed {}

impl Header {
    /// Appends the header.
    pub fn put(&self, out: &mut Vec<u8>) {
        let end = out.len() + HEADER_LEN;
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.start_unix_us.to_le_bytes());
        out.resize(end, 0);
    }
}

/// Bytes that `item` takes in a file.
pub fn record_len(item: Item<'_>) -> usize {
    let body = match item {
        Item::Frame(frame) => frame.len(),
        Item::Lost(_) => 8,
        Item::End => 0,
    };
    (RECORD_HEADER_LEN + body).next_multiple_of(UNIT)
}

/// Appends one record. A frame of more than [`BODY_LEN_MAX`] bytes is written as lost.
pub fn put(record: Record<'_>, out: &mut Vec<u8>) {
    match record.item {
        Item::Frame(frame) if frame.len() <= BODY_LEN_MAX => {
            put_body(FRAME, record.at_ns, frame, out);
        }
        Item::Frame(_) => put_body(LOST, record.at_ns, &1_u64.to_le_bytes(), out),
        Item::Lost(count) => put_body(LOST, record.at_ns, &count.to_le_bytes(), out),
        Item::End => put_body(END, record.at_ns, &[], out),
    }
}

/// Appends padding until the length is a multiple of `page`; nothing where it is one already.
///
/// `page` is a multiple of 8, and `out` holds whole records.
pub fn pad(page: usize, out: &mut Vec<u8>) {
    let gap = out.len().next_multiple_of(page) - out.len();
    if gap > 0 {
        let gap = if gap < RECORD_HEADER_LEN { gap + page } else { gap };
        let end = out.len() + gap;
        put_head(PADDING, gap - RECORD_HEADER_LEN, 0, out);
        out.resize(end, 0);
    }
}

fn put_head(kind: u8, body_len: usize, at_ns: u64, out: &mut Vec<u8>) {
    let len = u32::try_from(body_len).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[kind, 0, 0, 0]);
    out.extend_from_slice(&at_ns.to_le_bytes());
}

fn put_body(kind: u8, at_ns: u64, body: &[u8], out: &mut Vec<u8>) {
    put_head(kind, body.len(), at_ns, out);
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(UNIT), 0);
}

/// Reads the header of a file, and gives its records.
pub fn read(file: &[u8]) -> Result<(Header, Records<'_>), Malformed> {
    let header = file.get(..HEADER_LEN).filter(|header| header.starts_with(&MAGIC));
    let header = header.ok_or(Malformed::Magic)?;
    let version = u32_at(header, 8);
    if version != VERSION {
        return Err(Malformed::Version { found: version });
    }
    let read = Header { number: u32_at(header, 12), start_unix_us: u64_at(header, 16) };
    Ok((read, Records { file, offset: HEADER_LEN }))
}

/// The records of a file in order; after an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    file: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.file.get(self.offset..).filter(|rest| !rest.is_empty())?;
            let offset = self.offset;
            match record(rest, offset) {
                Err(malformed) => {
                    self.offset = self.file.len();
                    return Some(Err(malformed));
                }
                Ok((len, found)) => {
                    self.offset = offset + len;
                    if let Some(record) = found {
                        return Some(Ok(record));
                    }
                }
            }
        }
    }
}

/// The record at the front of `rest` with its length; `None` is padding.
fn record(rest: &[u8], offset: usize) -> Result<(usize, Option<Record<'_>>), Malformed> {
    let cut = Malformed::Cut { offset };
    let head = rest.get(..RECORD_HEADER_LEN).ok_or(cut)?;
    let (len, kind, at_ns) = (u32_at(head, 0) as usize, head[4], u64_at(head, 8));
    let wrong = Malformed::Record { offset, kind, len };
    if len > BODY_LEN_MAX {
        return Err(wrong);
    }
    let end = RECORD_HEADER_LEN + len;
    let body = rest.get(RECORD_HEADER_LEN..end).ok_or(cut)?;
    let item = match (kind, len) {
        (FRAME, _) => Some(Item::Frame(body)),
        (LOST, 8) => Some(Item::Lost(u64_at(body, 0))),
        (PADDING, _) => None,
        (END, 0) => Some(Item::End),
        _ => return Err(wrong),
    };
    Ok((end.next_multiple_of(UNIT), item.map(|item| Record { at_ns, item })))
}

/// Little-endian at `at`; the caller has checked that it is there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4_096;

    fn items(file: &[u8]) -> Vec<Result<Record<'_>, Malformed>> {
        read(file).expect("a capture").1.collect()
    }

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        Header { number: 3, start_unix_us: 1_700_000_000_000_000 }.put(&mut file);
        put(Record { at_ns: 1, item: Item::Frame(b"S\x01") }, &mut file);
        pad(PAGE, &mut file);
        put(Record { at_ns: 2, item: Item::Lost(7) }, &mut file);
        put(Record { at_ns: 3, item: Item::Frame(&[0; 17]) }, &mut file);
        put(Record { at_ns: 4, item: Item::End }, &mut file);
        file
    }

    #[test]
    fn what_is_written_reads_back_in_order() {
        let file = file();
        let (header, records) = read(&file).unwrap();
        assert_eq!(header, Header { number: 3, start_unix_us: 1_700_000_000_000_000 });
        let records: Vec<_> = records.map(Result::unwrap).collect();
        assert_eq!(
            records,
            [
                Record { at_ns: 1, item: Item::Frame(b"S\x01") },
                Record { at_ns: 2, item: Item::Lost(7) },
                Record { at_ns: 3, item: Item::Frame(&[0; 17]) },
                Record { at_ns: 4, item: Item::End },
            ]
        );
    }

    #[test]
    fn padding_ends_at_a_page_whatever_the_gap() {
        for records in 0..600 {
            let mut file = Vec::new();
            Header { number: 1, start_unix_us: 0 }.put(&mut file);
            for _ in 0..records {
                put(Record { at_ns: 0, item: Item::Frame(b"12345678") }, &mut file);
            }
            pad(PAGE, &mut file);
            assert_eq!(file.len() % PAGE, 0, "{records}");
            assert_eq!(items(&file).len(), records);
        }
    }

    #[test]
    fn a_file_cut_anywhere_reads_up_to_its_last_whole_record() {
        let whole = file();
        let all = items(&whole);
        for len in HEADER_LEN..whole.len() {
            let read = items(&whole[..len]);
            let good = read.iter().take_while(|record| record.is_ok()).count();
            assert_eq!(read[..good], all[..good], "{len}");
            assert!(read.len() <= good + 1, "{len}: nothing follows an error");
        }
    }

    #[test]
    fn what_is_no_capture_is_told_as_what_it_is() {
        assert_eq!(read(b"").unwrap_err(), Malformed::Magic);
        assert_eq!(read(&[0xD4; 100]).unwrap_err(), Malformed::Magic);
        let mut newer = file();
        newer[8] = 9;
        assert_eq!(read(&newer).unwrap_err(), Malformed::Version { found: 9 });
        for (at, byte) in [(HEADER_LEN + 4, 99), (HEADER_LEN + 3, 0x7F)] {
            let mut wrong = file();
            wrong[at] = byte;
            let error = items(&wrong).remove(0).unwrap_err();
            assert!(matches!(error, Malformed::Record { offset: 64, .. }), "{error}");
        }
    }

    #[test]
    fn a_frame_beyond_the_bound_is_told_as_lost() {
        let mut file = Vec::new();
        Header { number: 1, start_unix_us: 0 }.put(&mut file);
        let long = vec![0; BODY_LEN_MAX + 1];
        put(Record { at_ns: 5, item: Item::Frame(&long) }, &mut file);
        assert_eq!(items(&file), [Ok(Record { at_ns: 5, item: Item::Lost(1) })]);
    }
}
