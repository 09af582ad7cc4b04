//! Rows of records: one per key, cached in memory, written behind.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use prost::Message as _;
use tracing::debug;

use super::writer::{Backing, ChangeId, Queue, RowChange};

/// What stands under one key.
pub(super) trait Row: Clone + fmt::Debug + Send + Sync + 'static {
    /// Holds nothing: then there is no row.
    fn is_empty(&self) -> bool;

    fn encode(&self) -> Vec<u8>;

    /// What can be read of a stored row; who told what is lost tells it again.
    fn decode(bytes: &[u8]) -> Self;

    /// Its records: who told each, and when it expires, in seconds since 1970.
    fn records(&self) -> Vec<(PeerId, u64)>;
}

/// A provider of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) peer: PeerId,
    /// Seconds since 1970.
    pub(super) expires_s: u64,
    pub(super) addrs: Vec<Multiaddr>,
}

/// The cache has no room until the writer catches up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Rows in front of their backing.
///
/// Two generations: a row that is changed goes to the young one; when that is full, it becomes the old one, and the old
/// one is dropped, provided that all of it is written.
#[derive(Debug)]
pub(super) struct Rows<T> {
    backing: Arc<dyn Backing>,
    prefix: Box<[u8]>,
    queue: Queue,
    max_generation_rows: usize,
    young: Generation<T>,
    old: Generation<T>,
}

#[derive(Debug)]
struct Generation<T> {
    rows: HashMap<Vec<u8>, T>,
    /// Last change of these rows.
    last_change: ChangeId,
}

impl<T> Default for Generation<T> {
    fn default() -> Self {
        Self { rows: HashMap::new(), last_change: ChangeId::default() }
    }
}

impl<T: Row> Rows<T> {
    /// Rows in front of `backing`, whose writer `queue` leads to.
    pub(super) fn new(backing: Arc<dyn Backing>, prefix: &[u8], queue: Queue, max_rows: usize) -> Self {
        Self {
            backing,
            prefix: prefix.into(),
            queue,
            max_generation_rows: (max_rows / 2).max(1),
            young: Generation::default(),
            old: Generation::default(),
        }
    }

    /// The row of a key; an empty one counts as none.
    pub(super) fn get(&self, key: &[u8]) -> Option<Cow<'_, T>> {
        let cached = self.young.rows.get(key).or_else(|| self.old.rows.get(key));
        let row = match cached {
            Some(row) => Cow::Borrowed(row),
            None => Cow::Owned(T::decode(&self.backing.get(&self.stored_key(key))?)),
        };
        (!row.is_empty()).then_some(row)
    }

    /// Replaces the row of a key; an empty one is removed.
    pub(super) fn put(&mut self, key: &[u8], row: T) -> Result<(), Full> {
        if !self.young.rows.contains_key(key) {
            self.make_room()?;
        }
        let value = (!row.is_empty()).then(|| row.encode());
        self.young.last_change = self.queue.push(RowChange { key: self.stored_key(key), value })?;
        self.young.rows.insert(key.to_vec(), row);
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), Full> {
        if self.young.rows.len() < self.max_generation_rows {
            return Ok(());
        }
        if !self.queue.is_written(self.old.last_change) {
            return Err(Full);
        }
        self.old = std::mem::take(&mut self.young);
        Ok(())
    }

    /// Key of a row in the backing.
    fn stored_key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRow {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<StoredEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredEntry {
    #[prost(bytes = "vec", tag = "1")]
    peer: Vec<u8>,
    #[prost(uint64, tag = "2")]
    expires_s: u64,
    #[prost(bytes = "vec", repeated, tag = "3")]
    addrs: Vec<Vec<u8>>,
}

impl Row for Vec<Entry> {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn encode(&self) -> Vec<u8> {
        let entries = self.iter().map(|entry| StoredEntry {
            peer: entry.peer.to_bytes(),
            expires_s: entry.expires_s,
            addrs: entry.addrs.iter().map(Multiaddr::to_vec).collect(),
        });
        StoredRow { entries: entries.collect() }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Self {
        let row = StoredRow::decode(bytes).unwrap_or_else(|error| {
            debug!(%error, "damaged record row left out");
            StoredRow::default()
        });
        let entries = row.entries.into_iter().filter_map(|entry| {
            Some(Entry {
                peer: PeerId::from_bytes(&entry.peer).ok()?,
                expires_s: entry.expires_s,
                addrs: entry.addrs.into_iter().filter_map(|addr| Multiaddr::try_from(addr).ok()).collect(),
            })
        });
        entries.collect()
    }

    fn records(&self) -> Vec<(PeerId, u64)> {
        self.iter().map(|entry| (entry.peer, entry.expires_s)).collect()
    }
}

/// A value, at most one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slot(pub(super) Option<Value>);

/// A value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// Who told it.
    pub(super) peer: PeerId,
    /// Seconds since 1970.
    pub(super) expires_s: u64,
    pub(super) bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredValue {
    #[prost(bytes = "vec", tag = "1")]
    peer: Vec<u8>,
    #[prost(uint64, tag = "2")]
    expires_s: u64,
    #[prost(bytes = "bytes", tag = "3")]
    bytes: Bytes,
}

impl Row for Slot {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn encode(&self) -> Vec<u8> {
        let stored = self.0.as_ref().map(|value| StoredValue {
            peer: value.peer.to_bytes(),
            expires_s: value.expires_s,
            bytes: value.bytes.clone(),
        });
        stored.unwrap_or_default().encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Self {
        let read = || {
            let stored = StoredValue::decode(bytes).ok()?;
            let peer = PeerId::from_bytes(&stored.peer).ok()?;
            Some(Value { peer, expires_s: stored.expires_s, bytes: stored.bytes })
        };
        Self(read())
    }

    fn records(&self) -> Vec<(PeerId, u64)> {
        self.0.iter().map(|value| (value.peer, value.expires_s)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_back_as_it_was_written() {
        let addrs = vec!["/ip4/1.2.3.4/tcp/1".parse().unwrap(), "/ip6/::1/udp/2/quic-v1".parse().unwrap()];
        let row = vec![
            Entry { peer: PeerId::random(), expires_s: u64::MAX, addrs },
            Entry { peer: PeerId::random(), expires_s: 1, addrs: Vec::new() },
        ];
        assert_eq!(Vec::<Entry>::decode(&row.encode()), row);
        let value = Value { peer: PeerId::random(), expires_s: 7, bytes: Bytes::from_static(b"value") };
        let slot = Slot(Some(value));
        assert_eq!(Slot::decode(&slot.encode()), slot);
    }

    #[test]
    fn a_damaged_row_counts_as_none() {
        assert_eq!(Vec::<Entry>::decode(&[0xff; 9]), []);
        assert_eq!(Slot::decode(&[0xff; 9]), Slot(None));
        assert_eq!(Slot::decode(b""), Slot(None));
    }
}
