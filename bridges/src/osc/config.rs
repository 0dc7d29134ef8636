//! What a person writes about an OSC bridge, with its units, ranges and defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clasp_rt_core::pattern as clasp_pattern;
use serde::Deserialize;

use crate::{ConfigError, check_range, check_rate, namespace};

/// `[[bridge]] type = "osc"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router. Default `osc`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    /// Where to listen for datagrams. Default `0.0.0.0:8000`.
    pub bind: SocketAddr,
    /// Groups to join on the interface of `bind`, of the same family: IPv4 or IPv6. Default none.
    pub multicast: Vec<IpAddr>,
    /// Where to take TCP connections; the first byte of each tells whether it speaks OSC 1.0 with
    /// lengths or 1.1 with SLIP. Default: nowhere.
    pub listen_tcp: Option<SocketAddr>,
    /// TCP connections at once, 1-1024. Default 64.
    pub connections_max: u32,
    /// Whole segments that all addresses begin with. Default `/osc`.
    pub namespace: String,
    /// Who is told everything: `host:port` by UDP, `tcp://host:port` (OSC 1.0), `slip://host:port`
    /// (OSC 1.1). Default none.
    pub targets: Vec<String>,
    /// Targets that are told a part, or by other names: `[[bridge.target]]`. Default none.
    pub target: Vec<Target>,
    /// Also tell those who sent datagrams lately: `"sender"` at the port they sent from, or a port
    /// number, 1-65535, at their address. Default: nobody. Whoever opened a TCP connection and
    /// spoke is told there, always.
    pub reply: Option<Reply>,
    /// Seconds after which a silent sender is told nothing more, 1-86400. Default 30.
    pub reply_timeout_s: u32,
    /// Take a message without arguments as a question where its address, or each that its pattern
    /// matches, holds a value other than null: who asked is told it. Default false.
    pub query: bool,
    /// Hand what one target sends to the others. Default true.
    pub relay: bool,
    /// CLASP patterns of addresses that are events, not params: `/osc/cue/**`. Default none.
    pub events: Vec<String>,
    /// Send ints as `h` and floats as `d` where nothing is known of an address. Default false.
    pub wide: bool,
    /// What the router says at once, such as the messages of one BUNDLE, leaves as one bundle of at
    /// most 1,400 bytes; one message by itself is never in a bundle. Default true. X32 mixers and
    /// many sketches for microcontrollers do not read bundles.
    pub bundles: bool,
    /// Gather what leaves within this many milliseconds into one bundle, 0-1000. Default 0: only
    /// what is said at once.
    pub bundle_ms: u16,
    /// Date bundles so many milliseconds ahead, 0-10000, so that receivers apply them at one
    /// instant. Default 0: immediately.
    pub bundle_ahead_ms: u16,
    /// How far ahead, in milliseconds, the time of a bundle may lie, 0-60000. Default 10000.
    pub ahead_max_ms: u32,
    /// Addresses remembered with their tags, for answers and patterns, 0-1000000. Default 4096.
    pub addresses_max: u32,
    /// Tell the router whose each param is, so that it can decide between senders. Default true;
    /// false where the router that hosts it arbitrates nothing.
    pub sources: bool,
    /// Let each port that a host sends from be a source of its own: for several programs of one
    /// machine. A program that takes another port at each start leaves the source behind that it
    /// was, until the `timeout` of the arbitration. Default false.
    pub source_ports: bool,
    /// Changes a second that one address is told at most, 1 or more; the last one always is.
    /// Default: all.
    pub rate_hz_max: Option<u32>,
    /// Messages without arguments that keep a device awake. Default none.
    pub repeat: Vec<Repeat>,
    /// Where to serve OSCQuery: the addresses as JSON over HTTP, and changes over a WebSocket on
    /// the same port. Default: nowhere.
    pub oscquery: Option<SocketAddr>,
    /// Announce OSC, and OSCQuery where it is served, in the local network by mDNS. Default false.
    pub mdns: bool,
    /// What OSCQuery says of the values of some addresses: `{ pattern = "/osc/*/fader*", min = 0.0,
    /// max = 1.0 }`. Default none.
    pub ranges: Vec<Range>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "osc".into(),
            token: None,
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8000)),
            multicast: Vec::new(),
            listen_tcp: None,
            connections_max: 64,
            namespace: "/osc".into(),
            targets: Vec::new(),
            target: Vec::new(),
            reply: None,
            reply_timeout_s: 30,
            query: false,
            relay: true,
            events: Vec::new(),
            wide: false,
            bundles: true,
            bundle_ms: 0,
            bundle_ahead_ms: 0,
            ahead_max_ms: 10_000,
            addresses_max: 4_096,
            sources: true,
            source_ports: false,
            rate_hz_max: None,
            repeat: Vec::new(),
            oscquery: None,
            mdns: false,
            ranges: Vec::new(),
        }
    }
}

