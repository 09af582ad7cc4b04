//! Adding files: chunks become leaves on all cores, leaves become a DAG, the DAG is stored, then pinned.
//!
//! Invariant: an [`AddEvent::Added`] is sent only after its blocks are durable, and the last one only after the pin.
//! Everything is held by one lease until then, so a collection that runs meanwhile takes nothing of an unfinished add.
//!
//! # Differences
//! What a denylist forbids is refused, as by Kubo's `block put` and `files write`. Kubo's `add` takes it, and then nothing
//! reads it (test `what_is_denied_is_not_taken_in`).

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::cid::{self, Cid, HASHED_TOGETHER};
use cairn_proto::unixfs::Attributes;
use cairn_proto::unixfs::import::{self, Built, FileBuilder, ImportOptions, Leaf};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::cut::Chunks;
use super::tree::Tree;
use crate::denylists::Denylists;
use crate::exchange;
use crate::pins::{PinKind, Pins};
use crate::store::{Durability, Lease, Store};
use crate::{Error, Result};

/// Groups of chunks of one file that are read or hashed at the same time: both cores stay busy while one result is awaited.
const MAX_OPEN_GROUPS: usize = 4;

/// Blocks handed to the store together, in bytes.
const WRITE_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Blocks handed to the store together.
const WRITE_BATCH_COUNT: usize = 1024;

/// Writes to the store under way before the next batch waits for the oldest.
const MAX_OPEN_WRITES: usize = 2;

/// Content that may be stored and not yet acknowledged, in bytes, before the group is made durable.
const ACKNOWLEDGE_BYTES: u64 = 128 * 1024 * 1024;

/// Entries that may be stored and not yet acknowledged before the group is made durable.
const ACKNOWLEDGE_COUNT: usize = 4096;

/// Content of at most this many bytes is hashed where it is, since handing it to another thread costs as much.
const INLINE_HASH_BYTES: usize = 64 * 1024;

/// Events that wait for their reader; progress is dropped beyond, entries wait.
const EVENT_QUEUE: usize = 256;

/// How content is added.
#[derive(Debug, Clone)]
pub struct AddOptions {
    /// Chunking, layout and CIDs.
    pub import: ImportOptions,
    /// Pin each root recursively.
    pub pin: bool,
    /// Name of the pin.
    pub pin_name: Option<String>,
    /// Put everything into one directory more.
    pub wrap: bool,
    /// Mode and time of that directory.
    pub wrap_attributes: Attributes,
    /// Compute CIDs and store nothing.
    pub only_hash: bool,
}

/// What an add reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddEvent {
    /// Content read of one file so far.
    Progress {
        /// Path of the file.
        path: String,
        /// Bytes read of it.
        bytes: u64,
    },
    /// A file, link or directory whose blocks are durable; empty path for a wrapping directory.
    Added {
        /// Path as it was given.
        path: String,
        /// Root of its DAG.
        cid: Cid,
        /// Size of the DAG with its inner nodes, in bytes.
        cumulative_bytes: u64,
    },
}

/// Where an add keeps its blocks.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) store: Store,
    pub(crate) pins: Pins,
    pub(crate) exchange: Option<exchange::Handle>,
    pub(crate) denylists: Denylists,
}

/// An add under way: hand it files, links and directories in any order, then [`Adder::finish`].
///
/// Dropping it leaves blocks behind that nothing keeps; the next collection takes them.
#[derive(Debug)]
pub struct Adder {
    target: Target,
    options: Arc<AddOptions>,
    lease: Lease,
    tree: Tree,
    events: mpsc::Sender<AddEvent>,
    batch: Vec<Block>,
    batch_bytes: usize,
    writes: VecDeque<JoinHandle<Result<()>>>,
    /// Stored, not yet durable.
    unacknowledged: Vec<AddEvent>,
    unacknowledged_bytes: u64,
    acknowledging: Option<JoinHandle<Result<()>>>,
}

