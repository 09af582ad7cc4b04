//! `id`.

use cairn_node::settings::config::Config;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use super::routing::parse_peer;
use super::swarm::{key_text, with_peer};
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Tells who this node is, or what it knows of another.
#[derive(Debug, Clone, Default)]
pub struct Id {
    /// Another peer; this node when missing.
    pub peer: Option<String>,
    /// Base of peer IDs; only `b58mh` is spoken.
    pub peer_id_base: Option<String>,
}

/// A peer. Source: Kubo `core/commands/id.go`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Peer ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// Public key, protobuf in base64; empty when unknown.
    #[serde(rename = "PublicKey")]
    pub public_key: String,
    /// Addresses that end in the peer ID; null when there are none.
    #[serde(rename = "Addresses")]
    pub addresses: Option<Vec<String>>,
    /// Name and version of its program.
    #[serde(rename = "AgentVersion")]
    pub agent_version: String,
    /// Protocols that it speaks; null when unknown.
    #[serde(rename = "Protocols")]
    pub protocols: Option<Vec<String>>,
}

impl JsonEvent for Identity {}

impl Command for Id {
    const PATH: &'static str = "id";
    type Event = Identity;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.optional_arg("peerid", &mut self.peer)?;
        binder.option("peerid-base", "", &mut self.peer_id_base)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Identity>) -> Result<()> {
        if self.peer_id_base.as_deref().is_some_and(|base| base != "b58mh") {
            return Err(Error::client("peer IDs are written in the base b58mh only"));
        }
        let own = own_identity(context.repo.config())?;
        let peer = self.peer.as_deref().map(parse_peer).transpose()?;
        let identity = match peer {
            Some(peer) if peer.to_string() != own.id => other(&context, peer).await?,
            _ => with_addresses(&context, own).await?,
        };
        output.send(identity).await
    }
}

/// What a running node adds to what its repo says. Without a daemon the repo is not even opened.
async fn with_addresses(context: &Context, own: Identity) -> Result<Identity> {
    if context.repo.as_daemon().is_none() {
        return Ok(own);
    }
    let Some(swarm) = context.node().await?.swarm() else { return Ok(own) };
    let peer = swarm.local_peer_id();
    let mut addresses: Vec<_> = swarm
        .listen_addrs()
        .iter()
        .chain(&swarm.external_addrs())
        .map(|address| with_peer(address, peer))
        .collect();
    addresses.sort();
    addresses.dedup();
    Ok(Identity { addresses: Some(addresses), protocols: Some(swarm.protocols()), ..own })
}

/// What is known of another peer: from its connection, or else from the DHT.
async fn other(context: &Context, peer: PeerId) -> Result<Identity> {
    let node = context.node().await?;
    let (Some(swarm), Some(routing)) = (node.swarm(), node.routing()) else { return Err(Error::offline()) };
    let unknown = Identity {
        id: peer.to_string(),
        public_key: String::new(),
        addresses: None,
        agent_version: String::new(),
        protocols: None,
    };
    let connections: Vec<_> = swarm.peers().await?.into_iter().filter(|info| info.peer == peer).collect();
    if let Some(first) = connections.first() {
        let addresses = connections.iter().map(|info| with_peer(&info.addr, peer)).collect();
        return Ok(Identity {
            addresses: Some(addresses),
            public_key: first.public_key.as_ref().map(key_text).unwrap_or_default(),
            agent_version: first.agent.clone(),
            protocols: Some(first.protocols.clone()),
            ..unknown
        });
    }
    let addresses = routing.find_peer(peer).await?;
    if addresses.is_empty() {
        return Err(Error::new(format!("routing: not found, peer={peer}")));
    }
    Ok(Identity {
        addresses: Some(addresses.iter().map(|address| with_peer(address, peer)).collect()),
        ..unknown
    })
}

/// What the repo alone says of its node.
fn own_identity(config: &Config) -> Result<Identity> {
    let settings = config.to_settings(std::path::Path::new(""))?;
    let public = settings.identity.public();
    Ok(Identity {
        id: public.to_peer_id().to_string(),
        public_key: key_text(&public),
        addresses: None,
        agent_version: settings.swarm.map(|swarm| swarm.agent_version).unwrap_or_default(),
        protocols: None,
    })
}
