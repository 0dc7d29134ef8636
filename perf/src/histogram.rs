//! Latencies in nanoseconds: fixed memory, mergeable, written the way HdrHistogram's tools read.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::buckets::Scale;

/// The longest latency that is told apart from longer ones: one minute.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Three digits: a value is kept to one part in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Points written for each halving of what remains above a percentile.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Every latency of one run or one shard. About 220 KiB, taken when made; recording allocates
/// nothing.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
    /// Samples above [`LATENCY_NS_MAX`]; they count as that value.
    clipped: u64,
}

/// The figures of a run that people compare, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub min_ns: u64,
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub p99_99_ns: u64,
    pub max_ns: u64,
}

/// One point of a percentile curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// 0.0..=1.0.
    pub quantile: f64,
    pub value_ns: u64,
    /// Samples at or below `value_ns`.
    pub count: u64,
}

impl Latency {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
            .expect("1..=one minute with three digits is a valid range");
        Self { histogram, clipped: 0 }
    }

    /// The samples of one page's histogram, each bucket by its least value.
    pub(crate) fn of(scale: Scale, buckets: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, scale.digits())
            .expect("1..=one minute with one to three digits is a valid range");
        buckets.for_each(|(ns, count)| histogram.saturating_record_n(ns, count));
        Self { histogram, clipped: 0 }
    }

    /// `None`: the histogram tells other latencies apart than ours do.
    pub(crate) fn from_histogram(histogram: Histogram<u64>) -> Option<Self> {
        let ours = histogram.low() == 1
            && histogram.high() == LATENCY_NS_MAX
            && (1..=SIGNIFICANT_DIGITS).contains(&histogram.sigfig());
        ours.then_some(Self { histogram, clipped: 0 })
    }

    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// Counts one sample. Zero counts as one nanosecond, because the scale is logarithmic.
    pub fn record(&mut self, latency_ns: u64) {
        if latency_ns > LATENCY_NS_MAX {
            self.clipped += 1;
        }
        self.histogram.saturating_record(latency_ns.clamp(1, LATENCY_NS_MAX));
    }

    pub fn record_duration(&mut self, latency: Duration) {
        self.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts `count` samples of the same latency.
    pub fn record_many(&mut self, latency_ns: u64, count: u64) {
        if latency_ns > LATENCY_NS_MAX {
            self.clipped += count;
        }
        self.histogram.saturating_record_n(latency_ns.clamp(1, LATENCY_NS_MAX), count);
    }

    /// Adds the samples of `other`, as if all had been recorded here.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
        self.clipped += other.clipped;
    }

    /// What was counted after `earlier`, which was this histogram; `None`: it was another one.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut histogram = self.histogram.clone();
        let same = histogram.sigfig() == earlier.histogram.sigfig();
        histogram.subtract(&earlier.histogram).ok().filter(|()| same)?;
        Some(Self { histogram, clipped: self.clipped.saturating_sub(earlier.clipped) })
    }

    /// How many samples were at or below each of `bounds_ns`, which rise.
    pub fn counts_up_to(&self, bounds_ns: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; bounds_ns.len()];
        for step in self.histogram.iter_recorded() {
            // By the least value of its bucket, so that a bound counts all samples below it.
            let least = self.histogram.lowest_equivalent(step.value_iterated_to());
            let first = bounds_ns.partition_point(|bound| *bound < least);
            counts[first..].iter_mut().for_each(|count| *count += step.count_at_value());
        }
        counts
    }

    pub fn clear(&mut self) {
        self.histogram.reset();
        self.clipped = 0;
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Samples that were longer than [`LATENCY_NS_MAX`].
    pub fn clipped(&self) -> u64 {
        self.clipped
    }

    /// The latency that the share `quantile` (0.0..=1.0) of samples did not exceed.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    pub fn summary(&self) -> Summary {
        if self.histogram.is_empty() {
            return Summary::default();
        }
        Summary {
            count: self.histogram.len(),
            min_ns: self.histogram.min(),
            mean_ns: self.histogram.mean(),
            p50_ns: self.quantile_ns(0.5),
            p90_ns: self.quantile_ns(0.9),
            p99_ns: self.quantile_ns(0.99),
            p99_9_ns: self.quantile_ns(0.999),
            p99_99_ns: self.quantile_ns(0.9999),
            max_ns: self.histogram.max(),
        }
    }

    /// The percentile curve, dense towards the tail; ends with the largest sample at quantile 1.
    pub fn curve(&self) -> Vec<Point> {
        let mut count = 0;
        self.histogram
            .iter_quantiles(TICKS_PER_HALF_DISTANCE)
            .map(|step| {
                count += step.count_since_last_iteration();
                let value_ns = step.value_iterated_to().min(self.histogram.max());
                Point { quantile: step.quantile_iterated_to(), value_ns, count }
            })
            .collect()
    }

    /// Writes the percentile table that HdrHistogram's plotters read, in microseconds.
    pub fn write_hgrm(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:>12} {:>14} {:>10} {:>14}",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        writeln!(out)?;
        for point in self.curve() {
            let Point { quantile, value_ns, count } = point;
            write!(out, "{:>12.3} {quantile:>14.12} {count:>10}", micros(value_ns))?;
            if quantile < 1.0 {
                write!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
            }
            writeln!(out)?;
        }
        let deviation_us = self.histogram.stdev() / 1_000.0;
        let mean_us = if self.count() == 0 { 0.0 } else { self.histogram.mean() / 1_000.0 };
        let max_us = micros(self.summary().max_ns);
        writeln!(out, "#[Mean    = {mean_us:>12.3}, StdDeviation   = {deviation_us:>12.3}]")?;
        writeln!(out, "#[Max     = {max_us:>12.3}, Total count    = {:>12}]", self.count())?;
        writeln!(
            out,
            "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
            self.histogram.buckets(),
            (2 * 10_u32.pow(self.histogram.sigfig().into())).next_power_of_two()
        )
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::new();
        values.into_iter().for_each(|value| latency.record(value));
        latency
    }

    #[test]
    fn many_samples_count_as_if_recorded_one_by_one() {
        let (mut each, mut many) = (Latency::new(), Latency::new());
        for (latency_ns, count) in [(70, 3), (0, 2), (LATENCY_NS_MAX + 1, 4)] {
            (0..count).for_each(|_| each.record(latency_ns));
            many.record_many(latency_ns, count);
        }
        assert_eq!(many.summary(), each.summary());
        assert_eq!((many.clipped(), many.count()), (4, 9));
    }

    #[test]
    fn quantiles_of_a_ramp_are_within_one_part_in_a_thousand() {
        let latency = filled((1..=100_000).map(|us| us * 1_000));
        let cases = [(0.5, 50_000_000.0), (0.9, 90_000_000.0), (0.999, 99_900_000.0)];
        for (quantile, expected) in cases {
            let found = latency.quantile_ns(quantile) as f64;
            assert!((found / expected - 1.0).abs() < 0.001, "{quantile}: {found} for {expected}");
        }
        assert_eq!(latency.summary().count, 100_000);
        assert!(latency.summary().min_ns.abs_diff(1_000) <= 1);
    }

    #[test]
    fn a_merge_equals_recording_everything_in_one_place() {
        let mut left = filled((1..5_000).map(|n| n * 37));
        let right = filled((1..7_000).map(|n| n * 911).chain([LATENCY_NS_MAX + 1]));
        let both = filled(
            (1..5_000)
                .map(|n| n * 37)
                .chain((1..7_000).map(|n| n * 911))
                .chain([LATENCY_NS_MAX + 1]),
        );
        left.merge(&right);
        assert_eq!(left.summary(), both.summary());
        assert_eq!(left.curve(), both.curve());
        assert_eq!(left.clipped(), 1);
    }

    #[test]
    fn what_was_counted_between_two_looks_is_their_difference() {
        let first = filled([1_000, 2_000, 2_000]);
        let mut second = first.clone();
        [2_000, 9_000].into_iter().for_each(|ns| second.record(ns));
        let between = second.since(&first).unwrap();
        assert_eq!(between.curve(), filled([2_000, 9_000]).curve());
        assert_eq!(second.since(&second).unwrap().count(), 0);
        // Another histogram, such as that of a router that was started again.
        assert!(first.since(&second).is_none());
    }

    #[test]
    fn a_bound_counts_every_sample_up_to_it() {
        let latency = filled([999, 1_000, 1_001, 5_000, 1_000_000]);
        let bounds = [100, 1_000, 5_000, 100_000, LATENCY_NS_MAX];
        assert_eq!(latency.counts_up_to(&bounds), [0, 2, 4, 4, 5]);
        assert_eq!(latency.counts_up_to(&[]), [0; 0]);
    }

    #[test]
    fn samples_beyond_the_range_are_kept_at_its_edge_and_counted() {
        let latency = filled([0, u64::MAX]);
        assert_eq!(latency.count(), 2);
        assert_eq!(latency.summary().min_ns, 1);
        assert_eq!(latency.clipped(), 1);
        assert!(latency.summary().max_ns >= LATENCY_NS_MAX);
    }

    #[test]
    fn an_empty_histogram_gives_zeros_and_a_readable_file() {
        let latency = Latency::new();
        assert_eq!(latency.summary(), Summary::default());
        let mut text = Vec::new();
        latency.write_hgrm(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("Total count    =            0"));
    }

    #[test]
    fn the_written_table_rises_to_the_maximum_and_counts_every_sample() {
        let latency = filled((1..=10_000).map(|n| n * 1_000));
        let mut text = Vec::new();
        latency.write_hgrm(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2], last.len()), (1.0, 10_000.0, 3), "no 1/(1-p) at the end");
        assert!((last[0] / 10_000.0 - 1.0).abs() < 0.001);
    }
}
