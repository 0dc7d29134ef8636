//! What a webhook says, with gaps: the URL and the body that a person wrote, filled for each
//! change.
//!
//! | gap | is filled with |
//! |---|---|
//! | `{address}` | the address |
//! | `{value}` | the value: text as it is, all else as JSON |
//! | `{1}`, `{name}` | what the wildcards of the pattern stand for |

use std::ops::Range;

use clasp_rt_bridges::ConfigError;
use clasp_rt_bridges::map::Pattern;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json};

/// What is no reserved character of a URL stays as it is (RFC 3986 §2.3), and slashes stay.
const IN_PATHS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Bytes of a URL that was filled.
const URL_BYTES_MAX: usize = 8192;

/// Objects and lists inside each other.
const DEPTH_MAX: usize = 32;

/// Text with gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Text(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Plain(String),
    Address,
    Value,
    Capture(usize),
}

/// JSON whose texts have gaps. A text that is nothing but `{value}` becomes the value itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Value,
    Text(Text),
    Other(Json),
    List(Vec<Body>),
    Object(Vec<(String, Body)>),
}

/// What the gaps are filled with.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    pub address: &'a str,
    pub value: &'a Json,
    pub captures: &'a [Range<usize>],
}

impl Text {
    /// Reads what stands under `key`.
    pub fn new(key: &str, text: &str, pattern: &Pattern) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError::new(key, format!("`{text}`: {why}"));
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((plain, after)) = rest.split_once('{') {
            let ends = || wrong("a `{` that no `}` ends".to_owned());
            let (name, after) = after.split_once('}').ok_or_else(ends)?;
            if !plain.is_empty() {
                pieces.push(Piece::Plain(plain.to_owned()));
            }
            let unknown = || {
                let known = "address, value, and what the pattern captures, such as 1";
                wrong(format!("`{{{name}}}` is not known; {known} are"))
            };
            pieces.push(match name {
                "address" => Piece::Address,
                "value" => Piece::Value,
                other => Piece::Capture(pattern.capture(other).ok_or_else(unknown)?),
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Plain(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// What stands before the first gap.
    pub fn head(&self) -> &str {
        match self.0.first() {
            Some(Piece::Plain(head)) => head,
            _ => "",
        }
    }

    fn fill(&self, filling: &Filling<'_>) -> String {
        self.pieces(filling).map(|(text, _)| text).collect()
    }

    /// The same as a URL: what fills a gap is percent-encoded. `None`: it would lead elsewhere, by
    /// `.` or `..` between slashes, or is too long.
    pub fn fill_url(&self, filling: &Filling<'_>) -> Option<String> {
        let mut url = String::new();
        for (text, is_filling) in self.pieces(filling) {
            match is_filling {
                true => url.extend(utf8_percent_encode(&text, IN_PATHS)),
                false => url.push_str(&text),
            }
        }
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let leads_elsewhere = path.split('/').any(|segment| matches!(segment, "." | ".."));
        (url.len() <= URL_BYTES_MAX && !leads_elsewhere).then_some(url)
    }

    /// What each piece becomes, and whether it fills a gap.
    fn pieces<'t>(&'t self, filling: &'t Filling<'_>) -> impl Iterator<Item = (String, bool)> + 't {
        self.0.iter().map(|piece| match piece {
            Piece::Plain(text) => (text.clone(), false),
            Piece::Address => (filling.address.to_owned(), true),
            Piece::Value => match filling.value {
                Json::String(text) => (text.clone(), true),
                other => (other.to_string(), true),
            },
            Piece::Capture(index) => {
                let range = filling.captures.get(*index).cloned();
                let text = range.and_then(|range| filling.address.get(range));
                (text.unwrap_or_default().to_owned(), true)
            }
        })
    }
}

impl Body {
    /// Reads what stands under `key`.
    pub fn new(key: &str, json: &Json, pattern: &Pattern) -> Result<Self, ConfigError> {
        Self::read(key, json, pattern, 0)
    }

    fn read(key: &str, json: &Json, pattern: &Pattern, depth: usize) -> Result<Self, ConfigError> {
        if depth > DEPTH_MAX {
            let why = format!("objects and lists are {DEPTH_MAX} deep at most");
            return Err(ConfigError::new(key, why));
        }
        let inner = |json: &Json| Self::read(key, json, pattern, depth + 1);
        Ok(match json {
            Json::String(text) if text == "{value}" => Self::Value,
            Json::String(text) => Self::Text(Text::new(key, text, pattern)?),
            Json::Array(items) => Self::List(items.iter().map(inner).collect::<Result<_, _>>()?),
            Json::Object(map) => {
                let entries = map.iter().map(|(name, json)| Ok((name.clone(), inner(json)?)));
                Self::Object(entries.collect::<Result<_, ConfigError>>()?)
            }
            other => Self::Other(other.clone()),
        })
    }

    pub fn fill(&self, filling: &Filling<'_>) -> Json {
        match self {
            Self::Value => filling.value.clone(),
            Self::Text(text) => Json::String(text.fill(filling)),
            Self::Other(json) => json.clone(),
            Self::List(items) => Json::Array(items.iter().map(|item| item.fill(filling)).collect()),
            Self::Object(entries) => {
                let entries = entries.iter().map(|(name, body)| (name.clone(), body.fill(filling)));
                Json::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gaps_are_filled_and_urls_are_encoded() {
        let pattern = Pattern::new("/cue/{list}/**").expect("a pattern");
        let address = "/cue/a b/1/gö";
        let mut captures = Vec::new();
        assert!(pattern.captures(address, &mut captures));
        let value = json!(0.5);
        let filling = Filling { address, value: &value, captures: &captures };
        let url = |text: &str| {
            let text = Text::new("url", text, &pattern).expect("known gaps");
            text.fill_url(&filling)
        };
        for (written, filled) in [
            ("http://h/x", "http://h/x"),
            ("http://h/{list}/{2}?v={value}", "http://h/a%20b/1/g%C3%B6?v=0.5"),
            ("http://h/hook{address}", "http://h/hook/cue/a%20b/1/g%C3%B6"),
        ] {
            assert_eq!(url(written).as_deref(), Some(filled), "{written}");
        }
        let body = json!({ "text": "{1} is {value}", "v": "{value}", "n": [1, "{address}"] });
        let body = Body::new("body", &body, &pattern).expect("known gaps");
        let want = json!({ "text": "a b is 0.5", "v": 0.5, "n": [1, address] });
        assert_eq!(body.fill(&filling), want);
        let value = json!("a?b");
        let filling = Filling { value: &value, ..filling };
        let text = Text::new("url", "http://h/{value}", &pattern).expect("known gaps");
        assert_eq!(text.fill_url(&filling).as_deref(), Some("http://h/a%3Fb"));
    }

    #[test]
    fn an_address_leads_to_no_other_place() {
        let pattern = Pattern::new("/a/**").expect("a pattern");
        let text = Text::new("url", "http://h/api/{1}", &pattern).expect("known gaps");
        let long = format!("/a/{}", "ü".repeat(2000));
        for (address, is_good) in
            [("/a/b", true), ("/a/b..c", true), ("/a/../x", false), ("/a/.", false), (&long, false)]
        {
            let mut captures = Vec::new();
            pattern.captures(address, &mut captures);
            let filling = Filling { address, value: &Json::Null, captures: &captures };
            assert_eq!(text.fill_url(&filling).is_some(), is_good, "{address}");
        }
    }

    #[test]
    fn gaps_that_nothing_fills_are_told_under_their_key() {
        let pattern = Pattern::new("/a/*").expect("a pattern");
        for text in ["{2}", "{name}", "{", "{}", "a{value"] {
            let error = Text::new("webhook[0].url", text, &pattern).expect_err(text);
            assert_eq!(error.key, "webhook[0].url");
            assert!(Body::new("body", &json!({ "x": [text] }), &pattern).is_err(), "{text}");
        }
    }
}
