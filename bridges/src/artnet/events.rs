//! What passes and is not kept: triggers, commands, data of other start codes, RDM.
//!
//! Whatever the network says becomes an event, and an event of the same form leaves as the same
//! packet, to all nodes and targets, each once. A snapshot never triggers anything.

use std::net::{IpAddr, SocketAddr};

use clasp_rt_core::signal::Signal;
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{MapWriter, Value, push_bytes, push_i64, push_str};
use clasp_rt_core::wire::TooLong;

use super::nodes::Nodes;
use super::packet::{ANYBODY, Diag, Nzs, PortAddress, RDM_BYTES_MAX, Rdm, TextCommand, TodControl};
use super::packet::{TOD_UIDS_MAX, TodData, TodRequest, Trigger, UID_BYTES, port_address_of};
use crate::datum::Datum;
use crate::merge::SLOTS;
use crate::namespace;
use crate::uplink::Uplink;
use crate::{Counters, Out};

/// The standard's keys of an ArtTrigger, by their number.
const KEYS: [&str; 4] = ["ascii", "macro", "soft", "show"];

/// Who asked a device of ours something, and may be answered.
const ASKERS_MAX: usize = 16;
const ASKER_TIMEOUT: Span = Span::from_secs(30);

pub(super) struct Events {
    namespace: String,
    /// OEM code of triggers that are heard beside everybody's.
    trigger_oem: Option<u16>,
    /// Who sent an RDM request lately.
    askers: Vec<(SocketAddr, Time)>,
    sequence: u8,
    packet: Vec<u8>,
}

/// The event means nothing on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaningless;

/// Where an event is said, and by whom that is counted.
pub(super) struct Voice<'a> {
    pub(super) uplink: &'a mut Uplink,
    pub(super) counters: &'a mut Counters,
    pub(super) out: &'a mut dyn Out,
}

