//! The committer: one thread that owns every change to blocks, edges, pins and counters, and groups them.
//!
//! Invariant: the log never carries an index row whose payload is neither durable in a file nor earlier in the log.
//! `docs/design/0002-store-layout.md` has the protocol and what a crash can leave.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_proto::block::Block;
use cairn_proto::cid::{IDENTITY, Multihash};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::database::Batch;
use super::graph::GraphRequest;
use super::layout::{BUCKET_IDS, BlockId, Entry, StoreStat, cf, meta, numbered, payload_key};
use super::lease::LeaseNumber;
use super::pending::PendingRow;
use super::sweep::{Garbage, Holders};
use super::{Durability, Shared, quarantine};
use crate::error::{Error, Kind, Result};

/// Requests waiting for the committer; puts are also bounded in bytes, see [`super::QUEUE_BYTES`].
pub(crate) const QUEUE: usize = 256;

/// A group with less payload than this goes wholly through the log, in one sync; a larger one is flushed first.
const MAX_LOGGED_BYTES: usize = 4 << 20;
/// Payload accepted since the last commit that forces one.
const MAX_GROUP_BYTES: u64 = 64 << 20;
/// Blocks accepted since the last commit that force one.
const MAX_GROUP_BLOCKS: usize = 16_384;
/// Payload written at a time when the log is off, in bytes, unless a single block has more.
const UNLOGGED_BATCH_BYTES: usize = 1 << 20;
/// What a row takes in a batch beside its value, in bytes: its key and three lengths, rounded up.
const ROW_BYTES: usize = 128;

