//! Plain rows for other parts of the node, and listings that hold one page in memory.

use std::sync::Arc;

use super::Shared;
use super::database::{Batch, Row};
use super::layout::cf;
use crate::error::Result;

/// Rows of one page.
pub(crate) const PAGE_ROWS: usize = 1024;

/// A column family whose rows mean nothing to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// DHT values and providers.
    Records,
    /// What is announced, and when.
    Provide,
    /// Keys and names.
    Names,
    /// The root of the files API and its history.
    Files,
    /// Pins that are still to be fetched.
    Pinning,
}

impl Table {
    /// Every table.
    pub(crate) const ALL: [Self; 5] = [Self::Records, Self::Provide, Self::Names, Self::Files, Self::Pinning];

    pub(crate) fn family(self) -> &'static str {
        match self {
            Self::Records => cf::RECORDS,
            Self::Provide => cf::PROVIDE,
            Self::Names => cf::NAMES,
            Self::Files => cf::FILES,
            Self::Pinning => cf::PINNING,
        }
    }
}

/// The rows of one [`Table`]. Every call blocks its thread.
///
/// Nothing else depends on these rows, so they do not pass through the committer.
#[derive(Debug, Clone)]
pub struct Rows {
    shared: Arc<Shared>,
    table: Table,
}

/// Changes to the rows of one table, written together or not at all: `None` removes a row.
pub type RowBatch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Rows {
    pub(crate) fn new(shared: Arc<Shared>, table: Table) -> Self {
        Self { shared, table }
    }

    /// Value of a row.
    ///
    /// # Errors
    /// What the database says.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.shared.db.get(self.table.family(), key)?.map(|row| row.to_vec()))
    }

    /// Writes a row. It survives the end of the process at once, and a power cut after the next durable write.
    ///
    /// # Errors
    /// What the database says.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.change(|batch, family| batch.put(family, key, value))
    }

    /// Removes a row, as durably as [`Self::put`].
    ///
    /// # Errors
    /// What the database says.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.change(|batch, family| batch.delete(family, key))
    }

    /// Writes several rows together, as durably as [`Self::put`].
    ///
    /// # Errors
    /// What the database says.
    pub fn write(&self, rows: RowBatch) -> Result<()> {
        self.change(|batch, family| {
            for (key, value) in rows {
                match value {
                    Some(value) => batch.put(family, key, value),
                    None => batch.delete(family, key),
                }
            }
        })
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// What the database says.
    pub fn sync(&self) -> Result<()> {
        self.shared.sync()
    }

    /// Rows whose key starts with `prefix`, in order. Rows that come or go meanwhile may be in it or not.
    pub fn iter(&self, prefix: &[u8]) -> impl Iterator<Item = Result<Row>> + Send + use<> {
        paged(Arc::clone(&self.shared), self.table.family(), prefix.to_vec())
    }

    /// At most `max` rows in order, from a key up to another, both included.
    ///
    /// # Errors
    /// What the database says.
    pub fn range(&self, from: &[u8], to: &[u8], max: usize) -> Result<Vec<Row>> {
        let mut rows = self.shared.db.rows_from(self.table.family(), from);
        let mut found = Vec::new();
        while found.len() < max
            && let Some((key, value)) = rows.next()?
            && key <= to
        {
            found.push((key.into(), value.into()));
        }
        Ok(found)
    }

    fn change(&self, change: impl FnOnce(&mut Batch<'_>, &'static str)) -> Result<()> {
        let mut batch = self.shared.db.batch();
        change(&mut batch, self.table.family());
        self.shared.write(batch)
    }
}

/// Rows with a prefix, read page by page; ends after the first failure.
pub(crate) fn paged(
    shared: Arc<Shared>,
    family: &'static str,
    prefix: Vec<u8>,
) -> impl Iterator<Item = Result<Row>> + Send + use<> {
    let mut page = Vec::new().into_iter();
    let mut last: Option<Box<[u8]>> = None;
    let mut ended = false;
    std::iter::from_fn(move || {
        if page.len() == 0 && !ended {
            match shared.db.page(family, &prefix, last.as_deref(), PAGE_ROWS) {
                Ok(rows) => {
                    ended = rows.len() < PAGE_ROWS;
                    last = rows.last().map(|(key, _)| key.clone());
                    page = rows.into_iter();
                }
                Err(error) => {
                    ended = true;
                    return Some(Err(error));
                }
            }
        }
        page.next().map(Ok)
    })
}
