//! RocksDB, opened with the settings of each column family, and its errors in our kinds.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DBCompressionType, DBPinnableSlice, DBRawIteratorWithThreadMode, DBWithThreadMode,
    DataBlockIndexType, Direction, IteratorMode, LogLevel, Options, PrefixRange, ReadOptions, SingleThreaded,
    WriteBatch, WriteOptions, properties,
};

use super::layout::{FORMAT, cf, meta};
use super::manifest;
use crate::error::{Error, Kind, Result};
use crate::settings::StoreSettings;

/// Values of `payload` from this size on stand in blob files, which compaction does not rewrite.
const MIN_BLOB_BYTES: u64 = 4096;
const BLOB_FILE_BYTES: u64 = 256 << 20;
/// Open files; each costs a table reader in memory.
const MAX_OPEN_FILES: i32 = 256;
const MAX_WAL_BYTES: u64 = 64 << 20;
const BYTES_PER_SYNC: u64 = 1 << 20;
const LOG_FILES: usize = 2;
const MAX_LOG_FILE_BYTES: usize = 1 << 20;
const MAX_MANIFEST_BYTES: usize = 16 << 20;
/// Memtables of `payload` before a writer waits for the disk: one fills while two are written.
const PAYLOAD_MEMTABLES: i32 = 3;
/// How often a writer that waits for the disk looks whether it is full.
const STALL_POLL: Duration = Duration::from_millis(1);
const SMALL_MEMTABLE_BYTES: usize = 2 << 20;
const SMALL_ARENA_BYTES: usize = 64 << 10;

/// The database. Every call blocks its thread.
#[derive(Debug)]
pub(crate) struct Database {
    // The single-threaded mode only means that column families do not come and go while it is open.
    db: DBWithThreadMode<SingleThreaded>,
    damage: Option<Error>,
}

/// Key and value.
pub(crate) type Row = (Box<[u8]>, Box<[u8]>);

