//! Address templates: which addresses a route takes, and what it calls them afterwards.
//!
//! `from` is a CLASP pattern whose wildcards are captured: `*` within a segment, `**` for any
//! number of segments, `{name}` for a `*` with a name. `to` names them again, by number or by name:
//!
//! | from | address | to | becomes |
//! |---|---|---|---|
//! | `/osc/1/fader*` | `/osc/1/fader7` | `/artnet/0/{1}` | `/artnet/0/7` |
//! | `/dmx/{universe}/{slot}` | `/dmx/3/12` | `/artnet/{universe}/{slot}` | `/artnet/3/12` |
//! | `/stage/**` | `/stage/left/spot` | `/backup/{1}` | `/backup/left/spot` |
//!
//! Here a wildcard stands for at least one byte (`fader*` does not take `fader`), so that what `to`
//! makes is an address whatever was captured.

use std::fmt;
use std::ops::Range;

use clasp_rt_core::limits::ADDRESS_BYTES_MAX;

/// Why a pattern or a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    NoSlash,
    EmptySegment,
    /// Two `**` would make it unclear which of them stands for what.
    TwoMany,
    /// A brace that opens or closes nothing, or holds no name.
    Brace,
    /// A name used for two captures.
    NameTwice(String),
    /// `to` uses a number or name that `from` does not capture.
    Unknown(String),
    /// `to` has a `*`; captures go by `{1}` or `{name}`.
    Star,
    TooLong {
        got: usize,
    },
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlash => f.write_str("must begin with a slash"),
            Self::EmptySegment => {
                f.write_str("has an empty segment (two slashes, or one at its end)")
            }
            Self::TwoMany => f.write_str("has more than one `**`"),
            Self::Brace => f.write_str("braces hold a number or a name of a-z, 0-9 and _"),
            Self::NameTwice(name) => write!(f, "captures `{name}` twice"),
            Self::Unknown(name) => write!(f, "uses `{{{name}}}`, which `from` does not capture"),
            Self::Star => {
                f.write_str("has a `*`; what `from` captured is named {1}, {2} or {name}")
            }
            Self::TooLong { got } => {
                write!(f, "has {got} bytes, an address has at most {ADDRESS_BYTES_MAX}")
            }
        }
    }
}

/// The `from` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What to SUBSCRIBE to: takes at least the addresses that [`Pattern::captures`] takes.
    subscription: String,
    segments: Vec<Segment>,
    /// One for each capture, in order; empty where it has none.
    names: Vec<String>,
    /// What every address that is taken begins with, so that most others are told apart at once.
    head: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// The texts around the wildcards: `fader*` is `["fader", ""]`, a plain name is alone.
    One(Vec<String>),
    /// `**`.
    Many,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, TemplateError> {
        let mut names = Vec::new();
        let mut segments = Vec::new();
        for segment in segments_of(text)? {
            if segment == "**" {
                if segments.contains(&Segment::Many) {
                    return Err(TemplateError::TwoMany);
                }
                names.push(String::new());
                segments.push(Segment::Many);
            } else {
                segments.push(Segment::One(texts_around_wildcards(segment, &mut names)?));
            }
        }
        for (index, name) in names.iter().enumerate() {
            if !name.is_empty() && names[..index].contains(name) {
                return Err(TemplateError::NameTwice(name.clone()));
            }
        }
        let subscription = subscription(&segments);
        let head = subscription.split('*').next().unwrap_or("").trim_end_matches('/').to_string();
        Ok(Self { subscription, segments, names, head })
    }

    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// Which capture is called `name`, by its number from 1 or by its name.
    pub fn capture(&self, name: &str) -> Option<usize> {
        capture_index(checked_name(name).ok()?, self).ok()
    }

    /// Whether `address` is taken; then `captures` holds the range that each wildcard stands for.
    pub fn captures(&self, address: &str, captures: &mut Vec<Range<usize>>) -> bool {
        captures.clear();
        if !address.starts_with(&self.head) {
            return false;
        }
        let Some(rest) = address.strip_prefix('/') else { return false };
        let found = rest.split('/').count();
        let fixed = self.segments.iter().filter(|segment| **segment != Segment::Many).count();
        let has_many = fixed < self.segments.len();
        if found < fixed || (found > fixed && !has_many) || rest.split('/').any(str::is_empty) {
            return false;
        }
        let mut start = 1;
        for segment in &self.segments {
            match segment {
                Segment::One(texts) => {
                    let end = segment_end(address, start);
                    if !glob(address, start..end, texts, captures) {
                        return false;
                    }
                    start = end + 1;
                }
                Segment::Many => {
                    let first = start;
                    for _ in 0..found - fixed {
                        start = segment_end(address, start) + 1;
                    }
                    captures.push(first..start.saturating_sub(1).max(first));
                }
            }
        }
        true
    }
}

/// The `to` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Capture(usize),
}

impl Template {
    /// Reads a template that may use what `from` captures. Whatever is captured, what it makes is a
    /// valid address, unless it is too long.
    pub fn new(text: &str, from: &Pattern) -> Result<Self, TemplateError> {
        if text.contains('*') {
            return Err(TemplateError::Star);
        }
        let segments = segments_of(text)?
            .map(|segment| pieces(segment, from))
            .collect::<Result<Vec<_>, TemplateError>>()?;
        Ok(Self { segments })
    }

