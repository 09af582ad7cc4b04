//! Reads what can still be read of a store that is damaged, for a new one to be made of it.
//!
//! Invariant: the damaged store is not changed: everything happens on a second set of names for its files. Whatever is
//! given out as a block has been hashed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, RAW};
use cairn_proto::limits::{MAX_BLOCK_BYTES, MAX_CID_BYTES};

use super::database::{Database, Row};
use super::layout::{self, BlockId, cf, meta};
use super::rows::{PAGE_ROWS, Table};
use super::{StoredPin, kept};
use crate::error::{Error, Kind, Result};
use crate::settings::StoreSettings;

/// Folder of the second set of names, beside the store's.
const SCRATCH: &str = "salvage.tmp";
/// Header of a blob file. Source: RocksDB `db/blob/blob_log_format.h`.
const BLOB_FILE_HEADER_BYTES: u64 = 30;
/// Header of a record in it: length of key and of value, expiration, two checksums.
const BLOB_HEADER_BYTES: usize = 32;

/// A damaged store. Every call blocks its thread.
#[derive(Debug)]
pub(crate) struct Wreck {
    db: Option<Database>,
    dir: PathBuf,
    scratch: PathBuf,
    /// Keeps other processes out.
    _lock: File,
    /// The database could not be opened as it was, or gave an error: blob files are read by themselves, too.
    broken: bool,
}

impl Wreck {
    /// Opens what is left of the store in `dir`.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when a process has it open, [`Kind::NotFound`] when there is none, what the disk says.
    pub(crate) fn open(dir: &Path, settings: &StoreSettings) -> Result<Self> {
        let lock = lock(dir)?;
        let scratch = dir.with_file_name(SCRATCH);
        link_files(dir, &scratch)?;
        let opened = Database::open(&scratch, settings);
        let (db, broken) = match opened {
            Ok(db) => (Some(db), false),
            Err(error) => {
                tracing::warn!(%error, "database cannot be opened, its tables are gathered anew");
                link_files(dir, &scratch)?;
                let repaired = Database::repair(&scratch).and_then(|()| Database::open(&scratch, settings));
                (repaired.inspect_err(|error| tracing::warn!(%error, "no table can be read")).ok(), true)
            }
        };
        Ok(Self { db, dir: dir.to_path_buf(), scratch, _lock: lock, broken })
    }

    /// Gives every block that still hashes right; some may come twice.
    pub(crate) fn blocks(&mut self, mut each: impl FnMut(Block) -> Result<()>) -> Result<()> {
        let mut broken = self.broken;
        if let Some(db) = &self.db {
            broken |= readable(db, cf::PAYLOAD, |key, value| match block_of(key, value) {
                Some(block) => each(block),
                None => Ok(()),
            })?;
        }
        if broken {
            // Not the second names: the database removes what it does not know.
            for path in blob_files(&self.dir)? {
                read_blobs(&path, &mut each)?;
            }
        }
        Ok(())
    }

    /// The pins that can be read.
    pub(crate) fn pins(&self) -> Result<Vec<StoredPin>> {
        let mut pins = Vec::new();
        if let Some(db) = &self.db {
            readable(db, cf::PINS, |key, name| {
                pins.extend(kept::stored_pin(key, name).ok());
                Ok(())
            })?;
        }
        Ok(pins)
    }

    /// The rows of a table up to the first that cannot be read; at most a page at a time.
    pub(crate) fn rows(&self, table: Table, mut each: impl FnMut(Vec<Row>) -> Result<()>) -> Result<()> {
        let Some(db) = &self.db else { return Ok(()) };
        let mut last: Option<Box<[u8]>> = None;
        loop {
            match db.page(table.family(), &[], last.as_deref(), PAGE_ROWS) {
                Ok(page) if page.is_empty() => return Ok(()),
                Ok(page) => {
                    last = page.last().map(|(key, _)| key.clone());
                    each(page)?;
                }
                Err(error) => {
                    tracing::warn!(%error, ?table, "rows cannot be read");
                    return Ok(());
                }
            }
        }
    }

    /// Removes the second set of names.
    pub(crate) fn close(mut self) -> Result<()> {
        self.db = None;
        fs::remove_dir_all(&self.scratch).map_err(|error| unusable(&self.scratch, error))
    }
}

