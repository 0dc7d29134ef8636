//! Who is told, and what leaves: targets, late senders and callers, single messages and bundles,
//! reminders.

use std::cell::LazyCell;
use std::net::SocketAddr;

use clasp_rt_core::time::{Span, Time};

use super::framing::Framing;
use super::known::Known;
use super::links::Links;
use super::packet::{self, Packet, Writer};
use super::rename::Rename;
use super::time::TimeTag;
use super::value::{Width, write_arguments};
use super::{Config, Reply, ReplyWhere};
use crate::datum::Datum;
use crate::target::{is_ourselves, own_addresses, resolve};
use crate::{ConfigError, Counters, Out, StreamId};

/// Bytes of a bundle before it is sent without waiting: what an Ethernet frame carries over UDP.
const BUNDLE_BYTES_MAX: usize = 1_400;

/// Bytes of a bundle before the first element's own: identifier, time tag, size.
const BUNDLE_HEAD_LEN: usize = 16;

/// Senders that are answered at once; a further one takes the place of the one silent longest.
const SENDERS_MAX: usize = 32;

/// A link that missed something is told it while it has this much room, and asked again so much
/// later.
const CATCH_UP_ROOM: usize = 128 << 10;
const CATCH_UP_PAUSE: Span = Span::from_millis(50);

/// The voice of plain targets, late senders and callers.
pub(super) const PLAIN: usize = 0;

/// Who sent a packet, or gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Datagrams(SocketAddr),
    Stream(StreamId),
}

pub(super) struct Outward {
    voices: Vec<Voice>,
    reply: Option<Reply>,
    reply_timeout: Span,
    senders: Vec<Sender>,
    ahead: Option<Span>,
    reminders: Vec<Reminder>,
    /// When the wall clock was last told, and what it showed.
    clock: Option<(Time, u64)>,
    /// The time of the BUNDLE in hand.
    dated: Option<TimeTag>,
    catch_up_due: Option<Time>,
    name: String,
    packet: Vec<u8>,
}

/// Targets that are told the same by the same names.
struct Voice {
    rename: Option<Rename>,
    width: Width,
    /// How long messages are gathered; `None`: each leaves by itself.
    gather: Option<Span>,
    bundle: Vec<u8>,
    count: usize,
    due: Option<Time>,
    targets: Vec<SocketAddr>,
    writer: Writer,
}

/// Somebody who sent lately, at the address where it listens.
struct Sender {
    at: SocketAddr,
    heard: Time,
}

struct Reminder {
    packet: Vec<u8>,
    every: Span,
    /// `None` before the first input, which tells what time it is.
    due: Option<Time>,
}

/// What everything that leaves passes through.
pub(super) struct Exit<'a> {
    pub(super) links: &'a mut Links,
    pub(super) counters: &'a mut Counters,
    pub(super) out: &'a mut dyn Out,
}

impl Outward {
    /// Looks up all targets. Those over TCP become links that the host keeps open.
    pub(super) fn new(config: &Config, links: &mut Links) -> Result<Self, ConfigError> {
        let plain = Voice::new(config, None, config.wide, config.bundles);
        let mut voices = vec![plain];
        let own = LazyCell::new(own_addresses);
        // What is sent to our own socket would be taken for what a device says.
        let not_ourselves = |key: &str, voice: &Voice| {
            let is_it = |at: &&SocketAddr| is_ourselves(**at, config.bind, &own);
            let why = |at| format!("{at} is where this bridge listens itself: name the device");
            match voice.targets.iter().find(is_it) {
                Some(at) => Err(ConfigError::new(key, why(at))),
                None => Ok(()),
            }
        };
        for to in &config.targets {
            voices[PLAIN].add("targets", to, (PLAIN, config.bind), links)?;
        }
        not_ourselves("targets", &voices[PLAIN])?;
        for (index, target) in config.target.iter().enumerate() {
            let at = format!("target[{index}]");
            let rename = Rename::new(&at, target)?;
            let (wide, bundles) =
                (target.wide.unwrap_or(config.wide), target.bundles.unwrap_or(config.bundles));
            let mut voice = Voice::new(config, rename, wide, bundles);
            let key = format!("{at}.to");
            voice.add(&key, &target.to, (voices.len(), config.bind), links)?;
            not_ourselves(&key, &voice)?;
            voices.push(voice);
        }
        let reminders = config.repeat.iter().map(|repeat| Reminder {
            packet: without_arguments(&repeat.address),
            every: Span::from_secs(u64::from(repeat.every_s)),
            due: None,
        });
        Ok(Self {
            voices,
            reply: config.reply,
            reply_timeout: Span::from_secs(u64::from(config.reply_timeout_s)),
            senders: Vec::new(),
            ahead: (config.bundle_ahead_ms > 0)
                .then(|| Span::from_millis(u64::from(config.bundle_ahead_ms))),
            reminders: reminders.collect(),
            clock: None,
            dated: None,
            catch_up_due: None,
            name: String::new(),
            packet: Vec::new(),
        })
    }