impl Adder {
    pub(crate) fn new(target: Target, options: AddOptions) -> (Self, mpsc::Receiver<AddEvent>) {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let lease = target.store.lease();
        let adder = Self {
            target,
            options: Arc::new(options),
            lease,
            tree: Tree::default(),
            events,
            batch: Vec::new(),
            batch_bytes: 0,
            writes: VecDeque::new(),
            unacknowledged: Vec::new(),
            unacknowledged_bytes: 0,
            acknowledging: None,
        };
        (adder, receiver)
    }

    /// Adds a file from a stream of bytes.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for a path that leaves the tree or is taken, or when the reader fails.
    pub async fn file<R: AsyncRead + Unpin>(
        &mut self,
        path: &str,
        attributes: Attributes,
        reader: &mut R,
    ) -> Result<()> {
        let mut file = OpenFile::new(path, attributes, &self.options.import);
        self.read(&mut file, reader).await?;
        self.end_file(file).await
    }

    async fn read<R: AsyncRead + Unpin>(&mut self, file: &mut OpenFile, reader: &mut R) -> Result<()> {
        let mut chunks = Chunks::new(reader, self.options.import.chunker);
        loop {
            let next = chunks.next().await.map_err(|error| unreadable(&file.path, error))?;
            if next.is_empty() {
                return Ok(());
            }
            for chunks in next.chunks(HASHED_TOGETHER) {
                let (options, chunks) = (Arc::clone(&self.options), chunks.to_vec());
                let inline = chunks.iter().all(|chunk| chunk.len() <= INLINE_HASH_BYTES);
                let hash = move || import::leaves(&options.import, chunks).map_err(Error::from);
                file.groups.push_back(if inline {
                    Group::Ready(hash())
                } else {
                    Group::Open(tokio::task::spawn_blocking(hash))
                });
                self.take_groups(file, MAX_OPEN_GROUPS).await?;
            }
        }
    }

    /// Adds a file of the local disk. Where chunks have one length, they are read by position on several threads at once.
    ///
    /// # Errors
    /// As [`Self::file`]; also when the file does not keep the length that it had at first.
    pub async fn local_file(&mut self, path: &str, attributes: Attributes, source: File) -> Result<()> {
        let unreadable = |error| unreadable(path, error);
        let len_bytes = source.metadata().map_err(unreadable)?.len();
        let mut file = OpenFile::new(path, attributes, &self.options.import);
        let source = Arc::new(source);
        match self.options.import.chunker.fixed_chunk_bytes() {
            Some(chunk_bytes) => self.read_by_position(&mut file, &source, len_bytes, chunk_bytes).await?,
            None => {
                let reader = source.try_clone().map_err(unreadable)?;
                self.read(&mut file, &mut tokio::fs::File::from_std(reader)).await?;
            }
        }
        let now_bytes = source.metadata().map_err(unreadable)?.len();
        if now_bytes != len_bytes {
            return Err(Error::invalid(format!(
                "file changed while it was read, path={path:?} len_bytes_before={len_bytes} len_bytes_after={now_bytes}"
            )));
        }
        self.end_file(file).await
    }

    async fn read_by_position(
        &mut self,
        file: &mut OpenFile,
        source: &Arc<File>,
        len_bytes: u64,
        chunk_bytes: usize,
    ) -> Result<()> {
        let group_bytes = chunk_bytes * HASHED_TOGETHER;
        for start in (0..len_bytes).step_by(group_bytes) {
            let end = len_bytes.min(start + group_bytes as u64);
            let (source, options, path) = (Arc::clone(source), Arc::clone(&self.options), file.path.clone());
            file.groups.push_back(Group::Open(tokio::task::spawn_blocking(move || {
                let chunks = (start..end).step_by(chunk_bytes).map(|offset| {
                    let len = usize::try_from(end - offset).map_or(chunk_bytes, |left| left.min(chunk_bytes));
                    read_at(&source, offset, len)
                });
                let chunks = chunks.collect::<std::io::Result<_>>();
                let chunks = chunks.map_err(|error| unreadable(&path, error))?;
                import::leaves(&options.import, chunks).map_err(Error::from)
            })));
            self.take_groups(file, MAX_OPEN_GROUPS).await?;
        }
        Ok(())
    }