    /// Writes the address into `out`. A segment that is empty because `**` stood for nothing is
    /// left out. `false`: the address would be too long.
    pub fn fill(&self, address: &str, captures: &[Range<usize>], out: &mut String) -> bool {
        out.clear();
        for segment in &self.segments {
            out.push('/');
            let start = out.len();
            for piece in segment {
                match piece {
                    Piece::Text(text) => out.push_str(text),
                    Piece::Capture(index) => out.push_str(
                        captures
                            .get(*index)
                            .and_then(|range| address.get(range.clone()))
                            .unwrap_or(""),
                    ),
                }
            }
            if out.len() == start {
                out.pop();
            }
        }
        if out.is_empty() {
            out.push('/');
        }
        out.len() <= ADDRESS_BYTES_MAX
    }
}

fn segments_of(text: &str) -> Result<impl Iterator<Item = &str>, TemplateError> {
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(TemplateError::TooLong { got: text.len() });
    }
    let rest = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
    if rest.split('/').any(str::is_empty) {
        return Err(TemplateError::EmptySegment);
    }
    Ok(rest.split('/'))
}

/// Cuts `segment` at its wildcards and appends their names, empty for `*`.
fn texts_around_wildcards(
    segment: &str,
    names: &mut Vec<String>,
) -> Result<Vec<String>, TemplateError> {
    let mut texts = vec![String::new()];
    let mut rest = segment;
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            // Within a segment `**` is the same as `*`.
            '*' => {
                rest = rest.trim_start_matches('*');
                names.push(String::new());
                texts.push(String::new());
            }
            '{' => {
                let (name, after) = rest.split_once('}').ok_or(TemplateError::Brace)?;
                names.push(checked_name(name)?.to_string());
                texts.push(String::new());
                rest = after;
            }
            '}' => return Err(TemplateError::Brace),
            _ => texts.last_mut().expect("begins with one").push(next),
        }
    }
    Ok(texts)
}

fn pieces(segment: &str, from: &Pattern) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = segment;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(TemplateError::Brace)?;
        pieces.push(Piece::Text(text.to_string()));
        pieces.push(Piece::Capture(capture_index(checked_name(name)?, from)?));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_string()));
    let stray = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains('}'));
    if pieces.iter().any(stray) { Err(TemplateError::Brace) } else { Ok(pieces) }
}

fn capture_index(name: &str, from: &Pattern) -> Result<usize, TemplateError> {
    let unknown = || TemplateError::Unknown(name.to_string());
    match name.parse::<usize>() {
        Ok(number) if (1..=from.names.len()).contains(&number) => Ok(number - 1),
        Ok(_) => Err(unknown()),
        Err(_) => from.names.iter().position(|known| known == name).ok_or_else(unknown),
    }
}

fn checked_name(name: &str) -> Result<&str, TemplateError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.is_empty() && name.chars().all(allowed) { Ok(name) } else { Err(TemplateError::Brace) }
}

fn subscription(segments: &[Segment]) -> String {
    let mut pattern = String::new();
    for segment in segments {
        pattern.push('/');
        match segment {
            Segment::One(texts) => pattern.push_str(&texts.join("*")),
            Segment::Many => pattern.push_str("**"),
        }
    }
    pattern
}

fn segment_end(address: &str, start: usize) -> usize {
    let rest = address.get(start..).unwrap_or("");
    start + rest.find('/').unwrap_or(rest.len())
}

/// Matches one segment. Each wildcard takes as little as it can, the last one the rest.
fn glob(
    address: &str,
    segment: Range<usize>,
    texts: &[String],
    captures: &mut Vec<Range<usize>>,
) -> bool {
    let (Some(name), [first, middle @ ..]) = (address.get(segment.clone()), texts) else {
        return false;
    };
    let [middle @ .., last] = middle else { return name == first };
    if !name.starts_with(first.as_str()) || !name.ends_with(last.as_str()) {
        return false;
    }
    let mut start = segment.start + first.len();
    let end = segment.end - last.len();
    for text in middle {
        // One byte at least for the wildcard before `text`; a char boundary, or nothing is found.
        let Some(after) = next_char(address, start) else { return false };
        let Some(found) = address.get(after..end).and_then(|rest| rest.find(text.as_str())) else {
            return false;
        };
        captures.push(start..after + found);
        start = after + found + text.len();
    }
    captures.push(start..end);
    start < end
}

