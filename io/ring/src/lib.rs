//! The kernel, behind a safe face: one io_uring per thread, and rings between threads.
//!
//! The only crate of the workspace with unsafe code. What the kernel may touch is owned by the
//! [`Ring`] until the kernel says that it is done: received bytes come as a [`Lease`], a [`Buffer`]
//! to send is moved in and comes back with [`Event::Sent`].
#![warn(clippy::undocumented_unsafe_blocks)]
// `--cfg loom` is set by the nightly model check, not by Cargo.
#![allow(unexpected_cfgs)]

pub mod alloc;
pub mod exchange;
pub mod groups;
pub mod napi;
pub mod probe;
pub mod socket;
pub mod thread;

mod buffer;
mod datagram;
mod enter;
mod op;
mod pool;
mod ring;
mod slots;
mod sync;

pub use buffer::Buffer;
pub use datagram::{Unreadable, datagrams_lost};
pub use exchange::Sleeper;
pub use pool::Lease;
pub use ring::{Alarm, Counts, Event, Ring, Sizes, Wait};
pub use slots::Socket;
