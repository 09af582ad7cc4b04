//! What a collection reads: blocks that nothing keeps, and where removed ones left their bytes.

use cairn_proto::cid::Multihash;

use super::database::{Row, Rows};
use super::layout::{self, BUCKET_IDS, BlockId, Entry, cf, meta};
use super::{Shared, bad_row};
use crate::error::Result;

/// Ids that are looked at before a step ends, garbage or not.
const STEP_IDS: usize = 16_384;
/// Rows that are stepped over before the iterator seeks.
const MAX_STEPS: usize = 8;

/// A block that nothing kept when it was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Garbage {
    pub(super) entry: Entry,
    pub(super) multihash: Box<[u8]>,
}

impl Garbage {
    pub(crate) fn len_bytes(&self) -> u32 {
        self.entry.len_bytes
    }

    pub(crate) fn multihash(&self) -> Option<Multihash> {
        layout::multihash(&self.multihash)
    }
}

impl Shared {
    /// Up to `max` blocks from an id on that no edge or pin keeps, and the id to go on from.
    pub(crate) fn garbage_from(&self, from: BlockId, max: usize) -> Result<(Vec<Garbage>, Option<BlockId>)> {
        let mut ids = self.db.rows_from(cf::IDS, &from.to_be_bytes());
        let mut edges = Holders::new(self.db.rows_from(cf::EDGES, &from.to_be_bytes()));
        let mut pins = Holders::new(self.db.rows_from(cf::PINS, &from.to_be_bytes()));
        let mut found = Vec::new();
        let mut seen = 0;
        while let Some((key, value)) = ids.next()? {
            let (entry, multihash) = Entry::decode_with(key, value).ok_or_else(bad_row)?;
            if found.len() == max || seen == STEP_IDS {
                return Ok((found, Some(entry.id)));
            }
            seen += 1;
            if !edges.hold(entry.id)? && !pins.hold(entry.id)? {
                found.push(Garbage { entry, multihash: multihash.into() });
            }
        }
        Ok((found, None))
    }

    /// Buckets of ids from which blocks were removed, with the bytes that they left.
    pub(crate) fn garbage_buckets(&self) -> Result<Vec<(u64, u64)>> {
        let rows = self.db.page(cf::META, meta::GARBAGE, None, usize::MAX)?;
        let bucket =
            |(key, value): &Row| Some((layout::number_of(meta::GARBAGE, key)?, layout::split_u64(value)?.0));
        rows.iter().map(|row| bucket(row).ok_or_else(bad_row)).collect()
    }

    /// Bytes of the blocks in a bucket.
    pub(crate) fn bucket_bytes(&self, bucket: u64) -> Result<u64> {
        let mut rows = self.db.rows_from(cf::IDS, &(bucket * BUCKET_IDS).to_be_bytes());
        let mut bytes = 0;
        while let Some((key, value)) = rows.next()? {
            let (entry, _) = Entry::decode_with(key, value).ok_or_else(bad_row)?;
            if entry.id / BUCKET_IDS != bucket {
                break;
            }
            bytes += u64::from(entry.len_bytes);
        }
        Ok(bytes)
    }

    /// Rewrites the payload from one bucket to another (included) without what was removed.
    pub(crate) fn compact_buckets(&self, first: u64, last: u64) -> Result<()> {
        let (from, to) = (first * BUCKET_IDS, (last + 1) * BUCKET_IDS);
        self.db.compact_payload(&from.to_be_bytes(), &to.to_be_bytes())
    }
}

/// Rows that start with the id of the block that they keep, read beside the ids.
struct Holders<'db> {
    rows: Rows<'db>,
    /// Id of the row where it stands; `None` behind the last.
    at: Option<BlockId>,
    begun: bool,
}

impl<'db> Holders<'db> {
    fn new(rows: Rows<'db>) -> Self {
        Self { rows, at: None, begun: false }
    }

    /// Whether a row keeps this block. Ids are asked for in rising order.
    fn hold(&mut self, id: BlockId) -> Result<bool> {
        if !self.begun {
            self.begun = true;
            self.step()?;
        }
        let mut steps = 0;
        while self.at.is_some_and(|at| at < id) {
            if steps == MAX_STEPS {
                self.rows.seek(&id.to_be_bytes());
            }
            steps += 1;
            self.step()?;
        }
        Ok(self.at == Some(id))
    }

    fn step(&mut self) -> Result<()> {
        self.at = match self.rows.next()? {
            Some((key, _)) => Some(layout::split_u64(key).ok_or_else(bad_row)?.0),
            None => None,
        };
        Ok(())
    }
}
