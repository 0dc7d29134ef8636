//! Who wins a param, written naively: a list of claims, looked over for every question.

use clasp_rt_core::shard::{Arbitration, OnLoss, Order};
use clasp_rt_core::time::{Span, Time};
use clasp_rt_core::value::push_i64;

/// Addresses with sources that contend, and how: `/h/x` HTP with a time-out, `/l/x` LTP.
pub(super) const HIGHEST: &str = "/h/x";
pub(super) const LATEST: &str = "/l/x";
/// What `/l/x` becomes when nobody claims it.
const SAFE: i64 = -1;
const TIMEOUT: Span = Span::from_millis(20);

/// What the real shard is told.
pub(super) fn arbitrations() -> Vec<Arbitration> {
    let mut value = Vec::new();
    push_i64(&mut value, SAFE);
    let highest = Arbitration {
        pattern: HIGHEST.to_owned(),
        order: Order::Highest,
        timeout: Some(TIMEOUT),
        on_loss: OnLoss::Hold,
        default_priority: 100,
    };
    let latest = Arbitration {
        pattern: LATEST.to_owned(),
        order: Order::Latest,
        timeout: None,
        on_loss: OnLoss::Set { value },
        ..highest.clone()
    };
    vec![highest, latest]
}

#[derive(Clone, Debug)]
struct Claim {
    session: usize,
    id: String,
    priority: u8,
    value: i64,
    heard: Time,
    changed: Time,
    turn: u64,
}

/// The claims on one address.
#[derive(Clone, Debug, Default)]
pub(super) struct Contest {
    latest: bool,
    claims: Vec<Claim>,
    winner: Option<(usize, String)>,
    /// Who lost it to another claim last, and when.
    rival: Option<(String, Time)>,
    dueled: Option<Time>,
    turn: u64,
}

/// What one source says.
pub(super) struct Said<'a> {
    pub session: usize,
    pub id: &'a str,
    pub priority: u8,
    pub value: i64,
}

impl Contest {
    pub(super) fn of(address: &str) -> Option<Self> {
        let latest = address == LATEST;
        (latest || address == HIGHEST).then(|| Self { latest, ..Self::default() })
    }

    /// Notes what a source says; whether that is a duel, and the value that wins now.
    pub(super) fn say(&mut self, now: Time, said: &Said<'_>) -> (bool, i64) {
        self.turn += 1;
        let mine = |claim: &&mut Claim| claim.session == said.session && claim.id == said.id;
        match self.claims.iter_mut().find(mine) {
            Some(claim) => {
                if claim.value != said.value {
                    (claim.value, claim.changed, claim.turn) = (said.value, now, self.turn);
                }
                (claim.heard, claim.priority) = (now, said.priority);
            }
            None => self.claims.push(Claim {
                session: said.session,
                id: said.id.to_owned(),
                priority: said.priority,
                value: said.value,
                heard: now,
                changed: now,
                turn: self.turn,
            }),
        }
        let duel = self.is_duel(now, said);
        if duel {
            self.dueled = Some(now);
        }
        (duel, self.decide(now).expect("somebody claims it"))
    }

    fn is_duel(&self, now: Time, said: &Said<'_>) -> bool {
        let own = self.claims.iter().find(|c| c.session == said.session && c.id == said.id);
        let own = own.expect("it was noted");
        let second = Span::from_secs(1);
        let told = self.dueled.is_some_and(|then| now < then + Span::from_secs(5));
        let outranked = self.claims.iter().any(|claim| claim.priority > said.priority);
        if told || outranked || own.changed != now {
            return false;
        }
        if !self.latest {
            return self.claims.iter().any(|claim| {
                claim.id != said.id
                    && claim.priority == said.priority
                    && now.since(claim.changed) <= second
                    && claim.value != own.value
            });
        }
        let (Some(winner), Some((rival, lost))) = (self.winning(), &self.rival) else {
            return false;
        };
        winner.id != said.id
            && rival == said.id
            && now.since(*lost) <= second
            && winner.priority == said.priority
    }

    fn winning(&self) -> Option<&Claim> {
        let (session, id) = self.winner.as_ref()?;
        self.claims.iter().find(|claim| claim.session == *session && claim.id == *id)
    }

    /// The value that wins, if anybody claims the address.
    fn decide(&mut self, now: Time) -> Option<i64> {
        let best = self.claims.iter().max_by(|a, b| {
            let order = match self.latest {
                true => a.turn.cmp(&b.turn),
                false => a.value.cmp(&b.value).then(b.turn.cmp(&a.turn)),
            };
            a.priority.cmp(&b.priority).then(order)
        })?;
        let (value, best) = (best.value, (best.session, best.id.clone()));
        if self.winner.as_ref() != Some(&best)
            && let Some((_, id)) = self.winner.replace(best)
        {
            self.rival = Some((id, now));
        }
        Some(value)
    }

    /// Ends the claims that `gone` names and those that were silent too long; what the address
    /// becomes, if that is decided anew. `alive`: the sources' own signs of life.
    pub(super) fn lose(
        &mut self,
        now: Time,
        alive: impl Fn(usize, &str) -> Time,
        gone: impl Fn(usize, &str) -> bool,
    ) -> Option<i64> {
        let before = self.claims.len();
        let latest = self.latest;
        self.claims.retain(|claim| {
            let heard = claim.heard.max(alive(claim.session, &claim.id));
            let silent = !latest && heard + TIMEOUT <= now;
            !silent && !gone(claim.session, &claim.id)
        });
        if self.claims.len() == before {
            return None;
        }
        if self.winning().is_none() {
            self.winner = None;
        }
        match self.decide(now) {
            Some(value) => Some(value),
            None => {
                *self = Self { latest, ..Self::default() };
                latest.then_some(SAFE)
            }
        }
    }

    pub(super) fn has(&self, session: usize, id: &str) -> bool {
        self.claims.iter().any(|claim| claim.session == session && claim.id == id)
    }

    /// As `why` tells it: the winner, then the losers by their names.
    pub(super) fn told(&self) -> String {
        let tell = |claim: &Claim| format!("{} {} {}", claim.id, claim.priority, claim.value);
        let winning = self.winning();
        let mut losers: Vec<String> = self
            .claims
            .iter()
            .filter(|claim| {
                winning.is_none_or(|it| (it.session, &it.id) != (claim.session, &claim.id))
            })
            .map(tell)
            .collect();
        losers.sort();
        match winning {
            Some(winner) => format!("wins {} loses {losers:?}", tell(winner)),
            None => "held".to_owned(),
        }
    }
}
