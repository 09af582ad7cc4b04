//! Telling of one key at once.

use std::collections::BTreeMap;

use super::REPLICATION;
use super::explore::{MAX_ASKED, MAX_PEERS, RESILIENCY, target_of};
use super::key::Key;

/// Peers asked at once. Source: go-libp2p-kad-dht `amino` defaults (α = 10).
const PARALLELISM: usize = 10;
/// Peers that take the record before it counts as told. Source: go-libp2p-kad-dht `lookup_optim.go` (3 of 4).
const ENOUGH: usize = REPLICATION * 3 / 4;
/// Nine times of ten there are fewer than twenty peers in a part of the keyspace in which this many are to be expected (the
/// lowest tenth of a gamma distribution of shape 20): whoever is as close is one of the twenty. Source: as above.
const SURE: f64 = 14.53;

/// Finds the peers closest to one key and gives them its record, the surest ones while others are still looked for.
///
/// Peers are told by their points; where they are reached is the caller's business.
#[derive(Debug)]
pub struct Announcer {
    point: Key,
    target: Option<Vec<u8>>,
    /// By their distance.
    peers: BTreeMap<[u8; 32], Peer>,
    /// Distance up to which a peer is told before the look-up has ended, as a share of the keyspace.
    sure: f64,
    asked_count: usize,
    asking_count: usize,
}

#[derive(Debug)]
struct Peer {
    key: Key,
    asked: Asked,
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    Waiting,
    Answered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Waiting,
    Took,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Ask a peer whom it knows closest to [`Announcer::target`].
    Ask(Key),
    /// Give a peer the record.
    Tell(Key),
}

impl Announcer {
    /// Announces the content of that multihash, starting from the peers that a node at the point `local` knows.
    pub fn new(multihash: &[u8], local: &Key, known: impl IntoIterator<Item = Key>) -> Self {
        let point = Key::of(multihash);
        let known: Vec<_> = known.into_iter().take(MAX_PEERS).collect();
        let sure = SURE / network_size(local, &known);
        let peers = known.into_iter().map(|key| (key.distance(&point), Peer::new(key))).collect();
        Self { point, target: target_of(multihash), peers, sure, asked_count: 0, asking_count: 0 }
    }

    /// What peers are asked for: a multihash that lies at the key or close to it.
    pub fn target(&self) -> &[u8] {
        self.target.as_deref().unwrap_or_default()
    }

    /// Something that can be done now; take until there is nothing, and again after every answer and failure.
    pub fn next_call(&mut self) -> Option<Call> {
        let is_looked_up = self.is_looked_up();
        let sure = self.sure;
        let is_told = |(distance, peer): &(&[u8; 32], &mut Peer)| {
            peer.told == Told::No && (is_looked_up || share(distance) <= sure)
        };
        if let Some((_, peer)) = self.peers.iter_mut().take(REPLICATION).find(is_told) {
            peer.told = Told::Waiting;
            return Some(Call::Tell(peer.key));
        }
        // Where too few are known to keep the record, the closest need not be right: whoever else is known is asked too.
        let is_found = is_looked_up && self.peers.len() >= REPLICATION;
        if is_found || self.asking_count >= PARALLELISM || self.asked_count >= MAX_ASKED {
            return None;
        }
        let unasked = |peer: &&mut Peer| peer.asked == Asked::No;
        let peer = self.peers.values_mut().take(REPLICATION).find(unasked)?;
        peer.asked = Asked::Waiting;
        self.asked_count += 1;
        self.asking_count += 1;
        Some(Call::Ask(peer.key))
    }

    /// A peer answered.
    pub fn on_answer(&mut self, peer: &Key, closer: &[Key]) {
        self.asking_count = self.asking_count.saturating_sub(1);
        if let Some(peer) = self.peers.get_mut(&peer.distance(&self.point)) {
            peer.asked = Asked::Answered;
        }
        for key in closer.iter().take(REPLICATION) {
            if self.peers.len() < MAX_PEERS {
                self.peers.entry(key.distance(&self.point)).or_insert_with(|| Peer::new(*key));
            }
        }
    }

    /// A peer did not answer. One that took the record stays.
    pub fn on_unanswered(&mut self, peer: &Key) {
        self.asking_count = self.asking_count.saturating_sub(1);
        let distance = peer.distance(&self.point);
        match self.peers.get_mut(&distance) {
            Some(peer) if peer.told == Told::Took => peer.asked = Asked::Answered,
            _ => drop(self.peers.remove(&distance)),
        }
    }

    /// A peer took the record.
    pub fn on_taken(&mut self, peer: &Key) {
        let distance = peer.distance(&self.point);
        // It may have been given up meanwhile for an answer that it owed.
        let gone = Peer { asked: Asked::Answered, ..Peer::new(*peer) };
        self.peers.entry(distance).or_insert(gone).told = Told::Took;
    }

    /// A peer did not take the record: the next closest gets it.
    pub fn on_refused(&mut self, peer: &Key) {
        self.peers.remove(&peer.distance(&self.point));
    }

    /// Whether so many of the closest peers took the record that it will be found.
    pub fn is_enough(&self) -> bool {
        let took = |peer: &&Peer| peer.told == Told::Took;
        self.is_looked_up() && self.peers.values().take(REPLICATION).filter(took).count() >= ENOUGH
    }

    /// Peers that took the record.
    pub fn taken_count(&self) -> usize {
        self.peers.values().filter(|peer| peer.told == Told::Took).count()
    }

    /// Whether the closest peers that are known were asked, or nobody else is left to be.
    fn is_looked_up(&self) -> bool {
        let is_cut_short = self.asked_count >= MAX_ASKED && self.asking_count == 0;
        is_cut_short || self.peers.values().take(RESILIENCY).all(|peer| peer.asked == Asked::Answered)
    }
}

impl Peer {
    fn new(key: Key) -> Self {
        Self { key, asked: Asked::No, told: Told::No }
    }
}

/// How many peers there are, from how close the closest ones are that a node knows: those it knows all.
fn network_size(local: &Key, known: &[Key]) -> f64 {
    let mut distances: Vec<_> = known.iter().map(|key| key.distance(local)).collect();
    if distances.len() <= REPLICATION {
        // Too few to tell anything: nobody is sure before the end.
        return f64::INFINITY;
    }
    let (_, furthest, _) = distances.select_nth_unstable(REPLICATION - 1);
    REPLICATION as f64 / share(furthest)
}

/// A distance as a share of the keyspace.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn share(distance: &[u8; 32]) -> f64 {
    let first = u64::from_be_bytes(std::array::from_fn(|index| distance[index]));
    (first as f64 + 1.0) / u64::MAX as f64
}