    /// Adds a file of a single chunk that the caller has hashed already, with [`import::leaf`] and the options of this add.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub async fn leaf_file(&mut self, path: &str, attributes: Attributes, leaf: Leaf) -> Result<()> {
        let mut file = OpenFile::new(path, attributes, &self.options.import);
        file.groups.push_back(Group::Ready(Ok(vec![leaf])));
        self.end_file(file).await
    }

    /// Adds a symbolic link. Of its attributes only the time is kept, as in Kubo.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for a path that leaves the tree or is taken.
    pub async fn symlink(&mut self, path: &str, attributes: Attributes, target: &str) -> Result<()> {
        let block = import::symlink(&self.options.import, target.to_owned(), attributes.mtime)?;
        let cumulative_bytes = block.data().len() as u64;
        let cid = *block.cid();
        self.keep(block).await?;
        self.entry(path, cid, cumulative_bytes).await
    }

    /// Adds a directory, which may stay empty. Directories of files that are added need no call, but then have no attributes.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for a path that leaves the tree or is a file already.
    pub async fn directory(&mut self, path: &str, attributes: Attributes) -> Result<()> {
        self.tree.directory(path, attributes)
    }

    /// Builds the directories, makes everything durable, pins the roots and returns the last one.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] when nothing was added; what the store and the pins say otherwise.
    pub async fn finish(mut self) -> Result<Cid> {
        let directories = std::mem::take(&mut self.tree).build(&self.options)?;
        let roots = directories.roots.clone();
        let Some(root) = roots.last().copied() else {
            return Err(Error::invalid("nothing to add"));
        };
        for directory in directories.built {
            self.unacknowledged.push(AddEvent::Added {
                path: directory.path,
                cid: directory.built.cid,
                cumulative_bytes: directory.built.tsize,
            });
            for block in directory.built.blocks {
                self.keep(block).await?;
            }
        }
        self.flush_batch().await?;
        self.join_writes(0).await?;
        self.join_acknowledging().await?;
        let last = self.unacknowledged.pop();
        if !self.options.only_hash {
            self.target.store.sync().await?;
        }
        self.send_acknowledged().await;
        if self.options.pin && !self.options.only_hash {
            for root in &roots {
                let name = self.options.pin_name.clone();
                self.target.pins.pin(*root, PinKind::Recursive, name, &self.lease, |_, _| ()).await?;
            }
        }
        self.unacknowledged.extend(last);
        self.send_acknowledged().await;
        Ok(root)
    }

    async fn take_groups(&mut self, file: &mut OpenFile, keep: usize) -> Result<()> {
        while file.groups.len() > keep {
            let Some(leaves) = file.take().await? else { break };
            let bytes = file.len_bytes;
            for leaf in leaves {
                for block in file.builder.push(leaf)? {
                    self.keep(block).await?;
                }
            }
            // Progress is only for show: it never waits for its reader.
            let _ = self.events.try_send(AddEvent::Progress { path: file.path.clone(), bytes });
        }
        Ok(())
    }

    async fn end_file(&mut self, mut file: OpenFile) -> Result<()> {
        self.take_groups(&mut file, 0).await?;
        let Built { cid, tsize, blocks, .. } = file.builder.finish()?;
        for block in blocks {
            self.keep(block).await?;
        }
        self.unacknowledged_bytes += file.len_bytes;
        self.entry(&file.path, cid, tsize).await
    }

    async fn entry(&mut self, path: &str, cid: Cid, cumulative_bytes: u64) -> Result<()> {
        // Content without a name, as from a pipe, is named by its CID.
        let path = if path.is_empty() { cid.to_string() } else { path.to_owned() };
        self.tree.insert(&path, cid, cumulative_bytes)?;
        self.unacknowledged.push(AddEvent::Added { path, cid, cumulative_bytes });
        if self.unacknowledged.len() >= ACKNOWLEDGE_COUNT || self.unacknowledged_bytes >= ACKNOWLEDGE_BYTES {
            self.acknowledge().await?;
        }
        Ok(())
    }

    async fn keep(&mut self, block: Block) -> Result<()> {
        if self.options.only_hash {
            return Ok(());
        }
        self.target.denylists.check_block(block.cid())?;
        // What a CID carries in itself needs no room.
        if cid::identity_content(block.cid()).is_some() {
            return Ok(());
        }
        self.batch_bytes += block.data().len();
        self.batch.push(block);
        if self.batch_bytes >= WRITE_BATCH_BYTES || self.batch.len() >= WRITE_BATCH_COUNT {
            self.flush_batch().await?;
        }
        Ok(())
    }

    async fn flush_batch(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.join_writes(MAX_OPEN_WRITES - 1).await?;
        let blocks = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let cids: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
        let write = self.target.store.put(blocks, Durability::Later, &self.lease);
        let exchange = self.target.exchange.clone();
        self.writes.push_back(tokio::spawn(async move {
            write.await?;
            match exchange {
                Some(exchange) => exchange.new_blocks(&cids).await,
                None => Ok(()),
            }
        }));
        Ok(())
    }

    async fn join_writes(&mut self, keep: usize) -> Result<()> {
        while self.writes.len() > keep {
            let Some(write) = self.writes.pop_front() else { break };
            join(write).await?;
        }
        Ok(())
    }

    /// Makes what is stored durable in the background, and reports it once it is.
    async fn acknowledge(&mut self) -> Result<()> {
        self.flush_batch().await?;
        self.join_writes(0).await?;
        self.join_acknowledging().await?;
        self.unacknowledged_bytes = 0;
        let entries = std::mem::take(&mut self.unacknowledged);
        let (events, store, only_hash) =
            (self.events.clone(), self.target.store.clone(), self.options.only_hash);
        self.acknowledging = Some(tokio::spawn(async move {
            if !only_hash {
                store.sync().await?;
            }
            for entry in entries {
                // A reader that went away loses its events, not the add.
                let _ = events.send(entry).await;
            }
            Ok(())
        }));
        Ok(())
    }

    async fn join_acknowledging(&mut self) -> Result<()> {
        match self.acknowledging.take() {
            Some(task) => join(task).await,
            None => Ok(()),
        }
    }

    async fn send_acknowledged(&mut self) {
        for entry in self.unacknowledged.drain(..) {
            let _ = self.events.send(entry).await;
        }
    }
}

