//! The client's own thread: reads, answers, tells, and comes back after a loss.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use clasp_rt_core::message::Message;
use clasp_rt_core::signal::Qos;
use clasp_rt_core::wire::{self, Scratch, header};
use clasp_rt_link::{End, Event};

use crate::backoff::Backoff;
use crate::dial::{self, Dialed, Received, Welcomed};
use crate::error::{ConnectError, SendError, Trouble};
use crate::options::{Callback, Options};
use crate::shared::{Link, Shared, lock};
use crate::state::{Phase, Question, Told};
use crate::update::Update;
use crate::url::Url;

pub(crate) struct Reader {
    shared: Arc<Shared>,
    stream: TcpStream,
    received: Received,
    scratch: Scratch,
    teller: Teller,
    backoff: Backoff,
}

/// Turns messages into changes of the state, answers, and calls.
struct Teller {
    shared: Arc<Shared>,
    on_trouble: Option<Callback>,
    /// Who is to be told next; empty between updates.
    told: Vec<Told>,
}

/// A connection that is up to WELCOME.
pub(crate) fn begin(url: &Url, options: &Options) -> Result<(Dialed, Welcomed), ConnectError> {
    let deadline = Instant::now() + options.connect_timeout;
    let mut dialed = dial::dial(url, deadline)?;
    let welcomed = dialed.greet(&options.identity, deadline)?;
    Ok((dialed, welcomed))
}

impl Reader {
    /// Takes the connection over: from here on messages can be sent.
    pub(crate) fn new(
        shared: Arc<Shared>,
        (dialed, welcomed): (Dialed, Welcomed),
        on_trouble: Option<Callback>,
    ) -> Result<Self, ConnectError> {
        let stream = dialed.stream.try_clone().map_err(ConnectError::Lost)?;
        let options = &shared.options;
        let backoff = Backoff::new(options.wait_first, options.wait_most, dial::random());
        shared.state().welcome(welcomed);
        *shared.link() = Some(Link::new(dialed.stream, dialed.transport));
        Ok(Self {
            stream,
            received: dialed.received,
            scratch: Scratch::default(),
            teller: Teller { shared: Arc::clone(&shared), on_trouble, told: Vec::new() },
            backoff,
            shared,
        })
    }

    pub(crate) fn run(mut self) {
        // Also when a callback panics: whoever waits for an answer must not wait for ever.
        let _on_the_way_out = Farewell(Arc::clone(&self.shared));
        loop {
            let begun = Instant::now();
            let end = self.listen();
            if begun.elapsed() > self.shared.options.wait_most {
                self.backoff.reset();
            }
            *self.shared.link() = None;
            if self.is_closing() {
                return;
            }
            self.shared.state().lose(Phase::Down);
            self.shared.announce_change();
            self.teller.report(Trouble::Lost(end));
            if !self.shared.options.reconnect || !self.come_back() {
                return;
            }
        }
    }

    /// Reads until the connection ends; the transport may say how.
    fn listen(&mut self) -> Option<End> {
        self.stream.set_read_timeout(Some(self.shared.options.keep_alive)).ok()?;
        let mut asked = false;
        loop {
            loop {
                let (event, used) = match self.shared.link().as_mut() {
                    Some(link) => link.next(self.received.unread()),
                    None => return None,
                };
                match event {
                    Event::Binary(frame) => self.teller.take(frame, &mut self.scratch),
                    Event::Ended(end) => return Some(end),
                    Event::More => break,
                    // Text is the JSON form, which nobody asked for.
                    Event::Opened | Event::Alive | Event::Text(_) => {}
                }
                self.received.use_up(used);
            }
            match self.received.fill(&mut self.stream) {
                Ok(0) => return None,
                Ok(_) => asked = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if dial::is_timeout(&error) && !asked => {
                    asked = true;
                    self.ask_whether_alive();
                }
                Err(_) => return None,
            }
        }
    }

    /// Any answer will do, so nobody waits for it; but it must not be taken for another's.
    fn ask_whether_alive(&self) {
        // A failure shows in the next read.
        let _ = self.shared.send(|link| {
            let asked = self.shared.state().ask(Question::Ping);
            match asked {
                Ok(ticket) => {
                    self.shared.state().abandon(ticket);
                    link.send(&Message::Ping, Qos::Fire)
                }
                Err(_) => Ok(()),
            }
        });
    }

