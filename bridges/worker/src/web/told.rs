//! What the router tells a subscriber, as JSON of one line.

use std::fmt::Write as _;

use clasp_rt_bridges::json;
use clasp_rt_core::message::{ParamValue, Publish, Set};
use clasp_rt_core::signal::Signal;

/// `{"address","value","revision"}`
pub fn set(address: &str, set: &Set<'_>) -> String {
    let mut out = begin(address);
    out.push_str(",\"value\":");
    json::push_text(set.value, &mut out);
    push_number(&mut out, "revision", set.revision);
    out.push('}');
    out
}

/// `{"address","value","revision","timestamp"?}`
pub fn param(address: &str, param: &ParamValue<'_>) -> String {
    let mut out = begin(address);
    out.push_str(",\"value\":");
    json::push_text(param.value, &mut out);
    push_number(&mut out, "revision", Some(param.revision));
    push_number(&mut out, "timestamp", param.timestamp_us);
    out.push('}');
    out
}

/// `{"address","signal","value"?,"samples"?,"rate"?,"id"?,"phase"?,"timestamp"?}`
pub fn publish(address: &str, publish: &Publish<'_>) -> String {
    let mut out = begin(address);
    let signal = publish.signal.unwrap_or(Signal::Event);
    let _ = write!(out, ",\"signal\":\"{}\"", signal.name());
    if let Some(value) = publish.value.or(publish.payload) {
        out.push_str(",\"value\":");
        json::push_text(value, &mut out);
    }
    if let Some(samples) = publish.samples {
        out.push_str(",\"samples\":[");
        for (index, sample) in samples.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = match sample.is_finite() {
                true => write!(out, "{comma}{sample:?}"),
                false => write!(out, "{comma}null"),
            };
        }
        out.push(']');
    }
    push_number(&mut out, "rate", publish.rate.map(u64::from));
    push_number(&mut out, "id", publish.id.map(u64::from));
    if signal == Signal::Gesture
        && let Some(phase) = publish.phase
    {
        let _ = write!(out, ",\"phase\":\"{}\"", phase.name());
    }
    push_number(&mut out, "timestamp", publish.timestamp_us);
    out.push('}');
    out
}

fn begin(address: &str) -> String {
    let mut out = String::from("{\"address\":");
    json::push_string(address, &mut out);
    out
}

fn push_number(out: &mut String, key: &str, number: Option<u64>) {
    if let Some(number) = number {
        // Writing to a string cannot fail.
        let _ = write!(out, ",\"{key}\":{number}");
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::signal::Phase;
    use clasp_rt_core::value::Value;
    use clasp_rt_core::wire::list::Samples;
    use serde_json::{Value as Json, json};

    use super::*;

    #[test]
    fn what_is_told_is_one_line_of_json() {
        let read = |text: String| -> Json {
            assert!(!text.contains('\n'), "{text:?}");
            serde_json::from_str(&text).unwrap_or_else(|why| panic!("{text}: {why}"))
        };
        let mut line = Vec::new();
        clasp_rt_core::value::push_str(&mut line, "a\n\"b\"").expect("short");
        let value = Value::from_encoded(&line).expect("a string");
        let address = "/web/a";
        let told = Set { address, value, revision: Some(3), lock: false, unlock: false, ttl: None };
        let want = json!({ "address": "/a", "value": "a\n\"b\"", "revision": 3 });
        assert_eq!(read(set("/a", &told)), want);

        let mut bytes = Vec::new();
        for sample in [1.0, f64::NAN] {
            Samples::append(&mut bytes, sample).expect("short");
        }
        let gesture = Publish {
            address: "/g",
            signal: Some(Signal::Gesture),
            samples: Some(Samples::from_bytes(&bytes).expect("two")),
            rate: Some(44),
            id: Some(2),
            phase: Some(Phase::Move),
            timestamp_us: Some(5),
            ..Publish::default()
        };
        let want = json!({
            "address": "/g", "signal": "gesture", "samples": [1.0, null], "rate": 44, "id": 2,
            "phase": "move", "timestamp": 5,
        });
        assert_eq!(read(publish("/g", &gesture)), want);
    }
}
