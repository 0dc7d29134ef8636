//! Appends fields to a frame. Integers and floats are big-endian.

use alloc::vec::Vec;

use super::TooLong;

/// A length or count as the wire writes it.
pub fn length(len: usize) -> Result<u16, TooLong> {
    u16::try_from(len).map_err(|_| TooLong)
}

pub fn put_u16(out: &mut Vec<u8>, field: u16) {
    out.extend_from_slice(&field.to_be_bytes());
}

pub fn put_u32(out: &mut Vec<u8>, field: u32) {
    out.extend_from_slice(&field.to_be_bytes());
}

pub fn put_u64(out: &mut Vec<u8>, field: u64) {
    out.extend_from_slice(&field.to_be_bytes());
}

pub fn put_f64(out: &mut Vec<u8>, field: f64) {
    out.extend_from_slice(&field.to_be_bytes());
}

/// `u16` length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, field: &[u8]) -> Result<(), TooLong> {
    put_u16(out, length(field.len())?);
    out.extend_from_slice(field);
    Ok(())
}

pub fn put_str(out: &mut Vec<u8>, field: &str) -> Result<(), TooLong> {
    put_bytes(out, field.as_bytes())
}

/// Writes over the `u16` at `at`, which was appended before.
pub fn patch_u16(out: &mut [u8], at: usize, field: u16) {
    out[at..at + 2].copy_from_slice(&field.to_be_bytes());
}

/// `bit` where a field is there, else no bit.
pub fn flag(present: bool, bit: u8) -> u8 {
    if present { bit } else { 0 }
}
