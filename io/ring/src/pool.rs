//! Receive buffers that the kernel picks from; a [`Lease`] proves who may touch one.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::mem::size_of;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The kernel maps the ring of free buffers by pages.
const PAGE_BYTES: usize = 4096;

/// Distinguishes pools, so that a lease of one is never taken for another's.
static POOLS: AtomicU32 = AtomicU32::new(0);

/// `count` buffers of `size` bytes, lent by the kernel one arrival at a time.
///
/// Buffers are used up by arrivals, not by connections, so few serve thousands of idle links.
#[derive(Debug)]
pub(crate) struct Pool {
    id: u32,
    group: u16,
    count: u16,
    size: u32,
    buffers: Zeroed,
    /// The ring of free buffers, shared with the kernel.
    free: Zeroed,
    /// How many were ever made free, modulo 2^16; the kernel reads it.
    tail: u16,
    /// How many the caller holds.
    lent: u16,
}

/// Bytes that the kernel received. Give it back in the same turn: others wait for the buffer.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to its pool"]
pub struct Lease {
    pool: u32,
    index: u16,
    len: u32,
}

impl Lease {
    /// Bytes received, 1..= the size of a buffer.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Pool {
    /// Takes the memory and fills the ring; the kernel does not know of it yet.
    pub(crate) fn new(group: u16, count: u16, size: u32) -> Self {
        assert!(count.is_power_of_two() && count <= 1 << 15, "the kernel's bound on buffer rings");
        assert!(size > 0);
        let mut pool = Self {
            id: POOLS.fetch_add(1, Ordering::Relaxed),
            group,
            count,
            size,
            buffers: Zeroed::new(count as usize * size as usize),
            free: Zeroed::new(count as usize * size_of::<BufRingEntry>()),
            tail: 0,
            lent: 0,
        };
        for index in 0..count {
            pool.offer(index);
        }
        pool.publish();
        pool
    }

    /// Tells the kernel of the pool.
    ///
    /// # Safety
    ///
    /// The pool must live until the ring of `submitter` is gone.
    pub(crate) unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.free.base.as_ptr() as u64;
        // SAFETY: `free` holds `count` entries, page-aligned; the caller keeps them long enough.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, self.group, 0) }
    }

    pub(crate) fn group(&self) -> u16 {
        self.group
    }

    pub(crate) fn owns(&self, lease: &Lease) -> bool {
        lease.pool == self.id
    }

    /// Takes note that the kernel filled `len` bytes of buffer `index`.
    pub(crate) fn lend(&mut self, index: u16, len: u32) -> Lease {
        assert!(index < self.count && len <= self.size, "the kernel knows our buffers");
        self.lent += 1;
        Lease { pool: self.id, index, len }
    }

    /// Whether buffers are at the kernel, as far as its answers tell.
    pub(crate) fn has_free(&self) -> bool {
        self.lent < self.count
    }

    /// The bytes the kernel wrote into a lent buffer.
    pub(crate) fn bytes<'a>(&'a self, lease: &'a Lease) -> &'a [u8] {
        let start = self.start(lease);
        // SAFETY: the zeroed block holds `count * size` bytes; `start` asserted that the lease lies
        // inside. A lease is made only by its own pool, from an answer in which the kernel gave the
        // buffer up, and only `give_back`, which consumes the lease, offers the buffer again.
        unsafe { slice::from_raw_parts(self.buffers.base.as_ptr().add(start), lease.len()) }
    }

    /// The same bytes, to be unmasked in place.
    pub(crate) fn bytes_mut<'a>(&'a mut self, lease: &'a mut Lease) -> &'a mut [u8] {
        let start = self.start(lease);
        // SAFETY: as in `bytes`; both the pool and the lease are borrowed mutably, so no other
        // slice of this buffer exists.
        unsafe { slice::from_raw_parts_mut(self.buffers.base.as_ptr().add(start), lease.len()) }
    }

    /// Offers the buffer to the kernel again.
    pub(crate) fn give_back(&mut self, lease: Lease) {
        assert!(self.owns(&lease), "a lease returns to the pool that made it");
        self.lent -= 1;
        self.offer(lease.index);
        self.publish();
    }

    fn start(&self, lease: &Lease) -> usize {
        assert!(self.owns(lease) && lease.index < self.count && lease.len <= self.size);
        lease.index as usize * self.size as usize
    }

    /// Writes one entry of the ring of free buffers, unseen by the kernel until `publish`.
    fn offer(&mut self, index: u16) {
        assert!(index < self.count);
        let place = (self.tail & (self.count - 1)) as usize;
        // SAFETY: `index < count`, and the block holds `count * size` bytes.
        let buffer = unsafe { self.buffers.base.as_ptr().add(index as usize * self.size as usize) };
        let ring = self.free.base.cast::<BufRingEntry>();
        // SAFETY: `place < count` entries of the block, which is aligned to a page. The kernel
        // reads an entry only below the published tail and never writes one, and at most `count`
        // buffers are offered, so this entry is ours. The setters leave the tail, in the first
        // entry's reserved field, alone.
        let entry = unsafe { &mut *ring.as_ptr().add(place) };
        entry.set_addr(buffer as u64);
        entry.set_len(self.size);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        let ring = self.free.base.cast::<BufRingEntry>();
        // SAFETY: the block starts with a zeroed or written entry, and its reserved field, aligned
        // to two bytes, is the tail that the kernel reads atomically.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(ring.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Page-aligned zeroed memory of a fixed size, touched at start so that no later access faults.
#[derive(Debug)]
struct Zeroed {
    base: NonNull<u8>,
    layout: Layout,
}

impl Zeroed {
    fn new(bytes: usize) -> Self {
        assert!(bytes > 0);
        let layout =
            Layout::from_size_align(bytes, PAGE_BYTES).expect("far below the address space");
        // SAFETY: the layout has a size above zero.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        for page in (0..bytes).step_by(PAGE_BYTES) {
            // SAFETY: `page < bytes`, inside the block just taken, which nobody else knows.
            unsafe { base.as_ptr().add(page).write_volatile(0) };
        }
        Self { base, layout }
    }
}

