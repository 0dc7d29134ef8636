//! The compact encoding: one payload to one message and back.
//!
//! It is also the form inside: what arrives as legacy MessagePack is put into it before anything
//! looks at it, with one addition (`Dialect::Legacy`).

mod build;
mod decode;
mod encode;

pub use super::TooLong;
pub use build::{ResultBuilder, SnapshotBuilder};
pub(crate) use decode::{OpenBundle, raw_publish, raw_set};
pub use decode::{decode, each_set};
pub(super) use decode::{decode_nested, legacy_publish};
pub(super) use encode::ttl_word;
pub(crate) use encode::{START_LEN, is_frame_of, is_payload_of};
pub use encode::{append_payload, default_qos, encode, encode_publish, encode_set, qos_of_publish};

use crate::error::Malformed;
use crate::limits::{BUNDLE_MESSAGES_MAX, NESTING_MAX};

/// Message codes, the first byte of a payload.
pub mod code {
    pub const HELLO: u8 = 0x01;
    pub const WELCOME: u8 = 0x02;
    pub const ANNOUNCE: u8 = 0x03;
    pub const FEDERATION_SYNC: u8 = 0x04;
    pub const SUBSCRIBE: u8 = 0x10;
    pub const UNSUBSCRIBE: u8 = 0x11;
    pub const PUBLISH: u8 = 0x20;
    pub const SET: u8 = 0x21;
    pub const GET: u8 = 0x22;
    pub const SNAPSHOT: u8 = 0x23;
    pub const REPLAY: u8 = 0x24;
    pub const BUNDLE: u8 = 0x30;
    pub const SYNC: u8 = 0x40;
    pub const PING: u8 = 0x41;
    pub const PONG: u8 = 0x42;
    pub const ACK: u8 = 0x50;
    pub const ERROR: u8 = 0x51;
    pub const QUERY: u8 = 0x60;
    pub const RESULT: u8 = 0x61;
}

/// Which of two layouts a PUBLISH has; every other message has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// As peers send it.
    Wire,
    /// As legacy MessagePack is put down before it is read: a PUBLISH keeps apart what the wire
    /// cannot say ([`legacy_publish`]). No message is longer on the wire than in this form.
    Legacy,
}

/// How far a decoder is inside bundles, and how many messages it met there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nesting {
    bundles: usize,
    messages: usize,
}

impl Nesting {
    /// Goes into a bundle; [`Self::leave`] goes out of it.
    pub(super) fn enter(&mut self) -> Result<(), Malformed> {
        if self.bundles == NESTING_MAX {
            return Err(Malformed::TooDeep);
        }
        self.bundles += 1;
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.bundles -= 1;
    }

    pub(super) fn count_message(&mut self) -> Result<(), Malformed> {
        if self.messages == BUNDLE_MESSAGES_MAX {
            return Err(Malformed::TooLong);
        }
        self.messages += 1;
        Ok(())
    }
}

// Flag bits that the decoders and the encoder share, by message.

pub(super) mod federation_flag {
    pub const SINCE: u8 = 0x80;
    pub const ORIGIN: u8 = 0x40;
}

pub(super) mod subscribe_option {
    pub const MAX_RATE: u8 = 0x01;
    pub const EPSILON: u8 = 0x02;
    pub const HISTORY: u8 = 0x04;
    pub const WINDOW: u8 = 0x08;
}

pub(super) mod publish_flag {
    pub const SIGNAL_SHIFT: u8 = 5;
    pub const TIMESTAMP: u8 = 0x10;
    pub const ID: u8 = 0x08;
}

/// What a PUBLISH carries; any other indicator reads as nothing.
pub(super) mod indicator {
    pub const NOTHING: u8 = 0;
    pub const VALUE: u8 = 1;
    pub const SAMPLES: u8 = 2;
}

pub(super) mod set_flag {
    pub const REVISION: u8 = 0x80;
    pub const LOCK: u8 = 0x40;
    pub const UNLOCK: u8 = 0x20;
    pub const TTL: u8 = 0x10;
    pub const VALUE_CODE: u8 = 0x0F;
}

/// Set in a TTL word whose seconds count from creation, not from the last write.
const TTL_ABSOLUTE: u32 = 0x8000_0000;

pub(super) mod replay_flag {
    pub const FROM: u8 = 0x80;
    pub const TO: u8 = 0x40;
    pub const LIMIT: u8 = 0x20;
}

pub(super) mod bundle_flag {
    pub const TIMESTAMP: u8 = 0x80;
}

pub(super) mod sync_flag {
    pub const T2: u8 = 0x01;
    pub const T3: u8 = 0x02;
}

pub(super) mod ack_flag {
    pub const ADDRESS: u8 = 0x01;
    pub const REVISION: u8 = 0x02;
    pub const LOCKED: u8 = 0x04;
    pub const HOLDER: u8 = 0x08;
    pub const CORRELATION: u8 = 0x10;
}

pub(super) mod error_flag {
    pub const ADDRESS: u8 = 0x01;
    pub const CORRELATION: u8 = 0x02;
}
