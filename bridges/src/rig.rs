//! A bridge on a bench: the router's frames go in, what it answers is read in words.

use clasp_rt_core::time::Time;

use crate::uplink::tests::{Said, set_frame};
use crate::{Bridge, Input};

pub(crate) struct Rig<B> {
    pub(crate) bridge: B,
    pub(crate) now: Time,
    pub(crate) said: Said,
}

impl<B: Bridge> Rig<B> {
    /// One that has joined its router; what it said then is there to be read.
    pub(crate) fn joined(bridge: B) -> Self {
        let mut rig = Self { bridge, now: Time::default(), said: Said::default() };
        rig.step(Input::Joined);
        rig
    }

    pub(crate) fn step(&mut self, input: Input<'_>) {
        self.bridge.step(self.now, input, &mut self.said);
    }

    /// What is said to one SET of the router.
    pub(crate) fn set(&mut self, address: &str, push: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        self.said.frames.clear();
        self.step(Input::Frame(&set_frame(address, push)));
        self.said.take_lines()
    }
}
