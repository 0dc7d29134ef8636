//! What events mean, whoever is the server: an operation of the router; and how news become events.

use clasp_rt_core::pattern;
use serde_json::{Map, Value as Json, json};

use super::names::Names;
use crate::web::program::OPS;

/// What an event asks of the router: an operation and its keys, `id` among them, so that every
/// answer is given (the acknowledgement has its own number). `plain`: what an event does that is no
/// operation, `set` or `emit`; one that has the name of an operation is never an address. The error
/// says what is wrong.
pub fn asked(
    names: &Names,
    plain: &'static str,
    event: &str,
    mut arguments: Vec<Json>,
) -> Result<(&'static str, Map<String, Json>), String> {
    let op = OPS.into_iter().find(|op| *op == event);
    let (op, mut map) = match (op, arguments.as_mut_slice()) {
        (Some(op), [Json::Object(map)]) => (op, std::mem::take(map)),
        (Some(op), []) => (op, Map::new()),
        (Some(op), _) => {
            return Err(format!("`{op}` asks the router and needs one object: {}", example(op)));
        }
        (None, _) => (plain, names.keys_of(event, arguments)?),
    };
    map.entry("id").or_insert_with(|| json!(0));
    Ok((op, map))
}

/// What an operation needs.
fn example(op: &str) -> &'static str {
    match op {
        "set" | "emit" => "{address: \"/a\", value: 1}",
        "get" => "{address: \"/a\"}",
        "bundle" => "{messages: [{type: \"SET\", address: \"/a\", value: 1}]}",
        "ping" => "{}",
        _ => "{pattern: \"/a/**\"}",
    }
}

/// One event for the other side.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub event: String,
    pub arguments: Vec<Json>,
    /// Of which param it is the value, under this event; `None`: it is no param's value.
    pub param: Option<String>,
    /// Who wrote the value that was held, if that is what is told.
    pub writer: Option<String>,
}

/// How the other side is told `text`, a piece of news of this `kind`: by the event's own name, and
/// as what it is where one of `patterns` asks for its address.
pub fn told(
    names: &Names,
    patterns: &[String],
    kind: &str,
    address: Option<&str>,
    text: &str,
) -> Vec<Told> {
    let mut all = Vec::new();
    let Ok(told) = serde_json::from_str::<Json>(text) else { return all };
    if let Some(params) = told.get("params").and_then(Json::as_array) {
        for param in params {
            let address = param.get("address").and_then(Json::as_str).unwrap_or_default();
            tell_one(names, patterns, "value", address, param, &mut all);
        }
        return all;
    }
    match address {
        Some(address) => tell_one(names, patterns, kind, address, &told, &mut all),
        None => all.push(Told {
            event: kind.to_owned(),
            arguments: vec![told],
            param: None,
            writer: None,
        }),
    }
    all
}

fn tell_one(
    names: &Names,
    patterns: &[String],
    kind: &str,
    address: &str,
    told: &Json,
    all: &mut Vec<Told>,
) {
    let param = || (kind == "value").then(|| address.to_owned());
    let writer = || Some(told.get("writer")?.as_str()?.to_owned());
    if let Some(event) = names.event_of(address) {
        let mut about = told.clone();
        let value = about.as_object_mut().and_then(|about| about.remove("value"));
        let arguments = vec![value.unwrap_or_default(), about];
        all.push(Told { event: event.to_owned(), arguments, param: param(), writer: writer() });
    }
    if patterns.iter().any(|wanted| pattern::matches(wanted, address)) {
        let (event, arguments) = (kind.to_owned(), vec![told.clone()]);
        all.push(Told { event, arguments, param: param(), writer: writer() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_with_one_object_is_that_and_any_other_event_sets_its_address() {
        let names = Names::new("/s", "/");
        let asked = |event: &str, arguments| {
            let (op, map) = asked(&names, "set", event, arguments).expect("it means something");
            (op, Json::Object(map))
        };
        let set = json!({ "address": "/a", "value": 1 });
        let with_id = json!({ "address": "/a", "value": 1, "id": 0 });
        assert_eq!(asked("set", vec![set.clone()]), ("set", with_id));
        let get = json!({ "address": "/a", "id": "mine" });
        assert_eq!(asked("get", vec![get.clone()]), ("get", get));
        let plain = json!({ "address": "/s/level", "value": 0.5, "id": 0 });
        assert_eq!(asked("level", vec![json!(0.5)]), ("set", plain), "no operation");
        assert_eq!(asked("snapshot", vec![]), ("snapshot", json!({ "id": 0 })), "of all");
        for (event, arguments) in
            [("get", vec![json!("/lamp")]), ("set", vec![set, json!(1)]), ("set", vec![json!(0.5)])]
        {
            let why = super::asked(&names, "set", event, arguments).expect_err(event);
            assert!(why.contains(event) && why.contains("{address: \"/a\""), "{why}");
        }
        assert!(super::asked(&names, "emit", "a//b", vec![]).is_err());
    }

    #[test]
    fn news_are_told_by_their_names_and_to_who_asked_for_the_address() {
        let names = Names::new("/s", "/");
        let wanted = ["/a/*".to_owned(), "/s/both".to_owned()];
        let told = |kind, address, text: &str| {
            let all = told(&names, &wanted, kind, address, text);
            let all = all.into_iter().map(|told| (told.event, told.arguments, told.param));
            all.collect::<Vec<_>>()
        };
        let value = r#"{"type":"value","address":"/s/go","value":1,"revision":2}"#;
        let about = json!({ "type": "value", "address": "/s/go", "revision": 2 });
        assert_eq!(
            told("value", Some("/s/go"), value),
            [("go".to_owned(), vec![json!(1), about], Some("/s/go".to_owned()))]
        );
        let event = r#"{"type":"event","address":"/a/x"}"#;
        let whole: Json = serde_json::from_str(event).expect("JSON");
        assert_eq!(told("event", Some("/a/x"), event), [("event".to_owned(), vec![whole], None)]);
        let both = r#"{"type":"snapshot","params":[{"address":"/s/both","value":1,"writer":"w"},
            {"address":"/other","value":2}]}"#;
        let events: Vec<_> =
            told("snapshot", None, both).into_iter().map(|(event, ..)| event).collect();
        assert_eq!(events, ["both", "value"]);
        let error = told("error", None, r#"{"type":"error","code":301}"#);
        assert_eq!((error.len(), error[0].0.as_str()), (1, "error"));
        assert!(told("value", Some("/elsewhere"), value).is_empty());
    }
}
