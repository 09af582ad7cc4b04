//! Values that this node keeps for the DHT: IPNS records, each checked before it is kept.
//!
//! They are in memory alone: their owners tell them again every few hours, and a value that nobody tells is to be forgotten.

use std::cmp::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use cairn_proto::ipns::{Name, Record};
use moka::sync::Cache;

use super::RECORD_TTL;

/// Memory for values, in bytes.
const MAX_VALUE_BYTES: u64 = 8 * 1024 * 1024;

/// The values of one DHT.
#[derive(Debug)]
pub(super) struct Values(Cache<Name, Record>);

impl Values {
    pub(super) fn new() -> Self {
        let weigh = |_: &Name, record: &Record| {
            const FIXED_BYTES: usize = 512; // the parsed fields, the name, and moka's own node
            u32::try_from(2 * record.bytes().len() + FIXED_BYTES).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(MAX_VALUE_BYTES).weigher(weigh).time_to_live(RECORD_TTL).build())
    }

    /// The value under a key, if it is still valid.
    pub(super) fn get(&self, key: &[u8], now: SystemTime) -> Option<Bytes> {
        let record = self.0.get(&Name::from_routing_key(key)?)?;
        record.fresh_for(now).map(|_| record.bytes().clone())
    }

    /// Keeps a value if it is a valid record of the name in its key, and no better one is kept. Returns whether it is.
    pub(super) fn put(&self, key: &[u8], value: Vec<u8>, now: SystemTime) -> bool {
        let Some(name) = Name::from_routing_key(key) else { return false };
        let Ok(record) = Record::verify(&name, value.into()) else { return false };
        let is_older = self.0.get(&name).is_some_and(|kept| kept.order(&record) == Ordering::Greater);
        if is_older || record.fresh_for(now).is_none() {
            return false;
        }
        self.0.insert(name, record);
        true
    }

    pub(super) fn remove(&self, key: &[u8]) {
        if let Some(name) = Name::from_routing_key(key) {
            self.0.invalidate(&name);
        }
    }
}
