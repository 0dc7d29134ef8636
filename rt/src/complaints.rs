//! What counters say that the person who runs the show should know: in sentences, seldom.

use std::time::Duration;

use crate::clock;
use crate::running::Running;

/// The same is told again after so long at the earliest, with what happened meanwhile.
const AGAIN: Duration = Duration::from_secs(60);

/// What was told, and when.
#[derive(Debug, Default)]
pub struct Complaints {
    evicted: Tally,
    turned_away: Tally,
    displaced: Tally,
}

/// What a router allows.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Of each shard.
    pub params_max: u64,
    pub sessions_max: u32,
}

/// What all shards have counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    evicted: u64,
    /// Of the shard that holds most.
    params: u64,
    turned_away: u64,
    displaced: u64,
}

#[derive(Debug, Default)]
struct Tally {
    told: u64,
    /// Nothing is told before it.
    due_ns: u64,
}

impl Complaints {
    /// What is to be said now of the threads at work.
    pub fn look(&mut self, running: &Running, allowed: Allowed) -> Vec<String> {
        let counted = Counted {
            evicted: running.of_shards("params_evicted").sum(),
            params: running.of_shards("params_now").max().unwrap_or(0),
            turned_away: running.of_shards("links_turned_away").sum::<u64>()
                + running.of_shards("accept_faults").sum::<u64>(),
            displaced: running.of_shards("links_displaced").sum(),
        };
        self.say(clock::monotonic_ns(), counted, allowed)
    }

    fn say(&mut self, now_ns: u64, counted: Counted, allowed: Allowed) -> Vec<String> {
        let Allowed { params_max, sessions_max } = allowed;
        let limit = match counted.params >= params_max - params_max / 64 {
            true => format!("limits.params_max, {params_max} a shard,"),
            false => "limits.param_bytes_max".to_owned(),
        };
        let evicted = self.evicted.news(now_ns, counted.evicted).map(|count| {
            format!("{count} params were forgotten for new ones: {limit} is used up; raise it")
        });
        let turned_away = self.turned_away.news(now_ns, counted.turned_away).map(|count| {
            format!(
                "{count} connections were turned away: all {sessions_max} of \
                 server.max_sessions are taken; raise it"
            )
        });
        let displaced = self.displaced.news(now_ns, counted.displaced).map(|count| {
            format!(
                "{count} connections that had said nothing were ended to make room for others: \
                 all {sessions_max} of server.max_sessions were taken"
            )
        });
        [evicted, turned_away, displaced].into_iter().flatten().collect()
    }
}

impl Tally {
    /// How many there are more than were told.
    fn news(&mut self, now_ns: u64, total: u64) -> Option<u64> {
        let more = total.saturating_sub(self.told);
        if more == 0 || now_ns < self.due_ns {
            return None;
        }
        self.told = total;
        self.due_ns = now_ns.saturating_add(AGAIN.as_nanos() as u64);
        Some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_told_at_once_and_then_once_a_minute_with_what_is_new() {
        let mut complaints = Complaints::default();
        let allowed = Allowed { params_max: 1_000, sessions_max: 50 };
        let minute = AGAIN.as_nanos() as u64;
        let cases = [
            (0, 0, 10, ""),
            (1, 5, 1_000, "5 params were forgotten for new ones: limits.params_max, 1000 a shard"),
            (2, 7, 1_000, ""),
            (minute, 7, 1_000, ""),
            (minute + 1, 8, 10, "3 params were forgotten for new ones: limits.param_bytes_max is"),
            (minute * 3, 8, 10, ""),
        ];
        for (now_ns, evicted, params, said) in cases {
            let counted = Counted { evicted, params, ..Counted::default() };
            let told = complaints.say(now_ns, counted, allowed);
            assert_eq!(told.len(), usize::from(!said.is_empty()), "{now_ns}: {told:?}");
            assert!(told.iter().all(|told| told.starts_with(said)), "{told:?}");
        }
        let counted = Counted { evicted: 8, turned_away: 2, displaced: 1, ..Counted::default() };
        let told = complaints.say(minute * 3, counted, allowed);
        assert!(told[0].starts_with("2 connections were turned away: all 50"), "{told:?}");
        assert!(told[1].starts_with("1 connections that had said nothing"), "{told:?}");
    }
}
