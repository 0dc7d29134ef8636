//! One input from others: flips, splices, wrong lengths, deep nesting.

use crate::random::Random;

/// Inputs stay below what a transport delivers in one message.
pub const INPUT_BYTES_MAX: usize = 65_547;

/// Bytes that parsers branch on: limits of integers, flags, and our own magic.
const EDGES: [u8; 9] = [0x00, 0x01, 0x0A, 0x0B, 0x53, 0x7F, 0x80, 0xFE, 0xFF];

/// Lengths that do not fit, or just so.
const LENGTHS: [u16; 7] = [0, 1, 2, 0x7F, 0x100, 0x7FFF, 0xFFFF];

/// Pieces of addresses, patterns and JSON.
const TOKENS: [&[u8]; 8] = [b"/", b"*", b"**", b"/a", b"\"", b"{", b"[", b"\\u"];

/// What opens one more level: arrays and maps of values, bundles of messages, OSC, MessagePack.
const NESTS: [&[u8]; 5] =
    [b"\x0A\x00\x01", b"\x0B\x00\x01\x00\x00", b"\x30\x00\x00\x01\xFF\xFF", b"\x91", b"\x81\xA0"];

/// Changes one of `seeds` in a few places.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..1 + random.below(4) {
        change(random, seeds, &mut bytes);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn change(random: &mut Random, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    let end = at + random.below(bytes.len() + 1 - at);
    match random.below(10) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            let edge = EDGES[random.below(EDGES.len())];
            if let Some(byte) = bytes.get_mut(at) {
                *byte = edge;
            }
        }
        2 => {
            let fresh: Vec<u8> = (0..1 + random.below(8)).map(|_| random.byte()).collect();
            bytes.splice(at..at, fresh);
        }
        3 => drop(bytes.drain(at..end)),
        4 => bytes.truncate(at),
        5 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        6 => {
            let near = (bytes.len() as u16).wrapping_add(random.below(9) as u16).wrapping_sub(4);
            let length =
                if random.once_in(2) { near } else { LENGTHS[random.below(LENGTHS.len())] };
            if let Some(field) = bytes.get_mut(at..at + 2) {
                field.copy_from_slice(&length.to_be_bytes());
            }
        }
        7 => {
            let token = TOKENS[random.below(TOKENS.len())];
            bytes.splice(at..at, token.iter().copied());
        }
        8 => {
            let nest = NESTS[random.below(NESTS.len())];
            let levels = 1 << random.below(13);
            let room = INPUT_BYTES_MAX.saturating_sub(bytes.len()) / nest.len();
            bytes.splice(at..at, nest.repeat(levels.min(room)));
        }
        _ => {
            if let Some(other) = random.pick(seeds).filter(|other| !other.is_empty()) {
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

/// The shortest input this finds, by cutting pieces out, that `fails` as `input` does.
pub fn minimised(input: &[u8], tries: usize, mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut tries_left = tries;
    let mut piece = best.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.len() && tries_left > 0 {
            let mut shorter = best.clone();
            shorter.drain(at..(at + piece).min(best.len()));
            tries_left -= 1;
            if fails(&shorter) {
                best = shorter;
            } else {
                at += piece;
            }
        }
        if piece == 1 || tries_left == 0 {
            return best;
        }
        piece = piece.div_ceil(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_none_is_too_long() {
        let seeds = [vec![0; 60_000], b"/a/b".to_vec(), Vec::new()];
        let mut twice = [Random::new(9), Random::new(9)];
        for _ in 0..2_000 {
            let [first, second] = twice.each_mut().map(|random| mutated(random, &seeds));
            assert_eq!(first, second);
            assert!(first.len() <= INPUT_BYTES_MAX);
        }
    }

    #[test]
    fn a_failing_input_is_cut_down_to_what_makes_it_fail() {
        let mut input = vec![7; 300];
        input[100] = 1;
        input[250] = 2;
        let fails = |bytes: &[u8]| bytes.contains(&1) && bytes.contains(&2);
        assert_eq!(minimised(&input, 10_000, fails), [1, 2]);
    }
}
