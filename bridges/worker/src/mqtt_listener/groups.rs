//! Shared subscriptions: which member of a group takes a message that all members hear.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Members of all groups; each is known by a number.
#[derive(Debug, Default)]
pub struct Groups {
    members: HashMap<(String, String), Vec<u64>>,
    /// Members without a connection, who take nothing while another could.
    resting: BTreeSet<u64>,
}

impl Groups {
    pub fn join(&mut self, group: &str, filter: &str, member: u64) {
        let members = self.members.entry((group.to_owned(), filter.to_owned())).or_default();
        if !members.contains(&member) {
            members.push(member);
        }
    }

    pub fn leave(&mut self, group: &str, filter: &str, member: u64) {
        let key = (group.to_owned(), filter.to_owned());
        if let Some(members) = self.members.get_mut(&key) {
            members.retain(|held| *held != member);
            if members.is_empty() {
                self.members.remove(&key);
            }
        }
    }

    /// A member has no connection for a while.
    pub fn rest(&mut self, member: u64) {
        self.resting.insert(member);
    }

    pub fn wake(&mut self, member: u64) {
        self.resting.remove(&member);
    }

    /// Whether `member` is the one that takes this message. All members come to the same answer, as
    /// it follows from the message alone.
    pub fn takes(&self, group: &str, filter: &str, member: u64, message: impl Hash) -> bool {
        let members = self.members.get(&(group.to_owned(), filter.to_owned()));
        let Some(members) = members.filter(|members| !members.is_empty()) else { return true };
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let awake = members.iter().filter(|member| !self.resting.contains(member)).count();
        let is_asked = |asked: &&u64| awake == 0 || !self.resting.contains(asked);
        let count = if awake == 0 { members.len() } else { awake };
        let taker = hasher.finish() % count as u64;
        members.iter().filter(is_asked).nth(taker as usize) == Some(&member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_members_exactly_one_takes_each_message_and_none_takes_all() {
        let mut groups = Groups::default();
        for member in 0..3 {
            groups.join("g", "a/#", member);
        }
        let mut taken = [0; 3];
        for message in 0..300 {
            let takers = (0..3).filter(|member| groups.takes("g", "a/#", *member, message));
            let takers: Vec<_> = takers.collect();
            assert_eq!(takers.len(), 1);
            taken[takers[0] as usize] += 1;
        }
        assert!(taken.iter().all(|count| *count > 50), "{taken:?}");
        groups.rest(1);
        let mut taken = [0; 3];
        for message in 0..300 {
            for member in (0..3).filter(|member| groups.takes("g", "a/#", *member, message)) {
                taken[member as usize] += 1;
            }
        }
        assert_eq!((taken[1], taken.iter().sum::<u32>()), (0, 300), "who rests takes nothing");
        groups.rest(0);
        groups.rest(2);
        let takers = (0..3).filter(|member| groups.takes("g", "a/#", *member, 5)).count();
        assert_eq!(takers, 1, "if all rest, it waits for one of them");
        for member in 0..3 {
            groups.wake(member);
        }
        groups.leave("g", "a/#", 0);
        groups.leave("g", "a/#", 1);
        assert!(groups.takes("g", "a/#", 2, 7), "who is left takes all");
        groups.leave("g", "a/#", 2);
        assert!(groups.members.is_empty());
    }
}
