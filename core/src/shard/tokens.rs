//! Token files: who may join an authenticated router, and what they may do there.
//!
//! One token a line: `TOKEN scope,scope exp=UNIX_SECONDS`. Scopes and expiry may be left out; a
//! token without scopes may do everything (`admin:/**`). `#` begins a comment.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::scope::parse_scope;
use super::settings::{Action, Grant, Scope};

/// One line of a token file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads a whole file; all bad lines are told, not only the first.
pub fn parse_file(text: &str) -> Result<Vec<Grant>, Vec<BadLine>> {
    let mut grants: Vec<(usize, Grant)> = Vec::new();
    let mut bad = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        match parse_line(content) {
            Ok(None) => {}
            Ok(Some(grant)) => match grants.iter().find(|(_, held)| held.token == grant.token) {
                Some((first, _)) => {
                    bad.push(BadLine { line, what: format!("same token as line {first}") });
                }
                None => grants.push((line, grant)),
            },
            Err(what) => bad.push(BadLine { line, what }),
        }
    }
    if bad.is_empty() { Ok(grants.into_iter().map(|(_, grant)| grant).collect()) } else { Err(bad) }
}

/// Reads `TOKEN scope,scope exp=SECONDS`; `None` for a line that says nothing.
pub fn parse_line(line: &str) -> Result<Option<Grant>, String> {
    let content = line.split('#').next().unwrap_or_default();
    let mut words = content.split_whitespace();
    let Some(token) = words.next() else { return Ok(None) };
    let mut scopes = Vec::new();
    let mut expires_unix_s = None;
    for word in words {
        if let Some(seconds) = word.strip_prefix("exp=") {
            let seconds = seconds
                .parse()
                .map_err(|_| format!("`{word}` should be exp= and seconds since 1970"))?;
            if expires_unix_s.replace(seconds).is_some() {
                return Err("exp= is given twice".to_owned());
            }
        } else {
            for scope in word.split(',').filter(|scope| !scope.is_empty()) {
                scopes.push(parse_scope(scope).map_err(|error| format!("`{scope}`: {error}"))?);
            }
        }
    }
    if scopes.is_empty() {
        scopes.push(Scope { action: Action::Admin, pattern: "/**".to_owned() });
    }
    Ok(Some(Grant { token: token.to_owned(), scopes, expires_unix_s }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(grant: &Grant) -> Vec<(Action, &str)> {
        grant.scopes.iter().map(|scope| (scope.action, scope.pattern.as_str())).collect()
    }

    #[test]
    fn a_line_gives_a_token_its_scopes_and_its_end() {
        let cases = [
            ("cpsk_1", vec![(Action::Admin, "/**")], None),
            ("cpsk_1 read:/a/**", vec![(Action::Read, "/a/**")], None),
            ("cpsk_1 r:/a,w:/b", vec![(Action::Read, "/a"), (Action::Write, "/b")], None),
            ("cpsk_1  write:/b  exp=12 # stage left", vec![(Action::Write, "/b")], Some(12)),
            ("cpsk_1 exp=12", vec![(Action::Admin, "/**")], Some(12)),
        ];
        for (line, expected, expires) in cases {
            let grant = parse_line(line).expect(line).expect(line);
            assert_eq!(grant.token, "cpsk_1", "{line}");
            assert_eq!(scopes(&grant), expected, "{line}");
            assert_eq!(grant.expires_unix_s, expires, "{line}");
        }
    }

    #[test]
    fn empty_lines_and_comments_say_nothing() {
        for line in ["", "   ", "# a token", "  # another"] {
            assert!(parse_line(line).expect(line).is_none(), "{line:?}");
        }
    }

    #[test]
    fn every_bad_line_is_named() {
        let text = "good read:/a\nbad peek:/a\n\nworse exp=soon\ngood write:/a\nx exp=1 exp=2\n";
        let bad = parse_file(text).expect_err("four lines are wrong");
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 4, 5, 6]);
        assert!(bad[0].what.contains("peek:/a"), "{}", bad[0]);
        assert!(bad[2].what.contains("same token as line 1"), "{}", bad[2]);
    }
}
