//! The atomics of the sleep and wake protocol: the real ones, or loom's when it is checked.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};
