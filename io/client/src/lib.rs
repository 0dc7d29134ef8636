//! The Rust client of a CLASP router: a blocking [`Client`] with one thread of its own, and
//! [`direct::Direct`] for those who count microseconds.
//!
//! ```no_run
//! use clasp_rt_client::{Client, SubscribeOptions};
//!
//! let client = Client::builder("ws://localhost:7330").name("dimmer").connect()?;
//! client.subscribe("/lights/*/brightness", SubscribeOptions::default(), |update| {
//!     println!("{} is {:?}", update.address, update.val());
//! })?;
//! client.set("/lights/strip1/brightness", 0.8)?;
//! client.close();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod backoff;
mod client;
mod dial;
pub mod direct;
mod error;
mod options;
mod reader;
mod shared;
mod state;
mod update;
mod url;
mod val;

pub use backoff::Backoff;
pub use clasp_rt_core::message::{SubscribeOptions, Ttl};
pub use clasp_rt_core::signal::{Phase, Qos, Signal, SignalMask};
pub use clasp_rt_core::wire::list::Features;
pub use client::{Client, Item, SetOptions, SubscriptionId};
pub use dial::random;
pub use error::{ConnectError, RequestError, SendError, Trouble};
pub use options::Builder;
pub use state::Known;
pub use update::{Origin, Update};
pub use url::{BadUrl, Scheme, Url};
pub use val::Val;
