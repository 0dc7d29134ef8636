//! Captured show traffic into a running router, and what a CLASP subscriber sees of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clasp_rt_core::message::Message;
use clasp_rt_core::value::Value;
use clasp_rt_core::wire::{binary, header};
use clasp_rt_perf::histogram::Latency;

use crate::digest::Digest;
use crate::expect::{Expectation, Protocol};
use crate::pace::Schedule;
use crate::pcap::{self, Capture, Said};
use crate::peer::Peer;
use crate::{recording, report};

/// After the last packet, how long nothing may come out before the replay is over: longer than the
/// 2.5 s for which sACN waits for a synchronisation packet.
const QUIET: Duration = Duration::from_secs(3);

/// The arguments of `clasp-bench replay`.
#[derive(clap::Args)]
pub struct Command {
    /// A pcap file, a .clasprec file, or a folder of .clasprec files.
    file: PathBuf,
    /// `osc=ADDR`, `artnet=ADDR`, `sacn=ADDR`, `mqtt=ADDR`: where a protocol's packets go.
    #[arg(long, value_delimiter = ',')]
    to: Vec<Target>,
    /// `1`: as captured, `N`: N times as fast, `max`: without pauses.
    #[arg(long, default_value = "1", value_parser = speed)]
    speed: f64,
    /// Where a CLASP subscriber watches.
    #[arg(long, default_value = "ws://localhost:7330")]
    router: String,
}

impl Command {
    pub fn run(&self) -> io::Result<()> {
        let Self { file, to, speed, router } = self;
        let mut files = recording::load(file)?;
        if files.iter().all(|file| recording::is_one(file)) {
            let recording = recording::read(&files).map_err(io::Error::other)?;
            let mut subscriber = watcher(router)?;
            let mut publisher = Peer::connect(router)?;
            publisher.join("bench replay")?;
            let played = recording::play(&recording, *speed, &mut publisher, &mut subscriber)?;
            print!("{}", played.text(&recording));
            return Ok(());
        }
        if to.is_empty() {
            return Err(io::Error::other("say with --to where the packets of a pcap file go"));
        }
        let bytes = files.swap_remove(0);
        let capture = pcap::read(&bytes).map_err(io::Error::other)?;
        print!("{}", run(&capture, to, *speed, &mut watcher(router)?)?.text());
        Ok(())
    }
}

/// Somebody who hears everything.
fn watcher(router: &str) -> io::Result<Peer> {
    let mut subscriber = Peer::connect(router)?;
    subscriber.join("bench replay subscriber")?;
    subscriber.subscribe(1, "/**")?;
    Ok(subscriber)
}

/// `osc=127.0.0.1:9000`: where the packets of one protocol go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub protocol: Protocol,
    pub addr: SocketAddr,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not osc=, artnet=, sacn= or mqtt= and an ADDRESS:PORT");
        let (name, addr) = text.split_once('=').ok_or_else(wrong)?;
        let protocol = Protocol::from_name(name).ok_or_else(wrong)?;
        Ok(Self { protocol, addr: addr.parse().map_err(|_| wrong())? })
    }
}

/// `1`, `10`, `max`: how many times as fast as captured.
fn speed(text: &str) -> Result<f64, String> {
    match text {
        "max" => Ok(f64::INFINITY),
        number => number
            .parse()
            .ok()
            .filter(|speed: &f64| *speed > 0.0 && speed.is_finite())
            .ok_or_else(|| format!("`{number}` is neither a number above 0 nor `max`")),
    }
}

/// What a replay showed.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    pub packets: BTreeMap<Protocol, u64>,
    /// Datagrams, and pieces of connections, that no `--to` wanted.
    pub left_out: u64,
    /// Messages that the subscriber received.
    pub arrived: u64,
    pub expectation: Expectation,
    pub latency: Latency,
    /// The last value of every address, in order: equal states have equal digests.
    pub digest: u64,
    pub params: usize,
}

