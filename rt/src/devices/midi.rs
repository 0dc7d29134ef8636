//! A MIDI port: other people's, found by name or number, or one of our own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use clasp_rt_bridges::devices::{MidiChoice, MidiPort};
use clasp_rt_bridges::midi::{Parsed, Parser};
use midir::os::unix::{VirtualInput, VirtualOutput};
use midir::{Ignore, MidiInput, MidiInputConnection, MidiInputPort};
use midir::{MidiOutput, MidiOutputConnection, MidiOutputPort};
use tracing::warn;

use super::{BEHIND, End, LOOK, Over};
use crate::bridge_thread::device::Heard;
use crate::clock::monotonic_ns;

/// What every system has, and nobody means: it gives back what it is given.
const THROUGH: &str = "Midi Through";

/// Messages that the driver has brought and the host has not been told.
const HEARD_MAX: usize = 4_096;

/// A port of this machine.
pub struct Listed {
    pub name: String,
    input: Option<MidiInputPort>,
    output: Option<MidiOutputPort>,
}

impl Listed {
    pub fn can_be_heard(&self) -> bool {
        self.input.is_some()
    }

    pub fn can_be_told(&self) -> bool {
        self.output.is_some()
    }
}

/// All ports but those of `client`, in the order in which they are numbered.
pub fn ports(client: &str) -> Result<Vec<Listed>, String> {
    Ok(Finder::new(client)?.list())
}

/// Looks at what is plugged in.
struct Finder {
    client: String,
    inputs: MidiInput,
    outputs: MidiOutput,
}

/// The driver complains aloud, whenever it is asked, where there is none of this.
const SEQUENCER: &str = "/dev/snd/seq";

impl Finder {
    fn new(client: &str) -> Result<Self, String> {
        if !cfg!(feature = "jack") && !Path::new(SEQUENCER).exists() {
            return Err(format!("this machine has no ALSA sequencer ({SEQUENCER})"));
        }
        // Of another name, so that `client` is found where its ports are.
        let looker = format!("{client}-look");
        let inputs = MidiInput::new(&looker).map_err(|why| why.to_string())?;
        let outputs = MidiOutput::new(&looker).map_err(|why| why.to_string())?;
        Ok(Self { client: client.to_owned(), inputs, outputs })
    }

    fn list(&self) -> Vec<Listed> {
        let mut list: Vec<Listed> = Vec::new();
        let is_ours = |name: &str| is_of(&self.client, name);
        for port in self.inputs.ports() {
            // One that goes while it is asked has no name.
            let Ok(name) = self.inputs.port_name(&port) else { continue };
            if !is_ours(&name) {
                list.push(Listed { name, input: Some(port), output: None });
            }
        }
        for port in self.outputs.ports() {
            let Ok(name) = self.outputs.port_name(&port) else { continue };
            let same = list.iter_mut().find(|one| one.name == name && one.output.is_none());
            match same {
                Some(one) => one.output = Some(port),
                None if is_ours(&name) => {}
                None => list.push(Listed { name, input: None, output: Some(port) }),
            }
        }
        list
    }

    /// The ports that are meant, each in a direction of its own.
    fn find(&self, port: &MidiPort) -> Result<(Option<Listed>, Option<Listed>), String> {
        let none = || "none is there".to_owned();
        let meant = |wanted: &str, index: usize, one: &Listed| match &port.choice {
            MidiChoice::First => !one.name.starts_with(THROUGH),
            MidiChoice::Named { .. } => one.name.contains(wanted),
            MidiChoice::Number(number) => index == usize::from(*number),
            MidiChoice::Virtual(_) => false,
        };
        let first = |wanted: &str, is_way: fn(&Listed) -> bool| {
            let list = self.list().into_iter().enumerate();
            let mut meant = list.filter(|(index, one)| is_way(one) && meant(wanted, *index, one));
            meant.next().map(|(_, one)| one)
        };
        let (input, output) = match &port.choice {
            MidiChoice::Named { input, output } => (input.as_str(), output.as_str()),
            _ => ("", ""),
        };
        let heard = port.input.then(|| first(input, Listed::can_be_heard)).flatten();
        // The other direction of the same device, where nothing else is said.
        let same = |one: &Listed| match port.choice {
            MidiChoice::First => Some(one.name.clone()),
            _ => None,
        };
        let partner = heard.as_ref().and_then(same);
        let told = port.output.then(|| match partner {
            Some(name) => {
                let is_it = |one: &Listed| one.name == name && one.can_be_told();
                self.list().into_iter().find(is_it)
            }
            None => first(output, Listed::can_be_told),
        });
        let told = told.flatten();
        if heard.is_none() && told.is_none() {
            return Err(none());
        }
        Ok((heard, told))
    }
}

