//! What a bridge of sACN is told: the keys of its table in the configuration file.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

use super::packet::{self, PORT, PRIORITY_DEFAULT, PRIORITY_MAX, Universe};
use crate::level::Floats;
use crate::merge::Rule;
use crate::universes::{Chosen, Mode};
use crate::{ConfigError, namespace};

/// `[[bridge]] type = "sacn"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Session name at the router. Default `sacn`.
    pub name: String,
    /// Token for HELLO, where the router asks for one. Default none.
    pub token: Option<String>,
    /// Address of the lighting interface, and the port. Groups are joined and spoken to there; with
    /// `0.0.0.0` where the system's routes say. Default `0.0.0.0:5568`.
    pub bind: SocketAddr,
    /// Whole segments that all addresses begin with. Default `/sacn`.
    pub namespace: String,
    /// Universes taken from the network: `all`, `none`, or numbers and ranges such as `1-15, 100`.
    /// Default `1-16`.
    pub inputs: Universes,
    /// Universes sent to the network, written the same way. Default `all`.
    pub outputs: Universes,
    /// Tell levels as floats of 0.0-1.0 instead of ints of 0-255. Default false.
    pub normalize: bool,
    /// What a float means when it is written: `auto`, `fraction` or `level`. Default `auto`.
    pub floats: Floats,
    /// How levels from the network are told: `channel` by `channel`, or each `universe` whole.
    /// Default `channel`.
    pub mode: Mode,
    /// Among sources of equal priority: `htp` or `ltp`. Default `htp`.
    pub merge: Rule,
    /// Sources heard in one universe, 1-32. Default 4.
    pub sources_max: u8,
    /// Tell the router whose each slot is, so that it can decide between protocols. Not with
    /// `mode = "universe"`, where a param may be of several. Default true.
    pub sources: bool,
    /// CLASP patterns of what the router arbitrates: then it is told what losers say, too, so that
    /// `why` shows each with its own level and priority. Default: what the router says at
    /// `/clasp/arbitration`; of one that says nothing a loser is told with priority 0.
    pub arbitrated: Option<Vec<String>>,
    /// Take packets that are meant for visualisers, too. Default false.
    pub preview: bool,
    /// Milliseconds, 0-10000, for which levels of a lower priority wait at start and after all
    /// sources were silent at once: 1000 hold the longest pause of a source. Default 1500.
    pub settle_ms: u16,
    /// Frames whose synchronisation is lost: `go` or `lock`. Default `go`.
    pub on_sync_lost: OnSyncLost,
    /// Send to the multicast group of each universe. Default true; false needs `targets`, or no
    /// `outputs`.
    pub multicast: bool,
    /// Hosts that get every universe by unicast: `host` or `host:port`. Default none.
    pub targets: Vec<String>,
    /// What others call us, at most 63 bytes. Default `clasp-rt` and the host's name.
    pub source_name: Option<String>,
    /// Our component identifier, a UUID. Default: made of the host's identity and `name`, so that
    /// it stays the same.
    pub cid: Option<String>,
    /// Priority of what we send, 0-200. Default 100.
    pub priority: u8,
    /// Send the priority of each slot, too: slots that nobody has written are then left to others.
    /// Default false.
    pub slot_priorities: bool,
    /// Let all universes that changed leave together, and a synchronisation packet on this
    /// universe behind them. Default none.
    pub sync_universe: Option<u16>,
    /// Packets a second and universe, 1-1000, in the long run; DMX512 has 44. Default 44.
    pub rate_hz_max: u16,
    /// Universes kept in each direction, 1-63999. Default 4096.
    pub universes_max: u16,
}

impl Default for Config {
    fn default() -> Self {
        let last = Universe::new(16).unwrap_or(Universe::MAX);
        Self {
            name: "sacn".into(),
            token: None,
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            namespace: "/sacn".into(),
            inputs: Universes::Some(vec![(Universe::MIN, last)]),
            outputs: Universes::All,
            normalize: false,
            floats: Floats::Auto,
            mode: Mode::Channel,
            merge: Rule::Htp,
            sources_max: 4,
            sources: true,
            arbitrated: None,
            preview: false,
            settle_ms: 1_500,
            on_sync_lost: OnSyncLost::Go,
            multicast: true,
            targets: Vec::new(),
            source_name: None,
            cid: None,
            priority: PRIORITY_DEFAULT,
            slot_priorities: false,
            sync_universe: None,
            rate_hz_max: 44,
            universes_max: 4_096,
        }
    }
}

/// A choice of universes.
pub type Universes = Chosen<Universe>;

/// What frames do whose synchronisation packets have not come for 2.5 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSyncLost {
    /// They are shown at once, as if they named none.
    #[default]
    Go,
    /// They wait, unless their source says by its force-synchronisation bit that they shall not:
    /// what E1.31 asks for.
    Lock,
}

impl Config {
    /// What no type can say: the first key that cannot work, and why.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        namespace::check(&self.namespace)?;
        let checks = [
            ("sources_max", u32::from(self.sources_max), 1, 32),
            ("settle_ms", u32::from(self.settle_ms), 0, 10_000),
            ("priority", u32::from(self.priority), 0, u32::from(PRIORITY_MAX)),
            ("rate_hz_max", u32::from(self.rate_hz_max), 1, 1_000),
            ("universes_max", u32::from(self.universes_max), 1, 63_999),
        ];
        for (key, value, min, max) in checks {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::new(key, format!("must be {min} to {max}")));
            }
        }
        if !self.multicast && self.targets.is_empty() && self.outputs.count() > 0 {
            let why = "without it nothing leaves: name `targets`, or write outputs = \"none\"";
            return Err(ConfigError::new("multicast", why));
        }
        let is_long = |name: &String| name.len() >= packet::NAME_BYTES;
        if self.source_name.as_ref().is_some_and(is_long) {
            return Err(ConfigError::new("source_name", "must not be longer than 63 bytes"));
        }
        if self.inputs != Universes::All && self.inputs.count() > self.universes_max.into() {
            let why = format!("more than `universes_max` = {}", self.universes_max);
            return Err(ConfigError::new("inputs", why));
        }
        Ok(())
    }
}
