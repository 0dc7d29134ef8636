//! What can be said of an Art-Net bridge in a configuration file.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

use super::here::Mac;
use super::packet::{ANYBODY, PORT, PortAddress};
use crate::level::Floats;
use crate::merge::Rule;
use crate::universes::{Chosen, Mode, Number};
use crate::{ConfigError, namespace};

/// `[[bridge]] type = "artnet"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router. Default `artnet`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    /// Where to listen, on IPv4. Default `0.0.0.0:6454`, the port of every node.
    pub bind: SocketAddr,
    /// Whole segments that all addresses begin with. Default `/artnet`.
    pub namespace: String,
    /// Port-addresses taken from the network: `all`, `none`, or numbers and ranges such as
    /// `0-15, 100`. Default `all`.
    pub inputs: Universes,
    /// Port-addresses sent to the network, written the same way. Default `all`.
    pub outputs: Universes,
    /// Tell levels as floats of 0.0-1.0 instead of ints of 0-255. Default false.
    pub normalize: bool,
    /// What a float means when it is written: `auto`, `fraction` or `level`. Default `auto`.
    pub floats: Floats,
    /// How levels from the network are told: `channel` by `channel`, or each `universe` whole.
    /// Default `channel`.
    pub mode: Mode,
    /// `htp` or `ltp`. Default `htp`.
    pub merge: Rule,
    /// Tell the router whose each slot is, so that it can decide between protocols. Not with
    /// `mode = "universe"`, where a param may be of several. Default true; false where the router
    /// that hosts it arbitrates nothing.
    pub sources: bool,
    /// CLASP patterns of what the router arbitrates: then it is told what the loser of a merge
    /// says, too. Default: what the router says at `/clasp/arbitration`; of one that says nothing a
    /// loser is told with priority 0.
    pub arbitrated: Option<Vec<String>>,
    /// Nodes that get every universe without being asked: `host` or `host:port`. Default none.
    pub targets: Vec<String>,
    /// Where polls go that look for nodes, such as `10.255.255.255`. Default none: only `targets`
    /// are asked.
    pub broadcast: Option<Ipv4Addr>,
    /// Send universes that no node lists to `broadcast`. Default false.
    pub broadcast_levels: bool,
    /// Universes sent to `broadcast`, 0-32768: every machine of the network hears each of them; the
    /// first so many have it. Default 64.
    pub broadcast_universes_max: u16,
    /// Ask nodes which universes they take. Default true.
    pub poll: bool,
    /// Let all universes that changed leave together, and an ArtSync behind them. Default false.
    pub sync: bool,
    /// Send what is received out again, to nodes and targets. Default false.
    pub resend_received: bool,
    /// Frames a second and universe, 1-1000, in the long run; Art-Net allows 44. Default 44.
    pub rate_hz_max: u16,
    /// Universes kept in each direction, 1-32768. Default 4096 (13 MiB when all are in use).
    pub universes_max: u16,
    /// What nodes are left with when we stop: `hold` the look or `blackout`. Default `hold`.
    pub on_stop: OnStop,
    /// The address that our poll replies name. Default: that of `bind`, else of the interface that
    /// the asker sees.
    pub node_ip: Option<Ipv4Addr>,
    /// The hardware address that our poll replies name, such as `02:00:5e:10:00:01`. Default: that
    /// of the interface.
    pub mac: Option<Mac>,
    /// What our poll replies call us: at most 17 octets. Default `name`.
    pub short_name: Option<String>,
    /// At most 63 octets. Default `clasp-rt NAME at NAMESPACE`.
    pub long_name: Option<String>,
    /// Let an ArtAddress change our names and exchange our universes, until we are started again.
    /// How senders are merged, and which universes are silent, controllers may say anyway. Default
    /// false.
    pub allow_remote_programming: bool,
    /// Ask nodes to say what troubles them, and tell it as events. Default false.
    pub diagnostics: bool,
    /// OEM code of triggers that are heard beside everybody's, 0-65534. Default none.
    pub trigger_oem: Option<u16>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "artnet".into(),
            token: None,
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            namespace: "/artnet".into(),
            inputs: Universes::All,
            outputs: Universes::All,
            normalize: false,
            mode: Mode::Channel,
            floats: Floats::Auto,
            merge: Rule::Htp,
            sources: true,
            arbitrated: None,
            targets: Vec::new(),
            broadcast: None,
            broadcast_levels: false,
            broadcast_universes_max: 64,
            poll: true,
            sync: false,
            resend_received: false,
            rate_hz_max: 44,
            universes_max: 4_096,
            on_stop: OnStop::Hold,
            node_ip: None,
            mac: None,
            short_name: None,
            long_name: None,
            allow_remote_programming: false,
            diagnostics: false,
            trigger_oem: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    #[default]
    Hold,
    Blackout,
}

/// A choice of port-addresses.
pub type Universes = Chosen<PortAddress>;

impl Number for PortAddress {
    const NAME: &'static str = "port-address of 0 to 32767";
    const ALL: (Self, Self) = (Self::MIN, Self::MAX);

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn number(self) -> u16 {
        self.number()
    }
}

impl Config {
    pub(super) fn tells_claims(&self) -> bool {
        self.sources && self.mode == Mode::Channel
    }

    /// `None`: the router is asked.
    pub(super) fn arbitrated(&self) -> Option<&[String]> {
        self.arbitrated.as_deref().or((!self.tells_claims()).then_some(&[]))
    }

    /// What no type can say: the first key that cannot work, and why.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        namespace::check(&self.namespace)?;
        let is_long = |text: &Option<String>, max| text.as_ref().is_some_and(|t| t.len() > max);
        let wrong = [
            ("bind", self.bind.is_ipv6(), "Art-Net is spoken over IPv4: such as 0.0.0.0:6454"),
            ("rate_hz_max", !(1..=1_000).contains(&self.rate_hz_max), "must be 1 to 1000"),
            ("universes_max", !(1..=32_768).contains(&self.universes_max), "must be 1 to 32768"),
            (
                "broadcast_levels",
                self.broadcast_levels && self.broadcast.is_none(),
                "needs the address `broadcast`",
            ),
            (
                "broadcast_universes_max",
                self.broadcast_universes_max > 32_768,
                "must be 0 to 32768",
            ),
            ("short_name", is_long(&self.short_name, 17), "must be 17 octets or fewer"),
            ("long_name", is_long(&self.long_name, 63), "must be 63 octets or fewer"),
            ("trigger_oem", self.trigger_oem == Some(ANYBODY), "65535 is heard anyway"),
        ];
        match wrong.into_iter().find(|(_, is_wrong, _)| *is_wrong) {
            Some((key, _, why)) => Err(ConfigError::new(key, why)),
            None => Ok(()),
        }
    }
}
