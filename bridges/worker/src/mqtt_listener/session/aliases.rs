//! Numbers for topics, so that a long one is sent once in a connection (MQTT 5 §3.3.2.3.4).

use std::collections::{BTreeMap, HashMap};

use super::super::wire::{Publish, Reason};

/// Aliases that a client may use.
pub const ALIASES_MAX: u16 = 64;

/// Aliases that are used towards a client, if it takes so many.
const OWN_ALIASES_MAX: u16 = 64;

/// Shorter topics are as short as their alias.
const TOPIC_BYTES_MIN: usize = 6;

/// What a client's aliases mean.
#[derive(Debug, Default)]
pub struct Topics(BTreeMap<u16, String>);

impl Topics {
    /// Gives the message the topic that its alias means, and remembers what a new one means.
    pub fn resolve(&mut self, publish: &mut Publish) -> Result<(), Reason> {
        let Some(alias) = publish.alias.take() else { return Ok(()) };
        if alias == 0 || alias > ALIASES_MAX {
            return Err(Reason::AliasInvalid);
        }
        if publish.topic.is_empty() {
            publish.topic = self.0.get(&alias).ok_or(Reason::Protocol)?.clone();
        } else {
            self.0.insert(alias, publish.topic.clone());
        }
        Ok(())
    }
}

/// The aliases of topics towards a client: the first topics get one each.
#[derive(Debug, Default)]
pub struct Aliases {
    max: u16,
    of: HashMap<String, u16>,
}

impl Aliases {
    pub fn new(max: u16) -> Self {
        Self { max: max.min(OWN_ALIASES_MAX), of: HashMap::new() }
    }

    /// Shortens a message whose topic the client knows, or tells it the alias of a new one, which
    /// [`Aliases::told`] must confirm once it was written.
    pub fn shorten(&self, publish: &mut Publish) {
        if publish.topic.len() < TOPIC_BYTES_MIN {
            return;
        }
        if let Some(alias) = self.of.get(&publish.topic) {
            publish.alias = Some(*alias);
            publish.topic.clear();
        } else if self.of.len() < usize::from(self.max) {
            publish.alias = Some(self.of.len() as u16 + 1);
        }
    }

    /// The client was told what this topic's alias is.
    pub fn told(&mut self, topic: &str, alias: u16) {
        self.of.insert(topic.to_owned(), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(topic: &str, alias: Option<u16>) -> Publish {
        Publish { topic: topic.to_owned(), alias, ..Publish::default() }
    }

    #[test]
    fn an_alias_means_the_topic_that_came_with_it_last() {
        let mut topics = Topics::default();
        let mut resolved = |topic: &str, alias| {
            let mut publish = publish(topic, alias);
            topics.resolve(&mut publish).map(|()| publish.topic)
        };
        assert_eq!(resolved("", Some(3)), Err(Reason::Protocol));
        assert_eq!(resolved("a", Some(3)), Ok("a".to_owned()));
        assert_eq!(resolved("", Some(3)), Ok("a".to_owned()));
        assert_eq!(resolved("b", Some(3)), Ok("b".to_owned()));
        assert_eq!(resolved("", Some(3)), Ok("b".to_owned()));
        assert_eq!(resolved("c", None), Ok("c".to_owned()));
        for wrong in [0, ALIASES_MAX + 1] {
            assert_eq!(resolved("a", Some(wrong)), Err(Reason::AliasInvalid));
        }
    }

    #[test]
    fn the_first_topics_get_the_aliases_that_a_client_takes() {
        let mut aliases = Aliases::new(1);
        let mut sent = |topic: &str| {
            let mut publish = publish(topic, None);
            aliases.shorten(&mut publish);
            if let Some(alias) = publish.alias.filter(|_| !publish.topic.is_empty()) {
                aliases.told(topic, alias);
            }
            (publish.topic, publish.alias)
        };
        assert_eq!(sent("short"), ("short".to_owned(), None));
        assert_eq!(sent("stage/level"), ("stage/level".to_owned(), Some(1)));
        assert_eq!(sent("stage/level"), (String::new(), Some(1)));
        assert_eq!(sent("stage/other"), ("stage/other".to_owned(), None));
    }
}
