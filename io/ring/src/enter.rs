//! The system call itself, through a registered descriptor.
//!
//! The io-uring crate remembers a registration in a value that borrows the ring, so that a ring
//! which is stored beside it could never use one. These few calls do.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

use io_uring::IoUring;

const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const REGISTER_FILE_ALLOC_RANGE: u32 = 25;

/// A ring's descriptor in the table of its thread: saves the kernel a look-up in every call.
///
/// The table has 16 places and outlives the ring, so the place is given back explicitly.
#[derive(Debug)]
pub(crate) struct Registered {
    index: u32,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct WaitArgument {
    signals: u64,
    signals_bytes: u32,
    min_wait_us: u32,
    limit: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct Limit {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_file_index_range`.
#[repr(C)]
struct Range {
    offset: u32,
    len: u32,
    reserved: u64,
}

impl Registered {
    pub(crate) fn new(ring: &IoUring) -> io::Result<Self> {
        let ring = ring.as_raw_fd();
        let mut update = Update { offset: u32::MAX, reserved: 0, data: ring as u64 };
        // SAFETY: one update, as the count says; the kernel writes the place into it.
        unsafe { register(ring, REGISTER_RING_FDS, (&raw mut update).cast(), 1)? };
        Ok(Self { index: update.offset })
    }

    /// Gives the place back, while `ring` is still open.
    pub(crate) fn remove(&self, ring: &IoUring) -> io::Result<()> {
        let mut update = Update { offset: self.index, reserved: 0, data: 0 };
        // SAFETY: one update, as the count says.
        unsafe { register(ring.as_raw_fd(), UNREGISTER_RING_FDS, (&raw mut update).cast(), 1) }
    }

    /// Hands `queued` operations over and does what the kernel has put off.
    pub(crate) fn submit(&self, queued: u32) -> io::Result<()> {
        // SAFETY: without `ENTER_EXT_ARG` the argument is a signal mask, and null is none.
        unsafe { self.enter(queued, 0, ENTER_GETEVENTS, ptr::null(), 0) }
    }

    /// The same, and sleeps until there is an answer; not longer than `limit`.
    pub(crate) fn sleep(&self, queued: u32, limit: Option<Duration>) -> io::Result<()> {
        let Some(limit) = limit else {
            // SAFETY: as in `submit`.
            return unsafe { self.enter(queued, 1, ENTER_GETEVENTS, ptr::null(), 0) };
        };
        let limit = Limit {
            seconds: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: i64::from(limit.subsec_nanos()),
        };
        let limit = (&raw const limit) as u64;
        let argument = WaitArgument { signals: 0, signals_bytes: 0, min_wait_us: 0, limit };
        let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        let bytes = size_of::<WaitArgument>();
        // SAFETY: the argument and the limit it points to live through the call, which only reads
        // them.
        unsafe { self.enter(queued, 1, flags, (&raw const argument).cast(), bytes) }
    }

    /// # Safety
    ///
    /// `argument` is null, or points to what `flags` promise.
    unsafe fn enter(
        &self,
        queued: u32,
        want: u32,
        flags: u32,
        argument: *const libc::c_void,
        argument_bytes: usize,
    ) -> io::Result<()> {
        let flags = flags | ENTER_REGISTERED_RING;
        // SAFETY: operations were queued under `Ring::push`'s promise, the rest is the caller's.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.index,
                queued,
                want,
                flags,
                argument,
                argument_bytes,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Limits the files that accept fills to `len` places from `offset`.
pub(crate) fn accept_into(ring: &IoUring, offset: u32, len: u32) -> io::Result<()> {
    let mut range = Range { offset, len, reserved: 0 };
    // SAFETY: the kernel reads one range; the count must be zero.
    unsafe { register(ring.as_raw_fd(), REGISTER_FILE_ALLOC_RANGE, (&raw mut range).cast(), 0) }
}

/// # Safety
///
/// `argument` points to what `code` and `count` promise, for reading and writing.
pub(crate) unsafe fn register(
    ring: RawFd,
    code: u32,
    argument: *mut libc::c_void,
    count: u32,
) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, code, argument, count) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
