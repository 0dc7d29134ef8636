//! MIDI 1.0 messages as values, and the bytes they are on a cable.
//!
//! Source: MIDI 1.0 Detailed Specification 4.2.1, tables I to VIII.

/// One message. Channels are 0..=15 here, as on the cable; people count them from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// `velocity` is 0..=127: how fast the key was released, 64 where that is not measured.
    NoteOff {
        channel: u8,
        note: u8,
        velocity: u8,
    },
    /// A velocity of 0 means that the key was released.
    NoteOn {
        channel: u8,
        note: u8,
        velocity: u8,
    },
    PolyPressure {
        channel: u8,
        note: u8,
        pressure: u8,
    },
    /// Numbers of 120 and above are channel mode messages.
    Control {
        channel: u8,
        number: u8,
        value: u8,
    },
    Program {
        channel: u8,
        program: u8,
    },
    Pressure {
        channel: u8,
        pressure: u8,
    },
    /// 0..=16383, centre 8192.
    Bend {
        channel: u8,
        value: u16,
    },
    /// Everything from F0 to F7, both included.
    Sysex(&'a [u8]),
    /// One eighth of a time code: number of the piece and four bits of it.
    QuarterFrame(u8),
    /// In sixteenth notes (six clocks) since the start of the song, 0..=16383.
    SongPosition(u16),
    Song(u8),
    TuneRequest,
    Clock,
    Start,
    Continue,
    Stop,
    ActiveSensing,
    Reset,
}

/// The centre of a pitch bend wheel.
pub const BEND_CENTRE: u16 = 8_192;

/// The largest value of two data bytes.
pub const MAX_14_BIT: u16 = 16_383;

/// How many data bytes follow a status byte; `None` for a sysex and for bytes that begin nothing.
pub(super) fn data_len(status: u8) -> Option<usize> {
    match status {
        0xC0..=0xDF | 0xF1 | 0xF3 => Some(1),
        0x80..=0xEF | 0xF2 => Some(2),
        0xF6 | 0xF8 | 0xFA..=0xFC | 0xFE | 0xFF => Some(0),
        _ => None,
    }
}

impl<'a> Message<'a> {
    /// The message of a status byte and its data, which the caller has counted. `None`: `status`
    /// begins no message of so few bytes.
    pub(super) fn new(status: u8, data: [u8; 2]) -> Option<Self> {
        let channel = status & 0x0F;
        let [first, second] = data.map(|byte| byte & 0x7F);
        let both = u16::from(second) << 7 | u16::from(first);
        Some(match status {
            0x80..=0x8F => Self::NoteOff { channel, note: first, velocity: second },
            0x90..=0x9F => Self::NoteOn { channel, note: first, velocity: second },
            0xA0..=0xAF => Self::PolyPressure { channel, note: first, pressure: second },
            0xB0..=0xBF => Self::Control { channel, number: first, value: second },
            0xC0..=0xCF => Self::Program { channel, program: first },
            0xD0..=0xDF => Self::Pressure { channel, pressure: first },
            0xE0..=0xEF => Self::Bend { channel, value: both },
            0xF1 => Self::QuarterFrame(first),
            0xF2 => Self::SongPosition(both),
            0xF3 => Self::Song(first),
            0xF6 => Self::TuneRequest,
            0xF8 => Self::Clock,
            0xFA => Self::Start,
            0xFB => Self::Continue,
            0xFC => Self::Stop,
            0xFE => Self::ActiveSensing,
            0xFF => Self::Reset,
            _ => return None,
        })
    }

    /// Appends the message with its status byte. Values beyond seven bits lose what is above.
    pub fn write(&self, out: &mut Vec<u8>) {
        let voice = |kind: u8, channel: u8| kind | channel & 0x0F;
        let two = |value: u16| [value as u8 & 0x7F, (value >> 7) as u8 & 0x7F];
        let before = out.len();
        match *self {
            Self::NoteOff { channel, note, velocity } => {
                out.extend([voice(0x80, channel), note, velocity]);
            }
            Self::NoteOn { channel, note, velocity } => {
                out.extend([voice(0x90, channel), note, velocity]);
            }
            Self::PolyPressure { channel, note, pressure } => {
                out.extend([voice(0xA0, channel), note, pressure]);
            }
            Self::Control { channel, number, value } => {
                out.extend([voice(0xB0, channel), number, value]);
            }
            Self::Program { channel, program } => out.extend([voice(0xC0, channel), program]),
            Self::Pressure { channel, pressure } => out.extend([voice(0xD0, channel), pressure]),
            Self::Bend { channel, value } => {
                let [low, high] = two(value);
                out.extend([voice(0xE0, channel), low, high]);
            }
            Self::Sysex(bytes) => return out.extend_from_slice(bytes),
            Self::QuarterFrame(piece) => out.extend([0xF1, piece]),
            Self::SongPosition(value) => {
                let [low, high] = two(value);
                out.extend([0xF2, low, high]);
            }
            Self::Song(song) => out.extend([0xF3, song]),
            Self::TuneRequest => out.push(0xF6),
            Self::Clock => out.push(0xF8),
            Self::Start => out.push(0xFA),
            Self::Continue => out.push(0xFB),
            Self::Stop => out.push(0xFC),
            Self::ActiveSensing => out.push(0xFE),
            Self::Reset => out.push(0xFF),
        }
        out.iter_mut().skip(before + 1).for_each(|byte| *byte &= 0x7F);
    }
}
