//! Opens bridges from what a person wrote, and says where each mistake stands.

use std::collections::BTreeSet;

use clasp_rt_bridges::read::WHOLE_TABLE;
use clasp_rt_bridges::words::unknown;
use clasp_rt_bridges::{BRIDGES, Bridge, ConfigError};
use clasp_rt_core::shard::Grant;
use clasp_rt_worker::{SERVICES, Service};

use crate::config::{BridgeAsWritten, Config};
use crate::host::Host;
use crate::plan::{PlanError, Ports, absent, error, note, too_long};
use crate::plan_types::{BridgePlan, BridgeThreadPlan, ServicePlan, Threads, Uplink};

mod mistakes;

use mistakes::Options;

/// Bridges that speak for many senders, and can say for whom.
const SOURCES: [&str; 4] = ["artnet", "midi", "osc", "sacn"];

/// The router's own bridges, which are called as their kind is, and the tables that are theirs.
const OWN: [(&str, &str); 2] = [("routes", "route"), ("patch", "patch")];

/// Every bridge with the key under which the file has it. All routes together are one bridge, and
/// so is the whole patch.
pub fn named_bridges(config: &Config) -> impl Iterator<Item = (String, BridgeAsWritten)> {
    let arbitrates = !config.arbitrations.is_empty();
    let written = config.bridges.iter().cloned().enumerate();
    let written = written.map(move |(index, mut bridge)| {
        let kind = bridge.kind.as_str();
        if !arbitrates && SOURCES.contains(&kind) {
            // Nobody asks whose a param is.
            bridge.options.entry("sources").or_insert(false.into());
        } else if arbitrates && OWN.iter().any(|(own, _)| *own == kind) {
            bridge.options.entry("sources").or_insert(true.into());
        }
        (format!("bridge[{index}]"), bridge)
    });
    let tables = OWN.into_iter().zip([&config.routes, &config.patches]);
    let tables = tables.map(|((kind, key), list)| (kind, key, list));
    // A file that changes may bring the first: an empty one has its place from the beginning.
    let may_come = config.may_change;
    let tables = tables.filter(move |(_, _, list)| may_come || !list.is_empty());
    let together = tables.map(move |(kind, key, list)| {
        let list = serde_json::Value::Array(list.clone());
        let mut options = serde_json::Map::from_iter([(key.to_owned(), list)]);
        if arbitrates {
            options.insert("sources".to_owned(), true.into());
        }
        (String::new(), BridgeAsWritten { kind: kind.to_owned(), options, ..Default::default() })
    });
    written.chain(together)
}

/// Bridges of `config` that were opened when nothing was arbitrated, and so do not say for whom
/// they speak: what each of them writes is its own.
pub fn silent_of_sources(config: &Config) -> impl Iterator<Item = String> {
    let written = config.bridges.iter().enumerate();
    let silent = written.filter(|(_, bridge)| {
        SOURCES.contains(&bridge.kind.as_str()) && !bridge.options.contains_key("sources")
    });
    silent.map(|(index, bridge)| format!("the sources of bridge[{index}] ({})", bridge.kind))
}

