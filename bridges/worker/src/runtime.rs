//! The thread of a service: its runtime, and how it is told to stop.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{interval, timeout};

use crate::{AtomicCounters, Context, Door, Router, Service};

/// How long the last words of a service may delay a stop.
pub const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// How often counters are told.
const TICK: Duration = Duration::from_secs(1);

/// Runs a service on the calling thread until it is told to stop, or ends by itself. `ready` is
/// told where it listens, or why it cannot start; `at_tick` what it counted, once a second.
///
/// The only place that names the runtime: a current-thread one of tokio, so that one service is one
/// thread that can be pinned. `tokio-uring` hosts the same libraries in the same way, on the same
/// epoll, and adds a ring that none of them uses.
pub fn run(
    mut service: Box<dyn Service>,
    door: Door,
    stop: Stop,
    ready: impl FnOnce(io::Result<Vec<String>>),
    mut at_tick: impl FnMut(&AtomicCounters),
) -> io::Result<()> {
    let counters = Arc::new(AtomicCounters::default());
    let router = Router::new(door, Arc::clone(&counters));
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return refuse(ready, why),
    };
    let bound = {
        let _inside = runtime.enter();
        service.bind()
    };
    match bound {
        Ok(urls) => ready(Ok(urls)),
        Err(why) => return refuse(ready, why),
    }
    let context = Context { router, counters: Arc::clone(&counters), stop: stop.clone() };
    let all = async {
        let mut serving = pin!(service.run(context));
        let mut tick = interval(TICK);
        let ended = loop {
            tokio::select! {
                ended = &mut serving => break ended,
                () = stop.wait() => {
                    let late = timeout(STOP_PATIENCE, &mut serving).await;
                    // What is not said by now is not said.
                    break late.unwrap_or(Ok(()));
                }
                _ = tick.tick() => at_tick(&counters),
            }
        };
        at_tick(&counters);
        ended
    };
    let ended = LocalSet::new().block_on(&runtime, all);
    // Name look-ups that hang must not delay a stop.
    runtime.shutdown_background();
    ended
}

fn refuse(ready: impl FnOnce(io::Result<Vec<String>>), why: io::Error) -> io::Result<()> {
    ready(Err(io::Error::new(why.kind(), why.to_string())));
    Err(why)
}

/// Resolves when the host stops.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// Tells a service to stop.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stop {
    pub fn new() -> (Stopper, Self) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(Arc::new(sender)), Self(receiver))
    }

    /// Waits for it. A host that is gone counts as one that stops.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut told = self.0.clone();
        async move {
            let _ = told.wait_for(|stopped| *stopped).await;
        }
    }

    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }
}

impl Stopper {
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}
