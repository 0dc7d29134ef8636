//! What shards hand to each other, as bytes: never outside this process, so without versions.

use alloc::vec::Vec;

use super::input::Lane;
use super::marker::{ID_BYTES_MAX, Tag};
use super::session_id::SessionId;
use crate::LinkId;
use crate::ShardId;
use crate::signal::Signal;
use crate::wire::binary::code;
use crate::wire::header::FRAME_HEADER_LEN;

/// Who caused something, and where replies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub shard: ShardId,
    pub link: LinkId,
    /// Which session on that link; a reply to an older one is dropped.
    pub epoch: u32,
    pub writer: SessionId,
    /// Its own SETs are not delivered back to it.
    pub quiet: bool,
    /// It asked for an ACK.
    pub confirm: bool,
    /// It is gone: it takes no locks.
    pub ended: bool,
    /// Its next message waits until this bundle across homes is done.
    pub awaited: bool,
    /// Part of a bundle that overtakes what is not critical.
    pub critical: bool,
    /// Of what it writes without a marker, 0..=200, or [`UNDECLARED`].
    pub priority: u8,
}

/// The priority of a session whose name says none.
pub(crate) const UNDECLARED: u8 = u8::MAX;

impl Origin {
    /// The router itself: nobody to answer, nobody to leave out.
    pub(crate) const fn router(shard: ShardId, writer: SessionId) -> Self {
        Self {
            shard,
            link: LinkId(u32::MAX),
            epoch: 0,
            writer,
            quiet: false,
            confirm: false,
            ended: true,
            awaited: false,
            critical: false,
            priority: UNDECLARED,
        }
    }

    pub(crate) fn is_router(&self) -> bool {
        self.link.0 == u32::MAX
    }
}

/// A record, borrowed. `Forward` lane first, `Publish` lane after [`Record::Published`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Record<'a> {
    /// A SET, PUBLISH or ANNOUNCE payload for its home.
    Write {
        origin: Origin,
        payload: &'a [u8],
    },
    /// A bundle all of whose addresses have this home.
    Bundle {
        origin: Origin,
        payload: &'a [u8],
    },
    /// A bundle whose addresses have several homes, for the coordinator.
    Spanning {
        origin: Origin,
        payload: &'a [u8],
    },
    /// The coordinator asks a home whether its part of a bundle can be applied.
    Prepare {
        origin: Origin,
        payload: &'a [u8],
    },
    Get {
        origin: Origin,
        grant: u32,
        address: &'a str,
    },
    Query {
        origin: Origin,
        grant: u32,
        pattern: &'a str,
    },
    /// A peer-to-peer signal for a session of this shard; `frame` is what it shall receive.
    Direct {
        origin: Origin,
        to: SessionId,
        frame: &'a [u8],
    },
    /// This shard wants (or no longer wants) what matches.
    Interest {
        wanted: bool,
        pattern: &'a str,
    },
    /// Asks for the next part of a snapshot.
    Pull {
        origin: Origin,
        grant: u32,
        serial: u32,
        cursor: u32,
        pattern: &'a str,
    },
    /// Asks for the newest stream samples.
    History {
        origin: Origin,
        count_max: u32,
        window_ms: u32,
        pattern: &'a str,
    },
    /// Answered with `Fenced` when all before it has been published.
    Fence {
        origin: Origin,
    },
    /// A session is gone: release its locks and claims.
    SessionEnded {
        session: SessionId,
    },
    /// A session says that its source `id` is lost; answered with `Signed`.
    Released {
        origin: Origin,
        id: &'a str,
    },
    /// A session says that its source `id` is there.
    Alive {
        session: SessionId,
        id: &'a str,
    },
    /// The priority of a session's name is another one now.
    Ranked {
        session: SessionId,
        before: u8,
        priority: u8,
    },

    /// A frame for all links of this shard that want its address. `tag`: the source of a SET that
    /// came with a marker.
    Published {
        origin: Origin,
        key: u64,
        tag: Option<Tag<'a>>,
        frame: &'a [u8],
    },
    /// A frame for one link.
    Reply {
        origin: Origin,
        frame: &'a [u8],
    },
    /// A part of a snapshot; without a frame nothing matched. `next` is `u32::MAX` at the end.
    Chunk {
        origin: Origin,
        serial: u32,
        next: u32,
        frame: &'a [u8],
    },
    Fenced {
        origin: Origin,
    },
    /// A home has done what a `Released` of that session asked for.
    Signed {
        origin: Origin,
    },
    /// What a home says to `Prepare`: an ERROR frame, or none.
    Vote {
        error: &'a [u8],
    },
    /// What the coordinator decides.
    ///
    /// Messages before `until` are applied; 0 means that none ever is.
    Decide {
        until: u32,
    },
    /// A home has done what was decided; `revision` is that of its last SET, 0 without one.
    Done {
        revision: u64,
    },
}

