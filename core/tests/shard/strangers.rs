//! What the router does not believe: whose name a peer uses, and what its token does not say.

use clasp_rt_core::message::{Message, Publish};
use clasp_rt_core::shard::{Action, Admit, CloseReason, Grant, Scope, Settings};
use clasp_rt_core::signal::{Qos, Signal};
use clasp_rt_core::value;

use super::net::{Net, hello};
use super::{A, B, settings};

#[test]
fn scopes_bound_reading_writing_subscribing_and_snapshots() {
    let scope = |action, pattern: &str| Scope { action, pattern: pattern.into() };
    let grant =
        |token: &str, scopes, expires_unix_s| Grant { token: token.into(), scopes, expires_unix_s };
    let grants = Some(vec![
        grant("admin", vec![scope(Action::Admin, "/**")], None),
        grant("read-a", vec![scope(Action::Read, "/a/*")], None),
        grant("soon", vec![scope(Action::Read, "/**")], Some(1_700_000_005)),
    ]);
    let mut net = Net::new(Settings { grants, ..settings(1) });
    for (client, token) in [(A, None), (B, Some("wrong"))] {
        net.open(client, Admit::Stranger);
        net.say(client, &hello(token, 0), Qos::Fire);
        assert_eq!(net.take(client), ["ERROR 300 -"]);
        assert_eq!(net.peers[&client].closed, Some(CloseReason::Unauthorized));
        net.leave(client);
    }
    net.join_with(A, Some("admin"), 0);
    net.subscribe(A, 1, "/**");
    net.set(A, "/a/x", 1.0);
    net.set(A, "/b/x", 1.0);
    assert_eq!(net.take(A).len(), 2);
    net.open(B, Admit::Stranger);
    net.say(B, &hello(Some("read-a"), 0), Qos::Fire);
    assert_eq!(net.take(B), ["WELCOME clasp-rt 248", "SNAPSHOT /a/x 1 r1"]);
    net.subscribe(B, 1, "/a/**");
    assert_eq!(net.take(B), ["ERROR 301 /a/**"]);
    net.subscribe(B, 1, "/a/*");
    assert_eq!(net.take(B), ["SNAPSHOT /a/x 1 r1"]);
    net.set(B, "/a/x", 1.0);
    assert_eq!(net.take(B), ["ERROR 301 /a/x"]);
    net.say(B, &Message::Get { address: "/b/x" }, Qos::Fire);
    assert_eq!(net.take(B), ["ERROR 301 /b/x"]);
    net.join_with((0, 2), Some("soon"), 0);
    net.wait_ms(5_001);
    assert_eq!(net.take((0, 2)), ["ERROR 302 -"]);
    assert_eq!(net.peers[&(0, 2)].closed, Some(CloseReason::Unauthorized));
}

#[test]
fn a_token_expires_by_the_wall_clock_also_when_that_steps() {
    let grant = Grant {
        token: "soon".into(),
        scopes: vec![Scope { action: Action::Read, pattern: "/**".into() }],
        expires_unix_s: Some(1_700_000_100),
    };
    let mut net = Net::new(Settings { grants: Some(vec![grant]), ..settings(1) });
    net.join_with(A, Some("soon"), 0);
    net.set_clock(1_700_000_099_000_000);
    assert_eq!(net.take(A), [""; 0]);
    net.wait_ms(1_000);
    assert_eq!(net.take(A), ["ERROR 302 -"]);
    assert_eq!(net.peers[&A].closed, Some(CloseReason::Unauthorized));
}

#[test]
fn peer_signals_reach_their_session_and_nobody_speaks_for_another() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        let far = (shards as usize - 1, 1);
        net.open(far, Admit::Stranger);
        net.say(far, &hello(None, 0), Qos::Fire);
        let session = session_of(&net.peers[&far].frames[0]);
        net.take(far);
        net.join(A);
        let address = format!("/clasp/p2p/signal/{session}");
        net.emit(A, &address);
        assert_eq!(net.take(far), [format!("event {address}")], "{shards} shards");
        let nobody = "/clasp/p2p/signal/6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        net.emit(A, nobody);
        assert!(net.take(A)[0].starts_with("ERROR 404"));
        let mut map = Vec::new();
        let mut writer = value::MapWriter::start(&mut map);
        value::push_str(writer.entry("from").unwrap(), &session).unwrap();
        let forged = Publish {
            address: &address,
            signal: Some(Signal::Event),
            value: Some(value::Value::from_encoded(&map).unwrap()),
            ..Publish::default()
        };
        net.say(A, &Message::Publish(forged), Qos::Fire);
        assert!(net.take(A)[0].starts_with("ERROR 301"));
        assert_eq!(net.take(far), [""; 0]);
    }
}

