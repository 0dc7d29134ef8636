//! What kind of thing a message carries, and how surely it wants to arrive.

/// The class of a signal: three bits on the wire, in a PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Signal {
    /// State: the last value is kept and given to late joiners.
    Param,
    /// Something that happened: never dropped, never kept.
    #[default]
    Event,
    /// Samples: the newest matter, older ones may be dropped under load.
    Stream,
    /// A touch with start, moves and end: moves may be coalesced.
    Gesture,
    /// Keyframes that the router plays.
    Timeline,
}

impl Signal {
    /// Codes 5..=7 read as events, as the published decoders do.
    pub const fn from_code(code: u8) -> Self {
        match code & 7 {
            0 => Self::Param,
            2 => Self::Stream,
            3 => Self::Gesture,
            4 => Self::Timeline,
            _ => Self::Event,
        }
    }

    pub const fn code(self) -> u8 {
        match self {
            Self::Param => 0,
            Self::Event => 1,
            Self::Stream => 2,
            Self::Gesture => 3,
            Self::Timeline => 4,
        }
    }

    /// The lower-case name that MessagePack and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Param => "param",
            Self::Event => "event",
            Self::Stream => "stream",
            Self::Gesture => "gesture",
            Self::Timeline => "timeline",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Param, Self::Event, Self::Stream, Self::Gesture, Self::Timeline]
            .into_iter()
            .find(|signal| signal.name() == name)
    }
}

/// Which signals a SUBSCRIBE wants: bit `1 << Signal::code()` of each.
///
/// A mask without any known bit means all, because the published routers read it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalMask(pub u8);

impl SignalMask {
    pub const ALL: Self = Self(0xFF);

    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & 0x1F == 0 || self.0 & (1 << signal.code()) != 0
    }
}

/// Where in a gesture a message stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    #[default]
    Start,
    Move,
    End,
    Cancel,
}

impl Phase {
    /// Codes 4..=7 read as start, as the published decoders do.
    pub const fn from_code(code: u8) -> Self {
        match code & 7 {
            1 => Self::Move,
            2 => Self::End,
            3 => Self::Cancel,
            _ => Self::Start,
        }
    }

    pub const fn code(self) -> u8 {
        match self {
            Self::Start => 0,
            Self::Move => 1,
            Self::End => 2,
            Self::Cancel => 3,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Move => "move",
            Self::End => "end",
            Self::Cancel => "cancel",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Start, Self::Move, Self::End, Self::Cancel].into_iter().find(|p| p.name() == name)
    }
}

/// Bits 7..6 of the frame's flags. Decides one thing here: below confirm nothing is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    #[default]
    Fire,
    Confirm,
    Commit,
}

impl Qos {
    /// The reserved code 3 reads as fire.
    pub const fn from_code(code: u8) -> Self {
        match code & 3 {
            1 => Self::Confirm,
            2 => Self::Commit,
            _ => Self::Fire,
        }
    }

    pub const fn code(self) -> u8 {
        match self {
            Self::Fire => 0,
            Self::Confirm => 1,
            Self::Commit => 2,
        }
    }
}
