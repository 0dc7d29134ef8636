//! MQTT, 3.1.1 and 5, for clients that connect to the router itself: no broker is needed.
//!
//! Each client is a session of its own at the router; its name there is its client id, and its
//! password the token, so that scopes and rate limits are those of the token. Topics, payloads and
//! what is a param are those of [`crate::mqtt`], with one more certainty: a client says of each
//! message whether it is retained.
//!
//! Spoken: QoS 0 to 2 both ways, retained messages, wills, shared subscriptions, keep-alive (one
//! and a half times what the client promised), a second client of one name ends the first; TLS,
//! with client certificates if wanted; on the same port MQTT as it is and over WebSocket.
//! Of 5: no-local, retain-as-published, retain handling, message expiry (the TTL of a param, both
//! ways), content types, topic aliases both ways, delays of wills, session expiry, receive maximum,
//! maximum packet size, subscription identifiers, reason codes and reason strings.
//!
//! **A session outlives its connection** if the client asks for that: its subscriptions stay, and
//! what comes at QoS 1 and 2 waits for it: of params the newest value, events in their order
//! ([`Config::queue_max`]). Members of a group without a connection take nothing while another
//! member could. A session goes on only with the password that it began with; with another a new
//! one begins. No session outlives the router.
//!
//! **A message at QoS 1 or 2 is acknowledged when the router has answered it.** What the router
//! refuses is told to a client of 5 by code and words: 0x87 for scopes, 0x97 for limits, 0x99 and
//! 0x90 for payloads and topics, 0x83 for locks and all else. A client of 3.1.1 cannot be told; it
//! is acknowledged all the same, as brokers do (§3.3.5), because one that is thrown out for it
//! comes back and sends it again. Either way it is counted, and logged once for each session.
//!
//! Not spoken: enhanced authentication; whoever asks for it is refused with 0x8C. Topics that begin
//! with `$` cannot be published to.
//!
//! **What is kept of a message.** It becomes a value of the router, for clients of every protocol:
//! topic, payload, whether it is retained, and of a param the message expiry; the content type is
//! told anew by the form of the value. User properties, response topics, correlation data and the
//! payload format indicator are not kept, because a CLASP value has no place for them; all but the
//! last reach the client itself if it hears its own messages. A question therefore says in its
//! payload where its answer belongs.

mod carrier;
mod config;
pub mod groups;
mod names;
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
