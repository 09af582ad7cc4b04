//! Finding all peers of a region.

use std::collections::{BTreeMap, HashMap};

use super::REPLICATION;
use super::key::{Key, Prefix, closest};

/// Peers closest to a target that have to answer before it counts as looked up.
///
/// Source: go-libp2p-kad-dht `amino` defaults (resiliency 3).
pub(super) const RESILIENCY: usize = 3;
/// Targets of one exploration. A region needs three or four; a network that lies could make it endless.
const MAX_LOOKUPS: u32 = 64;
/// Peers asked for one target. An honest network needs ten or so; one that invents closer and closer peers has no end.
pub(super) const MAX_ASKED: usize = 128;
/// Peers known to one exploration. A region has about 30; answers beyond that many are left out.
pub(super) const MAX_PEERS: usize = 4096;
/// Bits of a point that the target of a lookup shares with it when the point itself cannot be asked for.
const TARGET_BITS: u16 = 16;

/// Finds all peers of a region around one key, by asking peers for those closest to a few targets.
///
/// Peers are told by their points; where they are reached is the caller's business. The region grows until
/// [`REPLICATION`] peers are in it, so that its peers, and nobody else, keep the records of its keys.
#[derive(Debug)]
pub struct Explorer {
    around: Key,
    /// Those that failed are not asked again.
    peers: BTreeMap<Key, Health>,
    lookup: Option<Lookup>,
    region: Option<Prefix>,
    /// Parts of the region of which not all peers are known.
    unknown: Vec<Prefix>,
    lookup_count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Hearsay,
    Answered,
    Failed,
}

/// A look-up of the peers closest to a target.
#[derive(Debug)]
struct Lookup {
    /// The part that is to be known by it; the first one has none.
    part: Option<Prefix>,
    target: Vec<u8>,
    point: Key,
    /// Who was asked, and whether nothing is to be waited for any more.
    asked: HashMap<Key, bool>,
}

/// A question to a peer: which peers it knows closest to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whom to ask.
    pub peer: Key,
    /// What to ask for: a multihash.
    pub target: Vec<u8>,
}

/// A region whose peers are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explored {
    /// The region.
    pub region: Prefix,
    /// Its peers, and others that were met on the way: for every key of the region the closest are among them.
    pub peers: Vec<Key>,
}

impl Explorer {
    /// Explores around the content of that multihash, starting from peers that are known.
    pub fn new(multihash: &[u8], known: impl IntoIterator<Item = Key>) -> Self {
        let around = Key::of(multihash);
        let lookup = target_of(multihash).map(|target| Lookup::new(None, target));
        let peers = known.into_iter().take(MAX_PEERS).map(|peer| (peer, Health::Hearsay)).collect();
        let mut explorer = Self { around, peers, lookup, region: None, unknown: Vec::new(), lookup_count: 1 };
        explorer.go_on();
        explorer
    }

    /// A question that can be asked now; ask until there is none, and again after every answer and failure.
    pub fn next_ask(&mut self) -> Option<Ask> {
        let leaders = self.leaders();
        let lookup = self.lookup.as_mut().filter(|lookup| lookup.asked.len() < MAX_ASKED)?;
        let peer = leaders.into_iter().find(|peer| !lookup.asked.contains_key(peer))?;
        lookup.asked.insert(peer, false);
        Some(Ask { peer, target: lookup.target.clone() })
    }

    /// A peer answered.
    pub fn on_answer(&mut self, ask: &Ask, closer: &[Key]) {
        self.peers.insert(ask.peer, Health::Answered);
        for peer in closer.iter().take(REPLICATION) {
            if self.peers.len() < MAX_PEERS {
                self.peers.entry(*peer).or_insert(Health::Hearsay);
            }
        }
        if let Some(lookup) = self.lookup.as_mut().filter(|lookup| lookup.target == ask.target) {
            lookup.asked.insert(ask.peer, true);
        }
        self.go_on();
    }

