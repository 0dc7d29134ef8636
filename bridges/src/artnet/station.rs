//! What we are to others on the network: the ports that our replies list, and who polls us.

mod pollers;
mod ports;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clasp_rt_core::time::{Span, Time};

use super::here::{Here, Interface};
use super::input::Inputs;
use super::output::Outputs;
use super::packet::{self, Address, Command, Group, Indicators, InputSwitch, IpProgReply};
use super::packet::{PORT, Poll, Port, PortAddress, Reply, Switch};
use super::{Config, send};
use crate::merge::Rule;
use crate::{Counters, Out};
use pollers::Pollers;
use ports::Ports;

pub(super) use pollers::Trouble;

/// Polls that wait for their answer; asked by more, the later ones go without.
const ASKED_MAX: usize = 16;

/// Our ports that replies can list: four for each bind index of 1 to 255.
pub(super) const LISTED_MAX: usize = 4 * 255;

/// Universes listed where the configuration names none, because some controllers send to a node
/// only what it lists.
const LISTED_BY_DEFAULT: u16 = 16;

/// Replies that leave at once, and the pause after them: a controller's socket keeps some 200.
const REPLIES_AT_ONCE: usize = 32;
const REPLIES_PAUSE: Span = Span::from_millis(5);

pub(super) struct Station {
    here: Here,
    short_name: String,
    long_name: String,
    rate_hz_max: u16,
    is_programmable: bool,
    indicators: Indicators,
    /// Universes that we take from the network, and those that we may give it.
    takes: Ports,
    gives: Ports,
    asked: Vec<Asked>,
    pollers: Pollers,
    /// The ports as they were when somebody who wants to hear of changes was last told.
    told: Vec<PortGroup>,
    status: Status,
    answers: u32,
    packet: Vec<u8>,
}

/// At most four ports that share net and sub-net.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PortGroup {
    switch: u16,
    ports: Vec<Port>,
}

impl PortGroup {
    fn port_address(&self, port: &Port) -> Option<PortAddress> {
        PortAddress::new(self.switch << 4 | u16::from(port.universe))
    }
}

/// A poll whose answer is delayed, so that a hundred nodes do not answer at once.
struct Asked {
    by: SocketAddr,
    due: Time,
    /// Groups that were told already.
    told: usize,
}

/// What the report begins with: codes of the standard's table of node reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    PowerOk = 0x0001,
    ShortNameOk = 0x0006,
    LongNameOk = 0x0007,
    SwitchError = 0x000B,
    UserFail = 0x000F,
}

/// What an ArtAddress asked for is not done here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotDone;

impl Station {
    pub(super) fn new(config: &Config, here: Here) -> Self {
        let Config { name, namespace, short_name, long_name, .. } = config;
        let long_name = long_name.clone();
        Self {
            here,
            short_name: short_name.clone().unwrap_or_else(|| name.clone()),
            long_name: long_name.unwrap_or_else(|| format!("clasp-rt {name} at {namespace}")),
            rate_hz_max: config.rate_hz_max,
            is_programmable: config.allow_remote_programming,
            indicators: Indicators::Normal,
            takes: Ports::new(config.inputs.clone()),
            gives: Ports::new(config.outputs.clone()),
            asked: Vec::new(),
            pollers: Pollers::default(),
            told: Vec::new(),
            status: Status::PowerOk,
            answers: 0,
            packet: Vec::new(),
        }
    }

    /// Where polls arrive that a socket of `bound` does not hear.
    pub(super) fn broadcasts(&self, bound: IpAddr) -> Vec<Ipv4Addr> {
        self.here.broadcasts(bound)
    }

    /// Whether levels of `port_address` are taken from the network.
    pub(super) fn takes(&self, port_address: PortAddress) -> bool {
        self.takes.contain(port_address)
    }

    /// Whether levels of `port_address` may be sent to the network.
    pub(super) fn gives(&self, port_address: PortAddress) -> bool {
        self.gives.contain(port_address)
    }

    /// Whether `reply` is our own answer, come back from a broadcast of ours. Sending to ourselves
    /// would be a loop.
    pub(super) fn has_written(&self, from: IpAddr, reply: &Reply<'_>) -> bool {
        reply.short_name == packet::fitted(&self.short_name, 18)
            && reply.long_name == packet::fitted(&self.long_name, 64)
            && self.here.may_be(from)
    }

