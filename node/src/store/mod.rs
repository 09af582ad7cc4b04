//! Blocks on disk: RocksDB under one committer.
//!
//! Invariant: what was acknowledged as durable is there after a crash, and what is read has been hashed again. Knows
//! nothing of peers, paths or files. The layout and the commit protocol are in `docs/design/0002-store-layout.md`;
//! read [`layout`], then [`committer`].

mod audit;
mod commits;
mod committer;
mod database;
mod graph;
mod health;
mod kept;
mod layout;
mod lease;
mod links;
mod manifest;
mod pending;
mod quarantine;
mod room;
mod rows;
mod scrub;
mod shared;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;
mod wreck;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use cairn_proto::block::{Block, BlockError};
use cairn_proto::cid::{Cid, HASHED_TOGETHER, Multihash};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::error::{Error, Kind, Result};
use crate::settings::StoreSettings;

pub use audit::AuditReport;
pub use layout::{PinKind, StoreStat};
pub use lease::Lease;
pub use rows::{RowBatch, Rows, Table};

use committer::{Committer, Reply};
use database::Database;
use layout::{Entry, cf};

pub(crate) use committer::Request;
pub(crate) use graph::{Attached, Chunk, GraphRequest, NewPin, ReleaseStep, Work};
pub(crate) use kept::StoredPin;
pub(crate) use layout::{DagNode, Edge, NO_BLOCK, has_links};
pub(crate) use links::links_of;
pub(crate) use scrub::Checked;
pub(crate) use shared::{Shared, WorkGuard};
pub(crate) use wreck::Wreck;

/// Blocks that wait for the committer, in bytes: puts above it wait.
const QUEUE_BYTES: usize = 16 << 20;

/// When a put answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the blocks are durable.
    Now,
    /// As soon as readers see the blocks. They become durable with the next group.
    Later,
}

/// The store. Clones share it; the last one to go closes it.
///
/// Reads block their thread. Changes go through the one committer and are asynchronous.
#[derive(Debug, Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    // Both are taken by the end of the store.
    queue: Option<mpsc::Sender<Request>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A block that was asked for, and what the index has of it.
struct Asked<'a> {
    cid: &'a Cid,
    key: &'a [u8],
    entry: Option<Entry>,
}

