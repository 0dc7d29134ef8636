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
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match packet {
        Packet::Dmx(Dmx { sequence, port_address, levels, .. }) => {
            let (number, slots) = (port_address.number(), levels.len());
            let levels = hex(levels);
            format!("dmx sequence={sequence} port-address={number} slots={slots} {levels}")
        }
        Packet::Nzs(Nzs { sequence, start_code, port_address, data }) => {
            let (number, data) = (port_address.number(), hex(data));
            format!(
                "nzs sequence={sequence} code={start_code:#04x} port-address={number} data={data}"
            )
        }
        Packet::Sync => "sync".into(),
        Packet::Poll(Poll { on_change, diagnostics, range }) => {
            let mut text = match range {
                None => "poll all".to_owned(),
                Some((first, last)) => format!("poll {}-{}", first.number(), last.number()),
            };
            text += if on_change { " on-change" } else { "" };
            if let Some(Diagnostics { priority, unicast }) = diagnostics {
                let way = if unicast { " unicast" } else { "" };
                write!(text, " diagnostics={priority:#04x}{way}").expect("a String");
            }
            text
        }
        Packet::Reply(reply) => format!(
            "reply port={} bind={} short={} long={} outputs={} inputs={} report={}",
            reply.port,
            reply.bind_index,
            text(reply.short_name),
            text(reply.long_name),
            numbers(reply.outputs()),
            numbers(reply.inputs()),
            text(reply.report),
        ),
        Packet::Diag(Diag { priority, port, text: words }) => {
            format!("diag priority={priority:#04x} port={port} text={}", text(words))
        }
        Packet::Address(address) => format!(
            "address bind={} short={} long={} net={} sub-net={} inputs={} outputs={} command={}",
            address.bind_index,
            text(address.short_name),
            text(address.long_name),
            switch(&address.net),
            switch(&address.sub_net),
            address.inputs.each_ref().map(switch).join(","),
            address.outputs.each_ref().map(switch).join(","),
            match address.command {
                Command::None => "none".into(),
                Command::CancelMerge => "cancel merge".into(),
                Command::MergeLatest(port) => format!("merge latest {port}"),
                other => format!("{other:?}"),
            }
        ),
        Packet::Input(InputSwitch { bind_index, disabled }) => {
            let words = disabled.map(|one| if one { "yes" } else { "no" }).join(",");
            format!("input bind={bind_index} disabled={words}")
        }
        Packet::IpProg(IpProg { command, ip, mask, gateway }) => format!(
            "ip-prog command={command:#04x} ip={} mask={} gateway={}",
            dotted(ip),
            dotted(mask),
            dotted(gateway)
        ),
        Packet::IpProgReply(IpProgReply { ip, mask, port, is_dhcp, gateway }) => format!(
            "ip-prog-reply ip={} mask={} port={port} dhcp={} gateway={}",
            dotted(ip),
            dotted(mask),
            if is_dhcp { "yes" } else { "no" },
            dotted(gateway)
        ),
        Packet::TimeCode(TimeCode { stream, hours, minutes, seconds, frames, rate }) => format!(
            "time-code stream={stream} {hours:02}:{minutes:02}:{seconds:02}:{frames:02} rate={rate}"
        ),
        Packet::Trigger(Trigger { oem, key, sub_key, data }) => {
            let used = data.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
            let data = hex(&data[..used]);
            format!("trigger oem={oem:#06x} key={key} sub-key={sub_key} data={data}")
        }
        Packet::Command(TextCommand { esta, text: words }) => {
            format!("command esta={esta:#06x} text={}", text(words))
        }
        Packet::TodRequest(request) => format!("tod-request ports={}", numbers(request.ports())),
        Packet::TodData(data) => format!(
            "tod-data port-address={} port={} bind={} response={} total={} block={} uids={}",
            data.port_address.number(),
            data.port,
            data.bind_index,
            data.response,
            data.total,
            data.block,
            hex(data.uids)
        ),
        Packet::TodControl(TodControl { port_address, command }) => {
            format!("tod-control port-address={} command={command}", port_address.number())
        }
        Packet::Rdm(Rdm { port_address, message }) => {
            format!("rdm port-address={} message={}", port_address.number(), hex(message))
        }
        Packet::Other { opcode } => format!("opcode {opcode:#06x}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dotted(ip: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(ip).to_string()
}

fn numbers(ports: impl Iterator<Item = PortAddress>) -> String {
    ports.map(|one| one.number().to_string()).collect::<Vec<_>>().join(",")
}

fn switch(switch: &Switch) -> String {
    match switch {
        Switch::Keep => "keep".into(),
        Switch::Reset => "reset".into(),
        Switch::Set(value) => value.to_string(),
    }
}

#[test]
fn what_the_standard_s_tables_say_is_written_octet_by_octet() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/artnet/");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of vectors") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !name.starts_with("table-") || !name.ends_with(".bin") {
            continue;
        }
        let bytes = std::fs::read(&path).expect("a packet");
        let mut written = Vec::new();
        if decode(&bytes).expect("a packet").write(&mut written) {
            assert_eq!(hex(&written), hex(&bytes), "{name}");
            count += 1;
        }
    }
    assert!(count >= 17, "{count} packets");
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
    let poll = Poll { on_change: true, diagnostics: None, range: None };
    poll.write(&mut out);
    assert_eq!((decode(&out), out.len()), (Ok(Packet::Poll(poll)), 22));
    let port = PortAddress(0x1234);
    TodRequest::write(&mut out, port);
    let Ok(Packet::TodRequest(request)) = decode(&out) else { panic!("not a request") };
    assert!(request.ports().eq([port]));
}

