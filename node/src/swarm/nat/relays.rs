//! Which relays to be reached through while nobody can dial this node. Knows no network: the caller listens and reports.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::{Multiaddr, PeerId};

use crate::settings::reach::Reachability;

/// Relays used at a time. Source: go-libp2p `autorelay` (`desiredRelays`, 2).
const MAX_USED: usize = 2;
/// Peers that relay, remembered while they are connected.
const MAX_CANDIDATES: usize = 64;
/// First wait before a relay that refused is asked again; doubled each time.
const MIN_BACKOFF: Duration = Duration::from_secs(30);
/// Longest such wait. Source: go-libp2p `autorelay` (`backoff`, 1 h).
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// Relays that this node knows and uses.
#[derive(Debug, Default)]
pub(in crate::swarm) struct Relays {
    /// Named by the operator: then no others are used.
    named: bool,
    known: HashMap<PeerId, Relay>,
    used: HashMap<ListenerId, PeerId>,
    is_wanted: bool,
}

#[derive(Debug)]
struct Relay {
    addr: Multiaddr,
    backoff: Duration,
    due: Instant,
}

impl Relays {
    /// Those that the operator named, if any.
    pub(in crate::swarm) fn new(named: &[(PeerId, Multiaddr)], now: Instant) -> Self {
        let relay = |(peer, addr): &(PeerId, Multiaddr)| (*peer, Relay::new(addr.clone(), now));
        Self { named: !named.is_empty(), known: named.iter().map(relay).collect(), ..Self::default() }
    }

    /// Starts to use relays, or stops, as that asks for: returns the listeners to be removed.
    pub(in crate::swarm) fn on_reachability(&mut self, reachability: Reachability) -> Vec<ListenerId> {
        self.is_wanted = match reachability {
            Reachability::Public => false,
            Reachability::Private => true,
            Reachability::Unknown => self.named,
        };
        if self.is_wanted { Vec::new() } else { self.used.keys().copied().collect() }
    }

    /// A connected peer relays, and anybody can reach it at `addr`.
    pub(in crate::swarm) fn on_found(&mut self, peer: PeerId, addr: Multiaddr, now: Instant) {
        if !self.named && self.known.len() < MAX_CANDIDATES {
            self.known.entry(peer).or_insert_with(|| Relay::new(addr, now));
        }
    }

    /// A peer is not connected any more.
    pub(in crate::swarm) fn on_lost(&mut self, peer: &PeerId) {
        if !self.named {
            self.known.remove(peer);
        }
    }

    /// When [`Relays::due`] is to be called next.
    pub(in crate::swarm) fn next_wake(&self) -> Option<Instant> {
        if !self.is_wanted || self.used.len() >= MAX_USED {
            return None;
        }
        let unused = self.known.iter().filter(|(peer, _)| !self.is_used(peer));
        unused.map(|(_, relay)| relay.due).min()
    }

    /// A relay to listen through now.
    pub(in crate::swarm) fn due(&mut self, now: Instant) -> Option<(PeerId, Multiaddr)> {
        if self.next_wake()? > now {
            return None;
        }
        let due = self.known.iter().filter(|(peer, relay)| relay.due <= now && !self.is_used(peer));
        let peer = *due.min_by_key(|(_, relay)| relay.due)?.0;
        let relay = self.known.get_mut(&peer)?;
        relay.due = now + relay.backoff;
        relay.backoff = (relay.backoff * 2).min(MAX_BACKOFF);
        Some((peer, relay.addr.clone()))
    }

    /// The node asks that relay for a listener.
    pub(in crate::swarm) fn on_started(&mut self, id: ListenerId, peer: PeerId) {
        self.used.insert(id, peer);
    }

    /// A listener has an address: the next loss starts with the shortest wait.
    pub(in crate::swarm) fn on_listening(&mut self, id: ListenerId, now: Instant) {
        if let Some(relay) = self.used.get(&id).and_then(|peer| self.known.get_mut(peer)) {
            (relay.backoff, relay.due) = (MIN_BACKOFF, now);
        }
    }

