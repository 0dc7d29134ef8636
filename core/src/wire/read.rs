//! Takes fields off the front of untrusted bytes: the one place where bytes can run short.

use core::str;

use crate::error::Malformed;

/// What is left to read. Integers and floats are big-endian.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline(always)]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(Malformed::Truncated { need: len, got: self.rest.len() });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// What `read` reads, where that is seldom called: it is given a copy, so that the reader
    /// itself need not lie in memory for it.
    #[inline(always)]
    pub fn aside<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        let mut copy = *self;
        let found = read(&mut copy);
        *self = copy;
        found
    }

    /// The bytes that `read` goes over.
    #[inline(always)]
    pub fn span(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), Malformed>,
    ) -> Result<&'a [u8], Malformed> {
        let before = self.rest;
        read(self)?;
        // What is left only ever shrinks, so the difference is no more than there was.
        Ok(&before[..before.len() - self.rest.len()])
    }

    #[inline(always)]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline(always)]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline(always)]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline(always)]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline(always)]
    pub fn f32(&mut self) -> Result<f32, Malformed> {
        self.array().map(f32::from_be_bytes)
    }

    #[inline(always)]
    pub fn f64(&mut self) -> Result<f64, Malformed> {
        self.array().map(f64::from_be_bytes)
    }

    /// `u16` length and that many bytes.
    #[inline(always)]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// `u16` length and that many bytes of UTF-8.
    #[inline(always)]
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        utf8(self.bytes()?)
    }

    /// What `read` gives where the sender said that the field is there.
    #[inline(always)]
    pub fn optional<T>(
        &mut self,
        present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if present { read(self).map(Some) } else { Ok(None) }
    }

    #[inline(always)]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(Malformed::Truncated { need: N, got: self.rest.len() });
        };
        self.rest = rest;
        Ok(*taken)
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(bytes).map_err(|_| Malformed::BadUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_field_says_what_it_needs_and_takes_nothing() {
        let mut reader = Reader::new(&[0, 3, b'a', b'b']);
        assert_eq!(reader.u64(), Err(Malformed::Truncated { need: 8, got: 4 }));
        assert_eq!(reader.u16(), Ok(3));
        assert_eq!(reader.take(3), Err(Malformed::Truncated { need: 3, got: 2 }));
        assert_eq!(reader.rest(), b"ab");
    }

    #[test]
    fn a_span_is_exactly_what_was_read() {
        let mut reader = Reader::new(&[1, 2, 3, 4]);
        let span = reader.span(|reader| reader.u16().map(drop));
        assert_eq!(span, Ok(&[1, 2][..]));
        assert_eq!(reader.rest(), &[3, 4]);
    }
}
