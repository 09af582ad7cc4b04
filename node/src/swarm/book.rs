//! Addresses of peers met lately, bounded.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};

use super::address;

/// Peers in each of the two generations.
const MAX_GENERATION_PEERS: usize = 1024;
/// Addresses kept for one peer, the latest.
pub(super) const MAX_ADDRS_PER_PEER: usize = 16;

/// The addresses of the peers used last: between one and two generations of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    young: HashMap<PeerId, Vec<Multiaddr>>,
    old: HashMap<PeerId, Vec<Multiaddr>>,
}

impl Book {
    /// Remembers an address of a peer, without the peer ID behind it.
    pub(super) fn add(&mut self, peer: PeerId, addr: Multiaddr) {
        let addr = address::without_peer(addr);
        if !self.young.contains_key(&peer) {
            self.make_room();
        }
        let old = &mut self.old;
        let addrs = self.young.entry(peer).or_insert_with(|| old.remove(&peer).unwrap_or_default());
        if addrs.contains(&addr) {
            return;
        }
        if addrs.len() == MAX_ADDRS_PER_PEER {
            addrs.remove(0);
        }
        addrs.push(addr);
    }

    /// Addresses of a peer, oldest first.
    pub(super) fn get(&self, peer: &PeerId) -> &[Multiaddr] {
        self.young.get(peer).or_else(|| self.old.get(peer)).map_or(&[], Vec::as_slice)
    }

    /// Every peer and its addresses.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Vec<Multiaddr>)> {
        self.young.iter().chain(&self.old)
    }

    fn make_room(&mut self) {
        if self.young.len() == MAX_GENERATION_PEERS {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: usize) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn addresses_of_one_peer_are_bounded_and_the_latest_stay() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        (1..=MAX_ADDRS_PER_PEER).for_each(|port| book.add(peer, addr(port)));
        assert_eq!((book.get(&peer).len(), &book.get(&peer)[0]), (MAX_ADDRS_PER_PEER, &addr(1)));
        book.add(peer, addr(9999));
        assert_eq!((book.get(&peer).len(), &book.get(&peer)[0]), (MAX_ADDRS_PER_PEER, &addr(2)));
    }

    #[test]
    fn peers_are_bounded_and_the_used_ones_stay() {
        let (mut book, friend) = (Book::default(), PeerId::random());
        book.add(friend, addr(1));
        for _ in 0..10 {
            (0..MAX_GENERATION_PEERS - 1).for_each(|_| book.add(PeerId::random(), addr(1)));
            book.add(friend, addr(1));
        }
        assert_eq!(book.get(&friend), [addr(1)]);
        assert!(book.iter().count() <= 2 * MAX_GENERATION_PEERS);
    }

    #[test]
    fn an_address_is_kept_once_without_its_peer_id() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.add(peer, addr(1));
        book.add(peer, addr(1).with_p2p(peer).unwrap());
        assert_eq!(book.get(&peer), [addr(1)]);
    }
}
