//! What a verification reads: blocks in the order of arrival, each hashed, and how far the last one came.

use cairn_proto::cid::{Cid, Multihash, RAW};

use super::layout::{self, BlockId, Entry, cf, meta};
use super::{Request, Store, bad_row};
use crate::error::Result;

/// A block that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It hashes right, or has been removed meanwhile.
    Whole { len_bytes: u64 },
    /// Its bytes are set aside.
    Damaged(Multihash),
}

/// A row of `ids`.
pub(crate) type Listed = (Entry, Multihash);

impl Store {
    /// Up to `max` blocks from an id on, damaged ones included.
    pub(crate) fn ids_from(&self, from: BlockId, max: usize) -> Result<Vec<Listed>> {
        let mut rows = self.shared().db.rows_from(cf::IDS, &from.to_be_bytes());
        let mut listed = Vec::with_capacity(max);
        while listed.len() < max
            && let Some((key, value)) = rows.next()?
        {
            let (entry, multihash) = Entry::decode_with(key, value).ok_or_else(bad_row)?;
            listed.push((entry, layout::multihash(multihash).ok_or_else(bad_row)?));
        }
        Ok(listed)
    }

    /// Hashes blocks; those that are damaged are set aside. Blocks its thread.
    pub(crate) fn check(&self, listed: &[Listed]) -> Result<Vec<(BlockId, Checked)>> {
        let cids: Vec<_> = listed.iter().map(|(_, multihash)| Cid::new_v1(RAW, *multihash)).collect();
        let found = self.get_many(&cids);
        let mut checked = Vec::with_capacity(listed.len());
        for ((entry, multihash), block) in listed.iter().zip(found) {
            let state = match block? {
                Some(block) => Checked::Whole { len_bytes: block.data().len() as u64 },
                None => self.look_again(multihash)?,
            };
            checked.push((entry.id, state));
        }
        Ok(checked)
    }

    /// Why a block was not given: it is damaged, or it has been removed.
    fn look_again(&self, multihash: &Multihash) -> Result<Checked> {
        // What was found damaged is set aside before this is answered, unless the store is read-only.
        let set_aside = self.ask_blocking(|reply| Request::Sync { reply });
        let entry = self.shared().entries(&[multihash.to_bytes()])?.pop().flatten();
        Ok(match entry {
            Some(entry) if entry.damaged || set_aside.is_err() => Checked::Damaged(*multihash),
            _ => Checked::Whole { len_bytes: 0 },
        })
    }

    /// Id up to which the last verification has come; 0 when it came to the end.
    pub(crate) fn verified_until(&self) -> Result<BlockId> {
        self.shared().number(meta::VERIFIED)
    }

    /// Remembers how far a verification has come. It may be forgotten in a crash.
    pub(crate) fn note_verified(&self, until: BlockId) {
        let shared = self.shared();
        if shared.check_writable().is_err() {
            return;
        }
        let mut batch = shared.db.batch();
        batch.put(cf::META, meta::VERIFIED, until.to_be_bytes());
        // A failure makes the store read-only and is told by whatever writes next.
        let _ = shared.write(batch);
    }
}
