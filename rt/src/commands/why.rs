//! `why`: who wins an address, who loses, and since when, as a technician reads it in the dark.

use std::fmt::Write as _;

use clap::Args;
use clasp_rt_client::{Client, SendError, Val};
use clasp_rt_core::address;
use serde_json::json;

use super::client::{ANSWER_WITHIN, RouterArgs, connect, print, unanswered, unsent};
use super::{Failure, value};
use crate::plain;

#[derive(Args, Debug)]
pub struct WhyArgs {
    /// Which address, such as /rig/1/dimmer
    address: String,
    #[command(flatten)]
    router: RouterArgs,
    /// Print what the router answered, each source with its details, as JSON
    #[arg(long)]
    json: bool,
}

/// One line of the table.
struct Line {
    verdict: &'static str,
    protocol: String,
    name: String,
    host: String,
    priority: String,
    value: String,
    age: String,
}

pub fn run(args: &WhyArgs) -> Result<(), Failure> {
    // Behind `/clasp/why` anything might be an address.
    address::check(&args.address).map_err(|why| unsent(&args.address, SendError::Address(why)))?;
    let client = connect(&args.router)?;
    let why = client.get(&format!("/clasp/why{}", args.address), ANSWER_WITHIN);
    let why = why.map_err(|error| unanswered(&args.address, error))?;
    let told = if args.json {
        let sources = sources_of(&why).map(|id| (id.to_owned(), details(&client, id)));
        let sources: serde_json::Map<_, _> =
            sources.map(|(id, details)| (id, value::to_json(&details))).collect();
        let address = &args.address;
        plain::json(&json!({ "address": address, "why": value::to_json(&why), "sources": sources }))
    } else {
        table(&args.address, &why, client.router_time_us(), |id| details(&client, id))
    };
    client.close();
    print(format!("{}\n", told.trim_end()).as_bytes())
}

/// What is known of a source; null where nothing is, or may be read.
fn details(client: &Client, id: &str) -> Val {
    client.get(&format!("/clasp/source/{id}"), ANSWER_WITHIN).unwrap_or_default()
}

/// Every source that `why` names.
fn sources_of(why: &Val) -> impl Iterator<Item = &str> {
    let claims = why.get("winner").into_iter().chain(losers(why));
    let claims = claims.filter_map(|claim| claim.get("source")?.as_str());
    claims.chain(why.get("writer").and_then(Val::as_str))
}

fn losers(why: &Val) -> &[Val] {
    match why.get("losers") {
        Some(Val::Array(losers)) => losers,
        _ => &[],
    }
}

/// The answer for people. `now_us`: the router's clock.
fn table(address: &str, why: &Val, now_us: u64, details: impl Fn(&str) -> Val) -> String {
    let value = why.get("value").map(shown).unwrap_or_default();
    let mut text = format!("{} = {value}", plain::line(address));
    if let Some(rule) = why.get("rule").and_then(Val::as_str) {
        push(&mut text, format_args!("   {}", plain::line(rule)));
    }
    if let Some(timeout_us) = why.get("timeout_us").and_then(Val::as_f64) {
        push(&mut text, format_args!(", timeout {} s", timeout_us / 1e6));
    }
    text.push('\n');
    let mut lines = Vec::new();
    if let Some(winner) = why.get("winner") {
        lines.push(line("wins", "for", winner, now_us, &details));
    }
    lines.extend(losers(why).iter().map(|it| line("loses", "since", it, now_us, &details)));
    if let Some(held) = why.get("held").and_then(Val::as_str) {
        push(&mut text, format_args!("  held: {}\n", plain::line(held)));
    }
    if lines.is_empty() {
        lines.push(last_writer(why, now_us, &details));
    }
    let width = |of: fn(&Line) -> &str| {
        lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0)
    };
    let (protocol, name) = (width(|line| &line.protocol), width(|line| &line.name));
    let (host, priority) = (width(|line| &line.host), width(|line| &line.priority));
    let shown = width(|line| &line.value);
    for line in &lines {
        let mut row = format!(
            "  {:<6} {:<protocol$}  {:<name$}  {:<host$}  {:<priority$}  {:>shown$}  {}",
            line.verdict, line.protocol, line.name, line.host, line.priority, line.value, line.age
        );
        row.truncate(row.trim_end().len());
        text.push_str(&row);
        text.push('\n');
    }
    text
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}

fn line(
    verdict: &'static str,
    word: &str,
    claim: &Val,
    now_us: u64,
    details: &impl Fn(&str) -> Val,
) -> Line {
    let id = claim.get("source").and_then(Val::as_str).unwrap_or("?");
    let priority = claim.get("priority").and_then(Val::as_i64).unwrap_or_default();
    let (protocol, name, host) = described(id, &details(id));
    Line {
        verdict,
        protocol,
        name,
        host,
        priority: format!("priority {priority}"),
        value: claim.get("value").map(shown).unwrap_or_default(),
        age: age(word, claim, now_us),
    }
}

