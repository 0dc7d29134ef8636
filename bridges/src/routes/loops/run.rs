//! How the values of one target come, and when it is to be asked.

use clasp_rt_core::time::{Span, Time};

/// Values of one run before it is asked for the first time, and after that.
const VALUES_MIN: u32 = 32;
const VALUES_AGAIN_MIN: u32 = 8;

/// Shortest time that is waited.
const WAIT_MIN: Span = Span::from_millis(20);

/// Nobody moves a fader so fast; several values that run in one ring are as fast.
const HASTE: Span = Span::from_millis(8);

/// Nor does a hand move it for so long without a rest: before that it is never kept waiting.
const MOVE_MAX: Span = Span::from_secs(3);

/// From one question to the next, as long as the values are somebody's.
const PATIENCE_MIN: Span = Span::from_millis(250);
const PATIENCE_MAX: Span = Span::from_secs(600);

/// Whoever was patient for so long is asked thoroughly: it may be several values in a slow ring.
const LONG: Span = Span::from_secs(4);

/// What is known of one target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    /// Of its address; 0: nobody has the place.
    pub(super) key: u64,
    pub(super) route: usize,
    /// The print of what was last written there, when, and the key of whence it came.
    pub(super) told: u64,
    pub(super) told_at: Time,
    pub(super) cause: u64,
    /// Prints of what was written there last, the newest first; 0: nothing yet.
    pub(super) said: [u64; 4],
    /// When its values came: since when they are counted, the last but one, the last.
    pub(super) first: Time,
    pub(super) prior: Time,
    pub(super) last: Time,
    /// Values since `first`, those of one instant once, and of those that begin with `lap`.
    pub(super) count: u32,
    pub(super) lap: Time,
    pub(super) lap_count: u32,
    /// Their usual interval when they were somebody's.
    pub(super) clean: Span,
    /// Not before.
    pub(super) ask_at: Time,
    pub(super) values_min: u32,
    pub(super) wait_min: Span,
    pub(super) patience: Span,
}

/// What a wait has shown.
pub(super) enum Shown {
    Nothing,
    Somebody,
    /// Fewer came than usual: a ring, with somebody beside it.
    Both,
}

impl Run {
    /// Values of one instant were not caused by what was written at it.
    pub(super) fn count_value(&mut self, now: Time, window: Span, is_probed: bool) {
        if self.count > 0 && now == self.last {
            return;
        }
        let was_silent = self.last == Time::default() || now.since(self.last) > window;
        let is_over = self.count == 0 || was_silent;
        (self.prior, self.last) = (self.last, now);
        if is_over && !is_probed {
            (self.first, self.lap) = (now, now);
            (self.count, self.lap_count) = (0, 0);
            (self.clean, self.values_min) = (Span::ZERO, VALUES_MIN);
            // What was kept waiting by a question somewhere else is asked as soon as can be.
            self.ask_at = if was_silent { now + self.uneven(MOVE_MAX) } else { now };
            (self.wait_min, self.patience) = (WAIT_MIN, PATIENCE_MIN);
        }
        self.count = self.count.saturating_add(1);
        self.lap_count += 1;
        if self.lap_count == VALUES_MIN {
            // Twice as fast as when it was somebody's: there may be a ring since.
            let is_faster = now.since(self.lap).0 * 2 < self.clean.0 * u64::from(VALUES_MIN);
            if is_faster {
                (self.ask_at, self.first, self.count) = (now, self.lap, VALUES_MIN);
            }
            // How it began says nothing of how it runs now.
            if !self.was_asked() {
                (self.first, self.count) = (self.lap, VALUES_MIN);
            }
            (self.lap, self.lap_count) = (now, 0);
        }
    }

    /// A quarter more at most: targets that ask at the same time would answer each other.
    fn uneven(&self, span: Span) -> Span {
        Span(span.0 + (span.0 / 4_096).saturating_mul(self.key % 1_024))
    }

    fn was_asked(&self) -> bool {
        self.values_min != VALUES_MIN
    }

    pub(super) fn is_to_be_asked(&self, now: Time) -> bool {
        let is_no_hand = !self.was_asked() && self.interval(now) < HASTE;
        self.count >= self.values_min && (now >= self.ask_at || is_no_hand)
    }

    /// From one value to the next, usually.
    pub(super) fn interval(&self, now: Time) -> Span {
        Span(now.since(self.first).0 / u64::from(self.count.saturating_sub(1).max(1)))
    }

    /// What it was asked has been answered.
    pub(super) fn begin_again(&mut self, now: Time, window: Span, interval: Span, shown: &Shown) {
        (self.first, self.lap, self.lap_count) = (now, now, 0);
        self.values_min = VALUES_AGAIN_MIN;
        // Of several values that run in one ring, each wait leaves fewer.
        if self.clean > Span::ZERO && interval.0 > self.clean.0 / 8 * 9 {
            self.patience = PATIENCE_MIN;
        }
        match shown {
            Shown::Nothing => self.count = 0,
            Shown::Both => {
                (self.count, self.clean) = (1, Span::ZERO);
                self.patience = PATIENCE_MIN;
            }
            Shown::Somebody => {
                (self.count, self.clean) = (1, interval);
                if interval < HASTE {
                    self.wait_min = Span(self.wait_min.0 * 2).min(window);
                } else if self.patience >= LONG {
                    self.wait_min = window;
                }
            }
        }
        self.ask_at = now + self.uneven(self.patience);
        if matches!(shown, Shown::Somebody) {
            self.patience = Span(self.patience.0 * 2).min(PATIENCE_MAX);
        }
    }
}