const FLAG_QUIET: u8 = 1;
const FLAG_CONFIRM: u8 = 2;
const FLAG_ENDED: u8 = 4;
const FLAG_AWAITED: u8 = 8;
const FLAG_CRITICAL: u8 = 16;

struct Writer<'v>(&'v mut Vec<u8>);

impl Writer<'_> {
    fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }

    fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn origin(&mut self, o: &Origin) -> &mut Self {
        self.0.extend_from_slice(&o.shard.0.to_le_bytes());
        self.u32(o.link.0).u32(o.epoch);
        self.0.extend_from_slice(&o.writer.0);
        self.u8(o.priority);
        let flags = [
            (o.quiet, FLAG_QUIET),
            (o.confirm, FLAG_CONFIRM),
            (o.ended, FLAG_ENDED),
            (o.awaited, FLAG_AWAITED),
            (o.critical, FLAG_CRITICAL),
        ];
        self.u8(flags.iter().fold(0, |all, &(set, flag)| if set { all | flag } else { all }))
    }

    /// The length of its id first; nothing follows a length of 0.
    fn tag(&mut self, tag: Option<Tag<'_>>) -> &mut Self {
        let Some(tag) = tag else { return self.u8(0) };
        debug_assert!((1..=ID_BYTES_MAX).contains(&tag.id.len()));
        self.u8(tag.id.len() as u8);
        self.0.extend_from_slice(tag.id.as_bytes());
        self.0.extend_from_slice(&tag.by.unwrap_or(SessionId::NONE).0);
        self.u8(tag.priority.unwrap_or(UNDECLARED))
    }

    /// The last field of every record: it takes the rest.
    fn rest(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[b]| b)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn origin(&mut self) -> Option<Origin> {
        let shard = ShardId(u16::from_le_bytes(self.take()?));
        let link = LinkId(self.u32()?);
        let epoch = self.u32()?;
        let writer = SessionId(self.take()?);
        let priority = self.u8()?;
        let flags = self.u8()?;
        Some(Origin {
            shard,
            link,
            epoch,
            writer,
            quiet: flags & FLAG_QUIET != 0,
            confirm: flags & FLAG_CONFIRM != 0,
            ended: flags & FLAG_ENDED != 0,
            awaited: flags & FLAG_AWAITED != 0,
            critical: flags & FLAG_CRITICAL != 0,
            priority,
        })
    }

    fn tag(&mut self) -> Option<Option<Tag<'a>>> {
        let len = usize::from(self.u8()?);
        if len == 0 {
            return Some(None);
        }
        let (id, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        let by = SessionId(self.take()?);
        let priority = self.u8()?;
        Some(Some(Tag {
            id: core::str::from_utf8(id).ok()?,
            priority: (priority != UNDECLARED).then_some(priority),
            by: (by != SessionId::NONE).then_some(by),
        }))
    }

    fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.rest()).ok()
    }
}

impl<'a> Record<'a> {
    pub(crate) const fn lane(&self) -> Lane {
        match self {
            Self::Write { .. }
            | Self::Bundle { .. }
            | Self::Spanning { .. }
            | Self::Prepare { .. }
            | Self::Get { .. }
            | Self::Query { .. }
            | Self::Direct { .. }
            | Self::Interest { .. }
            | Self::Pull { .. }
            | Self::History { .. }
            | Self::Fence { .. }
            | Self::SessionEnded { .. }
            | Self::Released { .. }
            | Self::Alive { .. }
            | Self::Ranked { .. } => Lane::Forward,
            Self::Published { .. }
            | Self::Reply { .. }
            | Self::Chunk { .. }
            | Self::Fenced { .. }
            | Self::Signed { .. }
            | Self::Vote { .. }
            | Self::Decide { .. }
            | Self::Done { .. } => Lane::Publish,
        }
    }

