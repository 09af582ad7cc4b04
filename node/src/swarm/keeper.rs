//! When to dial the peers to stay connected to and the peers to start from.

use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::{Error, Kind};

/// First wait before a peer is dialled again; doubled each time.
///
/// Source: boxo `peering` (5 s to 10 min).
pub(super) const MIN_BACKOFF: Duration = Duration::from_secs(5);
/// Longest wait before a peer is dialled again.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Peers below which the ones to start from are dialled. Source: Kubo `core/bootstrap` (4).
const MIN_PEERS: usize = 4;
/// Peers of an earlier run that are dialled while there are few peers.
const MAX_SAVED_TARGETS: usize = 16;
/// Peers to stay connected to and to start from.
const MAX_TARGETS: usize = 4096;
/// How often a peer that needs no dialling is looked at.
const RECHECK: Duration = Duration::from_secs(30);

/// Dials that are due, with backoff. Knows no network: the caller dials and reports.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    peer: PeerId,
    addrs: Vec<Multiaddr>,
    role: Role,
    backoff: Duration,
    due: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Stay connected.
    Peering,
    /// Connect while there are few peers.
    Bootstrap,
}

impl Keeper {
    /// Peers to stay connected to and addresses to start from, all due at once. An address without a peer ID is left out.
    pub(super) fn new(peering: &[(PeerId, Vec<Multiaddr>)], bootstrap: &[Multiaddr], now: Instant) -> Self {
        let mut targets: Vec<Target> = Vec::new();
        let target = |peer, addrs, role| Target { peer, addrs, role, backoff: MIN_BACKOFF, due: now };
        for (peer, addrs) in peering {
            targets.push(target(*peer, addrs.clone(), Role::Peering));
        }
        for addr in bootstrap {
            let Some(Protocol::P2p(peer)) = addr.iter().last() else { continue };
            match targets.iter_mut().find(|target| target.peer == peer) {
                Some(known) => known.addrs.push(addr.clone()),
                None => targets.push(target(peer, vec![addr.clone()], Role::Bootstrap)),
            }
        }
        Self { targets }
    }

    /// More peers to connect to while there are few, the first of these only.
    pub(super) fn start_from(
        &mut self,
        peers: impl IntoIterator<Item = (PeerId, Vec<Multiaddr>)>,
        now: Instant,
    ) {
        for (peer, addrs) in peers.into_iter().take(MAX_SAVED_TARGETS) {
            if self.targets.iter().all(|target| target.peer != peer) {
                let (role, backoff) = (Role::Bootstrap, MIN_BACKOFF);
                self.targets.push(Target { peer, addrs, role, backoff, due: now });
            }
        }
    }

    /// Stays connected to a peer from now on. The addresses of one that is known already are replaced.
    ///
    /// # Errors
    /// [`Kind::Full`] above [`MAX_TARGETS`].
    pub(super) fn add(&mut self, peer: PeerId, addrs: Vec<Multiaddr>, now: Instant) -> Result<(), Error> {
        let target = Target { peer, addrs, role: Role::Peering, backoff: MIN_BACKOFF, due: now };
        if let Some(known) = self.targets.iter_mut().find(|target| target.peer == peer) {
            *known = target;
            return Ok(());
        }
        if self.targets.len() >= MAX_TARGETS {
            let message = format!("too many peers to stay connected to, max={MAX_TARGETS}");
            return Err(Error::new(Kind::Full, message));
        }
        self.targets.push(target);
        Ok(())
    }

