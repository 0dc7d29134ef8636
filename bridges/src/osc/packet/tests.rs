//! OSC packets: broken ones by table, arbitrary ones against rosc.

use proptest::prelude::*;
use rosc::{OscMessage, OscPacket, OscType};

use super::*;

fn message(address: &str, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::default(), Vec::new());
    writer.clear();
    write(&mut writer);
    write_message(&mut out, address, &writer);
    out
}

/// A bundle of bundles, `depth` of them, around a message.
fn nested(depth: usize) -> Vec<u8> {
    let mut packet = message("/x", |_| {});
    for _ in 0..depth {
        let mut bundle = Vec::new();
        write_bundle_head(&mut bundle, TimeTag::IMMEDIATELY);
        push_element(&mut bundle, &packet);
        packet = bundle;
    }
    packet
}

#[test]
fn broken_packets_are_refused_with_the_reason() {
    let many = {
        let mut bundle = Vec::new();
        write_bundle_head(&mut bundle, TimeTag::IMMEDIATELY);
        for _ in 0..=MESSAGES_MAX {
            push_element(&mut bundle, b"/x\0\0,\0\0\0");
        }
        bundle
    };
    let brackets = |tags: String| {
        let mut packet = b"/x\0\0,".to_vec();
        packet.extend_from_slice(tags.as_bytes());
        packet.resize((packet.len() + 1).next_multiple_of(4), 0);
        packet
    };
    let cases: Vec<(Vec<u8>, Malformed)> = vec![
        (b"".to_vec(), Malformed::Empty),
        (b"x\0\0\0".to_vec(), Malformed::NoAddress),
        (b"#bundel\0\0\0\0\0\0\0\0\0".to_vec(), Malformed::NoAddress),
        (b"#bundle\0\0\0\0\0".to_vec(), Malformed::Short),
        (b"/abc".to_vec(), Malformed::Short),
        (b"/x\0\0,i\0\0\0\0\0".to_vec(), Malformed::Short),
        (b"/x\0\0,s\0\0abcd".to_vec(), Malformed::Short),
        (b"/x\0\0,b\0\0\0\0\0\x05abcd".to_vec(), Malformed::Short),
        (b"/x\0\0,b\0\0\xff\xff\xff\xffabcd".to_vec(), Malformed::Short),
        (b"/x\0\0\0\0\0\x07".to_vec(), Malformed::NoTags),
        (b"/x\0\0,q\0\0".to_vec(), Malformed::UnknownTag { tag: b'q' }),
        (b"/x\0\0,[\0\0".to_vec(), Malformed::Brackets),
        (b"/x\0\0,]\0\0".to_vec(), Malformed::Brackets),
        (brackets("[".repeat(17) + &"]".repeat(17)), Malformed::Brackets),
        (b"/\xff\0\0,\0\0\0".to_vec(), Malformed::BadText),
        (b"/x\0\0,c\0\0\x00\x11\x00\x00".to_vec(), Malformed::BadText),
        (nested(DEPTH_MAX + 1), Malformed::TooDeep),
        (nested(3_000), Malformed::TooDeep),
        (many, Malformed::TooManyMessages),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(&bytes), Err(error), "{:?}", &bytes[..bytes.len().min(40)]);
    }
}

#[test]
fn what_some_senders_do_is_understood() {
    let cases: [&[u8]; 4] = [
        // Without type tags and arguments.
        b"/x\0\0",
        // The last blob without its padding.
        b"/x\0\0,b\0\0\0\0\0\x01a",
        // Bytes after the last argument.
        b"/x\0\0,i\0\0\0\0\0\x07abcd",
        // An empty bundle.
        b"#bundle\0\0\0\0\0\0\0\0\x01",
    ];
    for bytes in cases {
        assert!(decode(bytes).is_ok(), "{bytes:?}");
    }
    assert!(decode(&nested(DEPTH_MAX)).is_ok());
}

#[test]
fn a_text_ends_at_its_first_nul() {
    let packet = message("/x", |writer| writer.push(Argument::Text(b"ab\0cd")));
    let Ok(Packet::Message(message)) = decode(&packet) else { panic!("{packet:?}") };
    assert_eq!(message.arguments().collect::<Vec<_>>(), [Argument::Text(b"ab")]);
}