/// Gives the readable rows of a column family whose keys begin with ids; returns whether some were not readable.
fn readable(
    db: &Database,
    family: &'static str,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<bool> {
    let last = last_id(db);
    let mut broken = false;
    let mut from: BlockId = 0;
    while from <= last {
        let mut rows = db.rows_from(family, &from.to_be_bytes());
        loop {
            match rows.next() {
                Ok(Some((key, value))) => {
                    from = layout::split_u64(key).map_or(from, |(id, _)| id);
                    each(key, value)?;
                }
                Ok(None) => return Ok(broken),
                Err(_) => break,
            }
        }
        // What cannot be read lies behind this id, or is the id itself.
        broken = true;
        from += 1;
    }
    Ok(broken)
}

/// An id that is not below any other.
fn last_id(db: &Database) -> BlockId {
    let mark = db.get(cf::META, meta::MARK).ok().flatten();
    let mark = mark.and_then(|row| layout::split_u64(&row).map(|(id, _)| id));
    let last = |family| {
        let key = db.last_key(family).ok().flatten()?;
        layout::split_u64(&key).map(|(id, _)| id)
    };
    mark.max(last(cf::IDS)).max(last(cf::PAYLOAD)).max(last(cf::PINS)).unwrap_or_default()
}

/// The block of a row of `payload`, if it still hashes right.
fn block_of(key: &[u8], value: &[u8]) -> Option<Block> {
    let (_, multihash) = layout::split_u64(key)?;
    let cid = Cid::new_v1(RAW, layout::multihash(multihash)?);
    Block::verify(cid, Bytes::copy_from_slice(value)).ok()
}

/// Gives the blocks of a blob file, whose records carry their keys. Behind a broken one the next is searched for.
fn read_blobs(path: &Path, each: &mut impl FnMut(Block) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|error| unusable(path, error))?;
    let mut at = BLOB_FILE_HEADER_BYTES;
    let mut header = [0; BLOB_HEADER_BYTES];
    while file.read_exact_at(&mut header, at).is_ok() {
        let (key_len, value_len) = (number(&header, 0), number(&header, 8));
        let plausible = (9..8 + MAX_CID_BYTES).contains(&key_len) && value_len <= MAX_BLOCK_BYTES;
        let mut record = vec![0; if plausible { key_len + value_len } else { 0 }];
        if !plausible || file.read_exact_at(&mut record, at + BLOB_HEADER_BYTES as u64).is_err() {
            at += 1;
            continue;
        }
        at += (BLOB_HEADER_BYTES + record.len()) as u64;
        if let Some(block) = block_of(&record[..key_len], &record[key_len..]) {
            each(block)?;
        }
    }
    Ok(())
}

fn number(header: &[u8; BLOB_HEADER_BYTES], at: usize) -> usize {
    let bytes = header[at..at + 8].try_into().expect("8 bytes");
    usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

fn blob_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let names = fs::read_dir(dir).map_err(|error| unusable(dir, error))?;
    let paths = names.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "blob")).collect())
}

/// Gives the files of a folder names in another one. What the database writes again gets a copy.
fn link_files(dir: &Path, scratch: &Path) -> Result<()> {
    let link = || -> std::io::Result<()> {
        if scratch.exists() {
            fs::remove_dir_all(scratch)?;
        }
        fs::create_dir(scratch)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let (from, to) = (entry.path(), scratch.join(entry.file_name()));
            if !entry.file_type()?.is_file() || entry.file_name() == "LOCK" {
                continue;
            }
            match from.extension().and_then(|extension| extension.to_str()) {
                Some("sst" | "blob") => fs::hard_link(&from, &to)?,
                _ => _ = fs::copy(&from, &to)?,
            }
        }
        Ok(())
    };
    link().map_err(|error| unusable(scratch, error))
}

/// Takes the lock that RocksDB takes.
fn lock(dir: &Path) -> Result<File> {
    if !dir.is_dir() {
        return Err(Error::not_found(format!("no store at {}", dir.display())));
    }
    let path = dir.join("LOCK");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| unusable(&path, error))?;
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::new(
            Kind::Unavailable,
            format!("repo is in use: stop its daemon first, store={}", dir.display()),
        )
    })?;
    Ok(file)
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot use {}", path.display())).with_cause(error)
}
