//! Blocks, local first: the only module that decides that a block is not here and must be asked for.
//!
//! Invariant: whatever leaves this module has been hashed, and a block from the network is in the store (though not yet
//! durable) before [`Session::finish`] returns. What the operator forbids neither leaves it nor is asked for; [`Served`]
//! holds peers to the same. It knows nothing of UnixFS or paths.

mod served;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, HASHED_TOGETHER, Multihash};
use cairn_proto::content::Progress;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use libp2p::PeerId;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::denylists::Denylists;
use crate::exchange;
use crate::store::{Durability, Lease, Store};
use crate::{Error, Kind, Result};

pub use served::Served;

/// Most CIDs that one task on the blocking pool reads: large enough to batch, small enough that a window is read by
/// several cores.
const READ_BATCH: usize = 64;

/// Received blocks that are handed on together, so that the store sees batches. In bytes.
const RECEIVE_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How often a session that waits looks at what the exchange has tried.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Writes to the store that may be under way for one session before it waits for the oldest.
const MAX_OPEN_WRITES: usize = 4;

/// The store, and the exchange behind it when the node is online.
#[derive(Debug, Clone)]
pub struct Blocks {
    store: Store,
    exchange: Option<exchange::Handle>,
    block_timeout: Duration,
    denylists: Denylists,
    arriving: Arc<Arriving>,
}

/// Blocks that were received and are not in the store yet. Whoever asks for one must not ask the network again: some
/// peers do not send a block twice. Each is held until its write has ended.
#[derive(Debug, Default)]
struct Arriving(Mutex<HashMap<Multihash, Block>>);

impl Arriving {
    fn add(&self, blocks: &[Block]) {
        self.lock().extend(blocks.iter().map(|block| (*block.multihash(), block.clone())));
    }

    fn remove(&self, blocks: &[Block]) {
        let mut arriving = self.lock();
        for block in blocks {
            arriving.remove(block.multihash());
        }
    }