    /// Stays connected to that peer no longer.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.targets.retain(|target| target.role != Role::Peering || target.peer != *peer);
    }

    /// Whether that is a peer to stay connected to.
    pub(super) fn keeps(&self, peer: &PeerId) -> bool {
        self.targets.iter().any(|target| target.role == Role::Peering && target.peer == *peer)
    }

    /// The peers to stay connected to, and their addresses.
    pub(super) fn peering(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let kept = self.targets.iter().filter(|target| target.role == Role::Peering);
        kept.map(|target| (target.peer, target.addrs.clone())).collect()
    }

    /// When [`Keeper::due`] is to be called next.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.targets.iter().map(|target| target.due).min()
    }

    /// Peers to dial now.
    pub(super) fn due(
        &mut self,
        now: Instant,
        peer_count: usize,
        is_connected: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut dials = Vec::new();
        for target in self.targets.iter_mut().filter(|target| target.due <= now) {
            let is_wanted = target.role == Role::Peering || peer_count < MIN_PEERS;
            if !is_wanted || is_connected(&target.peer) {
                target.due = now + RECHECK;
                continue;
            }
            target.due = now + target.backoff;
            target.backoff = (target.backoff * 2).min(MAX_BACKOFF);
            dials.push((target.peer, target.addrs.clone()));
        }
        dials
    }

    /// The peer connected: the next loss starts with the shortest wait.
    pub(super) fn on_connected(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.peer == *peer) {
            target.backoff = MIN_BACKOFF;
        }
    }

    /// The last connection of the peer closed.
    pub(super) fn on_disconnected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.peer == *peer) {
            target.due = now + target.backoff;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(peer: PeerId) -> Multiaddr {
        format!("/ip4/192.168.1.1/tcp/4001/p2p/{peer}").parse().unwrap()
    }

    #[test]
    fn a_peer_to_keep_is_dialled_with_a_backoff_of_5_seconds_to_10_minutes() {
        let (peer, mut now) = (PeerId::random(), Instant::now());
        let mut keeper = Keeper::new(&[(peer, vec![addr(peer)])], &[], now);
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(keeper.due(now, 100, |_| false).len(), 1);
            let next = keeper.next_wake().unwrap();
            waits.push((next - now).as_secs());
            assert!(keeper.due(next - Duration::from_millis(1), 100, |_| false).is_empty());
            now = next;
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
    }

    #[test]
    fn a_lost_peer_is_dialled_again_after_the_shortest_wait() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let mut keeper = Keeper::new(&[(peer, vec![addr(peer)])], &[], now);
        keeper.due(now, 0, |_| false);
        keeper.on_connected(&peer);
        keeper.on_disconnected(&peer, now);
        assert_eq!(keeper.next_wake(), Some(now + MIN_BACKOFF));
    }

    #[test]
    fn peers_to_start_from_are_dialled_only_while_there_are_few_peers() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let mut keeper = Keeper::new(&[], &[addr(peer), addr(peer)], now);
        assert!(keeper.due(now, MIN_PEERS, |_| false).is_empty());
        let later = now + RECHECK;
        let dials = keeper.due(later, MIN_PEERS - 1, |_| false);
        assert_eq!(dials, [(peer, vec![addr(peer), addr(peer)])], "one dial for both addresses");
    }

    #[test]
    fn a_few_peers_of_an_earlier_run_are_dialled_like_those_of_the_configuration() {
        let now = Instant::now();
        let saved: Vec<_> = (0..100).map(|_| PeerId::random()).map(|peer| (peer, vec![addr(peer)])).collect();
        let mut keeper = Keeper::new(&[], &[addr(saved[0].0)], now);
        keeper.start_from(saved.clone(), now);
        assert_eq!(keeper.due(now, 0, |_| false), saved[..MAX_SAVED_TARGETS]);
        assert!(keeper.due(now + RECHECK, MIN_PEERS, |_| false).is_empty());
    }

    #[test]
    fn a_peer_that_is_added_is_dialled_at_once_and_one_that_is_removed_never_again() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let mut keeper = Keeper::new(&[], &[addr(peer)], now);
        assert!(keeper.peering().is_empty());
        let other: Multiaddr = "/ip4/192.168.1.2/tcp/1".parse().unwrap();
        keeper.add(peer, vec![other.clone()], now).unwrap();
        let expected = [(peer, vec![other])];
        assert_eq!(keeper.peering(), expected);
        assert_eq!(keeper.due(now, 100, |_| false), expected);
        keeper.remove(&peer);
        assert!(keeper.peering().is_empty());
        assert_eq!(keeper.next_wake(), None);
    }

    #[test]
    fn peers_to_stay_connected_to_are_bounded() {
        let (mut keeper, now) = (Keeper::default(), Instant::now());
        (0..MAX_TARGETS).for_each(|_| keeper.add(PeerId::random(), Vec::new(), now).unwrap());
        assert_eq!(keeper.add(PeerId::random(), Vec::new(), now).unwrap_err().kind(), Kind::Full);
    }

    #[test]
    fn an_empty_list_is_no_work() {
        assert_eq!(Keeper::new(&[], &[], Instant::now()).next_wake(), None);
    }
}
