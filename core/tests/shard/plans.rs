//! Bundles are looked at once where they come in: what that look finds decides as several would.

use clasp_rt_core::message::{Message, Publish, Set};
use clasp_rt_core::signal::{Phase, Qos, Signal};
use clasp_rt_core::value::{Value, code};
use clasp_rt_core::wire::list::Messages;

use super::net::{Client, Net, f64_value, set_of};
use super::{A, B, one, settings};

const C: Client = (0, 2);

/// A BUNDLE frame of payloads as they are given.
fn raw_bundle(flags: u8, timestamp_us: Option<u64>, payloads: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0x30, flags];
    payload.extend((payloads.len() as u16).to_be_bytes());
    payload.extend(timestamp_us.iter().flat_map(|at| at.to_be_bytes()));
    for message in payloads {
        payload.extend((message.len() as u16).to_be_bytes());
        payload.extend_from_slice(message);
    }
    [&[b'S', 0x41][..], &(payload.len() as u16).to_be_bytes(), &payload].concat()
}

fn payload_of(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Messages::append(&mut bytes, message).unwrap();
    bytes.split_off(2)
}

fn set(address: &str, number: f64) -> Vec<u8> {
    let data = number.to_be_bytes();
    payload_of(&Message::Set(Set { value: f64_value(&data), ..set_of(address) }))
}

fn event(address: &str) -> Vec<u8> {
    let (signal, phase) = (Some(Signal::Event), Some(Phase::Start));
    payload_of(&Message::Publish(Publish { address, signal, phase, ..Publish::default() }))
}

#[test]
fn what_is_broken_behind_a_refusal_is_broken() {
    let (good, refused) = (set("/a/b", 1.0), set("/a//b", 1.0));
    let cut = &good[..good.len() - 1];
    let no_text = [&[0x21, 0x00, 0, 2][..], &[b'/', 0xFF]].concat();
    let cases: [(&[&[u8]], &str); 7] = [
        (&[&good, &refused, &good], "ERROR 403 /a//b"),
        (&[&refused, cut], "ERROR 101 -"),
        (&[&refused, &no_text], "ERROR 101 -"),
        (&[&good, &no_text], "ERROR 101 -"),
        (&[&good, &[]], "ERROR 101 -"),
        (&[&good, &[0x7E]], "ERROR 101 -"),
        (&[&good, &[0x30, 0, 0, 0], &refused], "ERROR 403 -"),
    ];
    for shards in [1, 3] {
        for known in [false, true] {
            for (payloads, expected) in cases {
                let mut net = Net::new(settings(shards));
                net.join(A);
                net.join(B);
                net.subscribe(B, 1, "/**");
                if known {
                    net.set(A, "/a/b", 0.0);
                }
                net.take(A);
                net.take(B);
                net.raw(A, &raw_bundle(0, None, payloads));
                assert_eq!(net.take(A), [expected], "{payloads:02x?}");
                assert_eq!(net.take(B), [""; 0], "{payloads:02x?}");
            }
        }
    }
}

#[test]
fn a_bundle_that_is_not_canonical_does_what_it_says() {
    let long = [&set("/a/x", 1.0)[..], b"more"].concat();
    let (second, ping, go) = (set("/a/y", 2.0), [0x41], event("/a/go"));
    let rated = [&go[..], &[1]].concat();
    let want = ["SET /a/x 1 r1", "event /a/go", "SET /a/y 2 r1", "event /a/go", "SET /a/x 1 r2"];
    for shards in [1, 3] {
        for (flags, at_us) in [(0, None), (0x80, Some(1)), (0x01, None)] {
            let mut net = Net::new(settings(shards));
            net.join(A);
            net.join(B);
            net.subscribe(B, 1, "/**");
            net.take(B);
            let parts: [&[u8]; 7] = [&long, &go, &second, &ping, &rated, &long, &ping];
            net.raw(A, &raw_bundle(flags, at_us, &parts));
            assert_eq!(net.take(A), ["ACK - r2"], "{shards} shards, flags {flags:#x}");
            assert_eq!(net.take(B), want, "{shards} shards, flags {flags:#x}");
        }
    }
}

/// Each bundle is said once as it is, and once with a SET of something new behind it, for which
/// everything is staged. Who listens hears the same.
#[test]
fn overwriting_in_place_does_what_staging_does() {
    let text = |address, text: &'static [u8]| {
        let value = Value::parse(code::STRING, text).unwrap().0;
        payload_of(&Message::Set(Set { value, ..set_of(address) }))
    };
    let locking = payload_of(&Message::Set(Set { lock: true, ..set_of("/a/x") }));
    let expecting = |revision| {
        let revision = Some(revision);
        payload_of(&Message::Set(Set { revision, ..set_of("/a/x") }))
    };
    let (x, y) = (set("/a/x", 3.0), set("/a/y", 4.0));
    let bundles: [&[&[u8]]; 9] = [
        &[&x, &y],
        &[&x, &event("/a/go"), &x, &y, &x],
        &[&text("/a/x", b"\0\x08eight by"), &x],
        &[&x, &text("/a/x", b"\0\x02hi"), &x],
        &[&y, &expecting(1), &x],
        &[&x, &expecting(2), &x],
        &[&x, &expecting(1)],
        &[&x, &locking, &x],
        &[&y, &set("/locked", 1.0)],
    ];
    let session = |parts: &[&[u8]]| {
        let mut net = one();
        for client in [A, B, C] {
            net.join(client);
        }
        net.subscribe(B, 1, "/**");
        for address in ["/a/x", "/a/y"] {
            net.set(A, address, 1.0);
        }
        let lock = Set { lock: true, ..set_of("/locked") };
        net.say(C, &Message::Set(lock), Qos::Fire);
        net.take(A);
        net.take(B);
        net.raw(A, &raw_bundle(0, None, parts));
        let answer = net.take(A);
        // Others may write what is not locked now.
        net.raw(C, &raw_bundle(0, None, &[&set("/a/x", 9.0), &set("/a/y", 9.0)]));
        let heard = net.take(B).into_iter().filter(|line| !line.contains("/other"));
        (answer[0].starts_with("ERROR"), heard.collect::<Vec<_>>(), net.take(C))
    };
    let other = set("/other", 1.0);
    for parts in bundles {
        let staged: Vec<&[u8]> = parts.iter().copied().chain([&other[..]]).collect();
        assert_eq!(session(parts), session(&staged), "{parts:02x?}");
    }
}

#[test]
fn a_bundle_makes_way_for_what_it_creates() {
    let limits = super::Limits { params_max: 4, ..super::limits() };
    let mut net = Net::new(super::Settings { limits, ..settings(1) });
    net.join(A);
    let address = |n: u32| format!("/p/{n}");
    for n in 0..4 {
        net.set(A, &address(n), 0.0);
    }
    net.take(A);
    // What it overwrites is not what goes, although it was written first.
    let parts = [0, 1, 4, 5].map(|n| set(&address(n), 1.0));
    net.raw(A, &raw_bundle(0, None, &parts.each_ref().map(|part| &part[..])));
    assert_eq!(net.take(A), ["ACK - r1"]);
    for (n, held) in [(0, true), (1, true), (2, false), (3, false), (4, true), (5, true)] {
        net.say(A, &Message::Get { address: &address(n) }, Qos::Fire);
        assert_eq!(net.take(A)[0].starts_with("SNAPSHOT"), held, "{n}");
    }
}
