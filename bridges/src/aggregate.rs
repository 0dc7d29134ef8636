//! What becomes of many sources that write one target: an average, the highest, a rate.
//!
//! | rule | over | result |
//! |---|---|---|
//! | `average`, `sum`, `min`, `max`, `std_dev` | the last value of every source | a number |
//! | `first` | the sources | the last value of the source that was heard first |
//! | `latest` | the values | the newest, whoever sent it |
//! | `count` | the sources | how many were heard |
//! | `moving_average` | the newest `window_size` values, whoever sent them | their average |
//! | `rate_of_change` | the newest two values | difference a second; 0 at first |
//!
//! What is no number passes by and changes nothing. `sum`, `min`, `max`, `first` and `latest` of
//! ints are ints, everything else but `count` is a float.

use clasp_rt_core::time::Time;
use serde::Deserialize;

use crate::ConfigError;
use crate::datum::Datum;
use crate::transform::number_like;

/// Sources that one target remembers.
pub const SOURCES_MAX: usize = 64;

/// Values that a moving average may span.
pub const WINDOW_MAX: usize = 1_024;

/// As the configuration writes it: `{ type = "moving_average", window_size = 8 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[serde(expecting = "a table such as { type = \"average\" }")]
pub enum Aggregate {
    Average {},
    Sum {},
    Min {},
    Max {},
    Latest {},
    First {},
    Count {},
    /// 1 to [`WINDOW_MAX`] values.
    MovingAverage {
        window_size: usize,
    },
    RateOfChange {},
    /// Of the whole population, not of a sample of it.
    StdDev {},
}

impl Aggregate {
    pub fn check(self) -> Result<(), ConfigError> {
        match self {
            Self::MovingAverage { window_size } if !(1..=WINDOW_MAX).contains(&window_size) => {
                let why = format!("must be 1 to {WINDOW_MAX}");
                Err(ConfigError::new("window_size", why))
            }
            _ => Ok(()),
        }
    }
}

/// What one target remembers of its sources.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    /// In the order in which they were first heard.
    sources: Vec<Source>,
    /// The newest values of a moving average; `next` is the oldest once it is full.
    window: Vec<f64>,
    next: usize,
    newest: Option<(Time, f64)>,
    rate: f64,
}

#[derive(Clone, Debug)]
struct Source {
    address: String,
    last: f64,
    is_int: bool,
}

/// The target has [`SOURCES_MAX`] sources already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySources;

