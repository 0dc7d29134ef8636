//! One number on its way to another, in a straight line.

use clasp_rt_core::time::{Span, Time};

/// Nothing is known until the first aim, which is reached at once: there is no look to come from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fade {
    line: Option<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    from: u32,
    to: u32,
    start: Time,
    length: Span,
}

impl Fade {
    /// Goes from where it is now to `to`, and takes `length` for it.
    pub(super) fn aim(&mut self, now: Time, to: u32, length: Span) {
        let from = self.at(now);
        if self.line.is_some_and(|line| line.to == to) {
            return;
        }
        let length = if from.is_some() { length } else { Span(0) };
        self.line = Some(Line { from: from.unwrap_or(to), to, start: now, length });
    }

    /// Where it is.
    pub(super) fn at(&self, now: Time) -> Option<u32> {
        let Line { from, to, start, length } = self.line?;
        let passed = now.since(start);
        if passed >= length {
            return Some(to);
        }
        let (from, to) = (i128::from(from), i128::from(to));
        let way = (to - from) * i128::from(passed.0) / i128::from(length.0);
        u32::try_from(from + way).ok()
    }

    pub(super) fn is_moving(&self, now: Time) -> bool {
        self.line.is_some_and(|line| now.since(line.start) < line.length && line.from != line.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::default() + Span::from_millis(ms)
    }

    #[test]
    fn the_first_aim_is_reached_at_once_and_each_further_one_in_a_straight_line() {
        let mut fade = Fade::default();
        assert_eq!((fade.at(at(0)), fade.is_moving(at(0))), (None, false));
        fade.aim(at(0), 100, Span::from_millis(1_000));
        assert_eq!((fade.at(at(0)), fade.is_moving(at(0))), (Some(100), false));
        fade.aim(at(0), 200, Span::from_millis(1_000));
        assert_eq!(
            [0, 250, 999, 1_000, 9_000].map(|ms| fade.at(at(ms))),
            [100, 125, 199, 200, 200].map(Some)
        );
        assert!(fade.is_moving(at(999)) && !fade.is_moving(at(1_000)));
    }

    #[test]
    fn a_fade_that_is_turned_round_begins_where_it_is() {
        let mut fade = Fade::default();
        fade.aim(at(0), 0, Span(0));
        fade.aim(at(0), 1_000, Span::from_millis(1_000));
        fade.aim(at(500), 0, Span::from_millis(1_000));
        assert_eq!([500, 1_000, 1_500].map(|ms| fade.at(at(ms))), [500, 250, 0].map(Some));
        // The same aim again changes nothing.
        fade.aim(at(1_000), 0, Span::from_millis(1_000));
        assert_eq!(fade.at(at(1_500)), Some(0));
    }
}
