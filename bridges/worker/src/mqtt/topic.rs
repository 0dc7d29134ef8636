//! Topics and addresses: each level of a topic is a segment of an address, and back.
//!
//! | level | segment | why |
//! |---|---|---|
//! | empty, as in `/a` or `a//b` | `%` | an address has no empty segments |
//! | `*` | `%2A` | `*` belongs to patterns |
//! | `%` | `%25` | so that the others can be told from it |
//! | `%2B` | `+` | a topic has no `+`: this is how one that an address has is written |
//! | `%23` | `#` | the same |
//!
//! A filter is a pattern: `+` is `*`, and `#` is `**`, which both stand for the parent, too. Topics
//! that begin with `$` are not meant by a filter that begins with a wildcard (MQTT 5 §4.7.2).

use clasp_rt_core::limits::ADDRESS_BYTES_MAX;

/// Topics are at most so long in MQTT; an address may be shorter.
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// Appends the segments of `topic`, each behind a slash. `false`, and nothing is appended, where
/// that would be longer than an address.
pub fn push_path(topic: &str, out: &mut String) -> bool {
    let before = out.len();
    for level in topic.split('/') {
        out.push('/');
        push_segment(level, out);
        if out.len() > ADDRESS_BYTES_MAX {
            out.truncate(before);
            return false;
        }
    }
    true
}

fn push_segment(level: &str, out: &mut String) {
    if level.is_empty() {
        return out.push('%');
    }
    let mut rest = level;
    while let Some(next) = rest.chars().next() {
        let (text, len) = match next {
            '*' => ("%2A", 1),
            '%' if rest.starts_with("%2B") => ("+", 3),
            '%' if rest.starts_with("%23") => ("#", 3),
            '%' => ("%25", 1),
            other => {
                out.push(other);
                rest = rest.get(other.len_utf8()..).unwrap_or_default();
                continue;
            }
        };
        out.push_str(text);
        rest = rest.get(len..).unwrap_or_default();
    }
}

/// Appends the topic that `path` is, which begins with a slash. `false`, and nothing is appended,
/// where there is none: for `/` and `/%` alone, whose topic would be empty, and for what no topic
/// can hold (MQTT 5 §4.7.3).
pub fn push_topic(path: &str, out: &mut String) -> bool {
    let before = out.len();
    let Some(segments) = path.strip_prefix('/').filter(|segments| !segments.is_empty()) else {
        return false;
    };
    for (index, segment) in segments.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        push_level(segment, out);
    }
    let is_topic = out.get(before..).is_some_and(is_topic);
    if !is_topic {
        out.truncate(before);
    }
    is_topic
}

fn push_level(segment: &str, out: &mut String) {
    if segment == "%" {
        return;
    }
    let mut rest = segment;
    while let Some(next) = rest.chars().next() {
        let (text, len) = match next {
            '+' => ("%2B", 1),
            '#' => ("%23", 1),
            '%' if rest.starts_with("%25") => ("%", 3),
            '%' if rest.starts_with("%2A") => ("*", 3),
            other => {
                out.push(other);
                rest = rest.get(other.len_utf8()..).unwrap_or_default();
                continue;
            }
        };
        out.push_str(text);
        rest = rest.get(len..).unwrap_or_default();
    }
}

/// A filter that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// As it was written, without `$share/GROUP/`.
    filter: String,
    /// Of `$share/GROUP/FILTER`.
    group: Option<String>,
}

/// Why a text is no filter.
pub const FILTER_RULES: &str =
    "a filter is levels between slashes; `+` is one whole level, `#` the last one";

impl Filter {
    /// Checks a filter (MQTT 5 §4.7.1) and takes the group of a shared one off (§4.8.2).
    pub fn parse(text: &str) -> Option<Self> {
        let (group, filter) = match text.strip_prefix("$share/") {
            None => (None, text),
            Some(shared) => {
                let (group, filter) = shared.split_once('/')?;
                if group.is_empty() || group.contains(['+', '#']) {
                    return None;
                }
                (Some(group.to_owned()), filter)
            }
        };
        let is_empty = filter.is_empty() || filter.contains('\0');
        if is_empty || filter.len() > TOPIC_BYTES_MAX {
            return None;
        }
        let last = filter.split('/').count() - 1;
        let good = filter.split('/').enumerate().all(|(index, level)| match level {
            "#" => index == last,
            "+" => true,
            level => !level.contains(['+', '#']),
        });
        good.then(|| Self { filter: filter.to_owned(), group })
    }