#[test]
fn every_octet_of_our_reply_is_where_the_table_has_it() {
    let takes =
        Port { universe: 5, takes: true, is_heard: true, is_latest: true, ..Port::default() };
    let gives = Port { universe: 6, gives: true, ..Port::default() };
    let silenced = Port { universe: 7, gives: true, is_disabled: true, ..Port::default() };
    let merges = Port { universe: 8, takes: true, is_heard: true, is_merging: true, ..gives };
    let umlauts = "ü".repeat(40);
    let group = Group {
        ip: [10, 0, 0, 7],
        mac: [2, 0, 0x5E, 0x10, 0, 1],
        short_name: "a name that is longer than it may be",
        long_name: &umlauts,
        report: "#0001 [0001] ok",
        bind_index: 2,
        switch: 3 << 4 | 1,
        rate_hz_max: 44,
        indicators: Indicators::Locate,
        is_programmable: true,
        ports: &[takes, gives, silenced, merges],
    };
    let mut out = Vec::new();
    group.write(&mut out);
    assert_eq!(out.len(), 239);
    let Ok(Packet::Reply(reply)) = decode(&out) else { panic!("not a reply") };
    assert_eq!(reply.short_name, b"a name that is lo");
    assert_eq!(reply.long_name, "ü".repeat(31).as_bytes());
    assert_eq!((reply.port, reply.bind_index, reply.report), (PORT, 2, &b"#0001 [0001] ok"[..]));
    assert_eq!(numbers(reply.outputs()), "789,792");
    assert_eq!(numbers(reply.inputs()), "790,791,792");
    let rows: [(&str, usize, &[u8]); 20] = [
        ("address", 10, &[10, 0, 0, 7]),
        ("port, low byte first", 14, &[0x36, 0x19]),
        ("net and sub-net", 18, &[3, 1]),
        ("OEM", 20, &[0, 0xFF]),
        ("UBEA, Status1: locate, set by network", 22, &[0, 0x60]),
        ("ESTA, low byte first", 24, &[0xF0, 0x7F]),
        ("number of ports", 172, &[0, 4]),
        ("types", 174, &[0x80, 0x40, 0x40, 0xC0]),
        ("GoodInput", 178, &[0, 0x80, 0x08, 0x80]),
        ("GoodOutputA", 182, &[0x82, 0, 0, 0x88]),
        ("SwIn", 186, &[5, 6, 7, 8]),
        ("SwOut", 190, &[5, 6, 7, 8]),
        ("sACN priority, macro, remote, spare, style", 194, &[0; 7]),
        ("hardware address", 201, &[2, 0, 0x5E, 0x10, 0, 1]),
        ("address and index of the root", 207, &[10, 0, 0, 7, 2]),
        ("Status2: 15 bits", 212, &[0x08]),
        ("GoodOutputB: no RDM; continuous where it takes", 213, &[0xF0, 0xB0, 0xB0, 0xF0]),
        ("Status3 and the responder that there is not", 217, &[0; 7]),
        ("user, refresh rate", 224, &[0, 0, 0, 44]),
        ("no background queue, filler", 228, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (what, at, octets) in rows {
        assert_eq!(&out[at..at + octets.len()], octets, "{what}");
    }
}

#[test]
fn what_is_too_long_or_undefined_is_refused() {
    let table = |name: &str| {
        let path = format!("{}/vectors/artnet/{name}.bin", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).expect("a packet")
    };
    let cases = [
        ("table-nzs", 13, 0, Malformed::BadField { at: 13, found: 0 }),
        ("table-nzs", 13, 0xCC, Malformed::BadField { at: 13, found: 0xCC }),
        ("table-nzs", 17, 5, Malformed::Short { need: 23, got: 22 }),
        ("table-diag-data", 16, 3, Malformed::BadField { at: 16, found: 0x308 }),
        ("table-command", 15, 21, Malformed::Short { need: 37, got: 36 }),
        ("table-time-code-ebu", 18, 4, Malformed::BadField { at: 18, found: 4 }),
        ("table-tod-request", 23, 33, Malformed::BadField { at: 23, found: 33 }),
        ("table-tod-request", 21, 0x80, Malformed::BadField { at: 21, found: 0x80 }),
        ("table-tod-data", 27, 3, Malformed::Short { need: 46, got: 40 }),
        ("table-tod-data", 27, 201, Malformed::BadField { at: 27, found: 201 }),
        ("table-poll-targeted", 14, 0x80, Malformed::BadPortAddress { found: 0x802F }),
    ];
    for (name, at, octet, error) in cases {
        let mut bytes = table(name);
        bytes[at] = octet;
        assert_eq!(decode(&bytes), Err(error), "{name} with {octet:#x} at {at}");
    }
    for name in ["address-names", "input", "ip-prog", "ip-prog-reply", "tod-control-flush", "rdm"] {
        let bytes = table(&format!("table-{name}"));
        let short = &bytes[..20.min(bytes.len() - 1)];
        assert!(matches!(decode(short), Err(Malformed::Short { .. })), "{name}");
    }
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
    assert_eq!(decode(&changed(9, 0x98)), Ok(Packet::Other { opcode: 0x9800 }));
}

#[test]
fn a_targeted_poll_names_its_range() {
    let mut poll = Vec::new();
    let targeted = Poll { range: Some((PortAddress(4), PortAddress(9))), ..Poll::default() };
    targeted.write(&mut poll);
    assert_eq!(poll[12..18], [0x20, 0, 0, 9, 0, 4]);
    assert_eq!(decode(&poll), Ok(Packet::Poll(targeted)));
    assert_eq!(decode(&poll[..14]), Err(Malformed::Short { need: 16, got: 14 }));
    assert_eq!(decode(&poll[..12]), Ok(Packet::Poll(Poll::default())));
}

#[test]
fn an_art_dmx_reads_the_same_when_nothing_else_is_expected() {
    let universe = PortAddress::new(0x1234).expect("15 bits");
    let mut whole = Vec::new();
    write_dmx(&mut whole, 7, universe, &[1, 2, 3, 4]);
    let mut packets: Vec<_> = (0..=whole.len()).map(|len| whole[..len].to_vec()).collect();
    for place in 0..20 {
        packets.extend((0..=255).map(|octet| {
            let mut packet = whole.clone();
            packet[place] = octet;
            packet
        }));
    }
    // A length of more slots than there are, with all of them behind it.
    packets.extend([512_u16, 513, 600].map(|len| {
        let mut packet = [&whole[..], &[0; 600]].concat();
        packet[16..18].copy_from_slice(&len.to_be_bytes());
        packet
    }));
    for packet in packets {
        let expected = match decode(&packet) {
            Ok(Packet::Dmx(dmx)) => Some(dmx),
            _ => None,
        };
        assert_eq!(dmx(&packet), expected, "{packet:02x?}");
    }
}
