//! A TOML file that answers with every mistake at once, each with its line and what would be right.
//!
//! serde stops at the first mistake. So a value that does not fit is noted, taken out, and the rest
//! is read again: the structs in `config.rs` stay the only list of keys, and nothing is missed.

use std::fmt;
use std::ops::Range;

use clasp_rt_bridges::words::{explain, one_of};
use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1; `None` where no line is to blame.
    pub line: Option<usize>,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// A value of the file, with the place where it stands.
pub type Node<'a> = Spanned<DeValue<'a>>;

pub struct Document<'a> {
    text: &'a str,
    root: DeTable<'a>,
}

impl<'a> Document<'a> {
    /// Reads `text` as TOML; a broken line does not hide the ones after it.
    pub fn parse(text: &'a str) -> (Self, Vec<Problem>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let problems = errors
            .iter()
            .map(|error| Problem {
                line: error.span().map(|span| line_at(text, span.start)),
                what: error.message().to_owned(),
            })
            .collect();
        (Self { text, root: root.into_inner() }, problems)
    }

    /// The tables and values at the top, with their names.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Node<'a>)> {
        self.root.iter().map(|(key, value)| (key.get_ref().as_ref(), value))
    }

    /// Where the top-level key `name` stands.
    pub fn line_of_section(&self, name: &str) -> Option<usize> {
        let (key, _) = self.root.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(self.line(key.span()))
    }

    /// Where a key stands, written like `server.port` or `rule[1].pattern`.
    ///
    /// A key that the file leaves out answers with the nearest table around it.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        let mut line = None;
        let mut table = &self.root;
        for step in path.split('.') {
            let (name, index) = split_index(step);
            let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else {
                break;
            };
            line = Some(self.line(key.span()));
            let node = match (index, value.get_ref()) {
                (Some(index), DeValue::Array(items)) => match items.get(index) {
                    Some(item) => item,
                    None => break,
                },
                _ => value,
            };
            if index.is_some() {
                line = Some(self.line(node.span()));
            }
            let Some(inner) = node.get_ref().as_table() else { break };
            table = inner;
        }
        line
    }

    /// Reads one table as `T`, noting all that does not fit.
    pub fn decode<T: DeserializeOwned>(
        &self,
        node: &Node<'a>,
        problems: &mut Vec<Problem>,
    ) -> Option<T> {
        let mut node = node.clone();
        let mut removed = self.take_out_infinite(&mut node, problems);
        loop {
            let error = match T::deserialize(node.clone().into_deserializer()) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            if removed.iter().any(|name| misses(error.message(), name)) {
                return None; // Only missing because its value was wrong, which was said already.
            }
            let span = error.span().unwrap_or_else(|| node.span());
            let is_no_word = error.message() == "wanted string or table";
            let words = is_no_word.then(|| words_at::<T>(node.clone(), &span)).flatten();
            let taken = take_out(node.get_mut(), &span);
            let found = self.text.get(span.clone()).unwrap_or_default();
            let why = match words {
                Some(words) => format!("{found} should be {words}"),
                None => explain(found, error.message()),
            };
            // An unknown key is named by what is said of it.
            let of_key = taken.as_ref().filter(|_| !error.message().starts_with("unknown field"));
            let of_key = of_key.map(|key| format!("`{key}`: ")).unwrap_or_default();
            problems.push(Problem { line: Some(self.line(span)), what: format!("{of_key}{why}") });
            removed.push(taken?);
        }
    }

    /// Notes, takes out and names the keys with `nan` or `inf` somewhere in them: no key has a use
    /// for those, and what is read as JSON would have null in their place.
    fn take_out_infinite(&self, node: &mut Node<'a>, problems: &mut Vec<Problem>) -> Vec<String> {
        let DeValue::Table(table) = node.get_mut() else { return Vec::new() };
        let mut names = Vec::new();
        for (key, value) in table.iter() {
            let Some((text, span)) = infinite(value) else { continue };
            let name = key.get_ref().to_string();
            let what = format!("`{name}`: {text} is no number to work with: write a finite one");
            problems.push(Problem { line: Some(self.line(span)), what });
            names.push(name);
        }
        for name in &names {
            table.remove(name.as_str());
        }
        names
    }

    /// Reads each element of a `[[list]]` as `T`, with its place in the list.
    pub fn decode_each<T: DeserializeOwned>(
        &self,
        name: &str,
        node: &Node<'a>,
        problems: &mut Vec<Problem>,
    ) -> Vec<T> {
        let nodes = self.elements(name, node, problems);
        nodes.iter().filter_map(|element| self.decode(element, problems)).collect()
    }

    /// The elements of a `[[list]]`.
    pub fn elements<'n>(
        &self,
        name: &str,
        node: &'n Node<'a>,
        problems: &mut Vec<Problem>,
    ) -> &'n [Node<'a>] {
        let elements = node.get_ref().as_array();
        let elements =
            elements.filter(|elements| elements.iter().all(|one| one.get_ref().is_table()));
        let Some(elements) = elements else {
            problems.push(Problem {
                line: Some(self.line(node.span())),
                what: format!("`{name}` is a list: begin each of its tables with [[{name}]]"),
            });
            return &[];
        };
        elements
    }

    /// Whether a `[table]` is one.
    pub fn is_table(&self, name: &str, node: &Node<'a>, problems: &mut Vec<Problem>) -> bool {
        let is_table = node.get_ref().is_table();
        if !is_table {
            problems.push(Problem {
                line: Some(self.line(node.span())),
                what: format!("`{name}` is one table: begin it with [{name}]"),
            });
        }
        is_table
    }

    pub fn line(&self, span: Range<usize>) -> usize {
        line_at(self.text, span.start)
    }
}

