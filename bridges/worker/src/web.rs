//! What the services for web programs share: JSON values, and one session's questions in order.

pub mod seats;
pub mod serve;
pub mod talk;
pub mod value;
