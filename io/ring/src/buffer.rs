//! What a stream sends: bytes of its own, or a part of bytes that many streams send at once.

use std::ops::Range;
use std::rc::Rc;

/// Bytes on their way to the kernel.
#[derive(Clone, Debug)]
pub enum Buffer {
    /// Comes back when it is sent, to be used again.
    Own(Vec<u8>),
    /// `part` of `bytes`. Whoever holds another share can read them and nobody can change them, as
    /// long as there are two.
    Shared { bytes: Rc<Vec<u8>>, part: Range<u32> },
}

impl Buffer {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared { bytes, part } => &bytes[part.start as usize..part.end as usize],
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Shared { part, .. } => part.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector to be used again; a share leaves an empty one, which takes no memory.
    pub fn into_own(self) -> Vec<u8> {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared { .. } => Vec::new(),
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Own(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_shows_its_part_and_keeps_the_rest_from_being_changed() {
        let mut all = Rc::new(b"one message".to_vec());
        let part = Buffer::Shared { bytes: Rc::clone(&all), part: 4..11 };
        assert_eq!((part.bytes(), part.len()), (&b"message"[..], 7));
        assert!(Rc::get_mut(&mut all).is_none());
        drop(part);
        assert!(Rc::get_mut(&mut all).is_some());
        assert!(Buffer::from(Vec::new()).is_empty());
    }
}
