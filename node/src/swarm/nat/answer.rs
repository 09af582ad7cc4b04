//! Dials peers who ask whether they can be dialled (the server of AutoNAT v2).
//!
//! libp2p's server dials any address that it is asked for, as often as it is asked, and never closes these connections.
//! Here only public addresses are dialled, for a bounded number of peers, and each connection ends with its test.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use libp2p::autonat::v2::server;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::settings::reach::Throttle;
use crate::swarm::address;

/// Longest attempt to dial a peer for a test. Routers drop what they do not expect, and whoever asks waits for ten seconds.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Tests public addresses of others.
pub(in crate::swarm) struct Answer {
    server: server::Behaviour,
    budget: Budget,
    dials: HashMap<ConnectionId, (PeerId, Dial)>,
    timeouts: FuturesUnordered<BoxFuture<'static, ConnectionId>>,
    closing: VecDeque<(PeerId, ConnectionId)>,
}

/// A connection made for a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dial {
    Pending,
    /// Not waited for any more.
    GivenUp,
    Open,
}

/// Why an address is not dialled.
#[derive(Debug, thiserror::Error)]
#[error("no address that is dialled for a test")]
struct NotTested;

impl Answer {
    pub(super) fn new(throttle: Throttle) -> Self {
        Self {
            server: server::Behaviour::default(),
            budget: Budget::new(throttle, Instant::now()),
            dials: HashMap::new(),
            timeouts: FuturesUnordered::new(),
            closing: VecDeque::new(),
        }
    }

    fn on_dial(&mut self, id: ConnectionId, peer: PeerId) {
        self.dials.insert(id, (peer, Dial::Pending));
        let timeout = tokio::time::sleep(DIAL_TIMEOUT);
        self.timeouts.push(timeout.map(move |()| id).boxed());
    }

    fn on_timeout(&mut self, id: ConnectionId) {
        let Some((peer, dial @ Dial::Pending)) = self.dials.get_mut(&id) else { return };
        *dial = Dial::GivenUp;
        let failure = DialFailure { peer_id: Some(*peer), error: &DialError::Aborted, connection_id: id };
        self.server.on_swarm_event(FromSwarm::DialFailure(failure));
    }

    fn on_established(&mut self, id: ConnectionId) {
        match self.dials.get_mut(&id) {
            Some((peer, Dial::GivenUp)) => self.closing.push_back((*peer, id)),
            Some((_, dial)) => *dial = Dial::Open,
            None => {}
        }
    }

    /// The test of a peer is over.
    fn on_tested(&mut self, client: PeerId) {
        let over = self.dials.extract_if(|_, dial| *dial == (client, Dial::Open));
        self.closing.extend(over.map(|(id, (peer, _))| (peer, id)));
    }
}

impl NetworkBehaviour for Answer {
    type ConnectionHandler = <server::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.server.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _peer: Option<PeerId>,
        addrs: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let is_tested =
            |addr| address::is_public(addr) && !address::is_relayed(addr) && address::is_dialable(addr);
        if self.dials.contains_key(&id) && !addrs.iter().all(is_tested) {
            return Err(ConnectionDenied::new(NotTested));
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.server.handle_established_outbound_connection(id, peer, addr, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { connection_id, .. }) => {
                self.on_established(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.dials.remove(&connection_id);
            }
            _ => {}
        }
        self.server.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        // A peer asks for a dial. Dropped, it is answered with an internal error, which says nothing of its address.
        if matches!(event, Either::Right(Either::Left(_))) && !self.budget.takes(peer, Instant::now()) {
            return;
        }
        self.server.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some((peer_id, id)) = self.closing.pop_front() {
                return Poll::Ready(ToSwarm::CloseConnection {
                    peer_id,
                    connection: CloseConnection::One(id),
                });
            }
            if let Poll::Ready(Some(id)) = self.timeouts.poll_next_unpin(cx) {
                self.on_timeout(id);
                continue;
            }
            let Poll::Ready(action) = self.server.poll(cx) else { return Poll::Pending };
            match action {
                ToSwarm::GenerateEvent(event) => self.on_tested(event.client),
                ToSwarm::Dial { opts } => {
                    if let Some(peer) = opts.get_peer_id() {
                        self.on_dial(opts.connection_id(), peer);
                    }
                    return Poll::Ready(ToSwarm::Dial { opts });
                }
                action => return Poll::Ready(action.map_out(|_| unreachable!("events are taken out above"))),
            }
        }
    }
}

/// How many tests are left.
struct Budget {
    throttle: Throttle,
    since: Instant,
    count: u32,
    per_peer: HashMap<PeerId, u32>,
}

impl Budget {
    fn new(throttle: Throttle, now: Instant) -> Self {
        Self { throttle, since: now, count: 0, per_peer: HashMap::new() }
    }

    /// Takes one test of a peer out, if there is one left.
    fn takes(&mut self, peer: PeerId, now: Instant) -> bool {
        if now.duration_since(self.since) >= self.throttle.interval {
            *self = Self::new(self.throttle, now);
        }
        if self.count >= self.throttle.max_count {
            return false;
        }
        let of_peer = self.per_peer.entry(peer).or_default();
        if *of_peer >= self.throttle.max_per_peer {
            return false;
        }
        *of_peer += 1;
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_bounded_for_each_peer_and_in_all_until_the_interval_is_over() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let mut budget = Budget::new(throttle, start);
        let peer = PeerId::random();
        let taken = |budget: &mut Budget, peer, now| (0..10).filter(|_| budget.takes(peer, now)).count();
        assert_eq!(taken(&mut budget, peer, start), 3);
        let others: usize = (0..20).map(|_| taken(&mut budget, PeerId::random(), start)).sum();
        assert_eq!(others, 27);
        let before = start + Duration::from_secs(60) - Duration::from_millis(1);
        assert!(!budget.takes(PeerId::random(), before));
        assert!(budget.takes(peer, start + Duration::from_secs(60)));
    }
}
