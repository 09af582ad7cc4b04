//! `swarm peers`, `swarm connect`, `swarm disconnect`, `swarm addrs`, `swarm addrs autonat`, `swarm addrs local`,
//! `swarm addrs listen`.

pub mod filters;
pub mod peering;
pub mod resources;

use std::collections::BTreeMap;

use cairn_node::swarm::{Direction, Handle, PeerInfo};
use libp2p::identity::PublicKey;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Lines for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Lines {
    /// Each a line.
    pub strings: Vec<String>,
}

impl JsonEvent for Lines {}

/// The connections of a node that is online.
pub(super) async fn online(context: &Context) -> Result<&Handle> {
    context.node().await?.swarm().ok_or_else(Error::offline)
}

/// A public key, protobuf in base64.
pub(super) fn key_text(key: &PublicKey) -> String {
    multibase::Base::Base64Pad.encode(key.encode_protobuf())
}

/// The address of a peer with its ID at the end.
pub(super) fn with_peer(address: &Multiaddr, peer: PeerId) -> String {
    address.clone().with_p2p(peer).unwrap_or_else(|address| address).to_string()
}

/// Lists connected peers.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// Tell everything.
    pub verbose: bool,
    /// Tell the protocols of open streams.
    pub streams: bool,
    /// Tell round-trip times.
    pub latency: bool,
    /// Tell who connected to whom.
    pub direction: bool,
    /// Tell the programs.
    pub identify: bool,
}

/// Connected peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PeerList {
    /// One for each connection; null when there are none.
    pub peers: Option<Vec<Peer>>,
}

impl JsonEvent for PeerList {}

/// A connected peer. Source: Kubo `core/commands/swarm.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Peer {
    /// Address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
    /// Peer ID.
    #[serde(rename = "Peer", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Round-trip time, `n/a` when unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub latency: String,
    /// 1 when the peer connected, 2 when this node did, 0 when nobody asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub direction: u8,
    /// Streams that are open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamInfo>,
    /// What it says of itself.
    pub identify: Identify,
}

/// An open stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StreamInfo {
    /// Its protocol.
    pub protocol: String,
}

/// What a peer says of itself; empty when nobody asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Identify {
    /// Peer ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// Public key, protobuf in base64.
    pub public_key: String,
    /// Addresses.
    pub addresses: Option<Vec<String>>,
    /// Name and version of its program.
    pub agent_version: String,
    /// Protocols.
    pub protocols: Option<Vec<String>>,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl Command for Peers {
    const PATH: &'static str = "swarm/peers";
    type Event = PeerList;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("verbose", "v", &mut self.verbose)?;
        binder.option("streams", "", &mut self.streams)?;
        binder.option("latency", "", &mut self.latency)?;
        binder.option("direction", "", &mut self.direction)?;
        binder.option("identify", "", &mut self.identify)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<PeerList>) -> Result<()> {
        let mut peers: Vec<Peer> =
            online(&context).await?.peers().await?.into_iter().map(|peer| self.show(peer)).collect();
        peers.sort_by(|a, b| a.id.cmp(&b.id));
        output.send(PeerList { peers: (!peers.is_empty()).then_some(peers) }).await
    }
}

impl Peers {
    fn show(&self, info: PeerInfo) -> Peer {
        let mut peer = Peer { addr: info.addr.to_string(), id: info.peer.to_string(), ..Peer::default() };
        if self.verbose || self.latency {
            peer.latency = info.latency.map_or_else(|| "n/a".to_owned(), |latency| format!("{latency:.3?}"));
        }
        if self.verbose || self.direction {
            peer.direction = match info.direction {
                Direction::Inbound => 1,
                Direction::Outbound => 2,
            };
        }
        if self.verbose || self.identify {
            peer.identify = Identify {
                id: peer.id.clone(),
                public_key: info.public_key.as_ref().map(key_text).unwrap_or_default(),
                addresses: Some(vec![with_peer(&info.addr, info.peer)]),
                agent_version: info.agent,
                protocols: Some(info.protocols.clone()),
            };
        }
        if self.verbose || self.streams {
            peer.streams = info.streams.into_iter().map(|protocol| StreamInfo { protocol }).collect();
        }
        peer
    }
}

/// Connects to peers.
#[derive(Debug, Clone, Default)]
pub struct Connect {
    /// Addresses that end in a peer ID.
    pub addresses: Vec<String>,
}

impl Command for Connect {
    const PATH: &'static str = "swarm/connect";
    type Event = Lines;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("address", 1, &mut self.addresses)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Lines>) -> Result<()> {
        let swarm = online(&context).await?;
        let mut strings = Vec::new();
        for (peer, addresses) in by_peer(&self.addresses)? {
            swarm
                .connect(peer, addresses)
                .await
                .map_err(|error| Error::new(format!("connect {peer} failure: {error}")))?;
            strings.push(format!("connect {peer} success"));
        }
        output.send(Lines { strings }).await
    }
}