/// Neighbouring chunks of a file on their way to leaves.
#[derive(Debug)]
enum Group {
    Ready(Result<Vec<Leaf>>),
    Open(JoinHandle<Result<Vec<Leaf>>>),
}

/// A file whose chunks are being read and hashed, in order.
#[derive(Debug)]
struct OpenFile {
    path: String,
    builder: FileBuilder,
    groups: VecDeque<Group>,
    len_bytes: u64,
}

impl OpenFile {
    fn new(path: &str, attributes: Attributes, import: &ImportOptions) -> Self {
        Self {
            path: path.to_owned(),
            builder: FileBuilder::new(import.clone()).with_attributes(attributes),
            groups: VecDeque::with_capacity(MAX_OPEN_GROUPS + 1),
            len_bytes: 0,
        }
    }

    async fn take(&mut self) -> Result<Option<Vec<Leaf>>> {
        let leaves = match self.groups.pop_front() {
            None => return Ok(None),
            Some(Group::Ready(leaves)) => leaves?,
            Some(Group::Open(task)) => join(task).await?,
        };
        self.len_bytes += leaves.iter().map(|leaf| leaf.len_bytes).sum::<u64>();
        Ok(Some(leaves))
    }
}

async fn join<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    task.await.map_err(|error| Error::internal("a task of the add panicked").with_cause(error))?
}

fn read_at(file: &File, offset: u64, len: usize) -> std::io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(len);
    while chunk.len() < len {
        let from = offset + chunk.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut chunk), from) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    chunk.truncate(len);
    Ok(Bytes::from(chunk))
}

fn unreadable(path: &str, error: std::io::Error) -> Error {
    Error::invalid(format!("cannot read {path:?}")).with_cause(error)
}
