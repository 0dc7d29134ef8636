//! What the router is told of a universe: the SETs of its changed slots, or one of it whole.

use clasp_rt_core::time::Time;
use clasp_rt_core::value::push_bytes;

use super::Mode;
use super::input::Universe;
use super::output::{Origin, Outputs};
use crate::universes::telling;
use crate::uplink::Uplink;
use crate::{Counters, Out};

pub(super) struct Telling {
    mode: Mode,
    words: telling::Telling,
}

impl Telling {
    pub(super) fn new(namespace: &str, mode: Mode, normalize: bool) -> Self {
        Self { mode, words: telling::Telling::new(namespace, normalize) }
    }

    /// Tells what the router does not know of `universe`. Each slot of it is written to `resend`,
    /// too.
    pub(super) fn tell(
        &mut self,
        now: Time,
        universe: &mut Universe,
        uplink: &mut Uplink,
        mut resend: Option<&mut Outputs>,
        counters: &mut Counters,
        out: &mut dyn Out,
    ) {
        let port_address = universe.port_address;
        self.words.begin(port_address.number());
        let mut any = false;
        universe.advance(|slot, level| {
            any = true;
            if self.mode == Mode::Channel {
                uplink.add(self.words.slot(slot, level), counters, out);
            }
            if let Some(outputs) = &mut resend
                && !outputs.write(now, port_address, slot, level, Origin::Written)
            {
                counters.overflowed += 1;
            }
        });
        if any && self.mode == Mode::Universe {
            let address = self.words.begin(port_address.number());
            uplink.set(address, |bytes| push_bytes(bytes, universe.look()), counters, out);
        }
        uplink.send(None, counters, out);
    }
}
