//! `routing findprovs`, `routing findpeer`, `routing provide`.

use cairn_node::routing::Handle;
use cairn_node::swarm::Provider;
use futures::StreamExt as _;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Kind of an event: a peer that was looked for. Source: go-libp2p `core/routing/query.go`.
pub const FINAL_PEER: u8 = 2;
/// Kind of an event: a provider.
pub const PROVIDER: u8 = 4;

/// Something that a query found. Source: go-libp2p `core/routing/query.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueryEvent {
    /// More words; empty.
    #[serde(default)]
    pub extra: String,
    /// Peer that said so; empty.
    #[serde(default, rename = "ID")]
    pub id: String,
    /// What was found.
    pub responses: Option<Vec<FoundPeer>>,
    /// [`FINAL_PEER`] or [`PROVIDER`].
    #[serde(rename = "Type")]
    pub kind: u8,
}

impl JsonEvent for QueryEvent {}

/// A peer and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FoundPeer {
    /// Addresses.
    pub addrs: Option<Vec<String>>,
    /// Peer ID.
    #[serde(rename = "ID")]
    pub id: String,
}

impl QueryEvent {
    fn found(kind: u8, peer: PeerId, addresses: &[Multiaddr]) -> Self {
        let addrs = Some(addresses.iter().map(ToString::to_string).collect());
        Self { kind, responses: Some(vec![FoundPeer { addrs, id: peer.to_string() }]), ..Self::default() }
    }
}

async fn online(context: &Context) -> Result<&Handle> {
    context.node().await?.routing().ok_or_else(Error::offline)
}

/// Finds peers that have some content.
#[derive(Debug, Clone)]
pub struct FindProviders {
    /// CID.
    pub key: String,
    /// Most providers to find.
    pub limit: usize,
}

impl Default for FindProviders {
    fn default() -> Self {
        Self { key: String::new(), limit: 20 }
    }
}

impl Command for FindProviders {
    const PATH: &'static str = "routing/findprovs";
    type Event = QueryEvent;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("key", &mut self.key)?;
        binder.option("num-providers", "n", &mut self.limit)
    }

    async fn run(self, context: Context, output: Output<QueryEvent>) -> Result<()> {
        let cid = cairn_proto::cid::parse(&self.key)?;
        if self.limit < 1 {
            return Err(Error::client("number of providers must be greater than 0"));
        }
        let mut providers = std::pin::pin!(online(&context).await?.find_providers(*cid.hash(), self.limit));
        while let Some(Provider { peer, addrs }) = providers.next().await {
            output.send(QueryEvent::found(PROVIDER, peer, &addrs)).await?;
        }
        Ok(())
    }
}

/// Finds the addresses of a peer.
#[derive(Debug, Clone, Default)]
pub struct FindPeer {
    /// Peer ID.
    pub peer: String,
}

impl Command for FindPeer {
    const PATH: &'static str = "routing/findpeer";
    type Event = QueryEvent;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("peerID", &mut self.peer)
    }

    async fn run(self, context: Context, output: Output<QueryEvent>) -> Result<()> {
        let peer = parse_peer(&self.peer)?;
        let addresses = online(&context).await?.find_peer(peer).await?;
        if addresses.is_empty() {
            return Err(Error::new(format!("routing: not found, peer={peer}")));
        }
        output.send(QueryEvent::found(FINAL_PEER, peer, &addresses)).await
    }
}

/// Parses a peer ID.
pub(super) fn parse_peer(text: &str) -> Result<PeerId> {
    text.parse().map_err(|error| Error::client(format!("invalid peer ID {text:?}: {error}")))
}

/// Tells the network that this node has some content.
#[derive(Debug, Clone, Default)]
pub struct Provide {
    /// CIDs.
    pub keys: Vec<String>,
}

impl Command for Provide {
    const PATH: &'static str = "routing/provide";
    type Event = QueryEvent;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        let mut recursive = false;
        binder.args("key", 1, &mut self.keys)?;
        binder.option("recursive", "r", &mut recursive)?;
        if recursive { Err(Error::client("this option is not there yet: recursive")) } else { Ok(()) }
    }

    async fn run(self, context: Context, _output: Output<QueryEvent>) -> Result<()> {
        let cids = self.keys.iter().map(|text| cairn_proto::cid::parse(text));
        let cids: Vec<_> = cids.collect::<Result<_, _>>()?;
        let store = context.node().await?.store().clone();
        let keys = cids.clone();
        let missing = tokio::task::spawn_blocking(move || {
            keys.into_iter().find_map(|cid| match store.has(cid.hash()) {
                Ok(true) => None,
                Ok(false) => Some(Error::new(format!("block {cid} not found locally, cannot provide"))),
                Err(error) => Some(error.into()),
            })
        });
        if let Some(error) =
            missing.await.map_err(|error| Error::new(format!("looking up a block stopped: {error}")))?
        {
            return Err(error);
        }
        let routing = online(&context).await?;
        for cid in cids {
            routing.provide(*cid.hash()).await?;
        }
        Ok(())
    }
}
