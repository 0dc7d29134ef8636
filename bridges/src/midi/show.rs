//! MIDI Show Control and MIDI Machine Control: sysex that says GO and PLAY, as maps and back.
//!
//! Sources: MIDI Show Control 1.1 (RP-002/RP-014), MIDI Machine Control 1.0 (RP-013). Commands
//! whose data are times or numbers of controllers (TIMED_GO, SET, SET_CLOCK) stay sysex.

use clasp_rt_core::value::{MapWriter, Value, push_f64, push_i64, push_str};
use clasp_rt_core::wire::TooLong;

use super::timecode::{Rate, Timecode};

/// A command of either kind, with what it says besides.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Show(Show),
    Machine(Machine),
}

/// What the data of a show command are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// Cue, list and path, each of which may be missing from the end.
    Cue,
    List,
    Path,
    /// The number of a macro.
    Macro,
}

/// Number, name and data of each show command.
const SHOW: &[(u8, &str, Takes)] = &[
    (0x01, "go", Takes::Cue),
    (0x02, "stop", Takes::Cue),
    (0x03, "resume", Takes::Cue),
    (0x05, "load", Takes::Cue),
    (0x07, "fire", Takes::Macro),
    (0x08, "all_off", Takes::Nothing),
    (0x09, "restore", Takes::Nothing),
    (0x0A, "reset", Takes::Nothing),
    (0x0B, "go_off", Takes::Cue),
    (0x10, "go_jam_clock", Takes::Cue),
    (0x11, "standby_plus", Takes::List),
    (0x12, "standby_minus", Takes::List),
    (0x13, "sequence_plus", Takes::List),
    (0x14, "sequence_minus", Takes::List),
    (0x15, "start_clock", Takes::List),
    (0x16, "stop_clock", Takes::List),
    (0x17, "zero_clock", Takes::List),
    (0x19, "mtc_chase_on", Takes::List),
    (0x1A, "mtc_chase_off", Takes::List),
    (0x1B, "open_cue_list", Takes::List),
    (0x1C, "close_cue_list", Takes::List),
    (0x1D, "open_cue_path", Takes::Path),
    (0x1E, "close_cue_path", Takes::Path),
];

/// Number and name of each machine command without data.
const MACHINE: &[(u8, &str)] = &[
    (0x01, "stop"),
    (0x02, "play"),
    (0x03, "deferred_play"),
    (0x04, "fast_forward"),
    (0x05, "rewind"),
    (0x06, "record_strobe"),
    (0x07, "record_exit"),
    (0x08, "record_pause"),
    (0x09, "pause"),
    (0x0A, "eject"),
    (0x0B, "chase"),
    (0x0D, "mmc_reset"),
];

const LOCATE: &str = "locate";

/// `F0 7F device 02 format command data F7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Show {
    /// 0..=127; 127 is every device.
    pub device: u8,
    /// 0..=127: 1 is lighting, 16 sound, 127 everything.
    pub format: u8,
    command: u8,
    /// Digits and points; empty: not said.
    cue: String,
    list: String,
    path: String,
    /// Of FIRE.
    number: u8,
}

/// `F0 7F device 06 command F7`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Machine {
    pub device: u8,
    command: MachineCommand,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum MachineCommand {
    Plain(u8),
    /// To a time, and hundredths of a frame.
    Locate(Timecode, u8),
}