    /// Whether what comes from `ip` may be of this machine.
    pub(super) fn may_be_ours(&self, ip: IpAddr) -> bool {
        self.here.may_be(ip)
    }

    /// Notes a poll, to be answered within a second. `false`: it is not, for lack of room.
    pub(super) fn asked(
        &mut self,
        now: Time,
        by: SocketAddr,
        poll: &Poll,
        inputs: &Inputs,
        outputs: &Outputs,
    ) -> bool {
        let has_room = self.pollers.heard(now, by, poll);
        let is_meant = poll.range.is_none_or(|(first, last)| {
            let listed = self.listed(inputs, outputs);
            listed.iter().any(|port_address| (first..=last).contains(port_address))
        });
        let due = now + self.delay();
        // The delay differs from poll to poll also where nothing was asked of us.
        self.answers = (self.answers + 1) % 10_000;
        !is_meant || self.ask(by, due) && has_room
    }

    fn ask(&mut self, by: SocketAddr, due: Time) -> bool {
        // Asked twice before the answer, a node answers once: a small packet must not cause many.
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.by == by) {
            asked.due = asked.due.min(due);
            return true;
        }
        if self.asked.len() == ASKED_MAX {
            return false;
        }
        self.asked.push(Asked { by, due, told: 0 });
        true
    }

    /// Answers the polls whose delay is over.
    pub(super) fn answer(
        &mut self,
        now: Time,
        inputs: &Inputs,
        outputs: &Outputs,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        while let Some(index) = self.asked.iter().position(|asked| asked.due <= now) {
            let groups = self.groups(inputs, outputs);
            let Asked { by, told, .. } = self.asked.swap_remove(index);
            self.reply(by, &groups, told, counters, out);
            let told = told + REPLIES_AT_ONCE;
            if told < groups.len() {
                self.asked.push(Asked { by, due: now + REPLIES_PAUSE, told });
            }
        }
    }

    /// Tells pollers that want to hear of it that our ports are not what they were.
    pub(super) fn tell_changes(&mut self, now: Time, inputs: &Inputs, outputs: &Outputs) {
        self.pollers.expire(now);
        if !self.pollers.any_on_change() {
            self.told.clear();
            return;
        }
        let groups = self.groups(inputs, outputs);
        let is_first = self.told.is_empty();
        if groups != std::mem::replace(&mut self.told, groups.clone()) && !is_first {
            for by in self.pollers.on_change() {
                self.ask(by, now);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.asked.iter().map(|asked| asked.due).min()
    }

    /// Does what an ArtAddress says, as far as it is allowed here, and answers at once.
    pub(super) fn program(
        &mut self,
        now: Time,
        by: SocketAddr,
        address: &Address<'_>,
        inputs: &mut Inputs,
        outputs: &Outputs,
    ) -> Result<(), NotDone> {
        let group = self.group(address.bind_index, inputs, outputs);
        self.status = Status::PowerOk;
        let named = self.rename(address);
        let switched = self.switch(address, group.as_ref());
        let done = self.obey(address.command, group.as_ref(), inputs);
        if done.is_err() {
            self.status = Status::UserFail;
        }
        self.ask(by, now);
        named.and(switched).and(done)
    }

    fn rename(&mut self, address: &Address<'_>) -> Result<(), NotDone> {
        let names = [
            (address.short_name, Status::ShortNameOk, &mut self.short_name),
            (address.long_name, Status::LongNameOk, &mut self.long_name),
        ];
        for (new, status, name) in names {
            let new = String::from_utf8_lossy(new);
            if new.is_empty() || *new == **name {
                continue;
            }
            if !self.is_programmable {
                self.status = Status::UserFail;
                return Err(NotDone);
            }
            *name = new.into_owned();
            self.status = status;
        }
        Ok(())
    }

    /// Gives the ports of `group` other universes.
    fn switch(&mut self, address: &Address<'_>, group: Option<&PortGroup>) -> Result<(), NotDone> {
        let Address { net, sub_net, inputs, outputs, .. } = address;
        let is_set = |switch: &Switch| matches!(switch, Switch::Set(_));
        let mut universes = inputs.iter().chain(outputs);
        if ![net, sub_net].into_iter().any(is_set) && !universes.any(is_set) {
            return Ok(());
        }
        let Some(group) = group.filter(|_| self.is_programmable) else {
            self.status = Status::SwitchError;
            return Err(NotDone);
        };
        let chosen = |switch: Switch, now: u16, max: u16| match switch {
            Switch::Set(value) => u16::from(value) & max,
            Switch::Keep | Switch::Reset => now,
        };
        let switch = chosen(*net, group.switch >> 4, 0x7F) << 4
            | chosen(*sub_net, group.switch & 0x0F, 0x0F);
        let mut done = Ok(());
        for (index, port) in group.ports.iter().enumerate() {
            let sides = [
                (port.gives, inputs.get(index), &mut self.gives),
                (port.takes, outputs.get(index), &mut self.takes),
            ];
            for (is_in_use, universe, ports) in sides {
                let universe =
                    chosen(universe.copied().unwrap_or_default(), port.universe.into(), 0x0F);
                let (old, new) =
                    (group.port_address(port), PortAddress::new(switch << 4 | universe));
                if let Some((old, new)) = old.zip(new).filter(|(old, new)| is_in_use && old != new)
                    && !ports.exchange(old, new)
                {
                    done = Err(NotDone);
                }
            }
        }
        if done.is_err() {
            self.status = Status::SwitchError;
        }
        done
    }

    fn obey(
        &mut self,
        command: Command,
        group: Option<&PortGroup>,
        inputs: &mut Inputs,
    ) -> Result<(), NotDone> {
        let ports = group.into_iter().flat_map(|group| {
            group.ports.iter().map(|port| group.port_address(port).filter(|_| port.takes))
        });
        let mut ports = ports;
        let mut port = |index: u8| ports.nth(index.into()).flatten().ok_or(NotDone);
        match command {
            Command::None | Command::ResetErrors | Command::FailHold => {}
            Command::LedNormal => self.indicators = Indicators::Normal,
            Command::LedMute => self.indicators = Indicators::Mute,
            Command::LedLocate => self.indicators = Indicators::Locate,
            Command::CancelMerge => ports.flatten().for_each(|port| inputs.cancel_merge(port)),
            Command::MergeLatest(index) => {
                return if inputs.set_rule(port(index)?, Rule::Ltp) {
                    Ok(())
                } else {
                    Err(NotDone)
                };
            }
            Command::MergeHighest(index) => {
                return if inputs.set_rule(port(index)?, Rule::Htp) {
                    Ok(())
                } else {
                    Err(NotDone)
                };
            }
            Command::Clear(index) => inputs.clear(port(index)?),
            Command::Other(_) => return Err(NotDone),
        }
        Ok(())
    }

    /// Silences ports that give, or lets them be heard again, and answers at once. `false`: there
    /// is no such group.
    pub(super) fn disable(
        &mut self,
        now: Time,
        by: SocketAddr,
        switch: &InputSwitch,
        inputs: &Inputs,
        outputs: &mut Outputs,
    ) -> bool {
        let group = self.group(switch.bind_index, inputs, outputs);
        self.ask(by, now);
        let Some(group) = group else { return false };
        for (port, is_disabled) in group.ports.iter().zip(switch.disabled) {
            if let Some(port_address) = group.port_address(port).filter(|_| port.gives) {
                outputs.disable(port_address, is_disabled);
            }
        }
        true
    }

    /// Answers an ArtIpProg: with the addresses as they are, whatever it wanted.
    pub(super) fn keep_ip(&mut self, by: SocketAddr, counters: &mut Counters, out: &mut dyn Out) {
        let Interface { ip, mask, .. } = self.here.facing(by.ip());
        let kept = IpProgReply { ip, mask, port: PORT, is_dhcp: false, gateway: [0; 4] };
        kept.write(&mut self.packet);
        send(by, &self.packet, counters, out);
    }

    /// Tells whoever polls us and wants to know that something is wrong.
    pub(super) fn complain(
        &mut self,
        now: Time,
        trouble: &Trouble,
        broadcast: Option<SocketAddr>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        self.pollers.complain(now, trouble, broadcast, &mut self.packet, counters, out);
    }

    fn reply(
        &mut self,
        to: SocketAddr,
        groups: &[PortGroup],
        from: usize,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let count = |is: fn(&Port) -> bool| {
            groups.iter().flat_map(|group| &group.ports).filter(|port| is(port)).count()
        };
        let report = format!(
            "#{:04x} [{:04}] {} in ({} heard, {} merge), {} out",
            self.status as u16,
            self.answers,
            count(|port| port.takes),
            count(|port| port.is_heard),
            count(|port| port.is_merging),
            count(|port| port.gives),
        );
        let Interface { ip, mac, .. } = self.here.facing(to.ip());
        let numbered = (1..=u8::MAX).zip(groups).skip(from).take(REPLIES_AT_ONCE);
        for (bind_index, PortGroup { switch, ports }) in numbered {
            let group = Group {
                ip,
                mac,
                short_name: &self.short_name,
                long_name: &self.long_name,
                report: &report,
                bind_index,
                switch: *switch,
                rate_hz_max: self.rate_hz_max,
                indicators: self.indicators,
                is_programmable: self.is_programmable,
                ports,
            };
            group.write(&mut self.packet);
            send(to, &self.packet, counters, out);
            // The standard answers to its own port; some controllers ask from another one.
            if to.port() != PORT {
                send(SocketAddr::new(to.ip(), PORT), &self.packet, counters, out);
            }
        }
    }

    fn group(&self, bind_index: u8, inputs: &Inputs, outputs: &Outputs) -> Option<PortGroup> {
        let index = usize::from(bind_index.max(1)) - 1;
        self.groups(inputs, outputs).into_iter().nth(index)
    }

    /// Our ports as replies list them: four at most in one, all of one net and sub-net.
    fn groups(&self, inputs: &Inputs, outputs: &Outputs) -> Vec<PortGroup> {
        let sent: Vec<_> = {
            let mut sent: Vec<_> = outputs.port_addresses().collect();
            sent.sort_unstable();
            sent
        };
        let mut groups: Vec<PortGroup> = Vec::new();
        for port_address in self.listed(inputs, outputs) {
            let heard = inputs.get(port_address);
            let port = Port {
                universe: port_address.universe(),
                takes: self.takes(port_address),
                is_heard: heard.is_some_and(|universe| universe.is_heard()),
                is_merging: heard.is_some_and(|universe| universe.is_merging()),
                is_latest: inputs.rule_of(port_address) == Rule::Ltp,
                gives: sent.binary_search(&port_address).is_ok(),
                is_disabled: outputs.is_disabled(port_address),
            };
            match groups.last_mut() {
                Some(PortGroup { switch, ports })
                    if *switch == port_address.switch() && ports.len() < 4 =>
                {
                    ports.push(port);
                }
                _ => groups.push(PortGroup { switch: port_address.switch(), ports: vec![port] }),
            }
        }
        if groups.is_empty() {
            groups.push(PortGroup { switch: 0, ports: Vec::new() });
        }
        groups.truncate(u8::MAX.into());
        groups
    }

    /// Universes that our replies list: those configured, those heard and those sent. Sorted.
    fn listed(&self, inputs: &Inputs, outputs: &Outputs) -> Vec<PortAddress> {
        let mut listed: Vec<_> = self.takes.listed(LISTED_BY_DEFAULT, LISTED_MAX);
        listed.extend(inputs.port_addresses().filter(|one| self.takes(*one)).take(LISTED_MAX));
        listed.extend(outputs.port_addresses().filter(|one| self.gives(*one)).take(LISTED_MAX));
        listed.sort_unstable();
        listed.dedup();
        listed.truncate(LISTED_MAX);
        listed
    }

    /// Up to a second, spread over the answers and machines; the same for the same run.
    fn delay(&self) -> Span {
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        let seed = self.here.seed() ^ u64::from(self.answers).wrapping_mul(SPREAD);
        let seed = self
            .short_name
            .bytes()
            .fold(seed, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(SPREAD).rotate_left(29));
        Span::from_micros(seed.wrapping_mul(SPREAD) % 1_000_000)
    }
}