    /// Begins the reminders with the first input.
    pub(super) fn begin(&mut self, now: Time) {
        for reminder in &mut self.reminders {
            reminder.due.get_or_insert(now);
        }
    }

    /// Notes that `from` sent something, so that it is told what others do.
    pub(super) fn heard(&mut self, now: Time, from: SocketAddr, counters: &mut Counters) {
        let at = match self.reply {
            None => return,
            Some(Reply::Where(ReplyWhere::Sender)) => from,
            Some(Reply::Port(port)) => SocketAddr::new(from.ip(), port),
        };
        if let Some(sender) = self.senders.iter_mut().find(|sender| sender.at == at) {
            sender.heard = now;
        } else if self.senders.len() < SENDERS_MAX {
            self.senders.push(Sender { at, heard: now });
        } else if let Some(oldest) = self.senders.iter_mut().min_by_key(|sender| sender.heard) {
            *oldest = Sender { at, heard: now };
            counters.overflowed += 1;
        }
    }

    /// The voice in which `from` is spoken to, and so speaks: its own, if a target is there.
    pub(super) fn voice_of(&self, from: End, links: &Links) -> usize {
        let from = match from {
            End::Stream(stream) => return links.voice(stream).unwrap_or(PLAIN),
            End::Datagrams(from) => from,
        };
        let is_at = |voice: &Voice| voice.targets.contains(&from);
        // A device sends from a port of its own choice.
        let is_near = |voice: &Voice| voice.targets.iter().any(|at| at.ip() == from.ip());
        let exactly = self.voices.iter().position(is_at);
        exactly.or_else(|| self.voices.iter().position(is_near)).unwrap_or(PLAIN)
    }

