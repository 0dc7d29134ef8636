//! What a thread counted: a page that one thread writes and every thread may read.
//!
//! Each thread owns its page, padded to whole cache-line pairs, so counting never contends. The
//! writer stores plain totals with relaxed order: a reader sees each number a moment late, never
//! torn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of 128 bytes: two cache lines, because x86 fetches lines in pairs.
pub(crate) const CELLS_PER_LINE: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line(pub(crate) [AtomicU64; CELLS_PER_LINE]);

#[derive(Debug)]
struct Cells {
    names: &'static [&'static str],
    lines: Box<[Line]>,
}

impl Cells {
    fn cell(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.names.len(), "counter {index} of {}", self.names.len());
        &self.lines[index / CELLS_PER_LINE].0[index % CELLS_PER_LINE]
    }
}

/// Makes a page of one counter per name, all zero.
pub fn page(names: &'static [&'static str]) -> (Writer, Reader) {
    let lines = names.len().div_ceil(CELLS_PER_LINE);
    let cells = Arc::new(Cells { names, lines: (0..lines).map(|_| Line::default()).collect() });
    (Writer(Arc::clone(&cells)), Reader(cells))
}

/// The only writer of a page; it cannot be cloned.
#[derive(Debug)]
pub struct Writer(Arc<Cells>);

impl Writer {
    /// Shows `total` as the counter at `index`, in the order of the names.
    pub fn store(&mut self, index: usize, total: u64) {
        self.0.cell(index).store(total, Ordering::Relaxed);
    }

    /// Shows all totals; `totals` is in the order of the names.
    pub fn store_all(&mut self, totals: &[u64]) {
        assert_eq!(totals.len(), self.0.names.len(), "one total per name");
        for (index, total) in totals.iter().enumerate() {
            self.store(index, *total);
        }
    }

    /// Raises a counter. A plain load and store: nobody else writes, so no locked instruction.
    pub fn add(&mut self, index: usize, more: u64) {
        let cell = self.0.cell(index);
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

/// Sees a page from any thread.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Cells>);

impl Reader {
    pub fn names(&self) -> &'static [&'static str] {
        self.0.names
    }

    pub fn load(&self, index: usize) -> u64 {
        self.0.cell(index).load(Ordering::Relaxed)
    }

    /// Every name with its total.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.names.iter().enumerate().map(|(index, name)| (*name, self.load(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] =
        &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r"];

    #[test]
    fn pages_of_two_threads_share_no_cache_line() {
        assert_eq!(size_of::<Line>(), 128);
        let (left, right) = (page(NAMES).0, page(NAMES).0);
        let line = |writer: &Writer| std::ptr::from_ref(writer.0.cell(0)).addr() / 128;
        assert_ne!(line(&left), line(&right));
        assert_eq!(std::ptr::from_ref(left.0.cell(0)).addr() % 128, 0);
    }

    #[test]
    fn readers_on_other_threads_see_what_the_writer_stored() {
        let (mut writer, reader) = page(NAMES);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                writer.store_all(&std::array::from_fn::<u64, 18, _>(|index| index as u64 * 10));
                writer.add(17, 5);
            });
        });
        let seen: Vec<_> = reader.iter().collect();
        assert_eq!(seen.len(), 18);
        assert_eq!(seen[0], ("a", 0));
        assert_eq!(seen[16], ("q", 160));
        assert_eq!(seen[17], ("r", 175));
    }

    #[test]
    fn a_reader_never_sees_a_counter_fall() {
        let (mut writer, reader) = page(&["n"]);
        std::thread::scope(|scope| {
            scope.spawn(move || (0..100_000).for_each(|_| writer.add(0, 1)));
            let mut last = 0;
            while last < 100_000 {
                let now = reader.load(0);
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        });
    }

    #[test]
    #[should_panic(expected = "counter 1 of 1")]
    fn an_index_past_the_names_is_a_mistake_of_the_caller() {
        page(&["n"]).0.store(1, 1);
    }
}
