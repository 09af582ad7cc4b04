//! One request's blocks: wanted in order, received as they come.

use std::collections::HashSet;

use cairn_proto::bitswap::client::{Progress, SessionId};
use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::task::{Command, Delivery};
use crate::{Error, Kind, error::Result};

/// Blocks that one session may want and not have received, at a time.
pub const MAX_SESSION_WANTS: usize = 16 * 1024;

/// Blocks of one session that wait to be received: twice what it may want, for those that were cancelled on the way.
pub(super) const BLOCK_QUEUE: usize = 2 * MAX_SESSION_WANTS;

/// Providers that one search of a session looks for, and that it keeps in mind.
///
/// Source: boxo `bitswap/internal/defaults` (10).
pub const MAX_PROVIDERS: usize = 10;

/// Wants that belong together, since who has one is likely to have the others. Dropping it cancels what is still wanted.
///
/// Memory is the caller's: what it wants may arrive at once, so a window in bytes is kept by whoever walks the DAG.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    commands: mpsc::Sender<Command>,
    blocks: mpsc::Receiver<Delivery>,
    /// The other end of `blocks`, until the exchange knows the session.
    blocks_tx: Option<mpsc::Sender<Delivery>>,
    open: HashSet<Cid>,
    /// Why a block does not come that was wanted, until somebody waits for the next.
    failed: Option<Error>,
    providers: Vec<PeerId>,
}

impl Session {
    pub(super) fn new(id: SessionId, commands: mpsc::Sender<Command>) -> Self {
        let (blocks_tx, blocks) = mpsc::channel(BLOCK_QUEUE);
        Self {
            id,
            commands,
            blocks,
            blocks_tx: Some(blocks_tx),
            open: HashSet::new(),
            failed: None,
            providers: Vec::new(),
        }
    }

    /// Wants blocks, in the order in which they are needed. Those wanted already are passed over.
    ///
    /// # Errors
    /// [`Kind::Invalid`] above [`MAX_SESSION_WANTS`], [`Kind::Closed`].
    ///
    /// # Cancellation
    /// Dropped before it ends, the blocks may be wanted or not.
    pub async fn want(&mut self, mut cids: Vec<Cid>) -> Result<()> {
        cids.retain(|cid| self.open.insert(*cid));
        if self.open.len() + self.blocks.len() > MAX_SESSION_WANTS {
            cids.iter().for_each(|cid| {
                self.open.remove(cid);
            });
            let message = format!("too many blocks wanted at a time, max={MAX_SESSION_WANTS}");
            return Err(Error::new(Kind::Invalid, message));
        }
        self.send(Command::Want { session: self.id, cids }).await
    }

    /// Takes wants back.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn cancel(&mut self, mut cids: Vec<Cid>) -> Result<()> {
        cids.retain(|cid| self.open.remove(cid));
        self.send(Command::Cancel { session: self.id, cids }).await
    }

    /// The next block that arrives, verified, in any order; `None` when nothing is wanted any more.
    ///
    /// Waits without limit: how long is too long is for the caller to say, and [`Session::progress`] tells what was tried.
    ///
    /// # Errors
    /// [`Kind::Closed`]; why nobody is going to send a block, where that is known.
    ///
    /// # Cancellation
    /// Cancel-safe: no block is lost.
    pub async fn recv(&mut self) -> Option<Result<Block>> {
        loop {
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            if self.open.is_empty() {
                return None;
            }
            let Some(delivery) = self.blocks.recv().await else { return Some(Err(closed())) };
            if let Some(block) = self.take(delivery) {
                return Some(Ok(block));
            }
        }
    }

    /// A block that has arrived already; `None` when there is none.
    pub fn try_recv(&mut self) -> Option<Block> {
        while let Ok(delivery) = self.blocks.try_recv() {
            if let Some(block) = self.take(delivery) {
                return Some(block);
            }
        }
        None
    }

    /// Peers that sent blocks which were received, at most [`MAX_PROVIDERS`], the first to do so first.
    pub fn providers(&self) -> &[PeerId] {
        &self.providers
    }

    fn take(&mut self, delivery: Delivery) -> Option<Block> {
        let (block, from) = match delivery {
            Delivery::Block(block, from) => (block, from),
            Delivery::Failed(cid, error) => {
                if self.open.remove(&cid) {
                    self.failed = Some(error);
                }
                return None;
            }
        };
        if let Some(peer) = from
            && self.providers.len() < MAX_PROVIDERS
            && !self.providers.contains(&peer)
        {
            self.providers.push(peer);
        }
        self.open.remove(block.cid()).then_some(block)
    }

    /// Names a peer that is said to have the blocks. It is connected to if need be, and then asked straight away.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn add_provider(&mut self, peer: PeerId) -> Result<()> {
        self.send(Command::AddProvider { session: self.id, peer }).await
    }

    /// How far the session has come.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn progress(&mut self) -> Result<Progress> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Progress { session: self.id, reply }).await?;
        answer.await.map_err(|_| closed())
    }

    async fn send(&mut self, command: Command) -> Result<()> {
        if let Some(blocks) = &self.blocks_tx {
            let open = Command::Open { session: self.id, blocks: blocks.clone() };
            self.commands.send(open).await.map_err(|_| closed())?;
            self.blocks_tx = None;
        }
        self.commands.send(command).await.map_err(|_| closed())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // If the queue is full, the exchange finds the receiver closed at its next tick.
        let _ = self.commands.try_send(Command::Close { session: self.id });
    }
}

fn closed() -> Error {
    Error::closed("the exchange")
}
