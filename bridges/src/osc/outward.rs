//! Who is told, and what leaves: targets and late senders, single messages and bundles, reminders.

use std::net::SocketAddr;

use clasp_rt_core::time::{Span, Time};

use super::packet::{self, Writer};
use super::time::TimeTag;
use super::value::{Width, write_arguments};
use super::{Config, Reply, ReplyWhere};
use crate::datum::Datum;
use crate::target::resolve;
use crate::{ConfigError, Counters, Out};

/// Bytes of a bundle before it is sent without waiting: what an Ethernet frame carries over UDP.
const BUNDLE_BYTES_MAX: usize = 1_400;

/// Senders that are answered at once; a further one takes the place of the one silent longest.
const SENDERS_MAX: usize = 32;

pub(super) struct Outward {
    targets: Vec<SocketAddr>,
    reply: Option<Reply>,
    reply_timeout: Span,
    senders: Vec<Sender>,
    width: Width,
    gather: Option<Span>,
    bundle: Vec<u8>,
    bundle_due: Option<Time>,
    reminders: Vec<Reminder>,
    writer: Writer,
    packet: Vec<u8>,
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

impl Outward {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let day_s = 1..=86_400;
        if !day_s.contains(&config.reply_timeout_s) {
            return Err(ConfigError::new("reply_timeout_s", "must be 1 to 86400"));
        }
        let targets = config
            .targets
            .iter()
            .map(|target| resolve("targets", target, None))
            .collect::<Result<_, _>>()?;
        let mut reminders = Vec::new();
        for repeat in &config.repeat {
            if !repeat.address.starts_with('/') || !super::is_name(&repeat.address) {
                let why = format!("`{}` is not an OSC address", repeat.address);
                return Err(ConfigError::new("repeat.address", why));
            }
            if !day_s.contains(&repeat.every_s) {
                return Err(ConfigError::new("repeat.every_s", "must be 1 to 86400"));
            }
            let every = Span::from_secs(u64::from(repeat.every_s));
            reminders.push(Reminder {
                packet: without_arguments(&repeat.address),
                every,
                due: None,
            });
        }
        Ok(Self {
            targets,
            reply: config.reply,
            reply_timeout: Span::from_secs(u64::from(config.reply_timeout_s)),
            senders: Vec::new(),
            width: if config.wide { Width::Wide } else { Width::Narrow },
            gather: (config.bundle_ms > 0).then(|| Span::from_millis(u64::from(config.bundle_ms))),
            bundle: Vec::new(),
            bundle_due: None,
            reminders,
            writer: Writer::default(),
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
            Some(Reply::Where(ReplyWhere::Source)) => from,
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

    /// Hands a packet to everybody but its sender.
    pub(super) fn relay(
        &self,
        now: Time,
        from: SocketAddr,
        packet: &[u8],
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        // A device sends from a port of its own choice: what listens at its IP address is the
        // device, unless exactly this port is a target.
        let is_target = self.destinations(now).any(|at| at == from);
        for to in self.destinations(now) {
            let is_sender = if is_target { to == from } else { to.ip() == from.ip() };
            if !is_sender {
                send(to, packet, counters, out);
            }
        }
    }

    /// Tells everybody the value of one address, at once or with the bundle in the making.
    pub(super) fn write(
        &mut self,
        now: Time,
        name: &str,
        value: &Datum<'_>,
        tags: &str,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        write_arguments(&mut self.writer, value, tags, self.width);
        self.packet.clear();
        packet::write_message(&mut self.packet, name, &self.writer);
        let Some(gather) = self.gather else {
            return self.send(now, &self.packet, counters, out);
        };
        if !self.bundle.is_empty() && self.bundle.len() + 4 + self.packet.len() > BUNDLE_BYTES_MAX {
            self.flush(now, counters, out);
        }
        if self.bundle.is_empty() {
            packet::write_bundle_head(&mut self.bundle, TimeTag::IMMEDIATELY);
            self.bundle_due = Some(now + gather);
        }
        packet::push_element(&mut self.bundle, &self.packet);
    }

    /// Sends the bundle in the making, if there is one.
    pub(super) fn flush(&mut self, now: Time, counters: &mut Counters, out: &mut dyn Out) {
        if self.bundle_due.take().is_some() {
            self.send(now, &self.bundle, counters, out);
            self.bundle.clear();
        }
    }

    pub(super) fn elapse(&mut self, now: Time, counters: &mut Counters, out: &mut dyn Out) {
        if self.bundle_due.is_some_and(|due| due <= now) {
            self.flush(now, counters, out);
        }
        let timeout = self.reply_timeout;
        self.senders.retain(|sender| now.since(sender.heard) < timeout);
        for index in 0..self.reminders.len() {
            let reminder = &mut self.reminders[index];
            if reminder.due.is_some_and(|due| due <= now) {
                reminder.due = Some(now + reminder.every);
                self.send(now, &self.reminders[index].packet, counters, out);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let reminders = self.reminders.iter().filter_map(|reminder| reminder.due);
        reminders.chain(self.bundle_due).min()
    }

    fn send(&self, now: Time, packet: &[u8], counters: &mut Counters, out: &mut dyn Out) {
        for to in self.destinations(now) {
            send(to, packet, counters, out);
        }
    }

    /// Targets, then senders that are none.
    fn destinations(&self, now: Time) -> impl Iterator<Item = SocketAddr> {
        let senders = self
            .senders
            .iter()
            .filter(move |sender| now.since(sender.heard) < self.reply_timeout)
            .map(|sender| sender.at)
            .filter(|at| !self.targets.contains(at));
        self.targets.iter().copied().chain(senders)
    }
}

fn without_arguments(name: &str) -> Vec<u8> {
    let (mut writer, mut packet) = (Writer::default(), Vec::new());
    writer.clear();
    packet::write_message(&mut packet, name, &writer);
    packet
}

fn send(to: SocketAddr, packet: &[u8], counters: &mut Counters, out: &mut dyn Out) {
    counters.packets_out += 1;
    out.to_network(0, to, packet);
}
