//! Latencies that one thread counts and every thread may read: HdrHistogram's buckets as a page.
//!
//! The writer adds with a plain load and store, so counting takes no lock, no memory and no system
//! call; a reader makes a [`Latency`] of what it sees, a moment late and never torn. The buckets
//! are those of HdrHistogram with the same number of digits and [`LATENCY_NS_MAX`] as its top.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::{CELLS_PER_LINE, Line};
use crate::histogram::{LATENCY_NS_MAX, Latency};

/// How finely latencies are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    digits: u8,
    /// Each doubling of the latency is cut into `2^steps_log2` equal steps.
    steps_log2: u32,
}

impl Scale {
    /// Keeps `digits` significant digits, 1..=3.
    pub const fn new(digits: u8) -> Self {
        // The least power of two that tells 10^digits values of one doubling apart.
        let steps_log2 = match digits {
            1 => 4,
            2 => 7,
            3 => 10,
            _ => panic!("1 to 3 significant digits"),
        };
        Self { digits, steps_log2 }
    }

    pub const fn digits(self) -> u8 {
        self.digits
    }

    /// How many buckets there are.
    pub const fn buckets(self) -> usize {
        self.bucket_of(LATENCY_NS_MAX) + 1
    }

    /// Bytes of one histogram in a page.
    pub const fn bytes(self) -> u64 {
        (self.lines() * size_of::<Line>()) as u64
    }

    /// The bucket that counts `ns`, at most [`LATENCY_NS_MAX`].
    const fn bucket_of(self, ns: u64) -> usize {
        // The first two doublings share a step of one nanosecond; each further one has a step twice
        // as wide.
        let first = (2 << self.steps_log2) - 1;
        let doubling = u64::BITS - 1 - self.steps_log2 - (ns | first).leading_zeros();
        ((doubling as usize) << self.steps_log2) + (ns >> doubling) as usize
    }

    /// The least latency that `bucket` counts.
    const fn least_of(self, bucket: usize) -> u64 {
        let steps = 1 << self.steps_log2;
        match bucket >> self.steps_log2 {
            0 => bucket as u64,
            doubling => ((bucket % steps + steps) as u64) << (doubling - 1),
        }
    }

    const fn lines(self) -> usize {
        1 + self.buckets().div_ceil(CELLS_PER_LINE)
    }
}

/// A head of two cells, and then the buckets, beginning on a line of their own.
const SUM: usize = 0;
const MAX: usize = 1;

#[derive(Clone, Copy, Debug)]
struct Place {
    scale: Scale,
    first_line: usize,
}

#[derive(Debug)]
struct Cells {
    places: Box<[Place]>,
    lines: Box<[Line]>,
}

impl Cells {
    fn head(&self, place: Place, cell: usize) -> &AtomicU64 {
        &self.lines[place.first_line].0[cell]
    }

    fn bucket(&self, place: Place, bucket: usize) -> &AtomicU64 {
        let line = place.first_line + 1 + bucket / CELLS_PER_LINE;
        &self.lines[line].0[bucket % CELLS_PER_LINE]
    }
}

/// Makes a page of one empty histogram for each scale.
pub fn page(scales: impl IntoIterator<Item = Scale>) -> (Writer, Reader) {
    let mut first_line = 0;
    let places = scales.into_iter().map(|scale| {
        let place = Place { scale, first_line };
        first_line += scale.lines();
        place
    });
    let places: Box<[Place]> = places.collect();
    let lines = (0..first_line).map(|_| Line::default()).collect();
    let cells = Arc::new(Cells { places, lines });
    (Writer(Arc::clone(&cells)), Reader(cells))
}

/// The only writer of a page; it cannot be cloned.
#[derive(Debug)]
pub struct Writer(Arc<Cells>);

impl Writer {
    /// Counts `count` samples of `ns` in the histogram at `index`, in the order of the scales. What
    /// is longer than [`LATENCY_NS_MAX`] counts as that, and zero as one nanosecond.
    pub fn record(&mut self, index: usize, ns: u64, count: u64) {
        let cells = &*self.0;
        let place = cells.places[index];
        let ns = ns.clamp(1, LATENCY_NS_MAX);
        add(cells.bucket(place, place.scale.bucket_of(ns)), count);
        add(cells.head(place, SUM), ns.saturating_mul(count));
        let max = cells.head(place, MAX);
        if count > 0 && max.load(Ordering::Relaxed) < ns {
            max.store(ns, Ordering::Relaxed);
        }
    }
}

/// A plain load and store: nobody else writes, so no locked instruction.
fn add(cell: &AtomicU64, more: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Sees a page from any thread.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Cells>);