/// Where senders listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
#[serde(expecting = "expected a port such as 9000, or \"sender\"")]
pub enum Reply {
    /// At their IP address, on this port.
    Port(u16),
    Where(ReplyWhere),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyWhere {
    /// At the port they sent from.
    #[serde(alias = "source")]
    Sender,
}

/// `[[bridge.target]]`: a target that is told a part, or by other names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table such as { to = \"10.0.0.5:9000\" }")]
pub struct Target {
    /// As one of `targets`.
    pub to: String,
    /// CLASP pattern of the addresses that it is told: `/osc/mixer/**`. Default: all.
    pub pattern: Option<String>,
    /// Segments taken off the front of what it is told, and put before what it says; addresses
    /// without them are not told. Default none.
    pub strip: Option<String>,
    /// Segments put before what it is told, after `strip`, and taken off what it says. Default
    /// none.
    pub prefix: Option<String>,
    /// Its address for what `pattern` captured, by `{1}` or `{name}`: `/ch/{1}/mix/fader`.
    pub template: Option<String>,
    /// As `wide` of the bridge, for this target. Default: the same.
    pub wide: Option<bool>,
    /// As `bundles` of the bridge, for this target. Default: the same.
    pub bundles: Option<bool>,
}

/// One of `ranges`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table such as { pattern = \"/osc/a\", min = 0.0, max = 1.0 }")]
pub struct Range {
    /// CLASP pattern of the addresses.
    pub pattern: String,
    pub min: f64,
    pub max: f64,
}

/// `{ address = "/xremote", every_s = 8 }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table such as { address = \"/xremote\", every_s = 8 }")]
pub struct Repeat {
    /// As OSC names it, without the namespace.
    pub address: String,
    /// Seconds between two, 1-86400.
    pub every_s: u32,
}

/// A day, for what is counted in seconds.
const DAY_S: u32 = 86_400;

impl Config {
    /// Says which key cannot work, beyond those that name targets.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        namespace::check(&self.namespace)?;
        check_range("connections_max", self.connections_max, 1..=1_024)?;
        check_range("reply_timeout_s", self.reply_timeout_s, 1..=DAY_S)?;
        check_range("bundle_ms", self.bundle_ms, 0..=1_000)?;
        check_range("bundle_ahead_ms", self.bundle_ahead_ms, 0..=10_000)?;
        check_range("ahead_max_ms", self.ahead_max_ms, 0..=60_000)?;
        check_range("addresses_max", self.addresses_max, 0..=1_000_000)?;
        let patterns = self.events.iter().map(|pattern| ("events", pattern));
        let ranges = self.ranges.iter().map(|range| ("ranges", &range.pattern));
        for (key, pattern) in patterns.chain(ranges) {
            clasp_pattern::check(pattern)
                .map_err(|error| ConfigError::new(key, format!("`{pattern}`: {error}")))?;
        }
        if let Some(range) = self.ranges.iter().find(|range| range.min >= range.max) {
            let why = format!("`{}`: min must be below max", range.pattern);
            return Err(ConfigError::new("ranges", why));
        }
        if let Some(group) = self.multicast.iter().find(|group| !group.is_multicast()) {
            let why = format!("{group} is not a group: 224.0.0.0 to 239.255.255.255, or ff00::");
            return Err(ConfigError::new("multicast", why));
        }
        let is_elsewhere = |group: &&IpAddr| group.is_ipv4() != self.bind.is_ipv4();
        if let Some(group) = self.multicast.iter().find(is_elsewhere) {
            let (family, any) = match group {
                IpAddr::V4(_) => ("IPv4", "0.0.0.0"),
                IpAddr::V6(_) => ("IPv6", "[::]"),
            };
            let why = format!("{group} is of {family}, and `bind` is {}: bind {any}", self.bind);
            return Err(ConfigError::new("multicast", why));
        }
        if self.reply == Some(Reply::Port(0)) {
            return Err(ConfigError::new("reply", "0 is no port: 1 to 65535, or \"sender\""));
        }
        check_rate("rate_hz_max", self.rate_hz_max)?;
        for repeat in &self.repeat {
            if !repeat.address.starts_with('/') || !super::is_name(&repeat.address) {
                let why = format!("`{}` is not an OSC address", repeat.address);
                return Err(ConfigError::new("repeat.address", why));
            }
            check_range("repeat.every_s", repeat.every_s, 1..=DAY_S)?;
        }
        Ok(())
    }
}
