//! Whose session is whose: the sessions of a listener by client id, and the places that they take.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use clasp_rt_core::time::Time;
use tokio::sync::{Notify, mpsc};

use super::carrier::Carrier;
use super::session::Newcomer;

/// Something for the task that keeps a session.
pub enum Visit {
    /// A connection for this session.
    Return(Carrier, Newcomer),
    /// Another session has its name, or its place.
    Replaced,
}

/// What others know of a session.
pub struct Entry {
    number: u64,
    /// The token with which it joined, as a number that tells nothing about it.
    token: u64,
    visits: mpsc::UnboundedSender<Visit>,
    /// It goes on without its connection.
    pub keeps: Cell<bool>,
    /// Since when it has no connection.
    pub away: Cell<Option<Time>>,
}

/// All sessions of a listener.
pub struct Names {
    entries: RefCell<HashMap<String, Rc<Entry>>>,
    places: Cell<u32>,
    places_max: u32,
    /// A place was given back.
    freed: Notify,
    hasher: RandomState,
}

/// A place for one session, given back when dropped.
pub struct Place(Rc<Names>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.set(self.0.places.get() - 1);
        self.0.freed.notify_waiters();
    }
}

impl Names {
    pub fn new(places_max: u32) -> Self {
        Self {
            entries: RefCell::default(),
            places: Cell::new(0),
            places_max,
            freed: Notify::new(),
            hasher: RandomState::new(),
        }
    }

    /// The session of this name, if a connection with this token may go on with it.
    pub fn kept(&self, name: &str, token: Option<&str>) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let entry = entries.get(name).filter(|entry| entry.keeps.get())?;
        (entry.token == self.hasher.hash_one(token)).then(|| Rc::clone(entry))
    }

    /// Takes a name for a session. Who had it before is told to go.
    pub fn take(
        &self,
        name: &str,
        token: Option<&str>,
        number: u64,
        visits: mpsc::UnboundedSender<Visit>,
    ) -> Rc<Entry> {
        let entry = Rc::new(Entry {
            number,
            token: self.hasher.hash_one(token),
            visits,
            keeps: Cell::new(false),
            away: Cell::new(None),
        });
        let before = self.entries.borrow_mut().insert(name.to_owned(), Rc::clone(&entry));
        if let Some(before) = before {
            before.send(Visit::Replaced);
        }
        entry
    }

    /// Gives a name up, unless somebody else has it by now.
    pub fn forget(&self, name: &str, number: u64) {
        let mut entries = self.entries.borrow_mut();
        if entries.get(name).is_some_and(|entry| entry.number == number) {
            entries.remove(name);
        }
    }

    /// A place. When there is none, the session goes that has been away for longest; `None`: all
    /// have connections.
    pub async fn place(self: &Rc<Self>) -> Option<Place> {
        loop {
            let freed = self.freed.notified();
            if self.places.get() < self.places_max {
                self.places.set(self.places.get() + 1);
                return Some(Place(Rc::clone(self)));
            }
            self.oldest_away()?.send(Visit::Replaced);
            freed.await;
        }
    }

    fn oldest_away(&self) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let away = entries.values().filter(|entry| entry.away.get().is_some());
        away.min_by_key(|entry| entry.away.get()).map(Rc::clone)
    }
}

impl Entry {
    /// Whether the session is there to hear it. There are as many visits as connections.
    pub fn send(&self, visit: Visit) -> bool {
        self.visits.send(visit).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_taken_from_who_has_been_away_for_longest() {
        let names = Rc::new(Names::new(2));
        let (visits, mut told) = mpsc::unbounded_channel();
        let places = [names.place().await, names.place().await];
        assert!(places.iter().all(Option::is_some));
        let early = names.take("early", None, 1, visits);
        let (other, _others) = mpsc::unbounded_channel();
        let late = names.take("late", None, 2, other);
        assert!(names.place().await.is_none(), "both have connections");
        late.away.set(Some(Time(2)));
        early.away.set(Some(Time(1)));
        let mut places = places.into_iter();
        let leaves = async {
            assert!(matches!(told.recv().await, Some(Visit::Replaced)));
            drop(places.next());
        };
        let (place, ()) = tokio::join!(names.place(), leaves);
        assert!(place.is_some());
    }

    #[tokio::test]
    async fn a_session_is_kept_for_its_name_and_token_alone() {
        let names = Names::new(2);
        let (visits, mut told) = mpsc::unbounded_channel();
        let entry = names.take("lamp", Some("secret"), 1, visits.clone());
        assert!(names.kept("lamp", Some("secret")).is_none(), "it ends with its connection");
        entry.keeps.set(true);
        assert!(names.kept("lamp", Some("secret")).is_some());
        assert!(names.kept("lamp", Some("guess")).is_none());
        assert!(names.kept("lamp", None).is_none());
        assert!(names.kept("fan", Some("secret")).is_none());
        names.take("lamp", None, 2, visits);
        assert!(matches!(told.recv().await, Some(Visit::Replaced)));
        names.forget("lamp", 1);
        assert!(names.entries.borrow().contains_key("lamp"), "it is another's by now");
        names.forget("lamp", 2);
        assert!(names.entries.borrow().is_empty());
    }
}
