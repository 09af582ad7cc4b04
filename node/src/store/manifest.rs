//! How long the database's list of its files is at least, so that one which lost its end is known by it.
//!
//! RocksDB takes a record of its manifest that reaches beyond the end of the file for one that a crash cut off, and opens
//! without it. If a bit of a length rots, it would open without everything behind it, in silence. So the length up to
//! which the manifest is durable stands in a file beside it. That file is never synced: what it says is old at worst,
//! never too new.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Name of the file in the store's folder.
pub(crate) const FILE: &str = "listed";

/// A manifest is cut into blocks, and no header of a record crosses their borders. Source of the form: RocksDB
/// `db/log_format.h`.
const BLOCK_BYTES: usize = 32 * 1024;
/// Checksum, length (of two bytes, little endian) and type of a record.
const HEADER_BYTES: usize = 7;

/// A manifest, and the length up to which it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noted {
    number: u64,
    len_bytes: u64,
}

/// Notes the length of the manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    dir: PathBuf,
    file: File,
    noted: Option<Noted>,
}

/// Holds the manifest against what was noted of it, before the database is opened.
///
/// # Errors
/// [`crate::Kind::Corrupt`] when it is shorter, or when its records do not come to an end there.
pub(crate) fn check(dir: &Path) -> Result<()> {
    let read = || -> io::Result<Option<(Noted, Vec<u8>)>> {
        let Some(noted) = Noted::decode(&std::fs::read(dir.join(FILE))?) else { return Ok(None) };
        match current(dir)? {
            (number, path) if number == noted.number => Ok(Some((noted, std::fs::read(path)?))),
            // Another one is begun at each start: nothing was noted of it yet.
            _ => Ok(None),
        }
    };
    // What else is wrong with these files the database says.
    let Ok(Some((noted, manifest))) = read() else { return Ok(()) };
    if usize::try_from(noted.len_bytes).is_ok_and(|len| ends_at(&manifest, len)) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "manifest of the store is damaged: `cairn repo salvage` rebuilds the store from what is whole, store={} \
         manifest={} len_bytes={} durable_bytes={}",
        dir.display(),
        noted.number,
        manifest.len(),
        noted.len_bytes
    )))
}

impl Manifest {
    /// Begins to note; see [`Self::note`].
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| {
            Error::new(crate::Kind::Unavailable, format!("cannot use {}", path.display())).with_cause(error)
        })?;
        Ok(Self { dir: dir.to_path_buf(), file, noted: None })
    }

    /// Notes how long the manifest is now.
    pub(crate) fn note(&mut self) {
        // It only helps to find damage: whatever is wrong with it, the manifest is as durable as before.
        if let Err(error) = self.try_note() {
            tracing::warn!(%error, "length of the manifest was not noted");
        }
    }

    fn try_note(&mut self) -> io::Result<()> {
        let (number, path) = current(&self.dir)?;
        let manifest = File::open(path)?;
        let now = Noted { number, len_bytes: manifest.metadata()?.len() };
        if self.noted.as_ref() == Some(&now) {
            return Ok(());
        }
        // The database may be in the middle of writing to it.
        manifest.sync_data()?;
        self.file.write_all_at(&now.encode(), 0)?;
        self.noted = Some(now);
        Ok(())
    }
}

impl Noted {
    /// Number ‖ length ‖ both once more, inverted.
    fn encode(&self) -> [u8; 32] {
        let mut row = [0; 32];
        for (at, number) in
            [self.number, self.len_bytes, !self.number, !self.len_bytes].into_iter().enumerate()
        {
            row[8 * at..8 * at + 8].copy_from_slice(&number.to_be_bytes());
        }
        row
    }

    /// `None` for a row that was never written whole.
    fn decode(row: &[u8]) -> Option<Self> {
        let (numbers, _) = row.as_chunks::<8>();
        let number = |at: usize| numbers.get(at).map(|bytes| u64::from_be_bytes(*bytes));
        let noted = Self { number: number(0)?, len_bytes: number(1)? };
        (noted.encode() == *row).then_some(noted)
    }
}

/// Number and path of the manifest in use.
fn current(dir: &Path) -> io::Result<(u64, PathBuf)> {
    let name = std::fs::read_to_string(dir.join("CURRENT"))?;
    let name = name.trim_end();
    let number = name.strip_prefix("MANIFEST-").and_then(|number| number.parse().ok());
    Ok((number.ok_or(io::ErrorKind::InvalidData)?, dir.join(name)))
}

/// Whether a record ends at `len`, when one is read behind the other.
fn ends_at(manifest: &[u8], len: usize) -> bool {
    let mut at = 0;
    while at < len {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            at += left;
            continue;
        }
        let Some([_, _, _, _, low, high, _]) = manifest.get(at..at + HEADER_BYTES) else { return false };
        at += HEADER_BYTES + usize::from(u16::from_le_bytes([*low, *high]));
    }
    at == len && len <= manifest.len()
}
