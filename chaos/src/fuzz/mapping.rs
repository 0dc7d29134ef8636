//! What people write of routes and patches, formulas and templates included: whatever it says, what
//! opens takes any value and gives the router whole messages.

use clasp_rt_bridges::{BRIDGES, Input};
use clasp_rt_core::message::{Message, ParamValue, Publish, Set};
use clasp_rt_core::signal::{Qos, Signal};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::{ArrayWriter, MapWriter, Value};
use clasp_rt_core::value::{push_bool, push_bytes, push_f64, push_i64, push_str, push_value};
use clasp_rt_core::wire::binary::{self, SnapshotBuilder};

use super::targets::Checked;

/// Where values are written; the seeds take them all.
const ADDRESSES: [&str; 7] =
    ["/a/1", "/a/2/b", "/b/1", "/rig/spot/dimmer", "/rig/spot/colour", "/artnet/0/21", "/artnet/0"];

/// Octets of one written value: where and of which kind, and the value.
const STEP: usize = 9;

/// Keys of the bridge of routes as JSON, a zero, and what is written then.
pub fn routes(bytes: &[u8]) {
    run("routes", bytes);
}

/// The same with the patch.
pub fn patch(bytes: &[u8]) {
    run("patch", bytes);
}

fn run(kind: &str, bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, values) = bytes.split_at(end);
    let Ok(keys) = serde_json::from_slice(text) else { return };
    let entry = BRIDGES.iter().find(|entry| entry.name == kind).expect("a bridge");
    let Ok(mut bridge) = (entry.open)(keys) else { return };
    let (mut now, mut out) = (Time(0), Checked);
    bridge.step(now, Input::Joined, &mut out);
    for step in values.get(1..).unwrap_or_default().chunks_exact(STEP) {
        let Some((&which, value)) = step.split_first() else { continue };
        let Some(frame) = written(which, value) else { continue };
        bridge.step(now, Input::Frame(&frame), &mut out);
        now = now + Span::from_millis(u64::from(which));
        if let Some(due) = bridge.deadline().filter(|due| *due <= now) {
            now = now.max(due);
            bridge.step(now, Input::Deadline, &mut out);
        }
    }
    bridge.step(now, Input::Stop, &mut out);
}

/// A SET of one of the addresses, what a loser says of it, or that it is arbitrated.
fn written(which: u8, octets: &[u8]) -> Option<Vec<u8>> {
    let bits = u64::from_be_bytes(*octets.first_chunk()?);
    let mut value = Vec::new();
    match which >> 3 & 7 {
        0 => push_i64(&mut value, bits as i64),
        1 => push_bool(&mut value, bits & 1 == 1),
        2 => push_str(&mut value, &String::from_utf8_lossy(octets)).ok()?,
        3 => push_bytes(&mut value, octets).ok()?,
        // Numbers as controls give them.
        4 | 5 => push_f64(&mut value, f64::from(bits as u32) / f64::from(u32::MAX)),
        _ => push_f64(&mut value, f64::from_bits(bits)),
    }
    let address = ADDRESSES.get(usize::from(which) % ADDRESSES.len())?;
    let value = Value::from_encoded(&value).ok()?;
    let mut frame = Vec::new();
    let message = match which >> 6 {
        0 | 1 => Message::Set(Set {
            address,
            value,
            revision: None,
            lock: false,
            unlock: false,
            ttl: None,
        }),
        2 => return bid(address, bits, value),
        _ => return arbitration(address, bits),
    };
    binary::encode(&message, Qos::Fire, &mut frame).ok()?;
    Some(frame)
}

fn bid(address: &str, bits: u64, value: Value<'_>) -> Option<Vec<u8>> {
    let (mut said, mut frame) = (Vec::new(), Vec::new());
    let mut map = MapWriter::start(&mut said);
    push_str(map.entry("id").ok()?, &format!("desk{}", bits % 40)).ok()?;
    push_i64(map.entry("priority").ok()?, bits as i64 >> 32 & 0x1FF);
    push_value(map.entry("value").ok()?, value);
    let publish = Publish {
        address: &format!("/clasp/source/bids{address}"),
        signal: Some(Signal::Event),
        value: Value::from_encoded(&said).ok(),
        ..Publish::default()
    };
    binary::encode(&Message::Publish(publish), Qos::Fire, &mut frame).ok()?;
    Some(frame)
}

