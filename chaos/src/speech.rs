//! Frames as peers say them, so that behaviour reads without encoding.

use clasp_rt_core::message::{
    Bundle, Hello, Message, Publish, Set, Subscribe, SubscribeOptions, Ttl,
};
use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
use clasp_rt_core::value::{Value, push_i64};
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
        let mut encoded = Vec::new();
        push_i64(&mut encoded, self.number.0);
        let value = Value::from_encoded(&encoded).expect("a pushed value reads back");
        let publish = Publish { address: &self.address, value: Some(value), ..Publish::default() };
        let phase = Some(Phase::Start);
        take(&match self.act {
            Act::Set => Message::Set(Set {
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