/// What leaves at one instant.
#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    offset: Duration,
    target: Target,
    does: Does<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Does<'a> {
    Datagram(&'a [u8]),
    Say { connection: usize, bytes: &'a [u8] },
    End { connection: usize },
}

/// Sends what `targets` want of `capture` on its schedule while `subscriber` listens to everything.
fn run(
    capture: &Capture<'_>,
    targets: &[Target],
    speed: f64,
    subscriber: &mut Peer,
) -> io::Result<Replayed> {
    let mut replayed = Replayed::default();
    let chosen = steps(capture, targets);
    replayed.left_out = (capture.datagrams.len() + capture.pieces.len() - chosen.len()) as u64;
    let schedule = Schedule::recorded(chosen.iter().map(|step| step.offset), speed);
    let mut senders = Senders::new()?;

    let mut state: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut sent = 0;
    let start = Instant::now() + Duration::from_millis(1);
    let mut last_progress = start;
    loop {
        let now = Instant::now();
        let due_ns = schedule.offset_ns(sent);
        if let (Some(due_ns), Some(step)) = (due_ns, chosen.get(sent))
            && start + Duration::from_nanos(due_ns) <= now
        {
            match step.does {
                Does::Datagram(payload) => replayed.expectation.sent(payload, due_ns),
                Does::Say { connection, bytes } => {
                    replayed.expectation.sent_on(connection, bytes, due_ns);
                }
                Does::End { .. } => {}
            }
            senders.take(step)?;
            *replayed.packets.entry(step.target.protocol).or_default() += 1;
            sent += 1;
            last_progress = now;
        }
        senders.hear()?;
        subscriber.poll(|frame| {
            let seen = Instant::now();
            let Some((address, value)) = written(frame) else { return };
            replayed.arrived += 1;
            last_progress = seen;
            if let Some(due_ns) = replayed.expectation.arrived(address, value.as_f64()) {
                let due = start + Duration::from_nanos(due_ns);
                replayed.latency.record_duration(seen.saturating_duration_since(due));
            }
            let kept = state.entry(address.to_owned()).or_default();
            kept.clear();
            kept.push(value.code());
            kept.extend_from_slice(value.data());
        })?;
        let all_out = replayed.expectation.missing() == 0;
        let quiet = now.saturating_duration_since(last_progress);
        // What was expected is there: a short wait still catches what should not come.
        let patience = if all_out { QUIET / 8 } else { QUIET };
        if sent == chosen.len() && quiet > patience {
            replayed.digest = Digest::of(state.iter());
            replayed.params = state.len();
            return Ok(replayed);
        }
    }
}

/// What of `capture` goes to one of `targets`, in the order of time. A connection goes where its
/// first bytes belong.
fn steps<'a>(capture: &Capture<'a>, targets: &[Target]) -> Vec<Step<'a>> {
    let wanted = |protocol| targets.iter().copied().find(|target| target.protocol == protocol);
    let datagrams = capture.datagrams.iter().filter_map(|datagram| {
        let target = wanted(Protocol::of(datagram.payload)?)?;
        let does = Does::Datagram(datagram.payload);
        Some(Step { offset: datagram.offset, target, does })
    });
    let mut connections: BTreeMap<usize, Option<Target>> = BTreeMap::new();
    let pieces = capture.pieces.iter().filter_map(|piece| {
        let connection = piece.connection;
        let target = connections.entry(connection).or_insert_with(|| match piece.said {
            Said::Bytes(bytes) => wanted(Protocol::of_stream(bytes)?),
            Said::Ended => None,
        });
        let does = match piece.said {
            Said::Bytes(bytes) => Does::Say { connection, bytes },
            Said::Ended => Does::End { connection },
        };
        Some(Step { offset: piece.offset, target: (*target)?, does })
    });
    let mut steps: Vec<_> = datagrams.chain(pieces).collect();
    steps.sort_by_key(|step| step.offset);
    steps
}

/// The sockets from which a capture leaves.
struct Senders {
    datagrams: UdpSocket,
    /// Of each connection of the capture that is open.
    streams: BTreeMap<usize, TcpStream>,
}

impl Senders {
    fn new() -> io::Result<Self> {
        let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        datagrams.set_broadcast(true)?;
        Ok(Self { datagrams, streams: BTreeMap::new() })
    }

    fn take(&mut self, step: &Step<'_>) -> io::Result<()> {
        match step.does {
            Does::Datagram(payload) => self.datagrams.send_to(payload, step.target.addr).map(drop),
            Does::Say { connection, bytes } => {
                if let std::collections::btree_map::Entry::Vacant(vacant) =
                    self.streams.entry(connection)
                {
                    let stream = TcpStream::connect(step.target.addr)?;
                    stream.set_nodelay(true)?;
                    vacant.insert(stream);
                }
                let stream = self.streams.get_mut(&connection).ok_or(ErrorKind::NotConnected)?;
                // The whole piece, as it was captured: a capture's pieces are small.
                stream.set_nonblocking(false)?;
                stream.write_all(bytes)?;
                stream.set_nonblocking(true)
            }
            Does::End { connection } => {
                self.streams.remove(&connection);
                Ok(())
            }
        }
    }

    /// Takes the answers out of the sockets, so that nobody waits for room to say them.
    fn hear(&mut self) -> io::Result<()> {
        let mut answers = [0; 4096];
        for stream in self.streams.values_mut() {
            loop {
                match stream.read(&mut answers) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                    Err(why) => return Err(why),
                }
            }
        }
        Ok(())
    }
}

impl Replayed {
    pub fn text(&self) -> String {
        let mut out = String::new();
        let Self { packets, left_out, arrived, expectation, latency, digest, params } = self;
        for (protocol, count) in packets {
            let _ = writeln!(out, "sent {count} {} packets or pieces", protocol.name());
        }
        let _ = writeln!(out, "left out {left_out} datagrams and pieces that no --to names");
        let _ = writeln!(
            out,
            "expected {} values, arrived {arrived}, superseded {}, unexpected {}, missing {}",
            expectation.expected,
            expectation.superseded,
            expectation.unexpected,
            expectation.missing()
        );
        let _ = writeln!(out, "{}", report::latency_text(latency));
        let _ = writeln!(out, "digest {digest:#018x} of {params} addresses");
        out
    }
}

/// Address and value of a frame that carries one.
fn written(frame: &[u8]) -> Option<(&str, Value<'_>)> {
    match binary::decode(header::parse(frame).ok()?.payload).ok()? {
        Message::Set(set) => Some((set.address, set.value)),
        Message::Publish(publish) => {
            let value = publish.value.or(publish.payload);
            Some((publish.address, value.unwrap_or(Value::NULL)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_speeds_are_read_as_they_are_typed() {
        let target: Target = "artnet=127.0.0.1:6454".parse().unwrap();
        assert_eq!(target.protocol, Protocol::ArtNet);
        assert_eq!(target.addr.port(), 6454);
        for wrong in ["127.0.0.1:1", "midi=127.0.0.1:1", "osc=here"] {
            let error = wrong.parse::<Target>().unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
        let cases = [("1", Some(1.0)), ("2.5", Some(2.5)), ("max", Some(f64::INFINITY))];
        for (text, expected) in cases.into_iter().chain([("0", None), ("fast", None), ("-1", None)])
        {
            assert_eq!(speed(text).ok(), expected, "{text}");
        }
    }
}