impl Store {
    /// Opens the store in `dir`, or makes one.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when another process has it open, [`Kind::Invalid`] for a newer format or a folder that
    /// cannot be used, [`Kind::Full`], [`Kind::Corrupt`].
    pub fn open(dir: &Path, settings: &StoreSettings) -> Result<Self> {
        let db = Database::open(dir, settings)?;
        let shared = Arc::new(Shared::recover(db, dir, settings)?);
        let (queue, requests) = mpsc::channel(committer::QUEUE);
        let committer = Committer::new(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("cairn-store".into())
            .spawn(move || committer.run(requests))
            .map_err(|error| Error::internal("store's thread could not be started").with_cause(error))?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        let handle = Handle { shared, room, queue: Some(queue), thread: Mutex::new(Some(thread)) };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Whether a block is here. Identity CIDs are no blocks.
    ///
    /// # Errors
    /// What the database says.
    pub fn has(&self, multihash: &Multihash) -> Result<bool> {
        Ok(self.size(multihash)?.is_some())
    }

    /// Length of a block in bytes, without reading it.
    ///
    /// # Errors
    /// What the database says.
    pub fn size(&self, multihash: &Multihash) -> Result<Option<u64>> {
        Ok(self.shared().entry(&multihash.to_bytes())?.map(|entry| u64::from(entry.len_bytes)))
    }

    /// A block, hashed again. One whose bytes are damaged is set aside, and is not here.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a CID that cannot be checked; what the database says.
    pub fn get(&self, cid: &Cid) -> Result<Option<Block>> {
        if let Some(block) = Block::from_identity(*cid) {
            return Ok(Some(block));
        }
        let key = cid.hash().to_bytes();
        if let Some(row) = self.shared().pending.get(&key) {
            if let Some(block) = row.block {
                return Ok(block.with_cid(*cid));
            }
            return self.read(cid, &row.entry(), &key);
        }
        match self.shared().entries(&[&key])?.pop().flatten() {
            Some(entry) if !entry.damaged => self.read(cid, &entry, &key),
            _ => Ok(None),
        }
    }

    /// Several blocks, as [`Self::get`] gives each.
    pub fn get_many(&self, cids: &[Cid]) -> Vec<Result<Option<Block>>> {
        let keys: Vec<_> = cids.iter().map(|cid| cid.hash().to_bytes()).collect();
        match self.shared().entries(&keys) {
            Ok(entries) => {
                let asked = cids.iter().zip(&keys).zip(entries);
                let asked: Vec<_> = asked.map(|((cid, key), entry)| Asked { cid, key, entry }).collect();
                asked.chunks(HASHED_TOGETHER).flat_map(|together| self.read_together(together)).collect()
            }
            Err(error) => cids.iter().map(|_| Err(committer::repeat(&error))).collect(),
        }
    }

    /// Reads blocks that are hashed together.
    fn read_together(&self, asked: &[Asked<'_>]) -> Vec<Result<Option<Block>>> {
        let mut payloads = Vec::with_capacity(asked.len());
        let mut read = |cid: &Cid, entry: &Entry, key| match self.payload(cid, entry, key) {
            Ok(Some(bytes)) => {
                payloads.push((*cid, bytes));
                None
            }
            other => Some(other.map(|_| None)),
        };
        let answers: Vec<_> = asked
            .iter()
            .map(|Asked { cid, key, entry }| match entry {
                Some(entry) if !entry.damaged => read(cid, entry, key),
                // What the index does not have may be pending.
                _ => Some(self.get(cid)),
            })
            .collect();
        let mut verified = Block::verify_all(payloads).into_iter();
        let mut verified =
            |asked: &Asked<'_>| self.verified(asked.cid, verified.next().expect("one for each payload"));
        let answer = |(asked, answer): (_, Option<_>)| answer.unwrap_or_else(|| verified(asked));
        asked.iter().zip(answers).map(answer).collect()
    }

    /// Holds everything that arrives from now on until it is dropped; puts and walks add to it what they meet.
    pub fn lease(&self) -> Lease {
        self.shared().lease()
    }

    /// Lengths in bytes of the blocks that are here, put under the lease, without reading them. Blocks its thread.
    ///
    /// # Errors
    /// What the database says.
    pub fn hold(&self, multihashes: &[Multihash], lease: &Lease) -> Result<Vec<Option<u64>>> {
        let claimed = self.shared().claim(multihashes, lease.number())?;
        Ok(claimed.into_iter().map(|claim| claim.map(|(_, len_bytes)| u64::from(len_bytes))).collect())
    }

    /// Stores blocks. Those that are here already cost a look-up, and are put under the lease too. Waits for a collection
    /// when there is no room.
    ///
    /// # Errors
    /// [`Kind::Full`] when the disk or the limit is reached, [`Kind::Closed`]; what the database says.
    ///
    /// # Cancellation
    /// Dropped before it waited for its turn, nothing is stored; later, the blocks may be.
    pub fn put(
        &self,
        blocks: Vec<Block>,
        durability: Durability,
        lease: &Lease,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let (handle, lease) = (Arc::clone(&self.handle), lease.number());
        async move {
            let bytes: usize = blocks.iter().map(|block| block.data().len()).sum();
            let shared = &handle.shared;
            let mut blocks = blocks;
            if shared.room.may_be_short(shared.stat().block_bytes, bytes as u64) {
                // What is here already must not push anything out.
                let (asked, looked_up) = (Arc::clone(shared), blocks);
                let look_up = move || (asked.absent_bytes(&looked_up), looked_up);
                let (absent_bytes, looked_up) = tokio::task::spawn_blocking(look_up)
                    .await
                    .map_err(|error| Error::internal("a look-up in the store panicked").with_cause(error))?;
                blocks = looked_up;
                shared.room.make(|| shared.stat().block_bytes, absent_bytes?).await;
            }
            let permits = u32::try_from(bytes.clamp(1, QUEUE_BYTES)).expect("the queue's bytes fit");
            let room = Arc::clone(&handle.room).acquire_many_owned(permits).await.map_err(|_| closed())?;
            handle.ask(|reply| Request::Put { blocks, durability, lease, room, reply }).await
        }
    }

    /// Waits until everything that was stored before is durable.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn sync(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let handle = Arc::clone(&self.handle);
        async move { handle.ask(|reply| Request::Sync { reply }).await }
    }

    /// Removes blocks, each with its own answer, in the order given; durable on return.
    ///
    /// # Errors
    /// For a block: [`Kind::Invalid`] when a pin or a kept DAG needs it, [`Kind::Unavailable`] when work in progress
    /// does, [`Kind::NotFound`]. For all: as [`Self::put`].
    pub fn remove(
        &self,
        cids: &[Cid],
    ) -> impl Future<Output = Result<Vec<(Cid, Result<()>)>>> + Send + use<> {
        let (handle, cids) = (Arc::clone(&self.handle), cids.to_vec());
        async move {
            let multihashes = cids.iter().map(|cid| *cid.hash()).collect();
            let answers = handle.ask(|reply| Request::Remove { multihashes, reply }).await?;
            let named = |cid: Cid, answer: Result<()>| {
                let answer = answer.map_err(|error| Error::new(error.kind(), format!("{error}, cid={cid}")));
                (cid, answer)
            };
            Ok(cids.into_iter().zip(answers).map(|(cid, answer)| named(cid, answer)).collect())
        }
    }

    /// Every durable block and its length in bytes, in the order of arrival.
    ///
    /// It holds no snapshot: blocks that come or go meanwhile may be in it or not. Memory is one page.
    pub fn blocks(&self) -> impl Iterator<Item = Result<(Multihash, u64)>> + Send + use<> {
        rows::paged(Arc::clone(self.shared()), cf::IDS, Vec::new()).filter_map(|row| {
            let row = row.and_then(|(key, value)| {
                let (entry, multihash) = Entry::decode_with(&key, &value).ok_or_else(bad_row)?;
                let multihash = layout::multihash(multihash).ok_or_else(bad_row)?;
                Ok((!entry.damaged).then_some((multihash, u64::from(entry.len_bytes))))
            });
            row.transpose()
        })
    }

    /// Totals. Costs nothing.
    pub fn stat(&self) -> StoreStat {
        self.shared().stat()
    }

    /// Damaged blocks that were set aside since the store was opened.
    pub fn damaged_count(&self) -> u64 {
        self.shared().damaged_count.load(Ordering::Relaxed)
    }

    /// Whether damaged blocks were ever set aside, and nobody has cleared away what was left of them. Blocks its thread.
    pub(crate) fn has_damage(&self) -> bool {
        let folder = self.shared().dir.join(quarantine::FOLDER);
        self.damaged_count() > 0
            || std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Why the store only reads since it was opened or since a write failed; `None` while it writes.
    pub fn read_only_because(&self) -> Option<String> {
        self.shared().health.cause()
    }

    /// Folder of the store.
    pub fn dir(&self) -> &Path {
        &self.shared().dir
    }

    /// Rows of one of the tables that belong to other parts of the node.
    pub fn rows(&self, table: Table) -> Rows {
        Rows::new(Arc::clone(self.shared()), table)
    }

    /// Recounts the truth and holds the store against it; see [`AuditReport`]. Slow: reads every block.
    ///
    /// # Errors
    /// What the database says.
    ///
    /// # Cancellation
    /// Dropped, it goes on in the background and changes nothing.
    pub async fn audit(&self) -> Result<AuditReport> {
        self.sync().await?;
        let store = self.clone();
        let audit = tokio::task::spawn_blocking(move || audit::audit(&store));
        audit.await.map_err(|error| Error::internal("audit stopped").with_cause(error))?
    }

    /// Makes a copy of the store, as it is now, in a folder that does not exist yet, and returns what is in it.
    pub(crate) async fn checkpoint(&self, target: PathBuf) -> Result<StoreStat> {
        self.handle.ask(|reply| Request::Checkpoint { target, reply }).await
    }

    /// Writes what is pending and stops. Later calls answer [`Kind::Closed`]; reads still work.
    ///
    /// # Errors
    /// What the database says of the last writes.
    pub fn close(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let handle = Arc::clone(&self.handle);
        async move {
            match handle.ask(|reply| Request::Close { reply }).await {
                Err(error) if error.kind() == Kind::Closed => Ok(()),
                closed => closed,
            }
        }
    }

    pub(crate) fn room(&self) -> &room::Room {
        &self.shared().room
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Asks the committer from a thread that may block.
    pub(crate) fn ask_blocking<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let queue = self.handle.queue.as_ref().ok_or_else(closed)?;
        queue.blocking_send(request(reply)).map_err(|_| closed())?;
        answer.blocking_recv().map_err(|_| closed())?
    }

    fn read(&self, cid: &Cid, entry: &Entry, key: &[u8]) -> Result<Option<Block>> {
        match self.payload(cid, entry, key)? {
            Some(bytes) => self.verified(cid, Block::verify(*cid, bytes)),
            None => Ok(None),
        }
    }

    /// The bytes of a block before they are hashed. Bytes that cannot be read are set aside.
    fn payload(&self, cid: &Cid, entry: &Entry, key: &[u8]) -> Result<Option<Bytes>> {
        match self.shared().read_payload(entry, key) {
            // Removed since the index was read, or lost: the committer looks again.
            Ok(None) => self.set_aside(cid),
            Err(error) if error.kind() == Kind::Corrupt => self.set_aside(cid),
            read => return read,
        }
        Ok(None)
    }

    /// What hashing the bytes of a block led to. Those that are damaged are set aside.
    fn verified(&self, cid: &Cid, verified: Result<Block, BlockError>) -> Result<Option<Block>> {
        match verified {
            Ok(block) => Ok(Some(block)),
            Err(BlockError::Cid(error)) => Err(error.into()),
            Err(BlockError::Mismatch { .. } | BlockError::TooLarge { .. }) => {
                self.set_aside(cid);
                Ok(None)
            }
        }
    }

    fn set_aside(&self, cid: &Cid) {
        // When the queue is full the next read finds it again.
        if let Some(queue) = &self.handle.queue {
            let _ = queue.try_send(Request::SetAside { multihash: *cid.hash() });
        }
    }
}

impl Handle {
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(request(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The committer writes what is pending, at most one group, and lets go of the database.
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("store's committer panicked");
        }
    }
}

fn bad_row() -> Error {
    Error::corrupt("store has an unreadable row")
}

fn closed() -> Error {
    Error::closed("store")
}
