//! Blocks from and for peers, over Bitswap.
//!
//! One task owns what is wanted ([`task`]); every peer has tasks of its own that read ([`reader`]) and write ([`writer`]),
//! so that no peer can hold up another, and blocks go from a peer's reader to the sessions that want them and from the
//! store to a peer's writer without passing through the swarm. Who is asked for what, and in which order peers are
//! answered, is decided in [`cairn_proto::bitswap`].
//!
//! Beside that, [`http`] asks trustless gateways for single blocks, and [`remote`] is an exchange that asks nobody else.
//!
//! Must not know UnixFS, pins or paths. Read [`Session`] first, then `task`.

pub mod http;
mod ledger;
pub mod ports;
mod reader;
pub mod remote;
mod retrieval;
mod session;
mod task;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_proto::bitswap::PeerKey;
use cairn_proto::bitswap::client::SessionId;
use cairn_proto::cid::Cid;
use libp2p::PeerId;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use cairn_proto::bitswap::client::Progress;
pub use retrieval::RetrievalRules;
pub use session::{MAX_PROVIDERS, MAX_SESSION_WANTS, Session};

use self::ledger::Ledger;
use self::ports::{Blocks, Peers};
use self::retrieval::Retrieval;
use self::task::{Command, Shared, Task};
use crate::Error;
use crate::error::Result;
use crate::swarm::bitswap::Wire;
use crate::tasks::Tasks;

/// Commands that wait for the exchange: a few of each session.
const COMMAND_QUEUE: usize = 256;

/// What peers' tasks tell and the exchange has not taken in; a peer whose event waits is not read any further.
const EVENT_QUEUE: usize = 256;

/// Blocks of a message that are hashed where they are read, in bytes: handing them to another thread costs more.
const HASH_INLINE_BYTES: usize = 32 * 1024;

/// Answers of all peers that are read from the store at a time.
const MAX_READERS: usize = 8;

/// The exchange of a node. Clones share it.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    ledger: Arc<Ledger>,
    next_session: Arc<AtomicU64>,
}

/// What the exchange has done since its start, and what it does now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stat {
    /// Blocks received, wanted or not.
    pub blocks_received: u64,
    /// Their bytes.
    pub data_received: u64,
    /// Blocks received that nobody wanted, or not any more.
    pub dup_blocks_received: u64,
    /// Their bytes.
    pub dup_data_received: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Their bytes.
    pub data_sent: u64,
    /// Blocks wanted now.
    pub wantlist: Vec<Cid>,
    /// Peers connected now.
    pub peers: Vec<PeerId>,
    /// What all sessions together have come to.
    pub progress: Progress,
}

/// What was exchanged with one peer since it connected, and what it wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerStat {
    /// Bytes of blocks sent to it.
    pub sent_bytes: u64,
    /// Bytes of blocks received from it.
    pub received_bytes: u64,
    /// Messages with blocks, both ways.
    pub exchanges_count: u64,
    /// Blocks that it wants and has not been sent.
    pub wantlist: Vec<Cid>,
}

#[derive(Debug, Default)]
struct Counters {
    blocks_received: AtomicU64,
    data_received: AtomicU64,
    dup_blocks_received: AtomicU64,
    dup_data_received: AtomicU64,
    messages_received: AtomicU64,
    blocks_sent: AtomicU64,
    data_sent: AtomicU64,
    /// Of the connected peers. The lock is held for single look-ups.
    peers: Mutex<HashMap<PeerKey, PeerStat>>,
}

impl Counters {
    fn on_received(&self, peer: Option<PeerKey>, block_count: usize, len_bytes: usize) {
        if let Some(peer) = peer {
            self.count(peer, block_count, |stat| stat.received_bytes += len_bytes as u64);
        }
        self.blocks_received.fetch_add(block_count as u64, Ordering::Relaxed);
        self.data_received.fetch_add(len_bytes as u64, Ordering::Relaxed);
    }

    fn on_dup(&self, block_count: usize, len_bytes: usize) {
        self.dup_blocks_received.fetch_add(block_count as u64, Ordering::Relaxed);
        self.dup_data_received.fetch_add(len_bytes as u64, Ordering::Relaxed);
    }

