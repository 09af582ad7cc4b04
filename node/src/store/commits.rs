//! Numbers of the batches that went through the log, so that a log which lost some of them is known by it.
//!
//! Recovery stops at the first record that is damaged: after a crash that is the end of what was synced, but a bit that
//! rots makes it stop earlier, in silence. So each batch carries its number, and the number up to which all are durable
//! stands in a file beside the log. That file is never synced: what it says is old at worst, never too new.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// Name of the file in the store's folder.
pub(crate) const FILE: &str = "committed";

/// Numbers of batches.
#[derive(Debug)]
pub(crate) struct Commits {
    /// The last one written.
    written: u64,
    /// The last one known to be durable.
    durable: u64,
    file: File,
}

impl Commits {
    /// `written` is the number that the database has.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when a higher one was durable.
    pub(crate) fn open(dir: &Path, written: u64) -> Result<Self> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| unusable(&path, error))?;
        let mut row = [0; 16];
        // Shorter, or not its own complement: it was never written whole, and says nothing.
        let durable = match file.read_exact_at(&mut row, 0) {
            Ok(()) => decode(row).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(unusable(&path, error)),
        };
        if durable > written {
            return Err(Error::corrupt(format!(
                "log of the store is damaged: acknowledged writes are lost; `cairn repo salvage` rebuilds the store \
                 from what is whole, store={} last_commit={written} acknowledged={durable}",
                dir.display()
            )));
        }
        Ok(Self { written, durable, file })
    }

    /// The number of the batch that is written next.
    pub(crate) fn next(&self) -> u64 {
        self.written + 1
    }

    /// The batch with the next number is written.
    pub(crate) fn advance(&mut self) {
        self.written += 1;
    }

    /// The last number written, `None` when it is durable.
    pub(crate) fn not_durable(&self) -> Option<u64> {
        (self.written > self.durable).then_some(self.written)
    }

    /// Batches up to a number are durable.
    pub(crate) fn note_durable(&mut self, number: u64) {
        if number <= self.durable {
            return;
        }
        self.durable = number;
        // It only helps to find damage: whatever is wrong with it, the batch is durable.
        if let Err(error) = self.file.write_all_at(&encode(number), 0) {
            tracing::warn!(%error, "number of the last commit was not noted");
        }
    }
}

fn encode(number: u64) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&number.to_be_bytes());
    row[8..].copy_from_slice(&(!number).to_be_bytes());
    row
}

fn decode(row: [u8; 16]) -> Option<u64> {
    let (number, rest) = row.split_first_chunk()?;
    let number = u64::from_be_bytes(*number);
    (rest == (!number).to_be_bytes()).then_some(number)
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot use {}", path.display())).with_cause(error)
}
