//! What the task does when peers, listeners and protocols report.

use std::collections::HashMap;
use std::time::Instant;

use libp2p::core::ConnectedPoint;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, InboundRequest, Mode, ProviderRecord};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, identify, mdns, ping};
use tracing::{debug, info, warn};

use super::Task;
use crate::settings::DhtMode;
use crate::settings::reach::Reachability;
use crate::swarm::Local;
use crate::swarm::address::{self, Reach, Rule};
use crate::swarm::behaviour::Event;
use crate::swarm::book::MAX_ADDRS_PER_PEER;
use crate::swarm::dht::{self, Scope};
use crate::swarm::nat::{self, probe};
use crate::swarm::query::Progress;

/// Longest key of a provider record, in bytes. Source: go-libp2p-kad-dht `handlers.go` (80).
const MAX_RECORD_KEY_BYTES: usize = 80;

impl<R: RecordStore + Send + 'static> Task<R> {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<Event>) {
        match event {
            SwarmEvent::Behaviour(Event::Identify(event)) => self.on_identify(*event),
            SwarmEvent::Behaviour(Event::Ping(event)) => self.on_ping(&event),
            SwarmEvent::Behaviour(Event::Mdns(event)) => self.on_mdns(event),
            SwarmEvent::Behaviour(Event::Dht(event)) => self.on_dht(*event),
            SwarmEvent::Behaviour(Event::Nat(event)) => self.on_nat(event),
            SwarmEvent::ExternalAddrConfirmed { address } => {
                self.findings.on_confirmed(address::without_peer(address));
                self.on_found();
            }
            SwarmEvent::ExternalAddrExpired { address } => {
                self.findings.on_expired(&address::without_peer(address));
                self.on_found();
            }
            SwarmEvent::Behaviour(Event::Nothing) => {}
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.counters.connections_opened_total += 1;
                self.peers.on_opened(peer_id, connection_id, &endpoint);
                self.on_connected(peer_id, endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                debug!(peer = %peer_id, ?cause, "connection closed");
                self.counters.connections_closed_total += 1;
                if self.peers.on_closed(&peer_id, connection_id) {
                    self.keeper.on_disconnected(&peer_id, Instant::now());
                    self.relays.on_lost(&peer_id);
                    self.traffic.forget(&peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                debug!(?peer_id, %error, "dial failed");
                self.counters.outbound_failed_total += 1;
                self.dials.on_failed(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                debug!(addr = %send_back_addr, %error, "inbound connection failed");
                self.counters.inbound_failed_total += 1;
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                info!(addr = %address, "listening");
                self.relays.on_listening(listener_id, Instant::now());
                self.refresh_addresses();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.refresh_addresses(),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                if let Some(relay) = self.relays.on_closed(listener_id, Instant::now()) {
                    self.let_go(relay);
                    debug!(?addresses, ?reason, "not reached through a relay any more");
                } else {
                    warn!(?addresses, ?reason, "listener closed");
                }
                self.refresh_addresses();
            }
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "listener failed"),
            _ => {}
        }
    }

    /// Brings what depends on it in line with whether anybody can dial this node.
    pub(super) fn apply_reachability(&mut self, reachability: Reachability) {
        self.swarm.behaviour_mut().nat().on_reachability(reachability);
        for listener in self.relays.on_reachability(reachability) {
            self.swarm.remove_listener(listener);
        }
        self.set_dht_modes(reachability);
        self.queues.reachability.send_replace(reachability);
    }

    /// Something about the addresses of this node was found out.
    fn on_found(&mut self) {
        let reachability = self.findings.reachability();
        if *self.queues.reachability.borrow() != reachability {
            info!(?reachability, "found out whether this node can be dialled");
            self.apply_reachability(reachability);
        }
        self.refresh_addresses();
    }

    fn on_nat(&mut self, event: nat::Event) {
        match event {
            nat::Event::Probed(probe::Event::Tested(test)) => {
                debug!(addr = %test.tested_addr, server = %test.server, result = ?test.result, "address tested");
                // One that was reached is reported as confirmed besides.
                if test.result.is_err() {
                    self.findings.on_unreachable(&address::without_peer(test.tested_addr));
                    self.on_found();
                }
            }
            nat::Event::Probed(probe::Event::Unanswered) => {
                self.findings.on_unanswered();
                self.on_found();
            }
            nat::Event::Punched(event) => {
                let peer = event.remote_peer_id;
                debug!(%peer, result = ?event.result, "hole punching");
                if event.result.is_ok() {
                    // A relay carries little, and what still went over it would be lost in the middle later.
                    for connection in self.peers.relayed(&peer) {
                        self.swarm.close_connection(connection);
                    }
                }
            }
            nat::Event::Other => {}
        }
    }

    /// Sets how each DHT takes part: the public one answers when anybody can dial this node, others when told to or when
    /// nothing is said.
    fn set_dht_modes(&mut self, reachability: Reachability) {
        let mode = self.dht_mode;
        for dht in self.swarm.behaviour_mut().dhts() {
            let answers = match mode {
                DhtMode::Off | DhtMode::Client => false,
                DhtMode::Server => true,
                DhtMode::Auto => dht.rule() != Rule::Public || reachability == Reachability::Public,
            };
            dht.set_mode(if answers { Mode::Server } else { Mode::Client });
        }
    }

    /// Brings the external addresses in line with the listening ones, and tells handles of both.
    pub(super) fn refresh_addresses(&mut self) {
        // What is listened on through a relay is reported as confirmed, once the relay has agreed.
        let listeners = self.swarm.listeners().filter(|addr| !address::is_relayed(addr));
        let mut listen: Vec<_> = listeners.cloned().collect();
        listen.sort_unstable();
        let mut reached = reachable(&listen);
        reached.extend(self.findings.confirmed().filter(|addr| !listen.contains(addr)).cloned());
        let external = self.announce.apply(reached);
        let known: Vec<_> = self.swarm.external_addresses().cloned().collect();
        for addr in known.iter().filter(|addr| !external.contains(addr)) {
            self.swarm.remove_external_address(addr);
        }
        for addr in external.iter().filter(|addr| !known.contains(addr)) {
            self.swarm.add_external_address(addr.clone());
        }
        let now = Local {
            listen,
            external,
            reached: self.findings.confirmed().filter(|addr| !address::is_relayed(addr)).cloned().collect(),
            unreachable: self.findings.failed().cloned().collect(),
            protocols: self.swarm.behaviour_mut().protocols(self.findings.reachability()),
        };
        self.queues.local.send_if_modified(|local| {
            let is_new = *local != now;
            *local = now;
            is_new
        });
    }

    fn on_connected(&mut self, peer: PeerId, endpoint: ConnectedPoint) {
        if let ConnectedPoint::Dialer { address, .. } = endpoint {
            self.book.add(peer, address);
        }
        self.keeper.on_connected(&peer);
        self.dials.on_connected(&peer);
    }

    fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        let addrs: Vec<_> = info
            .listen_addrs
            .iter()
            .filter(|addr| address::is_dialable(addr))
            .take(MAX_ADDRS_PER_PEER)
            .cloned()
            .collect();
        for addr in &addrs {
            self.book.add(peer_id, addr.clone());
        }
        for dht in self.swarm.behaviour_mut().dhts() {
            if dht.is_spoken_by(&info.protocols) {
                dht.learn(&peer_id, &addrs);
            } else {
                dht.forget(&peer_id);
            }
        }
        if info.protocols.iter().any(|protocol| *protocol == nat::HOP_PROTOCOL) {
            let is_direct = |addr: &&Multiaddr| address::is_public(addr) && !address::is_relayed(addr);
            if let Some(addr) = addrs.iter().find(is_direct) {
                self.relays.on_found(peer_id, addr.clone(), Instant::now());
            }
        }
        self.swarm.behaviour_mut().on_agent(&peer_id, &info.agent_version);
        self.peers.on_identified(&peer_id, info);
    }

    fn on_ping(&mut self, event: &ping::Event) {
        if let Ok(latency) = event.result {
            self.peers.on_ping(&event.peer, latency);
        }
    }

    fn on_mdns(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else { return };
        let mut by_peer: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, addr) in found {
            by_peer.entry(peer).or_default().push(addr);
        }
        for (peer, mut addrs) in by_peer {
            addrs.truncate(MAX_ADDRS_PER_PEER);
            if !self.peers.is_connected(&peer) {
                let dial = self.dial_opts(peer, addrs);
                self.dial(dial);
            }
        }
    }

    fn on_dht(&mut self, dht::Event { scope, event }: dht::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                let Some(dht) = self.swarm.behaviour_mut().dht(scope) else { return };
                self.running.on_progress(dht, (scope, id), Progress { result, stats, is_last: step.last });
            }
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                self.on_provider_record(scope, record);
            }
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { record: Some(record), source, .. },
            } => {
                self.on_value(scope, kad::Record { publisher: Some(source), ..record });
            }
            kad::Event::RoutingUpdated { peer, addresses, .. } => {
                if let Some(dht) = self.swarm.behaviour_mut().dht(scope) {
                    dht.clean(&peer, &addresses);
                }
            }
            kad::Event::ModeChanged { .. }
            | kad::Event::InboundRequest { .. }
            | kad::Event::UnroutablePeer { .. }
            | kad::Event::RoutablePeer { .. }
            | kad::Event::PendingRoutablePeer { .. } => {}
        }
    }

    /// Keeps what another peer wants kept, if the store of records takes it.
    fn on_value(&mut self, scope: Scope, record: kad::Record) {
        let Some(dht) = self.swarm.behaviour_mut().dht(scope) else { return };
        if dht.kad().store_mut().put(record).is_ok() {
            self.counters.records_stored_total += 1;
        } else {
            self.counters.records_refused_total += 1;
        }
    }

    /// Stores what another peer announced, if it is a record that belongs into the DHT.
    fn on_provider_record(&mut self, scope: Scope, mut record: ProviderRecord) {
        let Some(dht) = self.swarm.behaviour_mut().dht(scope) else { return };
        let rule = dht.rule();
        record.addresses.retain(|addr| rule.takes(addr));
        record.addresses.truncate(MAX_ADDRS_PER_PEER);
        if is_record_key(record.key.as_ref()) && dht.kad().store_mut().add_provider(record).is_ok() {
            self.counters.records_stored_total += 1;
        } else {
            self.counters.records_refused_total += 1;
        }
    }
}