    /// Tries until there is a session again; `false` when there is no use in it.
    fn come_back(&mut self) -> bool {
        loop {
            let until = Instant::now() + self.backoff.next_wait();
            let closing = |phase| (phase == Phase::Closing).then_some(());
            if self.shared.wait_for(until, |state| closing(state.phase)).is_some() {
                return false;
            }
            let resumed = begin(&self.shared.url, &self.shared.options)
                .and_then(|(dialed, welcomed)| self.resume(dialed, welcomed));
            match resumed {
                Ok(()) => return !self.is_closing(),
                Err(error) => {
                    // A token does not become valid by showing it again.
                    let refused = matches!(error, ConnectError::Refused { code: 300..=302, .. });
                    self.teller.report(Trouble::NotBack(error.to_string()));
                    if refused {
                        return false;
                    }
                }
            }
        }
    }

    /// Takes over a new connection and asks again for all that was subscribed to.
    fn resume(&mut self, dialed: Dialed, welcomed: Welcomed) -> Result<(), ConnectError> {
        self.stream = dialed.stream.try_clone().map_err(ConnectError::Lost)?;
        self.received = dialed.received;
        let mut link = Link::new(dialed.stream, dialed.transport);
        let mut held = self.shared.link();
        let mut state = self.shared.state();
        for subscribe in state.subscriptions() {
            link.send(&Message::Subscribe(subscribe), Qos::Confirm).map_err(lost)?;
        }
        if state.phase == Phase::Down {
            state.welcome(welcomed);
            *held = Some(link);
        }
        Ok(())
    }

    fn is_closing(&self) -> bool {
        self.shared.state().phase == Phase::Closing
    }
}

fn lost(error: SendError) -> ConnectError {
    match error {
        SendError::Lost(kind) => ConnectError::Lost(kind.into()),
        _ => ConnectError::TooLong,
    }
}

impl Teller {
    fn take(&mut self, frame: &[u8], scratch: &mut Scratch) {
        let decoded = header::parse(frame).and_then(|frame| wire::decode(frame.payload, scratch));
        match decoded {
            Ok(message) => self.apply(message),
            Err(malformed) => self.report(Trouble::Malformed(malformed)),
        }
        self.shared.announce_change();
    }

    fn apply(&mut self, message: Message<'_>) {
        match message {
            Message::Set(set) => {
                self.shared.state().hold(set.address, set.value, set.revision);
                self.tell(&set.into());
            }
            Message::Publish(publish) => self.tell(&publish.into()),
            Message::Snapshot { params } => {
                for param in params {
                    let mut state = self.shared.state();
                    state.hold(param.address, param.value, Some(param.revision));
                    state.answer_value(param.address, param.value);
                    drop(state);
                    self.tell(&param.into());
                }
            }
            Message::Bundle(bundle) => bundle.messages.iter().for_each(|inner| self.apply(inner)),
            Message::Ack(ack) => self.shared.state().answer_write(&ack),
            Message::Result { signals } => self.shared.state().answer_query(signals),
            Message::Pong => self.shared.state().answer_ping(),
            Message::Ping => {
                // A failure shows in the next read.
                let _ = self.shared.send(|link| link.send(&Message::Pong, Qos::Fire));
            }
            Message::Error(error) => {
                self.shared.state().answer_error(&error);
                self.report(Trouble::Refused {
                    code: error.code,
                    message: error.message.to_owned(),
                    address: error.address.map(str::to_owned),
                });
            }
            // Said once, before this thread began; the others are for routers.
            Message::Welcome(_)
            | Message::Hello(_)
            | Message::Announce(_)
            | Message::FederationSync(_)
            | Message::Subscribe(_)
            | Message::Unsubscribe { .. }
            | Message::Get { .. }
            | Message::Query { .. }
            | Message::Replay(_)
            | Message::Sync(_) => {}
        }
    }

    /// Calls those who subscribed to it, with no lock of ours held.
    fn tell(&mut self, update: &Update<'_>) {
        self.shared.state().listeners(update, &mut self.told);
        for told in self.told.drain(..) {
            (*lock(&told))(update);
        }
    }

    fn report(&mut self, trouble: Trouble) {
        self.shared.state().trouble = Some(trouble.clone());
        if let Some(Callback(told)) = &mut self.on_trouble {
            told(&trouble);
        }
    }
}

/// Leaves a client that says it is closed, and nobody waiting.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(link) = self.0.link().take() {
            let _ = link.stream.shutdown(Shutdown::Both);
        }
        self.0.state().lose(Phase::Closed);
        self.0.announce_change();
    }
}
