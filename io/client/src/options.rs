//! How a client connects, and how it comes back.

use std::fmt;
use std::time::Duration;

use clasp_rt_core::wire::list::Features;

use crate::client::Client;
use crate::dial::Identity;
use crate::error::{ConnectError, Trouble};
use crate::url::Url;

type OnTrouble = Box<dyn FnMut(&Trouble) + Send>;

/// What a client is made of; [`Builder::connect`] makes it.
#[derive(Debug)]
pub struct Builder {
    url: String,
    on_trouble: Option<Callback>,
    options: Options,
}

/// As it will run: every default chosen.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) identity: Identity,
    pub(crate) connect_timeout: Duration,
    /// After so long a silence the router is asked whether it is there; after twice that it is not.
    pub(crate) keep_alive: Duration,
    pub(crate) reconnect: bool,
    pub(crate) wait_first: Duration,
    pub(crate) wait_most: Duration,
}

/// Called by the client's own thread.
pub(crate) struct Callback(pub(crate) OnTrouble);

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            on_trouble: None,
            options: Options {
                identity: Identity {
                    name: "clasp-rt client".to_owned(),
                    token: None,
                    features: Features::PARAM
                        | Features::EVENT
                        | Features::STREAM
                        | Features::GESTURE
                        | Features::TIMELINE,
                },
                connect_timeout: Duration::from_secs(5),
                keep_alive: Duration::from_secs(15),
                reconnect: true,
                wait_first: Duration::from_millis(100),
                wait_most: Duration::from_secs(10),
            },
        }
    }

    /// Under which the router knows this client. Default: `clasp-rt client`.
    pub fn name(mut self, name: &str) -> Self {
        self.options.identity.name = name.to_owned();
        self
    }

    /// What a router in authenticated mode asks for. Default: none.
    pub fn token(mut self, token: &str) -> Self {
        self.options.identity.token = Some(token.to_owned());
        self
    }

    /// Bits of [`Features`]. Default: all kinds of signals.
    pub fn features(mut self, bits: u8) -> Self {
        self.options.identity.features = bits;
        self
    }

    /// Whether to come back, with all subscriptions, after the connection broke. Default: yes.
    ///
    /// A router that refuses the token is not asked again.
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.options.reconnect = reconnect;
        self
    }

    /// The wait before the first attempt to come back, which doubles up to `most`. Default: 100 ms
    /// and 10 s.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        self.options.wait_first = first;
        self.options.wait_most = most.max(first);
        self
    }

    /// How long connecting and WELCOME may take. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// After so long a silence the router is pinged; after twice that it counts as gone. At least
    /// 1 ms. Default: 15 s.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.options.keep_alive = interval.max(Duration::from_millis(1));
        self
    }

    /// Told of everything that goes wrong without being the answer to a call. Default: nobody.
    pub fn on_error(mut self, told: impl FnMut(&Trouble) + Send + 'static) -> Self {
        self.on_trouble = Some(Callback(Box::new(told)));
        self
    }

    /// Connects, says HELLO, and returns when the router said WELCOME.
    pub fn connect(self) -> Result<Client, ConnectError> {
        let url: Url = self.url.parse()?;
        Client::connect(url, self.options, self.on_trouble)
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}
