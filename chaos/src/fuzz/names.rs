//! Names that strangers write: topics and filters of MQTT, paths and entity tags of HTTP, and
//! token files.

use clasp_rt_core::shard::tokens;
use clasp_rt_core::{address, pattern};
use clasp_rt_worker::http::address::Namespace;
use clasp_rt_worker::http::condition::Condition;
use clasp_rt_worker::mqtt::topic::{Filter, is_topic, push_path, push_topic};
use http::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};

/// The texts of an input, which zeros part.
fn texts(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned())
}

/// A filter, and topics: each is an address and comes back, and a filter means the topics that its
/// pattern does.
pub fn topics(bytes: &[u8]) {
    let mut texts = texts(bytes);
    let Some(filter) = texts.next() else { return };
    let filter = Filter::parse(&filter);
    let pattern = filter.as_ref().and_then(Filter::path);
    let pattern = pattern.filter(|pattern| pattern::check(pattern).is_ok());
    for topic in texts {
        path_of(&topic);
        let mut path = String::from("/mqtt");
        if !is_topic(&topic) || !push_path(&topic, &mut path) {
            continue;
        }
        let rest = path.strip_prefix("/mqtt").expect("what was there stays");
        let mut again = String::from("x");
        assert!(push_topic(rest, &mut again), "{topic:?} is {rest:?}, which is no topic");
        assert_eq!(again, format!("x{topic}"), "by way of {rest:?}");
        address::check(rest).expect("an address");
        let (Some(filter), Some(pattern)) = (&filter, &pattern) else { continue };
        // A broker's own topics are hidden from wildcards, and an address hides nothing.
        let is_hidden = topic.starts_with('$') && filter.as_str().starts_with(['+', '#']);
        let means = pattern::matches(pattern, rest) && !is_hidden;
        assert_eq!(filter.means(&topic), means, "{filter:?} as {pattern:?}, {topic:?} as {rest:?}");
    }
}

/// Any text as an address: where it is a topic, that is one that may be published to, and is the
/// same address again.
fn path_of(text: &str) {
    let mut topic = String::new();
    if address::check(text).is_err() || !push_topic(text, &mut topic) {
        return assert!(topic.is_empty());
    }
    assert!(is_topic(&topic) || topic.is_empty(), "{text:?} is {topic:?}");
    let mut path = String::new();
    if push_path(&topic, &mut path) {
        let mut again = String::new();
        assert!(push_topic(&path, &mut again));
        assert_eq!(again, topic, "{text:?} by way of {path:?}");
    }
}

/// A token file: what is read can be written and read again as the same, and bad lines are told in
/// their order.
pub fn token_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match tokens::parse_file(&text) {
        Err(bad) => {
            assert!(!bad.is_empty() && bad.is_sorted_by_key(|bad| bad.line));
            assert!(bad.last().is_some_and(|bad| bad.line <= text.lines().count()));
        }
        Ok(grants) => {
            let mut written = String::new();
            for grant in &grants {
                assert!(!grant.scopes.is_empty(), "a token that may do nothing");
                written += &grant.token;
                for scope in &grant.scopes {
                    pattern::check(&scope.pattern).expect("a pattern");
                    let action = format!("{:?}", scope.action).to_lowercase();
                    written += &format!(" {action}:{}", scope.pattern);
                }
                if let Some(seconds) = grant.expires_unix_s {
                    written += &format!(" exp={seconds}");
                }
                written.push('\n');
            }
            assert_eq!(tokens::parse_file(&written).as_ref(), Ok(&grants), "{written}");
        }
    }
}