impl Drop for Zeroed {
    fn drop(&mut self) {
        // SAFETY: taken with this layout in `new`, and given back once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would read: index and length of the entry at `place`, and the tail.
    fn entry(pool: &Pool, place: usize) -> (u16, u32, u16) {
        let ring = pool.free.base.cast::<BufRingEntry>().as_ptr();
        assert!(place < pool.count as usize);
        // SAFETY: inside the ring, which was filled by `new`.
        unsafe { ((*ring.add(place)).bid(), (*ring.add(place)).len(), *BufRingEntry::tail(ring)) }
    }

    #[test]
    fn a_returned_buffer_takes_the_next_place_in_the_ring() {
        let mut pool = Pool::new(0, 4, 64);
        assert_eq!(entry(&pool, 3), (3, 64, 4));
        let (first, second) = (pool.lend(0, 10), pool.lend(1, 20));
        pool.give_back(second);
        assert_eq!(entry(&pool, 0), (1, 64, 5));
        pool.give_back(first);
        assert_eq!(entry(&pool, 1), (0, 64, 6));
    }

    #[test]
    fn the_tail_wraps_without_losing_a_place() {
        let mut pool = Pool::new(0, 2, 16);
        for turn in 0..70_000_u32 {
            let lease = pool.lend((turn % 2) as u16, 1);
            pool.give_back(lease);
            if cfg!(miri) && turn > 64 {
                return;
            }
        }
        assert_eq!(entry(&pool, 0).2, (70_000_u32 + 2) as u16);
    }

    #[test]
    fn leases_of_different_buffers_do_not_overlap() {
        let mut pool = Pool::new(0, 4, 32);
        let mut leases: Vec<_> = (0..4).map(|index| pool.lend(index, 32)).collect();
        assert!(!pool.has_free());
        for (index, lease) in leases.iter_mut().enumerate() {
            pool.bytes_mut(lease).fill(index as u8);
        }
        for (index, lease) in leases.iter().enumerate() {
            assert_eq!(pool.bytes(lease), [index as u8; 32]);
        }
        leases.into_iter().for_each(|lease| pool.give_back(lease));
        assert!(pool.has_free());
    }

    #[test]
    #[should_panic(expected = "returns to the pool that made it")]
    fn a_lease_does_not_fit_another_pool() {
        let (mut one, mut other) = (Pool::new(0, 2, 16), Pool::new(0, 2, 16));
        let lease = one.lend(0, 1);
        other.give_back(lease);
    }
}
