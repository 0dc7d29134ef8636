//! How even the frames are that this machine makes on DMX lines: from the beginning of one to the
//! beginning of the next, a histogram for each line.

use clasp_rt_bridges::devices::{SerialLine, Speech};
use clasp_rt_bridges::{Bridge, StreamPlan};
use clasp_rt_perf::buckets::{self, Reader, Scale, Writer};
use clasp_rt_perf::export::Spread;
use clasp_rt_perf::histogram::Latency;

/// Three digits: 25 µs of 25 ms.
const SCALE: Scale = Scale::new(3);

/// Bytes of one histogram.
pub const BYTES: u64 = SCALE.bytes();

/// One line, for those who look at it.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name of its bridge.
    pub bridge: String,
    /// Its place among the devices of the bridge, from 0.
    pub device: usize,
    counted: Reader,
}

/// A histogram for the thread of one line, and for those who look.
pub fn page() -> (Writer, Reader) {
    buckets::page([SCALE])
}

/// Whether frames on it are made here.
pub fn is_counted(plan: &StreamPlan) -> bool {
    matches!(plan, StreamPlan::Serial(SerialLine { speech: Speech::Dmx { .. }, .. }))
}

/// The histograms of all such lines of `bridge`, in its order.
pub fn of(bridge: &dyn Bridge) -> (Vec<Writer>, Vec<Line>) {
    let plans = bridge.streams().into_iter().enumerate();
    let lines = plans.filter(|(_, plan)| is_counted(plan)).map(|(device, _)| {
        let (writer, counted) = page();
        (writer, Line { bridge: bridge.name().to_owned(), device, counted })
    });
    lines.unzip()
}

impl Line {
    /// One word for it, such as `line-dmx-0`.
    pub fn tag(&self) -> String {
        // In a log of histograms, tags end at a comma.
        let word = |c: char| if c.is_alphanumeric() { c } else { '_' };
        format!("line-{}-{}", self.bridge.chars().map(word).collect::<String>(), self.device)
    }

    /// `None`: it has had no two frames yet.
    pub fn latency(&self) -> Option<Latency> {
        self.counted.latency(0)
    }

    pub fn spread(&self) -> Option<Spread> {
        Some(Spread {
            labels: vec![("bridge", self.bridge.clone()), ("device", self.device.to_string())],
            latency: self.latency()?,
            sum_ns: self.counted.sum_ns(0),
            max_ns: self.counted.max_ns(0),
        })
    }
}

/// The bridge and the place of the device that a tag names.
pub fn of_tag(tag: &str) -> Option<(&str, usize)> {
    let (bridge, device) = tag.strip_prefix("line-")?.rsplit_once('-')?;
    Some((bridge, device.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_counts_where_frames_are_made_here_and_its_tag_names_it() {
        let (mut pages, lines) = of(&*dmx());
        assert_eq!((pages.len(), lines.len()), (2, 2), "an interface with a processor makes them");
        pages[1].record(0, 25_000_000, 3);
        assert!(lines[0].latency().is_none());
        assert_eq!(lines[1].latency().map(|latency| latency.count()), Some(3));
        let tags = lines.iter().map(Line::tag).collect::<Vec<_>>();
        assert_eq!(tags, ["line-dmx__side-0", "line-dmx__side-2"]);
        assert_eq!(of_tag(&tags[1]), Some(("dmx__side", 2)));
        for other in ["shard0-param-same-total", "line-dmx", "line-dmx-x"] {
            assert_eq!(of_tag(other), None, "{other}");
        }
    }

    /// Two open interfaces, and one with a processor between them.
    fn dmx() -> Box<dyn Bridge> {
        let kinds = [("open", "a"), ("pro", "b"), ("open", "c")];
        let devices = kinds.map(|(kind, port)| json!({ "kind": kind, "port": port }));
        let config = json!({ "name": "dmx, side", "device": devices });
        clasp_rt_bridges::dmx::open(serde_json::from_value(config).unwrap()).unwrap()
    }
}
