//! The busy-polling client against scripts, over both transports.

mod peer;

use clasp_rt_client::direct::Direct;
use clasp_rt_client::{ConnectError, Features, Qos};
use clasp_rt_core::message::Message;
use clasp_rt_core::wire::binary;
use peer::{Router, SCHEMES};

fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode(message, Qos::Fire, &mut frame).unwrap();
    frame
}

#[test]
fn frames_go_both_ways_in_order_and_none_is_missing() {
    const COUNT: usize = 2_000;
    for scheme in SCHEMES {
        let router = Router::start(scheme, |door| {
            let mut peer = door.welcome();
            for expected in 0..COUNT {
                let address = format!("/{expected}");
                peer.expect("GET", |m| matches!(m, Message::Get { address: a } if *a == address));
                let address = format!("{address}/back");
                peer.send(&Message::Get { address: &address });
            }
            peer.until_the_end();
        });
        let (mut direct, session) =
            Direct::join(&router.url(), "bench", None, Features::from_bits(0)).unwrap();
        assert_eq!(session.len(), 36);
        let addresses = (0..COUNT).map(|number| format!("/{number}"));
        let frames: Vec<_> = addresses.map(|a| frame(&Message::Get { address: &a })).collect();
        for frame in &frames[..10] {
            direct.send_frame(frame).unwrap();
        }
        direct.send_frames(frames[10..].iter().map(Vec::as_slice)).unwrap();

        // The snapshot on connect is the first.
        let mut received = Vec::new();
        while received.len() < 1 + COUNT {
            direct.poll(|frame| received.push(frame.to_vec())).unwrap();
        }
        for (number, back) in received[1..].iter().enumerate() {
            assert_eq!(*back, frame(&Message::Get { address: &format!("/{number}/back") }));
        }
        direct.close();
        router.finish();
    }
}

#[test]
fn a_router_that_goes_away_ends_the_polling() {
    for scheme in SCHEMES {
        let router = Router::start(scheme, |door| door.accept().close(1001));
        let mut direct = Direct::connect(&router.url()).unwrap();
        let end = loop {
            if let Err(error) = direct.poll(|_| panic!("nothing was sent")) {
                break error;
            }
        };
        assert!(!end.to_string().is_empty());
        router.finish();
    }
}

#[test]
fn a_refusal_is_told_when_joining() {
    let router = Router::start(SCHEMES[0], |door| {
        let mut peer = door.accept();
        peer.expect("HELLO", |message| matches!(message, Message::Hello(_)));
        peer.send_error(501, "full", None);
        peer.close(1013);
    });
    let joined = Direct::join(&router.url(), "bench", None, Features::from_bits(0));
    assert!(matches!(joined, Err(ConnectError::Refused { code: 501, .. })));
    router.finish();
}