    /// A peer did not answer; it is left out from now on.
    pub fn on_failure(&mut self, peer: Key) {
        self.peers.insert(peer, Health::Failed);
        if let Some(answered) = self.lookup.as_mut().and_then(|lookup| lookup.asked.get_mut(&peer)) {
            *answered = true;
        }
        self.go_on();
    }

    /// What was found, once nothing is left to ask: `None` when no peer answered, and before the end.
    pub fn explored(&self) -> Option<Explored> {
        let is_at_end = self.lookup.is_none();
        let has_answers = self.peers.values().any(|health| *health == Health::Answered);
        let region = self.region.filter(|_| is_at_end && has_answers)?;
        Some(Explored { region, peers: self.usable().collect() })
    }

    /// Whether nothing is left to ask or to wait for.
    pub fn is_at_end(&self) -> bool {
        self.lookup.is_none()
    }

    fn usable(&self) -> impl Iterator<Item = Key> + '_ {
        self.peers.iter().filter(|(_, health)| **health != Health::Failed).map(|(peer, _)| *peer)
    }

    /// The peers closest to the present target, which have to answer. Where these know of too few to keep a record, all have
    /// to that are known: a network is not small because three say so, who may lie or be cut off.
    fn leaders(&self) -> Vec<Key> {
        let Some(lookup) = &self.lookup else { return Vec::new() };
        let mut near = closest(&lookup.point, self.usable(), REPLICATION);
        let is_few = near.len() < REPLICATION;
        if !is_few || !near.iter().take(RESILIENCY).all(|peer| lookup.has_answer_of(peer)) {
            near.truncate(RESILIENCY);
        }
        near
    }

    /// Ends the present look-up if it is at its end, and begins the next.
    fn go_on(&mut self) {
        while let Some(lookup) = &self.lookup {
            let is_cut_short =
                lookup.asked.len() == MAX_ASKED && lookup.asked.values().all(|answered| *answered);
            if !is_cut_short && !self.leaders().iter().all(|peer| lookup.has_answer_of(peer)) {
                return;
            }
            let (part, point) = (lookup.part, lookup.point);
            self.on_looked_up(part, point);
            self.lookup = self.next_lookup();
        }
    }

    fn on_looked_up(&mut self, part: Option<Prefix>, point: Key) {
        let near = closest(&point, self.usable(), REPLICATION);
        let Some(furthest) = near.get(REPLICATION - 1) else {
            // These are all the peers that there are.
            self.region = Some(self.region.unwrap_or(Prefix::ALL));
            return self.unknown.clear();
        };
        // A peer that shares more bits with the target than the furthest of them would be among them.
        let shared = point.common_prefix_len(furthest);
        let known_len = (shared + 1).min(256);
        let part = part.unwrap_or_else(|| {
            let region = Prefix::new(&point, shared.min(point.common_prefix_len(&self.around)));
            self.region = Some(region);
            region
        });
        let halves = part.bit_count()..known_len;
        self.unknown.extend(halves.map(|len| Prefix::new(&point, len + 1).sibling()));
    }

    fn next_lookup(&mut self) -> Option<Lookup> {
        while let Some(part) = self.unknown.pop() {
            if self.lookup_count == MAX_LOOKUPS {
                return None;
            }
            if let Some(target) = part.preimage() {
                self.lookup_count += 1;
                return Some(Lookup::new(Some(part), target));
            }
        }
        None
    }
}

impl Lookup {
    fn new(part: Option<Prefix>, target: Vec<u8>) -> Self {
        Self { part, point: Key::of(&target), target, asked: HashMap::new() }
    }

    fn has_answer_of(&self, peer: &Key) -> bool {
        self.asked.get(peer) == Some(&true)
    }
}

/// What peers are asked for to learn who is close to some content: itself if it looks like a peer ID, which they expect,
/// or something close to it.
pub(super) fn target_of(multihash: &[u8]) -> Option<Vec<u8>> {
    let is_like_a_peer_id = multihash.len() == 34 && multihash.starts_with(&[0x12, 0x20]);
    match is_like_a_peer_id {
        true => Some(multihash.to_vec()),
        false => Prefix::new(&Key::of(multihash), TARGET_BITS).preimage(),
    }
}