/// Whether provider records may stand under this key: a multihash of a sane length.
fn is_record_key(key: &[u8]) -> bool {
    key.len() <= MAX_RECORD_KEY_BYTES && cairn_proto::cid::Multihash::from_bytes(key).is_ok()
}

/// The listening addresses that others may reach: public and private ones, or this machine's when there is nothing else.
fn reachable(listen: &[Multiaddr]) -> Vec<Multiaddr> {
    let beyond_host: Vec<_> =
        listen.iter().filter(|addr| address::reach(addr) != Reach::Host).cloned().collect();
    if beyond_host.is_empty() { listen.to_vec() } else { beyond_host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_only_when_there_is_nothing_else() {
        let addrs =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Multiaddr>>();
        let all = addrs(&["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1"]);
        assert_eq!(reachable(&all), all[1..]);
        assert_eq!(reachable(&all[..1]), all[..1]);
    }

    #[test]
    fn record_keys_are_multihashes_of_at_most_80_bytes() {
        let key = |len: usize| cairn_proto::cid::Multihash::wrap(0x12, &vec![1; len]).unwrap().to_bytes();
        assert_eq!(key(78).len(), MAX_RECORD_KEY_BYTES);
        assert!(is_record_key(&key(78)));
        assert!(!is_record_key(&key(79)));
        assert!(!is_record_key(b"/ipns/x"));
    }
}
