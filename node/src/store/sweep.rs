//! What a collection reads: blocks that nothing keeps, and where removed ones left their bytes.

use cairn_proto::cid::Multihash;

use super::database::{Database, Row, Rows};
use super::layout::{self, BUCKET_IDS, BlockId, Entry, cf, meta};
use super::{Shared, bad_row};
use crate::error::Result;

/// Ids that are looked at before a step ends, garbage or not.
const STEP_IDS: usize = 16_384;
/// Ids whose holders are read by one iterator.
const WINDOW_IDS: u64 = 4096;
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
        let (mut edges, mut pins) = (Holders::new(&self.db, cf::EDGES), Holders::new(&self.db, cf::PINS));
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
        let (from, to) = (bucket * BUCKET_IDS, (bucket + 1) * BUCKET_IDS);
        let mut rows = self.db.rows_between(cf::IDS, &from.to_be_bytes(), &to.to_be_bytes());
        let mut bytes = 0;
        while let Some((key, value)) = rows.next()? {
            let (entry, _) = Entry::decode_with(key, value).ok_or_else(bad_row)?;
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
pub(super) struct Holders<'db> {
    db: &'db Database,
    family: &'static str,
    window: Option<Window<'db>>,
}

/// The rows of some ids. What was removed there is stepped over once, and what was removed behind it not at all.
struct Window<'db> {
    rows: Rows<'db>,
    until: BlockId,
    /// Id of the row where it stands; `None` behind the last.
    at: Option<BlockId>,
}

impl<'db> Holders<'db> {
    pub(super) fn new(db: &'db Database, family: &'static str) -> Self {
        Self { db, family, window: None }
    }

    /// Whether a row keeps this block. Ids are asked for in rising order.
    pub(super) fn hold(&mut self, id: BlockId) -> Result<bool> {
        let window = match &mut self.window {
            Some(window) if id < window.until => window,
            passed => passed.insert(Window::open(self.db, self.family, id)?),
        };
        let mut steps = 0;
        while window.at.is_some_and(|at| at < id) {
            if steps == MAX_STEPS {
                window.rows.seek(&id.to_be_bytes());
            }
            steps += 1;
            window.step()?;
        }
        Ok(window.at == Some(id))
    }
}

impl<'db> Window<'db> {
    fn open(db: &'db Database, family: &str, from: BlockId) -> Result<Self> {
        let until = from.saturating_add(WINDOW_IDS);
        let rows = db.rows_between(family, &from.to_be_bytes(), &until.to_be_bytes());
        let mut window = Self { rows, until, at: None };
        window.step()?;
        Ok(window)
    }

    fn step(&mut self) -> Result<()> {
        self.at = match self.rows.next()? {
            Some((key, _)) => Some(layout::split_u64(key).ok_or_else(bad_row)?.0),
            None => None,
        };
        Ok(())
    }
}