/// `rule[1]` as its name and its number in the list.
pub fn split_index(step: &str) -> (&str, Option<usize>) {
    match step.strip_suffix(']').and_then(|inner| inner.split_once('[')) {
        Some((name, index)) => (name, index.parse().ok()),
        None => (step, None),
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Takes out the key whose name, value or list element lies at `span`, and gives its name.
fn take_out(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => {
            let found = table
                .iter()
                .find(|(key, value)| key.span() == *span || stands_at(value, span))
                .map(|(key, _)| key.get_ref().to_string());
            if let Some(key) = found {
                table.remove(key.as_str());
                return Some(key);
            }
            table.iter_mut().find_map(|(_, value)| take_out(value.get_mut(), span))
        }
        DeValue::Array(items) => items.iter_mut().find_map(|item| take_out(item.get_mut(), span)),
        _ => None,
    }
}

/// The first number in `value` that is not finite, as it is written, and where.
fn infinite<'n>(value: &'n Node<'_>) -> Option<(&'n str, Range<usize>)> {
    match value.get_ref() {
        DeValue::Float(float) => {
            let is_finite = float.as_str().parse().is_ok_and(f64::is_finite);
            (!is_finite).then(|| (float.as_str(), value.span()))
        }
        DeValue::Array(items) => items.iter().find_map(infinite),
        DeValue::Table(table) => table.values().find_map(infinite),
        _ => None,
    }
}

/// The words that may stand at `span` of a table.
fn words_at<T: DeserializeOwned>(mut node: Node<'_>, span: &Range<usize>) -> Option<String> {
    let DeValue::Table(table) = node.get_mut() else { return None };
    let (_, value) = table.iter_mut().find(|(_, value)| value.span() == *span)?;
    *value.get_mut() = DeValue::String("".into());
    one_of(T::deserialize(node.into_deserializer()).err()?.message())
}

fn stands_at(value: &Node<'_>, span: &Range<usize>) -> bool {
    let inside = value.get_ref().as_array();
    value.span() == *span || inside.is_some_and(|items| items.iter().any(|i| i.span() == *span))
}

