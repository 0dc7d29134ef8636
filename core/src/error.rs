//! Who is at fault, and what CLASP calls it.
//!
//! [`Malformed`]: the bytes are wrong. `Refused`: understood, not allowed. A fault of our own host
//! is neither: it belongs to the edge. A broken invariant is an `assert!`.

use core::fmt;

/// The bytes are not a frame or message of this protocol: answer with ERROR 100 or 101, count, go
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Fewer bytes than a frame header has.
    ShortHeader { need: usize, got: usize },
    /// The first byte is not 0x53.
    BadMagic { found: u8 },
    /// The header promises more payload than there is.
    ShortPayload { need: usize, got: usize },
    /// A payload of no bytes holds no message.
    EmptyPayload,
    /// The first payload byte names no message.
    UnknownMessage { code: u8 },
    /// The payload ends before a field it promises.
    Truncated { need: usize, got: usize },
    /// A value's type code is not one of 0x00..=0x0B.
    UnknownValue { code: u8 },
    /// A string is not UTF-8.
    BadUtf8,
    /// FEDERATION_SYNC with an operation that is not 1..=4.
    BadFederationOp { op: u8 },
    /// The legacy encoding is broken, or a required field is missing or of the wrong type.
    BadMsgpack { why: &'static str },
    /// Values or bundles inside each other deeper than [`crate::limits::NESTING_MAX`].
    TooDeep,
    /// The compressed or encrypted flag is set; no published package implements either.
    UnsupportedFlag { flags: u8 },
    /// The message, decoded, needs more room than a frame can hold.
    TooLong,
}

impl Malformed {
    /// The class that the golden vectors use (`expect_error`).
    pub const fn class(self) -> &'static str {
        match self {
            Self::ShortHeader { .. } => "short_header",
            Self::BadMagic { .. } => "bad_magic",
            Self::ShortPayload { .. } => "short_payload",
            Self::EmptyPayload => "empty_payload",
            Self::UnknownMessage { .. } => "unknown_message",
            Self::Truncated { .. } => "truncated",
            Self::UnknownValue { .. } => "unknown_value",
            Self::BadUtf8 => "bad_utf8",
            Self::BadFederationOp { .. } => "bad_federation_op",
            Self::BadMsgpack { .. } => "bad_msgpack",
            Self::TooDeep => "too_deep",
            Self::UnsupportedFlag { .. } => "unsupported_flag",
            Self::TooLong => "too_long",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ShortHeader { need, got } => write!(f, "header needs {need} bytes, has {got}"),
            Self::BadMagic { found } => write!(f, "first byte is {found:#04x}, should be 0x53"),
            Self::ShortPayload { need, got } => write!(f, "payload needs {need} bytes, has {got}"),
            Self::EmptyPayload => f.write_str("payload is empty, should begin with a message code"),
            Self::UnknownMessage { code } => write!(f, "message code {code:#04x} is not defined"),
            Self::Truncated { need, got } => write!(f, "field needs {need} bytes, has {got}"),
            Self::UnknownValue { code } => {
                write!(f, "value code {code:#04x} is not one of 0x00 to 0x0b")
            }
            Self::BadUtf8 => f.write_str("string is not UTF-8"),
            Self::BadFederationOp { op } => write!(f, "federation operation {op} is not 1 to 4"),
            Self::BadMsgpack { why } => write!(f, "MessagePack: {why}"),
            Self::TooDeep => write!(f, "nested deeper than {}", crate::limits::NESTING_MAX),
            Self::UnsupportedFlag { flags } => {
                write!(
                    f,
                    "flags {flags:#04x} ask for compression or encryption, which is not spoken"
                )
            }
            Self::TooLong => f.write_str("longer than the 65535 bytes that a frame can hold"),
        }
    }
}

impl core::error::Error for Malformed {}

/// Codes of ERROR that the published packages name or send.
pub mod code {
    pub const INVALID_FRAME: u16 = 100;
    pub const INVALID_MESSAGE: u16 = 101;
    pub const INVALID_ADDRESS: u16 = 200;
    pub const NOT_FOUND: u16 = 201;
    pub const BAD_PATTERN: u16 = 202;
    pub const UNAUTHORIZED: u16 = 300;
    pub const FORBIDDEN: u16 = 301;
    pub const TOKEN_EXPIRED: u16 = 302;
    pub const STATE: u16 = 400;
    pub const INVALID_VALUE: u16 = 402;
    pub const BUNDLE_REFUSED: u16 = 403;
    pub const TARGET_UNKNOWN: u16 = 404;
    pub const RATE_LIMIT: u16 = 429;
    pub const UNAVAILABLE: u16 = 501;
    pub const OVERFLOW: u16 = 503;
}