    /// What the router calls `name` that came in `voice`, without the namespace; `None`: the same.
    pub(super) fn inward<'n>(
        &self,
        voice: usize,
        name: &str,
        out: &'n mut String,
    ) -> Option<&'n str> {
        let rename = self.voices.get(voice)?.rename.as_ref()?;
        rename.inward(name, out);
        Some(out)
    }

    /// Hands a packet to everybody but its sender, each by its own names.
    pub(super) fn relay(
        &mut self,
        now: Time,
        from: End,
        packet: &Packet<'_>,
        bytes: &[u8],
        namespace: &str,
        exit: &mut Exit<'_>,
    ) {
        let own = self.voice_of(from, exit.links);
        let is_bundle = matches!(packet, Packet::Bundle(_));
        for index in 0..self.voices.len() {
            if !self.is_heard(index, exit.links) {
                continue;
            }
            let renamed = self.voices[own].rename.is_some() || self.voices[index].rename.is_some();
            let splits = is_bundle && self.voices[index].gather.is_none();
            if renamed || splits {
                for packet in self.renamed(own, index, packet, namespace) {
                    self.send(now, index, Some(from), &packet, exit);
                }
            } else {
                self.send(now, index, Some(from), bytes, exit);
            }
        }
    }

    /// What is left of `packet`, which came in the voice `own`, in another voice: by its names, and
    /// split where it does not take bundles.
    fn renamed(
        &mut self,
        own: usize,
        index: usize,
        packet: &Packet<'_>,
        namespace: &str,
    ) -> Vec<Vec<u8>> {
        let (mut inner, mut address, mut told) = (String::new(), String::new(), String::new());
        let mut packets = Vec::new();
        packet.each_message(&mut |message| {
            let name = self.inward(own, message.address, &mut inner).unwrap_or(message.address);
            address.clear();
            address.push_str(namespace);
            address.push_str(name);
            let name = address.get(namespace.len()..).unwrap_or_default();
            if self.voices[index].tells(&address, name, &mut told) {
                let mut packet = Vec::new();
                packet::copy_message(&mut packet, &told, message);
                packets.push(packet);
            }
        });
        match packet {
            Packet::Bundle(bundle)
                if self.voices[index].gather.is_some() && !packets.is_empty() =>
            {
                let mut whole = Vec::new();
                packet::write_bundle_head(&mut whole, bundle.time);
                packets.iter().for_each(|packet| packet::push_element(&mut whole, packet));
                vec![whole]
            }
            _ => packets,
        }
    }

    /// Tells everybody the value of one address, at once or with the bundle in the making.
    pub(super) fn write(
        &mut self,
        now: Time,
        address: &str,
        name: &str,
        value: &Datum<'_>,
        tags: &str,
        exit: &mut Exit<'_>,
    ) {
        let mut is_said = true;
        for index in 0..self.voices.len() {
            if self.is_heard(index, exit.links) && self.encode(index, address, name, value, tags) {
                match self.voices.get(index).is_some_and(|voice| voice.writer.is_whole()) {
                    true => self.gather(now, index, exit),
                    false => is_said = false,
                }
            }
        }
        exit.counters.refused += u64::from(!is_said);
    }

    /// Puts the message of one address, as a voice says it, into `packet`. `false`: it does not.
    fn encode(
        &mut self,
        index: usize,
        address: &str,
        name: &str,
        value: &Datum<'_>,
        tags: &str,
    ) -> bool {
        let Self { voices, name: told, packet, .. } = self;
        let Some(voice) = voices.get_mut(index) else { return false };
        if !voice.tells(address, name, told) {
            return false;
        }
        write_arguments(&mut voice.writer, value, tags, voice.width);
        packet.clear();
        packet::write_message(packet, told, &voice.writer);
        true
    }

    /// Adds `packet` to the bundle of a voice, or sends it.
    fn gather(&mut self, now: Time, index: usize, exit: &mut Exit<'_>) {
        let packet = std::mem::take(&mut self.packet);
        let voice = &self.voices[index];
        match voice.gather {
            None => self.send(now, index, None, &packet, exit),
            Some(gather) => {
                let full = voice.bundle.len() + 4 + packet.len() > BUNDLE_BYTES_MAX;
                if voice.count > 0 && full {
                    self.flush_voice(now, index, exit);
                }
                let voice = &mut self.voices[index];
                if voice.count == 0 {
                    packet::write_bundle_head(&mut voice.bundle, TimeTag::IMMEDIATELY);
                    voice.due = Some(now + gather);
                }
                packet::push_element(&mut voice.bundle, &packet);
                voice.count += 1;
            }
        }
        self.packet = packet;
    }

    /// What is written from now on belongs to this time; what was written before leaves.
    pub(super) fn begin_bundle(&mut self, now: Time, tag: TimeTag, exit: &mut Exit<'_>) {
        self.flush(now, exit);
        self.dated = Some(tag);
    }

    pub(super) fn end_bundle(&mut self, now: Time, exit: &mut Exit<'_>) {
        self.flush(now, exit);
        self.dated = None;
    }

    /// Sends the bundles in the making, if there are any.
    pub(super) fn flush(&mut self, now: Time, exit: &mut Exit<'_>) {
        for index in 0..self.voices.len() {
            self.flush_voice(now, index, exit);
        }
    }

    fn flush_voice(&mut self, now: Time, index: usize, exit: &mut Exit<'_>) {
        let tag = self.tag(now);
        let voice = &mut self.voices[index];
        voice.due = None;
        let count = std::mem::take(&mut voice.count);
        if count == 0 {
            return;
        }
        let mut bundle = std::mem::take(&mut voice.bundle);
        if count == 1 && tag == TimeTag::IMMEDIATELY {
            self.send(now, index, None, bundle.get(BUNDLE_HEAD_LEN + 4..).unwrap_or(&[]), exit);
        } else {
            packet::date_bundle(&mut bundle, tag);
            self.send(now, index, None, &bundle, exit);
        }
        bundle.clear();
        self.voices[index].bundle = bundle;
    }

    /// The time of a bundle that leaves now.
    fn tag(&self, now: Time) -> TimeTag {
        let ahead = self.ahead.zip(self.clock).map(|(ahead, (then, unix_us))| {
            let us = unix_us + now.since(then).as_micros() + ahead.as_micros();
            TimeTag::from_unix_us(us as i64)
        });
        self.dated.or(ahead).unwrap_or(TimeTag::IMMEDIATELY)
    }

    /// Notes what the wall clock shows.
    pub(super) fn clock(&mut self, now: Time, unix_us: u64) {
        self.clock = Some((now, unix_us));
    }

    /// Tells who asked what `names` hold, each by itself.
    pub(super) fn answer(
        &mut self,
        to: End,
        namespace: &str,
        names: &[String],
        known: &Known,
        exit: &mut Exit<'_>,
    ) {
        let index = self.voice_of(to, exit.links);
        for name in names {
            let Some((entry, value)) = known.get(name).and_then(|e| Some((e, e.value()?))) else {
                continue;
            };
            let address = format!("{namespace}{name}");
            if self.encode(index, &address, name, &Datum::new(value), &entry.tags) {
                match to {
                    End::Datagrams(to) => send_datagram(to, &self.packet, exit),
                    End::Stream(stream) => {
                        exit.links.answer(stream, &self.packet, exit.counters, exit.out);
                    }
                }
            }
        }
    }

    /// Tells links what they missed, as far as they have room.
    fn catch_up(&mut self, namespace: &str, known: &Known, exit: &mut Exit<'_>) {
        for (stream, voice, from) in exit.links.behind() {
            let mut last = None;
            for (name, entry) in known.after(&from) {
                if exit.out.stream_room(stream) < CATCH_UP_ROOM {
                    last = Some(last.unwrap_or(from.as_str()));
                    break;
                }
                let Some(value) = entry.value() else { continue };
                let address = format!("{namespace}{name}");
                if self.encode(voice, &address, name, &Datum::new(value), &entry.tags) {
                    exit.links.answer(stream, &self.packet, exit.counters, exit.out);
                }
                let _ = last.insert(name);
            }
            exit.links.caught_up(stream, last.map(str::to_owned));
        }
    }

    /// Does what is due.
    pub(super) fn elapse(
        &mut self,
        now: Time,
        namespace: &str,
        known: &Known,
        exit: &mut Exit<'_>,
    ) {
        for index in 0..self.voices.len() {
            if self.voices[index].due.is_some_and(|due| due <= now) {
                self.flush_voice(now, index, exit);
            }
        }
        let timeout = self.reply_timeout;
        self.senders.retain(|sender| now.since(sender.heard) < timeout);
        for index in 0..self.reminders.len() {
            let reminder = &mut self.reminders[index];
            if reminder.due.is_some_and(|due| due <= now) {
                reminder.due = Some(now + reminder.every);
                let packet = std::mem::take(&mut reminder.packet);
                for voice in 0..self.voices.len() {
                    self.send(now, voice, None, &packet, exit);
                }
                self.reminders[index].packet = packet;
            }
        }
        if self.catch_up_due.is_some_and(|due| due <= now) {
            self.catch_up_due = None;
            self.catch_up(namespace, known, exit);
        }
        self.look(now, exit.links);
    }

    /// Sees to links that missed something.
    pub(super) fn look(&mut self, now: Time, links: &Links) {
        if links.any_behind() {
            self.catch_up_due.get_or_insert(now + CATCH_UP_PAUSE);
        }
    }

    /// Sees to a link that has just begun.
    pub(super) fn look_at_once(&mut self, now: Time) {
        self.catch_up_due = Some(now);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let reminders = self.reminders.iter().filter_map(|reminder| reminder.due);
        let voices = self.voices.iter().filter_map(|voice| voice.due);
        reminders.chain(voices).chain(self.catch_up_due).min()
    }

    /// Whether anybody hears a voice.
    fn is_heard(&self, index: usize, links: &Links) -> bool {
        !self.voices[index].targets.is_empty()
            || (index == PLAIN && !self.senders.is_empty())
            || links.has(index)
    }

    /// Sends a packet to everybody who hears a voice, but not to whom it came from.
    fn send(&self, now: Time, index: usize, from: Option<End>, packet: &[u8], exit: &mut Exit<'_>) {
        let (sender, stream) = match from {
            None => (None, None),
            Some(End::Datagrams(from)) => (Some(from), None),
            Some(End::Stream(stream)) => (None, Some(stream)),
        };
        // A device sends from a port of its own choice: what listens at its IP address is the
        // device, unless exactly this port is a target.
        let is_target = sender.is_some_and(|from| {
            (0..self.voices.len()).any(|index| self.destinations(now, index).any(|at| at == from))
        });
        for to in self.destinations(now, index) {
            let is_sender = sender.is_some_and(|from| match is_target {
                true => to == from,
                false => to.ip() == from.ip(),
            });
            if !is_sender {
                send_datagram(to, packet, exit);
            }
        }
        exit.links.send(index, stream, packet, exit.counters, exit.out);
    }

    /// Targets of a voice; of the plain one then senders that are none.
    fn destinations(&self, now: Time, index: usize) -> impl Iterator<Item = SocketAddr> {
        let senders = self
            .senders
            .iter()
            .filter(move |sender| index == PLAIN && now.since(sender.heard) < self.reply_timeout)
            .map(|sender| sender.at)
            .filter(|at| !self.voices.iter().any(|voice| voice.targets.contains(at)));
        self.voices[index].targets.iter().copied().chain(senders)
    }
}

