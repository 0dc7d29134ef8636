//! The other end of a client under test: a real socket, the real transports and codecs, and a
//! script in place of a router.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use clasp_rt_client::{Features, Qos, Scheme};
use clasp_rt_core::message::{ErrorReply, Message, Welcome};
use clasp_rt_core::wire::list::Params;
use clasp_rt_core::wire::{Scratch, binary, decode, header};
use clasp_rt_link::stream::Stream;
use clasp_rt_link::ws::Ws;
use clasp_rt_link::{AnyTransport, End, Event, Transport};

pub const SCHEMES: [Scheme; 2] = [Scheme::Ws, Scheme::Tcp];

/// Plays `script` to the connections that come, one after the other, until it returns.
pub struct Router {
    address: SocketAddr,
    scheme: Scheme,
    script: Option<JoinHandle<()>>,
}

/// One connection of a client, seen from the router.
pub struct Peer {
    stream: TcpStream,
    transport: AnyTransport,
    received: Vec<u8>,
    out: Vec<u8>,
}

/// Where a script takes its connections from.
pub struct Door {
    listener: TcpListener,
    scheme: Scheme,
}

impl Router {
    pub fn start(scheme: Scheme, script: impl FnOnce(&Door) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let script = thread::spawn(move || script(&Door { listener, scheme }));
        Self { address, scheme, script: Some(script) }
    }

    pub fn url(&self) -> String {
        match self.scheme {
            Scheme::Ws => format!("ws://{}/clasp", self.address),
            Scheme::Tcp => format!("tcp://{}", self.address),
        }
    }

    /// Waits for the script's end, and fails where the script failed.
    pub fn finish(mut self) {
        let script = self.script.take().expect("it is finished once");
        if let Err(panic) = script.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Door {
    /// The next client, up to its transport's handshake.
    pub fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a client");
        let transport = match self.scheme {
            Scheme::Ws => AnyTransport::Ws(Ws::server()),
            Scheme::Tcp => AnyTransport::Stream(Stream::new()),
        };
        let mut peer = Peer { stream, transport, received: Vec::new(), out: Vec::new() };
        while !peer.transport.is_open() {
            peer.next(|event| assert_eq!(event, Event::Opened)).expect("a handshake");
        }
        peer
    }

    /// The next client, welcomed as a router without params does.
    pub fn welcome(&self) -> Peer {
        let mut peer = self.accept();
        peer.expect("HELLO", |message| matches!(message, Message::Hello(_)));
        peer.send_welcome();
        peer.send(&Message::Snapshot { params: Params::EMPTY });
        peer
    }
}

impl Peer {
    pub fn send_welcome(&mut self) {
        self.send(&Message::Welcome(Welcome {
            version: 1,
            features: Features::from_bits(0xF8),
            time_us: 1_700_000_000_000_000,
            session: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            name: "script",
            token: None,
        }));
    }

    pub fn send(&mut self, message: &Message<'_>) {
        let mut frame = Vec::new();
        binary::encode(message, Qos::Fire, &mut frame).expect("a short message");
        self.send_frame(&frame);
    }

    pub fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = Vec::new();
        self.transport.wrap(frame, &mut bytes);
        self.stream.write_all(&bytes).expect("the client reads");
    }

    /// A client closes while it is told; that is no failure of the test.
    pub fn close(mut self, code: u16) {
        let mut bytes = Vec::new();
        self.transport.close(code, "by the script", &mut bytes);
        let _ = self.stream.write_all(&bytes);
    }

    pub fn send_error(&mut self, code: u16, message: &str, address: Option<&str>) {
        self.send(&Message::Error(ErrorReply { code, message, address, correlation_id: None }));
    }

    /// The next message, given to `look` with its frame's QoS.
    pub fn receive<T>(&mut self, mut look: impl FnMut(Message<'_>, Qos) -> T) -> T {
        loop {
            let found = self.next(|event| match event {
                Event::Binary(frame) => {
                    let frame = header::parse(frame).expect("a frame");
                    let mut scratch = Scratch::default();
                    let message = decode(frame.payload, &mut scratch).expect("a message");
                    Some(look(message, frame.header.qos))
                }
                _ => None,
            });
            if let Some(found) = found.expect("the client is there") {
                return found;
            }
        }
    }

    /// The next message must be such a one.
    pub fn expect(&mut self, name: &str, fits: impl Fn(&Message<'_>) -> bool) {
        self.receive(|message, _| assert!(fits(&message), "{name} expected, not {message:?}"));
    }

    /// Whatever still comes, up to the client's end.
    pub fn until_the_end(&mut self) -> Option<End> {
        loop {
            match self.next(|event| match event {
                Event::Ended(end) => Some(end),
                _ => None,
            }) {
                Some(None) => {}
                Some(end) => return end,
                None => return None,
            }
        }
    }

    /// `None` at the end of the stream.
    fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        while self.transport.peek(&mut self.received, &mut self.out) == Event::More {
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(len) => self.received.extend_from_slice(&bytes[..len]),
            }
        }
        let _ = self.stream.write_all(&self.out);
        self.out.clear();
        let found = look(self.transport.peek(&mut self.received, &mut self.out));
        self.received.drain(..self.transport.advance());
        Some(found)
    }
}
