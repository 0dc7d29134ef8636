//! What one target calls an address, and what the router calls it.

use std::ops::Range;

use clasp_rt_core::address;

use crate::map::{Pattern, Template};
use crate::{ConfigError, namespace};

/// Chooses and renames the addresses that one target is told.
pub(super) struct Rename {
    pattern: Option<Pattern>,
    template: Option<Template>,
    strip: String,
    prefix: String,
    captures: Vec<Range<usize>>,
}

impl Rename {
    /// Reads the keys of the table `at`. `None`: all addresses, under their own names.
    pub(super) fn new(at: &str, target: &super::Target) -> Result<Option<Self>, ConfigError> {
        let key = |key: &str| format!("{at}.{key}");
        let segments = |name: &str, text: &Option<String>| match text {
            None => Ok(String::new()),
            Some(text) => match address::check(text) {
                Ok(()) if text.len() > 1 && !text.ends_with('/') => Ok(text.clone()),
                _ => Err(ConfigError::new(
                    key(name),
                    format!(
                        "`{text}`: must be segments such as /mixer, without a slash at the end"
                    ),
                )),
            },
        };
        let strip = segments("strip", &target.strip)?;
        let prefix = segments("prefix", &target.prefix)?;
        let pattern = target.pattern.as_deref().map(|text| {
            Pattern::new(text)
                .map_err(|error| ConfigError::new(key("pattern"), format!("`{text}`: {error}")))
        });
        let pattern = pattern.transpose()?;
        let template = match (&target.template, &pattern) {
            (None, _) => None,
            (Some(_), None) => {
                let why = "needs a `pattern` whose captures it names";
                return Err(ConfigError::new(key("template"), why));
            }
            (Some(_), _) if !strip.is_empty() || !prefix.is_empty() => {
                let why = "says the whole address: leave out `strip` and `prefix`";
                return Err(ConfigError::new(key("template"), why));
            }
            (Some(text), Some(pattern)) => Some(Template::new(text, pattern).map_err(|error| {
                ConfigError::new(key("template"), format!("`{text}`: {error}"))
            })?),
        };
        if pattern.is_none() && strip.is_empty() && prefix.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { pattern, template, strip, prefix, captures: Vec::new() }))
    }

    /// Puts what the target calls `name`, which the router calls `address`, into `out`. `false`: it
    /// is not told.
    pub(super) fn outward(&mut self, address: &str, name: &str, out: &mut String) -> bool {
        let Self { pattern, template, strip, prefix, captures } = self;
        out.clear();
        if pattern.as_ref().is_some_and(|pattern| !pattern.captures(address, captures)) {
            return false;
        }
        if let Some(template) = template {
            return template.fill(address, captures, out);
        }
        let Some(rest) = namespace::strip(strip, name).filter(|rest| !rest.is_empty()) else {
            return false;
        };
        out.push_str(prefix);
        out.push_str(rest);
        true
    }

    /// Puts what the router calls `name` of the target, without the namespace, into `out`: its own
    /// prefix gives way to what was stripped. Names of a template are not turned back.
    pub(super) fn inward(&self, name: &str, out: &mut String) {
        out.clear();
        out.push_str(&self.strip);
        let rest = namespace::strip(&self.prefix, name).filter(|rest| !rest.is_empty());
        out.push_str(rest.unwrap_or(name));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;

    fn target(text: &str) -> Target {
        toml::from_str(&format!("to = \"10.0.0.5:9000\"\n{text}")).expect(text)
    }

    #[test]
    fn targets_choose_and_rename_both_ways() {
        let strip = "strip = \"/x32\"";
        let both = "strip = \"/x32\"\nprefix = \"/ch\"";
        let only = "pattern = \"/osc/x32/**\"";
        let template = "pattern = \"/osc/{desk}/*/level\"\ntemplate = \"/{2}/mix\"";
        // Keys, name at the router, what the target calls it, what comes back of that.
        let cases = [
            (strip, "/x32/1/level", Some("/1/level"), "/x32/1/level"),
            (strip, "/x32", None, ""),
            (strip, "/x320/1", None, ""),
            (both, "/x32/1/level", Some("/ch/1/level"), "/x32/1/level"),
            (only, "/x32/1", Some("/x32/1"), "/x32/1"),
            (only, "/y/1", None, ""),
            (template, "/x32/7/level", Some("/7/mix"), "/7/mix"),
            (template, "/x32/7/pan", None, ""),
        ];
        for (keys, name, told, back) in cases {
            let mut rename = Rename::new("target[0]", &target(keys)).expect(keys).expect(keys);
            let (mut out, mut inward) = (String::new(), String::new());
            let is_told = rename.outward(&format!("/osc{name}"), name, &mut out);
            assert_eq!(is_told.then_some(out.as_str()), told, "{keys}: {name}");
            if is_told {
                rename.inward(&out, &mut inward);
                assert_eq!(inward, back, "{keys}: {name}");
            }
        }
        assert!(Rename::new("target[0]", &target("")).expect("plain").is_none());
    }

    #[test]
    fn what_a_device_says_beside_its_prefix_lands_below_what_is_stripped() {
        let target = target("strip = \"/x32\"\nprefix = \"/ch\"");
        let rename = Rename::new("target[0]", &target).expect("keys").expect("keys");
        let mut out = String::new();
        for (name, at) in [("/ch/1", "/x32/1"), ("/info", "/x32/info"), ("/ch", "/x32/ch")] {
            rename.inward(name, &mut out);
            assert_eq!(out, at);
        }
    }

    #[test]
    fn keys_that_do_not_go_together_are_named() {
        let cases = [
            ("strip = \"x32\"", "target[3].strip"),
            ("prefix = \"/a/\"", "target[3].prefix"),
            ("pattern = \"/a//b\"", "target[3].pattern"),
            ("template = \"/a\"", "target[3].template"),
            ("pattern = \"/a/*\"\ntemplate = \"/{2}\"", "target[3].template"),
            ("pattern = \"/a/*\"\ntemplate = \"/{1}\"\nstrip = \"/a\"", "target[3].template"),
        ];
        for (keys, key) in cases {
            let error = Rename::new("target[3]", &target(keys)).err().expect(keys);
            assert_eq!(error.key, key, "{keys}");
        }
    }
}