impl Command {
    /// What a sysex says; `None` where a map would say less than its bytes.
    pub(super) fn read(sysex: &[u8]) -> Option<Self> {
        let command = match sysex {
            [0xF0, 0x7F, device, 0x02, format, command, data @ .., 0xF7] => {
                Self::Show(Show::read(*device, *format, *command, data)?)
            }
            [0xF0, 0x7F, device, 0x06, data @ .., 0xF7] => {
                let command = match *data {
                    [plain] => MachineCommand::Plain(plain),
                    [0x44, 6, 1, hours, minutes, seconds, frames, part] => {
                        let time = Timecode::from_bytes([hours, minutes, seconds, frames])?;
                        MachineCommand::Locate(time, part)
                    }
                    _ => return None,
                };
                Self::Machine(Machine { device: *device, command })
            }
            _ => return None,
        };
        (command.name().is_some() && command.sysex() == sysex).then_some(command)
    }

    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Show(show) => find(SHOW, |entry| entry.0 == show.command).map(|entry| entry.1),
            Self::Machine(Machine { command: MachineCommand::Plain(number), .. }) => {
                find(MACHINE, |entry| entry.0 == *number).map(|entry| entry.1)
            }
            Self::Machine(_) => Some(LOCATE),
        }
    }

    pub(super) fn sysex(&self) -> Vec<u8> {
        let mut bytes = vec![0xF0, 0x7F];
        match self {
            Self::Show(show) => show.write(&mut bytes),
            Self::Machine(Machine { device, command }) => {
                bytes.extend([device & 0x7F, 0x06]);
                match command {
                    MachineCommand::Plain(number) => bytes.push(*number),
                    MachineCommand::Locate(time, part) => {
                        bytes.extend([0x44, 6, 1]);
                        bytes.extend(time.to_bytes());
                        bytes.push(part & 0x7F);
                    }
                }
            }
        }
        bytes.push(0xF7);
        bytes
    }

    /// Appends `{device, command, ...}`.
    pub(super) fn push(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut map = MapWriter::start(out);
        let (Self::Show(Show { device, .. }) | Self::Machine(Machine { device, .. })) = self;
        push_i64(map.entry("device")?, (*device).into());
        push_str(map.entry("command")?, self.name().unwrap_or_default())?;
        match self {
            Self::Show(show) => {
                push_i64(map.entry("format")?, show.format.into());
                for (key, text) in [("cue", &show.cue), ("list", &show.list), ("path", &show.path)]
                {
                    if !text.is_empty() {
                        push_str(map.entry(key)?, text)?;
                    }
                }
                if show.takes() == Takes::Macro {
                    push_i64(map.entry("macro")?, show.number.into());
                }
            }
            Self::Machine(Machine { command: MachineCommand::Locate(time, part), .. }) => {
                push_str(map.entry("time")?, &time.to_string())?;
                push_f64(map.entry("rate")?, time.rate.per_second());
                push_i64(map.entry("part")?, (*part).into());
            }
            Self::Machine(_) => {}
        }
        Ok(())
    }

    /// Reads such a map as a show command: `command`, and `device`, `format`, `cue`, `list`,
    /// `path`, `macro` where they are there.
    pub(super) fn show(map: Value<'_>) -> Option<Self> {
        let name = map.get("command")?.as_str()?;
        let (command, _, takes) = *find(SHOW, |entry| entry.1 == name)?;
        let text = |key: &str| match map.get(key) {
            None => Some(String::new()),
            Some(value) => cue_text(value).filter(|text| is_cue(text)),
        };
        let mut show = Show {
            device: seven_bits(map, "device", 127)?,
            format: seven_bits(map, "format", 1)?,
            command,
            cue: text("cue")?,
            list: text("list")?,
            path: text("path")?,
            number: seven_bits(map, "macro", 0)?,
        };
        if takes != Takes::Cue {
            show.cue.clear();
        }
        Some(Self::Show(show))
    }

    /// Reads such a map as a machine command: `command`, `device`, and of a locate `time`, `rate`
    /// (25) and `part`.
    pub(super) fn machine(map: Value<'_>) -> Option<Self> {
        let device = seven_bits(map, "device", 127)?;
        let name = map.get("command")?.as_str()?;
        let command = if name == LOCATE {
            let per_second = map.get("rate").and_then(|rate| rate.as_f64()).unwrap_or(25.0);
            let rate = Rate::from_per_second(per_second)?;
            let time = Timecode::parse(map.get("time")?.as_str()?, rate)?;
            MachineCommand::Locate(time, seven_bits(map, "part", 0)?)
        } else {
            MachineCommand::Plain(find(MACHINE, |entry| entry.1 == name)?.0)
        };
        Some(Self::Machine(Machine { device, command }))
    }
}

impl Show {
    fn read(device: u8, format: u8, command: u8, data: &[u8]) -> Option<Self> {
        let mut show = Self {
            device,
            format,
            command,
            cue: String::new(),
            list: String::new(),
            path: String::new(),
            number: 0,
        };
        let mut texts = data.split(|byte| *byte == 0).map(|text| {
            std::str::from_utf8(text).ok().filter(|text| is_cue(text)).map(str::to_owned)
        });
        let mut next = || texts.next().unwrap_or_else(|| Some(String::new()));
        match show.takes() {
            Takes::Nothing => {}
            Takes::Cue => (show.cue, show.list, show.path) = (next()?, next()?, next()?),
            Takes::List => show.list = next()?,
            Takes::Path => show.path = next()?,
            Takes::Macro => show.number = *data.first()?,
        }
        Some(show)
    }

