//! What readers and the committer share: the database, what is pending, leases, marks and counters.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::cid::Multihash;

use super::bad_row;
use super::commits::Commits;
use super::committer::repeat;
use super::database::{Batch, Database};
use super::graph::Work;
use super::health::Health;
use super::layout::{self, BlockId, DagNode, Entry, NO_BLOCK, StoreStat, cf, meta};
use super::lease::{Lease, LeaseNumber, LeaseTable};
use super::manifest::Manifest;
use super::pending::Pending;
use super::room::Room;
use crate::error::{Kind, Result};
use crate::settings::StoreSettings;

/// What readers and the committer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) db: Database,
    commits: Mutex<Commits>,
    manifest: Mutex<Manifest>,
    pub(super) dir: PathBuf,
    pub(super) room: Room,
    pub(super) pending: Pending,
    pub(super) leases: Arc<LeaseTable>,
    pub(super) next_id: AtomicU64,
    pub(super) next_work: AtomicU64,
    pub(super) stat: Mutex<StoreStat>,
    /// Nodes that live walks have opened, see `graph::Chunk::open`.
    pub(super) open: Mutex<HashMap<Work, HashSet<DagNode>>>,
    pub(super) health: Health,
    pub(super) damaged_count: AtomicU64,
    /// Pins taken away since the store was opened.
    pub(super) unpinned_count: AtomicU64,
}

/// A walk or a release that is under way.
#[derive(Debug)]
pub(crate) struct WorkGuard {
    shared: Arc<Shared>,
    work: Work,
}

impl WorkGuard {
    pub(crate) fn work(&self) -> Work {
        self.work
    }

    /// The walk has failed: it holds its nodes open no longer.
    pub(crate) fn close_nodes(&self) {
        self.shared.open_nodes(self.work, Vec::new());
    }
}

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.shared.end_work(self.work);
    }
}

impl Shared {
    /// Reads the marks, and drops payload that no index row came for.
    pub(super) fn recover(db: Database, dir: &Path, settings: &StoreSettings) -> Result<Self> {
        let marks = match db.damage() {
            None => Marks::recover(&db),
            Some(damage) => Err(repeat(damage)),
        };
        let health = Health::default();
        let marks = match marks {
            Ok(marks) => marks,
            // What can still be read is; nothing is written, since nobody knows what is gone.
            Err(damage) if damage.kind() == Kind::Corrupt => {
                tracing::error!(%damage, "store is damaged and read-only");
                health.close(Kind::Corrupt, damage.to_string());
                // The log is not held against a number that may be lost.
                Marks { commit: u64::MAX, ..Marks::read(&db).unwrap_or_default() }
            }
            Err(error) => return Err(error),
        };
        let commits = Commits::open(dir, marks.commit)?;
        let mut manifest = Manifest::open(dir)?;
        manifest.note();
        Ok(Self {
            db,
            commits: Mutex::new(commits),
            manifest: Mutex::new(manifest),
            dir: dir.to_path_buf(),
            room: Room::new(dir, settings.max_bytes),
            pending: Pending::default(),
            leases: Arc::default(),
            next_id: AtomicU64::new(marks.next_id),
            next_work: AtomicU64::new(marks.next_work),
            stat: Mutex::new(marks.stat),
            open: Mutex::default(),
            health,
            damaged_count: AtomicU64::new(0),
            unpinned_count: AtomicU64::new(0),
        })
    }