#[test]
fn no_encoding_and_no_bundle_hides_whose_name_a_peer_signal_uses() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        let far = (shards as usize - 1, 1);
        net.open(far, Admit::Stranger);
        net.say(far, &hello(None, 0), Qos::Fire);
        let session = session_of(&net.peers[&far].frames[0]);
        net.take(far);
        net.join(A);
        let address = format!("/clasp/p2p/signal/{session}");
        // {type: "PUBLISH", address, signal: "event", payload: {from: session}}
        let text = |text: &str| {
            let len = u8::try_from(text.len()).unwrap();
            [&[0xD9, len], text.as_bytes()].concat()
        };
        let fields = ["type", "PUBLISH", "address", &address, "signal", "event", "payload"];
        let mut payload = vec![0x84];
        payload.extend(fields.iter().flat_map(|field| text(field)));
        payload.push(0x81);
        payload.extend(text("from").into_iter().chain(text(&session)));
        let len = (payload.len() as u16).to_be_bytes();
        net.raw(A, &[&[b'S', 0x01], &len[..], &payload].concat());
        assert_eq!(net.take(A), [format!("ERROR 301 {address}")], "{shards} shards");
        let signal =
            Publish { address: &address, signal: Some(Signal::Event), ..Publish::default() };
        net.bundle(A, &[Message::Publish(signal)], None);
        assert_eq!(net.take(A), [format!("ERROR 403 {address}")], "{shards} shards");
        assert_eq!(net.take(far), [""; 0], "{shards} shards");
    }
}

#[test]
fn below_clasp_nobody_speaks_for_the_router() {
    for shards in [1, 3] {
        let mut net = Net::new(settings(shards));
        let far = (shards as usize - 1, 1);
        net.join(far);
        net.subscribe(far, 1, "/clasp/**");
        net.join(A);
        let ours = (0, 2);
        net.open(ours, Admit::Trusted);
        net.say(ours, &hello(None, 0), Qos::Fire);
        net.take(ours);
        for told in ["/clasp/duel", "/clasp/loop", "/clasp/arbitration", "/clasp/why/a"] {
            net.emit(A, told);
            assert_eq!(net.take(A), [format!("ERROR 301 {told}")], "{shards} shards");
            net.set(A, told, 1.0);
            assert_eq!(net.take(A), [format!("ERROR 301 {told}")], "{shards} shards");
            let event =
                Publish { address: told, signal: Some(Signal::Event), ..Publish::default() };
            net.bundle(A, &[Message::Publish(event)], None);
            assert_eq!(net.take(A), [format!("ERROR 403 {told}")], "{shards} shards");
        }
        net.emit(ours, "/clasp/duel");
        assert_eq!(net.take(ours), ["ERROR 301 /clasp/duel"], "a bridge of ours tells no duel");
        assert_eq!(net.take(far), [""; 0], "{shards} shards");
        // What published clients and bridges elsewhere say there, and what our routes do.
        for (who, said) in
            [(A, "/clasp/p2p/announce"), (A, "/clasp/source/bids/rig/1"), (ours, "/clasp/loop")]
        {
            net.emit(who, said);
            assert_eq!(net.take(who), [""; 0], "{said}");
            assert_eq!(net.take(far), [format!("event {said}")], "{shards} shards");
        }
    }
}

fn session_of(welcome: &[u8]) -> String {
    let payload = clasp_rt_core::wire::header::parse(welcome).unwrap().payload;
    match clasp_rt_core::wire::binary::decode(payload).unwrap() {
        Message::Welcome(welcome) => welcome.session.to_string(),
        other => panic!("not a WELCOME: {other:?}"),
    }
}