/// Whether a port is one of `client`'s. JACK numbers clients of one name, of which we have two for
/// each device: `clasp-rt-midi-01:stage`.
fn is_of(client: &str, port: &str) -> bool {
    let rest = port.strip_prefix(client).unwrap_or_default();
    match rest.strip_prefix('-').and_then(|rest| rest.split_at_checked(2)) {
        Some((number, rest)) => number.parse::<u8>().is_ok() && rest.starts_with(':'),
        None => rest.starts_with(':'),
    }
}

/// A port that is open, in one direction or both.
struct Open {
    input: Option<MidiInputConnection<()>>,
    output: Option<MidiOutputConnection>,
    /// What it is listed as while it is there; empty for one of our own.
    names: Vec<String>,
    heard: Receiver<Vec<u8>>,
}

pub(super) fn run(mut end: End, port: &MidiPort) {
    let what = match &port.choice {
        MidiChoice::First => "a MIDI port".to_owned(),
        MidiChoice::Named { input, .. } => format!("a MIDI port like `{input}`"),
        MidiChoice::Number(number) => format!("MIDI port {number}"),
        MidiChoice::Virtual(name) => format!("our MIDI port `{name}`"),
    };
    let bell = Arc::clone(&end.bell);
    let open = || {
        let (hear, heard) = sync_channel(HEARD_MAX);
        let ring = Arc::clone(&bell);
        let opened = open(port, Hearing { hear, ring }, heard);
        opened.map_err(|why| format!("is not there: {why}"))
    };
    end.keep(&what, open, |end, _, open| carry(end, port, open));
}

/// What the driver's thread does with a message.
struct Hearing {
    hear: SyncSender<Vec<u8>>,
    ring: Arc<std::os::fd::OwnedFd>,
}

impl Hearing {
    fn hear(&self, message: &[u8]) {
        // More than the line holds is lost, as it would be on a cable.
        if self.hear.try_send(message.to_vec()).is_ok() {
            let _ = rustix::io::write(&*self.ring, &1_u64.to_ne_bytes());
        }
    }
}

