//! The packets of sACN: golden ones, round trips, broken ones.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::vectors;

#[test]
fn packets_of_other_programs_mean_what_their_text_says() {
    let count = vectors::each("sacn", |bytes, expected| {
        assert_eq!(words(decode(bytes).expect(expected)), expected);
    });
    assert!(count >= 6, "{count} packets");
}

fn words(packet: Packet<'_>) -> String {
    match packet {
        Packet::Data(data) => {
            let mut text = format!(
                "data universe={} priority={} sync={} sequence={} name={}",
                data.universe.number(),
                data.priority,
                data.sync,
                data.sequence,
                String::from_utf8_lossy(data.name),
            );
            let flags = [
                (data.preview, " preview"),
                (data.terminated, " terminated"),
                (data.force_sync, " force-sync"),
            ];
            flags.iter().filter(|(set, _)| *set).for_each(|(_, word)| text.push_str(word));
            match data.start {
                Some(start) => write!(text, " start={start:02x}").expect("a String"),
                None => text.push_str(" start=none"),
            }
            write!(text, " slots={} ", data.slots.len()).expect("a String");
            data.slots.iter().for_each(|level| write!(text, "{level:02x}").expect("a String"));
            text.trim_end().to_owned()
        }
        Packet::Sync(sync) => {
            format!("sync universe={} sequence={}", sync.universe.number(), sync.sequence)
        }
        Packet::Discovery(page) => {
            let list: Vec<_> = page.universes().map(|number| number.to_string()).collect();
            let name = String::from_utf8_lossy(page.name);
            format!("discovery name={name} page={}/{} {}", page.page, page.last, list.join(" "))
        }
        Packet::Other { vector } => format!("vector {vector:#010x}"),
    }
}

fn data(slots: &[u8]) -> Data<'_> {
    Data {
        cid: *b"0123456789abcdef",
        name: b"desk",
        priority: 100,
        sync: 0,
        sequence: 7,
        preview: false,
        terminated: false,
        force_sync: false,
        universe: Universe::new(1).expect("a universe"),
        start: Some(START_LEVELS),
        slots,
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        numbers in (1_u16..=63_999, 0_u8..=200, 0_u16..=63_999, any::<u8>()),
        flags in any::<[bool; 3]>(),
        start in any::<Option<u8>>(),
        slots in proptest::collection::vec(any::<u8>(), 0..=512),
        name in "[a-zA-Z ]{0,63}",
    ) {
        let (universe, priority, sync, sequence) = numbers;
        let [preview, terminated, force_sync] = flags;
        let written = Data {
            name: name.as_bytes(),
            priority,
            sync,
            sequence,
            preview,
            terminated,
            force_sync,
            universe: Universe::new(universe).expect("a universe"),
            start,
            slots: if start.is_some() { &slots } else { &[] },
            ..data(&[])
        };
        let mut packet = Vec::new();
        write_data(&mut packet, &written);
        prop_assert_eq!(decode(&packet), Ok(Packet::Data(written)));
    }
}

#[test]
fn sync_and_discovery_are_read_as_they_were_written() {
    let mut packet = Vec::new();
    let cid = *b"0123456789abcdef";
    let sync = Sync { cid, sequence: 255, universe: Universe::MAX };
    write_sync(&mut packet, &sync);
    assert_eq!((packet.len(), decode(&packet)), (49, Ok(Packet::Sync(sync))));
    let list: Vec<u16> = (1..=600).collect();
    write_discovery(&mut packet, &cid, b"desk", 1, 2, &list);
    assert_eq!(packet.len(), PACKET_BYTES_MAX);
    let Ok(Packet::Discovery(page)) = decode(&packet) else { panic!("a page") };
    assert_eq!((page.page, page.last, page.name), (1, 2, &b"desk"[..]));
    assert!(page.universes().eq(1..=512), "what a page does not hold is left out");
}

#[test]
fn a_cut_packet_is_known_as_short_wherever_it_ends() {
    let mut whole = Vec::new();
    write_data(&mut whole, &data(&[1, 2, 3]));
    let mut packets = vec![whole.clone()];
    write_sync(&mut whole, &Sync { cid: [1; 16], sequence: 0, universe: Universe::MIN });
    whole.truncate(47);
    packets.push(whole.clone());
    write_discovery(&mut whole, &[1; 16], b"x", 0, 0, &[5, 6]);
    packets.push(whole);
    for packet in packets {
        decode(&packet).expect("whole");
        for len in 0..packet.len() {
            let found = decode(&packet[..len]);
            assert!(matches!(found, Err(Malformed::Short { .. })), "{len} bytes: {found:?}");
        }
    }
}

#[test]
fn fields_that_the_standard_fixes_are_checked() {
    let mut good = Vec::new();
    write_data(&mut good, &data(&[1, 2, 3]));
    // Octet, what is put there, what is said.
    let cases: [(usize, u8, &str); 10] = [
        (1, 0x11, "preamble size"),
        (3, 1, "postamble size"),
        (43, 3, "framing vector"),
        (108, 201, "priority"),
        (113, 0xFA, "universe"),
        (117, 3, "property vector"),
        (118, 0xA2, "address and data type"),
        (120, 1, "first property"),
        (122, 2, "address increment"),
        (123, 3, "property value count"),
    ];
    for (octet, value, name) in cases {
        let mut packet = good.clone();
        packet[octet] = value;
        let found = decode(&packet).expect_err(name);
        assert!(matches!(found, Malformed::Field { name: said, .. } if said == name), "{found:?}");
    }
    let mut packet = good.clone();
    packet[4] = b'B';
    assert_eq!(decode(&packet), Err(Malformed::NotAcn));
    packet[4] = b'A';
    packet[21] = 9;
    assert_eq!(decode(&packet), Ok(Packet::Other { vector: 9 }));
}

#[test]
fn a_late_packet_is_stale_and_a_restarted_sender_is_not() {
    let cases = [(10, 11, false), (10, 10, true), (255, 0, false), (30, 11, true), (30, 10, false)];
    for (last, next, stale) in cases {
        assert_eq!(is_stale(last, next), stale, "{last} then {next}");
    }
}

#[test]
fn universes_are_1_to_63999() {
    let cases = [("0", None), ("1", Some(1)), ("63999", Some(63_999)), ("64000", None), ("", None)];
    for (text, number) in cases {
        let found = <Universe as Number>::parse(text).map(|universe| universe.number());
        assert_eq!(found, number, "{text}");
    }
}
