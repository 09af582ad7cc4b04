//! One DHT: libp2p's Kademlia held to the addresses that belong into it.
//!
//! Kademlia itself puts any address into its table, dials any address an answer names, and tells every confirmed
//! address of ours. The public DHT would so learn private addresses and make us dial into networks of others.

use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, Mode};
use libp2p::swarm::behaviour::{ExternalAddrConfirmed, ExternalAddrExpired};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::Table;
use super::address::{Rule, told};
use super::diversity;

/// Largest Kademlia message, in bytes. Source: go-libp2p `network.MessageSizeMax` (4 MiB).
const MAX_PACKET_BYTES: usize = 4 * 1024 * 1024;
/// Peers asked at once by a lookup. Source: go-libp2p-kad-dht `amino` defaults (10).
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(10).unwrap();
/// Longest lookup.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the routing table is refreshed. Source: go-libp2p-kad-dht `amino` defaults (10 min).
const REFRESH_INTERVAL: Duration = Duration::from_secs(600);

/// Which DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The public one.
    Wan,
    /// The one of the local network.
    Lan,
}

/// What a DHT reports.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) scope: Scope,
    pub(super) event: kad::Event,
}

/// A DHT of one scope.
pub(super) struct Dht<R: RecordStore + Send + 'static> {
    scope: Scope,
    rule: Rule,
    local: PeerId,
    kad: kad::Behaviour<R>,
    /// Addresses of ours that the swarm takes as external.
    external: Vec<Multiaddr>,
    /// Those of them that Kademlia was told.
    told: Vec<Multiaddr>,
}