/// Peers in the order in which they are named, each with all its addresses.
fn by_peer(texts: &[String]) -> Result<Vec<(PeerId, Vec<Multiaddr>)>> {
    let mut peers: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
    for text in texts {
        let address: Multiaddr =
            text.parse().map_err(|error| Error::client(format!("invalid address {text:?}: {error}")))?;
        let Some(Protocol::P2p(peer)) = address.iter().last() else {
            return Err(Error::client(format!("the address does not end in /p2p/ and a peer ID: {text:?}")));
        };
        match peers.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, addresses)) => addresses.push(address),
            None => peers.push((peer, vec![address])),
        }
    }
    for (_, addresses) in &mut peers {
        // A bare `/p2p/…` names a peer whose addresses are known.
        addresses.retain(|address| address.iter().count() > 1);
    }
    Ok(peers)
}

/// Ends connections.
#[derive(Debug, Clone, Default)]
pub struct Disconnect {
    /// Addresses that end in a peer ID, or peer IDs.
    pub addresses: Vec<String>,
}

impl Command for Disconnect {
    const PATH: &'static str = "swarm/disconnect";
    type Event = Lines;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("address", 1, &mut self.addresses)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Lines>) -> Result<()> {
        let swarm = online(&context).await?;
        let mut strings = Vec::new();
        for text in &self.addresses {
            let peer = match text.parse::<PeerId>() {
                Ok(peer) => peer,
                Err(_) => by_peer(std::slice::from_ref(text))?[0].0,
            };
            swarm
                .disconnect(peer)
                .await
                .map_err(|error| Error::new(format!("disconnect {peer} failure: {error}")))?;
            strings.push(format!("disconnect {peer} success"));
        }
        output.send(Lines { strings }).await
    }
}

/// Lists the addresses of known peers.
#[derive(Debug, Clone, Default)]
pub struct Addrs;

/// Addresses by peer ID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddrMap {
    /// Addresses by peer ID.
    pub addrs: BTreeMap<String, Vec<String>>,
}

impl JsonEvent for AddrMap {}

impl Command for Addrs {
    const PATH: &'static str = "swarm/addrs";
    type Event = AddrMap;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<AddrMap>) -> Result<()> {
        let known = online(&context).await?.known_addrs().await?;
        let text = |addresses: Vec<Multiaddr>| addresses.iter().map(ToString::to_string).collect();
        let addrs = known.into_iter().map(|(peer, addresses)| (peer.to_string(), text(addresses))).collect();
        output.send(AddrMap { addrs }).await
    }
}

/// Lists the addresses that this node tells others.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// Add the peer ID.
    pub id: bool,
}

impl Command for Local {
    const PATH: &'static str = "swarm/addrs/local";
    type Event = Lines;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("id", "", &mut self.id)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Lines>) -> Result<()> {
        let swarm = online(&context).await?;
        let peer = swarm.local_peer_id();
        let text = |address: &Multiaddr| if self.id { with_peer(address, peer) } else { address.to_string() };
        let mut strings: Vec<_> =
            swarm.listen_addrs().iter().chain(&swarm.external_addrs()).map(text).collect();
        strings.sort();
        strings.dedup();
        output.send(Lines { strings }).await
    }
}

/// Lists the addresses that this node listens on.
#[derive(Debug, Clone, Default)]
pub struct Listen;

impl Command for Listen {
    const PATH: &'static str = "swarm/addrs/listen";
    type Event = Lines;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Lines>) -> Result<()> {
        let strings = online(&context).await?.listen_addrs().iter().map(ToString::to_string).collect();
        output.send(Lines { strings }).await
    }
}

/// Tells whether others can dial this node.
#[derive(Debug, Clone, Default)]
pub struct AutoNat;

/// Whether others can dial this node. Source: Kubo `core/commands/swarm_addrs_autonat.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reached {
    /// `Public`, `Private` or `Unknown`.
    pub reachability: String,
    /// Addresses that were dialled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reachable: Vec<String>,
    /// Addresses that were dialled in vain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<String>,
}

impl JsonEvent for Reached {}

impl Command for AutoNat {
    const PATH: &'static str = "swarm/addrs/autonat";
    type Event = Reached;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Reached>) -> Result<()> {
        let swarm = online(&context).await?;
        let reachability = *swarm.reachability().borrow();
        let (reachable, unreachable) = swarm.tested_addrs();
        let texts = |addrs: Vec<Multiaddr>| addrs.iter().map(ToString::to_string).collect();
        let reached = Reached {
            reachability: format!("{reachability:?}"),
            reachable: texts(reachable),
            unreachable: texts(unreachable),
        };
        output.send(reached).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_grouped_by_peer_and_must_end_in_one() {
        let (a, b) = (PeerId::random(), PeerId::random());
        let texts = [
            format!("/ip4/127.0.0.1/tcp/1/p2p/{a}"),
            format!("/p2p/{b}"),
            format!("/ip4/127.0.0.1/tcp/2/p2p/{a}"),
        ];
        let peers = by_peer(&texts).unwrap();
        assert_eq!(
            peers.iter().map(|(peer, addresses)| (*peer, addresses.len())).collect::<Vec<_>>(),
            [(a, 2), (b, 0)]
        );
        assert!(by_peer(&["/ip4/127.0.0.1/tcp/1".to_owned()]).is_err());
        assert!(by_peer(&["nonsense".to_owned()]).is_err());
    }
}
