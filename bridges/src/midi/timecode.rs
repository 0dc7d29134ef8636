//! MIDI time code: eight quarter frames, or one sysex, are one time of day.
//!
//! Source: MIDI Time Code (MMA/AMEI, part of MIDI 1.0 Detailed Specification 4.2.1).

use std::fmt;

use super::message::Message;

/// Frames a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    Film24,
    Pal25,
    /// 30 numbers a second of which each minute leaves two out, save every tenth: 29.97.
    Drop30,
    Full30,
}

impl Rate {
    fn new(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Film24,
            1 => Self::Pal25,
            2 => Self::Drop30,
            _ => Self::Full30,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Film24 => 0,
            Self::Pal25 => 1,
            Self::Drop30 => 2,
            Self::Full30 => 3,
        }
    }

    /// Numbers of frames in a second.
    fn numbers(self) -> u8 {
        match self {
            Self::Film24 => 24,
            Self::Pal25 => 25,
            Self::Drop30 | Self::Full30 => 30,
        }
    }

    /// Frames a second, as people write it.
    pub(crate) fn per_second(self) -> f64 {
        match self {
            Self::Film24 => 24.0,
            Self::Pal25 => 25.0,
            Self::Drop30 => 29.97,
            Self::Full30 => 30.0,
        }
    }

    /// The rate that is meant by `per_second`.
    pub(crate) fn from_per_second(per_second: f64) -> Option<Self> {
        let rates = [Self::Film24, Self::Pal25, Self::Drop30, Self::Full30];
        rates.into_iter().find(|rate| (rate.per_second() - per_second).abs() < 0.01)
    }
}

/// A time of day, `hh:mm:ss:ff`; with drop frames `hh:mm:ss;ff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timecode {
    pub hours: u8,
    pub minutes: u8,
    pub seconds: u8,
    pub frames: u8,
    pub rate: Rate,
}

impl fmt::Display for Timecode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hours, minutes, seconds, frames, rate } = self;
        let mark = if *rate == Rate::Drop30 { ';' } else { ':' };
        write!(f, "{hours:02}:{minutes:02}:{seconds:02}{mark}{frames:02}")
    }
}

impl Timecode {
    /// `None`: not a time that a clock shows.
    fn new(hours: u8, minutes: u8, seconds: u8, frames: u8, rate: Rate) -> Option<Self> {
        let is_time = hours < 24 && minutes < 60 && seconds < 60 && frames < rate.numbers();
        is_time.then_some(Self { hours, minutes, seconds, frames, rate })
    }

    /// Reads `hh:mm:ss:ff`. A semicolon before the frames means drop frames, else `rate` does.
    pub(crate) fn parse(text: &str, rate: Rate) -> Option<Self> {
        let (rest, frames) = text.rsplit_once([':', ';', '.'])?;
        let rate = if text.contains(';') { Rate::Drop30 } else { rate };
        let mut parts = rest.split(':').map(|part| part.parse::<u8>().ok());
        let [hours, minutes, seconds] = [parts.next()??, parts.next()??, parts.next()??];
        let is_whole = parts.next().is_none();
        Self::new(hours, minutes, seconds, frames.parse().ok()?, rate).filter(|_| is_whole)
    }

    /// Of hours with their rate in bits 5 and 6, minutes, seconds and frames.
    pub(crate) fn from_bytes([hours, minutes, seconds, frames]: [u8; 4]) -> Option<Self> {
        Self::new(hours & 0x1F, minutes, seconds, frames, Rate::new(hours >> 5))
    }

    pub(crate) fn to_bytes(self) -> [u8; 4] {
        [self.rate.bits() << 5 | self.hours, self.minutes, self.seconds, self.frames]
    }

    /// Frames since midnight, none left out.
    pub(crate) fn count(self) -> u64 {
        let minutes = u64::from(self.hours) * 60 + u64::from(self.minutes);
        let seconds = minutes * 60 + u64::from(self.seconds);
        let numbers = seconds * u64::from(self.rate.numbers()) + u64::from(self.frames);
        match self.rate {
            Rate::Drop30 => numbers.saturating_sub(2 * (minutes - minutes / 10)),
            _ => numbers,
        }
    }

    /// The time `count` frames after midnight, past the next one if need be.
    pub(crate) fn from_count(count: u64, rate: Rate) -> Self {
        let per_second = u64::from(rate.numbers());
        let numbers = match rate {
            Rate::Drop30 => {
                let count = count % (17_982 * 144);
                let (tens, rest) = (count / 17_982, count % 17_982);
                // Ten minutes of which the first is whole and nine have two frames less.
                count + 18 * tens + 2 * (rest.saturating_sub(2) / 1_798)
            }
            _ => count % (86_400 * per_second),
        };
        let seconds = numbers / per_second;
        Self {
            hours: (seconds / 3_600 % 24) as u8,
            minutes: (seconds / 60 % 60) as u8,
            seconds: (seconds % 60) as u8,
            frames: (numbers % per_second) as u8,
            rate,
        }
    }

    /// The time so many frames later; earlier, where `frames` is negative.
    pub(crate) fn later(self, frames: i64) -> Self {
        let day = match self.rate {
            Rate::Drop30 => 17_982 * 144,
            rate => 86_400 * u64::from(rate.numbers()),
        };
        let count = (self.count() as i64 + frames).rem_euclid(day as i64);
        Self::from_count(count as u64, self.rate)
    }

