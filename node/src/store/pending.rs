//! Blocks that were accepted and whose index rows are not written yet: readers see them at once.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use cairn_proto::block::Block;

use super::layout::{BlockId, Entry};

/// Accepted blocks by multihash. One writer, the committer.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    rows: RwLock<HashMap<Box<[u8]>, PendingRow>>,
}

/// An accepted block.
#[derive(Debug, Clone)]
pub(crate) struct PendingRow {
    pub(crate) id: BlockId,
    pub(crate) len_bytes: u32,
    /// The block, until its payload is in the database.
    pub(crate) block: Option<Block>,
}

impl PendingRow {
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(self.id, self.len_bytes)
    }
}

impl Pending {
    pub(crate) fn get(&self, multihash: &[u8]) -> Option<PendingRow> {
        self.read(|rows| rows.get(multihash).cloned())
    }

    pub(crate) fn insert(&self, multihash: Box<[u8]>, row: PendingRow) {
        self.write(|rows| rows.insert(multihash, row));
    }

    /// The payload of these blocks is in the database now.
    pub(crate) fn forget_blocks<'key>(&self, multihashes: impl Iterator<Item = &'key [u8]>) {
        self.write(|rows| {
            for multihash in multihashes {
                if let Some(row) = rows.get_mut(multihash) {
                    row.block = None;
                }
            }
        });
    }

    /// The index rows are in the database now.
    pub(crate) fn clear(&self) {
        // A new map: a large group's room is given back.
        self.write(|rows| *rows = HashMap::new());
    }

    fn read<T>(&self, read: impl FnOnce(&HashMap<Box<[u8]>, PendingRow>) -> T) -> T {
        read(&self.rows.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut HashMap<Box<[u8]>, PendingRow>) -> T) -> T {
        write(&mut self.rows.write().unwrap_or_else(PoisonError::into_inner))
    }
}
