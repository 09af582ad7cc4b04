//! `swarm peering add`, `swarm peering ls`, `swarm peering rm`: the peers that a running node stays connected to.
//!
//! What they change is gone when the daemon stops: `Peering.Peers` of the configuration is what stays.

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use super::{by_peer, online};
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::commands::routing::parse_peer;
use crate::context::Context;
use crate::error::Result;

/// Stays connected to peers.
#[derive(Debug, Clone, Default)]
pub struct Add {
    /// Addresses that end in a peer ID.
    pub addresses: Vec<String>,
}

/// A peer that something was done with. Source: Kubo `core/commands/swarm.go`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Changed {
    /// Peer ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// How it went; always `success`.
    pub status: String,
}

impl JsonEvent for Changed {}

impl Changed {
    fn success(id: &libp2p::PeerId) -> Self {
        Self { id: id.to_string(), status: "success".to_owned() }
    }
}

impl Command for Add {
    const PATH: &'static str = "swarm/peering/add";
    type Event = Changed;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("address", 1, &mut self.addresses)
    }

    async fn run(self, context: Context, output: Output<Changed>) -> Result<()> {
        let swarm = online(&context).await?;
        for (peer, addresses) in by_peer(&self.addresses)? {
            swarm.add_peering(peer, addresses).await?;
            output.send(Changed::success(&peer)).await?;
        }
        Ok(())
    }
}

/// Lists the peers to stay connected to.
#[derive(Debug, Clone, Default)]
pub struct Ls;

/// Peers to stay connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Peered {
    /// Null when there are none.
    pub peers: Option<Vec<AddrInfo>>,
}

impl JsonEvent for Peered {}

/// A peer and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddrInfo {
    /// Peer ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// Addresses without it.
    pub addrs: Vec<String>,
}

impl Command for Ls {
    const PATH: &'static str = "swarm/peering/ls";
    type Event = Peered;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Peered>) -> Result<()> {
        let texts = |addrs: Vec<Multiaddr>| addrs.iter().map(ToString::to_string).collect();
        let peers = online(&context).await?.peering().await?;
        let peers = peers.into_iter().map(|(id, addrs)| AddrInfo { id: id.to_string(), addrs: texts(addrs) });
        let peers: Vec<_> = peers.collect();
        output.send(Peered { peers: (!peers.is_empty()).then_some(peers) }).await
    }
}

/// Stays connected to peers no longer.
#[derive(Debug, Clone, Default)]
pub struct Rm {
    /// Peer IDs.
    pub peers: Vec<String>,
}

impl Command for Rm {
    const PATH: &'static str = "swarm/peering/rm";
    type Event = Changed;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("ID", 1, &mut self.peers)
    }

    async fn run(self, context: Context, output: Output<Changed>) -> Result<()> {
        let swarm = online(&context).await?;
        for text in &self.peers {
            let peer = parse_peer(text)?;
            swarm.remove_peering(peer).await?;
            output.send(Changed::success(&peer)).await?;
        }
        Ok(())
    }
}
