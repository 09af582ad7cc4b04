//! Who may connect, and which idle connections stay.
//!
//! libp2p sets no limits by itself. Its own limiting behaviour keeps an entry for every peer ever seen and cannot refuse
//! by network address, hence this one.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::behaviour::{ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::address;
use crate::settings::addresses::{Networks, leading_ip};

/// Connections of one peer, for when both sides dial at once over both transports.
const MAX_PER_PEER: u32 = 4;
/// Inbound connections in their handshake.
const MAX_PENDING_INBOUND: u32 = 128;
/// Outbound connections in their handshake; lookups dial ten peers at a time.
const MAX_PENDING_OUTBOUND: u32 = 256;
/// Connections that we may open above the count at which inbound ones are refused.
const OUTBOUND_RESERVE: u32 = 256;
/// Inbound connections from one public IPv4 address or IPv6 /56.
///
/// Source: go-libp2p `rcmgr` `conn_limiter.go` (8 for each).
const MAX_PER_SUBNET: u32 = 8;
/// Connections below which none is closed for being idle. Source: Kubo `Swarm.ConnMgr.LowWater` (32).
const LOW_WATER: u32 = 32;

/// Why the gate refused a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many connections {what}, max={max}")]
pub(super) struct Refused {
    what: &'static str,
    max: u32,
}

/// Why the gate refused a connection from a network that the operator named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("refused by Swarm.AddrFilters of the config")]
struct FromRefusedNetwork;

/// Counts connections, refuses those over a limit, and tells handlers whether idle ones stay.
pub(super) struct Gate {
    max_count: u32,
    /// Where nobody is let in from.
    refused: Networks,
    pending_inbound: HashMap<ConnectionId, Option<Subnet>>,
    pending_outbound: HashSet<ConnectionId>,
    open: HashMap<ConnectionId, Option<Subnet>>,
    per_peer: HashMap<PeerId, u32>,
    /// Inbound connections, pending ones included.
    per_subnet: HashMap<Subnet, u32>,
    /// Connections at which inbound ones may be closed when idle, shared with every handler.
    idle: Arc<Idle>,
}

/// A public IPv4 address or IPv6 /56.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Subnet(u64);

#[derive(Debug)]
struct Idle {
    open_count: AtomicU32,
    low_water: u32,
    /// Peers whose connections are never closed for being idle.
    kept: RwLock<HashSet<PeerId>>,
}

impl Idle {
    fn is_kept(&self, peer: &PeerId) -> bool {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).contains(peer)
    }
}

impl Gate {
    pub(super) fn new(max_count: u32, refused: Networks, kept: HashSet<PeerId>) -> Self {
        let low_water = LOW_WATER.min(max_count / 2);
        Self {
            max_count,
            refused,
            pending_inbound: HashMap::new(),
            pending_outbound: HashSet::new(),
            open: HashMap::new(),
            per_peer: HashMap::new(),
            per_subnet: HashMap::new(),
            idle: Arc::new(Idle { open_count: AtomicU32::new(0), low_water, kept: RwLock::new(kept) }),
        }
    }

    /// Keeps idle connections of a peer open from now on, or no longer.
    pub(super) fn keep(&mut self, peer: PeerId, is_kept: bool) {
        let mut kept = self.idle.kept.write().unwrap_or_else(PoisonError::into_inner);
        if is_kept {
            kept.insert(peer)
        } else {
            kept.remove(&peer)
        };
    }

    fn open_count(&self) -> u32 {
        count(self.open.len())
    }

    fn check_inbound(&self, subnet: Option<Subnet>) -> Result<(), Refused> {
        let of_subnet = subnet.and_then(|subnet| self.per_subnet.get(&subnet)).copied().unwrap_or(0);
        below(self.open_count(), self.max_count, "in all")?;
        below(of_subnet, MAX_PER_SUBNET, "from one network address")?;
        below(count(self.pending_inbound.len()), MAX_PENDING_INBOUND, "in their handshake")
    }

    fn check_peer(&self, peer: &PeerId) -> Result<(), Refused> {
        below(self.per_peer.get(peer).copied().unwrap_or(0), MAX_PER_PEER, "with this peer")
    }

    fn handler(&self, peer: &PeerId) -> Handler {
        Handler { idle: Arc::clone(&self.idle), peer: *peer }
    }

