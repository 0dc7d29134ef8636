//! Frames that are filled entry by entry, straight from the store, without a list in between.

use alloc::vec::Vec;
use core::marker::PhantomData;

use super::code;
use crate::limits::{PAYLOAD_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use crate::signal::Qos;
use crate::wire::header::{self, FRAME_HEADER_LEN};
use crate::wire::list::{Kind, kind};
use crate::wire::write::patch_u16;

/// Fills one SNAPSHOT frame.
pub type SnapshotBuilder = Builder<kind::Param>;

/// Fills one RESULT frame; metadata is left out.
pub type ResultBuilder = Builder<kind::Listed>;

/// A message that is nothing but one list.
pub trait Listing: Kind {
    #[doc(hidden)]
    const CODE: u8;
}

impl Listing for kind::Param {
    const CODE: u8 = code::SNAPSHOT;
}

impl Listing for kind::Listed {
    const CODE: u8 = code::RESULT;
}

/// Fills one frame with as many entries as fit; the caller starts the next with what did not.
///
/// ```
/// # use clasp_rt_core::message::ParamValue;
/// # use clasp_rt_core::value::Value;
/// use clasp_rt_core::wire::binary::SnapshotBuilder;
///
/// let param = ParamValue {
///     address: "/a", value: Value::NULL, revision: 1, writer: None, timestamp_us: None,
/// };
/// let mut frame = Vec::new();
/// let mut snapshot = SnapshotBuilder::start(&mut frame);
/// assert!(snapshot.push(&mut frame, &param));
/// snapshot.finish(&mut frame);
/// ```
#[derive(Debug)]
pub struct Builder<K> {
    count: u16,
    kind: PhantomData<K>,
}

/// Where the list's count lies: after the header and the message code.
const COUNT_AT: usize = FRAME_HEADER_LEN + 1;

impl<K: Listing> Builder<K> {
    /// Clears `out` and begins a frame in it, which the other methods are given again.
    pub fn start(out: &mut Vec<u8>) -> Self {
        out.clear();
        out.extend_from_slice(&[0; FRAME_HEADER_LEN]);
        out.extend_from_slice(&[K::CODE, 0, 0]);
        Self { count: 0, kind: PhantomData }
    }

    /// Adds an entry, or says that it does not fit and adds nothing.
    ///
    /// A payload is closed at [`SNAPSHOT_BYTES_MAX`], but a first entry may fill the whole frame:
    /// else a long one would never fit.
    pub fn push(&mut self, out: &mut Vec<u8>, item: &K::Item<'_>) -> bool {
        let before = out.len();
        let payload_max = if self.count == 0 { PAYLOAD_BYTES_MAX } else { SNAPSHOT_BYTES_MAX };
        let fits = self.count < u16::MAX
            && K::write(item, out).is_ok()
            && out.len() - FRAME_HEADER_LEN <= payload_max;
        if fits {
            self.count += 1;
        } else {
            out.truncate(before);
        }
        fits
    }

    /// Entries so far.
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// Writes what is known only now: the count and the payload's length.
    pub fn finish(self, out: &mut [u8]) {
        patch_u16(out, COUNT_AT, self.count);
        let header = header::encode(Qos::Fire, out.len() - FRAME_HEADER_LEN)
            .expect("push keeps the payload within a frame");
        out[..FRAME_HEADER_LEN].copy_from_slice(&header);
    }
}