    /// The address of the stream sample that it carries, if it does, and the hash of it where that
    /// is known.
    pub(crate) fn sample(&self) -> Option<(&'a str, Option<u64>)> {
        match *self {
            Self::Write { payload, .. } => address_of_sample(payload).map(|found| (found, None)),
            Self::Published { key, frame, .. } => {
                let payload = frame.get(FRAME_HEADER_LEN..)?;
                address_of_sample(payload).map(|found| (found, Some(key)))
            }
            _ => None,
        }
    }

    /// Clears `out` and writes the record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        let mut w = Writer(out);
        match *self {
            Self::Write { origin, payload } => w.u8(1).origin(&origin).rest(payload),
            Self::Bundle { origin, payload } => w.u8(2).origin(&origin).rest(payload),
            Self::Spanning { origin, payload } => w.u8(3).origin(&origin).rest(payload),
            Self::Prepare { origin, payload } => w.u8(4).origin(&origin).rest(payload),
            Self::Get { origin, grant, address } => {
                w.u8(5).origin(&origin).u32(grant).rest(address.as_bytes());
            }
            Self::Query { origin, grant, pattern } => {
                w.u8(6).origin(&origin).u32(grant).rest(pattern.as_bytes());
            }
            Self::Direct { origin, to, frame } => {
                w.u8(7).origin(&origin);
                w.rest(&to.0);
                w.rest(frame);
            }
            Self::Interest { wanted, pattern } => {
                w.u8(8).u8(u8::from(wanted)).rest(pattern.as_bytes());
            }
            Self::Pull { origin, grant, serial, cursor, pattern } => {
                w.u8(9).origin(&origin).u32(grant).u32(serial).u32(cursor);
                w.rest(pattern.as_bytes());
            }
            Self::History { origin, count_max, window_ms, pattern } => {
                w.u8(10).origin(&origin).u32(count_max).u32(window_ms).rest(pattern.as_bytes());
            }
            Self::Fence { origin } => w.u8(11).origin(&origin).rest(&[]),
            Self::SessionEnded { session } => w.u8(12).rest(&session.0),
            Self::Published { origin, key, tag, frame } => {
                w.u8(13).origin(&origin).u64(key).tag(tag).rest(frame);
            }
            Self::Reply { origin, frame } => w.u8(14).origin(&origin).rest(frame),
            Self::Chunk { origin, serial, next, frame } => {
                w.u8(15).origin(&origin).u32(serial).u32(next).rest(frame);
            }
            Self::Fenced { origin } => w.u8(16).origin(&origin).rest(&[]),
            Self::Vote { error } => w.u8(17).rest(error),
            Self::Decide { until } => w.u8(18).u32(until).rest(&[]),
            Self::Done { revision } => w.u8(19).u64(revision).rest(&[]),
            Self::Released { origin, id } => w.u8(20).origin(&origin).rest(id.as_bytes()),
            Self::Alive { session, id } => {
                w.u8(21).rest(&session.0);
                w.rest(id.as_bytes());
            }
            Self::Signed { origin } => w.u8(22).origin(&origin).rest(&[]),
            Self::Ranked { session, before, priority } => {
                w.u8(23).u8(before).u8(priority).rest(&session.0);
            }
        }
    }

    /// `None` only for bytes that [`Record::encode`] did not write.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        Some(match r.u8()? {
            1 => Self::Write { origin: r.origin()?, payload: r.rest() },
            2 => Self::Bundle { origin: r.origin()?, payload: r.rest() },
            3 => Self::Spanning { origin: r.origin()?, payload: r.rest() },
            4 => Self::Prepare { origin: r.origin()?, payload: r.rest() },
            5 => Self::Get { origin: r.origin()?, grant: r.u32()?, address: r.text()? },
            6 => Self::Query { origin: r.origin()?, grant: r.u32()?, pattern: r.text()? },
            7 => Self::Direct { origin: r.origin()?, to: SessionId(r.take()?), frame: r.rest() },
            8 => Self::Interest { wanted: r.u8()? != 0, pattern: r.text()? },
            9 => Self::Pull {
                origin: r.origin()?,
                grant: r.u32()?,
                serial: r.u32()?,
                cursor: r.u32()?,
                pattern: r.text()?,
            },
            10 => Self::History {
                origin: r.origin()?,
                count_max: r.u32()?,
                window_ms: r.u32()?,
                pattern: r.text()?,
            },
            11 => Self::Fence { origin: r.origin()? },
            12 => Self::SessionEnded { session: SessionId(r.take()?) },
            13 => Self::Published {
                origin: r.origin()?,
                key: r.u64()?,
                tag: r.tag()?,
                frame: r.rest(),
            },
            14 => Self::Reply { origin: r.origin()?, frame: r.rest() },
            15 => Self::Chunk {
                origin: r.origin()?,
                serial: r.u32()?,
                next: r.u32()?,
                frame: r.rest(),
            },
            16 => Self::Fenced { origin: r.origin()? },
            17 => Self::Vote { error: r.rest() },
            18 => Self::Decide { until: r.u32()? },
            19 => Self::Done { revision: r.u64()? },
            20 => Self::Released { origin: r.origin()?, id: r.text()? },
            21 => Self::Alive { session: SessionId(r.take()?), id: r.text()? },
            22 => Self::Signed { origin: r.origin()? },
            23 => {
                let (before, priority) = (r.u8()?, r.u8()?);
                Self::Ranked { session: SessionId(r.take()?), before, priority }
            }
            _ => return None,
        })
    }
}