    fn on_opened(&mut self, peer: PeerId, id: ConnectionId) {
        self.pending_outbound.remove(&id);
        let subnet = self.pending_inbound.remove(&id).flatten();
        self.open.insert(id, subnet);
        *self.per_peer.entry(peer).or_default() += 1;
        self.idle.open_count.store(self.open_count(), Ordering::Relaxed);
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId) {
        let subnet = self.open.remove(&id).flatten();
        release(&mut self.per_peer, peer);
        self.release_subnet(subnet);
        self.idle.open_count.store(self.open_count(), Ordering::Relaxed);
    }

    fn on_listen_failure(&mut self, id: ConnectionId) {
        let subnet = self.pending_inbound.remove(&id).flatten();
        self.release_subnet(subnet);
    }

    fn release_subnet(&mut self, subnet: Option<Subnet>) {
        if let Some(subnet) = subnet {
            release(&mut self.per_subnet, subnet);
        }
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn below(have: u32, max: u32, what: &'static str) -> Result<(), Refused> {
    if have < max { Ok(()) } else { Err(Refused { what, max }) }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

impl Subnet {
    /// The subnet that `addr` counts for; none for private networks and this machine.
    fn of(addr: &Multiaddr) -> Option<Self> {
        if address::reach(addr) != address::Reach::Public {
            return None;
        }
        let of_ip4 = |ip: Ipv4Addr| Self(u64::from(ip.to_bits()));
        match leading_ip(addr)? {
            IpAddr::V4(ip) => Some(of_ip4(ip)),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => Some(of_ip4(ip)),
                // The first 56 bits, in the upper half so that no IPv4 address is the same.
                None => Some(Self((ip.to_bits() >> 64) as u64 & !0xff)),
            },
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.refused.contain(remote) {
            return Err(ConnectionDenied::new(FromRefusedNetwork));
        }
        let subnet = Subnet::of(remote);
        self.check_inbound(subnet).map_err(ConnectionDenied::new)?;
        if let Some(subnet) = subnet {
            *self.per_subnet.entry(subnet).or_default() += 1;
        }
        self.pending_inbound.insert(id, subnet);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        below(self.open_count(), self.max_count, "in all").map_err(ConnectionDenied::new)?;
        self.check_peer(&peer).map_err(ConnectionDenied::new)?;
        Ok(self.handler(&peer))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _peer: Option<PeerId>,
        _addresses: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        below(count(self.pending_outbound.len()), MAX_PENDING_OUTBOUND, "being opened")
            .map_err(ConnectionDenied::new)?;
        self.pending_outbound.insert(id);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _addr: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        below(self.open_count(), self.max_count.saturating_add(OUTBOUND_RESERVE), "in all")
            .map_err(ConnectionDenied::new)?;
        self.check_peer(&peer).map_err(ConnectionDenied::new)?;
        Ok(self.handler(&peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.on_opened(peer_id, connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.on_closed(peer_id, connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.pending_outbound.remove(&connection_id);
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.on_listen_failure(connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _peer: PeerId,
        _id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Speaks nothing; keeps its connection open while there are few, or when the peer is one to stay connected to.
#[derive(Debug)]
pub(super) struct Handler {
    idle: Arc<Idle>,
    peer: PeerId,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.idle.open_count.load(Ordering::Relaxed) <= self.idle.low_water || self.idle.is_kept(&self.peer)
    }

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, _event: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Net {
        gate: Gate,
        next: usize,
    }

    impl Net {
        fn new(max_count: u32) -> Self {
            Self { gate: Gate::new(max_count, Networks::default(), HashSet::new()), next: 0 }
        }

        fn next_id(&mut self) -> ConnectionId {
            self.next += 1;
            ConnectionId::new_unchecked(self.next)
        }

        /// An inbound connection from `remote`, up to its opening.
        fn inbound(&mut self, peer: PeerId, remote: &str) -> Result<ConnectionId, ConnectionDenied> {
            let (local, remote) = ("/ip4/127.0.0.1/tcp/1".parse().unwrap(), remote.parse().unwrap());
            let id = self.next_id();
            self.gate.handle_pending_inbound_connection(id, &local, &remote)?;
            match self.gate.handle_established_inbound_connection(id, peer, &local, &remote) {
                Ok(_) => self.gate.on_opened(peer, id),
                Err(denied) => {
                    self.gate.on_listen_failure(id);
                    return Err(denied);
                }
            }
            Ok(id)
        }
    }

    #[test]
    fn inbound_connections_are_refused_above_the_count() {
        let mut net = Net::new(10);
        let opened: Vec<_> =
            (0..10).map(|_| net.inbound(PeerId::random(), "/ip4/10.0.0.1/tcp/1").unwrap()).collect();
        assert!(net.inbound(PeerId::random(), "/ip4/10.0.0.1/tcp/1").is_err());
        net.gate.on_closed(PeerId::random(), opened[0]);
        assert!(net.inbound(PeerId::random(), "/ip4/10.0.0.1/tcp/1").is_ok());
    }

    #[test]
    fn one_peer_holds_a_bounded_number_of_connections() {
        let mut net = Net::new(100);
        let peer = PeerId::random();
        for _ in 0..MAX_PER_PEER {
            net.inbound(peer, "/ip4/10.0.0.1/tcp/1").unwrap();
        }
        assert!(net.inbound(peer, "/ip4/10.0.0.1/tcp/1").is_err());
        assert!(net.gate.pending_inbound.is_empty());
    }

    #[test]
    fn one_public_address_holds_a_bounded_number_of_connections_and_a_private_one_does_not() {
        let mut net = Net::new(100);
        let opened: Vec<_> = (0..MAX_PER_SUBNET)
            .map(|_| net.inbound(PeerId::random(), "/ip4/1.2.3.4/tcp/1").unwrap())
            .collect();
        assert!(net.inbound(PeerId::random(), "/ip4/1.2.3.4/tcp/2").is_err());
        assert!(net.inbound(PeerId::random(), "/ip4/1.2.3.5/tcp/1").is_ok());
        net.gate.on_closed(PeerId::random(), opened[0]);
        assert!(net.inbound(PeerId::random(), "/ip4/1.2.3.4/tcp/2").is_ok());
        for _ in 0..2 * MAX_PER_SUBNET {
            net.inbound(PeerId::random(), "/ip4/192.168.1.5/tcp/1").unwrap();
        }
    }

    #[test]
    fn handshakes_are_bounded_in_both_directions() {
        let mut net = Net::new(10_000);
        let addr: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        for _ in 0..MAX_PENDING_INBOUND {
            let id = net.next_id();
            net.gate.handle_pending_inbound_connection(id, &addr, &addr).unwrap();
        }
        let id = net.next_id();
        assert!(net.gate.handle_pending_inbound_connection(id, &addr, &addr).is_err());
        for _ in 0..MAX_PENDING_OUTBOUND {
            let id = net.next_id();
            net.gate.handle_pending_outbound_connection(id, None, &[], Endpoint::Dialer).unwrap();
        }
        let id = net.next_id();
        assert!(net.gate.handle_pending_outbound_connection(id, None, &[], Endpoint::Dialer).is_err());
    }

    #[test]
    fn idle_connections_stay_while_there_are_few_or_the_peer_is_kept() {
        let friend = PeerId::random();
        let mut net = Net::new(8);
        for _ in 0..4 {
            net.inbound(PeerId::random(), "/ip4/10.0.0.1/tcp/1").unwrap();
        }
        let stranger = net.gate.handler(&PeerId::random());
        assert!(stranger.connection_keep_alive(), "half of the allowed count");
        net.inbound(friend, "/ip4/10.0.0.1/tcp/1").unwrap();
        assert!(!stranger.connection_keep_alive());
        let handler = net.gate.handler(&friend);
        net.gate.keep(friend, true);
        assert!(handler.connection_keep_alive());
        net.gate.keep(friend, false);
        assert!(!handler.connection_keep_alive());
    }

    #[test]
    fn counts_go_back_to_nothing() {
        let mut net = Net::new(10);
        let peer = PeerId::random();
        let id = net.inbound(peer, "/ip6/2a00::1/tcp/1").unwrap();
        assert!(net.inbound(PeerId::random(), "/ip6/2a00::2/tcp/1").is_ok());
        net.gate.on_closed(peer, id);
        assert_eq!(net.gate.per_subnet.values().sum::<u32>(), 1, "one /56");
        assert!(!net.gate.per_peer.contains_key(&peer));
    }
}