impl Database {
    /// Opens or makes the database in `dir` and holds its format stamp against ours.
    pub(crate) fn open(dir: &Path, settings: &StoreSettings) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|error| cannot_open(dir, &error.to_string()))?;
        if dir.join("CURRENT").exists() {
            manifest::check(dir)?;
            refuse_unknown_families(dir)?;
        }
        let memory = Memory::of(settings);
        let cache = Cache::new_lru_cache(memory.cache_bytes);
        let open = |options: &Options| {
            let families =
                cf::ALL.map(|name| ColumnFamilyDescriptor::new(name, family_options(name, &memory, &cache)));
            DBWithThreadMode::open_cf_descriptors(options, dir, families)
                .map_err(|error| open_error(dir, error))
        };
        let mut options = database_options();
        let (db, damage) = match open(&options) {
            Ok(db) => (db, None),
            // A bad table costs what is in it. Without these checks it is found when it is read.
            Err(damage) if damage.kind() == Kind::Corrupt => {
                options.set_paranoid_checks(false);
                match open(&options) {
                    Ok(db) => (db, Some(damage)),
                    Err(_) => return Err(damage),
                }
            }
            Err(error) => return Err(error),
        };
        let mut database = Self { db, damage };
        match database.check_format(dir) {
            Err(damage) if damage.kind() == Kind::Corrupt => database.damage = Some(damage),
            checked => checked?,
        }
        Ok(database)
    }

    /// Gathers the tables of a database that cannot be opened, and makes a list of them anew. Blob files are not in it.
    pub(crate) fn repair(dir: &Path) -> Result<()> {
        DBWithThreadMode::<SingleThreaded>::repair(&database_options(), dir).map_err(from_rocksdb)
    }

    /// Makes a copy of the database as it is now in a folder that does not exist yet; memory is written out first.
    pub(crate) fn checkpoint(&self, target: &Path) -> Result<()> {
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(&self.db).map_err(from_rocksdb)?;
        checkpoint.create_checkpoint(target).map_err(from_rocksdb)
    }

    /// What is wrong with a file, if the database could only be opened without looking into it.
    pub(crate) fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    fn check_format(&self, dir: &Path) -> Result<()> {
        match self.get(cf::META, meta::FORMAT)? {
            Some(stamp) => refuse_newer(dir, decode_format(&stamp)?),
            None => {
                let mut batch = self.batch();
                batch.put(cf::META, meta::FORMAT, FORMAT.to_be_bytes());
                self.write(batch)?;
                self.sync_log()
            }
        }
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every column family was opened")
    }

    /// Value of a row.
    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        self.db.get_pinned_cf(self.family(family), key).map_err(from_rocksdb)
    }

    /// Values of several rows, faster than one by one.
    pub(crate) fn get_many<K: AsRef<[u8]>>(
        &self,
        family: &str,
        keys: &[K],
    ) -> Result<Vec<Option<DBPinnableSlice<'_>>>> {
        let keys = keys.iter().map(AsRef::as_ref);
        let rows = self.db.batched_multi_get_cf(self.family(family), keys, false);
        rows.into_iter().map(|row| row.map_err(from_rocksdb)).collect()
    }

    /// Whether there is a row whose key starts so.
    pub(crate) fn has_prefix(&self, family: &str, prefix: &[u8]) -> Result<bool> {
        Ok(self.rows_with(family, prefix).next()?.is_some())
    }

    /// Rows whose key starts so, in order, as they are at this moment.
    pub(crate) fn rows_with(&self, family: &str, prefix: &[u8]) -> Rows<'_> {
        let mut options = ReadOptions::default();
        // Where nothing is left of a prefix, the iterator would step over whatever else was removed behind it.
        options.set_iterate_range(PrefixRange(prefix));
        self.rows(family, prefix, options)
    }

    /// Rows in order from a key up to another, which is not in it, as they are at this moment.
    pub(crate) fn rows_between(&self, family: &str, from: &[u8], to: &[u8]) -> Rows<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(from..to);
        self.rows(family, from, options)
    }

    /// Rows in order from a key on, as they are at this moment.
    pub(crate) fn rows_from(&self, family: &str, from: &[u8]) -> Rows<'_> {
        self.rows(family, from, ReadOptions::default())
    }

    fn rows(&self, family: &str, from: &[u8], options: ReadOptions) -> Rows<'_> {
        let mut iter = self.db.raw_iterator_cf_opt(self.family(family), options);
        iter.seek(from);
        Rows { iter, fresh: true }
    }

    /// At most `max_rows` rows with that prefix, from `after` (excluded) on.
    pub(crate) fn page(
        &self,
        family: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_rows: usize,
    ) -> Result<Vec<Row>> {
        let mut page = Vec::new();
        let mut rows = self.rows_with(family, prefix);
        if let Some(after) = after {
            rows.seek(after);
        }
        while page.len() < max_rows
            && let Some((key, value)) = rows.next()?
        {
            if after != Some(key) {
                page.push((key.into(), value.into()));
            }
        }
        Ok(page)
    }

    /// Key of the last row.
    pub(crate) fn last_key(&self, family: &str) -> Result<Option<Vec<u8>>> {
        let mode = IteratorMode::From(&[0xff; 256], Direction::Reverse);
        let row = self.db.iterator_cf(self.family(family), mode).next();
        row.transpose().map(|row| row.map(|(key, _)| key.into_vec())).map_err(from_rocksdb)
    }

    /// An empty batch for this database.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { database: self, batch: WriteBatch::default() }
    }

    /// An empty batch that takes so many bytes without moving them.
    pub(crate) fn batch_of_bytes(&self, len_bytes: usize) -> Batch<'_> {
        Batch { database: self, batch: WriteBatch::with_capacity_bytes(len_bytes) }
    }

    /// Writes a batch through the log, atomically; it is durable after the next [`Self::sync_log`].
    pub(crate) fn write(&self, batch: Batch<'_>) -> Result<()> {
        self.db.write(batch.batch).map_err(from_rocksdb)
    }

    /// Writes a batch into memory only; it is durable after the next [`Self::flush`] of its column family.
    pub(crate) fn write_unlogged(&self, batch: Batch<'_>) -> Result<()> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch.batch, &options).map_err(from_rocksdb)
    }

    /// Why writes are refused, if they are. (A flush would tell as well, but keep the database from resuming.)
    pub(crate) fn check_writable(&self) -> Result<()> {
        // Through the log: after a write beside it the database would write out all memory when it is closed.
        let mut options = WriteOptions::default();
        options.set_no_slowdown(true);
        match self.db.write_opt(WriteBatch::default(), &options) {
            Err(error) if error.kind() != rocksdb::ErrorKind::Incomplete => Err(from_rocksdb(error)),
            _ => Ok(()),
        }
    }

    /// Waits until a write would not wait for memory that is on its way to files. RocksDB itself would wait for it for
    /// as long as the disk is full. The next write finds it so unless others write beside it.
    #[expect(clippy::disallowed_methods, reason = "RocksDB tells nobody when a stall is over")]
    pub(crate) fn wait_out_stall(&self) -> Result<()> {
        let is_stalled = || self.db.property_int_value(properties::IS_WRITE_STOPPED).map_err(from_rocksdb);
        loop {
            // If a memtable is full, this exchanges it, as the write would.
            self.check_writable()?;
            if is_stalled()? != Some(1) {
                return Ok(());
            }
            thread::sleep(STALL_POLL);
        }
    }

    /// Makes everything written through the log durable.
    pub(crate) fn sync_log(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(from_rocksdb)
    }

    /// Writes the memory of a column family to its files and waits until they are durable.
    pub(crate) fn flush(&self, family: &str) -> Result<()> {
        self.db.flush_cf(self.family(family)).map_err(from_rocksdb)
    }

    /// Rewrites a range of `payload` without its removed rows, so that the files that held them go.
    pub(crate) fn compact_payload(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let family = self.family(cf::PAYLOAD);
        let collect = |on: &str| {
            let options =
                [("enable_blob_garbage_collection", on), ("blob_garbage_collection_age_cutoff", "1.0")];
            self.db.set_options_cf(family, &options).map_err(from_rocksdb)
        };
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(false);
        collect("true")?;
        self.db.compact_range_cf_opt(family, Some(from), Some(to), &options);
        collect("false")
    }
}