/// What rosc reads, in our words.
fn same(ours: &Packet<'_>, theirs: &OscPacket) -> bool {
    match (ours, theirs) {
        (Packet::Message(ours), OscPacket::Message(theirs)) => {
            let mut arguments = Vec::new();
            flatten(&theirs.args, &mut arguments);
            ours.address == theirs.addr && ours.arguments().eq(arguments)
        }
        (Packet::Bundle(ours), OscPacket::Bundle(theirs)) => {
            let time =
                u64::from(theirs.timetag.seconds) << 32 | u64::from(theirs.timetag.fractional);
            let inner: Vec<_> = ours.packets().collect();
            ours.time.0 == time
                && inner.len() == theirs.content.len()
                && inner.iter().zip(&theirs.content).all(|(ours, theirs)| same(ours, theirs))
        }
        _ => false,
    }
}

fn flatten<'a>(arguments: &'a [OscType], out: &mut Vec<Argument<'a>>) {
    for argument in arguments {
        let argument = match argument {
            OscType::Int(number) => Argument::Int(*number),
            OscType::Float(number) => Argument::Float(*number),
            OscType::Long(number) => Argument::Long(*number),
            OscType::Double(number) => Argument::Double(*number),
            OscType::String(text) => Argument::Text(text.as_bytes()),
            OscType::Blob(blob) => Argument::Blob(blob),
            OscType::Time(time) => {
                Argument::Time(TimeTag(u64::from(time.seconds) << 32 | u64::from(time.fractional)))
            }
            OscType::Char(char) => Argument::Char(*char),
            OscType::Color(c) => Argument::Colour([c.red, c.green, c.blue, c.alpha]),
            OscType::Midi(m) => Argument::Midi([m.port, m.status, m.data1, m.data2]),
            OscType::Bool(flag) => Argument::Bool(*flag),
            OscType::Nil => Argument::Nil,
            OscType::Inf => Argument::Impulse,
            OscType::Array(array) => {
                out.push(Argument::Open);
                flatten(&array.content, out);
                Argument::Close
            }
        };
        out.push(argument);
    }
}

fn argument() -> impl Strategy<Value = OscType> {
    let scalar = prop_oneof![
        any::<i32>().prop_map(OscType::Int),
        any::<f32>()
            .prop_filter("NaN differs from itself", |x| !x.is_nan())
            .prop_map(OscType::Float),
        any::<i64>().prop_map(OscType::Long),
        any::<f64>()
            .prop_filter("NaN differs from itself", |x| !x.is_nan())
            .prop_map(OscType::Double),
        "[a-zü ]{0,9}".prop_map(OscType::String),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(OscType::Blob),
        any::<(u32, u32)>().prop_map(|time| OscType::Time(time.into())),
        any::<char>().prop_map(OscType::Char),
        any::<bool>().prop_map(OscType::Bool),
        Just(OscType::Nil),
        Just(OscType::Inf),
    ];
    scalar.prop_recursive(2, 8, 4, |inner| {
        proptest::collection::vec(inner, 0..4)
            .prop_map(|content| OscType::Array(rosc::OscArray { content }))
    })
}

fn packet() -> impl Strategy<Value = OscPacket> {
    let message = ("/[a-z/]{1,9}[a-z]", proptest::collection::vec(argument(), 0..5))
        .prop_map(|(addr, args)| OscPacket::Message(OscMessage { addr, args }));
    message.prop_recursive(3, 12, 4, |inner| {
        (any::<(u32, u32)>(), proptest::collection::vec(inner, 0..4)).prop_map(|(time, content)| {
            OscPacket::Bundle(rosc::OscBundle { timetag: time.into(), content })
        })
    })
}

proptest! {
    #[test]
    fn what_rosc_writes_is_read_as_it_was_meant(packet in packet()) {
        let bytes = rosc::encoder::encode(&packet).expect("rosc writes it");
        let decoded = decode(&bytes);
        prop_assert!(decoded.is_ok_and(|ours| same(&ours, &packet)), "{decoded:?}");
    }

    #[test]
    fn what_is_written_is_read_by_rosc_alike(packet in packet()) {
        let OscPacket::Message(OscMessage { addr, args }) = &packet else { return Ok(()) };
        let mut arguments = Vec::new();
        flatten(args, &mut arguments);
        let bytes = message(addr, |writer| arguments.into_iter().for_each(|one| writer.push(one)));
        let (rest, theirs) = rosc::decoder::decode_udp(&bytes).expect("rosc reads it");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(theirs, packet);
    }

    #[test]
    fn no_bytes_break_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for head in [&b""[..], b"/x\0\0,", b"#bundle\0"] {
            let packet: Vec<u8> = head.iter().chain(&bytes).copied().collect();
            if let Ok(Packet::Message(message)) = decode(&packet) {
                prop_assert_eq!(message.arguments().count(), message.tags.len());
            }
        }
    }
}
