//! `routing findprovs`, `routing findpeer`, `routing provide`, `routing get`, `routing put`.

use cairn_node::names::LookUp;
use cairn_node::routing::Handle;
use cairn_node::swarm::Provider;
use cairn_proto::ipns::Name;
use cairn_proto::limits::MAX_IPNS_RECORD_BYTES;
use futures::{StreamExt as _, TryStreamExt as _};
use libp2p::{Multiaddr, PeerId};
use multibase::Base;
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::Files;

/// Keys that are told at the same time.
const MAX_ANNOUNCED: usize = 8;

/// Kind of an event: a peer that was looked for. Source: go-libp2p `core/routing/query.go`.
pub const FINAL_PEER: u8 = 2;
/// Kind of an event: a provider.
pub const PROVIDER: u8 = 4;
/// Kind of an event: a value.
pub const VALUE: u8 = 5;

/// Something that a query found. Source: go-libp2p `core/routing/query.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueryEvent {
    /// A value, in base64; otherwise empty.
    #[serde(default)]
    pub extra: String,
    /// Peer that keeps a value; otherwise empty.
    #[serde(default, rename = "ID")]
    pub id: String,
    /// What was found.
    pub responses: Option<Vec<FoundPeer>>,
    /// [`FINAL_PEER`], [`PROVIDER`] or [`VALUE`].
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
    /// And everything below them.
    pub recursive: bool,
}

impl Command for Provide {
    const PATH: &'static str = "routing/provide";
    type Event = QueryEvent;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("key", 1, &mut self.keys)?;
        binder.option("recursive", "r", &mut self.recursive)
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
        for cid in &cids {
            routing.provide(*cid.hash()).await?;
        }
        if !self.recursive {
            return Ok(());
        }
        let mut local = context.clone();
        local.options.offline = true;
        let session = local.session().await?;
        for root in &cids {
            let links = session.references(root, None, true).map_ok(|link| *link.child.hash());
            let provide = |hash| async move { routing.provide(hash).await.map_err(Error::from) };
            links.map_err(Error::from).try_for_each_concurrent(MAX_ANNOUNCED, provide).await?;
        }
        Ok(())
    }
}

/// The name of a key of the routing system; only those of IPNS are known.
fn parse_key(key: &str) -> Result<Name> {
    let name = key
        .strip_prefix("/ipns/")
        .ok_or_else(|| Error::client(format!("invalid key, want /ipns/NAME: {key:?}")))?;
    Name::parse(name).map_err(|error| Error::client(error.to_string()))
}

/// Gives the record of a name.
#[derive(Debug, Clone, Default)]
pub struct Get {
    /// `/ipns/` and a name.
    pub key: String,
}

impl Command for Get {
    const PATH: &'static str = "routing/get";
    type Event = QueryEvent;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("key", &mut self.key)
    }

    async fn run(self, context: Context, output: Output<QueryEvent>) -> Result<()> {
        let name = parse_key(&self.key)?;
        let look_up = LookUp { local_only: context.options.offline, ..LookUp::default() };
        let record = context.node().await?.names().record(&name, look_up).await?;
        let extra = Base::Base64Pad.encode(record.bytes());
        output.send(QueryEvent { extra, kind: VALUE, ..QueryEvent::default() }).await
    }
}

/// Keeps the record of a name and gives it to the peers that others ask for it.
#[derive(Debug, Default)]
pub struct Put {
    /// `/ipns/` and a name.
    pub key: String,
    /// Offline, keeping it is enough.
    pub allow_offline: bool,
    /// The record.
    pub files: Option<Files>,
}

impl Command for Put {
    const PATH: &'static str = "routing/put";
    const FILES: Option<&'static str> = Some("value-file");
    type Event = QueryEvent;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("key", &mut self.key)?;
        binder.option("allow-offline", "", &mut self.allow_offline)
    }

    fn set_files(&mut self, files: Files) {
        self.files = Some(files);
    }

    fn take_files(&mut self) -> Option<Files> {
        self.files.take()
    }

    async fn run(mut self, context: Context, output: Output<QueryEvent>) -> Result<()> {
        let missing = || Error::client("the record is missing");
        let name = parse_key(&self.key)?;
        let mut files = self.files.take().ok_or_else(missing)?;
        let part = files.next().await?.ok_or_else(missing)?;
        let bytes = files.read_all(part, MAX_IPNS_RECORD_BYTES).await?;
        let node = context.node().await?;
        let is_online = node.routing().is_some() && !context.options.offline;
        if !is_online && !self.allow_offline {
            return Err(Error::new("can't put while offline: pass `--allow-offline` to override"));
        }
        node.names().put(&name, bytes, is_online).await?;
        let id = context.repo.config().peer_id()?.to_string();
        output.send(QueryEvent { id, kind: VALUE, ..QueryEvent::default() }).await
    }
}