impl Voice {
    fn new(config: &Config, rename: Option<Rename>, wide: bool, bundles: bool) -> Self {
        let gather = bundles || config.bundle_ms > 0;
        Self {
            rename,
            width: if wide { Width::Wide } else { Width::Narrow },
            gather: gather.then(|| Span::from_millis(u64::from(config.bundle_ms))),
            bundle: Vec::new(),
            count: 0,
            due: None,
            targets: Vec::new(),
            writer: Writer::default(),
        }
    }

    /// Adds a target: `host:port`, `udp://`, `tcp://` or `slip://host:port`.
    fn add(
        &mut self,
        key: &str,
        to: &str,
        (index, bind): (usize, SocketAddr),
        links: &mut Links,
    ) -> Result<(), ConfigError> {
        let (framing, at) = match to.split_once("://") {
            None | Some(("udp", _)) => (None, to.strip_prefix("udp://").unwrap_or(to)),
            Some(("tcp", at)) => (Some(Framing::Length), at),
            Some(("slip", at)) => (Some(Framing::Slip), at),
            Some(_) => {
                let why = format!(
                    "`{to}`: must be host:port, udp://host:port, tcp://host:port or \
                     slip://host:port"
                );
                return Err(ConfigError::new(key, why));
            }
        };
        match framing {
            None => self.targets.push(resolve(key, at, None, bind)?),
            Some(framing) => {
                let is_whole = at.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
                });
                if !is_whole {
                    let why = format!("`{to}`: a target looks like tcp://desk.local:9000");
                    return Err(ConfigError::new(key, why));
                }
                links.connect(at, index, framing);
            }
        }
        Ok(())
    }

    /// Puts what this voice calls an address into `out`. `false`: it does not tell it.
    fn tells(&mut self, address: &str, name: &str, out: &mut String) -> bool {
        match &mut self.rename {
            Some(rename) => rename.outward(address, name, out),
            None => {
                out.clear();
                out.push_str(name);
                true
            }
        }
    }
}

fn without_arguments(name: &str) -> Vec<u8> {
    let (mut writer, mut packet) = (Writer::default(), Vec::new());
    writer.clear();
    packet::write_message(&mut packet, name, &writer);
    packet
}

fn send_datagram(to: SocketAddr, packet: &[u8], exit: &mut Exit<'_>) {
    exit.counters.packets_out += 1;
    exit.out.to_network(0, to, packet);
}