    pub fn as_str(&self) -> &str {
        &self.filter
    }

    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// The path that it is as a pattern: `sensors/+/temp/#` is `/sensors/*/temp/**`.
    pub fn path(&self) -> Option<String> {
        let mut path = String::new();
        for level in self.filter.split('/') {
            path.push('/');
            match level {
                "+" => path.push('*'),
                "#" => path.push_str("**"),
                level => push_segment(level, &mut path),
            }
        }
        (path.len() <= ADDRESS_BYTES_MAX).then_some(path)
    }

    /// Whether it means `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.filter.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in self.filter.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether `a/#` means `topic`: as [`Filter::matches`], the parent included.
    pub fn means(&self, topic: &str) -> bool {
        let parent = self.filter.strip_suffix("/#");
        self.matches(topic) || parent.is_some_and(|parent| Self::plain(parent).matches(topic))
    }

    fn plain(filter: &str) -> Self {
        Self { filter: filter.to_owned(), group: None }
    }
}

/// Whether a client may publish to `topic` (MQTT 5 §4.7).
pub fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= TOPIC_BYTES_MAX && !topic.contains(['+', '#', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(topic: &str) -> String {
        let mut path = String::new();
        assert!(push_path(topic, &mut path), "{topic}");
        path
    }

    fn topic(path: &str) -> Option<String> {
        let mut topic = String::new();
        push_topic(path, &mut topic).then_some(topic)
    }

    #[test]
    fn every_topic_is_an_address_and_comes_back_as_it_was() {
        let cases = [
            ("a/b", "/a/b"),
            ("/a", "/%/a"),
            ("a//b/", "/a/%/b/%"),
            ("/", "/%/%"),
            ("a b/ü", "/a b/ü"),
            ("100%/*", "/100%25/%2A"),
            ("$SYS/broker/load", "/$SYS/broker/load"),
            ("a%2Bb/%23/%25/%", "/a+b/#/%2525/%25"),
        ];
        for (written, expected) in cases {
            assert_eq!(path(written), expected);
            assert_eq!(topic(expected).as_deref(), Some(written));
            clasp_rt_core::address::check(expected).expect("an address");
        }
    }

    #[test]
    fn an_address_that_no_topic_can_be_has_none() {
        assert_eq!(topic("/a+b/#1").as_deref(), Some("a%2Bb/%231"));
        assert_eq!(topic("/a/").as_deref(), Some("a/"));
        let long = format!("/{}", "x".repeat(TOPIC_BYTES_MAX + 1));
        for nothing in ["/", "", "a", "/%", "/a\0b", &long] {
            assert_eq!(topic(nothing), None, "{nothing:.9?}");
        }
        let mut out = String::from("stage/");
        assert!(!push_topic("/%", &mut out), "nothing, also behind something");
        assert_eq!(out, "stage/");
        let mut path = String::from("/mqtt");
        assert!(!push_path(&"x/".repeat(ADDRESS_BYTES_MAX), &mut path));
        assert_eq!(path, "/mqtt");
    }

    #[test]
    fn filters_are_checked_and_become_patterns() {
        let cases = [
            ("#", Some(("/**", None))),
            ("a/+/c", Some(("/a/*/c", None))),
            ("a/#", Some(("/a/**", None))),
            ("/+", Some(("/%/*", None))),
            ("$share/g/a/#", Some(("/a/**", Some("g")))),
            ("a*/b", Some(("/a%2A/b", None))),
            ("", None),
            ("a+/b", None),
            ("a/#/b", None),
            ("a#", None),
            ("$share/a", None),
            ("$share//a", None),
            ("$share/g+/a", None),
        ];
        for (text, expected) in cases {
            let parsed = Filter::parse(text);
            let path = parsed.as_ref().and_then(Filter::path);
            let found = path.as_deref().zip(parsed.as_ref()).map(|(path, f)| (path, f.group()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn filters_mean_the_topics_that_the_standard_says() {
        let cases = [
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("+", "/a", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
        ];
        for (filter, topic, expected) in cases {
            let parsed = Filter::parse(filter).expect("a filter");
            assert_eq!(parsed.means(topic), expected, "{filter} {topic}");
        }
    }
}
