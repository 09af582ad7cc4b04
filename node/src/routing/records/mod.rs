//! What this node keeps for the DHT: who provides which content, and the records of names. Bounded, expiring, and never slow.
//!
//! Kademlia calls a [`RecordStore`] on the swarm's own task, where nothing may wait for a disk to write. So a change goes
//! into a cache of rows and into a bounded queue, which a writer empties in batches. What is not written yet stays in
//! the cache; when that is full, newcomers are refused. Records lost in a crash are announced again by their providers
//! within a day.

mod counts;
mod rows;
#[cfg(test)]
mod tests;
mod values;
mod writer;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_proto::cid::Multihash;
use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

use counts::Counts;
use rows::{Entry, Rows};
use values::Values;
pub use writer::{Backing, MemoryBacking, RowChange, RowIter};

use crate::tasks::Tasks;

/// How long a provider record is valid. Source: go-libp2p-kad-dht `amino` defaults (48 h).
pub const RECORD_TTL: Duration = Duration::from_secs(48 * 60 * 60);

/// What stands before the prefix of a store in the keys of its values.
const VALUES: &[u8] = b"values/";

/// Tells the time of day, for records that outlive the process.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What this node provides without a record of it being kept: it would be written again for every block, twice a day.
///
/// Called where nothing may wait: no longer than a few point reads.
pub trait Own: fmt::Debug + Send + Sync + 'static {
    /// Whether this node provides that now.
    fn provides(&self, content: &Multihash) -> bool;
}

/// Bounds of a record store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Providers kept for one key.
    pub max_per_key: usize,
    /// Records kept of one provider, this node excepted.
    pub max_per_peer: u32,
    /// Records kept in all; as many again of this node.
    pub max_count: u32,
    /// Rows of providers held in memory, of which none that awaits writing is ever dropped.
    pub max_cached_rows: usize,
    /// Values kept that one peer told, this node excepted.
    pub max_values_per_peer: u32,
    /// Values kept in all, those of this node excepted. One takes up to 10 KiB.
    pub max_value_count: u32,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self {
            max_per_key: 64,
            max_per_peer: 10_000,
            max_count: 1_000_000,
            max_cached_rows: 16 * 1024,
            max_values_per_peer: 1_000,
            max_value_count: 20_000,
        }
    }
}

/// What is kept for one DHT.
#[derive(Debug)]
pub struct Records {
    local: PeerId,
    limits: RecordLimits,
    clock: Clock,
    counts: Counts,
    rows: Rows<Vec<Entry>>,
    values: Values,
    own: Option<Arc<dyn Own>>,
}

struct Clock(WallClock);

impl Records {
    /// Opens what `backing` holds under `prefix`, and starts its writer as a task of `tasks`.
    ///
    /// Counts of what is on disk are made in the background; until then the limits see only what came since.
    pub fn open(
        local: PeerId,
        limits: RecordLimits,
        backing: Arc<dyn Backing>,
        prefix: &'static [u8],
        clock: WallClock,
        tasks: &Tasks,
    ) -> Self {
        let counts = Counts::default();
        let queue = writer::start::<Vec<Entry>>(&backing, prefix, counts.clone(), &clock, tasks);
        let value_prefix = [VALUES, prefix].concat();
        let values = Values::open(local, limits, &backing, &value_prefix, &clock, tasks);
        let rows = Rows::new(backing, prefix, queue, limits.max_cached_rows);
        Self { local, limits, clock: Clock(clock), counts, rows, values, own: None }
    }

    /// The same, and answers for what this node provides.
    #[must_use]
    pub fn with_own(self, own: Arc<dyn Own>) -> Self {
        Self { own: Some(own), ..self }
    }

    /// Whether this node provides what is under a key.
    fn is_own(&self, key: &RecordKey) -> bool {
        let provides = |own: &Arc<dyn Own>| Some(own.provides(&Multihash::from_bytes(key.as_ref()).ok()?));
        self.own.as_ref().and_then(provides).unwrap_or(false)
    }

    fn check_room(&self, provider: &PeerId, now_s: u64) -> Result<()> {
        let (total, of_peer, own) = self.counts.of(provider, &self.local, now_s);
        let is_own = *provider == self.local;
        let others = total - own;
        let is_full = if is_own {
            own >= self.limits.max_count
        } else {
            others >= self.limits.max_count || of_peer >= self.limits.max_per_peer
        };
        if is_full { Err(Error::MaxProvidedKeys) } else { Ok(()) }
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    /// The IPNS record under a key.
    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let value = self.values.get(key.as_ref(), (self.clock.0)())?;
        Some(Cow::Owned(Record::new(key.clone(), value.to_vec())))
    }

    /// Keeps an IPNS record that is valid and better than the one that is kept; every other value is refused. Its
    /// publisher is whoever told it, or this node.
    fn put(&mut self, record: Record) -> Result<()> {
        let teller = record.publisher.unwrap_or(self.local);
        let is_kept = self.values.put(record.key.as_ref(), record.value, teller, (self.clock.0)());
        if is_kept { Ok(()) } else { Err(Error::MaxRecords) }
    }

    fn remove(&mut self, key: &RecordKey) {
        self.values.remove(key.as_ref());
    }

    /// None: telling values again is their owners' business.
    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let now_s = self.clock.now_s();
        let key = record.key.as_ref();
        let mut row = self.rows.get(key).map_or_else(Vec::new, Cow::into_owned);
        let mut refreshed = None;
        row.retain(|entry| {
            if entry.peer == record.provider {
                refreshed = Some(entry.expires_s);
            }
            entry.peer != record.provider && entry.expires_s > now_s
        });
        if refreshed.is_none() {
            self.check_room(&record.provider, now_s)?;
            if row.len() >= self.limits.max_per_key {
                return Err(Error::MaxProvidedKeys);
            }
        }
        let expires_s = now_s + RECORD_TTL.as_secs();
        row.push(Entry { peer: record.provider, expires_s, addrs: record.addresses });
        self.rows.put(key, row).map_err(|rows::Full| Error::MaxProvidedKeys)?;
        if let Some(expires_s) = refreshed {
            self.counts.remove(&record.provider, expires_s);
        }
        self.counts.add(record.provider, expires_s);
        Ok(())
    }

    /// The valid records of a key, latest first, after the one of this node if it provides that.
    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let now_s = self.clock.now_s();
        let row = self.rows.get(key.as_ref()).unwrap_or_default();
        let valid = || row.iter().rev().filter(|entry| entry.expires_s > now_s);
        let record = |provider, addresses| ProviderRecord {
            key: key.clone(),
            provider,
            // Expired ones are left out; the monotonic clock knows nothing of records from disk.
            expires: None,
            addresses,
        };
        let is_missing = valid().all(|entry| entry.peer != self.local) && self.is_own(key);
        // Kademlia puts in the addresses of this node.
        let own = is_missing.then(|| record(self.local, Vec::new()));
        own.into_iter().chain(valid().map(|entry| record(entry.peer, entry.addrs.clone()))).collect()
    }

    /// None: announcing again is not Kademlia's business here.
    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        let Some(row) = self.rows.get(key.as_ref()) else { return };
        let Some(entry) = row.iter().find(|entry| entry.peer == *provider) else { return };
        let expires_s = entry.expires_s;
        let rest = row.iter().filter(|entry| entry.peer != *provider).cloned().collect();
        if self.rows.put(key.as_ref(), rest).is_ok() {
            self.counts.remove(provider, expires_s);
        }
    }
}

impl Clock {
    fn now_s(&self) -> u64 {
        unix_s((self.0)())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Seconds since 1970; a clock before that counts as 1970.
pub(crate) fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