/// What will run, but perhaps not as it was meant: a network that can bring more params than the
/// router keeps, universes that nobody sends, and what the bridges say of themselves.
pub fn notes(threads: &Threads) -> Vec<String> {
    let kept = threads.shards.iter().map(|shard| u64::from(shard.settings.limits.params_max));
    let kept: u64 = kept.sum();
    let bridges = || threads.bridges.iter().flat_map(|thread| &thread.bridges);
    let own = bridges().flat_map(|plan| plan.bridge.notes());
    let too_much = |plan: &&BridgePlan| {
        matches!(plan.uplink, Uplink::Shard(_)) && plan.bridge.params_max() > kept
    };
    let note = |plan: &BridgePlan| {
        let (name, count) = (plan.bridge.name(), plan.bridge.params_max());
        format!(
            "the network of {name} can fill {count} params, limits.params_max keeps {kept}: beyond \
             that those written longest ago are forgotten; name fewer `inputs`, lower \
             `universes_max`, choose `mode = \"universe\"`, or raise the limit"
        )
    };
    let unsent = bridges().flat_map(|plan| plan.bridge.writes());
    let unsent: BTreeSet<_> = unsent.filter_map(|slot| unsent_universe(threads, &slot)).collect();
    let lost = unsent.into_iter().map(|universe| {
        format!(
            "no bridge in here sends {universe}, which routes or the patch write: name it in the \
             `outputs` of one, or as the `universe` of a device, unless a bridge elsewhere sends it"
        )
    });
    let filled = bridges().filter(|plan| plan.bridge.fills_universes());
    let filled: BTreeSet<_> = filled.flat_map(|plan| plan.bridge.writes()).collect();
    let homeless = filled.iter().filter(|slot| known_to(threads, slot).next().is_none());
    let homeless: BTreeSet<_> = homeless.filter_map(|slot| slot.rsplit_once('/')).collect();
    let homeless = homeless.into_iter().map(|(universe, _)| {
        format!(
            "no bridge in here has {universe}, which the patch fills: write a [[bridge]] with its \
             `namespace`, such as type = \"artnet\", unless a bridge elsewhere sends it"
        )
    });
    let meant = lost.chain(homeless);
    bridges().filter(too_much).map(note).chain(meant).chain(own).collect()
}

/// Whether bridges of these send `slot`, of those that have the like.
fn known_to<'t>(threads: &'t Threads, slot: &'t str) -> impl Iterator<Item = bool> + 't {
    let bridges = threads.bridges.iter().flat_map(|thread| &thread.bridges);
    bridges.filter_map(move |plan| plan.bridge.sends(slot))
}

/// The universe of `slot`, if a bridge of these has the like and none sends it.
fn unsent_universe(threads: &Threads, slot: &str) -> Option<String> {
    let mut said = known_to(threads, slot).peekable();
    said.peek()?;
    let (universe, _) = slot.rsplit_once('/')?;
    (!said.any(|sends| sends)).then(|| universe.to_owned())
}

/// Of the router, what its bridges must fit.
pub struct Around<'a> {
    pub ports: Ports,
    /// `None`: nobody needs a token.
    pub grants: Option<&'a [Grant]>,
}

impl Around<'_> {
    /// Notes what of an opened bridge, written `at` a key, does not fit.
    fn fit(
        &mut self,
        at: &str,
        written: &BridgeAsWritten,
        opened: &Opened,
        errors: &mut Vec<PlanError>,
    ) {
        errors.extend(name_taken(at, opened.name()));
        errors.extend(too_long(&format!("{at}.name"), opened.name()));
        self.ports.bridge(at, written, opened, errors);
        let token = written.options.get("token").and_then(|token| token.as_str());
        if let (Some(token), Some(grants)) = (token, self.grants)
            && grants.iter().all(|grant| grant.token != token)
        {
            let why = "is not one of [auth]: write it there, too, in `tokens` or the `token_file`";
            errors.push(error(format!("{at}.token"), why));
        }
    }
}

/// Where each bridge runs. Those that name the same core share a thread, and so do all that name
/// none; a service has a thread of its own.
pub fn place_bridges(
    config: &Config,
    host: &Host,
    shards: usize,
    around: &mut Around<'_>,
    errors: &mut Vec<PlanError>,
) -> (Vec<BridgeThreadPlan>, Vec<ServicePlan>) {
    let mut threads: Vec<BridgeThreadPlan> = Vec::new();
    let mut services = Vec::new();
    for (index, (at, written)) in named_bridges(config).enumerate() {
        let core = written.core;
        if let Some(core) = core
            && !host.cores.contains(&core)
        {
            errors.push(error(format!("{at}.core"), absent(core, host)));
        }
        let uplink = Uplink::Shard(index % shards.max(1));
        let opened = note(errors, open_bridge(&at, &written));
        if let Some(opened) = &opened {
            around.fit(&at, &written, opened, errors);
        }
        let place = opened.as_ref().map(|opened| place(&at, &written, opened.name()));
        let place = place.unwrap_or_default();
        let bridge = match opened {
            None => continue,
            Some(Opened::Service(service)) => {
                services.push(ServicePlan { place, core, service, uplink });
                continue;
            }
            Some(Opened::Bridge(bridge)) => BridgePlan { place, bridge, uplink },
        };
        match threads.iter_mut().find(|thread| thread.core == core) {
            Some(thread) => thread.bridges.push(bridge),
            None => threads.push(BridgeThreadPlan { core, bridges: vec![bridge] }),
        }
    }
    (threads, services)
}

