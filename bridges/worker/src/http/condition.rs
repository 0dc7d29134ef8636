//! Conditional requests: the revision of a param is its entity tag.
//!
//! Source: RFC 9110, sections 8.8.3 (tags), 13.1.1 (If-Match), 13.1.2 (If-None-Match).

use http::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};

/// What a request says of the revision that it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It says nothing.
    Any,
    /// There must be a param.
    Exists,
    /// There must be none.
    Absent,
    /// One of these must be the revision.
    OneOf(Vec<u64>),
    /// None of these may be the revision.
    NoneOf(Vec<u64>),
}

impl Condition {
    /// Reads the headers. The error says what would be right.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        let matches = tags(headers, &IF_MATCH)?;
        let none = tags(headers, &IF_NONE_MATCH)?;
        match (matches, none) {
            (None, None) => Ok(Self::Any),
            (Some(Tags::Star), None) => Ok(Self::Exists),
            (Some(Tags::These(tags)), None) => Ok(Self::OneOf(tags)),
            (None, Some(Tags::Star)) => Ok(Self::Absent),
            (None, Some(Tags::These(tags))) => Ok(Self::NoneOf(tags)),
            (Some(_), Some(_)) => Err("If-Match or If-None-Match, not both".into()),
        }
    }

    /// Whether a param with this revision (`None`: no param) meets it.
    pub fn is_met(&self, revision: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Exists => revision.is_some(),
            Self::Absent => revision.is_none(),
            Self::OneOf(tags) => revision.is_some_and(|revision| tags.contains(&revision)),
            Self::NoneOf(tags) => revision.is_none_or(|revision| !tags.contains(&revision)),
        }
    }
}

enum Tags {
    Star,
    These(Vec<u64>),
}

/// Tags that are no revisions are those of other things: they match nothing.
fn tags(headers: &HeaderMap, name: &http::HeaderName) -> Result<Option<Tags>, String> {
    let mut found: Option<Vec<u64>> = None;
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| format!("{name}: not text"))?;
        if text.trim() == "*" {
            return Ok(Some(Tags::Star));
        }
        let tags = found.get_or_insert_default();
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let inner = inner.ok_or_else(|| {
                format!("{name}: `{tag}` is no entity tag; a revision is written as \"7\"")
            })?;
            tags.extend(inner.parse::<u64>().ok());
        }
    }
    Ok(found.map(Tags::These))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Result<Condition, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        Condition::of(&headers)
    }

    #[test]
    fn revisions_are_entity_tags() {
        assert_eq!(of(&[]), Ok(Condition::Any));
        assert_eq!(of(&[("if-match", "\"3\"")]), Ok(Condition::OneOf(vec![3])));
        assert_eq!(of(&[("if-match", "W/\"3\", \"x\" , \"5\"")]), Ok(Condition::OneOf(vec![3, 5])));
        assert_eq!(of(&[("if-match", "*")]), Ok(Condition::Exists));
        assert_eq!(of(&[("if-none-match", "*")]), Ok(Condition::Absent));
        assert_eq!(of(&[("if-none-match", "\"1\"")]), Ok(Condition::NoneOf(vec![1])));
        assert!(of(&[("if-match", "3")]).is_err(), "a tag has quotes");
        assert!(of(&[("if-match", "*"), ("if-none-match", "*")]).is_err());
    }

    #[test]
    fn a_condition_is_met_by_the_revisions_that_it_names() {
        use Condition::{Absent, Any, Exists, NoneOf, OneOf};
        for (condition, none, three) in [
            (Any, true, true),
            (Exists, false, true),
            (Absent, true, false),
            (OneOf(vec![3, 4]), false, true),
            (OneOf(vec![]), false, false),
            (NoneOf(vec![3]), true, false),
            (NoneOf(vec![4]), true, true),
        ] {
            assert_eq!(condition.is_met(None), none, "{condition:?}");
            assert_eq!(condition.is_met(Some(3)), three, "{condition:?}");
        }
    }
}
