//! The behaviour: which peers are connected, told to the exchange without ever waiting for it.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::{Endpoint, transport::PortUse};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::handler::{Attach, Handler, Offer};
use super::link::{Changes, Link, OPEN_QUEUE, Shared, Wire};

/// The name by which a node of this program goes.
const KIN: &str = "cairn";

/// Negotiates Bitswap's streams and hands them out; see the [module](super) for how it is wired.
#[derive(Debug)]
pub struct Behaviour {
    offer: Offer,
    peers: HashMap<PeerId, Arc<Shared>>,
    changes: Arc<Changes>,
    attaching: VecDeque<(PeerId, ConnectionId, Attach)>,
}

/// A behaviour for the swarm, and its other end for the exchange.
pub fn new() -> (Behaviour, Wire) {
    let changes = Arc::<Changes>::default();
    let wire = Wire { changes: Arc::clone(&changes) };
    (Behaviour { offer: Offer::ALL, peers: HashMap::new(), changes, attaching: VecDeque::new() }, wire)
}

/// The same, knowing no later version than that.
#[cfg(test)]
pub(crate) fn up_to(version: cairn_proto::bitswap::message::Version) -> (Behaviour, Wire) {
    let (behaviour, wire) = new();
    (Behaviour { offer: Offer::up_to(version), ..behaviour }, wire)
}

impl Behaviour {
    /// Takes in the name of the program that a peer runs.
    pub fn on_agent(&self, peer: &PeerId, agent: &str) {
        if let Some(shared) = self.peers.get(peer) {
            shared.set_kin(agent.split('/').next() == Some(KIN));
        }
    }

    fn on_established(&mut self, event: ConnectionEstablished<'_>) {
        let ConnectionEstablished { peer_id: peer, connection_id, endpoint, .. } = event;
        let (requests_tx, requests) = mpsc::channel(OPEN_QUEUE);
        let mut announced = None;
        let shared = self.peers.entry(peer).or_insert_with(|| {
            let (link, shared) = Link::new(peer, endpoint.get_remote_address());
            announced = Some(link);
            shared
        });
        shared.attach(connection_id, requests_tx);
        self.attaching.push_back((peer, connection_id, Attach { shared: Arc::clone(shared), requests }));
        // Last, since whoever hears of the link may use it at once.
        if let Some(link) = announced {
            self.changes.connected(link);
        }
    }

    fn on_closed(&mut self, event: ConnectionClosed<'_>) {
        let ConnectionClosed { peer_id: peer, connection_id, remaining_established, .. } = event;
        if let Some(shared) = self.peers.get(&peer) {
            shared.detach(connection_id);
        }
        if remaining_established == 0 && self.peers.remove(&peer).is_some() {
            self.changes.disconnected(peer);
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.offer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.offer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => self.on_established(event),
            FromSwarm::ConnectionClosed(event) => self.on_closed(event),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Filled only by `on_swarm_event`, after which the swarm polls again: no waker is needed.
        match self.attaching.pop_front() {
            Some((peer_id, connection, event)) => Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event,
            }),
            None => Poll::Pending,
        }
    }
}