    fn on_sent(&self, peer: PeerKey, block_count: usize, len_bytes: usize) {
        self.count(peer, block_count, |stat| stat.sent_bytes += len_bytes as u64);
        self.blocks_sent.fetch_add(block_count as u64, Ordering::Relaxed);
        self.data_sent.fetch_add(len_bytes as u64, Ordering::Relaxed);
    }

    /// Counts a message of blocks for a peer, from its connection to its end.
    fn count(&self, peer: PeerKey, block_count: usize, count: impl FnOnce(&mut PeerStat)) {
        if let (true, Some(stat)) = (block_count > 0, self.peers().get_mut(&peer)) {
            stat.exchanges_count += 1;
            count(stat);
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerKey, PeerStat>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stat(&self, wantlist: Vec<Cid>, peers: Vec<PeerId>, progress: Progress) -> Stat {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stat {
            blocks_received: count(&self.blocks_received),
            data_received: count(&self.data_received),
            dup_blocks_received: count(&self.dup_blocks_received),
            dup_data_received: count(&self.dup_data_received),
            messages_received: count(&self.messages_received),
            blocks_sent: count(&self.blocks_sent),
            data_sent: count(&self.data_sent),
            wantlist,
            peers,
            progress,
        }
    }
}

/// Whom the exchange gives blocks, and of whom it takes them.
#[derive(Debug)]
pub struct Options {
    /// Peers get blocks from here.
    pub serves: bool,
    /// Gateways that are providers of content are asked over HTTP by this client; `None`: peers alone are asked.
    pub retrieval: Option<(self::http::Client, RetrievalRules)>,
}

/// Starts the exchange as tasks of `tasks`.
///
/// `wire` comes with the behaviour that the swarm was given.
pub fn start(
    wire: Wire,
    blocks: Arc<dyn Blocks>,
    peers: Arc<dyn Peers>,
    options: Options,
    tasks: &Tasks,
) -> Handle {
    let (commands_tx, commands) = mpsc::channel(COMMAND_QUEUE);
    let ledger = Arc::new(Ledger::new(Arc::clone(&blocks)));
    let retrieval = options.retrieval.map(|(client, rules)| Retrieval::new(client, rules));
    let core_count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shared = Shared {
        blocks,
        peers,
        ledger: Arc::clone(&ledger),
        serves: options.serves,
        counters: Arc::default(),
        hashers: Arc::new(Semaphore::new(core_count)),
        readers: Arc::new(Semaphore::new(MAX_READERS)),
        tasks: tasks.clone(),
    };
    tasks.spawn("exchange", Task::new(shared, wire, commands, retrieval).run());
    Handle { commands: commands_tx, ledger, next_session: Arc::default() }
}

impl Handle {
    /// Opens a session for one request's blocks.
    pub fn session(&self) -> Session {
        let id = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        Session::new(id, self.commands.clone())
    }

    /// Tells that blocks are in the store: peers and sessions that wait for them get them.
    ///
    /// # Errors
    /// [`crate::Kind::Closed`].
    ///
    /// # Cancellation
    /// Dropped before it ends, some may not be told.
    pub async fn new_blocks(&self, cids: &[Cid]) -> Result<()> {
        let hashes: Vec<_> = cids.iter().map(|cid| *cid.hash()).collect();
        let ledger = Arc::clone(&self.ledger);
        let told = tokio::task::spawn_blocking(move || ledger.on_new_blocks(&hashes));
        told.await.map_err(|error| Error::internal("waiting peers were not told").with_cause(error))?;
        let command = Command::NewBlocks { cids: cids.to_vec() };
        self.commands.send(command).await.map_err(|_| Error::closed("the exchange"))
    }

    /// What was exchanged with a peer, and what it wants; nothing for one that is not connected.
    ///
    /// # Errors
    /// [`crate::Kind::Closed`].
    pub async fn peer_stat(&self, peer: PeerId) -> Result<Option<PeerStat>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::PeerStat { peer, reply }).await;
        sent.map_err(|_| Error::closed("the exchange"))?;
        answer.await.map_err(|_| Error::closed("the exchange"))
    }

    /// What the exchange has done and does.
    ///
    /// # Errors
    /// [`crate::Kind::Closed`].
    pub async fn stat(&self) -> Result<Stat> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Stat { reply }).await;
        sent.map_err(|_| Error::closed("the exchange"))?;
        answer.await.map_err(|_| Error::closed("the exchange"))
    }
}
