//! What the services for web programs share: JSON values, and one session's questions in order.

pub(crate) mod seats;
pub(crate) mod serve;
pub(crate) mod talk;
pub(crate) mod value;
