//! Whether every package that can end up in a build may be shipped with this one.

use std::process::Command;

use serde_json::Value as Json;

use crate::command;

/// Licences that ask for no more than their text and a notice; of MPL-2.0 (`serialport`) that
/// changed files of it stay open, and none is changed here.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Reads what `cargo metadata` knows. What no build has needed yet is fetched for it.
pub fn check() -> Result<(), String> {
    // Packages of other platforms are not fetched, so nothing is known of them.
    let platform = platform()?;
    let arguments = ["metadata", "--format-version", "1", "--locked"];
    let mut metadata = command(&arguments);
    let output = metadata.args(["--filter-platform", &platform]).output();
    let output = output.map_err(|why| format!("cargo metadata does not start: {why}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: Json = serde_json::from_slice(&output.stdout).map_err(|why| why.to_string())?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let refused: Vec<_> = packages.iter().filter_map(refusal).collect();
    if refused.is_empty() {
        eprintln!("{} packages; advisories are not looked up", packages.len());
        return Ok(());
    }
    Err(format!("\n  {}", refused.join("\n  ")))
}

/// The platform that this runs on, as the compiler calls it.
fn platform() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.map_err(|why| format!("rustc does not start: {why}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc names no host")?.to_string())
}

fn refusal(package: &Json) -> Option<String> {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let licence = text("license");
    (!allows(licence)).then(|| format!("{} {}: `{licence}`", text("name"), text("version")))
}

/// Whether an SPDX expression can be met with licences that are allowed.
///
/// `/` is an old way to write OR. An exception only adds freedom, so WITH and its name are dropped.
fn allows(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words };
    reader.any().unwrap_or(false) && reader.words.is_empty()
}

struct Reader<'a> {
    words: &'a [&'a str],
}

impl<'a> Reader<'a> {
    fn any(&mut self) -> Option<bool> {
        let mut met = self.all()?;
        while self.skip("OR") {
            met |= self.all()?;
        }
        Some(met)
    }

    fn all(&mut self) -> Option<bool> {
        let mut met = self.one()?;
        while self.skip("AND") {
            met &= self.one()?;
        }
        Some(met)
    }

    fn one(&mut self) -> Option<bool> {
        if self.skip("(") {
            let met = self.any()?;
            return self.skip(")").then_some(met);
        }
        let name = self.next()?;
        if self.skip("WITH") {
            self.next()?;
        }
        Some(ALLOWED.contains(&name))
    }

    fn skip(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::allows;

    #[test]
    fn an_expression_is_allowed_when_one_way_to_meet_it_is() {
        let cases = [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("AGPL-3.0", false),
            ("AGPL-3.0 OR MIT", true),
            ("AGPL-3.0 AND MIT", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR GPL-3.0) AND GPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("", false),
            ("MIT OR", false),
            ("MIT MIT", false),
        ];
        for (expression, allowed) in cases {
            assert_eq!(allows(expression), allowed, "{expression:?}");
        }
    }
}
