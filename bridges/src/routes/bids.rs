//! What losers say, passed on: a target is told of all who want what it is made of, not only of the
//! one that has it.

use std::ops::Range;

use super::Ready;
use crate::transform::Memory;
use crate::uplink::{Bid, Kind, Uplink};
use crate::{Counters, Out};

/// Passes on what a source says of an address that another one has. Where a route remembers, only
/// what is shown counts.
pub(super) fn pass_bids(
    uplink: &mut Uplink,
    routes: &mut [Ready],
    bid: &Bid<'_>,
    (captures, to): (&mut Vec<Range<usize>>, &mut String),
    counters: &mut Counters,
    out: &mut dyn Out,
) {
    for route in routes.iter_mut().filter(|route| route.passes_on && !route.remembers()) {
        let mut ways = route.ways.iter();
        let way = ways.find(|(from, _)| from.captures(bid.address, captures));
        let is_param = route.write.signal(Kind::Written).is_none();
        let Some((_, template)) = way.filter(|_| is_param) else { continue };
        if template.fill(bid.address, captures, to)
            && let Some(source) = route.source(Some(bid.source), "")
        {
            let value = route.transform.apply(bid.value.clone(), &mut Memory::default());
            uplink.bid(to, &source, |bytes| value.append(bytes), counters, out);
            uplink.send(None, counters, out);
        }
    }
}

impl Ready {
    /// Whether what it writes depends on more than what it hears last.
    fn remembers(&self) -> bool {
        self.aggregate.is_some() || self.transform.remembers()
    }
}