impl Events {
    pub(super) fn new(namespace: &str, trigger_oem: Option<u16>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            trigger_oem,
            askers: Vec::new(),
            sequence: 0,
            packet: Vec::new(),
        }
    }

    fn tell(
        &self,
        place: &str,
        voice: &mut Voice<'_>,
        push: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
    ) {
        let Voice { uplink, counters, out } = voice;
        let address = format!("{}/{place}", self.namespace);
        uplink.publish(&address, Signal::Event, push, counters, *out);
        uplink.send(None, counters, *out);
    }

    /// Tells a trigger. `false`: it is another maker's.
    pub(super) fn triggered(&self, trigger: &Trigger<'_>, voice: &mut Voice<'_>) -> bool {
        let Trigger { oem, key, sub_key, data } = *trigger;
        if oem == ANYBODY
            && let Some(name) = KEYS.get(usize::from(key))
        {
            self.tell(&format!("trigger/{name}"), voice, |value| {
                push_i64(value, sub_key.into());
                Ok(())
            });
            return true;
        }
        if oem != ANYBODY && self.trigger_oem != Some(oem) {
            return false;
        }
        // Packets are filled up with zeros; they say nothing.
        let len = data.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        self.tell("trigger/oem", voice, |value| {
            let mut map = MapWriter::start(value);
            push_i64(map.entry("oem")?, oem.into());
            push_i64(map.entry("key")?, key.into());
            push_i64(map.entry("sub_key")?, sub_key.into());
            push_bytes(map.entry("data")?, &data[..len])
        });
        true
    }

    /// Tells a command. `false`: it is another maker's.
    pub(super) fn commanded(&self, command: &TextCommand<'_>, voice: &mut Voice<'_>) -> bool {
        let text = String::from_utf8_lossy(command.text);
        if command.is_for_anybody() {
            self.tell("command", voice, |value| push_str(value, &text));
        }
        command.is_for_anybody()
    }

    /// Tells what a node complains of.
    pub(super) fn complained(&self, from: IpAddr, diag: &Diag<'_>, voice: &mut Voice<'_>) {
        let text = String::from_utf8_lossy(diag.text);
        self.tell(&format!("nodes/{from}/diagnostics"), voice, |value| {
            let mut map = MapWriter::start(value);
            push_i64(map.entry("priority")?, diag.priority.into());
            push_i64(map.entry("port")?, diag.port.into());
            push_str(map.entry("text")?, &text)
        });
    }

    /// Tells data that are not levels.
    pub(super) fn passed(&self, nzs: &Nzs<'_>, voice: &mut Voice<'_>) {
        let place = format!("nzs/{}/{}", nzs.port_address.number(), nzs.start_code);
        self.tell(&place, voice, |value| push_bytes(value, nzs.data));
    }

    pub(super) fn asked_for_devices(
        &mut self,
        now: Time,
        from: SocketAddr,
        request: &TodRequest<'_>,
        voice: &mut Voice<'_>,
    ) {
        self.note(now, from);
        for port_address in request.ports() {
            self.tell_rdm(port_address, from, "tod_request", voice, |_| Ok(()));
        }
    }

    pub(super) fn told_devices(&self, from: SocketAddr, data: &TodData<'_>, voice: &mut Voice<'_>) {
        self.tell_rdm(data.port_address, from, "tod_data", voice, |map| {
            push_i64(map.entry("response")?, data.response.into());
            push_i64(map.entry("total")?, data.total.into());
            push_i64(map.entry("block")?, data.block.into());
            push_bytes(map.entry("uids")?, data.uids)
        });
    }

    pub(super) fn controlled(
        &mut self,
        now: Time,
        from: SocketAddr,
        control: &TodControl,
        voice: &mut Voice<'_>,
    ) {
        self.note(now, from);
        self.tell_rdm(control.port_address, from, "tod_control", voice, |map| {
            push_i64(map.entry("command")?, control.command.into());
            Ok(())
        });
    }

    pub(super) fn said_to_device(
        &mut self,
        now: Time,
        from: SocketAddr,
        rdm: &Rdm<'_>,
        voice: &mut Voice<'_>,
    ) {
        self.note(now, from);
        self.tell_rdm(rdm.port_address, from, "rdm", voice, |map| {
            push_bytes(map.entry("data")?, rdm.message)
        });
    }

    fn tell_rdm(
        &self,
        port_address: PortAddress,
        from: SocketAddr,
        kind: &str,
        voice: &mut Voice<'_>,
        rest: impl FnOnce(&mut MapWriter<'_>) -> Result<(), TooLong>,
    ) {
        self.tell(&format!("rdm/{}", port_address.number()), voice, |value| {
            let mut map = MapWriter::start(value);
            push_str(map.entry("type")?, kind)?;
            push_str(map.entry("from")?, &from.to_string())?;
            rest(&mut map)
        });
    }

    fn note(&mut self, now: Time, asker: SocketAddr) {
        if let Some((_, heard)) = self.askers.iter_mut().find(|(known, _)| *known == asker) {
            *heard = now;
        } else if self.askers.len() < ASKERS_MAX {
            self.askers.push((asker, now));
        }
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.askers.retain(|(_, heard)| now.since(*heard) < ASKER_TIMEOUT);
    }

    /// Sends an event of the router: `place` is its address below the namespace.
    pub(super) fn hear(
        &mut self,
        now: Time,
        place: &str,
        value: &Datum<'_>,
        nodes: &mut Nodes,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) -> Result<(), Meaningless> {
        let to: Vec<SocketAddr> = match place.split_once('/') {
            None if place == "command" => {
                let Datum::Text(text) = value else { return Err(Meaningless) };
                if text.len() >= TextCommand::TEXT_BYTES_MAX || text.contains('\0') {
                    return Err(Meaningless);
                }
                let command = TextCommand { esta: ANYBODY, text: text.as_bytes() };
                command.write(&mut self.packet);
                nodes.everybody().into_iter().collect()
            }
            Some(("trigger", key)) => {
                let trigger = self.trigger(key, value).ok_or(Meaningless)?;
                trigger.write(&mut self.packet);
                nodes.everybody().into_iter().collect()
            }
            Some(("nzs", rest)) => {
                let port_address = self.write_nzs(rest, value).ok_or(Meaningless)?;
                nodes.at(port_address).into_iter().collect()
            }
            Some(("rdm", port_address)) => {
                let port_address = port_address_of(port_address).ok_or(Meaningless)?;
                let Datum::Other(map) = value else { return Err(Meaningless) };
                let is_answer = self.write_rdm(port_address, *map).ok_or(Meaningless)?;
                self.receivers(port_address, *map, is_answer, nodes).ok_or(Meaningless)?
            }
            _ => return Err(Meaningless),
        };
        nodes.spread(now, to, &self.packet, counters, out);
        Ok(())
    }

    fn trigger<'v>(&self, key: &str, value: &'v Datum<'_>) -> Option<Trigger<'v>> {
        if let Some(number) = KEYS.iter().position(|name| *name == key) {
            let sub_key = match value {
                Datum::Int(number) => u8::try_from(*number).ok()?,
                Datum::Float(number) => u8::try_from(whole_number(*number)?).ok()?,
                // One character, where the keys are characters.
                Datum::Text(text) if number == 0 && text.len() == 1 => *text.as_bytes().first()?,
                _ => return None,
            };
            return Some(Trigger { oem: ANYBODY, key: number as u8, sub_key, data: &[] });
        }
        let Datum::Other(map) = value else { return None };
        let octet = |key| u8::try_from(whole(map.get(key)?)?).ok();
        let oem = map.get("oem").map_or(self.trigger_oem, |oem| u16::try_from(whole(oem)?).ok());
        let data = map.get("data").map_or(Some(&[][..]), Value::as_bytes)?;
        let whole = key == "oem" && data.len() <= SLOTS;
        whole.then_some(Trigger { oem: oem?, key: octet("key")?, sub_key: octet("sub_key")?, data })
    }

    /// Writes an ArtNzs of `{port-address}/{start code}`.
    fn write_nzs(&mut self, place: &str, value: &Datum<'_>) -> Option<PortAddress> {
        let (port_address, start_code) = place.split_once('/')?;
        let port_address = port_address_of(port_address)?;
        let start_code = u8::try_from(namespace::number(start_code)?).ok();
        let start_code = start_code.filter(|code| Nzs::is_allowed(*code))?;
        let Datum::Other(value) = value else { return None };
        let data = value.as_bytes().filter(|data| (1..=SLOTS).contains(&data.len()))?;
        // 0 would say that we do not count.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        Nzs { sequence: self.sequence, start_code, port_address, data }.write(&mut self.packet);
        Some(port_address)
    }

    /// Writes what `map` says of devices at `port_address`. Whether it may be an answer.
    fn write_rdm(&mut self, port_address: PortAddress, map: Value<'_>) -> Option<bool> {
        let number = |key| map.get(key).map_or(Some(0), whole);
        let octet = |key| u8::try_from(number(key)?).ok();
        match map.get("type")?.as_str()? {
            "tod_request" => TodRequest::write(&mut self.packet, port_address),
            "tod_control" => {
                let command = octet("command")?;
                TodControl { port_address, command }.write(&mut self.packet);
            }
            "tod_data" => {
                let uids = map.get("uids")?.as_bytes()?;
                let count = uids.len() / UID_BYTES;
                if !uids.len().is_multiple_of(UID_BYTES) || count > TOD_UIDS_MAX {
                    return None;
                }
                let total = match map.get("total") {
                    Some(total) => u16::try_from(whole(total)?).ok()?,
                    None => count as u16,
                };
                let (response, block) = (octet("response")?, octet("block")?);
                let data =
                    TodData { port_address, port: 1, bind_index: 1, response, total, block, uids };
                data.write(&mut self.packet);
                return Some(true);
            }
            "rdm" => {
                let message = map.get("data")?.as_bytes()?;
                if !(1..=RDM_BYTES_MAX).contains(&message.len()) {
                    return None;
                }
                Rdm { port_address, message }.write(&mut self.packet);
            }
            _ => return None,
        }
        Some(false)
    }

    /// Who gets it: the one in `to`, where we know it; else whoever asked, or has devices there.
    fn receivers(
        &self,
        port_address: PortAddress,
        map: Value<'_>,
        is_answer: bool,
        nodes: &Nodes,
    ) -> Option<Vec<SocketAddr>> {
        let askers = || self.askers.iter().map(|(asker, _)| *asker);
        let Some(to) = map.get("to") else {
            let nodes = nodes.at(port_address).into_iter();
            return Some(if is_answer { askers().collect() } else { nodes.collect() });
        };
        let to = to.as_str()?;
        let is_meant = |one: &SocketAddr| one.to_string() == to || one.ip().to_string() == to;
        nodes.everybody().into_iter().chain(askers()).find(is_meant).map(|to| vec![to])
    }
}

/// An integer, also from a client that knows only floats.
pub(super) fn whole(value: Value<'_>) -> Option<i64> {
    value.as_i64().or_else(|| whole_number(value.as_f64()?))
}

fn whole_number(number: f64) -> Option<i64> {
    (number.fract() == 0.0).then_some(number as i64)
}
