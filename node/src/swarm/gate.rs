//! Who may connect, and which idle connections stay.
//!
//! libp2p sets no limits by itself. Its own limiting behaviour keeps an entry for every peer ever seen and cannot refuse
//! by network address, hence this one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::Future as _;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::behaviour::{ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent,
    ConnectionId, FromSwarm, NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Sleep;

use super::address;
use super::filters::Filters;
use super::traffic::Traffic;
use super::trim::{self, Open};
use crate::settings::ConnectionSettings;
use crate::settings::addresses::leading_ip;

/// Connections of one peer, for when both sides dial at once over both transports.
const MAX_PER_PEER: u32 = 4;
/// Inbound connections in their handshake.
const MAX_PENDING_INBOUND: u32 = 128;
/// Outbound connections in their handshake; lookups dial ten peers at a time.
const MAX_PENDING_OUTBOUND: u32 = 256;
/// Connections that we may open above the count at which inbound ones are refused: half as many.
const OUTBOUND_SHARE: u32 = 2;
/// Inbound connections from one public IPv4 address or IPv6 /56.
///
/// Source: go-libp2p `rcmgr` `conn_limiter.go` (8 for each).
const MAX_PER_SUBNET: u32 = 8;

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

/// Counts connections, refuses those over a limit, ends some when there are too many, and tells handlers whether idle ones
/// stay.
pub(super) struct Gate {
    settings: ConnectionSettings,
    traffic: Traffic,
    /// Where nobody is let in from.
    refused: Filters,
    pending_inbound: HashMap<ConnectionId, Option<Subnet>>,
    pending_outbound: HashSet<ConnectionId>,
    open: HashMap<ConnectionId, (Open, Option<Subnet>)>,
    per_peer: HashMap<PeerId, u32>,
    /// Inbound connections, pending ones included.
    per_subnet: HashMap<Subnet, u32>,
    /// Connections at which inbound ones may be closed when idle, shared with every handler.
    idle: Arc<Idle>,
    /// When there were too many, and some may be old enough to end.
    trim: Option<Pin<Box<Sleep>>>,
    closing: VecDeque<(PeerId, ConnectionId)>,
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
    pub(super) fn new(
        settings: ConnectionSettings,
        refused: Filters,
        kept: HashSet<PeerId>,
        traffic: Traffic,
    ) -> Self {
        let low_water = settings.marks.map_or(u32::MAX, |marks| marks.low);
        Self {
            settings,
            traffic,
            refused,
            pending_inbound: HashMap::new(),
            pending_outbound: HashSet::new(),
            open: HashMap::new(),
            per_peer: HashMap::new(),
            per_subnet: HashMap::new(),
            idle: Arc::new(Idle { open_count: AtomicU32::new(0), low_water, kept: RwLock::new(kept) }),
            trim: None,
            closing: VecDeque::new(),
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
        below(self.open_count(), self.settings.max_count, "in all")?;
        below(of_subnet, MAX_PER_SUBNET, "from one network address")?;
        below(count(self.pending_inbound.len()), MAX_PENDING_INBOUND, "in their handshake")
    }

    fn check_peer(&self, peer: &PeerId) -> Result<(), Refused> {
        below(self.per_peer.get(peer).copied().unwrap_or(0), MAX_PER_PEER, "with this peer")
    }

    fn handler(&self, peer: &PeerId) -> Handler {
        Handler { idle: Arc::clone(&self.idle), peer: *peer }
    }

    fn on_opened(&mut self, peer: PeerId, id: ConnectionId, now: Instant) {
        self.pending_outbound.remove(&id);
        let pending = self.pending_inbound.remove(&id);
        let open = Open { id, peer, since: now, is_inbound: pending.is_some(), rate: 0.0 };
        self.open.insert(id, (open, pending.flatten()));
        *self.per_peer.entry(peer).or_default() += 1;
        self.idle.open_count.store(self.open_count(), Ordering::Relaxed);
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId) {
        let subnet = self.open.remove(&id).and_then(|(_, subnet)| subnet);
        release(&mut self.per_peer, peer);
        self.release_subnet(subnet);
        self.idle.open_count.store(self.open_count(), Ordering::Relaxed);
    }

    /// Connections to close now, if there are too many.
    fn surplus(&self, now: Instant) -> Vec<Open> {
        let Some(marks) = &self.settings.marks else { return Vec::new() };
        let may_end = self.open.values().filter(|(open, _)| !self.idle.is_kept(&open.peer));
        let with_rates = may_end.map(|(open, _)| {
            let rate =
                self.traffic.of_peer(&open.peer).map_or(0.0, |flow| flow.received_rate + flow.sent_rate);
            Open { rate, ..*open }
        });
        trim::surplus(marks, self.open_count(), with_rates.collect(), now)
    }

    /// Waits for connections to be old enough to end, while there are too many.
    fn poll_trim(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(marks) = self.settings.marks else { return Poll::Pending };
        loop {
            if let Some(timer) = &mut self.trim {
                ready!(timer.as_mut().poll(cx));
                self.trim = None;
                let surplus = self.surplus(Instant::now());
                self.closing.extend(surplus.iter().map(|open| (open.peer, open.id)));
                return Poll::Ready(());
            }
            if self.open_count() <= marks.high {
                return Poll::Pending;
            }
            self.trim = Some(Box::pin(tokio::time::sleep(trim::pause(&marks))));
        }
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

/// Connections above which we open none, where inbound ones are refused above `max_count`.
pub(super) fn max_outbound_count(max_count: u32) -> u32 {
    max_count.saturating_add(max_count / OUTBOUND_SHARE)
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
        if self.refused.refuse(remote) {
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
        below(self.open_count(), self.settings.max_count, "in all").map_err(ConnectionDenied::new)?;
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
        below(self.open_count(), max_outbound_count(self.settings.max_count), "in all")
            .map_err(ConnectionDenied::new)?;
        self.check_peer(&peer).map_err(ConnectionDenied::new)?;
        Ok(self.handler(&peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.on_opened(peer_id, connection_id, Instant::now());
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some((peer_id, id)) = self.closing.pop_front() {
                return Poll::Ready(ToSwarm::CloseConnection {
                    peer_id,
                    connection: CloseConnection::One(id),
                });
            }
            ready!(self.poll_trim(cx));
        }
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
    use std::time::Duration;

    use super::*;
    use crate::settings::{BandwidthLimits, ConnectionMarks};

    struct Net {
        gate: Gate,
        next: usize,
    }

    impl Net {
        fn new(max_count: u32) -> Self {
            let marks = ConnectionMarks { low: 4, high: 6, grace: Duration::from_secs(20) };
            let settings = ConnectionSettings { max_count, marks: Some(marks) };
            let traffic = Traffic::new(BandwidthLimits::default());
            Self { gate: Gate::new(settings, Filters::default(), HashSet::new(), traffic), next: 0 }
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
                Ok(_) => self.gate.on_opened(peer, id, Instant::now()),
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
        assert!(stranger.connection_keep_alive(), "up to the low mark");
        net.inbound(friend, "/ip4/10.0.0.1/tcp/1").unwrap();
        assert!(!stranger.connection_keep_alive());
        let handler = net.gate.handler(&friend);
        net.gate.keep(friend, true);
        assert!(handler.connection_keep_alive());
        net.gate.keep(friend, false);
        assert!(!handler.connection_keep_alive());
    }

    #[test]
    fn too_many_connections_are_trimmed_but_not_those_of_kept_peers() {
        let friend = PeerId::random();
        let mut net = Net::new(100);
        net.gate.keep(friend, true);
        net.inbound(friend, "/ip4/10.0.0.1/tcp/1").unwrap();
        for _ in 0..5 {
            net.inbound(PeerId::random(), "/ip4/10.0.0.1/tcp/1").unwrap();
        }
        let later = Instant::now() + Duration::from_secs(20);
        assert!(net.gate.surplus(later).is_empty());
        net.inbound(PeerId::random(), "/ip4/10.0.0.1/tcp/1").unwrap();
        assert!(net.gate.surplus(Instant::now()).is_empty(), "within the grace period");
        let surplus = net.gate.surplus(Instant::now() + Duration::from_secs(20));
        assert_eq!(surplus.len(), 3);
        assert!(surplus.iter().all(|open| open.peer != friend));
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
