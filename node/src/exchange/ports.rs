//! What the exchange needs of others: blocks to serve, and ways to find and reach peers.

use std::future::Future;
use std::pin::Pin;

use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, Multihash};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use libp2p::{Multiaddr, PeerId};
use tracing::warn;

use crate::store::Store;
use crate::{Error, routing, swarm};

/// Blocks that peers may be served. Every method blocks its thread.
pub trait Blocks: Send + Sync + 'static {
    /// Length of each block in bytes, `None` for those that are not here.
    fn lengths(&self, blocks: &[Multihash]) -> Vec<Option<usize>>;

    /// Each block, `None` for those that are not here.
    fn read(&self, cids: &[Cid]) -> Vec<Option<Block>>;
}

/// Peers beyond those that are connected.
pub trait Peers: Send + Sync + 'static {
    /// Peers that say they have the content, with their addresses. Dropping the stream ends the search.
    fn find(&self, content: Multihash, limit: usize) -> BoxStream<'static, (PeerId, Vec<Multiaddr>)>;

    /// Connects to a peer; at once if it is connected.
    fn connect(
        &self,
        peer: PeerId,
        addrs: Vec<Multiaddr>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
}

impl Blocks for Store {
    fn lengths(&self, blocks: &[Multihash]) -> Vec<Option<usize>> {
        let length = |hash| match self.size(hash) {
            Ok(length) => length.and_then(|length| usize::try_from(length).ok()),
            Err(error) => {
                warn!(%error, "block length not read");
                None
            }
        };
        blocks.iter().map(length).collect()
    }

    fn read(&self, cids: &[Cid]) -> Vec<Option<Block>> {
        let read = |result| match result {
            Ok(block) => block,
            Err(error) => {
                warn!(%error, "block not read");
                None
            }
        };
        self.get_many(cids).into_iter().map(read).collect()
    }
}

/// The swarm and its routing.
#[derive(Debug, Clone)]
pub struct Network {
    /// Connects.
    pub swarm: swarm::Handle,
    /// Finds.
    pub routing: routing::Handle,
}

impl Peers for Network {
    fn find(&self, content: Multihash, limit: usize) -> BoxStream<'static, (PeerId, Vec<Multiaddr>)> {
        let found = self.routing.find_providers(content, limit);
        found.map(|provider| (provider.peer, provider.addrs)).boxed()
    }

    fn connect(
        &self,
        peer: PeerId,
        addrs: Vec<Multiaddr>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
        let swarm = self.swarm.clone();
        Box::pin(async move { swarm.connect(peer, addrs).await })
    }
}