    /// A listener closed; the relay that it was through, if any.
    pub(in crate::swarm) fn on_closed(&mut self, id: ListenerId, now: Instant) -> Option<PeerId> {
        let peer = self.used.remove(&id)?;
        if let Some(relay) = self.known.get_mut(&peer) {
            relay.due = relay.due.max(now + MIN_BACKOFF);
        }
        Some(peer)
    }

    /// Whether a relay is used, or asked to be.
    pub(in crate::swarm) fn is_used(&self, peer: &PeerId) -> bool {
        self.used.values().any(|used| used == peer)
    }
}

impl Relay {
    fn new(addr: Multiaddr, now: Instant) -> Self {
        Self { addr, backoff: MIN_BACKOFF, due: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr() -> Multiaddr {
        "/ip4/1.2.3.4/tcp/4001".parse().unwrap()
    }

    fn found(count: usize, now: Instant) -> Relays {
        let mut relays = Relays::default();
        (0..count).for_each(|_| relays.on_found(PeerId::random(), addr(), now));
        relays
    }

    #[test]
    fn relays_are_used_while_they_are_wanted_and_not_more_than_two() {
        let now = Instant::now();
        let mut relays = found(3, now);
        for reachability in [Reachability::Unknown, Reachability::Public] {
            relays.on_reachability(reachability);
            assert_eq!((relays.next_wake(), relays.due(now)), (None, None));
        }
        assert!(relays.on_reachability(Reachability::Private).is_empty());
        let ids: Vec<_> = (0..2)
            .map(|_| {
                let (peer, _) = relays.due(now).unwrap();
                let id = ListenerId::next();
                relays.on_started(id, peer);
                id
            })
            .collect();
        assert_eq!((relays.next_wake(), relays.due(now)), (None, None));
        assert!(relays.on_closed(ids[0], now).is_some());
        assert_eq!(relays.on_closed(ids[0], now), None);
        let (third, _) = relays.due(now).expect("another one takes its place");
        relays.on_started(ListenerId::next(), third);
        assert_eq!(relays.on_reachability(Reachability::Public).len(), 2);
        assert_eq!(relays.next_wake(), None);
    }

    #[test]
    fn a_relay_that_refuses_is_asked_again_after_longer_and_longer() {
        let peer = PeerId::random();
        let mut now = Instant::now();
        let mut relays = Relays::new(&[(peer, addr())], now);
        relays.on_reachability(Reachability::Private);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let id = ListenerId::next();
            assert_eq!(relays.due(now), Some((peer, addr())));
            relays.on_started(id, peer);
            assert_eq!(relays.on_closed(id, now), Some(peer));
            let next = relays.next_wake().unwrap();
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        let id = ListenerId::next();
        relays.due(now).unwrap();
        relays.on_started(id, peer);
        relays.on_listening(id, now);
        relays.on_closed(id, now);
        assert_eq!(relays.next_wake(), Some(now + MIN_BACKOFF));
    }

    #[test]
    fn relays_that_the_operator_names_are_the_only_ones() {
        let (named, now) = (PeerId::random(), Instant::now());
        let mut relays = Relays::new(&[(named, addr())], now);
        relays.on_reachability(Reachability::Unknown);
        relays.on_found(PeerId::random(), addr(), now);
        relays.on_lost(&named);
        assert_eq!(relays.due(now), Some((named, addr())));
        assert_eq!(relays.due(now), None);
    }

    #[test]
    fn a_peer_that_left_is_no_relay_and_those_known_are_bounded() {
        let now = Instant::now();
        let mut relays = found(2 * MAX_CANDIDATES, now);
        assert_eq!(relays.known.len(), MAX_CANDIDATES);
        let peers: Vec<_> = relays.known.keys().copied().collect();
        peers.iter().for_each(|peer| relays.on_lost(peer));
        relays.on_reachability(Reachability::Private);
        assert_eq!(relays.due(now), None);
    }
}
