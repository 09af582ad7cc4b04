//! Telling the DHTs what this node has, again and again.
//!
//! A fresh root is told at once, on its own ([`crate::Node::announce`]). Everything that the strategy says is written
//! down in the order of the keyspace ([`keys`], filled by [`feed`]), and a sweep for each DHT goes through that list
//! once per interval, region by region ([`sweep`], on the schedule of [`cairn_proto::sweep`]); several regions are told at
//! once only by a node that is late. What is new in the list is told as soon as the sweep gets to it. Memory does not grow
//! with the list, and a restart goes on where the last run stopped.

mod feed;
mod keys;
mod region;
mod stat;
mod strategy;
mod sweep;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::cid::Multihash;
use tokio::sync::Semaphore;

use crate::routing::records::WallClock;
use crate::store::Rows;
use crate::swarm::{self, Scope};
use crate::tasks::Tasks;
use crate::{Error, Result};

pub use stat::{Counters, Stat};
pub use strategy::Strategy;
pub(crate) use strategy::Wanted;

use keys::Keys;
use region::Caller;
use stat::Watch;

/// Time in which everything is told once when `Provide.DHT.Interval` is missing. Source: Kubo `config/provide.go`.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(22 * 60 * 60);

/// Peers that are asked or given records at the same time, in both DHTs together: a home router has to bear it.
const MAX_CALLS: usize = 64;
/// The DHTs.
const SCOPES: [Scope; 2] = [Scope::Wan, Scope::Lan];

/// Settings of the announcements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvideSettings {
    /// Tell at all.
    pub is_enabled: bool,
    /// What is told.
    pub strategy: Strategy,
    /// Time in which everything is told once; zero: only what is new, and only once.
    pub interval: Duration,
}

impl Default for ProvideSettings {
    fn default() -> Self {
        Self { is_enabled: true, strategy: Strategy::default(), interval: DEFAULT_INTERVAL }
    }
}

/// The announcements of a node. Clones share them.
#[derive(Debug, Clone)]
pub struct Handle {
    keys: Keys,
    watches: [Watch; 2],
    interval: Duration,
}

/// What announcing needs of a node.
pub(crate) struct Parts {
    pub(crate) rows: Rows,
    pub(crate) wanted: Wanted,
    pub(crate) swarm: swarm::Handle,
    pub(crate) clock: WallClock,
}

/// Starts the sweeps as tasks of `tasks`. Reads a few rows, so it blocks its thread for a moment.
///
/// # Errors
/// What the store says.
pub(crate) fn start(parts: Parts, interval: Duration, tasks: &Tasks) -> Result<Handle> {
    let Parts { rows, wanted, swarm, clock } = parts;
    let keys = Keys::open(rows)?;
    let watches = [(); 2].map(|()| Watch::new(sweep::PART_COUNT));
    let turns = Arc::new(Semaphore::new(MAX_CALLS));
    let feed = feed::Feed::new(keys.clone(), wanted.clone(), clock.clone(), interval);
    tasks.spawn("list what is provided", feed.run(tasks.stopping().clone()));
    for (scope, watch) in SCOPES.into_iter().zip(&watches) {
        let sweep = sweep::Sweep {
            scope,
            keys: keys.clone(),
            wanted: wanted.clone(),
            caller: Caller::new(swarm.clone(), scope, Arc::clone(&turns)),
            clock: clock.clone(),
            interval,
            watch: watch.clone(),
        };
        tasks.spawn("provide", sweep.run(tasks.stopping().clone()));
    }
    Ok(Handle { keys, watches, interval })
}

impl Handle {
    /// How far the announcements in one DHT have come.
    pub fn stat(&self, scope: Scope) -> Stat {
        let watch = &self.watches[usize::from(scope == Scope::Lan)];
        watch.stat(&self.keys.counts(), scope, self.interval)
    }

    /// Tells of some content soon, and once: it does not become part of what is told again and again.
    ///
    /// # Errors
    /// What the store says.
    pub async fn once(&self, content: Vec<Multihash>) -> Result<()> {
        let keys = self.keys.clone();
        blocking(move || keys.queue(&content)).await
    }

    /// Forgets what was to be told soon; it is still told in its turn. Returns how many there were.
    ///
    /// # Errors
    /// What the store says.
    pub async fn clear(&self) -> Result<u64> {
        let keys = self.keys.clone();
        blocking(move || keys.clear()).await
    }
}

/// Runs work that blocks its thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("work on the list of what is provided stopped").with_cause(error))?
}