fn arbitration(pattern: &str, bits: u64) -> Option<Vec<u8>> {
    let (mut said, mut frame) = (Vec::new(), Vec::new());
    let mut map = MapWriter::start(&mut said);
    let mut list = ArrayWriter::start(map.entry("arbitration").ok()?);
    for count in 0..bits % 3 {
        let mut table = MapWriter::start(list.item().ok()?);
        push_str(table.entry("pattern").ok()?, pattern).ok()?;
        let rule = if bits >> count & 4 == 0 { "htp" } else { "ltp" };
        push_str(table.entry("rule").ok()?, rule).ok()?;
    }
    let value = Value::from_encoded(&said).ok()?;
    let mut snapshot = SnapshotBuilder::start(&mut frame);
    let (address, revision, writer, timestamp_us) = ("/clasp/arbitration", 1, None, None);
    let answer = ParamValue { address, value, revision, writer, timestamp_us };
    let fits = snapshot.push(&mut frame, &answer);
    snapshot.finish(&mut frame);
    fits.then_some(frame)
}

/// Some values of each kind, behind the keys.
fn with_values(keys: &str) -> Vec<u8> {
    let mut seed = keys.as_bytes().to_vec();
    seed.push(0);
    for which in 0..96_u8 {
        // All kinds of values, and all that can be said of them.
        seed.push((u16::from(which) * 8 / 3) as u8);
        seed.extend((0x3FE0_0000_0000_0000_u64 + u64::from(which)).to_be_bytes());
    }
    seed
}

pub fn route_seeds() -> Vec<Vec<u8>> {
    let keys = [
        r##"{"route":[{"from":"/a/*","to":"/b/{1}"}]}"##,
        r##"{"route":[{"from":"/a/{x}/**","to":"/b/{x}/{2}","write":"event","priority":150}]}"##,
        r##"{"route":[{"from":["/a/1","/rig/**"],"to":"/c","aggregate":{"type":"max"}}]}"##,
        r##"{"route":[{"from":"/a/1","to":"/b","transform":
            [{"type":"expression","expr":"value * 2 + math::sin(value)"}]}]}"##,
        r##"{"route":[{"from":"/**","to":"/z","transform":[{"type":"curve","curve_type":"ease_in"},
            {"type":"invert"},{"type":"clamp","min":0.0,"max":1.0}]}],"addresses_max":16}"##,
        r##"{"route":[{"from":"/a/1","to":"/b","aggregate":{"type":"sum"},
            "then":[{"type":"scale","from_min":0,"from_max":1,"to_min":0,"to_max":127}]}],
            "sources":true,"arbitrated":["/b/**"]}"##,
        r##"{"route":[{"from":"/a/*","to":"/b/{1}"}],"sources":true}"##,
    ];
    keys.into_iter().map(with_values).collect()
}

pub fn patch_seeds() -> Vec<Vec<u8>> {
    let keys = [
        r##"{"patch":[{"fixture":"/rig/spot","universe":"/artnet/0","at":21,
            "slots":["dimmer:16","colour:rgb","-","=255"],"fade_s":0.5}]}"##,
        r##"{"patch":[{"fixture":"/rig/spot","universe":"/artnet/0","at":21,
            "slots":["dimmer","colour:rgbw","tilt:24"],"direction":"in"}]}"##,
        r##"{"patch":[{"fixture":"/rig/spot","universe":"/artnet/0","at":21,
            "slots":["dimmer","-"],"direction":"in"}],"sources":true}"##,
    ];
    keys.into_iter().map(with_values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_configuration_that_opens() {
        for (kind, seeds) in [("routes", route_seeds()), ("patch", patch_seeds())] {
            for seed in seeds {
                let end = seed.iter().position(|byte| *byte == 0).unwrap();
                let text = std::str::from_utf8(&seed[..end]).unwrap();
                let entry = BRIDGES.iter().find(|entry| entry.name == kind).unwrap();
                let opened = (entry.open)(serde_json::from_str(text).unwrap());
                assert!(opened.is_ok(), "{text}: {:?}", opened.err());
            }
        }
    }
}