    /// Entry of a block that is here.
    pub(super) fn entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        if let Some(row) = self.pending.get(key) {
            return Ok(Some(row.entry()));
        }
        Ok(self.entries(&[key])?.pop().flatten().filter(|entry| !entry.damaged))
    }

    /// Rows of the index, those of damaged blocks included, pending ones not.
    pub(super) fn entries<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Entry>>> {
        let rows = self.db.get_many(cf::INDEX, keys)?;
        rows.into_iter()
            .map(|row| row.map(|row| Entry::decode(&row).ok_or_else(bad_row)).transpose())
            .collect()
    }

    /// Bytes of those blocks that are not here.
    pub(super) fn absent_bytes(&self, blocks: &[Block]) -> Result<u64> {
        let keys: Vec<_> = blocks.iter().map(|block| block.multihash().to_bytes()).collect();
        let mut bytes = 0;
        for ((block, key), entry) in blocks.iter().zip(&keys).zip(self.entries(&keys)?) {
            if entry.is_none_or(|entry| entry.damaged) && self.pending.get(key).is_none() {
                bytes += block.data().len() as u64;
            }
        }
        Ok(bytes)
    }

    pub(super) fn read_payload(&self, entry: &Entry, key: &[u8]) -> Result<Option<Bytes>> {
        let row = self.db.get(cf::PAYLOAD, &layout::payload_key(entry.id, key))?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
    }

    /// Ids and lengths of blocks, put under a lease; `None` for those that are not here, or damaged: they must come again.
    pub(crate) fn claim(
        &self,
        multihashes: &[Multihash],
        lease: LeaseNumber,
    ) -> Result<Vec<Option<(BlockId, u32)>>> {
        let keys: Vec<_> = multihashes.iter().map(Multihash::to_bytes).collect();
        let mut found = self.entries(&keys)?;
        for (entry, key) in found.iter_mut().zip(&keys) {
            if entry.is_none_or(|entry| entry.damaged) {
                // A group may have been written between the two look-ups.
                *entry = self.entry(key)?;
            }
        }
        let ids = found.iter().flatten().map(|entry| entry.id);
        let mut held = self.leases.touch(lease, ids).into_iter();
        let mut claim = |entry: Entry| held.next().unwrap_or(false).then_some((entry.id, entry.len_bytes));
        Ok(found.into_iter().map(|entry| entry.and_then(&mut claim)).collect())
    }

    /// Multihash of a stored block.
    pub(crate) fn multihash_of(&self, id: BlockId) -> Result<Option<Multihash>> {
        let Some(row) = self.db.get(cf::IDS, &id.to_be_bytes())? else { return Ok(None) };
        let (_, multihash) = Entry::decode_with(&id.to_be_bytes(), &row).ok_or_else(bad_row)?;
        layout::multihash(multihash).ok_or_else(bad_row).map(Some)
    }

    pub(crate) fn lease(&self) -> Lease {
        self.leases.lease(|| self.next_id())
    }

    pub(crate) fn stat(&self) -> StoreStat {
        *self.stat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut StoreStat)) {
        change(&mut self.stat.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Pins taken away since the store was opened.
    pub(crate) fn unpinned_count(&self) -> u64 {
        self.unpinned_count.load(Ordering::Relaxed)
    }

    pub(super) fn set_stat(&self, stat: StoreStat) {
        self.count(|now| *now = stat);
    }

    pub(crate) fn next_id(&self) -> BlockId {
        self.next_id.load(Ordering::SeqCst)
    }

    pub(super) fn take_id(&self) -> BlockId {
        self.next_id.fetch_add(1, Ordering::SeqCst)
    }

    /// A number for a walk or release that lives as long as what is returned.
    pub(crate) fn begin_work(self: &Arc<Self>) -> WorkGuard {
        let work = Work(self.next_work.fetch_add(1, Ordering::Relaxed));
        self.open_nodes(work, Vec::new());
        WorkGuard { shared: Arc::clone(self), work }
    }

    /// Takes over what [`Self::abandoned_work`] found, unless someone else did.
    pub(crate) fn resume_work(self: &Arc<Self>, work: Work) -> Option<WorkGuard> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.contains_key(&work) {
            return None;
        }
        open.insert(work, HashSet::new());
        drop(open);
        Some(WorkGuard { shared: Arc::clone(self), work })
    }

    /// Says which nodes a live walk has opened.
    pub(super) fn open_nodes(&self, work: Work, nodes: Vec<DagNode>) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(work, nodes.into_iter().collect());
    }

    /// Whether a live walk has opened a node: it will keep it or release it.
    pub(super) fn is_open(&self, node: DagNode) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().any(|nodes| nodes.contains(&node))
    }

    /// The walk or release is over, or was given up: its row in `meta`, if there is one, is anyone's to finish.
    pub(super) fn end_work(&self, work: Work) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&work);
    }

    #[cfg(test)]
    pub(crate) fn has_open_work(&self) -> bool {
        !self.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Rows of walks and releases that nobody is at: a crash or a dropped call left them.
    pub(crate) fn abandoned_work(&self) -> Result<Vec<(Work, Vec<DagNode>)>> {
        // Whoever begins meanwhile is not in the rows that were read before.
        let rows = self.db.page(cf::META, meta::RELEASE, None, usize::MAX)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut abandoned = Vec::new();
        for (key, row) in rows {
            let work = Work(layout::number_of(meta::RELEASE, &key).ok_or_else(bad_row)?);
            if !open.contains_key(&work) {
                abandoned.push((work, DagNode::decode_list(&row).ok_or_else(bad_row)?));
            }
        }
        Ok(abandoned)
    }

    /// A number in `meta`, 0 when there is no row.
    pub(crate) fn number(&self, key: &[u8]) -> Result<u64> {
        read_number(&self.db, key)
    }

    /// Writes a batch through the log.
    pub(super) fn write(&self, mut batch: Batch<'_>) -> Result<()> {
        self.check_writable()?;
        self.room.before_write(0);
        // Numbers stand in the log in their order.
        let mut commits = self.lock_commits();
        self.wait_out_stall()?;
        batch.put(cf::META, meta::COMMIT, commits.next().to_be_bytes());
        self.checked(self.db.write(batch))?;
        commits.advance();
        Ok(())
    }

    /// Makes everything written through the log durable; nothing to do when it is. A failed sync is never tried again.
    pub(super) fn sync(&self) -> Result<()> {
        self.check_writable()?;
        let Some(written) = self.lock_commits().not_durable() else { return Ok(()) };
        self.db.sync_log().inspect_err(|error| self.health.fail(error))?;
        self.lock_commits().note_durable(written);
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).note();
        Ok(())
    }

    /// Before a write: on a disk that may become full, RocksDB must not be left to wait for room.
    pub(super) fn wait_out_stall(&self) -> Result<()> {
        if !self.room.is_narrow() {
            return Ok(());
        }
        self.checked(self.db.wait_out_stall())
    }

    /// Notes how a write that is not a sync came out.
    pub(super) fn checked<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| self.health.refuse(error))
    }

    fn lock_commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        self.health.check(|| self.room.has_some() && self.db.check_writable().is_ok())
    }
}

