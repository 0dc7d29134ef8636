//! The params of one device: who wrote each last, and who does not know it yet.
//!
//! It serves three ends. A motor fader is not sent the value that it has just told; a router that
//! comes back is told what moved meanwhile; a device that is plugged in again gets its lights and
//! faders back.

use std::collections::BTreeMap;

use super::param::Param;

/// Params of one device that are remembered; further ones are passed on and forgotten.
pub(super) const PARAMS_MAX: usize = 8_192;

/// Roughly what one takes in the table.
pub(super) const PARAM_BYTES: u64 = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Device,
    Router,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    value: u16,
    /// Who wrote it.
    from: Side,
    /// It stands in the line of what the device wrote.
    in_device_line: bool,
    /// It stands in the line of what the router wrote.
    in_router_line: bool,
}

impl Cell {
    fn in_line(&mut self, of: Side) -> &mut bool {
        match of {
            Side::Device => &mut self.in_device_line,
            Side::Router => &mut self.in_router_line,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Known {
    cells: BTreeMap<Param, Cell>,
}

/// What a write leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The param is to stand in line to the other side.
    Queue,
    /// It stands there already; the newer value goes in its place.
    Queued,
    /// The other side has this value: it said so itself.
    Nothing,
    /// There is no room to remember one more.
    Full,
}

impl Known {
    pub(super) fn write(&mut self, param: Param, value: u16, from: Side) -> Next {
        let Some(cell) = self.cells.get_mut(&param) else {
            if self.cells.len() == PARAMS_MAX {
                return Next::Full;
            }
            let mut cell = Cell { value, from, in_device_line: false, in_router_line: false };
            *cell.in_line(from) = true;
            self.cells.insert(param, cell);
            return Next::Queue;
        };
        // A pad's light is not its key: it is set as often as somebody wants.
        let is_light = matches!(param, Param::Held { .. });
        let is_echo = from == Side::Router && cell.from == Side::Device && cell.value == value;
        if is_echo && !is_light {
            return Next::Nothing;
        }
        (cell.value, cell.from) = (value, from);
        let was_in_line = std::mem::replace(cell.in_line(from), true);
        if was_in_line { Next::Queued } else { Next::Queue }
    }

    /// Takes a param out of the line of what `from` wrote: its value, unless the other side wrote
    /// meanwhile.
    pub(super) fn take(&mut self, param: Param, from: Side) -> Option<u16> {
        let cell = self.cells.get_mut(&param)?;
        *cell.in_line(from) = false;
        (cell.from == from).then_some(cell.value)
    }

    pub(super) fn value(&self, param: Param) -> Option<u16> {
        self.cells.get(&param).map(|cell| cell.value)
    }

    /// Begins the line of what `from` wrote anew, with everything that it wrote last.
    pub(super) fn again(&mut self, from: Side) -> impl Iterator<Item = Param> {
        self.cells.iter_mut().filter_map(move |(param, cell)| {
            let is_theirs = cell.from == from;
            *cell.in_line(from) = is_theirs;
            is_theirs.then_some(*param)
        })
    }

    /// The keys that the device holds down.
    pub(super) fn held(&self) -> Vec<Param> {
        let is_down = |(param, cell): &(&Param, &Cell)| {
            matches!(param, Param::Held { .. }) && cell.from == Side::Device && cell.value > 0
        };
        self.cells.iter().filter(is_down).map(|(param, _)| *param).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FADER: Param = Param::Control { channel: 0, number: 7 };
    const PAD: Param = Param::Held { channel: 0, note: 36 };

    #[test]
    fn a_fader_is_not_sent_what_it_said_and_a_pad_is() {
        let mut known = Known::default();
        assert_eq!(known.write(FADER, 5, Side::Device), Next::Queue);
        assert_eq!(known.write(FADER, 5, Side::Router), Next::Nothing);
        assert_eq!(known.write(FADER, 6, Side::Router), Next::Queue);
        assert_eq!(known.write(FADER, 5, Side::Router), Next::Queued);
        assert_eq!(known.take(FADER, Side::Device), None, "overtaken");
        assert_eq!(known.take(FADER, Side::Router), Some(5));
        assert_eq!(known.write(FADER, 7, Side::Router), Next::Queue);
        assert_eq!(known.write(PAD, 5, Side::Device), Next::Queue);
        assert_eq!(known.write(PAD, 5, Side::Router), Next::Queue);
    }

    #[test]
    fn beyond_the_limit_nothing_more_is_kept() {
        let mut known = Known::default();
        for number in 0..PARAMS_MAX as u16 {
            let param = Param::Nrpn { channel: 0, number };
            assert_eq!(known.write(param, 1, Side::Device), Next::Queue);
        }
        assert_eq!(known.write(FADER, 1, Side::Device), Next::Full);
        assert_eq!(known.again(Side::Device).count(), PARAMS_MAX);
        assert_eq!(known.again(Side::Router).count(), 0);
    }
}