    /// One of the eight quarter frames, 0..=7.
    pub(crate) fn quarter(self, piece: u8) -> Message<'static> {
        let [hours, minutes, seconds, frames] = self.to_bytes();
        let byte = [frames, seconds, minutes, hours][usize::from(piece / 2 % 4)];
        let half = if piece.is_multiple_of(2) { byte & 0x0F } else { byte >> 4 };
        Message::QuarterFrame((piece & 7) << 4 | half)
    }

    /// The sysex that says all at once, to all devices.
    pub(crate) fn full_frame(self) -> Vec<u8> {
        let [hours, minutes, seconds, frames] = self.to_bytes();
        vec![0xF0, 0x7F, 0x7F, 0x01, 0x01, hours, minutes, seconds, frames, 0xF7]
    }

    pub(crate) fn from_full_frame(sysex: &[u8]) -> Option<Self> {
        match *sysex {
            [0xF0, 0x7F, _, 0x01, 0x01, hours, minutes, seconds, frames, 0xF7] => {
                Self::from_bytes([hours, minutes, seconds, frames])
            }
            _ => None,
        }
    }
}

/// Gathers quarter frames.
#[derive(Debug, Default)]
pub(crate) struct Quarters {
    /// The pieces of one time, as far as they came in order.
    pieces: [u8; 8],
    /// How many came so, and the number of the last: their order is the direction.
    run: u8,
    last: u8,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Direction {
    #[default]
    Forward,
    Backward,
}

impl Quarters {
    /// Takes one piece. Every eighth in order completes a time: that of the moment in which it is
    /// complete, two frames past the one that the pieces spell, because they took so long.
    pub(crate) fn push(&mut self, data: u8) -> Option<Timecode> {
        let (piece, half) = (data >> 4 & 7, data & 0x0F);
        let follows = |step: u8| piece == self.last.wrapping_add(step) & 7;
        let direction = match (follows(1), follows(7)) {
            (true, _) => Some(Direction::Forward),
            (_, true) => Some(Direction::Backward),
            _ => None,
        };
        self.last = piece;
        let begins = |direction| match direction {
            Direction::Forward => piece == 0,
            Direction::Backward => piece == 7,
        };
        match direction {
            Some(direction) if self.run > 0 && (direction == self.direction || self.run == 1) => {
                self.direction = direction;
                if begins(direction) {
                    self.run = 0;
                }
            }
            _ => self.run = 0,
        }
        // A run begins at either end, and its direction shows with the second piece.
        if self.run == 0 && piece != 0 && piece != 7 {
            return None;
        }
        self.pieces[usize::from(piece)] = half;
        self.run += 1;
        if self.run < 8 {
            return None;
        }
        self.run = 0;
        let byte = |low: usize| self.pieces[low] | self.pieces[low + 1] << 4;
        let time = Timecode::from_bytes([byte(6), byte(4), byte(2), byte(0)])?;
        Some(time.later(if self.direction == Direction::Forward { 2 } else { -2 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [Rate; 4] = [Rate::Film24, Rate::Pal25, Rate::Drop30, Rate::Full30];

    fn time(text: &str, rate: Rate) -> Timecode {
        Timecode::parse(text, rate).expect(text)
    }

    #[test]
    fn every_frame_of_a_day_has_one_name() {
        for rate in RATES {
            let mut count = 0;
            let mut before = Timecode::from_count(0, rate).later(-1);
            while count < 2 * 3_600 * 30 {
                let here = Timecode::from_count(count, rate);
                assert_eq!(here.count(), count, "{here}");
                assert_eq!(before.later(1), here);
                assert_eq!(time(&here.to_string(), rate), here);
                let is_dropped = rate == Rate::Drop30
                    && here.frames < 2
                    && here.seconds == 0
                    && !here.minutes.is_multiple_of(10);
                assert!(!is_dropped, "{here}");
                (before, count) = (here, count + 1);
            }
            assert_eq!(Timecode::from_count(0, rate).later(-1).hours, 23);
        }
    }

    #[test]
    fn eight_quarters_in_order_are_the_time_two_frames_later() {
        for rate in RATES {
            let start = time("01:02:03:04", rate);
            let mut quarters = Quarters::default();
            let pieces = |time: Timecode| {
                (0..8).map(move |piece| match time.quarter(piece) {
                    Message::QuarterFrame(data) => data,
                    other => panic!("{other:?}"),
                })
            };
            let mut forward = pieces(start).chain(pieces(start.later(2)));
            let found: Vec<_> = forward.by_ref().filter_map(|data| quarters.push(data)).collect();
            assert_eq!(found, [start.later(2), start.later(4)]);
            let backward = pieces(start).collect::<Vec<_>>().into_iter().rev();
            let found: Vec<_> = backward.filter_map(|data| quarters.push(data)).collect();
            assert_eq!(found, [start.later(-2)]);
        }
    }

    #[test]
    fn pieces_out_of_order_and_times_that_no_clock_shows_are_nothing() {
        let mut quarters = Quarters::default();
        let broken = [0x01, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x30];
        assert!(broken.into_iter().all(|data| quarters.push(data).is_none()));
        let wrong = [0x0F, 0x1F, 0x2F, 0x3F, 0x4F, 0x5F, 0x6F, 0x77];
        assert!(wrong.into_iter().all(|data| quarters.push(data).is_none()));
        for text in ["", "1:2:3", "24:00:00:00", "00:00:00:30", "a:b:c:d", "1:2:3:4:5"] {
            assert_eq!(Timecode::parse(text, Rate::Full30), None, "{text}");
        }
    }

    #[test]
    fn a_full_frame_says_the_same_in_one_message() {
        let time = time("23:59:59;29", Rate::Full30);
        assert_eq!(time.rate, Rate::Drop30);
        let sysex = time.full_frame();
        assert_eq!(sysex, [0xF0, 0x7F, 0x7F, 1, 1, 0x57, 59, 59, 29, 0xF7]);
        assert_eq!(Timecode::from_full_frame(&sysex), Some(time));
    }
}
