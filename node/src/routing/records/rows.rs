//! Rows of provider records: one per key, cached in memory, written behind.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use prost::Message as _;
use tracing::debug;

use super::writer::{Backing, ChangeId, Queue, RowChange};

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
pub(super) struct Rows {
    backing: Arc<dyn Backing>,
    prefix: &'static [u8],
    queue: Queue,
    max_generation_rows: usize,
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    rows: HashMap<Vec<u8>, Vec<Entry>>,
    /// Last change of these rows.
    last_change: ChangeId,
}

impl Rows {
    pub(super) fn new(
        backing: Arc<dyn Backing>,
        prefix: &'static [u8],
        queue: Queue,
        max_rows: usize,
    ) -> Self {
        let max_generation_rows = (max_rows / 2).max(1);
        Self {
            backing,
            prefix,
            queue,
            max_generation_rows,
            young: Generation::default(),
            old: Generation::default(),
        }
    }

    /// The row of a key; an empty one counts as none.
    pub(super) fn get(&self, key: &[u8]) -> Option<Cow<'_, [Entry]>> {
        let cached = self.young.rows.get(key).or_else(|| self.old.rows.get(key));
        let row = match cached {
            Some(row) => Cow::Borrowed(row.as_slice()),
            None => Cow::Owned(decode(&self.backing.get(&stored_key(self.prefix, key))?)),
        };
        (!row.is_empty()).then_some(row)
    }

    /// Replaces the row of a key; an empty one is removed.
    pub(super) fn put(&mut self, key: &[u8], row: Vec<Entry>) -> Result<(), Full> {
        if !self.young.rows.contains_key(key) {
            self.make_room()?;
        }
        let value = (!row.is_empty()).then(|| encode(&row));
        self.young.last_change = self.queue.push(RowChange { key: stored_key(self.prefix, key), value })?;
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
}

/// Key of a row in the backing.
fn stored_key(prefix: &[u8], key: &[u8]) -> Vec<u8> {
    [prefix, key].concat()
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

pub(super) fn encode(row: &[Entry]) -> Vec<u8> {
    let entries = row.iter().map(|entry| StoredEntry {
        peer: entry.peer.to_bytes(),
        expires_s: entry.expires_s,
        addrs: entry.addrs.iter().map(Multiaddr::to_vec).collect(),
    });
    StoredRow { entries: entries.collect() }.encode_to_vec()
}

/// The entries of a stored row; what cannot be read is left out, since its provider announces again.
pub(super) fn decode(bytes: &[u8]) -> Vec<Entry> {
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
        assert_eq!(decode(&encode(&row)), row);
    }

    #[test]
    fn a_damaged_row_counts_as_none() {
        assert_eq!(decode(&[0xff; 9]), []);
    }
}