impl<R: RecordStore + Send + 'static> Dht<R> {
    pub(super) fn new(scope: Scope, local: PeerId, protocol: StreamProtocol, records: R) -> Self {
        let rule = Rule::of_protocol(protocol.as_ref());
        let mut config = kad::Config::new(protocol);
        config
            .set_max_packet_size(MAX_PACKET_BYTES)
            .set_parallelism(PARALLELISM)
            .set_query_timeout(QUERY_TIMEOUT)
            .set_periodic_bootstrap_interval(Some(REFRESH_INTERVAL))
            .set_kbucket_inserts(kad::BucketInserts::Manual)
            .set_record_filtering(kad::StoreInserts::FilterBoth)
            .set_caching(kad::Caching::Disabled)
            // Announcing again is a sweep of our own: Kademlia's walks all records at once.
            .set_provider_publication_interval(None)
            .set_publication_interval(None)
            .set_replication_interval(None);
        let mut kad = kad::Behaviour::with_config(local, records, config);
        kad.set_mode(Some(Mode::Client));
        Self { scope, rule, local, kad, external: Vec::new(), told: Vec::new() }
    }

    /// Kademlia itself, for queries.
    pub(super) fn kad(&mut self) -> &mut kad::Behaviour<R> {
        &mut self.kad
    }

    /// The node itself.
    pub(super) fn local(&self) -> PeerId {
        self.local
    }

    /// Which addresses belong into this DHT.
    pub(super) fn rule(&self) -> Rule {
        self.rule
    }

    /// Answers others, or only asks.
    pub(super) fn set_mode(&mut self, mode: Mode) {
        if self.kad.mode() != mode {
            self.kad.set_mode(Some(mode));
        }
    }

    /// Protocols under which others are answered; none in client mode.
    pub(super) fn answered_protocols(&self) -> Vec<String> {
        match self.kad.mode() {
            Mode::Server => self.kad.protocol_names().iter().map(ToString::to_string).collect(),
            Mode::Client => Vec::new(),
        }
    }

    /// Name of its protocol.
    pub(super) fn protocol(&self) -> &str {
        self.kad.protocol_names().first().map_or("", |name| name.as_ref())
    }

    /// Whether the peer's protocols include this DHT's.
    pub(super) fn is_spoken_by(&self, protocols: &[StreamProtocol]) -> bool {
        self.kad.protocol_names().iter().any(|name| protocols.contains(name))
    }

    /// Puts a peer that answers this DHT into the table, under those of its addresses that belong here. The public DHT
    /// takes only a few peers of one network.
    pub(super) fn learn(&mut self, peer: &PeerId, addrs: &[Multiaddr]) {
        let rule = self.rule;
        let mut addrs = addrs.iter().filter(|addr| rule.lets_in(addr)).peekable();
        if addrs.peek().is_none() || (rule == Rule::Public && !self.is_diverse_with(peer, addrs.clone())) {
            return;
        }
        for addr in addrs {
            self.kad.add_address(peer, addr.clone());
        }
    }

    fn is_diverse_with<'a>(&mut self, peer: &PeerId, addrs: impl Iterator<Item = &'a Multiaddr>) -> bool {
        let key = kad::KBucketKey::from(*peer);
        let Some(range) = self.kad.kbucket(*peer).map(|bucket| bucket.range()) else { return false };
        let (mut table, mut is_known) = (Vec::new(), false);
        for bucket in self.kad.kbuckets() {
            let is_same = bucket.range() == range;
            for entry in bucket.iter() {
                is_known |= *entry.node.key == key;
                table.push((diversity::networks(entry.node.value.iter()), is_same));
            }
        }
        is_known || diversity::has_room(&diversity::networks(addrs), table)
    }

    /// The routing table: its protocol, peers and their addresses.
    pub(super) fn table(&mut self) -> Table {
        let protocol = self.protocol().to_owned();
        let mut peers = Vec::new();
        for bucket in self.kad.kbuckets() {
            for entry in bucket.iter() {
                let addrs = entry.node.value.iter().cloned().collect();
                peers.push((*entry.node.key.preimage(), addrs));
            }
        }
        Table { protocol, peers }
    }

    /// Takes a peer out of the table: it does not answer this DHT.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.kad.remove_peer(peer);
    }

    /// Addresses of a peer in the table and in answers to running queries.
    pub(super) fn addrs_of(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        // What Kademlia would dial; asking changes nothing, and answers to queries are kept nowhere else.
        let asked = ConnectionId::new_unchecked(usize::MAX);
        let mut addrs = self
            .handle_pending_outbound_connection(asked, Some(peer), &[], Endpoint::Dialer)
            .unwrap_or_default();
        addrs.sort_unstable();
        addrs.dedup();
        addrs
    }

    /// Takes addresses out of the table that Kademlia put there itself and that do not belong.
    pub(super) fn clean(&mut self, peer: &PeerId, addrs: &kad::Addresses) {
        for addr in addrs.iter().filter(|addr| !self.rule.lets_in(addr)) {
            self.kad.remove_address(peer, addr);
        }
    }

    /// Tells Kademlia our addresses that it may tell.
    fn tell_external(&mut self) {
        let wanted = told(self.rule, &self.external);
        for addr in self.told.iter().filter(|addr| !wanted.contains(addr)) {
            self.kad.on_swarm_event(FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr }));
        }
        for addr in wanted.iter().filter(|addr| !self.told.contains(addr)) {
            self.kad.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }));
        }
        self.told = wanted;
    }
}

impl<R: RecordStore + Send + 'static> NetworkBehaviour for Dht<R> {
    type ConnectionHandler = <kad::Behaviour<R> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addrs: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut addrs = self.kad.handle_pending_outbound_connection(id, peer, addrs, role)?;
        addrs.retain(|addr| self.rule.lets_in(addr));
        Ok(addrs)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(id, peer, addr, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }) => {
                if !self.external.contains(addr) {
                    self.external.push(addr.clone());
                    self.tell_external();
                }
            }
            FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr }) => {
                self.external.retain(|known| known != addr);
                self.tell_external();
            }
            // Kademlia would tell them to everybody who asks for what this node provides.
            FromSwarm::NewListenAddr(_) | FromSwarm::ExpiredListenAddr(_) => {}
            event => self.kad.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.kad.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let scope = self.scope;
        self.kad.poll(cx).map(|action| action.map_out(|event| Event { scope, event }))
    }
}
