//! MIDI clock: 24 a quarter note become a tempo, a beat and a bar.
//!
//! Source: MIDI 1.0 Detailed Specification, "System Real Time Messages" and "Song Position
//! Pointer". A song position counts sixteenth notes, six clocks each.

use clasp_rt_core::time::{Span, Time};

use super::message::MAX_14_BIT;

/// Clocks of a quarter note.
pub(super) const PER_BEAT: u64 = 24;

/// Clocks of a sixteenth note.
const PER_SIXTEENTH: u64 = 6;

/// A clock that is so late begins a new measurement: slower than 30 beats a minute runs nothing
/// that has a tempo.
const GAP_MAX: Span = Span::from_millis(500);

/// A tempo nearer than this to the one told last is the same one, seen through jitter.
const TEMPO_STEP_BPM: f64 = 0.05;

/// Where a sequencer is, and how fast it goes.
#[derive(Debug)]
pub(super) struct Clock {
    beats_per_bar: u64,
    running: bool,
    /// The number of the next clock since the start of the song.
    next: u64,
    last: Option<Time>,
    /// When each of the last [`PER_BEAT`] clocks came, the oldest at `oldest` once all are there.
    came: [Time; PER_BEAT as usize],
    count: usize,
    oldest: usize,
    tempo_bpm: Option<f64>,
}

/// What one clock means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tick {
    /// A tempo that differs from the one before, in quarter notes a minute.
    pub tempo_bpm: Option<f64>,
    /// A beat begins here.
    pub beat: Option<Beat>,
    /// Number of this clock since the start of the song, while it runs.
    pub number: Option<u64>,
}

/// Counted from 1, as musicians do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub beat: u64,
    pub bar: u64,
}

impl Clock {
    pub(super) fn new(beats_per_bar: u8) -> Self {
        Self {
            beats_per_bar: u64::from(beats_per_bar.max(1)),
            running: false,
            next: 0,
            last: None,
            came: [Time(0); PER_BEAT as usize],
            count: 0,
            oldest: 0,
            tempo_bpm: None,
        }
    }

    pub(super) fn tick(&mut self, now: Time) -> Tick {
        let mut tick = Tick { tempo_bpm: self.measure(now), ..Tick::default() };
        if self.running {
            tick.number = Some(self.next);
            if self.next.is_multiple_of(PER_BEAT) {
                tick.beat = Some(self.beat());
            }
            self.next += 1;
        }
        tick
    }

    /// The tempo over the last quarter note, where it is a new one.
    fn measure(&mut self, now: Time) -> Option<f64> {
        if self.last.is_some_and(|last| now.since(last) > GAP_MAX) {
            (self.count, self.oldest) = (0, 0);
        }
        self.last = Some(now);
        if self.count < self.came.len() {
            self.came[self.count] = now;
            self.count += 1;
            return None;
        }
        let beat = now.since(std::mem::replace(&mut self.came[self.oldest], now));
        self.oldest = (self.oldest + 1) % self.came.len();
        // Once a beat is often enough, and averages what a cable and a kernel add.
        if self.oldest != 1 || beat == Span::ZERO {
            return None;
        }
        let tempo_bpm = 60e9 / beat.0 as f64;
        let is_new = self.tempo_bpm.is_none_or(|told| (told - tempo_bpm).abs() >= TEMPO_STEP_BPM);
        is_new.then(|| {
            let rounded = (tempo_bpm * 100.0).round() / 100.0;
            self.tempo_bpm = Some(rounded);
            rounded
        })
    }

    pub(super) fn start(&mut self) {
        (self.running, self.next) = (true, 0);
    }

    pub(super) fn resume(&mut self) {
        self.running = true;
    }

    pub(super) fn stop(&mut self) {
        self.running = false;
    }

    /// Jumps to a song position.
    pub(super) fn locate(&mut self, sixteenths: u16) {
        self.next = u64::from(sixteenths) * PER_SIXTEENTH;
    }

    /// The song position in sixteenth notes; beyond what 14 bits hold it stays there.
    pub(super) fn position(&self) -> u16 {
        (self.next / PER_SIXTEENTH).min(u64::from(MAX_14_BIT)) as u16
    }

    /// The beat that the next clock is in.
    pub(super) fn beat(&self) -> Beat {
        let beats = self.next / PER_BEAT;
        Beat { beat: beats % self.beats_per_bar + 1, bar: beats / self.beats_per_bar + 1 }
    }

    pub(super) fn tempo_bpm(&self) -> Option<f64> {
        self.tempo_bpm
    }

    pub(super) fn is_running(&self) -> bool {
        self.running
    }
}

/// How long a clock lasts at this tempo.
pub(super) fn interval(tempo_bpm: f64) -> Span {
    Span((60e9 / tempo_bpm / PER_BEAT as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tempo_is_that_of_a_whole_beat_whatever_single_clocks_do() {
        for bpm in [30.5, 60.0, 120.0, 128.0, 174.25, 300.0] {
            let (mut clock, mut told, each) = (Clock::new(4), Vec::new(), interval(bpm));
            for number in 0..240_u64 {
                // A cable's jitter: every other clock a millisecond late.
                let late = Span::from_millis(number % 2);
                told.extend(clock.tick(Time(1_000 + number * each.0) + late).tempo_bpm);
            }
            assert_eq!(told.len(), 1, "{bpm}: {told:?}");
            assert!((told[0] - bpm).abs() < 0.011, "{bpm}: {told:?}");
        }
    }

    #[test]
    fn beats_and_bars_are_counted_from_where_the_song_stands() {
        let mut clock = Clock::new(3);
        let mut time = 0;
        let mut beats = |clock: &mut Clock, count: usize| -> Vec<(u64, u64)> {
            let ticks = (0..count).map(|_| {
                time += 20_000_000;
                clock.tick(Time(time))
            });
            ticks.filter_map(|tick| tick.beat).map(|beat| (beat.bar, beat.beat)).collect()
        };
        assert_eq!(beats(&mut clock, 100), [], "nothing counts before it runs");
        clock.start();
        assert_eq!(beats(&mut clock, 97), [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]);
        clock.stop();
        assert_eq!(beats(&mut clock, 100), []);
        assert_eq!(clock.position(), 16);
        clock.locate(12);
        clock.resume();
        assert_eq!(beats(&mut clock, 24), [(2, 1)]);
    }

    #[test]
    fn a_pause_begins_a_new_measurement() {
        let mut clock = Clock::new(4);
        for number in 0..25 {
            clock.tick(Time(number * interval(120.0).0));
        }
        assert_eq!(clock.tempo_bpm(), Some(120.0));
        let later = Time(100_000_000_000);
        let told = (0..25).filter_map(|n| clock.tick(later + Span(n * interval(60.0).0)).tempo_bpm);
        assert_eq!(told.collect::<Vec<_>>(), [60.0]);
    }
}
