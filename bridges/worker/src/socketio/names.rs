//! Names of events to addresses, and back.

use clasp_rt_core::address;
use serde_json::{Map, Value as Json, json};

/// Names of events that mean something to the libraries themselves. A published client or server
/// that gets one closes the connection.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The addresses of one Socket.IO namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Below `prefix`; a namespace other than `/` has its own part of it.
    pub fn new(prefix: &str, namespace: &str) -> Self {
        let part = if namespace == "/" { "" } else { namespace };
        Self { prefix: format!("{prefix}{part}") }
    }

    /// All addresses that are events here.
    pub fn pattern(&self) -> String {
        format!("{}/**", self.prefix)
    }

    /// Event `e` is address `/socketio/e`. The error says what is wrong with the name.
    pub fn address_of(&self, event: &str) -> Result<String, String> {
        if RESERVED.contains(&event) {
            return Err(format!("`{event}` is no event: its name means something else"));
        }
        let address = format!("{}/{event}", self.prefix);
        match address::check(&address) {
            Ok(()) if !event.is_empty() => Ok(address),
            Ok(()) => Err("an event without a name is no address".to_owned()),
            Err(error) => Err(format!("event `{event}` is no address: {error}")),
        }
    }

    /// What an address is called here; `None` also where it has a name that cannot be said.
    pub fn event_of<'a>(&self, address: &'a str) -> Option<&'a str> {
        let event = address.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        (!event.is_empty() && !RESERVED.contains(&event)).then_some(event)
    }

    /// The keys that say an event with these arguments: one is the value, of several all are.
    pub fn keys_of(
        &self,
        event: &str,
        mut arguments: Vec<Json>,
    ) -> Result<Map<String, Json>, String> {
        let address = self.address_of(event)?;
        let value = match arguments.len() {
            0 => Json::Null,
            1 => arguments.remove(0),
            _ => Json::Array(arguments),
        };
        Ok(Map::from_iter([("address".to_owned(), json!(address)), ("value".to_owned(), value)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_an_address_and_back() {
        let main = Names::new("/socketio", "/");
        let control = Names::new("/socketio", "/ctl");
        for event in ["go", "a/b", "chat message", "füß"] {
            let address = main.address_of(event).expect("an address");
            assert_eq!(address, format!("/socketio/{event}"));
            assert_eq!(main.event_of(&address), Some(event));
            let address = control.address_of(event).expect("an address");
            assert_eq!(control.event_of(&address), Some(event));
        }
        for wrong in ["", "*", "a//b", "/a"] {
            assert!(main.address_of(wrong).is_err(), "{wrong}");
        }
        for reserved in RESERVED {
            assert!(main.address_of(reserved).is_err(), "{reserved}");
            assert_eq!(main.event_of(&format!("/socketio/{reserved}")), None);
            assert!(main.address_of(&format!("{reserved}/x")).is_ok(), "below it all is well");
        }
        assert_eq!(main.event_of("/socketiox/go"), None);
        assert_eq!(control.event_of("/socketio/go"), None);
        assert_eq!(control.pattern(), "/socketio/ctl/**");
    }

    #[test]
    fn one_argument_is_the_value_and_several_are_a_list() {
        let names = Names::new("/s", "/");
        let value = |arguments| names.keys_of("e", arguments).expect("an address")["value"].clone();
        assert_eq!(value(vec![]), Json::Null);
        assert_eq!(value(vec![json!([1])]), json!([1]));
        assert_eq!(value(vec![json!(1), json!("x")]), json!([1, "x"]));
    }
}
