//! What is on its way to a broker, so that nothing of it is lost or said twice with a connection.

use std::collections::{HashMap, HashSet, VecDeque};

use super::broker::Telling;

/// Packet ids of messages at QoS 1 and 2 that a side has not taken, as they left.
#[derive(Debug, Default)]
pub struct Order(VecDeque<u16>);

impl Order {
    /// One has left, perhaps not for the first time.
    pub fn left(&mut self, id: u16) {
        if id != 0 && !self.0.contains(&id) {
            self.0.push_back(id);
        }
    }

    pub fn taken(&mut self, id: u16) {
        self.0.retain(|held| *held != id);
    }

    /// Smaller for what left earlier; greatest for what did not leave.
    pub fn place(&self, id: u16) -> usize {
        self.0.iter().position(|held| *held == id).unwrap_or(usize::MAX)
    }
}

/// What was handed to `rumqttc` and not taken by the broker.
///
/// What had not left when a connection ended is [`Flight::unsent`]. What had is sent again by the
/// library if the broker still knows the session ([`Flight::goes_on`]); else it must be said anew
/// ([`Flight::land`]).
#[derive(Debug, Default)]
pub struct Flight {
    handed: VecDeque<Telling>,
    flying: HashMap<u16, Telling>,
    order: Order,
    /// What the library sends again on this connection.
    again: HashSet<u16>,
}

impl Flight {
    pub fn handed(&mut self, telling: Telling) {
        self.handed.push_back(telling);
    }

    /// Messages at QoS 1 and 2 that the broker has not taken.
    pub fn count(&self) -> usize {
        self.flying.len() + self.handed.iter().filter(|telling| telling.qos > 0).count()
    }

    /// The oldest that was handed over has left, or one that had left before.
    pub fn left(&mut self, id: u16) {
        if self.again.remove(&id) {
            return;
        }
        if let Some(telling) = self.handed.pop_front()
            && id != 0
        {
            self.flying.insert(id, telling);
            self.order.left(id);
        }
    }

    pub fn taken(&mut self, id: u16) {
        self.flying.remove(&id);
        self.order.taken(id);
        self.again.remove(&id);
    }

    /// What had not left when the connection ended, oldest first.
    pub fn unsent(&mut self) -> Vec<Telling> {
        self.handed.drain(..).collect()
    }

    /// The broker knows what had left.
    pub fn goes_on(&mut self) {
        self.again = self.flying.keys().copied().collect();
    }

    /// The broker knows nothing of what had left, oldest first; nothing flies any more.
    pub fn land(&mut self) -> Vec<Telling> {
        self.again.clear();
        let Order(order) = std::mem::take(&mut self.order);
        order.into_iter().filter_map(|id| self.flying.remove(&id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(topic: &str) -> Telling {
        Telling {
            address: String::new(),
            topic: topic.to_owned(),
            payload: Vec::new(),
            qos: 1,
            retain: false,
            expiry_s: None,
            content_type: None,
            way: String::new(),
        }
    }

    fn topics(tellings: Vec<Telling>) -> Vec<String> {
        tellings.into_iter().map(|telling| telling.topic).collect()
    }

    /// `b` is not answered, `c` was taken, `a` and `d` fly, `e` has not left.
    fn flight() -> Flight {
        let mut flight = Flight::default();
        for topic in ["a", "b", "c", "d", "e"] {
            flight.handed(telling(topic));
        }
        for id in [7, 0, 8, 3] {
            flight.left(id);
        }
        flight.taken(8);
        flight
    }

    #[test]
    fn what_a_broker_that_forgot_did_not_take_is_known_in_its_order() {
        let mut flight = flight();
        assert_eq!(flight.count(), 3);
        assert_eq!(topics(flight.unsent()), ["e"]);
        assert_eq!(topics(flight.land()), ["a", "d"]);
        assert!(flight.land().is_empty() && flight.unsent().is_empty());
    }

    #[test]
    fn what_is_sent_again_to_a_broker_that_did_not_forget_is_not_taken_for_something_new() {
        let mut flight = flight();
        flight.unsent();
        flight.goes_on();
        flight.handed(telling("f"));
        flight.left(7);
        // At QoS 2 a release may be all that is sent again.
        flight.taken(3);
        flight.left(3);
        assert_eq!(topics(flight.land()), ["a", "f"], "and the newer one has its id");
    }

    #[test]
    fn places_follow_the_order_in_which_messages_left_and_not_their_ids() {
        let mut order = Order::default();
        for id in [19, 20, 1, 2, 19] {
            order.left(id);
        }
        order.taken(20);
        let mut ids = [2, 5, 1, 19];
        ids.sort_by_key(|id| order.place(*id));
        assert_eq!(ids, [19, 1, 2, 5]);
    }
}
