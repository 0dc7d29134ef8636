//! Routes from the router's side: frames in, what is written.

use clasp_rt_core::message::ParamValue;
use clasp_rt_core::value::{MapWriter, Value, push_bool, push_f64, push_i64, push_str};

use clasp_rt_core::wire::binary::SnapshotBuilder;

use super::*;
use crate::rig::Rig;
use crate::uplink::tests::{bundle_frame, publish_frame, set_frame};

pub(super) fn routes(config: &str) -> Routes {
    let config: Config = toml::from_str(config).unwrap_or_else(|why| panic!("{config}: {why}"));
    Routes::new(&config).expect("routes that work")
}

pub(super) fn rig(config: &str) -> Rig<Routes> {
    Rig::joined(routes(config))
}

#[test]
fn routes_subscribe_once_to_each_pattern() {
    let mut rig = rig(r#"
        [[route]]
        from = ["/osc/1/fader*", "/midi/{channel}/cc/7"]
        to = "/artnet/0/{1}"
        [[route]]
        from = "/osc/1/fader*"
        to = "/copy/{1}"
    "#);
    let expected = ["HELLO routes 0xf3", "SUBSCRIBE 1 /midi/*/cc/7", "SUBSCRIBE 2 /osc/1/fader*"];
    assert_eq!(rig.said.take_lines(), expected);
    let lines = rig.set("/osc/1/fader3", |out| push_f64(out, 0.5));
    assert_eq!(lines, ["SET /artnet/0/3 0.5", "SET /copy/3 0.5"]);
    assert_eq!(rig.set("/midi/9/cc/7", |out| push_i64(out, 64)), ["SET /artnet/0/9 64"]);
    assert_eq!(rig.set("/other", |out| push_i64(out, 64)), [""; 0]);
}

#[test]
fn changed_routes_take_over_without_a_gap_and_the_same_ones_remember() {
    let kept = r#"
        [[route]]
        from = "/in/*"
        to = "/out/{1}"
        transform = [{ type = "smooth", factor = 0.5 }]
    "#;
    let mut rig = rig(kept);
    rig.set("/in/a", |out| push_f64(out, 1.0));
    rig.said.frames.clear();
    let config = format!("{kept}\n[[route]]\nfrom = \"/new\"\nto = \"/out/new\"");
    let config: Config = toml::from_str(&config).expect("TOML");
    let next = open(config).expect("routes that work");
    assert!(rig.bridge.succeed(rig.now, next, &mut rig.said).is_ok());
    let lines = rig.said.take_lines();
    assert_eq!(lines[..2], ["SUBSCRIBE 2 /in/*", "SUBSCRIBE 3 /new"]);
    assert_eq!(lines[2..], ["Unsubscribe { id: 1 }"]);
    // Half of the way from 1, which was remembered.
    assert_eq!(rig.set("/in/a", |out| push_f64(out, 0.0)), ["SET /out/a 0.5"]);
    assert_eq!(rig.set("/new", |out| push_i64(out, 7)), ["SET /out/new 7"]);
    let stranger = crate::patch::open(crate::patch::Config::default()).expect("a patch");
    assert!(rig.bridge.succeed(rig.now, stranger, &mut rig.said).is_err());
}

#[test]
fn a_fader_becomes_a_dimmer() {
    let mut rig = rig(r#"
        [[route]]
        from = "/osc/1/fader{slot}"
        to = "/artnet/0/{slot}"
        transform = [
            { type = "curve", curve_type = "quad_in" },
            { type = "scale", from_min = 0, from_max = 1, to_min = 0, to_max = 255 },
            { type = "to_int" },
        ]
    "#);
    let cases = [(0.0, 0), (0.5, 63), (1.0, 255), (7.0, 255)];
    for (position, level) in cases {
        let lines = rig.set("/osc/1/fader12", |out| push_f64(out, position));
        assert_eq!(lines, [format!("SET /artnet/0/12 {level}")]);
    }
    let lines = rig.set("/osc/1/fader12", |out| push_str(out, "off").expect("short"));
    assert_eq!(lines, ["SET /artnet/0/12 \"off\""]);
}

#[test]
fn remembering_transforms_remember_each_source_for_itself() {
    let mut rig = rig(r#"
        [[route]]
        from = "/in/*"
        to = "/out/{1}"
        transform = [{ type = "smooth", factor = 0.5 }]
    "#);
    let cases = [("a", 0, "0.0"), ("b", 8, "8.0"), ("a", 4, "2.0"), ("b", 0, "4.0")];
    for (name, value, result) in cases {
        let lines = rig.set(&format!("/in/{name}"), |out| push_i64(out, value));
        assert_eq!(lines, [format!("SET /out/{name} {result}")]);
    }
}

#[test]
fn several_sources_fold_into_one_target() {
    let mut rig = rig(r#"
        [[route]]
        from = ["/sensors/**", "/more/{x}"]
        to = "/room/warmest"
        aggregate = { type = "max" }
        then = [{ type = "threshold", value = 30 }]
    "#);
    let cases = [
        ("/sensors/a/t", 20, "false"),
        ("/sensors/b", 31, "true"),
        ("/more/c", 5, "true"),
        ("/sensors/b", 22, "false"),
    ];
    for (address, value, result) in cases {
        let lines = rig.set(address, |out| push_i64(out, value));
        assert_eq!(lines, [format!("SET /room/warmest {result}")], "{address} {value}");
    }
}

#[test]
fn what_is_routed_is_written_as_the_route_says() {
    let cases = [
        ("param", Signal::Event, "SET /b true"),
        ("event", Signal::Stream, "PUBLISH event /b true"),
        ("stream", Signal::Event, "PUBLISH stream /b true"),
        ("same", Signal::Gesture, "PUBLISH gesture /b true"),
        ("same", Signal::Event, "PUBLISH event /b true"),
    ];
    for (write, signal, line) in cases {
        let config = format!("[[route]]\nfrom = \"/a\"\nto = \"/b\"\nwrite = \"{write}\"");
        let mut rig = rig(&config);
        rig.said.frames.clear();
        rig.step(Input::Frame(&publish_frame("/a", signal, |out| push_bool(out, true))));
        assert_eq!(rig.said.take_lines(), [line], "{write} of {signal:?}");
    }
    let mut rig = rig("[[route]]\nfrom = \"/a\"\nto = \"/b\"\nwrite = \"same\"");
    assert_eq!(rig.set("/a", |out| push_bool(out, true)), ["SET /b true"]);
}

#[test]
fn what_is_written_is_claimed_by_who_wrote_what_was_taken() {
    let mut rig = rig(r#"
        sources = true
        [[route]]
        from = "/in/*"
        to = "/rig/{1}"
        [[route]]
        from = "/in/*"
        to = "/high/{1}"
        priority = 120
        [[route]]
        from = "/in/*"
        to = "/sum"
        aggregate = { type = "sum" }
        [[route]]
        from = "/in/*"
        to = "/go"
        write = "event"
    "#);
    let expected = ["HELLO routes 0xf3", "PUBLISH event /clasp/source {tell: true}"];
    assert_eq!(rig.said.take_lines()[..2], expected);
    let mut marker = Vec::new();
    let source = Source { id: "desk", priority: Some(90), by: Some("me") };
    source.push(&mut marker).expect("short");
    let tell = publish_frame("/clasp/source", Signal::Event, |out| out.extend(&marker));
    let set = set_frame("/in/1", |out| push_i64(out, 7));
    rig.step(Input::Frame(&bundle_frame(&[&tell, &set])));
    let expected = [
        "BUNDLE now",
        "  PUBLISH event /clasp/source {id: \"desk\", priority: 90, by: \"me\"}",
        "  SET /rig/1 7",
        "BUNDLE now",
        "  PUBLISH event /clasp/source {id: \"desk\", priority: 120, by: \"me\"}",
        "  SET /high/1 7",
        "SET /sum 7",
        "PUBLISH event /go 7",
    ];
    assert_eq!(rig.said.take_lines(), expected);
    let lines = rig.set("/in/2", |out| push_i64(out, 1));
    let expected = [
        "SET /rig/2 1",
        "BUNDLE now",
        "  PUBLISH event /clasp/source {id: \"routes\", priority: 120}",
        "  SET /high/2 1",
    ];
    assert_eq!(lines[..4], expected, "whose it is was not told");
    let route = "from = \"/a\"\nto = \"/b\"\npriority = 201";
    let config: Config = toml::from_str(&format!("[[route]]\n{route}")).expect("a route");
    let error = Routes::new(&config).err().expect("201 is too much").to_string();
    assert!(error.starts_with("route[0].priority: must be 0 to 200"), "{error}");
}

#[test]
fn what_is_held_is_claimed_at_the_start_and_not_again_when_routes_change() {
    let text = "sources = true\n[[route]]\nfrom = \"/in/*\"\nto = \"/rig/{1}\"";
    let mut rig = rig(text);
    rig.said.frames.clear();
    let value = Value::from_encoded(&[0x01, 1]).expect("a switch");
    let (revision, writer, timestamp_us) = (1, Some("me"), None);
    let param = ParamValue { address: "/in/1", value, revision, writer, timestamp_us };
    let mut held = Vec::new();
    let mut snapshot = SnapshotBuilder::start(&mut held);
    assert!(snapshot.push(&mut held, &param));
    snapshot.finish(&mut held);
    rig.step(Input::Frame(&held));
    let marker = "  PUBLISH event /clasp/source {id: \"me\", by: \"me\"}";
    assert_eq!(rig.said.take_lines(), ["BUNDLE now", marker, "  SET /rig/1 true"]);
    let next = Routes::new(&toml::from_str(text).expect("routes")).expect("routes");
    assert!(rig.bridge.succeed(rig.now, Box::new(next), &mut rig.said).is_ok());
    rig.said.frames.clear();
    rig.step(Input::Frame(&held));
    assert_eq!(rig.said.take_lines(), [""; 0]);
    assert_eq!(rig.set("/in/1", |out| push_i64(out, 5)), ["SET /rig/1 5"]);
}

#[test]
fn full_tables_and_long_addresses_are_counted() {
    let mut rig = rig(r#"
        addresses_max = 2
        [[route]]
        from = "/in/*"
        to = "/a_longer_name/{1}"
        aggregate = { type = "sum" }
    "#);
    for name in ["a", "b", "c", "a"] {
        rig.set(&format!("/in/{name}"), |out| push_i64(out, 1));
    }
    rig.set(&format!("/in/{}", "x".repeat(1_015)), |out| push_i64(out, 1));
    let counters = rig.bridge.counters();
    assert_eq!((counters.overflowed, counters.refused), (1, 1));
}

#[test]
fn mistakes_are_explained_with_the_place_of_their_route() {
    let first = "[[route]]\nfrom = \"/a/*\"\nto = \"/b\"\n";
    let cases = [
        ("from = \"a\"\nto = \"/b\"", "route[1].from: `a` must begin with a slash"),
        ("from = []\nto = \"/b\"", "route[1].from: names no pattern"),
        ("from = \"/a\"\nto = \"/b/{1}\"", "route[1].to: `/b/{1}` uses `{1}`"),
        ("from = [\"/a/*\", \"/a\"]\nto = \"/b/{1}\"", "route[1].to: `/b/{1}` uses `{1}`"),
        ("from = \"/a\"\nto = \"/b/\"", "route[1].to: `/b/` has an empty segment"),
        ("from = \"/a\"\nto = \"/b/*\"", "route[1].to: `/b/*` has a `*`"),
        (
            "from = \"/a\"\nto = \"/b\"\ntransform = [{ type = \"quantize\", steps = 0 }]",
            "route[1].transform[0].steps: must be at least 1",
        ),
        (
            "from = \"/a\"\nto = \"/b\"\ntransform = [{ type = \"invert\" }, { type = \"chain\", \
             transforms = [{ type = \"abs\" }, { type = \"clamp\", min = 2, max = 1 }] }]",
            "route[1].transform[1].transforms[1].min: must not be above max",
        ),
        (
            "from = \"/a\"\nto = \"/b\"\ntransform = [{ type = \"conditional\", \
             condition = { type = \"not\", \
             condition = { type = \"in_range\", min = 2, max = 1 } }, \
             if_true = { type = \"abs\" }, if_false = { type = \"abs\" } }]",
            "route[1].transform[0].condition.condition.min: must not be above max",
        ),
        (
            "from = \"/a\"\nto = \"/b\"\n\
             aggregate = { type = \"moving_average\", window_size = 0 }",
            "route[1].aggregate.window_size: must be 1 to",
        ),
        (
            "from = \"/a\"\nto = \"/b\"\naggregate = { type = \"sum\" }\n\
             then = [{ type = \"scale\", from_min = 1, from_max = 1, to_min = 0, to_max = 1 }]",
            "route[1].then[0].from_max: is from_min, too",
        ),
        (
            "from = \"/a\"\nto = \"/b\"\nthen = [{ type = \"abs\" }]",
            "route[1].then: needs `aggregate`",
        ),
    ];
    for (route, expected) in cases {
        let config = format!("{first}[[route]]\n{route}");
        let config: Config = toml::from_str(&config).expect(route);
        let error = Routes::new(&config).err().expect(route).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    for route in ["from = \"/a\"", "from = \"/a\"\nto = \"/b\"\nscale = 2"] {
        assert!(toml::from_str::<Config>(&format!("[[route]]\n{route}")).is_err(), "{route}");
    }
}

#[test]
fn what_losers_say_is_passed_on_where_the_target_is_arbitrated_and_else_as_what_it_is() {
    let mut rig = rig(r#"
        sources = true
        arbitrated = ["/rig/**"]
        [[route]]
        from = "/in/*"
        to = "/rig/{1}"
        transform = [{ type = "scale", from_min = 0, from_max = 1, to_min = 0, to_max = 100 }]
        [[route]]
        from = "/in/*"
        to = "/next/{1}"
        [[route]]
        from = "/in/*"
        to = "/sum"
        aggregate = { type = "sum" }
        [[route]]
        from = "/in/*"
        to = "/go"
        write = "event"
    "#);
    let lines = rig.said.take_lines();
    assert!(lines.contains(&"SUBSCRIBE 2 /clasp/source/bids/in/*".to_owned()), "{lines:?}");
    let bid = publish_frame("/clasp/source/bids/in/1", Signal::Event, |out| {
        let mut map = MapWriter::start(out);
        push_str(map.entry("id").expect("short"), "desk").expect("short");
        push_i64(map.entry("priority").expect("short"), 90);
        push_str(map.entry("by").expect("short"), "me").expect("short");
        push_f64(map.entry("value").expect("short"), 0.5);
    });
    rig.step(Input::Frame(&bid));
    let source = "id: \"desk\", priority: 90, by: \"me\"";
    let expected = [
        "BUNDLE now".to_owned(),
        format!("  PUBLISH event /clasp/source {{{source}}}"),
        "  SET /rig/1 50.0".to_owned(),
        format!("PUBLISH event /clasp/source/bids/next/1 {{{source}, value: 0.5}}"),
    ];
    assert_eq!(rig.said.take_lines(), expected);
}
