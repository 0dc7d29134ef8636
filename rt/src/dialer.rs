//! Connects to a router or a device elsewhere, on a thread of its own: looking names up and
//! connecting wait.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use clasp_rt_ring::{Alarm, socket};
use rustix::rand::{GetRandomFlags, getrandom};
use tracing::warn;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection is wanted: decides how soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// There was none, or it worked for a while.
    Afresh,
    /// So many in a row came to nothing.
    Again(u32),
}

/// Where connections lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// As it is named in the log: `router`.
    pub what: String,
    /// Resolved anew for every attempt.
    pub host: String,
    pub port: u16,
}

/// The side of the thread that wants connections.
pub struct Dialer {
    wants: Sender<Wanted>,
    connected: Receiver<TcpStream>,
}

impl Dialer {
    /// Starts a thread that connects when asked and rings `alarm` when it has. It ends with the
    /// value that is returned here.
    pub fn start(goal: Goal, alarm: Alarm) -> io::Result<Self> {
        let (wants, wanted) = channel();
        let (connect, connected) = channel();
        let name = format!("dial {}", goal.host);
        Builder::new().name(name).spawn(move || dial(&goal, &wanted, &connect, &alarm))?;
        Ok(Self { wants, connected })
    }

    /// Asks for one connection.
    pub fn want(&self, wanted: Wanted) {
        // The thread ends only after this value is dropped.
        let _ = self.wants.send(wanted);
    }

    /// A connection that was asked for.
    pub fn take(&self) -> Option<OwnedFd> {
        self.connected.try_recv().ok().map(OwnedFd::from)
    }
}

fn dial(goal: &Goal, wanted: &Receiver<Wanted>, connect: &Sender<TcpStream>, alarm: &Alarm) {
    while let Ok(first) = wanted.recv() {
        let mut attempt = match first {
            Wanted::Afresh => 0,
            Wanted::Again(failures) => failures.max(1),
        };
        let mut told = false;
        let stream = loop {
            let pause = if attempt == 0 { Duration::ZERO } else { pause(attempt, random()) };
            // Nothing more is wanted before there is an answer; this ends when the bridge does.
            if wanted.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            match reach(goal) {
                Ok(stream) => break stream,
                Err(why) if !told => {
                    warn!("no {} at {}:{}: {why}", goal.what, goal.host, goal.port);
                    told = true;
                }
                Err(_) => {}
            }
            attempt += 1;
        };
        if connect.send(stream).is_err() {
            return;
        }
        alarm.ring();
    }
}

/// Connects to the first address of the name that answers.
fn reach(goal: &Goal) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in (goal.host.as_str(), goal.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT) {
            Ok(stream) => {
                socket::tune_stream(&stream)?;
                return Ok(stream);
            }
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// How long to wait before attempt `attempt`: doubles, and differs between programs, so that those
/// that lost one router do not come back in one moment.
fn pause(attempt: u32, random: u64) -> Duration {
    let full =
        FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    full / 2 + (full / 2).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Bits that nobody can guess: for pauses, and for the key of a WebSocket request.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // A system that has no random bits so early leaves zeros; pauses work with any number, and a
    // guessable key only weakens a guard against confused proxies.
    let _ = getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit_and_keep_at_least_half() {
        let full = |attempt| pause(attempt, u64::MAX);
        assert!(full(1) <= FIRST_PAUSE && full(1) > FIRST_PAUSE.mul_f64(0.99));
        assert!(full(3) > full(2) && full(2) > full(1));
        assert!(full(1_000) <= LONGEST_PAUSE);
        assert_eq!(pause(1_000, 0), LONGEST_PAUSE / 2);
    }
}
