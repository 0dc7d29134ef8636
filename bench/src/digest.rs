//! Numbers that are equal where what was heard is equal: two replays of one capture are compared by
//! them.

/// FNV-1a over pieces of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Digest(pub u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Digest {
    pub fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }

    /// One piece, ended by a byte that UTF-8 never contains, so that two are not taken for one.
    pub fn piece(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.byte(*byte));
        self.byte(0xFF);
    }

    /// Of pairs of pieces, in their order.
    pub fn of<K: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl Iterator<Item = (K, V)>) -> u64 {
        let mut digest = Self::default();
        for (key, value) in pairs {
            digest.piece(key.as_ref());
            digest.piece(value.as_ref());
        }
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_states_apart_and_nothing_else() {
        let of = |pairs: &[(&str, &str)]| Digest::of(pairs.iter().copied());
        assert_eq!(of(&[("/a", "1"), ("/b", "2")]), of(&[("/a", "1"), ("/b", "2")]));
        assert_ne!(of(&[("/a", "1")]), of(&[("/a", "2")]));
        assert_ne!(of(&[("/a", "b1")]), of(&[("/ab", "1")]));
    }

    #[test]
    fn an_order_is_told_from_another_order_of_the_same_pieces() {
        let of = |pieces: [&[u8]; 2]| {
            let mut digest = Digest::default();
            pieces.iter().for_each(|piece| digest.piece(piece));
            digest.0
        };
        assert_ne!(of([b"1", b"2"]), of([b"2", b"1"]));
        assert_eq!(of([b"1", b"2"]), of([b"1", b"2"]));
    }
}
