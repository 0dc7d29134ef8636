//! What the threads are told at start: everything is decided, nothing is looked up any more.

use std::net::SocketAddr;
use std::time::Duration;

use clasp_rt_bridges::Bridge;
use clasp_rt_client::{Scheme, Url};
use clasp_rt_core::shard::Settings;
use clasp_rt_worker::Service;

use crate::recording::RecordingPlan;
use crate::waiting::Idle;

/// Every thread that will run, and what all of them share.
pub struct Threads {
    /// In the order of their ids: `shards[n].settings.id` is `ShardId(n)`.
    pub shards: Vec<ShardPlan>,
    pub bridges: Vec<BridgeThreadPlan>,
    /// Each has a thread of its own.
    pub services: Vec<ServicePlan>,
    /// Links that services may have at one shard; `limits.links_max` counts them, too.
    pub guests_max: u32,
    /// Becomes one more thread of bridges, when everything starts.
    pub recording: Option<RecordingPlan>,
    /// Links of strangers that may be sessions at once, all shards together.
    pub sessions_max: u32,
    /// Resolved: never `Idle::Auto`.
    pub idle: Idle,
    /// Count how long messages take.
    pub histograms: bool,
    /// Keep every page in memory (`mlockall`); failing to is reported, not fatal.
    pub lock_memory: bool,
    pub hygiene: Hygiene,
    /// Bytes of each ring between two threads and direction; a power of two is not needed.
    pub exchange_bytes: usize,
}

/// What shards ask of the kernel so that it disturbs them less. What it refuses is reported, not
/// fatal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hygiene {
    /// `SCHED_FIFO` at 1..=99; `None`: a normal thread. Isolated cores only.
    pub fifo_priority: Option<u8>,
    /// How long to poll network cards before sleeping.
    pub busy_poll: Option<Duration>,
}

/// One shard and the sockets that bring it links.
pub struct ShardPlan {
    /// `None`: the kernel places the thread.
    pub core: Option<usize>,
    /// `limits.links_max` counts in-router bridges too; `limits.peers` is the other shards.
    pub settings: Settings,
    /// May be empty: a shard without clients.
    pub listeners: Vec<ListenerPlan>,
}

/// Shards that listen on the same address share it (`SO_REUSEPORT`), also when its port is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerPlan {
    pub transport: ListenerTransport,
    pub addr: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerTransport {
    WebSocket,
    Tcp,
}

/// One thread and the bridges that it hosts.
pub struct BridgeThreadPlan {
    /// `None`: the kernel places the thread.
    pub core: Option<usize>,
    pub bridges: Vec<BridgePlan>,
}

impl BridgeThreadPlan {
    /// Whether nothing that it hosts has anything to do yet.
    pub fn is_vacant(&self) -> bool {
        self.bridges.iter().all(|plan| plan.bridge.is_vacant())
    }

    /// Its bridges that have something to do.
    pub fn at_work(&self) -> impl Iterator<Item = &BridgePlan> {
        self.bridges.iter().filter(|plan| !plan.bridge.is_vacant())
    }
}

pub struct BridgePlan {
    /// Where a person wrote it, and its name: `line 3: bridge[0] (osc)`.
    pub place: String,
    pub bridge: Box<dyn Bridge>,
    pub uplink: Uplink,
}

/// One thread and the service that it runs.
pub struct ServicePlan {
    /// As of a bridge.
    pub place: String,
    /// `None`: the kernel places the thread.
    pub core: Option<usize>,
    pub service: Box<dyn Service>,
    /// Inside, its sessions are spread over all shards, beginning after the one that is named.
    pub uplink: Uplink,
}

/// How a bridge reaches its router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// A shard of this process, by index: the bridge is a trusted link there.
    Shard(usize),
    /// A router elsewhere: connected again, with growing pauses, whenever the connection is lost.
    Remote(Remote),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub transport: ListenerTransport,
    /// Resolved anew for every attempt.
    pub host: String,
    pub port: u16,
    /// Path of the WebSocket request; `/` when the URL has none.
    pub path: String,
}

impl Remote {
    pub fn url(&self) -> Url {
        let scheme = match self.transport {
            ListenerTransport::WebSocket => Scheme::Ws,
            ListenerTransport::Tcp => Scheme::Tcp,
        };
        Url { scheme, host: self.host.clone(), port: self.port, path: self.path.clone() }
    }
}
