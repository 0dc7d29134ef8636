//! What can go wrong, one enum for each thing that a caller does.

use std::{fmt, io};

use clasp_rt_core::address::AddressError;
use clasp_rt_core::error::Malformed;
use clasp_rt_core::pattern::PatternError;
use clasp_rt_core::wire::TooLong;
use clasp_rt_link::End;

use crate::url::BadUrl;

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    Url(BadUrl),
    /// Nobody answers there.
    Unreachable {
        url: String,
        error: io::Error,
    },
    /// Somebody answers, but not as a router does.
    Ended(End),
    /// The router said no, with a CLASP code: 300 without a valid token, 501 when it is full.
    Refused {
        code: u16,
        message: String,
    },
    /// No WELCOME within the time that was allowed.
    TimedOut,
    /// The connection broke before WELCOME.
    Lost(io::Error),
    /// The name or the token is longer than a HELLO can say.
    TooLong,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is down; it may come back.
    NotConnected,
    /// The client was closed, by us or for good by the router.
    Closed,
    Address(AddressError),
    Pattern(PatternError),
    /// The value, or all of the message, is longer than a frame can hold.
    TooLong,
    /// Arrays or maps inside each other deeper than a router accepts.
    TooDeep,
    /// The connection broke while sending.
    Lost(io::ErrorKind),
}

/// Why a question got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    Send(SendError),
    /// The router said no, with a CLASP code: 201 where the address holds nothing.
    Refused {
        code: u16,
        message: String,
    },
    TimedOut,
    /// The connection went down before the answer came.
    Lost,
    /// Too many questions wait for their answers.
    Busy,
}

/// What the router, or the connection, complains about without being asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// An ERROR message.
    Refused { code: u16, message: String, address: Option<String> },
    /// A frame of the router could not be read.
    Malformed(Malformed),
    /// The connection went down; `None` when the router just went away.
    Lost(Option<End>),
    /// An attempt to come back failed; another follows.
    NotBack(String),
}

impl From<BadUrl> for ConnectError {
    fn from(bad: BadUrl) -> Self {
        Self::Url(bad)
    }
}

impl From<TooLong> for SendError {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(bad) => bad.fmt(f),
            Self::Unreachable { url, error } => write!(f, "no router at {url}: {error}"),
            Self::Ended(end) => write!(f, "no router answers there: {end}"),
            Self::Refused { code, message } => write!(f, "the router refused: {message} ({code})"),
            Self::TimedOut => f.write_str("the router did not answer in time"),
            Self::Lost(error) => {
                write!(f, "the connection broke before WELCOME: {error}; the router may be full")
            }
            Self::TooLong => f.write_str("name and token are longer than a HELLO can say"),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("not connected at the moment"),
            Self::Closed => f.write_str("the client is closed"),
            Self::Address(error) => write!(f, "bad address: {error}"),
            Self::Pattern(error) => write!(f, "bad pattern: {error}"),
            Self::TooLong => f.write_str("longer than the 65535 bytes that a message can hold"),
            Self::TooDeep => f.write_str("arrays or maps are nested too deep"),
            Self::Lost(kind) => write!(f, "the connection broke: {kind}"),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::Refused { code, message } => write!(f, "the router refused: {message} ({code})"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Lost => f.write_str("the connection went down before the answer came"),
            Self::Busy => f.write_str("too many questions wait for their answers"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message, address: None } => write!(f, "{message} ({code})"),
            Self::Refused { code, message, address: Some(address) } => {
                write!(f, "{address}: {message} ({code})")
            }
            Self::Malformed(malformed) => write!(f, "unreadable frame: {malformed}"),
            Self::Lost(None) => f.write_str("the connection went down"),
            Self::Lost(Some(end)) => write!(f, "the connection went down: {end}"),
            Self::NotBack(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { error, .. } | Self::Lost(error) => Some(error),
            _ => None,
        }
    }
}

impl std::error::Error for SendError {}
impl std::error::Error for RequestError {}