/// A level, whichever type its source gave it.
fn shown(value: &Val) -> String {
    match value {
        Val::Float(level) if level.fract() == 0.0 && level.abs() < 1e15 => format!("{level:.0}"),
        other => value::show(other),
    }
}

/// Where nobody contends: who wrote it last.
fn last_writer(why: &Val, now_us: u64, details: &impl Fn(&str) -> Val) -> Line {
    let writer = why.get("writer").and_then(Val::as_str);
    let described = writer.map(|id| described(id, &details(id)));
    let router = || ("CLASP".to_owned(), "the router itself".to_owned(), String::new());
    let (protocol, name, host) = described.unwrap_or_else(router);
    let (priority, value) = (String::new(), String::new());
    Line { verdict: "last", protocol, name, host, priority, value, age: age("since", why, now_us) }
}

/// Protocol, name and host of a source.
fn described(id: &str, details: &Val) -> (String, String, String) {
    let word = |key: &str| details.get(key).and_then(Val::as_str).unwrap_or_default();
    let name = if word("name").is_empty() { id } else { word("name") };
    let name = if name.contains(' ') { format!("\"{name}\"") } else { name.to_owned() };
    let gone = details.get("gone").and_then(Val::as_bool) == Some(true);
    let host = if gone { "has left" } else { word("host") };
    (plain::line(protocol(word("protocol"))), plain::line(&name), plain::line(host))
}

/// As the field writes it.
fn protocol(name: &str) -> &str {
    match name {
        "" => "-",
        "sacn" => "sACN",
        "artnet" => "Art-Net",
        "osc" => "OSC",
        "midi" => "MIDI",
        "dmx" => "DMX",
        "mqtt" => "MQTT",
        "http" => "HTTP",
        "socketio" => "Socket.IO",
        "websocket" => "WebSocket",
        "clasp" => "CLASP",
        other => other,
    }
}

fn age(word: &str, claim: &Val, now_us: u64) -> String {
    let since_us = claim.get("since_us").and_then(Val::as_i64).unwrap_or_default();
    let tenths = now_us.saturating_sub(since_us.unsigned_abs()) / 100_000;
    match tenths {
        0..6_000 => format!("{word} {}.{} s", tenths / 10, tenths % 10),
        6_000..72_000 => format!("{word} {} min", tenths / 600),
        _ => format!("{word} {} h", tenths / 36_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn val(json: serde_json::Value) -> Val {
        value::parse(&json.to_string())
    }

    fn details(id: &str) -> Val {
        match id {
            "desk" => val(json!({ "protocol": "sacn", "name": "Desk B", "host": "10.0.0.3" })),
            "tablet" => val(json!({ "protocol": "osc", "name": "fader", "host": "10.0.0.9" })),
            "left" => val(json!({ "protocol": "clasp", "name": "web", "gone": true })),
            _ => Val::Null,
        }
    }

    #[test]
    fn winner_and_losers_stand_in_columns() {
        let why = val(json!({
            "value": 200, "rule": "htp", "timeout_us": 2_500_000,
            "winner": { "source": "desk", "priority": 150, "value": 200, "since_us": 7_600_000 },
            "losers": [
                { "source": "tablet", "priority": 100, "value": 255.0, "since_us": 18_800_000 },
                { "source": "stranger", "priority": 5, "since_us": 0 },
            ],
        }));
        let expected = "\
/rig/1 = 200   htp, timeout 2.5 s
  wins   sACN  \"Desk B\"  10.0.0.3  priority 150  200  for 12.4 s
  loses  OSC   fader     10.0.0.9  priority 100  255  since 1.2 s
  loses  -     stranger            priority 5         since 20.0 s
";
        assert_eq!(table("/rig/1", &why, 20_000_000, details), expected);
    }

    #[test]
    fn what_nobody_claims_has_a_last_writer() {
        let cases = [
            (
                json!({ "value": 1, "rule": "last", "writer": "left", "since_us": 0 }),
                "/a = 1   last\n  last   CLASP  web  has left      since 11 min\n",
            ),
            (
                json!({ "value": 0, "rule": "ltp", "held": "no source claims it", "since_us": 0 }),
                "/a = 0   ltp\n  held: no source claims it\n  last   CLASP  \"the router itself\"",
            ),
        ];
        for (why, expected) in cases {
            let told = table("/a", &val(why), 660_000_000, details);
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let start = squeezed(expected).replace("\"the router itself\"", "the router itself");
            assert!(squeezed(&told).starts_with(&start), "{told}");
        }
        for (tenths, said) in [(5_999, "for 599.9 s"), (6_000, "for 10 min"), (72_000, "for 2 h")] {
            assert_eq!(age("for", &val(json!({ "since_us": 0 })), tenths * 100_000), said);
        }
    }
}
