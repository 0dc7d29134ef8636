//! Whose what comes in is, as the router is told it.

use super::super::framing::{Framing, wrap};
use super::*;

const DESK: &str = "10.0.0.1:50001";

fn mark(id: &str) -> String {
    format!("PUBLISH event /clasp/source {{id: \"{id}\"}}")
}

fn details(id: &str, host: &str) -> String {
    let host = if host.is_empty() { String::new() } else { format!(", host: \"{host}\"") };
    format!("SET /clasp/source/{id} {{protocol: \"osc\", name: \"osc\"{host}}}")
}

/// What the router was told, without how it lies in bundles.
fn told(rig: &mut Rig) -> Vec<String> {
    let lines = rig.said.take_lines();
    let lines = lines.iter().filter(|line| *line != "BUNDLE now");
    lines.map(|line| line.trim_start().to_owned()).collect()
}

#[test]
fn each_host_is_a_source_described_once_whatever_port_it_sends_from() {
    let mut rig = with_sources("");
    let fader = message("/1/fader1", &[Argument::Float(0.5)]);
    rig.receive(DESK, &fader);
    let first = "osc.10.0.0.1";
    let expected = [details(first, "10.0.0.1"), mark(first), "SET /osc/1/fader1 0.5".to_owned()];
    assert_eq!(told(&mut rig), expected);
    rig.receive("10.0.0.1:50002", &fader);
    assert_eq!(told(&mut rig), [mark(first), "SET /osc/1/fader1 0.5".to_owned()]);
    rig.receive("10.0.0.2:50001", &fader);
    assert_eq!(told(&mut rig)[..2], [details("osc.10.0.0.2", "10.0.0.2"), mark("osc.10.0.0.2")]);
    // A router that comes back knows nobody.
    rig.step(Input::Joined);
    rig.said.frames.clear();
    rig.receive(DESK, &fader);
    assert_eq!(told(&mut rig), expected);
}

#[test]
fn with_source_ports_each_program_of_a_host_is_one() {
    let mut rig = with_sources("source_ports = true\nname = \"tablets\"");
    rig.receive(DESK, &message("/a", &[Argument::Int(1)]));
    rig.receive("[fe80::1]:7", &message("/a", &[Argument::Int(2)]));
    let lines = told(&mut rig);
    let first = "SET /clasp/source/osc.10.0.0.1.50001 {protocol: \"osc\", name: \"tablets\", host: \
                 \"10.0.0.1:50001\"}";
    assert_eq!((lines[0].as_str(), &lines[1]), (first, &mark("osc.10.0.0.1.50001")));
    assert!(lines[3].contains("host: \"[fe80::1]:7\""), "{lines:?}");
}

#[test]
fn every_part_of_a_bundle_is_said_by_who_sent_it_and_events_are_nobodys() {
    let mut rig = with_sources("events = [\"/osc/cue/**\"]");
    rig.receive(DESK, &message("/cue/1", &[]));
    let _ = rig.said.take_lines();
    rig.receive(DESK, &message("/cue/1", &[]));
    assert_eq!(rig.said.take_lines(), ["PUBLISH event /osc/cue/1 null"]);
    let mut bundle = Vec::new();
    write_bundle_head(&mut bundle, TimeTag::IMMEDIATELY);
    push_element(&mut bundle, &message("/a", &[Argument::Int(1)]));
    push_element(&mut bundle, &message("/b", &[Argument::Int(2)]));
    rig.receive(DESK, &bundle);
    let expected = [mark("osc.10.0.0.1"), "SET /osc/a 1".into(), "SET /osc/b 2".into()];
    assert_eq!(told(&mut rig), expected);
}

#[test]
fn a_connection_is_a_source_until_it_closes() {
    let mut rig = with_sources("listen_tcp = \"127.0.0.1:9000\"");
    let stream = rig.open(0);
    let mut bytes = Vec::new();
    wrap(Framing::Length, &message("/a", &[Argument::Int(1)]), &mut bytes);
    rig.bytes(stream, &bytes);
    let id = "osc.osc.0.0";
    assert_eq!(told(&mut rig), [details(id, ""), mark(id), "SET /osc/a 1".to_owned()]);
    rig.step(Input::Ended { stream });
    let gone = "{protocol: \"osc\", name: \"osc\", gone: true}";
    let release = format!("PUBLISH event /clasp/source {{id: \"{id}\", release: true}}");
    assert_eq!(told(&mut rig), [release, format!("SET /clasp/source/{id} {gone}")]);
    // One that said nothing goes without a word.
    let silent = rig.open(0);
    rig.step(Input::Ended { stream: silent });
    assert_eq!(told(&mut rig), [""; 0]);
}

#[test]
fn beyond_the_limit_the_source_that_is_silent_longest_is_lost() {
    let mut rig = with_sources("");
    let max = 256;
    for host in 0..max {
        rig.now = rig.now + Span::from_millis(1);
        rig.receive(&format!("10.0.{}.{}:9", host / 256, host % 256), &message("/a", &[]));
    }
    rig.now = rig.now + Span::from_millis(1);
    rig.receive("10.0.0.0:9", &message("/a", &[]));
    let _ = told(&mut rig);
    assert_eq!(rig.bridge.counters().overflowed, 0);
    rig.receive("10.9.9.9:9", &message("/a", &[]));
    let release = "PUBLISH event /clasp/source {id: \"osc.10.0.0.1\", release: true}";
    assert_eq!(told(&mut rig)[0], release);
    assert_eq!(rig.bridge.counters().overflowed, 1);
}
