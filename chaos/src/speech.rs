//! Frames as peers say them, so that behaviour reads without encoding.

use clasp_rt_core::message::{
    Bundle, Hello, Message, Publish, Set, Subscribe, SubscribeOptions, Ttl,
};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::value::{MapWriter, Value, push_bool, push_i64, push_str};
use clasp_rt_core::wire::binary;
use clasp_rt_core::wire::list::{Features, Messages};

use crate::ledger::{Act, Number};

/// One part of a bundle, or a message of its own.
#[derive(Clone, Debug)]
pub struct Line {
    pub address: String,
    pub act: Act,
    pub number: Number,
    pub revision: Option<u64>,
    pub lock: bool,
    pub unlock: bool,
    /// Seconds after its last write at which the param is forgotten.
    pub ttl_s: Option<u32>,
}

impl Line {
    pub fn new(address: &str, act: Act, number: Number) -> Self {
        let address = address.to_owned();
        let (revision, lock, unlock, ttl_s) = (None, false, false, None);
        Self { address, act, number, revision, lock, unlock, ttl_s }
    }

    /// Hands the message of this line to `take`.
    fn with<T>(&self, take: impl FnOnce(&Message<'_>) -> T) -> T {
        if let Act::Release { source } = self.act {
            return with_sign(source, "release", take);
        }
        let mut encoded = Vec::new();
        push_i64(&mut encoded, self.number.0);
        let value = Value::from_encoded(&encoded).expect("a pushed value reads back");
        let publish = Publish { address: &self.address, value: Some(value), ..Publish::default() };
        let phase = Some(Phase::Start);
        take(&match self.act {
            Act::Set | Act::Claim { .. } => Message::Set(Set {
                address: &self.address,
                value,
                revision: self.revision,
                lock: self.lock,
                unlock: self.unlock,
                ttl: self.ttl_s.map(Ttl::Sliding),
            }),
            Act::Event => {
                Message::Publish(Publish { signal: Some(Signal::Event), phase, ..publish })
            }
            Act::Stream => {
                Message::Publish(Publish { signal: Some(Signal::Stream), phase, ..publish })
            }
            Act::Release { .. } => unreachable!("it is a marker"),
            Act::Gesture { id, phase } => Message::Publish(Publish {
                signal: Some(Signal::Gesture),
                id: Some(id),
                phase: Some(phase),
                ..publish
            }),
        })
    }

    /// A SET asks for an ACK; nothing else does.
    pub fn frame(&self) -> Vec<u8> {
        let qos = if self.act == Act::Set { Qos::Confirm } else { Qos::Fire };
        self.with(|message| frame(message, qos))
    }
}

pub fn bundle(lines: &[Line], at_us: Option<u64>) -> Vec<u8> {
    let mut payloads = Vec::new();
    for line in lines {
        line.with(|message| Messages::append(&mut payloads, message))
            .expect("a short message fits");
    }
    let messages = Messages::from_payloads(&payloads, lines.len()).expect("appended messages read");
    frame(&Message::Bundle(Bundle { timestamp_us: at_us, messages }), Qos::Confirm)
}

/// A bundle whose SETs are of the source `id`.
pub fn marked(id: &str, priority: Option<u8>, lines: &[Line], qos: Qos) -> Vec<u8> {
    let mut value = Vec::new();
    let mut map = MapWriter::start(&mut value);
    push_str(map.entry("id").expect("a short key"), id).expect("a short id");
    if let Some(priority) = priority {
        push_i64(map.entry("priority").expect("a short key"), i64::from(priority));
    }
    let mut payloads = Vec::new();
    Messages::append(&mut payloads, &marker(&value)).expect("a short message fits");
    for line in lines {
        line.with(|message| Messages::append(&mut payloads, message))
            .expect("a short message fits");
    }
    let messages =
        Messages::from_payloads(&payloads, lines.len() + 1).expect("appended messages read");
    frame(&Message::Bundle(Bundle { timestamp_us: None, messages }), qos)
}

/// What a session says of its source `id`: `release` or `alive`.
pub fn sign(id: &str, key: &str) -> Vec<u8> {
    with_sign(id, key, |message| frame(message, Qos::Fire))
}

fn with_sign<T>(id: &str, key: &str, take: impl FnOnce(&Message<'_>) -> T) -> T {
    let mut value = Vec::new();
    let mut map = MapWriter::start(&mut value);
    push_str(map.entry("id").expect("a short key"), id).expect("a short id");
    push_bool(map.entry(key).expect("a short key"), true);
    take(&marker(&value))
}

fn marker(value: &[u8]) -> Message<'_> {
    Message::Publish(Publish {
        address: "/clasp/source",
        signal: Some(Signal::Event),
        phase: Some(Phase::Start),
        value: Some(Value::from_encoded(value).expect("a pushed value reads back")),
        ..Publish::default()
    })
}

pub fn hello(name: &str) -> Vec<u8> {
    let features = Features::from_bits(0xF8);
    frame(&Message::Hello(Hello { version: 1, features, name, token: None }), Qos::Fire)
}

pub fn subscribe(id: u32, pattern: &str, max_rate: Option<u32>) -> Vec<u8> {
    let options = SubscribeOptions { max_rate, ..SubscribeOptions::default() };
    let types = SignalMask::ALL;
    frame(&Message::Subscribe(Subscribe { id, pattern, types, options }), Qos::Fire)
}

pub fn unsubscribe(id: u32) -> Vec<u8> {
    frame(&Message::Unsubscribe { id }, Qos::Fire)
}

pub fn get(address: &str) -> Vec<u8> {
    frame(&Message::Get { address }, Qos::Fire)
}

pub fn query(pattern: &str) -> Vec<u8> {
    frame(&Message::Query { pattern }, Qos::Fire)
}

pub fn ping() -> Vec<u8> {
    frame(&Message::Ping, Qos::Fire)
}

fn frame(message: &Message<'_>, qos: Qos) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, qos, &mut frame).expect("a short message fits");
    frame
}