fn next_char(address: &str, start: usize) -> Option<usize> {
    Some(start + address.get(start..)?.chars().next()?.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(from: &str, to: &str, address: &str) -> Option<String> {
        let from = Pattern::new(from).expect(from);
        let to = Template::new(to, &from).expect(to);
        let (mut captures, mut out) = (Vec::new(), String::new());
        (from.captures(address, &mut captures) && to.fill(address, &captures, &mut out))
            .then_some(out)
    }

    #[test]
    fn what_from_captures_is_named_again_by_to() {
        let cases = [
            ("/osc/1/fader*", "/artnet/0/{1}", "/osc/1/fader7", Some("/artnet/0/7")),
            ("/osc/1/fader*", "/artnet/0/{1}", "/osc/1/fader", None),
            ("/osc/1/fader*", "/artnet/0/{1}", "/osc/1/fader7/z", None),
            ("/osc/1/fader*", "/artnet/0/{1}", "/osc/2/fader7", None),
            ("/dmx/{universe}/{slot}", "/a/{slot}/{universe}", "/dmx/3/12", Some("/a/12/3")),
            ("/dmx/{universe}/{slot}", "/a/{2}/{1}", "/dmx/3/12", Some("/a/12/3")),
            ("/dmx/{universe}/{slot}", "/a/{2}", "/dmx/3/", None),
            ("/stage/**", "/backup/{1}", "/stage/left/spot", Some("/backup/left/spot")),
            ("/stage/**", "/backup/{1}", "/stage", Some("/backup")),
            ("/stage/**", "/backup/{1}/x", "/stage", Some("/backup/x")),
            ("/stage/**", "/backup/{1}", "/stage/left/", None),
            ("/stage/**", "/backup/{1}", "/stages/left", None),
            ("/**", "/{1}", "/a/b", Some("/a/b")),
            ("/**/level", "/{1}", "/level", Some("/")),
            ("/a/**/{last}", "/b/{last}/{1}", "/a/x", Some("/b/x")),
            ("/a/**/{last}", "/b/{last}/{1}", "/a/x/y/z", Some("/b/z/x/y")),
            ("/a/**/z/*", "/{1}/{2}", "/a/x/y/z/w", Some("/x/y/w")),
            ("/a/**/z/*", "/{1}/{2}", "/a/x/y/z", None),
            ("/a", "/b", "/a", Some("/b")),
            ("/a", "/b", "/ab", None),
            ("/a", "/b", "a", None),
            ("/x*y*z", "/{1}-{2}", "/xaybz", Some("/a-b")),
            ("/x*y*z", "/{1}-{2}", "/xayyz", Some("/a-y")),
            ("/x*y*z", "/{1}-{2}", "/xyz", None),
            ("/x*y*z", "/{1}-{2}", "/xaybyc", None),
            ("/x**z", "/{1}", "/xaz", Some("/a")),
            ("/é*", "/{1}", "/éü", Some("/ü")),
            ("/*ü*", "/{2}{1}", "/aüé", Some("/éa")),
            ("/*x*", "/{2}{1}", "/ééxü", Some("/üéé")),
        ];
        for (from, to, address, result) in cases {
            assert_eq!(mapped(from, to, address).as_deref(), result, "{from} -> {to} of {address}");
        }
    }

    #[test]
    fn a_pattern_subscribes_to_what_it_takes() {
        let cases = [
            ("/osc/1/fader*", "/osc/1/fader*"),
            ("/dmx/{universe}/{slot}", "/dmx/*/*"),
            ("/stage/**/x{a}y", "/stage/**/x*y"),
        ];
        for (from, subscription) in cases {
            assert_eq!(Pattern::new(from).expect(from).subscription(), subscription);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let long = format!("/{}", "a".repeat(ADDRESS_BYTES_MAX));
        let patterns = [
            ("osc", TemplateError::NoSlash),
            ("", TemplateError::NoSlash),
            ("/a//b", TemplateError::EmptySegment),
            ("/a/", TemplateError::EmptySegment),
            ("/**/a/**", TemplateError::TwoMany),
            ("/{a}/{a}", TemplateError::NameTwice("a".into())),
            ("/{a", TemplateError::Brace),
            ("/a}", TemplateError::Brace),
            ("/{}", TemplateError::Brace),
            ("/{A-b}", TemplateError::Brace),
            (&long, TemplateError::TooLong { got: ADDRESS_BYTES_MAX + 1 }),
        ];
        for (text, error) in patterns {
            assert_eq!(Pattern::new(text), Err(error), "{text}");
        }
        let from = Pattern::new("/a/{name}/*").expect("a pattern");
        let templates = [
            ("x", TemplateError::NoSlash),
            ("/x/*", TemplateError::Star),
            ("/x//y", TemplateError::EmptySegment),
            ("/x/{3}", TemplateError::Unknown("3".into())),
            ("/x/{0}", TemplateError::Unknown("0".into())),
            ("/x/{nome}", TemplateError::Unknown("nome".into())),
            ("/x/{1", TemplateError::Brace),
            ("/x/1}", TemplateError::Brace),
            ("/x/{1}}", TemplateError::Brace),
        ];
        for (text, error) in templates {
            assert_eq!(Template::new(text, &from), Err(error), "{text}");
        }
    }

    #[test]
    fn an_address_that_grows_too_long_is_not_made() {
        let long = format!("/a/{}", "x".repeat(ADDRESS_BYTES_MAX - 3));
        assert_eq!(mapped("/a/*", "/b/{1}", &long).map(|made| made.len()), Some(ADDRESS_BYTES_MAX));
        assert_eq!(mapped("/a/*", "/bb/{1}", &long), None);
    }
}