/// What the store knows of itself when it is opened.
#[derive(Debug, Default)]
struct Marks {
    next_id: BlockId,
    next_work: u64,
    stat: StoreStat,
    commit: u64,
}

impl Marks {
    /// Reads them, and drops payload that no index row came for.
    fn recover(db: &Database) -> Result<Self> {
        let marks = Self::read(db)?;
        Ok(Self { next_id: drop_unindexed(db, marks.next_id)?, ..marks })
    }

    fn read(db: &Database) -> Result<Self> {
        let stat = match db.get(cf::META, meta::COUNTERS)? {
            Some(row) => StoreStat::decode(&row).ok_or_else(bad_row)?,
            None => StoreStat::default(),
        };
        let works = db.page(cf::META, meta::RELEASE, None, usize::MAX)?;
        let last_work = works.last().and_then(|(key, _)| layout::number_of(meta::RELEASE, key));
        Ok(Self {
            next_id: read_number(db, meta::MARK)?.max(NO_BLOCK + 1),
            next_work: last_work.map_or(1, |work| work + 1),
            stat,
            commit: read_number(db, meta::COMMIT)?,
        })
    }
}

/// Payload from the mark on was written by a group that did not finish. Returns the next id: none is given twice.
fn drop_unindexed(db: &Database, mark: BlockId) -> Result<BlockId> {
    let last = db.last_key(cf::PAYLOAD)?;
    let Some((last, _)) = last.as_deref().and_then(layout::split_u64).filter(|(last, _)| *last >= mark)
    else {
        return Ok(mark);
    };
    let next_id = last + 1;
    let mut batch = db.batch();
    batch.delete_range(cf::PAYLOAD, &mark.to_be_bytes(), &next_id.to_be_bytes());
    batch.put(cf::META, meta::MARK, next_id.to_be_bytes());
    db.write(batch)?;
    db.sync_log()?;
    Ok(next_id)
}

fn read_number(db: &Database, key: &[u8]) -> Result<u64> {
    match db.get(cf::META, key)? {
        Some(row) => layout::split_u64(&row).map(|(number, _)| number).ok_or_else(bad_row),
        None => Ok(0),
    }
}
