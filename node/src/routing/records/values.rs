//! Values that this node keeps for the DHT: IPNS records, each checked before it is kept.
//!
//! Their owners tell them again every few hours; a value that nobody tells any more is forgotten.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use cairn_proto::ipns::{Name, Record};
use libp2p::PeerId;
use moka::sync::Cache;

use super::counts::Counts;
use super::rows::{Rows, Slot, Value};
use super::writer::{self, Backing};
use super::{RECORD_TTL, RecordLimits, WallClock, unix_s};
use crate::tasks::Tasks;

/// Memory for values that were checked, in bytes.
const MAX_CHECKED_BYTES: u64 = 8 * 1024 * 1024;
/// Rows held in memory beside them; each may take as much as a record is long.
const MAX_CACHED_ROWS: usize = 512;

/// The values of one DHT.
#[derive(Debug)]
pub(super) struct Values {
    local: PeerId,
    limits: RecordLimits,
    counts: Counts,
    rows: Rows<Slot>,
    /// What was checked lately: signatures cost more than everything else here.
    checked: Cache<Name, Record>,
}

impl Values {
    pub(super) fn open(
        local: PeerId,
        limits: RecordLimits,
        backing: &Arc<dyn Backing>,
        prefix: &[u8],
        clock: &WallClock,
        tasks: &Tasks,
    ) -> Self {
        let counts = Counts::default();
        let queue = writer::start::<Slot>(backing, prefix, counts.clone(), clock, tasks);
        let rows = Rows::new(Arc::clone(backing), prefix, queue, MAX_CACHED_ROWS);
        let weigh = |_: &Name, record: &Record| {
            const FIXED_BYTES: usize = 512; // the parsed fields, the name, and moka's own node
            u32::try_from(2 * record.bytes().len() + FIXED_BYTES).unwrap_or(u32::MAX)
        };
        let checked = Cache::builder().max_capacity(MAX_CHECKED_BYTES).weigher(weigh).build();
        Self { local, limits, counts, rows, checked }
    }

    /// The value under a key, if it is still valid.
    pub(super) fn get(&self, key: &[u8], now: SystemTime) -> Option<Bytes> {
        let name = Name::from_routing_key(key)?;
        let row = self.rows.get(key)?;
        let kept = row.0.as_ref().filter(|value| value.expires_s > unix_s(now))?;
        let record = self.record(&name, kept)?;
        record.fresh_for(now).map(|_| record.bytes().clone())
    }

    /// Keeps a value if it is a valid record of the name in its key, no better one is kept, and there is room.
    /// Returns whether it is kept.
    pub(super) fn put(&mut self, key: &[u8], bytes: Vec<u8>, teller: PeerId, now: SystemTime) -> bool {
        let Some(name) = Name::from_routing_key(key) else { return false };
        let now_s = unix_s(now);
        let kept = self.rows.get(key).and_then(|row| row.0.clone()).filter(|kept| kept.expires_s > now_s);
        if kept.is_none() && !self.has_room(&teller, now_s) {
            return false;
        }
        let Ok(record) = Record::verify(&name, bytes.into()) else { return false };
        let better = kept.as_ref().and_then(|kept| self.record(&name, kept));
        let is_older = better.is_some_and(|better| better.order(&record) == Ordering::Greater);
        if is_older || record.fresh_for(now).is_none() {
            return false;
        }
        let expires_s = (now_s + RECORD_TTL.as_secs()).min(unix_s(record.expires()));
        let value = Value { peer: teller, expires_s, bytes: record.bytes().clone() };
        if self.rows.put(key, Slot(Some(value))).is_err() {
            return false;
        }
        if let Some(kept) = kept {
            self.counts.remove(&kept.peer, kept.expires_s);
        }
        self.counts.add(teller, expires_s);
        self.checked.insert(name, record);
        true
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        let Some(kept) = self.rows.get(key).and_then(|row| row.0.clone()) else { return };
        if self.rows.put(key, Slot(None)).is_ok() {
            self.counts.remove(&kept.peer, kept.expires_s);
        }
    }

    fn has_room(&self, teller: &PeerId, now_s: u64) -> bool {
        let (total, of_teller, own) = self.counts.of(teller, &self.local, now_s);
        *teller == self.local
            || (total - own < self.limits.max_value_count && of_teller < self.limits.max_values_per_peer)
    }

    /// The record that was kept, checked now unless it was lately.
    fn record(&self, name: &Name, kept: &Value) -> Option<Record> {
        if let Some(record) = self.checked.get(name).filter(|record| *record.bytes() == kept.bytes) {
            return Some(record);
        }
        let record = Record::verify(name, kept.bytes.clone()).ok()?;
        self.checked.insert(*name, record.clone());
        Some(record)
    }
}
