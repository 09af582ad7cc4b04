//! `id`.

use std::time::Duration;

use cairn_node::settings::config::Config;
use cairn_node::swarm::{self, PeerInfo};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use super::routing::parse_peer;
use super::swarm::{key_text, with_peer};
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// How often is looked whether a peer has said who it is.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// Longest wait for a connected peer to say who it is.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);

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

/// What another peer tells of itself: it is connected to first, as Kubo does.
async fn other(context: &Context, peer: PeerId) -> Result<Identity> {
    let node = context.node().await?;
    let (Some(swarm), Some(routing)) = (node.swarm(), node.routing()) else { return Err(Error::offline()) };
    if info_of(swarm, peer).await?.is_none() && swarm.connect(peer, Vec::new()).await.is_err() {
        swarm.connect(peer, routing.find_peer(peer).await?).await?;
    }
    let told = async {
        let mut looks = tokio::time::interval(LOOK_PERIOD);
        loop {
            looks.tick().await;
            match info_of(swarm, peer).await? {
                Some(info) if info.public_key.is_some() => return Ok(info),
                Some(_) => {}
                None => return Err(Error::new(format!("the peer closed the connection, peer={peer}"))),
            }
        }
    };
    let silent = |_| Error::new(format!("the peer does not say who it is, peer={peer}"));
    let info = tokio::time::timeout(TELL_TIMEOUT, told).await.map_err(silent)??;
    let known = swarm.known_addrs().await?.into_iter().filter(|(known, _)| *known == peer);
    let addrs = known.flat_map(|(_, addrs)| addrs).chain([info.addr]);
    let mut addresses: Vec<_> = addrs.map(|addr| with_peer(&addr, peer)).collect();
    addresses.sort();
    addresses.dedup();
    Ok(Identity {
        id: peer.to_string(),
        public_key: info.public_key.as_ref().map(key_text).unwrap_or_default(),
        addresses: Some(addresses),
        agent_version: info.agent,
        protocols: Some(info.protocols),
    })
}

async fn info_of(swarm: &swarm::Handle, peer: PeerId) -> Result<Option<PeerInfo>> {
    Ok(swarm.peers().await?.into_iter().find(|info| info.peer == peer))
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