    /// Reads blocks: what was received before is found here or, once it is gone from here, in the store.
    fn read(&self, store: &Store, denylists: &Denylists, batch: Vec<Cid>) -> Read {
        let mut read = Read::with_capacity(batch.len());
        let mut stored = Vec::with_capacity(batch.len());
        let (batch, denied) = split_denied(denylists, batch);
        read.extend(denied);
        let arriving = self.lock();
        for cid in batch {
            match arriving.get(cid.hash()).and_then(|block| block.clone().with_cid(cid)) {
                Some(block) => read.push((cid, Ok(Some(block)))),
                None => stored.push(cid),
            }
        }
        drop(arriving);
        let found = store.get_many(&stored);
        read.extend(stored.into_iter().zip(found));
        read
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Multihash, Block>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks {
    /// Blocks of `store`; what it lacks comes from `exchange` within `block_timeout`, if there is one.
    pub fn new(
        store: Store,
        exchange: Option<exchange::Handle>,
        block_timeout: Duration,
        denylists: Denylists,
    ) -> Self {
        Self { store, exchange, block_timeout, denylists, arriving: Arc::default() }
    }

    /// What is not served.
    pub fn denylists(&self) -> &Denylists {
        &self.denylists
    }

    /// The store alone.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Opens a session; `local_only` never asks the network. Holds a lease, so that nothing it touches is collected.
    /// `status` is kept up to date while the session waits for peers.
    pub fn session(
        &self,
        local_only: bool,
        block_timeout: Option<Duration>,
        status: &Arc<Status>,
    ) -> Session {
        Session {
            store: self.store.clone(),
            denylists: self.denylists.clone(),
            arriving: Arc::clone(&self.arriving),
            lease: Arc::new(self.store.lease()),
            source: if local_only { None } else { self.exchange.clone() },
            exchange: None,
            reads: FuturesUnordered::new(),
            writes: VecDeque::new(),
            wanted: VecDeque::new(),
            timeout: block_timeout.unwrap_or(self.block_timeout),
            status: Arc::clone(status),
        }
    }
}

type Read = Vec<(Cid, Result<Option<Block>>)>;

/// Requests of one reader. Dropping it cancels every want that is still open.
#[derive(Debug)]
pub struct Session {
    store: Store,
    denylists: Denylists,
    arriving: Arc<Arriving>,
    lease: Arc<Lease>,
    /// Where an exchange session comes from when the first block is missing.
    source: Option<exchange::Handle>,
    exchange: Option<exchange::Session>,
    reads: FuturesUnordered<JoinHandle<Read>>,
    writes: VecDeque<JoinHandle<Result<()>>>,
    /// Asked of the network and not yet delivered, oldest first.
    wanted: VecDeque<Cid>,
    timeout: Duration,
    status: Arc<Status>,
}

/// What the sessions of one request learn of the network: how far they have come, for whoever waits, and who serves
/// them, for the sessions that follow.
#[derive(Debug, Default)]
pub struct Status(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    progress: Progress,
    providers: Vec<PeerId>,
}

impl Status {
    /// As of the last second.
    pub fn progress(&self) -> Progress {
        self.lock().progress
    }

    /// Peers that served a session before.
    fn providers(&self) -> Vec<PeerId> {
        self.lock().providers.clone()
    }

    fn on_received(&self, block_count: usize, providers: &[PeerId]) {
        let mut known = self.lock();
        known.progress.blocks_received_count += block_count as u64;
        let new: Vec<_> = providers.iter().filter(|peer| !known.providers.contains(peer)).copied().collect();
        known.providers.extend(new);
        known.providers.truncate(exchange::MAX_PROVIDERS);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Asks for blocks, from disk or else from peers. Never waits; the caller's window bounds what is outstanding.
    pub fn request(&mut self, cids: Vec<Cid>) {
        for batch in cids.chunks(cids.len().div_ceil(4).clamp(HASHED_TOGETHER, READ_BATCH)) {
            let (store, arriving, batch) = (self.store.clone(), Arc::clone(&self.arriving), batch.to_vec());
            let denylists = self.denylists.clone();
            self.reads.push(tokio::task::spawn_blocking(move || arriving.read(&store, &denylists, batch)));
        }
    }

    /// The next blocks that arrived, in any order, at least one.
    ///
    /// # Errors
    /// [`Kind::NotLocal`] for a block that is not here when the session is local; [`Kind::Timeout`] when no peer delivers
    /// anything for the block timeout; [`Kind::Blocked`] or [`Kind::BlockedByLaw`]; what the store says otherwise.
    ///
    /// # Cancellation
    /// Safe: blocks that were not returned are returned by the next call.
    pub async fn next(&mut self) -> Result<Vec<Block>> {
        loop {
            let oldest = self.wanted.front().copied();
            tokio::select! {
                Some(read) = self.reads.next(), if !self.reads.is_empty() => {
                    let read = read.map_err(|error| Error::internal("a store read panicked").with_cause(error))?;
                    let found = self.split(read).await?;
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                received = receive(self.exchange.as_mut(), oldest, &self.status, self.timeout), if !self.wanted.is_empty() => {
                    return self.accept(received?).await;
                }
                else => return Err(Error::internal("nothing was requested from the session")),
            }
        }
    }

    /// Lengths in bytes of the blocks that are in the store, which are held there as if they had been read.
    ///
    /// # Errors
    /// [`Kind::Blocked`] or [`Kind::BlockedByLaw`]; what the store says.
    pub async fn hold(&self, cids: &[Cid]) -> Result<Vec<Option<u64>>> {
        if cids.is_empty() {
            return Ok(Vec::new());
        }
        cids.iter().try_for_each(|cid| self.denylists.check_block(cid))?;
        let (store, lease) = (self.store.clone(), Arc::clone(&self.lease));
        let hashes: Vec<_> = cids.iter().map(|cid| *cid.hash()).collect();
        let held = tokio::task::spawn_blocking(move || store.hold(&hashes, &lease));
        held.await.map_err(|error| Error::internal("a look-up in the store panicked").with_cause(error))?
    }

    /// Which of these nodes a pin keeps, with everything below them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn are_kept(&self, cids: &[Cid]) -> Result<Vec<bool>> {
        if cids.is_empty() {
            return Ok(Vec::new());
        }
        let (store, cids) = (self.store.clone(), cids.to_vec());
        let kept = tokio::task::spawn_blocking(move || store.are_kept(&cids));
        kept.await.map_err(|error| Error::internal("a look-up in the store panicked").with_cause(error))?
    }

    /// Whether something that a pin keeps may be damaged and missing.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub async fn may_lack_what_is_kept(&self) -> Result<bool> {
        let store = self.store.clone();
        let found = tokio::task::spawn_blocking(move || store.has_damage());
        found.await.map_err(|error| Error::internal("a look-up in the store panicked").with_cause(error))
    }

    /// One block.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn get(&mut self, cid: &Cid) -> Result<Block> {
        self.denylists.check_block(cid)?;
        if let Some(block) = Block::from_identity(*cid) {
            return Ok(block);
        }
        self.request(vec![*cid]);
        loop {
            let found = self.next().await?.into_iter().find(|block| block.multihash() == cid.hash());
            if let Some(block) = found.and_then(|block| block.with_cid(*cid)) {
                return Ok(block);
            }
        }
    }

    /// Waits until every block that came from the network is in the store.
    ///
    /// # Errors
    /// The first failed write.
    pub async fn finish(&mut self) -> Result<()> {
        while let Some(write) = self.writes.pop_front() {
            join_write(write).await?;
        }
        Ok(())
    }

    /// What keeps the blocks of this session from being collected.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    async fn split(&mut self, read: Read) -> Result<Vec<Block>> {
        let mut found = Vec::with_capacity(read.len());
        let (mut missing, mut empty) = (Vec::new(), Vec::new());
        for (cid, block) in read {
            match block? {
                Some(block) => found.push(block),
                // What an empty block holds is known, and Kubo does not send it.
                None => match Block::verify(cid, Bytes::new()) {
                    Ok(block) => empty.push(block),
                    Err(_) => missing.push(cid),
                },
            }
        }
        if !empty.is_empty() {
            found.extend(self.accept(empty).await?);
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let Some(source) = &self.source else {
            return Err(Error::new(
                Kind::NotLocal,
                format!("block is not in the local store, cid={}", missing[0]),
            ));
        };
        self.wanted.extend(&missing);
        if self.exchange.is_none() {
            let mut exchange = source.session();
            for peer in self.status.providers() {
                exchange.add_provider(peer).await?;
            }
            self.exchange = Some(exchange);
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.want(missing).await?;
        }
        Ok(found)
    }

    async fn accept(&mut self, blocks: Vec<Block>) -> Result<Vec<Block>> {
        for block in &blocks {
            if let Some(index) = self.wanted.iter().position(|cid| cid.hash() == block.multihash()) {
                self.wanted.remove(index);
            }
        }
        if self.writes.len() >= MAX_OPEN_WRITES
            && let Some(oldest) = self.writes.pop_front()
        {
            join_write(oldest).await?;
        }
        self.arriving.add(&blocks);
        let write = self.store.put(blocks.clone(), Durability::Later, &self.lease);
        let (arriving, written) = (Arc::clone(&self.arriving), blocks.clone());
        self.writes.push_back(tokio::spawn(async move {
            let result = write.await;
            arriving.remove(&written);
            result
        }));
        Ok(blocks)
    }
}

/// Takes out what is forbidden, each with its error.
fn split_denied(denylists: &Denylists, batch: Vec<Cid>) -> (Vec<Cid>, Read) {
    let mut denied = Read::new();
    let mut allowed = batch;
    allowed.retain(|cid| match denylists.check_block(cid) {
        Ok(()) => true,
        Err(error) => {
            denied.push((*cid, Err(error)));
            false
        }
    });
    (allowed, denied)
}

async fn join_write(write: JoinHandle<Result<()>>) -> Result<()> {
    write.await.map_err(|error| Error::internal("a store write panicked").with_cause(error))?
}

/// The blocks that a session delivers next: one, and those that are ready behind it.
async fn receive(
    exchange: Option<&mut exchange::Session>,
    oldest: Option<Cid>,
    status: &Status,
    timeout: Duration,
) -> Result<Vec<Block>> {
    let (Some(exchange), Some(oldest)) = (exchange, oldest) else {
        return Err(Error::internal("nothing is wanted from the exchange"));
    };
    let first = wait(exchange, &oldest, status, timeout).await?;
    let mut len_bytes = first.data().len();
    let mut blocks = vec![first];
    while len_bytes < RECEIVE_BATCH_BYTES
        && let Some(block) = exchange.try_recv()
    {
        len_bytes += block.data().len();
        blocks.push(block);
    }
    status.on_received(blocks.len(), exchange.providers());
    Ok(blocks)
}

async fn wait(
    exchange: &mut exchange::Session,
    oldest: &Cid,
    status: &Status,
    timeout: Duration,
) -> Result<Block> {
    let deadline = Instant::now() + timeout;
    loop {
        let look = (Instant::now() + LOOK_INTERVAL).min(deadline);
        match tokio::time::timeout_at(look, exchange.recv()).await {
            Ok(Some(block)) => return block,
            Ok(None) => return Err(Error::closed("the block exchange")),
            Err(_) => {}
        }
        let now = exchange.progress().await?;
        let mut known = status.lock();
        known.progress.peers_asked_count = now.peers_asked as u64;
        known.progress.providers_found_count = now.provider_count as u64;
        if Instant::now() >= deadline {
            return Err(timed_out(oldest, known.progress, timeout));
        }
    }
}

fn timed_out(cid: &Cid, progress: Progress, timeout: Duration) -> Error {
    Error::new(
        Kind::Timeout,
        format!(
            "no peer delivered a block within {timeout:?}, cid={cid} peers_asked={} providers_found={} blocks_received={}",
            progress.peers_asked_count, progress.providers_found_count, progress.blocks_received_count
        ),
    )
}
