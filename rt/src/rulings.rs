//! Changed arbitrations and sources on their way to the shards, and what these need no more on its
//! way back.

use std::thread;
use std::time::Duration;

use clasp_rt_core::limits::Limits;
use clasp_rt_core::shard::{Arbitration, Ruling, Settings, SourceFor};
use clasp_rt_ring::alloc;
use rtrb::{Consumer, Producer, RingBuffer};

/// Rulings on their way to one shard: one that it holds and one behind it.
const QUEUE_MAX: usize = 2;
/// Shards take a ruling in their next turn, unless a bundle is being decided across homes.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const LOOKS_MAX: u32 = 5_000;

/// The shard's end.
pub struct Rulings {
    told: Consumer<Box<Ruling>>,
    back: Producer<Box<Ruling>>,
    /// The shard could not take it yet.
    held: Option<Box<Ruling>>,
}

impl Rulings {
    /// What the shard is to take now.
    pub fn next(&mut self) -> Option<Box<Ruling>> {
        self.held.take().or_else(|| self.told.pop().ok())
    }

    /// It is offered again with the next turn.
    pub fn hold(&mut self, ruling: Box<Ruling>) {
        self.held = Some(ruling);
    }

    /// Hands over what is to be freed, which also says that the ruling was taken.
    pub fn give_back(&mut self, rest: Box<Ruling>) {
        let given = self.back.push(rest);
        debug_assert!(given.is_ok(), "each that was told leaves room for one");
    }
}

/// To a shard, and back.
type Way = (Producer<Box<Ruling>>, Consumer<Box<Ruling>>);

/// What became of a ruling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Every shard has taken it.
    Taken,
    /// Some shards have not yet, and will by themselves.
    Underway,
    /// No shard hears of it: one has not taken those before.
    Refused,
}

/// The ends of the thread that reads the configuration.
pub struct Rulers {
    shards: Vec<Way>,
    limits: Limits,
    seed: [u64; 2],
    has_room: bool,
    /// Rulings that were told and have not come back.
    due: usize,
}

/// The ways to as many shards as `settings` say.
pub fn ways(shards: usize, settings: Option<&Settings>) -> (Rulers, Vec<Rulings>) {
    let (rulers, rulings) = (0..shards)
        .map(|_| {
            let (tell, told) = RingBuffer::new(QUEUE_MAX);
            let (back, rest) = RingBuffer::new(QUEUE_MAX);
            ((tell, rest), Rulings { told, back, held: None })
        })
        .unzip();
    let rulers = Rulers {
        shards: rulers,
        limits: settings.map(|settings| settings.limits.clone()).unwrap_or_default(),
        seed: settings.map(|settings| settings.seed).unwrap_or_default(),
        has_room: settings.is_some_and(|settings| !settings.arbitrations.is_empty()),
        due: 0,
    };
    (rulers, rulings)
}

impl Rulers {
    /// Tells every shard who wins what from now on, wakes it with `ring`, and waits until all have
    /// taken it, up to a bound.
    pub fn tell(
        &mut self,
        arbitrations: &[Arbitration],
        sources: &[SourceFor],
        ring: impl Fn(),
    ) -> Told {
        self.take_back();
        if self.shards.iter().any(|(tell, _)| tell.slots() < QUEUE_MAX) {
            return Told::Refused;
        }
        let needs_room = !self.has_room && !arbitrations.is_empty();
        for (tell, _) in &mut self.shards {
            let ruling = Ruling::new(arbitrations.to_vec(), sources.to_vec());
            let ruling = match needs_room {
                true => alloc::touched(|| ruling.with_room(&self.limits, self.seed)),
                false => ruling,
            };
            self.due += usize::from(tell.push(Box::new(ruling)).is_ok());
        }
        self.has_room |= needs_room;
        ring();
        for _ in 0..LOOKS_MAX {
            self.take_back();
            if self.due == 0 {
                return Told::Taken;
            }
            thread::sleep(LOOK_EVERY);
        }
        Told::Underway
    }

    /// Frees what the shards gave back.
    fn take_back(&mut self) {
        for (_, rest) in &mut self.shards {
            while rest.pop().is_ok() {
                self.due -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shard_has_not_taken_yet_is_not_overtaken() {
        let (mut rulers, mut rulings) = ways(1, None);
        let shard = &mut rulings[0];
        // As a shard would that is woken.
        let taken = std::cell::RefCell::new(&mut *shard);
        let take = || {
            let ruling = taken.borrow_mut().next().expect("it was told");
            taken.borrow_mut().give_back(ruling);
        };
        assert_eq!(rulers.tell(&[], &[], take), Told::Taken);
        assert_eq!(rulers.tell(&[], &[], take), Told::Taken);
        let full = Box::new(Ruling::new(Vec::new(), Vec::new()));
        assert!(rulers.shards[0].0.push(full).is_ok());
        let told = rulers.tell(&[], &[], || unreachable!("nobody is woken"));
        assert_eq!(told, Told::Refused);
        let ruling = shard.next().expect("it was told");
        shard.hold(ruling);
        assert!(shard.next().is_some(), "what was held is offered again");
        assert!(shard.next().is_none());
    }
}