    fn takes(&self) -> Takes {
        find(SHOW, |entry| entry.0 == self.command).map_or(Takes::Nothing, |entry| entry.2)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.device & 0x7F, 0x02, self.format & 0x7F, self.command]);
        let texts: &[&str] = match self.takes() {
            Takes::Nothing => &[],
            Takes::Cue => &[&self.cue, &self.list, &self.path],
            Takes::List => &[&self.list],
            Takes::Path => &[&self.path],
            Takes::Macro => return out.push(self.number & 0x7F),
        };
        let said = texts.iter().rposition(|text| !text.is_empty()).map_or(0, |last| last + 1);
        for (index, text) in texts.iter().take(said).enumerate() {
            if index > 0 {
                out.push(0);
            }
            out.extend(text.bytes());
        }
    }
}

fn find<T>(entries: &'static [T], wanted: impl Fn(&T) -> bool) -> Option<&'static T> {
    entries.iter().find(|entry| wanted(entry))
}

/// Cues are digits and points, and short.
fn is_cue(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
}

/// A cue as its text; people also write a number.
fn cue_text(value: Value<'_>) -> Option<String> {
    let number = || value.as_i64().map(|number| number.to_string());
    let fraction = || value.as_f64().map(|number| number.to_string());
    value.as_str().map(str::to_owned).or_else(number).or_else(fraction)
}

fn seven_bits(map: Value<'_>, key: &str, default: u8) -> Option<u8> {
    let Some(value) = map.get(key) else { return Some(default) };
    let number = value.as_i64().or_else(|| value.as_f64().map(|number| number as i64))?;
    u8::try_from(number).ok().filter(|number| *number < 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_maps_and_maps_the_same_bytes() {
        let sysex = |body: &[u8]| [&[0xF0, 0x7F], body, &[0xF7]].concat();
        let cases = [
            // GO of cue 12.5 in list 1, for lighting.
            (sysex(b"\x7f\x02\x01\x0112.5\x001"), true),
            (sysex(b"\x7f\x02\x01\x0112\x00\x003"), true),
            (sysex(b"\x05\x02\x10\x02"), true),
            (sysex(b"\x05\x02\x10\x07\x09"), true),
            (sysex(b"\x05\x02\x7f\x08"), true),
            (sysex(b"\x05\x02\x01\x1b7"), true),
            (sysex(b"\x05\x02\x01\x1d2.1"), true),
            // Bytes that a map would not say: an empty list, a timed GO, no digit, too many.
            (sysex(b"\x7f\x02\x01\x0112\x00"), false),
            (sysex(b"\x7f\x02\x01\x04\x01\x02\x03\x04\x0512"), false),
            (sysex(b"\x7f\x02\x01\x01x"), false),
            (sysex(b"\x7f\x02\x01\x011\x002\x003\x004"), false),
            (sysex(b"\x7f\x02\x01\x08\x01"), false),
            (sysex(b"\x7f\x06\x02"), true),
            (sysex(b"\x7f\x06\x44\x06\x01\x21\x02\x03\x04\x05"), true),
            (sysex(b"\x7f\x06\x44\x06\x01\x3f\x02\x03\x04\x05"), false),
            (sysex(b"\x7f\x06\x0c"), false),
            (sysex(b"\x7f\x06"), false),
            (vec![0xF0, 0x7E, 0x7F, 0x06, 0x01, 0xF7], false),
            (vec![0xF0, 0xF7], false),
        ];
        for (bytes, is_command) in cases {
            let command = Command::read(&bytes);
            assert_eq!(command.is_some(), is_command, "{bytes:x?}");
            let Some(command) = command else { continue };
            let mut encoded = Vec::new();
            command.push(&mut encoded).expect("short");
            let map = Value::from_encoded(&encoded).expect("a map");
            let read = match command {
                Command::Show(_) => Command::show(map),
                Command::Machine(_) => Command::machine(map),
            };
            assert_eq!(read.expect("a command").sysex(), bytes);
        }
    }

    #[test]
    fn a_map_that_asks_for_what_does_not_exist_is_no_command() {
        let map = |entries: &[(&str, &str)]| {
            let mut encoded = Vec::new();
            let mut map = MapWriter::start(&mut encoded);
            for (key, text) in entries {
                push_str(map.entry(key).expect("short"), text).expect("short");
            }
            encoded
        };
        for (entries, good) in [
            (&[("command", "go"), ("cue", "12")][..], true),
            (&[("command", "go"), ("cue", "twelve")], false),
            (&[("command", "gone")], false),
            (&[("cue", "12")], false),
            (&[("command", "go"), ("device", "x")], false),
        ] {
            let encoded = map(entries);
            let map = Value::from_encoded(&encoded).expect("a map");
            assert_eq!(Command::show(map).is_some(), good, "{entries:?}");
            assert_eq!(Command::machine(map), None);
        }
    }
}
