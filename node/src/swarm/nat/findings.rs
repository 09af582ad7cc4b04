//! What is known of how this node is reached. Knows no network: events in, an answer out.

use std::collections::BTreeSet;

use libp2p::Multiaddr;

use crate::settings::reach::Reachability;
use crate::swarm::address;

/// Addresses confirmed by others or by the router.
const MAX_CONFIRMED: usize = 64;

/// What was found out.
#[derive(Debug, Default)]
pub(in crate::swarm) struct Findings {
    forced: Option<Reachability>,
    /// The operator named a public address.
    is_named_public: bool,
    confirmed: BTreeSet<Multiaddr>,
    /// Addresses that were dialled in vain, bounded by how many are tested.
    failed: BTreeSet<Multiaddr>,
    is_unanswered: bool,
}

impl Findings {
    pub(in crate::swarm) fn new(forced: Option<Reachability>, named: &[Multiaddr]) -> Self {
        let is_named_public = named.iter().any(is_direct);
        Self { forced, is_named_public, ..Self::default() }
    }

    /// An address that others reach this node at.
    pub(in crate::swarm) fn on_confirmed(&mut self, addr: Multiaddr) {
        self.failed.remove(&addr);
        if self.confirmed.len() < MAX_CONFIRMED {
            self.confirmed.insert(addr);
        }
    }

    /// An address that others reach this node at no longer, or not at all.
    pub(in crate::swarm) fn on_expired(&mut self, addr: &Multiaddr) {
        self.confirmed.remove(addr);
    }

    /// A peer dialled an address in vain.
    pub(in crate::swarm) fn on_unreachable(&mut self, addr: &Multiaddr) {
        self.on_expired(addr);
        self.failed.insert(addr.clone());
    }

    /// Peers who were asked to dial this node do not answer.
    pub(in crate::swarm) fn on_unanswered(&mut self) {
        self.is_unanswered = true;
    }

    /// Addresses beside the listening ones.
    pub(in crate::swarm) fn confirmed(&self) -> impl Iterator<Item = &Multiaddr> {
        self.confirmed.iter()
    }

    /// Addresses that were dialled in vain.
    pub(in crate::swarm) fn failed(&self) -> impl Iterator<Item = &Multiaddr> {
        self.failed.iter()
    }

    /// Whether anybody can dial this node.
    pub(in crate::swarm) fn reachability(&self) -> Reachability {
        let is_public = self.is_named_public || self.confirmed.iter().any(is_direct);
        match self.forced {
            Some(forced) => forced,
            None if is_public => Reachability::Public,
            None if self.is_unanswered || !self.failed.is_empty() => Reachability::Private,
            None => Reachability::Unknown,
        }
    }
}

/// Whether anybody may dial an address without a relay.
fn is_direct(addr: &Multiaddr) -> bool {
    address::is_public(addr) && !address::is_relayed(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_is_public_once_an_address_was_dialled_and_private_once_one_was_in_vain() {
        let mut findings = Findings::default();
        let (first, second) = (addr("/ip4/1.2.3.4/tcp/1"), addr("/ip4/1.2.3.4/udp/1/quic-v1"));
        assert_eq!(findings.reachability(), Reachability::Unknown);
        findings.on_unreachable(&first);
        assert_eq!(findings.reachability(), Reachability::Private);
        findings.on_confirmed(second.clone());
        assert_eq!(findings.reachability(), Reachability::Public);
        findings.on_unreachable(&first);
        assert_eq!(findings.reachability(), Reachability::Public);
        findings.on_expired(&second);
        assert_eq!(findings.reachability(), Reachability::Private);
    }

    #[test]
    fn an_address_at_a_relay_or_in_a_private_network_makes_no_node_public() {
        let relay = libp2p::PeerId::random();
        let mut findings = Findings::new(None, &[addr("/ip4/10.0.0.1/tcp/1")]);
        findings.on_confirmed(addr(&format!("/ip4/1.2.3.4/tcp/1/p2p/{relay}/p2p-circuit")));
        assert_eq!(findings.reachability(), Reachability::Unknown);
        assert_eq!(findings.confirmed().count(), 1);
    }

    #[test]
    fn what_the_operator_says_goes_before_what_peers_find() {
        let named = Findings::new(None, &[addr("/dns4/example.org/tcp/4001")]);
        assert_eq!(named.reachability(), Reachability::Public);
        let mut forced = Findings::new(Some(Reachability::Private), &[addr("/ip4/1.2.3.4/tcp/1")]);
        forced.on_confirmed(addr("/ip4/1.2.3.4/tcp/1"));
        assert_eq!(forced.reachability(), Reachability::Private);
    }
}
