//! The connected peers, and what they told of themselves.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::identity::PublicKey;
use libp2p::swarm::{ConnectionId, StreamProtocol};
use libp2p::{Multiaddr, PeerId, identify};

use super::{Direction, PeerInfo, address};

/// The connected peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    /// Oldest first.
    connections: Vec<(ConnectionId, Multiaddr, Direction)>,
    latency: Option<Duration>,
    agent: String,
    protocols: Vec<StreamProtocol>,
    public_key: Option<PublicKey>,
}

impl Peers {
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Open connections, inbound and outbound.
    pub(super) fn connection_counts(&self) -> (usize, usize) {
        let all = self.peers.values().flat_map(|peer| &peer.connections);
        let (inbound, outbound): (Vec<_>, Vec<_>) =
            all.partition(|(_, _, direction)| *direction == Direction::Inbound);
        (inbound.len(), outbound.len())
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// The peer's connections through a relay.
    pub(super) fn relayed(&self, peer: &PeerId) -> Vec<ConnectionId> {
        let connections = self.peers.get(peer).map_or(&[][..], |known| &known.connections);
        connections.iter().filter(|(_, addr, _)| address::is_relayed(addr)).map(|(id, ..)| *id).collect()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    pub(super) fn on_opened(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let direction = if endpoint.is_dialer() { Direction::Outbound } else { Direction::Inbound };
        let addr = match endpoint {
            // All that is known of the other side is the relay.
            ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => local_addr,
            endpoint => endpoint.get_remote_address(),
        };
        let addr = address::without_peer(addr.clone());
        self.peers.entry(peer).or_default().connections.push((id, addr, direction));
    }

    /// Whether that was the peer's last connection.
    pub(super) fn on_closed(&mut self, peer: &PeerId, id: ConnectionId) -> bool {
        let Some(known) = self.peers.get_mut(peer) else { return false };
        known.connections.retain(|(open, ..)| *open != id);
        let was_last = known.connections.is_empty();
        if was_last {
            self.peers.remove(peer);
        }
        was_last
    }

    pub(super) fn on_ping(&mut self, peer: &PeerId, latency: Duration) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.latency = Some(latency);
        }
    }

    pub(super) fn on_identified(&mut self, peer: &PeerId, info: identify::Info) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.agent = info.agent_version;
            known.protocols = info.protocols;
            known.public_key = Some(info.public_key);
        }
    }

    pub(super) fn list(&self) -> Vec<PeerInfo> {
        self.peers.iter().filter_map(|(peer, known)| known.info(*peer)).collect()
    }
}

impl Peer {
    fn info(&self, peer: PeerId) -> Option<PeerInfo> {
        let (_, addr, direction) = self.connections.first()?;
        Some(PeerInfo {
            peer,
            addr: addr.clone(),
            direction: *direction,
            latency: self.latency,
            agent: self.agent.clone(),
            protocols: self.protocols.iter().map(ToString::to_string).collect(),
            public_key: self.public_key.clone(),
            streams: Vec::new(),
        })
    }
}
