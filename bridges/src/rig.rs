//! A bridge on a bench: what happens to it goes in, and what it says is kept for a test to read.

use clasp_rt_core::time::{Span, Time};

use crate::uplink::tests::{Said, set_frame};
use crate::{Bridge, Input, Out};

/// `O` keeps what the bridge says.
pub(crate) struct Rig<B, O = Said> {
    pub(crate) bridge: B,
    pub(crate) now: Time,
    pub(crate) said: O,
}

impl<B: Bridge, O: Out + Default> Rig<B, O> {
    /// One that has joined its router; what it said then is there to be read.
    pub(crate) fn joined(bridge: B) -> Self {
        let mut rig = Self { bridge, now: Time::default(), said: O::default() };
        rig.step(Input::Joined);
        rig
    }

    pub(crate) fn step(&mut self, input: Input<'_>) {
        self.bridge.step(self.now, input, &mut self.said);
    }

    /// Lets time pass, with every deadline on the way.
    pub(crate) fn wait(&mut self, span: Span) {
        let end = self.now + span;
        while let Some(due) = self.bridge.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.step(Input::Deadline);
        }
        self.now = end;
    }
}

impl<B: Bridge> Rig<B> {
    /// What is said to one SET of the router.
    pub(crate) fn set(&mut self, address: &str, push: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        self.said.frames.clear();
        self.step(Input::Frame(&set_frame(address, push)));
        self.said.take_lines()
    }
}