impl Fold {
    /// Takes `value` from `source` and gives what the target becomes.
    pub fn take<'a>(
        &mut self,
        rule: Aggregate,
        now: Time,
        source: &str,
        value: Datum<'a>,
    ) -> Result<Datum<'a>, TooManySources> {
        let Some(x) = value.number() else { return Ok(value) };
        let is_int = matches!(value, Datum::Int(_));
        match rule {
            Aggregate::Latest {} => return Ok(value),
            Aggregate::MovingAverage { window_size } => {
                self.slide(window_size, x);
                return Ok(Datum::Float(mean(self.window.iter().copied())));
            }
            Aggregate::RateOfChange {} => return Ok(Datum::Float(self.rate(now, x))),
            _ => self.remember(source, x, is_int)?,
        }
        let values = self.sources.iter().map(|source| source.last);
        let all_int = self.sources.iter().all(|source| source.is_int);
        Ok(match rule {
            Aggregate::Average {} => Datum::Float(mean(values)),
            Aggregate::StdDev {} => Datum::Float(deviation(values)),
            Aggregate::Sum {} => number_like(all_int, values.sum()),
            // Not `f64::min`: it would prefer a number to NaN, and hide a broken sensor.
            Aggregate::Min {} => {
                number_like(all_int, values.fold(x, |low, x| if x < low { x } else { low }))
            }
            Aggregate::Max {} => {
                number_like(all_int, values.fold(x, |high, x| if x > high { x } else { high }))
            }
            Aggregate::First {} => match self.sources.first() {
                Some(first) => number_like(first.is_int, first.last),
                None => value,
            },
            Aggregate::Count {} => Datum::Int(self.sources.len() as i64),
            Aggregate::Latest {} | Aggregate::MovingAverage { .. } | Aggregate::RateOfChange {} => {
                value
            }
        })
    }

    fn remember(&mut self, address: &str, last: f64, is_int: bool) -> Result<(), TooManySources> {
        if let Some(source) = self.sources.iter_mut().find(|source| source.address == address) {
            (source.last, source.is_int) = (last, is_int);
        } else if self.sources.len() < SOURCES_MAX {
            self.sources.push(Source { address: address.to_string(), last, is_int });
        } else {
            return Err(TooManySources);
        }
        Ok(())
    }

    fn slide(&mut self, window_size: usize, x: f64) {
        match self.window.get_mut(self.next) {
            Some(oldest) => *oldest = x,
            None => self.window.push(x),
        }
        self.next = (self.next + 1) % window_size.max(1);
    }

    /// Two values of one instant have no rate: the one before them stands.
    fn rate(&mut self, now: Time, x: f64) -> f64 {
        if let Some((then, before)) = self.newest {
            let seconds = now.since(then).0 as f64 / 1e9;
            if seconds == 0.0 {
                return self.rate;
            }
            self.rate = (x - before) / seconds;
        }
        self.newest = Some((now, x));
        self.rate
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn deviation(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let mean = mean(values.clone());
    let count = values.len() as f64;
    (values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use clasp_rt_core::time::Span;

    use super::*;
    use Datum::{Bool, Float, Int};

    fn rule(json: &str) -> Aggregate {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn every_rule_does_what_the_table_says() {
        // Source, value; a tenth of a second lies between them.
        let values = [
            ("a", Int(4)),
            ("b", Int(8)),
            ("a", Int(2)),
            ("c", Bool(true)),
            ("c", Float(3.5)),
            ("b", Int(-1)),
        ];
        let f = Float;
        let yes = Bool(true);
        let cases = [
            ("average", [f(4.0), f(6.0), f(5.0), yes.clone(), f(4.5), f(1.5)]),
            ("sum", [Int(4), Int(12), Int(10), yes.clone(), f(13.5), f(4.5)]),
            ("min", [Int(4), Int(4), Int(2), yes.clone(), f(2.0), f(-1.0)]),
            ("max", [Int(4), Int(8), Int(8), yes.clone(), f(8.0), f(3.5)]),
            ("latest", [Int(4), Int(8), Int(2), yes.clone(), f(3.5), Int(-1)]),
            ("first", [Int(4), Int(4), Int(2), yes.clone(), Int(2), Int(2)]),
            ("count", [Int(1), Int(2), Int(2), yes.clone(), Int(3), Int(3)]),
            ("rate_of_change", [f(0.0), f(40.0), f(-60.0), yes.clone(), f(7.5), f(-45.0)]),
        ];
        for (name, expected) in cases {
            let rule = rule(&format!(r#"{{"type":"{name}"}}"#));
            let mut fold = Fold::default();
            for (index, ((source, value), expected)) in values.iter().zip(expected).enumerate() {
                let now = Time::default() + Span::from_millis(100 * index as u64);
                let result = fold.take(rule, now, source, value.clone());
                assert_eq!(result, Ok(expected), "{name}, value {index}");
            }
        }
    }

    #[test]
    fn a_deviation_is_that_of_the_whole_population() {
        let mut fold = Fold::default();
        let mut last = Float(0.0);
        for (index, x) in [2, 4, 4, 4, 5, 5, 7, 9].into_iter().enumerate() {
            let source = index.to_string();
            let rule = rule(r#"{"type":"std_dev"}"#);
            last = fold.take(rule, Time::default(), &source, Int(x)).expect("room");
        }
        assert_eq!(last, Float(2.0));
    }

    #[test]
    fn a_moving_average_forgets_the_oldest() {
        let rule = rule(r#"{"type":"moving_average","window_size":3}"#);
        let mut fold = Fold::default();
        let cases = [(3, 3.0), (5, 4.0), (7, 5.0), (9, 7.0), (-1, 5.0), (1, 3.0), (0, 0.0)];
        for (x, average) in cases {
            let result = fold.take(rule, Time::default(), "a", Int(x));
            assert_eq!(result, Ok(Float(average)), "{x}");
        }
    }

    #[test]
    fn two_values_of_one_instant_keep_the_rate() {
        let rule = rule(r#"{"type":"rate_of_change"}"#);
        let mut fold = Fold::default();
        let second = Time::default() + Span::from_secs(1);
        for (now, x, rate) in [(Time::default(), 0, 0.0), (second, 5, 5.0), (second, 9, 5.0)] {
            assert_eq!(fold.take(rule, now, "a", Int(x)), Ok(Float(rate)));
        }
    }

    #[test]
    fn more_sources_than_a_target_remembers_are_refused() {
        let rule = rule(r#"{"type":"sum"}"#);
        let mut fold = Fold::default();
        for source in 0..SOURCES_MAX {
            fold.take(rule, Time::default(), &source.to_string(), Int(1)).expect("room");
        }
        let sum = Int(SOURCES_MAX as i64);
        assert_eq!(fold.take(rule, Time::default(), "more", Int(1)), Err(TooManySources));
        assert_eq!(fold.take(rule, Time::default(), "0", Int(1)), Ok(sum));
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        for size in [0, WINDOW_MAX + 1] {
            let json = format!(r#"{{"type":"moving_average","window_size":{size}}}"#);
            assert!(rule(&json).check().is_err(), "{size}");
        }
        for json in [r#"{"type":"median"}"#, r#"{"type":"sum","window_size":3}"#] {
            assert!(serde_json::from_str::<Aggregate>(json).is_err(), "{json}");
        }
    }
}
