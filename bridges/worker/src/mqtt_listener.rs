//! MQTT, 3.1.1 and 5, for clients that connect to the router itself: no broker is needed.
//!
//! Each client is a session of its own at the router; its name there is its client id, and its
//! password the token, so that scopes and rate limits are those of the token. Topics, payloads and
//! what is a param are those of [`crate::mqtt`], with one more certainty: a client says of each
//! message whether it is retained.
//!
//! Spoken: QoS 0 to 2 both ways, retained messages, wills, shared subscriptions, keep-alive (one
//! and a half times what the client promised), a second client of one name ends the first, and of 5
//! no-local, retain-as-published, retain handling, message expiry, content types, receive maximum,
//! maximum packet size and reason codes; TLS, with client certificates if wanted.
//!
//! Not spoken: sessions that outlast their connection (a client that asks is told so: no session
//! present, session expiry 0), delays of wills, topic aliases, subscription identifiers, enhanced
//! authentication, WebSocket. Topics that begin with `$` cannot be published to.

mod config;
pub mod groups;
mod service;
pub mod session;
pub mod wire;

use clasp_rt_bridges::ConfigError;
pub use config::Config;

use crate::Service;

/// Opens a port for clients.
pub fn open(config: Config) -> Result<Box<dyn Service>, ConfigError> {
    Ok(Box::new(service::Listener::new(config::Plan::new(config)?)))
}