impl Reader {
    /// How many histograms the page has.
    pub fn len(&self) -> usize {
        self.0.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was counted so far in the histogram at `index`; `None`: nothing.
    pub fn latency(&self, index: usize) -> Option<Latency> {
        let place = self.0.places[index];
        if self.max_ns(index) == 0 {
            return None;
        }
        let buckets = (0..place.scale.buckets()).filter_map(|bucket| {
            let count = self.0.bucket(place, bucket).load(Ordering::Relaxed);
            (count > 0).then(|| (place.scale.least_of(bucket), count))
        });
        Some(Latency::of(place.scale, buckets))
    }

    /// All samples together.
    pub fn sum_ns(&self, index: usize) -> u64 {
        self.0.head(self.0.places[index], SUM).load(Ordering::Relaxed)
    }

    /// The longest sample, exactly; 0: there is none.
    pub fn max_ns(&self, index: usize) -> u64 {
        self.0.head(self.0.places[index], MAX).load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    const SCALES: [Scale; 3] = [Scale::new(1), Scale::new(2), Scale::new(3)];

    /// The ends of every doubling, what lies beside them, and a spread of what lies between.
    fn values() -> Vec<u64> {
        let edges = (0..36).flat_map(|power| {
            let edge = 1_u64 << power;
            [edge.saturating_sub(1), edge, edge + 1, edge + edge / 3, edge + edge / 7 * 5]
        });
        let mut seed = 7_u64;
        let spread = (0..20_000).map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 11) % (1 << (seed % 36 + 1))
        });
        let all = edges.chain(spread).chain([LATENCY_NS_MAX - 1, LATENCY_NS_MAX]);
        all.filter(|ns| (1..=LATENCY_NS_MAX).contains(ns)).collect()
    }

    fn oracle(scale: Scale) -> Histogram<u64> {
        Histogram::new_with_bounds(1, LATENCY_NS_MAX, scale.digits()).unwrap()
    }

    #[test]
    fn a_bucket_holds_just_what_hdrhistogram_takes_for_equal() {
        for scale in SCALES {
            let oracle = oracle(scale);
            for ns in values() {
                let bucket = scale.bucket_of(ns);
                assert!(bucket < scale.buckets(), "{ns} with {} digits", scale.digits());
                let least = scale.least_of(bucket);
                // Up to the first two doublings HdrHistogram counts zero with one.
                assert_eq!(least, oracle.lowest_equivalent(ns), "{ns}, {} digits", scale.digits());
                let next = oracle.next_non_equivalent(ns);
                assert_eq!(scale.bucket_of(next - 1), bucket, "{ns}, {} digits", scale.digits());
                assert_eq!(scale.bucket_of(next), bucket + 1, "{ns}, {} digits", scale.digits());
            }
        }
    }

    #[test]
    fn a_page_gives_the_histogram_that_hdrhistogram_would_have_made() {
        let (mut writer, reader) = page(SCALES);
        let mut oracles = SCALES.map(oracle);
        for (at, ns) in values().into_iter().enumerate() {
            let (index, count) = (at % SCALES.len(), at as u64 % 5);
            writer.record(index, ns, count);
            oracles[index].record_n(ns, count).unwrap();
        }
        for (index, oracle) in oracles.iter().enumerate() {
            let latency = reader.latency(index).unwrap();
            assert_eq!(latency.histogram(), oracle);
        }
    }

    #[test]
    fn what_lies_outside_counts_at_the_edge_and_sum_and_maximum_are_exact() {
        let (mut writer, reader) = page([Scale::new(2)]);
        assert!(reader.latency(0).is_none());
        writer.record(0, 12_345, 0);
        assert!(reader.latency(0).is_none(), "no sample is no sample");
        writer.record(0, 0, 1);
        writer.record(0, 12_345, 3);
        assert_eq!((reader.sum_ns(0), reader.max_ns(0)), (1 + 3 * 12_345, 12_345));
        writer.record(0, u64::MAX, 2);
        assert_eq!(reader.max_ns(0), LATENCY_NS_MAX);
        let latency = reader.latency(0).unwrap();
        assert_eq!((latency.count(), latency.summary().min_ns), (6, 1));
        assert!(latency.summary().max_ns >= LATENCY_NS_MAX);
    }

    #[test]
    fn histograms_of_one_page_do_not_mix() {
        let (mut writer, reader) = page(SCALES);
        writer.record(0, LATENCY_NS_MAX, 1);
        writer.record(2, 1, 4);
        let counts: Vec<_> =
            (0..reader.len()).map(|index| reader.latency(index).map(|l| l.count())).collect();
        assert_eq!(counts, [Some(1), None, Some(4)]);
    }

    #[test]
    fn a_reader_loses_nothing_that_a_writer_counts_meanwhile() {
        let (mut writer, reader) = page([Scale::new(3)]);
        std::thread::scope(|scope| {
            scope.spawn(move || (1..=50_000).for_each(|ns| writer.record(0, ns, 1)));
            let mut last = 0;
            while last < 50_000 {
                let now = reader.latency(0).map_or(0, |latency| latency.count());
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        });
    }
}
