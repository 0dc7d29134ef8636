//! Time code both ways, and how steady ours is.

use clasp_rt_core::value::{MapWriter, push_str};

use super::*;

fn golden() -> Vec<u8> {
    let path = "/vectors/artnet/table-time-code-ebu.bin";
    std::fs::read(format!("{}{path}", env!("CARGO_MANIFEST_DIR"))).expect("a packet")
}

impl Rig {
    fn show(&mut self, address: &str, text: &str) {
        let frame = set_frame(address, |out| push_str(out, text).expect("short"));
        self.step(Input::Frame(&frame));
    }

    /// The time codes sent so far, as `stream hh:mm:ss:ff rate`; takes all packets.
    fn shown(&mut self) -> Vec<String> {
        let packets = self.said.packets.drain(..);
        let times = packets.filter_map(|(_, bytes)| match packet::decode(&bytes) {
            Ok(Packet::TimeCode(time)) => {
                let packet::TimeCode { stream, hours, minutes, seconds, frames, rate } = time;
                Some(format!("{stream} {hours:02}:{minutes:02}:{seconds:02}:{frames:02} {rate}"))
            }
            _ => None,
        });
        times.collect()
    }
}

#[test]
fn time_code_of_the_network_is_told_in_the_form_of_midi() {
    let mut rig = rig("");
    rig.receive(DESK, &golden());
    let first = ["BUNDLE now", "  SET /artnet/timecode/3 \"21:30:59:24\""];
    assert_eq!(
        rig.said.take_lines(),
        [&first[..], &["  SET /artnet/timecode/3/rate 25.0"]].concat()
    );
    let mut master = golden();
    (master[13], master[14], master[18]) = (0, 2, 2);
    rig.receive(DESK, &master);
    master[14] = 3;
    rig.receive(DESK, &master);
    let lines = rig.said.take_lines();
    assert_eq!(
        lines[1..3],
        ["  SET /artnet/timecode \"21:30:59;02\"", "  SET /artnet/timecode/rate 29.97"]
    );
    assert_eq!(lines[3..], ["SET /artnet/timecode \"21:30:59;03\""]);
    // Of what came while the router took nothing, the newest is told.
    rig.said.room = 0;
    for frame in 4..10 {
        master[14] = frame;
        rig.receive(DESK, &master);
    }
    rig.said.room = usize::MAX;
    rig.wait(PATIENCE);
    assert_eq!(rig.said.take_lines(), ["SET /artnet/timecode \"21:30:59;09\""]);
    for (at, octet) in [(17, 24), (17, 224), (16, 60), (14, 30)] {
        let mut wrong = master.clone();
        wrong[at] = octet;
        rig.receive(DESK, &wrong);
    }
    assert_eq!((rig.said.frames.len(), rig.bridge.counters().refused), (0, 4));
}

#[test]
fn time_code_is_written_as_text_or_as_a_map() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    rig.show("/artnet/timecode", "01:02:03:04");
    let rate = set_frame("/artnet/timecode/7/rate", |out| push_i64(out, 30));
    rig.step(Input::Frame(&rate));
    rig.show("/artnet/timecode/7", "01:02:03:29");
    rig.show("/artnet/timecode/8", "01:02:03;29");
    let map = set_frame("/artnet/timecode/9", |out| {
        let mut map = MapWriter::start(out);
        for (key, value) in
            [("hours", 23.0), ("minutes", 59.0), ("seconds", 58.0), ("frames", 23.0)]
        {
            push_f64(map.entry(key).expect("short"), value);
        }
        push_str(map.entry("type").expect("short"), "film").expect("short");
    });
    rig.step(Input::Frame(&map));
    let expected = ["0 01:02:03:04 1", "7 01:02:03:29 3", "8 01:02:03:29 2", "9 23:59:58:23 0"];
    assert_eq!(rig.shown(), expected);
    for (address, text) in [
        ("/artnet/timecode", "01:02:03:25"),
        ("/artnet/timecode/256", "01:02:03:04"),
        ("/artnet/timecode/07", "01:02:03:04"),
        ("/artnet/timecodes", "01:02:03:04"),
        ("/artnet/timecode/rate", "fast"),
    ] {
        rig.show(address, text);
    }
    assert_eq!((rig.shown().len(), rig.bridge.counters().refused), (0, 5));
    for stream in 10..20 {
        rig.show(&format!("/artnet/timecode/{stream}"), "00:00:00:00");
    }
    assert_eq!((rig.shown().len(), rig.bridge.counters().overflowed), (4, 6));
}

#[test]
fn a_time_that_moves_is_sent_steadily_however_it_is_told() {
    // 29.97 frames a second for two minutes, told every fourth frame and up to 9 ms late.
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    let at = |frame: u64| Span(frame * 1_001_000_000_000 / 30_000);
    let start = rig.now;
    let frames = 3_596;
    let mut sent = Vec::new();
    for frame in (0..frames).step_by(4) {
        let late = Span::from_micros(frame * 7_919 % 9_000);
        let due = start + at(frame) + late;
        while rig.now < due {
            let step = Span::from_micros(500).0.min(due.since(rig.now).0);
            rig.wait(Span(step));
            sent.extend(rig.shown().into_iter().map(|text| (rig.now, text)));
        }
        let time =
            crate::midi::timecode::Timecode::from_count(frame, crate::midi::timecode::Rate::Drop30);
        rig.show("/artnet/timecode", &time.to_string());
        sent.extend(rig.shown().into_iter().map(|text| (rig.now, text)));
    }
    // Every frame once, in order, and none of them away from its instant by more than a frame.
    let texts: Vec<_> = sent.iter().map(|(_, text)| text.as_str()).collect();
    assert!((3_585..=3_600).contains(&texts.len()), "{}", texts.len());
    assert!(texts.contains(&"0 00:01:00:02 2") && !texts.contains(&"0 00:01:00:00 2"));
    let steady = sent.windows(2).skip(20).map(|pair| pair[1].0.since(pair[0].0));
    let frame = at(1).0;
    let worst = steady.map(|apart| apart.0.abs_diff(frame)).max().expect("many");
    assert!(worst < frame / 2, "{worst} ns");
}

#[test]
fn a_time_that_stands_or_ends_is_not_run_on() {
    let mut rig = rig("targets = [\"10.0.0.9\"]\npoll = false");
    for _ in 0..5 {
        rig.show("/artnet/timecode", "00:00:10:00");
        rig.wait(Span::from_millis(100));
    }
    assert_eq!(rig.shown(), ["0 00:00:10:00 1"]);
    for frame in 1..=3 {
        rig.show("/artnet/timecode", &format!("00:00:10:{frame:02}"));
        rig.wait(Span::from_millis(40));
    }
    rig.wait(Span::from_secs(2));
    let shown = rig.shown();
    assert!((6..=10).contains(&shown.len()), "a quarter of a second more: {shown:?}");
    rig.show("/artnet/timecode", "00:00:00:00");
    rig.show("/artnet/timecode", "00:00:20:00");
    assert_eq!(rig.shown(), ["0 00:00:00:00 1", "0 00:00:20:00 1"], "jumps leave at once");
}
