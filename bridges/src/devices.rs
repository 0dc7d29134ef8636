//! Devices of this machine that a bridge asks its host for: MIDI ports and serial lines.
//!
//! Each is a stream like any other ([`crate::StreamPlan`]): it opens when the device is there,
//! ends when it is unplugged, and opens again when it comes back.

use crate::{ConfigError, StreamId};

/// A MIDI port: bytes both ways are MIDI 1.0 as on a cable. What is said at once is whole
/// messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MidiPort {
    /// Under which other programs see us.
    pub client: String,
    pub choice: MidiChoice,
    /// Bytes come from it.
    pub input: bool,
    /// Bytes go to it.
    pub output: bool,
}

/// Which port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MidiChoice {
    /// The first that is no "Midi Through".
    First,
    /// The first whose name contains this text; where it is listed for output, another.
    Named { input: String, output: String },
    /// Its place in the list of ports, from 0.
    Number(u16),
    /// A port of this name that other programs connect themselves to.
    Virtual(String),
}

/// A serial line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialLine {
    pub device: SerialDevice,
    pub speech: Speech,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SerialDevice {
    /// `/dev/ttyUSB0`, or a link to it.
    Path(String),
    /// The adapter with this USB serial number.
    UsbSerial(String),
    /// The first FTDI adapter: what DMX interfaces are made of.
    FirstFtdi,
}

/// What is said on a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Bytes as they are, 8 data bits and no parity.
    Bytes { baud: u32, stop_bits: StopBits },
    /// DMX512: 250,000 baud, 8N2, a break before each frame. The newest frame is repeated without
    /// end; bytes to and from the stream are messages of an ENTTEC DMX USB Pro ([`crate::dmx`]),
    /// which a thread of the host is in this case.
    Dmx { rate_hz: u8, break_us: u32, mark_us: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopBits {
    One,
    Two,
}

/// What a bridge has for one of its devices.
pub(crate) trait Driven {
    /// While the device is there.
    fn stream(&self) -> Option<StreamId>;
}

/// Whose stream that is: the place of its device among all of the bridge.
pub(crate) fn place_of<D: Driven>(devices: &[D], stream: StreamId) -> Option<usize> {
    devices.iter().position(|device| device.stream() == Some(stream))
}

/// Checks the tables `[[bridge.device]]`, of which there is one with all defaults if nothing is
/// written, by `wrong`: the key that is wrong in the table at a place among all, and why.
pub(crate) fn check_tables<T: Default>(
    tables: &mut Vec<T>,
    max: usize,
    wrong: impl Fn(usize, &[T]) -> Result<(), (&'static str, String)>,
) -> Result<(), ConfigError> {
    if tables.is_empty() {
        tables.push(T::default());
    }
    if tables.len() > max {
        let why = format!("one bridge has at most {max} devices; write two");
        return Err(ConfigError::new("device", why));
    }
    (0..tables.len()).try_for_each(|place| {
        let named = |(key, why)| ConfigError::new(format!("device[{place}].{key}"), why);
        wrong(place, tables).map_err(named)
    })
}

#[cfg(test)]
pub(crate) mod rig {
    //! A bridge with a router and devices around it, all of them lists.

    use std::net::SocketAddr;

    use clasp_rt_core::time::{Span, Time};

    use crate::uplink::tests::Said;
    use crate::{Bridge, Input, Out, Peer, StreamId};

    pub(crate) struct Rig {
        pub(crate) bridge: Box<dyn Bridge>,
        pub(crate) now: Time,
        pub(crate) around: Around,
    }

    /// What the bridge said.
    #[derive(Default)]
    pub(crate) struct Around {
        router: Said,
        pub(crate) said: Vec<(u32, Vec<u8>)>,
        /// Bytes that a stream takes before it is read; read streams are empty again.
        pub(crate) room: usize,
        waits: Vec<usize>,
        /// Streams whose other end does not read.
        pub(crate) stuck: bool,
    }

    impl Out for Around {
        fn room(&self) -> usize {
            self.router.room
        }

        fn to_router(&mut self, frame: &[u8]) {
            self.router.to_router(frame);
        }

        fn to_network(&mut self, _: u8, _: SocketAddr, _: &[u8]) {
            panic!("devices have no datagrams");
        }

        fn stream_room(&self, stream: StreamId) -> usize {
            let waits = self.waits.get(stream.index as usize).copied().unwrap_or(0);
            self.room.saturating_sub(waits)
        }

        fn to_stream(&mut self, stream: StreamId, bytes: &[u8]) {
            assert!(self.stream_room(stream) >= bytes.len(), "it was to look before");
            if self.stuck {
                self.waits.resize(self.waits.len().max(stream.index as usize + 1), 0);
                self.waits[stream.index as usize] += bytes.len();
            }
            self.said.push((stream.index, bytes.to_vec()));
        }
    }

    impl Rig {
        /// Joined, with nothing plugged in yet.
        pub(crate) fn new(bridge: Box<dyn Bridge>) -> Self {
            let around = Around { room: 1 << 16, ..Around::default() };
            let mut rig = Self { bridge, now: Time(1_000_000_000), around };
            rig.step(Input::Joined);
            rig
        }

        pub(crate) fn step(&mut self, input: Input<'_>) {
            self.bridge.step(self.now, input, &mut self.around);
        }

        /// Plugs in the device of a plan.
        pub(crate) fn plug(&mut self, plan: u8) -> StreamId {
            let stream = StreamId { index: plan.into(), generation: 1 };
            self.step(Input::Opened { stream, plan, peer: Peer::Device("test") });
            stream
        }

        /// The device of a plan says something.
        pub(crate) fn hear(&mut self, plan: u8, bytes: &[u8]) {
            let stream = StreamId { index: plan.into(), generation: 1 };
            self.step(Input::Bytes { stream, bytes });
        }

        pub(crate) fn unplug(&mut self, plan: u8) {
            self.step(Input::Ended { stream: StreamId { index: plan.into(), generation: 1 } });
        }

        /// Lets time pass, with every deadline in it.
        pub(crate) fn wait(&mut self, span: Span) {
            let end = self.now + span;
            while let Some(due) = self.bridge.deadline().filter(|due| *due <= end) {
                self.now = self.now.max(due);
                self.step(Input::Deadline);
            }
            self.now = end;
        }

        /// Everything waits in the streams from now on, or is read at once again.
        pub(crate) fn stick(&mut self, stuck: bool) {
            self.around.stuck = stuck;
            self.around.waits.clear();
        }

        /// What the router was told since the last call.
        pub(crate) fn told(&mut self) -> Vec<String> {
            self.around.router.take_lines()
        }

        pub(crate) fn router_room(&mut self, room: usize) {
            self.around.router.room = room;
        }

        /// What was said to the devices since the last call, as hexadecimal digits.
        pub(crate) fn said(&mut self) -> Vec<String> {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            self.around.said.drain(..).map(|(_, bytes)| hex(&bytes)).collect()
        }
    }
}