fn misses(message: &str, name: &str) -> bool {
    message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) == Some(name)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Section {
        port: u16,
        bind: String,
        on: bool,
        names: Vec<String>,
        mode: Mode,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Spin,
        Park,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[expect(dead_code, reason = "only whether it is there matters")]
        pattern: String,
    }

    fn problems_of<T: DeserializeOwned>(text: &str) -> Vec<String> {
        let (document, mut problems) = Document::parse(text);
        for (_, node) in document.sections() {
            document.decode::<T>(node, &mut problems);
        }
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_of_a_section_is_told_with_its_line_and_what_would_be_right() {
        let cases = [
            ("[s]\nprot = 1", "line 2: unknown key `prot`: did you mean `port`?"),
            (
                "[s]\n\nxyzzy = 1",
                "line 3: unknown key `xyzzy`: known are port, bind, on, names, mode",
            ),
            (
                "[s]\nport = 70000",
                "line 2: `port`: integer `70000` should be a whole number from 0 to 65535",
            ),
            (
                "[s]\nport = \"a\"",
                "line 2: `port`: string \"a\" should be a whole number from 0 to 65535",
            ),
            ("[s]\nbind = 1", "line 2: `bind`: integer `1` should be a \"text\" in quotes"),
            ("[s]\non = 1", "line 2: `on`: integer `1` should be true or false"),
            ("[s]\nmode = \"spn\"", "line 2: `mode`: unknown value `spn`: did you mean `spin`?"),
        ];
        for (text, said) in cases {
            assert_eq!(problems_of::<Section>(text), [said], "{text}");
        }
    }

    #[test]
    fn one_mistake_does_not_hide_the_next() {
        let text = "[s]\nprot = 1\nport = -1\non = 3\nnames = [1]\nmode = \"spin\"\n";
        let lines: Vec<_> = problems_of::<Section>(text)
            .iter()
            .map(|problem| problem.split(':').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        for line in ["line 2", "line 3", "line 4", "line 5"] {
            assert!(lines.iter().any(|l| l == line), "{line} in {lines:?}");
        }
    }

    #[test]
    fn a_wrong_value_is_not_called_missing_as_well() {
        assert_eq!(problems_of::<Strict>("[s]\npattern = 1").len(), 1);
        assert_eq!(problems_of::<Strict>("[s]"), ["line 1: key `pattern` is missing"]);
    }

    #[test]
    fn numbers_without_an_end_are_told_once_wherever_they_stand() {
        let said = |name, text| format!("`{name}`: {text} is no number to work with");
        let cases = [
            ("[s]\nport = nan", vec![said("port", "nan")]),
            ("[s]\na = -inf\nb = 1e999", vec![said("a", "-inf"), said("b", "1e999")]),
            ("[s]\na = [\n1, +inf]", vec![said("a", "+inf")]),
            ("[s]\nb = [{ c = { d = nan } }]", vec![said("b", "nan")]),
            ("[s]\npattern = inf", vec![said("pattern", "inf")]),
            ("[s]\nfraction = 0.5", vec![]),
        ];
        for (text, expected) in cases {
            let (document, mut problems) = Document::parse(text);
            for (_, node) in document.sections() {
                document.decode::<serde_json::Value>(node, &mut problems);
            }
            let found: Vec<_> = problems.iter().map(|problem| problem.what.as_str()).collect();
            assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
            let pairs = found.iter().zip(&expected);
            assert!(pairs.into_iter().all(|(found, said)| found.starts_with(said)), "{found:?}");
        }
        assert_eq!(problems_of::<Strict>("[s]\npattern = nan").len(), 1, "and is not missing");
        let problems = problems_of::<Section>("[s]\nport = 1\nnames = [\n  nan]");
        assert!(problems[0].starts_with("line 4: `names`: nan"), "{problems:?}");
    }

    #[test]
    fn a_broken_line_is_found_and_the_rest_is_still_read() {
        let problems = problems_of::<Section>("[s]\nport = \nprot = 2\n");
        assert!(problems.iter().any(|p| p.starts_with("line 2")), "{problems:?}");
        assert!(problems.iter().any(|p| p.contains("did you mean `port`")), "{problems:?}");
    }

    #[test]
    fn a_key_is_found_by_its_path_or_by_the_table_that_should_hold_it() {
        let text = "[server]\nport = 1\n\n[[rule]]\npattern = \"/a\"\n[[rule]]\npattern = \"/b\"\n";
        let (document, problems) = Document::parse(text);
        assert!(problems.is_empty());
        let cases = [
            ("server.port", Some(2)),
            ("server.cores", Some(1)),
            ("rule[0].pattern", Some(5)),
            ("rule[1].pattern", Some(7)),
            ("rule[1].rule", Some(6)),
            ("auth.mode", None),
        ];
        for (path, line) in cases {
            assert_eq!(document.line_of(path), line, "{path}");
        }
    }
}
