//! What a subscription is told.

use clasp_rt_core::message::{ParamValue, Publish, Set};
use clasp_rt_core::signal::{Phase, Signal};
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::list::Samples;

use crate::val::Val;

/// One change, event, sample or touch. Borrows from the frame it came in.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    pub address: &'a str,
    pub signal: Signal,
    pub origin: Origin,
    /// Null where the message carries no value.
    pub value: Value<'a>,
    /// Of a stream that sends several samples at once.
    pub samples: Option<Samples<'a>>,
    /// Of a param; rises with every change.
    pub revision: Option<u64>,
    /// Of a gesture.
    pub phase: Option<Phase>,
    /// Of a gesture: which finger.
    pub id: Option<u32>,
    /// Microseconds since the Unix epoch, by the sender's clock.
    pub timestamp_us: Option<u64>,
    /// Session of the last writer; only a snapshot says it.
    pub writer: Option<&'a str>,
}

/// Which message an update was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A param was written just now, perhaps by us.
    Set,
    /// What a param holds already; told on subscribing, and possibly again later.
    Snapshot,
    Publish,
}

impl Update<'_> {
    /// The value, to keep.
    pub fn val(&self) -> Val {
        self.value.into()
    }
}

impl<'a> From<Set<'a>> for Update<'a> {
    fn from(set: Set<'a>) -> Self {
        Self {
            value: set.value,
            revision: set.revision,
            ..Self::new(set.address, Signal::Param, Origin::Set)
        }
    }
}

impl<'a> From<ParamValue<'a>> for Update<'a> {
    fn from(param: ParamValue<'a>) -> Self {
        Self {
            value: param.value,
            revision: Some(param.revision),
            timestamp_us: param.timestamp_us,
            writer: param.writer,
            ..Self::new(param.address, Signal::Param, Origin::Snapshot)
        }
    }
}

impl<'a> From<Publish<'a>> for Update<'a> {
    fn from(publish: Publish<'a>) -> Self {
        let signal = publish.signal.unwrap_or_default();
        let is_gesture = signal == Signal::Gesture;
        Self {
            value: publish.value.or(publish.payload).unwrap_or(Value::NULL),
            samples: publish.samples,
            phase: is_gesture.then(|| publish.phase.unwrap_or_default()),
            id: is_gesture.then(|| publish.id.unwrap_or_default()),
            timestamp_us: publish.timestamp_us,
            ..Self::new(publish.address, signal, Origin::Publish)
        }
    }
}

impl<'a> Update<'a> {
    fn new(address: &'a str, signal: Signal, origin: Origin) -> Self {
        Self {
            address,
            signal,
            origin,
            value: Value::NULL,
            samples: None,
            revision: None,
            phase: None,
            id: None,
            timestamp_us: None,
            writer: None,
        }
    }
}
