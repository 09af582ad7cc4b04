//! What can be seen of the announcements.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cairn_proto::sweep::{Prefix, REPLICATION};

use super::keys::{Counts, Lane};
use crate::swarm::Scope;

/// What was done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counters {
    /// Keys that at least one peer took.
    pub keys_total: u64,
    /// Keys that no peer took.
    pub keys_failed_total: u64,
    /// Records taken by peers.
    pub records_total: u64,
    /// Regions told.
    pub regions_total: u64,
    /// Peers that were given records, once for each region.
    pub peers_total: u64,
    /// Those of them that took them.
    pub peers_reached_total: u64,
    /// Bits that the prefixes of the regions have together.
    pub prefix_bits_total: u64,
    /// Times that the store failed, after which the sweep went on later.
    pub faults_total: u64,
    /// Time spent on regions.
    pub busy: Duration,
}

/// The announcements in one DHT as they stand.
#[derive(Debug, Clone)]
pub struct Stat {
    /// Whether peers of the DHT answer, and since when.
    pub is_online: bool,
    /// When that changed.
    pub since: Option<SystemTime>,
    /// Keys that are told again and again.
    pub scheduled_count: u64,
    /// Keys that are to be told soon.
    pub fresh_count: u64,
    /// Regions that are being told.
    pub busy_count: u64,
    /// Time in which everything is told once.
    pub interval: Duration,
    /// When this turn began, in seconds since 1970; `None` before the first.
    pub started_s: Option<u64>,
    /// When the next region is due, in seconds since 1970; `None` while regions are.
    pub next_s: Option<u64>,
    /// Time since the start.
    pub uptime: Duration,
    /// What was done.
    pub counters: Counters,
    /// Peers that shall keep a record.
    pub replication: usize,
}

impl Counters {
    /// Bits of a region's prefix, on average.
    pub fn mean_prefix_bits(&self) -> f64 {
        mean(self.prefix_bits_total, self.regions_total)
    }

    /// Peers that took a record, on average.
    pub fn mean_holders(&self) -> f64 {
        mean(self.records_total, self.keys_total)
    }

    /// Peers of a region, on average.
    pub fn mean_region_peers(&self) -> f64 {
        mean(self.peers_total, self.regions_total)
    }
}

#[allow(clippy::cast_precision_loss, reason = "for show")]
fn mean(total: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total as f64 / count as f64 }
}

/// What a sweep tells of itself. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    started: Instant,
    since: Option<SystemTime>,
    is_online: bool,
    busy_count: u64,
    parts: Vec<Part>,
    counters: Counters,
}

/// How far a part of the keyspace is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    /// When its turn began, in seconds since 1970.
    pub(super) started_s: Option<u64>,
    /// When its next region is due, in seconds since 1970; `None` while one is.
    pub(super) next_s: Option<u64>,
}

impl Watch {
    /// Of a sweep that goes through so many parts.
    pub(super) fn new(part_count: usize) -> Self {
        Self(Arc::new(Mutex::new(Seen {
            started: Instant::now(),
            since: None,
            is_online: false,
            busy_count: 0,
            parts: vec![Part::default(); part_count],
            counters: Counters::default(),
        })))
    }

    pub(super) fn set_online(&self, is_online: bool, now: SystemTime) {
        let mut seen = self.lock();
        if seen.is_online != is_online || seen.since.is_none() {
            (seen.is_online, seen.since) = (is_online, Some(now));
        }
    }

    pub(super) fn set_part(&self, number: usize, part: Part) {
        self.lock().parts[number] = part;
    }

    /// A region is being told until that is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.lock().busy_count += 1;
        Busy(self.clone())
    }

    pub(super) fn on_fault(&self) {
        self.lock().counters.faults_total += 1;
    }

    pub(super) fn on_told(&self, keys_count: u64, failed_count: u64, record_count: u64) {
        let counters = &mut self.lock().counters;
        counters.keys_total += keys_count;
        counters.keys_failed_total += failed_count;
        counters.records_total += record_count;
    }

    pub(super) fn on_region(&self, region: &Prefix, peer_count: u64, reached_count: u64, took: Duration) {
        let counters = &mut self.lock().counters;
        counters.regions_total += 1;
        counters.prefix_bits_total += u64::from(region.bit_count());
        counters.peers_total += peer_count;
        counters.peers_reached_total += reached_count;
        counters.busy += took;
    }

    pub(super) fn stat(&self, counts: &Counts, scope: Scope, interval: Duration) -> Stat {
        let seen = self.lock();
        Stat {
            is_online: seen.is_online,
            since: seen.since,
            scheduled_count: counts.of(Lane::Scheduled),
            fresh_count: counts.of(Lane::Fresh(scope)),
            busy_count: seen.busy_count,
            interval,
            started_s: seen.parts.iter().filter_map(|part| part.started_s).max(),
            // `None` comes before every number.
            next_s: seen.parts.iter().map(|part| part.next_s).min().flatten(),
            uptime: seen.started.elapsed(),
            counters: seen.counters,
            replication: REPLICATION,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Whole after every statement that holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a region that is being told.
#[derive(Debug)]
pub(super) struct Busy(Watch);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.lock().busy_count -= 1;
    }
}
