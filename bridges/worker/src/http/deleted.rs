//! Params that a client deleted a moment ago, and that the router still holds as null.
//!
//! CLASP has no message that deletes. A param is set to null, which everybody hears, and to live
//! for one second more; until then whoever asks here is told that it is gone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clasp_rt_core::message::Ttl;
use tokio::time::Instant;

/// How long a param lives that was deleted.
pub const LAST_SECOND: Ttl = Ttl::Absolute(1);

/// What a new value says of its life where that of the deleted one would go on: 68 years.
pub const LASTING: Ttl = Ttl::Sliding(i32::MAX as u32);

/// The router lets go within a second; some more for a router that is busy.
const REMEMBERED: Duration = Duration::from_secs(3);

/// Addresses that are remembered at once. Beyond that, the oldest are read as null.
const DELETED_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Deleted {
    /// The revision that deleted, and when.
    all: Mutex<HashMap<String, (u64, Instant)>>,
}

impl Deleted {
    fn all(&self) -> MutexGuard<'_, HashMap<String, (u64, Instant)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn remember(&self, address: &str, revision: u64) {
        let now = Instant::now();
        let mut all = self.all();
        if all.len() >= DELETED_MAX {
            all.retain(|_, (_, since)| now - *since < REMEMBERED);
        }
        if all.len() >= DELETED_MAX
            && let Some(oldest) = all.iter().min_by_key(|(_, (_, since))| *since)
        {
            let oldest = oldest.0.clone();
            all.remove(&oldest);
        }
        all.insert(address.to_owned(), (revision, now));
    }

    /// Whether this revision of the param is the null that deleted it.
    pub fn is_deleted(&self, address: &str, revision: u64) -> bool {
        self.revision_of(address) == Some(revision)
    }

    /// Whether a new value of the param must say how long it lives.
    pub fn may_be_dying(&self, address: &str) -> bool {
        self.revision_of(address).is_some()
    }

    /// The revision that deleted it a moment ago.
    fn revision_of(&self, address: &str) -> Option<u64> {
        let now = Instant::now();
        let all = self.all();
        let (revision, _) = all.get(address).filter(|(_, since)| now - *since < REMEMBERED)?;
        Some(*revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_revision_that_deleted_is_gone_and_the_memory_is_bounded() {
        let deleted = Deleted::default();
        for number in 0..DELETED_MAX + 10 {
            deleted.remember(&format!("/{number}"), 7);
        }
        assert_eq!(deleted.all().len(), DELETED_MAX);
        let newest = format!("/{}", DELETED_MAX + 9);
        assert!(deleted.is_deleted(&newest, 7) && deleted.may_be_dying(&newest));
        assert!(!deleted.is_deleted(&newest, 8), "written anew");
    }
}
