//! One session at the router: what says messages, and what hears them.

use std::io;
use std::sync::Arc;

use clasp_rt_core::error::code;
use clasp_rt_core::message::{Hello, Message};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::wire::list::Features;
use clasp_rt_core::wire::{binary, header};
use clasp_rt_link::close;
use tokio::time::{Duration, Instant, sleep_until};

use crate::line::{Line, Read, Received};
use crate::router::{JoinError, Who};
use crate::{AtomicCounters, runtime};

/// A router elsewhere that says nothing for so long is asked, and given up after the second.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The saying half of a session. Cloned, it says on the same session.
///
/// The session ends when its [`Hearer`] and all its speakers are dropped, or one says
/// [`Speaker::leave`].
#[derive(Clone, Debug)]
pub struct Speaker {
    line: Arc<Line>,
    counters: Arc<AtomicCounters>,
    frame: Vec<u8>,
}

/// The hearing half of a session.
#[derive(Debug)]
pub struct Hearer {
    line: Arc<Line>,
    counters: Arc<AtomicCounters>,
    received: Received,
    frame: Vec<u8>,
    /// As WELCOME said it: the writer that a SNAPSHOT names for what this session set.
    session: String,
    why: Option<String>,
    /// The router said that the token is good no longer.
    has_expired: bool,
    heard: Instant,
    pinged: Instant,
    /// A router in this process is never asked whether it is there.
    is_remote: bool,
}

/// What the router said.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    pub message: Message<'a>,
    pub qos: Qos,
}

impl Speaker {
    /// Says `message`, and waits while the router does not take it. Dropped half-way, the message
    /// still leaves whole.
    ///
    /// Fails when the session has ended, or with [`io::ErrorKind::InvalidInput`] when the message
    /// is longer than a frame.
    pub async fn say(&mut self, message: &Message<'_>, qos: Qos) -> io::Result<()> {
        let too_long = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        binary::encode(message, qos, &mut self.frame).map_err(too_long)?;
        self.line.say(&self.frame).await?;
        self.counters.frames_out.add(1);
        Ok(())
    }

    /// Says a frame that is encoded already, such as one that JSON text became.
    pub async fn say_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        self.line.say(frame).await?;
        self.counters.frames_out.add(1);
        Ok(())
    }

    /// Ends the session in good order.
    pub async fn leave(self) -> io::Result<()> {
        self.line.close(close::GOING_AWAY, "the bridge stops");
        let flushed = tokio::time::timeout(runtime::STOP_PATIENCE, self.line.flush(0)).await;
        flushed.unwrap_or(Ok(()))
    }
}

impl Hearer {
    /// The next message; `None` when the session has ended ([`Hearer::why_ended`]). May be dropped
    /// and called again: nothing is lost.
    ///
    /// PING is answered here; PONG is given, as what comes behind one is known to come later. What
    /// cannot be decoded is counted and passed over.
    pub async fn next(&mut self) -> Option<Heard<'_>> {
        loop {
            if !self.next_frame().await {
                return None;
            }
            let message = header::parse(&self.frame).and_then(|f| binary::decode(f.payload));
            match message {
                Err(_) => self.counters.malformed.add(1),
                Ok(Message::Ping) => self.pong(),
                Ok(Message::Error(error)) if error.code == code::TOKEN_EXPIRED => {
                    self.has_expired = true;
                    break;
                }
                Ok(_) => break,
            }
        }
        self.counters.frames_in.add(1);
        // Decoded again, as a message that is borrowed cannot leave the loop.
        let frame = header::parse(&self.frame).ok()?;
        let message = binary::decode(frame.payload).ok()?;
        Some(Heard { message, qos: frame.header.qos })
    }

    /// The frame that [`Hearer::next`] gave last, as it came.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// The name of this session, as the router gave it.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Why the session ended, once it has.
    pub fn why_ended(&self) -> &str {
        self.why.as_deref().unwrap_or("it has not ended")
    }

    /// Whether it ended, or will at once, because its token is good no longer.
    pub fn has_expired(&self) -> bool {
        self.has_expired
    }

    fn pong(&mut self) {
        let mut frame = Vec::new();
        if binary::encode(&Message::Pong, Qos::Fire, &mut frame).is_ok() {
            self.line.reply(&frame);
        }
    }

    /// Receives until `frame` holds the next one. `false`: there will be none.
    async fn next_frame(&mut self) -> bool {
        if self.why.is_some() {
            return false;
        }
        loop {
            match self.line.read(&mut self.received, &mut self.frame) {
                Read::Frame => return true,
                Read::Other => continue,
                Read::Ended(why) => {
                    self.why = Some(why);
                    return false;
                }
                Read::More => {}
            }
            let deadline = match self.is_remote {
                true => Some((self.heard.max(self.pinged)) + PING_INTERVAL),
                false => None,
            };
            let silence = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.line.receive(&mut self.received) => match received {
                    Ok(true) => self.heard = Instant::now(),
                    Ok(false) => self.why = Some("the router closed the connection".to_owned()),
                    Err(why) => self.why = Some(why.to_string()),
                },
                () = silence => {
                    self.pinged = Instant::now();
                    if self.pinged - self.heard > SILENCE_MAX {
                        self.why = Some("the router is silent".to_owned());
                    }
                    self.line.ping();
                }
            }
            if self.why.is_some() {
                return false;
            }
        }
    }
}

impl Drop for Hearer {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            self.counters.sessions.sub(1);
        }
    }
}

/// Says HELLO and waits for WELCOME. Whoever calls bounds the wait.
pub(crate) async fn greet(
    line: Line,
    who: &Who,
    counters: Arc<AtomicCounters>,
    is_remote: bool,
) -> Result<(Speaker, Hearer), JoinError> {
    let line = Arc::new(line);
    let now = Instant::now();
    let mut hearer = Hearer {
        line: Arc::clone(&line),
        counters: Arc::clone(&counters),
        received: Received::default(),
        frame: Vec::new(),
        session: String::new(),
        why: None,
        has_expired: false,
        heard: now,
        pinged: now,
        is_remote,
    };
    // The handshake of a WebSocket comes first.
    while !line.is_open() {
        line.flush(0).await.map_err(JoinError::Lost)?;
        match line.read(&mut hearer.received, &mut hearer.frame) {
            Read::Frame | Read::Other => {}
            Read::Ended(why) => return Err(JoinError::Lost(io::Error::other(why))),
            Read::More => {
                if !line.receive(&mut hearer.received).await.map_err(JoinError::Lost)? {
                    return Err(JoinError::Lost(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }
    let mut speaker = Speaker { line, counters: Arc::clone(&counters), frame: Vec::new() };
    let hello = Message::Hello(Hello {
        version: 1,
        features: Features::from_bits(who.features),
        name: &who.name,
        token: who.token.as_deref(),
    });
    speaker.say(&hello, Qos::Fire).await.map_err(JoinError::Lost)?;
    hearer.session = loop {
        match hearer.next().await.map(|heard| heard.message) {
            Some(Message::Welcome(welcome)) => break welcome.session.to_owned(),
            Some(Message::Error(error)) => {
                let message = error.message.to_owned();
                return Err(JoinError::Refused { code: error.code, message });
            }
            Some(_) => {}
            None => return Err(JoinError::Lost(io::Error::other(hearer.why_ended().to_owned()))),
        }
    };
    counters.sessions.add(1);
    Ok((speaker, hearer))
}
