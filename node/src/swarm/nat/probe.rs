//! Asks peers to dial addresses of ours (the client of AutoNAT v2).
//!
//! libp2p's client has every address tested that any peer claims to have seen us at, private ones too, and keeps them all.
//! Here only a few public ones get that far. It also never tests an address again that was dialled in vain, and cannot be
//! told to: here it is replaced by a new one from time to time, while there are such addresses.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::autonat::v2::client;
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{
    ConnectionClosed, ConnectionEstablished, NewExternalAddrCandidate, NewListenAddr,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Sleep;

use crate::swarm::address;

/// Addresses tested in the life of a node. Behind a router without a fixed port each connection shows another one.
const MAX_CANDIDATES: usize = 64;

/// Time of asking without an answer that says as much as a test that failed: a peer may wait for a router that drops what
/// it does not expect for longer than libp2p's client waits for the peer.
const MAX_UNANSWERED: Duration = Duration::from_secs(30);

/// Tests asked for in a row without an answer, before peers are left alone until there is another address. Some refuse to
/// test an address, and libp2p's client asks again every five seconds.
const MAX_ASKED: u32 = 60;

/// How long after a test an address is tested again that nobody has reached since.
///
/// Source: go-libp2p `p2p/host/basic/addrs_reachability_tracker.go` (1 h once a result is certain).
const RETEST_INTERVAL: Duration = Duration::from_secs(3600);

/// What a test says.
#[derive(Debug)]
pub(in crate::swarm) enum Event {
    /// A peer dialled an address, or tried to.
    Tested(client::Event),
    /// Peers were asked and do not answer.
    Unanswered,
}

/// Tests public addresses.
#[derive(Default)]
pub(in crate::swarm) struct Probe {
    client: client::Behaviour,
    candidates: HashSet<Multiaddr>,
    /// Those of them that nobody reached.
    unreached: HashSet<Multiaddr>,
    /// When these are tested again.
    retest: Option<Pin<Box<Sleep>>>,
    /// Open connections, of which a new client has to know.
    connections: HashMap<ConnectionId, (PeerId, ConnectedPoint)>,
    /// Since when peers are asked in vain.
    unanswered_since: Option<Instant>,
    /// That is too long, and nobody was told.
    is_unanswered: bool,
    /// Tests asked for since the last answer.
    asked_count: u32,
}

impl Probe {
    /// The node may be reached there.
    fn on_candidate(&mut self, addr: &Multiaddr) {
        if self.takes(addr) {
            self.asked_count = 0;
            self.unreached.insert(addr.clone());
            let candidate = NewExternalAddrCandidate { addr };
            self.client.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
        }
    }

    /// An address was dialled.
    fn on_tested(&mut self, test: &client::Event) {
        (self.unanswered_since, self.asked_count) = (None, 0);
        if test.result.is_ok() {
            self.unreached.remove(&test.tested_addr);
        }
    }

    /// Has everything tested again that nobody reached, when it is time. Peers are asked that are met from then on: only once
    /// does a connection tell that its peer tests addresses.
    fn poll_retest(&mut self, cx: &mut Context<'_>) {
        if self.unreached.is_empty() {
            return;
        }
        let timer = self.retest.get_or_insert_with(|| Box::pin(tokio::time::sleep(RETEST_INTERVAL)));
        if timer.as_mut().poll(cx).is_pending() {
            return;
        }
        timer.as_mut().reset(tokio::time::Instant::now() + RETEST_INTERVAL);
        // It counts only once it is polled again.
        cx.waker().wake_by_ref();
        self.client = client::Behaviour::default();
        for (id, (peer_id, endpoint)) in &self.connections {
            self.client.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: *peer_id,
                connection_id: *id,
                endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
        for addr in &self.unreached {
            let candidate = NewExternalAddrCandidate { addr };
            self.client.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
        }
        (self.unanswered_since, self.asked_count) = (None, 0);
    }

    /// A test is about to be asked for; whether it is.
    fn asks(&mut self, now: Instant) -> bool {
        self.asked_count = self.asked_count.saturating_add(1);
        let since = *self.unanswered_since.get_or_insert(now);
        if now.duration_since(since) >= MAX_UNANSWERED {
            self.unanswered_since = None;
            self.is_unanswered = true;
        }
        self.asked_count <= MAX_ASKED
    }

    /// Whether an address is worth a test.
    fn takes(&mut self, addr: &Multiaddr) -> bool {
        let is_worth_it =
            address::is_public(addr) && !address::is_relayed(addr) && address::is_dialable(addr);
        is_worth_it && self.candidates.len() < MAX_CANDIDATES && self.candidates.insert(addr.clone())
    }
}

impl NetworkBehaviour for Probe {
    type ConnectionHandler = <client::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_outbound_connection(id, peer, addr, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            // Peers that see the node at an address that it tells anyway are not heard of.
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. }) => self.on_candidate(addr),
            FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }) => self.on_candidate(addr),
            event => {
                match &event {
                    FromSwarm::ConnectionEstablished(ConnectionEstablished {
                        peer_id,
                        connection_id,
                        endpoint,
                        ..
                    }) => drop(self.connections.insert(*connection_id, (*peer_id, (*endpoint).clone()))),
                    FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                        self.connections.remove(connection_id);
                    }
                    _ => {}
                }
                self.client.on_swarm_event(event);
            }
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.client.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.poll_retest(cx);
        loop {
            if std::mem::take(&mut self.is_unanswered) {
                return Poll::Ready(ToSwarm::GenerateEvent(Event::Unanswered));
            }
            let Poll::Ready(action) = self.client.poll(cx) else { return Poll::Pending };
            match &action {
                ToSwarm::GenerateEvent(test) => self.on_tested(test),
                // What is not asked stays pending there, and is not asked again.
                ToSwarm::NotifyHandler { .. } if !self.asks(Instant::now()) => continue,
                _ => {}
            }
            return Poll::Ready(action.map_out(Event::Tested));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_that_can_be_dialled_are_tested_each_once_and_not_without_end() {
        let mut probe = Probe::default();
        let peer = PeerId::random();
        for addr in [
            "/ip4/192.168.1.2/tcp/4001".to_owned(),
            "/ip4/127.0.0.1/udp/4001/quic-v1".to_owned(),
            format!("/ip4/1.2.3.4/tcp/4001/p2p/{peer}/p2p-circuit"),
            "/ip4/1.2.3.4/udp/4001".to_owned(),
        ] {
            assert!(!probe.takes(&addr.parse().unwrap()), "{addr}");
        }
        let public = |port: usize| format!("/ip4/1.2.3.4/tcp/{port}").parse().unwrap();
        for port in 1..=MAX_CANDIDATES {
            assert!(probe.takes(&public(port)), "{port}");
            assert!(!probe.takes(&public(port)), "{port} again");
        }
        assert!(!probe.takes(&public(MAX_CANDIDATES + 1)));
    }

    #[test]
    fn peers_that_do_not_answer_for_long_are_reported_once() {
        let (mut probe, start) = (Probe::default(), Instant::now());
        probe.asks(start);
        probe.asks(start + MAX_UNANSWERED - Duration::from_millis(1));
        assert!(!probe.is_unanswered);
        probe.asks(start + MAX_UNANSWERED);
        assert!(probe.is_unanswered);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_nobody_reached_are_tested_again_after_a_while_and_peers_asked_anew() {
        let (mut probe, peer, id) = (Probe::default(), PeerId::random(), ConnectionId::new_unchecked(1));
        let addr: Multiaddr = "/ip4/1.2.3.4/tcp/4001".parse().unwrap();
        let endpoint = ConnectedPoint::Dialer {
            address: "/ip4/5.6.7.8/tcp/4001".parse().unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        probe.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: id,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
        probe.on_candidate(&addr);
        while probe.asks(Instant::now()) {}
        let look = |probe: &mut Probe| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(probe.poll(&mut cx).is_pending());
            probe.asked_count
        };
        assert!(look(&mut probe) > MAX_ASKED);
        tokio::time::advance(RETEST_INTERVAL - Duration::from_secs(1)).await;
        assert!(look(&mut probe) > MAX_ASKED);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(look(&mut probe), 0);
        // The new client knows the connection, or it would say that this cannot be.
        probe.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: peer,
            connection_id: id,
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        }));
        assert!(probe.connections.is_empty());
    }

    #[test]
    fn peers_that_do_not_answer_are_left_alone_until_there_is_another_address() {
        let (mut probe, now) = (Probe::default(), Instant::now());
        assert_eq!((0..2 * MAX_ASKED).filter(|_| probe.asks(now)).count(), MAX_ASKED as usize);
        probe.on_candidate(&"/ip4/1.2.3.4/tcp/4001".parse().unwrap());
        assert!(probe.asks(now));
    }
}
