//! Records that this node keeps: those it was given, on disk for good, and those it found, in memory for a while.

use cairn_proto::ipns::{Name, Record};
use moka::sync::Cache;
use tokio::time::Instant;

use crate::store::Rows;
use crate::{Error, Result};

/// What stands before the multihash in the key of a row.
const PREFIX: &[u8] = b"record/";

/// Memory for records that were found, in bytes.
const MAX_FOUND_BYTES: u64 = 8 * 1024 * 1024;

/// The records of a node.
#[derive(Debug)]
pub(super) struct Held {
    rows: Rows,
    found: Cache<Name, Found>,
}

/// A record, and until when it was said to be the latest.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) record: Record,
    pub(super) fresh_until: Option<Instant>,
}

impl Held {
    pub(super) fn new(rows: Rows) -> Self {
        let weigh = |_: &Name, found: &Found| {
            const FIXED_BYTES: usize = 512; // the parsed fields, the name, and moka's own node
            u32::try_from(2 * found.record.bytes().len() + FIXED_BYTES).unwrap_or(u32::MAX)
        };
        Self { rows, found: Cache::builder().max_capacity(MAX_FOUND_BYTES).weigher(weigh).build() }
    }

    /// The record that this node was given.
    pub(super) async fn get(&self, name: &Name) -> Result<Option<Record>> {
        let (rows, key, name) = (self.rows.clone(), key(name), *name);
        let row = blocking(move || rows.get(&key)).await?;
        // A row that is damaged is no record any more.
        Ok(row.and_then(|row| Record::verify(&name, row.into()).ok()))
    }

    /// Keeps a record for good.
    pub(super) async fn put(&self, name: &Name, record: &Record) -> Result<()> {
        let (rows, key, row) = (self.rows.clone(), key(name), record.bytes().clone());
        blocking(move || rows.put(&key, &row).and_then(|()| rows.sync())).await?;
        self.found.invalidate(name);
        Ok(())
    }

    /// The record that was found lately.
    pub(super) fn found(&self, name: &Name) -> Option<Found> {
        self.found.get(name)
    }

    /// Keeps a record that is the latest from now on for its time to live.
    pub(super) fn keep_found(&self, name: &Name, record: &Record) {
        let fresh_until = Instant::now().checked_add(record.ttl());
        self.found.insert(*name, Found { record: record.clone(), fresh_until });
    }
}

fn key(name: &Name) -> Vec<u8> {
    [PREFIX, name.multihash().to_bytes().as_slice()].concat()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("the store of names panicked").with_cause(error))?
}