/// Where `written` stands in the file, with its kind, and its name where that is another.
fn place(at: &str, written: &BridgeAsWritten, name: &str) -> String {
    let kind = &written.kind;
    let line = written.line.map(|line| format!("line {line}: ")).unwrap_or_default();
    match at {
        "" => kind.clone(),
        at if name == kind => format!("{line}{at} ({kind})"),
        at => format!("{line}{at} ({kind} `{name}`)"),
    }
}

/// By its name a bridge is told what changes in the file, and so nobody else may have it.
fn name_taken(at: &str, name: &str) -> Option<PlanError> {
    let (_, table) = OWN.iter().find(|(own, _)| !at.is_empty() && *own == name)?;
    let why = format!(
        "`{name}` is the router's own bridge of `[[{table}]]`: write those tables, or `name` this \
         one otherwise, such as \"{name}-2\""
    );
    Some(error(format!("{at}.name"), why))
}

/// What a table `[[bridge]]` can open.
pub enum Opened {
    /// A machine, which a thread of bridges hosts.
    Bridge(Box<dyn Bridge>),
    /// What a library drives, on a thread of its own.
    Service(Box<dyn Service>),
}

impl Opened {
    pub fn name(&self) -> &str {
        match self {
            Self::Bridge(bridge) => bridge.name(),
            Self::Service(service) => service.name(),
        }
    }
}

/// What opens a table, or says what is wrong with it.
type Open = Box<dyn Fn(serde_json::Value) -> Result<Opened, ConfigError>>;

fn opener(kind: &str) -> Option<Open> {
    let bridge = BRIDGES.iter().find(|entry| entry.name == kind);
    let service = SERVICES.iter().find(|entry| entry.name == kind);
    match (bridge, service) {
        (Some(entry), _) => Some(Box::new(|table| (entry.open)(table).map(Opened::Bridge))),
        (_, Some(entry)) => Some(Box::new(|table| (entry.open)(table).map(Opened::Service))),
        (None, None) => None,
    }
}