/// Answer to a request.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// What the committer is asked to do.
pub(crate) enum Request {
    Put {
        blocks: Vec<Block>,
        durability: Durability,
        lease: LeaseNumber,
        room: OwnedSemaphorePermit,
        reply: Reply<()>,
    },
    Sync {
        reply: Reply<()>,
    },
    Remove {
        multihashes: Vec<Multihash>,
        reply: Reply<Vec<Result<()>>>,
    },
    Collect {
        blocks: Vec<Garbage>,
        reply: Reply<Vec<bool>>,
    },
    ClearGarbage {
        buckets: Vec<(u64, u64)>,
        reply: Reply<()>,
    },
    SetAside {
        multihash: Multihash,
    },
    Graph(GraphRequest),
    Checkpoint {
        target: PathBuf,
        reply: Reply<StoreStat>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// The committer's state.
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    group: Group,
    /// Answered when everything written so far is durable.
    waiting: Vec<Box<dyn FnOnce(Result<()>) + Send>>,
}

/// A block that is not stored.
struct NewBlock {
    multihash: Box<[u8]>,
    block: Block,
    /// The entry that it had before its payload was damaged.
    damaged: Option<Entry>,
}

/// Blocks accepted since the last commit.
#[derive(Default)]
struct Group {
    /// In order of their ids.
    rows: Vec<(Box<[u8]>, Entry)>,
    /// The last ones of them, whose payload is not in the database yet.
    unwritten: Vec<(BlockId, Block)>,
    unwritten_bytes: usize,
    bytes: u64,
    /// Some payload was written with the log off.
    unlogged: bool,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, group: Group::default(), waiting: Vec::new() }
    }

    /// Serves requests until the queue or the store is closed, then commits what is left.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut closed: Option<Reply<()>> = None;
        while let Some(request) = queue.blocking_recv() {
            closed = self.apply(request);
            // Whoever waits is answered after one queue's worth of requests at the latest.
            for _ in 0..QUEUE {
                if closed.is_some() || self.group_is_full() {
                    break;
                }
                let Ok(request) = queue.try_recv() else { break };
                closed = self.apply(request);
            }
            self.finish_group();
            if closed.is_some() {
                break;
            }
        }
        queue.close();
        let last = self.write_group().and_then(|()| self.shared.sync());
        if let Some(reply) = closed {
            let _ = reply.send(last);
        } else if let Err(error) = last {
            tracing::warn!(%error, "store closed without its last writes");
        }
    }

    fn apply(&mut self, request: Request) -> Option<Reply<()>> {
        match request {
            Request::Put { blocks, durability, lease, room, reply } => {
                let put = self.put(blocks, lease);
                drop(room);
                match durability {
                    Durability::Now if put.is_ok() => self.answer_when_durable(reply, ()),
                    _ => drop(reply.send(put)),
                }
            }
            Request::Sync { reply } => self.answer_when_durable(reply, ()),
            Request::Remove { multihashes, reply } => match self.remove(&multihashes) {
                Ok(removed) => self.answer_when_durable(reply, removed),
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::Collect { blocks, reply } => drop(reply.send(self.collect(&blocks))),
            Request::ClearGarbage { buckets, reply } => drop(reply.send(self.clear_garbage(&buckets))),
            Request::SetAside { multihash } => quarantine::set_aside(self, &multihash),
            Request::Graph(request) => self.graph(request),
            Request::Checkpoint { target, reply } => drop(reply.send(self.checkpoint(&target))),
            Request::Close { reply } => return Some(reply),
        }
        None
    }

    pub(crate) fn answer_when_durable<T: Send + 'static>(&mut self, reply: Reply<T>, value: T) {
        self.waiting.push(Box::new(move |synced| drop(reply.send(synced.map(|()| value)))));
    }

    fn group_is_full(&self) -> bool {
        self.group.bytes >= MAX_GROUP_BYTES || self.group.rows.len() >= MAX_GROUP_BLOCKS
    }

    fn finish_group(&mut self) {
        if self.waiting.is_empty() && !self.group_is_full() {
            return;
        }
        let synced = self.write_group().and_then(|()| self.shared.sync());
        for answer in self.waiting.drain(..) {
            answer(synced.as_ref().copied().map_err(repeat));
        }
    }

    // --- blocks

    fn put(&mut self, blocks: Vec<Block>, lease: LeaseNumber) -> Result<()> {
        self.shared.check_writable()?;
        // The disk was full when it should have been written.
        if self.group_is_full() {
            self.write_group()?;
        }
        let new = self.absent(blocks, lease)?;
        let new_bytes = new.iter().map(|new| new.block.data().len() as u64).sum();
        self.check_room(new_bytes)?;
        for block in new {
            self.accept(block);
        }
        if self.group.unlogged || self.group.unwritten_bytes > MAX_LOGGED_BYTES {
            self.write_payload_unlogged()?;
        }
        Ok(())
    }

    /// The blocks that are not stored. The others are put under the lease.
    fn absent(&self, blocks: Vec<Block>, lease: LeaseNumber) -> Result<Vec<NewBlock>> {
        let mut seen = HashSet::new();
        let mut asked = Vec::with_capacity(blocks.len());
        let mut present = Vec::new();
        for block in blocks.into_iter().filter(|block| block.multihash().code() != IDENTITY) {
            let multihash = block.multihash().to_bytes().into_boxed_slice();
            match self.shared.pending.get(&multihash) {
                Some(row) => present.push(row.id),
                None if seen.insert(multihash.clone()) => asked.push((multihash, block)),
                None => {}
            }
        }
        let keys: Vec<_> = asked.iter().map(|(multihash, _)| multihash).collect();
        let entries = self.shared.entries(&keys)?;
        let mut absent = Vec::with_capacity(asked.len());
        for ((multihash, block), entry) in asked.into_iter().zip(entries) {
            match entry {
                Some(entry) if !entry.damaged => present.push(entry.id),
                damaged => absent.push(NewBlock { multihash, block, damaged }),
            }
        }
        self.shared.leases.touch(lease, present);
        Ok(absent)
    }

    fn check_room(&self, new_bytes: u64) -> Result<()> {
        if new_bytes == 0 {
            return Ok(());
        }
        self.shared.room.check(self.shared.stat().block_bytes, new_bytes, self.group.bytes)
    }

    fn accept(&mut self, new: NewBlock) {
        let NewBlock { multihash, block, damaged } = new;
        let len_bytes = u32::try_from(block.data().len()).expect("a block is at most 2 MiB");
        let id = damaged.map_or_else(|| self.shared.take_id(), |entry| entry.id);
        let entry = Entry::new(id, len_bytes);
        let row = PendingRow { id, len_bytes, block: Some(block.clone()) };
        self.shared.pending.insert(multihash.clone(), row);
        self.shared.count(|stat| {
            stat.block_count += 1;
            stat.block_bytes += u64::from(len_bytes);
        });
        self.group.bytes += u64::from(len_bytes);
        self.group.unwritten_bytes += block.data().len();
        self.group.unwritten.push((id, block));
        self.group.rows.push((multihash, entry));
    }

    /// Writes the payload of the group's newest blocks into memory. RocksDB moves it to files beside us.
    fn write_payload_unlogged(&mut self) -> Result<()> {
        self.group.unlogged = true;
        let shared = Arc::clone(&self.shared);
        // Blocks of the whole group may still be on their way from memory to files.
        shared.room.before_write(self.group.bytes);
        let mut rest = self.group.unwritten.as_slice();
        while !rest.is_empty() {
            let (count, len_bytes) = next_batch(rest);
            let mut batch = shared.db.batch_of_bytes(len_bytes);
            for (id, block) in &rest[..count] {
                batch.put(cf::PAYLOAD, payload_key(*id, &block.multihash().to_bytes()), block.data());
            }
            shared.wait_out_stall()?;
            shared.checked(shared.db.write_unlogged(batch))?;
            rest = &rest[count..];
        }
        // What fails stays in the group: a disk that was full may have room again.
        let unwritten = std::mem::take(&mut self.group.unwritten);
        self.group.unwritten_bytes = 0;
        let written = self.group.rows.iter().rev().take(unwritten.len());
        self.shared.pending.forget_blocks(written.map(|(multihash, _)| &**multihash));
        Ok(())
    }

    /// Writes the index rows of the group, behind its payload. Durable after the next [`Shared::sync`].
    pub(crate) fn write_group(&mut self) -> Result<()> {
        if self.group.rows.is_empty() {
            return Ok(());
        }
        self.shared.check_writable()?;
        if self.group.unlogged {
            self.write_payload_unlogged()?;
            self.shared.checked(self.shared.db.flush(cf::PAYLOAD))?;
        }
        let group = std::mem::take(&mut self.group);
        let shared = Arc::clone(&self.shared);
        let mut batch = shared.db.batch();
        for (id, block) in &group.unwritten {
            batch.put(cf::PAYLOAD, payload_key(*id, &block.multihash().to_bytes()), block.data());
        }
        for (multihash, entry) in &group.rows {
            batch.put(cf::INDEX, multihash, entry.encode());
            batch.put(cf::IDS, entry.id.to_be_bytes(), entry.encode_with(multihash));
        }
        batch.put(cf::META, meta::MARK, shared.next_id().to_be_bytes());
        if let Err(error) = self.write(batch, |_| ()) {
            // As above.
            self.group = group;
            return Err(error);
        }
        shared.pending.clear();
        Ok(())
    }

    /// Writes a batch that changes the counters so, and with it the counters without the blocks that are not written
    /// yet. When it fails they stay as they were.
    pub(crate) fn write(&self, mut batch: Batch<'_>, change: impl FnOnce(&mut StoreStat)) -> Result<()> {
        let mut stat = self.shared.stat();
        change(&mut stat);
        let written = StoreStat {
            block_count: stat.block_count - self.group.rows.len() as u64,
            block_bytes: stat.block_bytes - self.group.bytes,
            ..stat
        };
        batch.put(cf::META, meta::COUNTERS, written.encode());
        self.shared.write(batch)?;
        self.shared.set_stat(stat);
        Ok(())
    }

    /// Copies the database between two groups, so that none is in it by halves.
    fn checkpoint(&mut self, target: &Path) -> Result<StoreStat> {
        self.write_group()?;
        self.shared.sync()?;
        self.shared.db.checkpoint(target)?;
        Ok(self.shared.stat())
    }

    // --- removal

    fn remove(&mut self, multihashes: &[Multihash]) -> Result<Vec<Result<()>>> {
        self.write_group()?;
        let keys: Vec<_> = multihashes.iter().map(Multihash::to_bytes).collect();
        let entries = self.shared.entries(&keys)?;
        let mut answers = Vec::with_capacity(keys.len());
        let (mut chosen, mut places, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for (entry, key) in entries.into_iter().zip(&keys) {
            answers.push(match entry {
                Some(entry) if !seen.insert(entry.id) => Ok(()),
                Some(entry) if self.shared.is_kept(entry.id)? => Err(Error::invalid("block is pinned")),
                Some(entry) => {
                    chosen.push(Garbage { entry, multihash: key.clone().into_boxed_slice() });
                    places.push(answers.len());
                    Ok(())
                }
                None => Err(Error::not_found("block is not in the local store")),
            });
        }
        for (removed, index) in self.remove_free(&chosen)?.into_iter().zip(places) {
            if !removed {
                let message = "block is in use by work in progress";
                answers[index] = Err(Error::new(Kind::Unavailable, message));
            }
        }
        Ok(answers)
    }

    /// Removes those of the blocks, which come in the order of their ids, that nothing keeps at this moment.
    fn collect(&mut self, blocks: &[Garbage]) -> Result<Vec<bool>> {
        let keys: Vec<_> = blocks.iter().map(|block| &block.multihash).collect();
        let entries = self.shared.entries(&keys)?;
        let shared = Arc::clone(&self.shared);
        let (mut edges, mut pins) = (Holders::new(&shared.db, cf::EDGES), Holders::new(&shared.db, cf::PINS));
        let mut free = Vec::with_capacity(blocks.len());
        for (Garbage { entry, .. }, found) in blocks.iter().zip(entries) {
            // Neither removed, nor damaged, nor restored since.
            let same = found == Some(*entry) && !self.is_restored(entry);
            free.push(same && !edges.hold(entry.id)? && !pins.hold(entry.id)?);
        }
        let chosen: Vec<_> =
            blocks.iter().zip(&free).filter(|(_, free)| **free).map(|(b, _)| b.clone()).collect();
        let mut removed = self.remove_free(&chosen)?.into_iter();
        Ok(free.into_iter().map(|free| free && removed.next().unwrap_or(false)).collect())
    }

    /// A damaged block whose bytes came back in the group that is not written yet.
    fn is_restored(&self, entry: &Entry) -> bool {
        entry.damaged && self.group.rows.iter().any(|(_, row)| row.id == entry.id)
    }

    /// Removes blocks unless a lease holds them.
    fn remove_free(&mut self, blocks: &[Garbage]) -> Result<Vec<bool>> {
        let free = self.shared.leases.doom(blocks.iter().map(|block| block.entry.id));
        let removed =
            self.remove_doomed(blocks.iter().zip(&free).filter(|(_, free)| **free).map(|(block, _)| block));
        self.shared.leases.removed();
        removed.map(|()| free)
    }

    fn remove_doomed<'b>(&self, blocks: impl Iterator<Item = &'b Garbage>) -> Result<()> {
        let mut batch = self.shared.db.batch();
        let mut gone = StoreStat::default();
        let mut garbage = std::collections::BTreeMap::<u64, u64>::new();
        for Garbage { entry, multihash } in blocks {
            batch.delete(cf::PAYLOAD, payload_key(entry.id, multihash));
            batch.delete(cf::INDEX, multihash);
            batch.delete(cf::IDS, entry.id.to_be_bytes());
            *garbage.entry(entry.id / BUCKET_IDS).or_default() += u64::from(entry.len_bytes);
            if !entry.damaged {
                gone.block_count += 1;
                gone.block_bytes += u64::from(entry.len_bytes);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        for (bucket, bytes) in garbage {
            let key = numbered(meta::GARBAGE, bucket);
            let before = self.shared.number(&key)?;
            batch.put(cf::META, key, (before + bytes).to_be_bytes());
        }
        self.write(batch, |stat| {
            stat.block_count -= gone.block_count;
            stat.block_bytes -= gone.block_bytes;
        })
    }

    /// Forgets the garbage of buckets that were compacted, but for what came since.
    fn clear_garbage(&mut self, buckets: &[(u64, u64)]) -> Result<()> {
        let mut batch = self.shared.db.batch();
        for (bucket, bytes) in buckets {
            let key = numbered(meta::GARBAGE, *bucket);
            match self.shared.number(&key)?.saturating_sub(*bytes) {
                0 => batch.delete(cf::META, key),
                left => batch.put(cf::META, key, left.to_be_bytes()),
            }
        }
        self.write(batch, |_| ())
    }
}

/// How many blocks the next batch takes, at least one, and how many bytes it then has.
fn next_batch(blocks: &[(BlockId, Block)]) -> (usize, usize) {
    let (mut count, mut len_bytes) = (0, 0);
    for (_, block) in blocks {
        len_bytes += block.data().len() + ROW_BYTES;
        count += 1;
        if len_bytes >= UNLOGGED_BATCH_BYTES {
            break;
        }
    }
    (count, len_bytes)
}

/// The same failure for each of several callers.
pub(crate) fn repeat(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}
