//! Announces what bridges serve in the local network, so that nobody types addresses: mDNS.
//!
//! `mdns-sd` runs a thread of its own; nothing of it is near a message.

use std::io;

use clasp_rt_bridges::Announcement;
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use tracing::{info, warn};

/// Services that are announced until this is dropped; then they say good-bye.
pub struct Announced {
    daemon: ServiceDaemon,
}

impl Announced {
    /// Announces `wanted`; `None` where that is nothing. What is wrong with one is logged: a show
    /// goes on without it.
    pub fn new(wanted: &[Announcement]) -> io::Result<Option<Self>> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let daemon = ServiceDaemon::new().map_err(io::Error::other)?;
        // Programs of this machine find each other without any network, too.
        daemon.enable_interface(IfKind::LoopbackV4).map_err(io::Error::other)?;
        for service in wanted {
            match register(&daemon, service) {
                Ok(name) => info!("announced {name} at port {}", service.bind.port()),
                Err(why) => warn!("{} is not announced: {why}", service.service),
            }
        }
        Ok(Some(Self { daemon }))
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // The good-bye has left when this answers; without it, caches forget after their time.
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv();
        }
    }
}

fn register(daemon: &ServiceDaemon, wanted: &Announcement) -> Result<String, mdns_sd::Error> {
    let Announcement { service, name, bind } = wanted;
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = format!("{}.local.", node.split('.').next().unwrap_or(&node));
    let kind = format!("{service}.local.");
    // Two programs of one name in one network are told apart by their machine.
    let name = format!("{name} on {}", node.split('.').next().unwrap_or(&node));
    let all = bind.ip().is_unspecified();
    let at = if all { String::new() } else { bind.ip().to_string() };
    let info = ServiceInfo::new(&kind, &name, &host, at.as_str(), bind.port(), None)?;
    let info = if all { info.enable_addr_auto() } else { info };
    let full = info.get_fullname().to_owned();
    daemon.register(info)?;
    Ok(full)
}