/// Rows in key order.
pub(crate) struct Rows<'db> {
    iter: DBRawIteratorWithThreadMode<'db, DBWithThreadMode<SingleThreaded>>,
    fresh: bool,
}

impl Rows<'_> {
    /// The next row. (No `Iterator`: the row is lent.)
    pub(crate) fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if !self.fresh && self.iter.valid() {
            self.iter.next();
        }
        self.fresh = false;
        if !self.iter.valid() {
            self.iter.status().map_err(from_rocksdb)?;
        }
        Ok(self.iter.item())
    }

    /// Skips to the first row that is not below `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.iter.seek(key);
        self.fresh = true;
    }
}

/// Changes that are written together or not at all.
pub(crate) struct Batch<'db> {
    database: &'db Database,
    batch: WriteBatch,
}

impl Batch<'_> {
    pub(crate) fn put(&mut self, family: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.batch.put_cf(self.database.family(family), key, value);
    }

    pub(crate) fn delete(&mut self, family: &str, key: impl AsRef<[u8]>) {
        self.batch.delete_cf(self.database.family(family), key);
    }

    pub(crate) fn delete_range(&mut self, family: &str, from: &[u8], to: &[u8]) {
        self.batch.delete_range_cf(self.database.family(family), from, to);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

/// How [`StoreSettings::memory_bytes`] is divided.
struct Memory {
    payload_memtable_bytes: usize,
    index_memtable_bytes: usize,
    cache_bytes: usize,
}

impl Memory {
    fn of(settings: &StoreSettings) -> Self {
        let bytes = settings.memory_bytes;
        Self {
            payload_memtable_bytes: (bytes / 6).clamp(4 << 20, 64 << 20),
            index_memtable_bytes: (bytes / 24).clamp(1 << 20, 16 << 20),
            cache_bytes: bytes / 4,
        }
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_max_background_jobs(2);
    // Otherwise each column family starts sixteen threads to open its few tables: most of what opening a small store costs.
    options.set_max_file_opening_threads(1);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_wal_bytes_per_sync(BYTES_PER_SYNC);
    options.set_max_manifest_file_size(MAX_MANIFEST_BYTES);
    options.set_keep_log_file_num(LOG_FILES);
    options.set_max_log_file_size(MAX_LOG_FILE_BYTES);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Start does not read every table's statistics.
    options.set_skip_stats_update_on_db_open(true);
    options
}

fn family_options(name: &str, memory: &Memory, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(SMALL_MEMTABLE_BYTES);
    options.set_arena_block_size(SMALL_ARENA_BYTES);
    match name {
        cf::PAYLOAD => {
            options.set_write_buffer_size(memory.payload_memtable_bytes);
            options.set_max_write_buffer_number(PAYLOAD_MEMTABLES);
            options.set_enable_blob_files(true);
            options.set_min_blob_size(MIN_BLOB_BYTES);
            options.set_blob_file_size(BLOB_FILE_BYTES);
            options.set_blob_compression_type(DBCompressionType::None);
            // Ours compacts the ranges that are mostly garbage, see `gc`.
            options.set_enable_blob_gc(false);
        }
        cf::INDEX => {
            options.set_write_buffer_size(memory.index_memtable_bytes);
            table.set_bloom_filter(10.0, false);
            table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        }
        cf::IDS | cf::EDGES => options.set_write_buffer_size(memory.index_memtable_bytes),
        _ => {}
    }
    options.set_block_based_table_factory(&table);
    options
}

/// A layout with column families that we do not know is newer than ours; we open nothing of it for writing.
fn refuse_unknown_families(dir: &Path) -> Result<()> {
    type ReadOnly = DBWithThreadMode<SingleThreaded>;
    let names = ReadOnly::list_cf(&Options::default(), dir).map_err(|error| open_error(dir, error))?;
    if names
        .iter()
        .all(|name| name == rocksdb::DEFAULT_COLUMN_FAMILY_NAME || cf::ALL.contains(&name.as_str()))
    {
        return Ok(());
    }
    let families = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, cf::META];
    let db = ReadOnly::open_cf_for_read_only(&Options::default(), dir, families, false)
        .map_err(|error| open_error(dir, error))?;
    let family = db.cf_handle(cf::META).expect("it was just opened");
    let stamp = db.get_cf(family, meta::FORMAT).map_err(from_rocksdb)?.unwrap_or_default();
    refuse_newer(dir, decode_format(&stamp)?)?;
    Err(Error::corrupt(format!("store has column families that its format lacks, store={}", dir.display())))
}

fn decode_format(stamp: &[u8]) -> Result<u32> {
    let stamp = stamp.try_into().map_err(|_| Error::corrupt("format stamp of the store is unreadable"))?;
    Ok(u32::from_be_bytes(stamp))
}

fn refuse_newer(dir: &Path, format: u32) -> Result<()> {
    if format <= FORMAT {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "store has a newer format than this cairn reads: use a newer cairn, store={} format={format} known={FORMAT}",
        dir.display()
    )))
}