/// The namespace of a service, the path of a URL, and the tags of a request, which zeros part.
pub fn http_path(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (namespace, path) = (text(), text());
    if let Ok(namespace) = Namespace::new(&namespace) {
        named(&namespace, &path);
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [IF_MATCH, IF_NONE_MATCH].iter().cycle().zip(parts) {
        if let Ok(value) = HeaderValue::from_bytes(value).map(|value| (name.clone(), value)) {
            headers.append(value.0, value.1);
        }
    }
    if let Ok(condition) = Condition::of(&headers) {
        met(&condition);
    }
}

/// An address that a path means has a path that means it, and lies below its pattern.
fn named(namespace: &Namespace, path: &str) {
    let wanted = namespace.pattern_of(path);
    if let Ok(wanted) = &wanted {
        pattern::check(wanted).expect("a pattern");
    }
    let Ok(found) = namespace.address_of(path) else { return };
    address::check(&found).expect("an address");
    let outside = namespace.strip(&found).expect("it lies in the namespace");
    let escaped = |byte: u8| match byte {
        b'/' => "/".to_owned(),
        byte => format!("%{byte:02x}"),
    };
    let written: String = outside.bytes().map(escaped).collect();
    assert_eq!(namespace.address_of(&written), Ok(found.clone()), "{path:?} as {written:?}");
    if let Ok(wanted) = wanted
        && !found.ends_with('/')
    {
        assert!(pattern::matches(&wanted, &found), "{path:?}: {wanted:?} and {found:?}");
    }
}

/// A condition means what it says, and is the same when it is written again.
fn met(condition: &Condition) {
    let tags = |tags: &[u64]| -> String { tags.iter().map(|tag| format!("\"{tag}\",")).collect() };
    let (name, written) = match condition {
        Condition::Any => return assert!(condition.is_met(None) && condition.is_met(Some(1))),
        Condition::Exists => (IF_MATCH, "*".to_owned()),
        Condition::Absent => (IF_NONE_MATCH, "*".to_owned()),
        Condition::OneOf(these) => {
            assert!(these.iter().all(|tag| condition.is_met(Some(*tag))));
            (IF_MATCH, tags(these))
        }
        Condition::NoneOf(these) => {
            assert!(!these.iter().any(|tag| condition.is_met(Some(*tag))));
            (IF_NONE_MATCH, tags(these))
        }
    };
    let is_for_none = matches!(condition, Condition::Absent | Condition::NoneOf(_));
    assert_eq!(condition.is_met(None), is_for_none);
    let mut headers = HeaderMap::new();
    headers.append(name, HeaderValue::from_str(&written).expect("text"));
    assert_eq!(Condition::of(&headers).as_ref(), Ok(condition));
}

fn seeds_of(texts: &[&[&str]]) -> Vec<Vec<u8>> {
    texts.iter().map(|texts| texts.join("\0").into_bytes()).collect()
}

/// Filters, each with topics that it means and some that it does not.
pub fn topic_seeds() -> Vec<Vec<u8>> {
    seeds_of(&[
        &["a/+/c", "a/b/c", "a//c", "a/c", "/a/b/c/d"],
        &["#", "a", "/", "$SYS/broker/load", "stage/fader/1"],
        &["a/#", "a", "a/b", "a/", "ab"],
        &["$share/g/$SYS/#", "$SYS/x", "$SYS"],
        &["+/+", "/a", "a/", "*/%", "%2B/%23/%25"],
        &["100%/*", "100%/*", "/100%25/%2A", "/a+b/#1", "/%"],
        &["b\u{fc}hne/+", "b\u{fc}hne/\u{1f4a1}", "b\u{fc}hne/ 1"],
    ])
}

/// Files as a person writes them.
pub fn token_seeds() -> Vec<Vec<u8>> {
    seeds_of(&[
        &["cpsk_1\ncpsk_2 read:/a/**,w:/b exp=1790000000 # stage left\n"],
        &["# tokens\n\nboss admin:/**\r\nsensor write:/mqtt/sensors/**\n"],
        &["a r:/x\na r:/y\nb peek:/x\nc exp=soon\nd exp=1 exp=2\n"],
        &["\u{fc} *:/**/\u{fc}*,,read:/a:b exp=18446744073709551615"],
    ])
}

/// Paths in a namespace, with tags.
pub fn path_seeds() -> Vec<Vec<u8>> {
    seeds_of(&[
        &["", "/lights/1", "\"7\"", "*"],
        &["/http", "/b%C3%BChne/a%20b/", "W/\"3\", \"x\" , \"5\""],
        &["/a/b", "lights/*/level", "", "\"1\",\"18446744073709551615\""],
        &["", "/a%2Fb", "*", "*"],
        &["", "/**/%2A/a%25b", "7"],
    ])
}
