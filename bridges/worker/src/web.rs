//! What the services for web programs share: JSON values, and one session's questions in order.

pub(crate) mod admission;
pub mod client;
pub(crate) mod message;
pub(crate) mod seats;
pub(crate) mod serve;
pub mod talk;
pub(crate) mod told;
pub(crate) mod value;