fn open_error(dir: &Path, error: rocksdb::Error) -> Error {
    let message = error.as_ref();
    // RocksDB names the file that it could not lock, for another process and for this one.
    if message.contains("lock file") || message.contains("lock hold by current process") {
        let words = "repo is in use by another cairn process: stop it, or use its API";
        return Error::new(Kind::Unavailable, format!("{words}, store={}", dir.display()));
    }
    // A file that another one names is not there.
    let is_missing = dir.join("CURRENT").exists() && message.contains("No such file");
    match from_rocksdb(error) {
        error if is_missing || error.kind() == Kind::Corrupt => {
            let advice =
                "a file of the store is damaged; `cairn repo salvage` rebuilds the store from what is whole";
            Error::corrupt(format!("{advice}, store={}", dir.display())).with_cause(error)
        }
        error if error.kind() == Kind::Internal => cannot_open(dir, &error.to_string()),
        error => error,
    }
}

fn cannot_open(dir: &Path, reason: &str) -> Error {
    Error::invalid(format!("store cannot be opened: {reason}, store={}", dir.display()))
}

/// Kind of a failure of RocksDB, which tells it in words.
pub(crate) fn from_rocksdb(error: rocksdb::Error) -> Error {
    use rocksdb::ErrorKind;
    let full = error.as_ref().contains("No space left") || error.as_ref().contains("Disk quota exceeded");
    let (kind, message) = match error.kind() {
        _ if full => (Kind::Full, "disk of the store is full"),
        ErrorKind::Corruption => (Kind::Corrupt, "store is damaged"),
        ErrorKind::ShutdownInProgress => (Kind::Closed, "store has stopped"),
        _ => (Kind::Internal, "store failed"),
    };
    Error::new(kind, message).with_cause(error)
}