/// Opens a bridge of any kind, or says which of its keys are wrong.
pub fn open_bridge(at: &str, written: &BridgeAsWritten) -> Result<Opened, Vec<PlanError>> {
    let below = |key: &str| match at {
        "" => key.to_owned(),
        at => format!("{at}.{key}"),
    };
    let Some(opener) = opener(&written.kind) else {
        let known = BRIDGES.iter().map(|entry| entry.name);
        let known: Vec<_> = known.chain(SERVICES.iter().map(|entry| entry.name)).collect();
        return Err(vec![error(below("type"), unknown("bridge", &written.kind, &known))]);
    };
    let open = |options: &Options| opener(serde_json::Value::Object(options.clone()));
    let first = match open(&written.options) {
        Ok(opened) => return Ok(opened),
        Err(first) => first,
    };
    let all = mistakes::all(&written.options, first, |options| open(options).err());
    let named = |ConfigError { key, why }| match key.as_str() {
        WHOLE_TABLE => error(at, why),
        key => error(below(key), why),
    };
    Err(all.into_iter().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::plan::Plan;

    #[test]
    fn a_universe_that_is_written_and_not_sent_is_noted() {
        let patch = |universe: &str, more: &str| {
            format!(
                "[[patch]]\nfixture = \"/rig{universe}\"\nuniverse = {universe:?}\nat = 7\n\
                 slots = [\"d\"]\n{more}\n"
            )
        };
        let route = |to: &str| format!("[[route]]\nfrom = \"/a/*/*\"\nto = {to:?}\n");
        let bridges = "[[bridge]]\ntype = \"artnet\"\ninputs = \"none\"\noutputs = \"0-3\"\n\
                       [[bridge]]\ntype = \"sacn\"\noutputs = \"2\"\n\
                       [[bridge]]\ntype = \"dmx\"\n";
        let cases = [
            (patch("/artnet/0", "") + &patch("/artnet/4", ""), Some("/artnet/4,")),
            (patch("/sacn/1", "") + &patch("/sacn/2", ""), Some("/sacn/1,")),
            (patch("/dmx/0", "") + &patch("/dmx/1", ""), Some("/dmx/1,")),
            (patch("/artnet/9", "direction = \"in\""), None),
            (route("/artnet/4/{1}") + &route("/artnet/0/{1}"), Some("/artnet/4,")),
            (route("/sacn/1/12"), Some("/sacn/1,")),
            (route("/artnet/{1}/{2}") + &route("/artnet/{1}") + &route("/artnet/timecode"), None),
            (route("/video/0/{1}"), None),
            (patch("/far/away/0", ""), Some("no bridge in here has /far/away/0, which the patch")),
            (patch("/far/away/0", "direction = \"in\""), None),
        ];
        let alone = patch("/artnet/0", "") + &patch("/dmx/1", "direction = \"in\"");
        let cases = cases.map(|(text, noted)| (bridges.to_owned() + &text, noted));
        let with_none = (alone, Some("no bridge in here has /artnet/0, which the patch fills"));
        for (text, noted) in cases.into_iter().chain([with_none]) {
            let (config, problems) = Config::parse(&text);
            assert_eq!(problems, [], "{text}");
            let plan = Plan::new(&config, &Host::read());
            let plan = plan.unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
            let notes = notes(&plan.threads);
            assert_eq!(notes.len(), noted.iter().len(), "{text}: {notes:?}");
            assert!(notes.iter().zip(noted).all(|(note, said)| note.contains(said)), "{notes:?}");
        }
    }

    #[test]
    fn a_name_or_a_token_of_a_bridge_that_the_router_cannot_take_is_refused() {
        let tokens = "[auth]\ntokens = [\"web read:/**\", \"desk\"]\n";
        let bridge = |kind: &str, more: &str| format!("[[bridge]]\ntype = {kind:?}\n{more}\n");
        let long = format!("name = {:?}", "n".repeat(256));
        let cases = [
            (bridge("osc", &long), "bridge[0].name: has 256 bytes"),
            (tokens.to_owned() + &bridge("http", "token = \"wbe\""), "bridge[0].token: is not one"),
            (tokens.to_owned() + &bridge("osc", "token = \"\""), "bridge[0].token: is not one"),
            (tokens.to_owned() + &bridge("http", "token = \"web\""), ""),
            (bridge("http", "token = \"web\""), ""),
        ];
        for (text, said) in cases {
            let (config, problems) = Config::parse(&text);
            assert_eq!(problems, [], "{text}");
            let errors = Plan::new(&config, &Host::read()).err().unwrap_or_default();
            assert_eq!(errors.len(), usize::from(!said.is_empty()), "{text}: {errors:?}");
            assert!(errors.iter().all(|error| error.to_string().starts_with(said)), "{errors:?}");
            assert!(errors.iter().all(|error| !error.why.contains("wbe")), "a secret");
        }
    }

    #[test]
    fn a_network_that_brings_more_params_than_are_kept_is_noted() {
        let cases = [
            ("", Some("can fill 2098688 params, limits.params_max keeps 100000")),
            ("inputs = \"0-1023\"\n", Some("can fill 525824 params")),
            ("inputs = \"0-15\"\n", None),
            ("mode = \"universe\"\n", None),
        ];
        for (options, noted) in cases {
            let text = format!("[server]\nshards = 1\n[[bridge]]\ntype = \"artnet\"\n{options}");
            let (config, problems) = Config::parse(&text);
            assert_eq!(problems.len(), 0, "{options}");
            let Ok(plan) = Plan::new(&config, &Host::read()) else { panic!("{options}") };
            let notes = notes(&plan.threads);
            assert_eq!(notes.len(), noted.iter().len(), "{options}: {notes:?}");
            assert!(notes.iter().zip(noted).all(|(note, said)| note.contains(said)), "{notes:?}");
        }
    }
}