/// The address of a PUBLISH payload of a stream.
fn address_of_sample(payload: &[u8]) -> Option<&str> {
    let [code::PUBLISH, flags, high, low, rest @ ..] = payload else { return None };
    if Signal::from_code(flags >> 5) != Signal::Stream {
        return None;
    }
    let address = rest.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
    core::str::from_utf8(address).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_reads_back_as_written() {
        let writer = SessionId::new([3, 4], ShardId(1), 7);
        let origin = Origin {
            shard: ShardId(1),
            link: LinkId(9),
            epoch: 5,
            writer,
            quiet: true,
            confirm: false,
            ended: false,
            awaited: true,
            critical: true,
            priority: 120,
        };
        let tag = Tag { id: "desk", priority: Some(150), by: Some(writer) };
        let (payload, frame, pattern, address) = (&b"pay"[..], &b"frame"[..], "/a/**", "/a/b");
        let records = [
            Record::Write { origin, payload },
            Record::Bundle { origin, payload },
            Record::Spanning { origin, payload },
            Record::Prepare { origin, payload },
            Record::Get { origin, grant: 1, address },
            Record::Query { origin, grant: 2, pattern },
            Record::Direct { origin, to: writer, frame },
            Record::Interest { wanted: true, pattern },
            Record::Pull { origin, grant: 3, serial: 4, cursor: 5, pattern },
            Record::History { origin, count_max: 6, window_ms: 7, pattern },
            Record::Fence { origin },
            Record::SessionEnded { session: writer },
            Record::Published { origin, key: 8, tag: None, frame },
            Record::Published { origin, key: 8, tag: Some(tag), frame },
            Record::Released { origin, id: "desk" },
            Record::Signed { origin },
            Record::Alive { session: writer, id: "desk" },
            Record::Ranked { session: writer, before: 255, priority: 7 },
            Record::Reply { origin, frame },
            Record::Chunk { origin, serial: 9, next: u32::MAX, frame },
            Record::Fenced { origin },
            Record::Vote { error: frame },
            Record::Decide { until: 12 },
            Record::Done { revision: 13 },
        ];
        let mut bytes = Vec::new();
        for record in records {
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Some(record));
        }
        assert_eq!(Record::decode(&[]), None);
        assert_eq!(Record::decode(&[99]), None);
    }
}