fn open(
    port: &MidiPort,
    hearing: Hearing,
    heard: Receiver<Vec<u8>>,
) -> Result<(String, Open), String> {
    let client = port.client.as_str();
    let hear = move |_: u64, message: &[u8], _: &mut ()| hearing.hear(message);
    let new_input = || {
        let mut input = MidiInput::new(client).map_err(|why| why.to_string())?;
        input.ignore(Ignore::None);
        Ok::<_, String>(input)
    };
    let new_output = || MidiOutput::new(client).map_err(|why| why.to_string());
    let finder = Finder::new(client)?;
    if let MidiChoice::Virtual(name) = &port.choice {
        let input = match port.input {
            true => {
                Some(new_input()?.create_virtual(name, hear, ()).map_err(|why| why.to_string())?)
            }
            false => None,
        };
        let output = match port.output {
            true => Some(new_output()?.create_virtual(name).map_err(|why| why.to_string())?),
            false => None,
        };
        let open = Open { input, output, names: Vec::new(), heard };
        return Ok((format!("our MIDI port `{name}`"), open));
    }
    let (from, to) = finder.find(port)?;
    let mut names = Vec::new();
    let mut input = None;
    if let Some(Listed { name, input: Some(from), .. }) = from {
        let connected = new_input()?.connect(&from, "in", hear, ());
        input = Some(connected.map_err(|why| why.to_string())?);
        names.push(name);
    }
    let mut output = None;
    if let Some(Listed { name, output: Some(to), .. }) = to {
        let connected = new_output()?.connect(&to, "out");
        output = Some(connected.map_err(|why| why.to_string())?);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok((names.join(" and "), Open { input, output, names, heard }))
}

/// Carries messages until the port or the host leaves.
fn carry(end: &mut End, port: &MidiPort, mut open: Open) -> Over {
    let finder = match Finder::new(&port.client) {
        Ok(finder) => finder,
        Err(why) => return Over::Gone(why),
    };
    let (mut parser, mut bytes) = (Parser::default(), Vec::new());
    let mut unsaid: Option<Vec<u8>> = None;
    let mut has_failed = false;
    let mut look_at = monotonic_ns() + LOOK.as_nanos() as u64;
    loop {
        let is_left = end.thread.is_left();
        while let Some(message) = unsaid.take().or_else(|| open.heard.try_recv().ok()) {
            if !end.thread.say(Heard::Bytes(&message)) {
                unsaid = Some(message);
                break;
            }
        }
        loop {
            match end.wanted() {
                Err(over) => {
                    end.thread.done();
                    return over;
                }
                Ok(None) => break,
                Ok(Some(record)) => {
                    for byte in record {
                        let Parsed::Message(message) = parser.push(*byte) else { continue };
                        bytes.clear();
                        message.write(&mut bytes);
                        let Some(output) = &mut open.output else { continue };
                        if let Err(why) = output.send(&bytes)
                            && !std::mem::replace(&mut has_failed, true)
                        {
                            warn!("{}: a message was not sent: {why}", open.names.join(" and "));
                        }
                    }
                }
            }
            end.thread.done();
        }
        if is_left {
            return Over::Left;
        }
        let now = monotonic_ns();
        if now >= look_at {
            look_at = now + LOOK.as_nanos() as u64;
            let list = finder.list();
            if let Some(gone) =
                open.names.iter().find(|name| !list.iter().any(|one| one.name == **name))
            {
                return Over::Gone(format!("{gone} is no longer listed"));
            }
            if lacks(port, &open) && finds_more(&finder, port, &open) {
                return Over::Gone("its other direction came".to_owned());
            }
        }
        let until_look = Duration::from_nanos(look_at.saturating_sub(monotonic_ns()));
        end.listen(None, if unsaid.is_some() { BEHIND } else { until_look });
    }
}

/// Whether a direction that is wanted was not there when the port was opened.
fn lacks(port: &MidiPort, open: &Open) -> bool {
    port.input && open.input.is_none() || port.output && open.output.is_none()
}

fn finds_more(finder: &Finder, port: &MidiPort, open: &Open) -> bool {
    finder.find(port).is_ok_and(|(from, to)| {
        from.is_some() && open.input.is_none() || to.is_some() && open.output.is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::is_of;

    #[test]
    fn ports_of_our_own_are_known_by_their_client_whatever_number_it_has() {
        let cases = [
            ("clasp-rt-midi:stage 128:0", true),
            ("clasp-rt-midi:out", true),
            ("clasp-rt-midi-01:in", true),
            ("clasp-rt-midi-other:in", false),
            ("clasp-rt-midi2:in", false),
            ("clasp-rt-midi-2", false),
            ("clasp-rt-mid:in", false),
            ("Launchpad:Launchpad MIDI 1 20:0", false),
        ];
        for (port, ours) in cases {
            assert_eq!(is_of("clasp-rt-midi", port), ours, "{port}");
        }
    }
}
