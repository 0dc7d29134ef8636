//! The packets of Art-Net: golden ones, round trips, broken ones.

use std::fmt::Write;

use super::*;
use crate::vectors;

#[test]
fn packets_of_other_programs_mean_what_their_text_says() {
    let count = vectors::each("artnet", |bytes, expected| {
        assert_eq!(words(decode(bytes).expect(expected)), expected);
    });
    assert!(count >= 10, "{count} packets");
}

fn words(packet: Packet<'_>) -> String {
    match packet {
        Packet::Dmx(dmx) => {
            let mut text = format!(
                "dmx sequence={} port-address={} slots={} ",
                dmx.sequence,
                dmx.port_address.number(),
                dmx.levels.len()
            );
            dmx.levels.iter().for_each(|level| write!(text, "{level:02x}").expect("a String"));
            text
        }
        Packet::Poll(Poll { range: None }) => "poll all".into(),
        Packet::Poll(Poll { range: Some((first, last)) }) => {
            format!("poll {}-{}", first.number(), last.number())
        }
        Packet::Sync => "sync".into(),
        Packet::Reply(reply) => format!(
            "reply port={} bind={} short={} long={} outputs={}",
            reply.port,
            reply.bind_index,
            String::from_utf8_lossy(reply.short_name),
            String::from_utf8_lossy(reply.long_name),
            reply.outputs().map(|one| one.number().to_string()).collect::<Vec<_>>().join(",")
        ),
        Packet::Other { opcode } => format!("opcode {opcode:#06x}"),
    }
}

#[test]
fn a_port_address_is_read_in_both_forms() {
    let cases = [
        ("0", Some(0)),
        ("19", Some(19)),
        ("32767", Some(32_767)),
        ("0:1:3", Some(19)),
        ("127:15:15", Some(32_767)),
        ("3:1:5", Some(789)),
        ("32768", None),
        ("128:0:0", None),
        ("0:16:0", None),
        ("1:2", None),
        ("", None),
        ("+1", None),
        ("1:2:3:4", None),
    ];
    for (text, number) in cases {
        assert_eq!(PortAddress::parse(text).map(PortAddress::number), number, "{text}");
    }
}

#[test]
fn a_late_packet_is_stale_and_a_restarted_sender_is_not() {
    let cases = [
        (10, 11, false),
        (10, 10, true),
        (255, 1, false),
        (254, 1, false),
        (1, 255, true),
        (5, 245, true),
        (30, 12, true),
        (30, 11, true),
        (30, 10, false),
        (10, 0, false),
        (0, 10, false),
        (0, 0, false),
    ];
    for (last, next, stale) in cases {
        assert_eq!(is_stale(last, next), stale, "{last} then {next}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let port_address = PortAddress::parse("3:1:5").expect("a port-address");
    let mut out = Vec::new();
    for (levels, sent) in [(&[1, 2, 3][..], &[1, 2, 3, 0][..]), (&[9], &[9, 0]), (&[], &[0, 0])] {
        write_dmx(&mut out, 7, port_address, levels);
        let dmx = Dmx { sequence: 7, physical: 0, port_address, levels: sent };
        assert_eq!(decode(&out), Ok(Packet::Dmx(dmx)));
    }
    write_dmx(&mut out, 7, port_address, &[8; SLOTS + 1]);
    assert_eq!(out.len(), PACKET_BYTES_MAX);
    write_sync(&mut out);
    assert_eq!(decode(&out), Ok(Packet::Sync));
    write_poll(&mut out);
    assert_eq!(decode(&out), Ok(Packet::Poll(Poll { range: None })));
}

#[test]
fn a_reply_lists_its_ports_and_keeps_its_length() {
    let takes = Port {
        universe: 5,
        takes: true,
        is_heard: true,
        is_merging: false,
        is_latest: true,
        gives: false,
    };
    let gives = Port { universe: 6, takes: false, is_heard: false, gives: true, ..takes };
    let umlauts = "ü".repeat(40);
    let group = Group {
        ip: [10, 0, 0, 7],
        short_name: "a name that is longer than it may be",
        long_name: &umlauts,
        report: "#0001 [0001] ok",
        bind_index: 2,
        switch: 3 << 4 | 1,
        ports: &[takes, gives],
    };
    let mut out = Vec::new();
    write_reply(&mut out, &group);
    assert_eq!(out.len(), 239);
    let Ok(Packet::Reply(reply)) = decode(&out) else { panic!("not a reply") };
    assert_eq!(reply.short_name, b"a name that is lo");
    assert_eq!(reply.long_name, "ü".repeat(31).as_bytes());
    assert_eq!((reply.port, reply.bind_index), (PORT, 2));
    let outputs: Vec<_> = reply.outputs().map(PortAddress::number).collect();
    assert_eq!(outputs, [3 << 8 | 1 << 4 | 5]);
    assert_eq!(
        out[174..194],
        [0x80, 0x40, 0, 0, 0, 0x80, 0, 0, 0x82, 2, 0, 0, 5, 6, 0, 0, 5, 6, 0, 0]
    );
}

#[test]
fn broken_packets_are_refused_with_the_reason() {
    let mut dmx = Vec::new();
    write_dmx(&mut dmx, 1, PortAddress(1), &[1, 2, 3, 4]);
    let changed = |at: usize, with: u8| {
        let mut bytes = dmx.clone();
        bytes[at] = with;
        bytes
    };
    let cases = [
        (Vec::new(), Malformed::Short { need: 8, got: 0 }),
        (dmx[..9].to_vec(), Malformed::Short { need: 10, got: 9 }),
        (dmx[..21].to_vec(), Malformed::Short { need: 22, got: 21 }),
        (changed(0, b'a'), Malformed::BadId),
        (changed(15, 0x80), Malformed::BadPortAddress { found: 0x8001 }),
        (changed(16, 3), Malformed::TooManySlots { found: 0x304 }),
        (changed(9, 0x21), Malformed::Short { need: 194, got: 22 }),
    ];
    for (bytes, error) in cases {
        let found = match decode(&bytes) {
            Ok(Packet::Other { opcode }) => panic!("opcode {opcode:#x}"),
            other => other,
        };
        assert_eq!(found, Err(error), "{bytes:?}");
    }
    assert_eq!(decode(&changed(9, 0x97)), Ok(Packet::Other { opcode: 0x9700 }));
}

#[test]
fn a_targeted_poll_names_its_range() {
    let mut poll = Vec::new();
    write_poll(&mut poll);
    poll[12] |= 0x20;
    assert_eq!(decode(&poll), Err(Malformed::Short { need: 16, got: 14 }));
    poll.extend_from_slice(&[0, 9, 0, 4]);
    let range = Some((PortAddress(4), PortAddress(9)));
    assert_eq!(decode(&poll), Ok(Packet::Poll(Poll { range })));
    assert_eq!(decode(&poll[..12]), Ok(Packet::Poll(Poll { range: None })));
}
