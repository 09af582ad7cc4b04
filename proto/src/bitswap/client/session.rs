//! One session: what it wants in which order, and who has proven to have it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{MAX_MISSES, MAX_PROBES, PROBE_TIMEOUT, Progress, SEARCH_AGAIN, SEARCH_DELAY};
use crate::bitswap::PeerKey;
use crate::cid::Multihash;

/// Wants that belong together: whoever has one is likely to have the others.
#[derive(Debug)]
pub(super) struct Session {
    /// Everything wanted, by its place in the order in which it is needed.
    open: HashMap<Multihash, u64>,
    /// Wants that proven peers could serve, but had no room for.
    waiting: BTreeMap<u64, Multihash>,
    /// Wants that no proven peer has.
    homeless: BTreeMap<u64, Multihash>,
    /// Of these, the ones that peers have not been asked about yet.
    unprobed: BTreeMap<u64, Multihash>,
    /// And those that answers are awaited about, since when.
    probing: HashMap<Multihash, Instant>,
    /// Peers that had blocks of it, with the blocks in a row that they lacked since.
    proven: BTreeMap<PeerKey, u32>,
    /// Peers that are asked about what no proven peer has.
    pub(super) circle: Option<Vec<PeerKey>>,
    asked: HashSet<PeerKey>,
    next_place: u64,
    search_at: Option<Instant>,
    search_wait: Duration,
    /// Place of the want that was searched last.
    searched: Option<u64>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            waiting: BTreeMap::new(),
            homeless: BTreeMap::new(),
            unprobed: BTreeMap::new(),
            probing: HashMap::new(),
            proven: BTreeMap::new(),
            circle: None,
            asked: HashSet::new(),
            next_place: 0,
            search_at: None,
            search_wait: SEARCH_AGAIN.0,
            searched: None,
        }
    }
}

impl Session {
    pub(super) fn add(&mut self, hash: Multihash) {
        let place = self.next_place;
        self.next_place += 1;
        self.open.entry(hash).or_insert(place);
    }

    pub(super) fn remove(&mut self, hash: &Multihash) {
        self.unlist(hash);
        self.open.remove(hash);
        if self.homeless.is_empty() {
            self.search_at = None;
        }
    }

    /// A peer is asked for the block. One without a record may lack it, so the want stays in need until that is known.
    pub(super) fn set_asked(&mut self, hash: &Multihash, peer: PeerKey) {
        if self.proven.contains_key(&peer) {
            self.unlist(hash);
        } else if let Some(place) = self.open.get(hash) {
            self.waiting.remove(place);
        }
    }

    fn unlist(&mut self, hash: &Multihash) {
        if let Some(place) = self.open.get(hash) {
            self.waiting.remove(place);
            self.homeless.remove(place);
            self.unprobed.remove(place);
            self.probing.remove(hash);
        }
    }

    /// Peers could serve the block, but have no room.
    pub(super) fn set_waiting(&mut self, hash: &Multihash) {
        self.unlist(hash);
        if let Some(place) = self.open.get(hash) {
            self.waiting.insert(*place, *hash);
        }
    }

    /// No proven peer has the block.
    pub(super) fn set_homeless(&mut self, hash: &Multihash) {
        if let Some(place) = self.open.get(hash) {
            self.waiting.remove(place);
            if self.homeless.insert(*place, *hash).is_none() {
                self.unprobed.insert(*place, *hash);
            }
        }
    }

    /// Peers may be asked about the block once more.
    pub(super) fn set_unprobed(&mut self, hash: &Multihash) {
        if let Some(place) = self.open.get(hash) {
            self.probing.remove(hash);
            self.unprobed.insert(*place, *hash);
        }
    }

    /// Takes the next wants that peers shall be asked about, as far as not too many are asked about already.
    pub(super) fn take_probes(&mut self, now: Instant) -> Vec<Multihash> {
        let mut probes = Vec::new();
        while self.probing.len() < MAX_PROBES
            && let Some((_, hash)) = self.unprobed.pop_first()
        {
            self.probing.insert(hash, now);
            probes.push(hash);
        }
        probes
    }

    /// Waits no longer for answers that are late; they still count when they come.
    pub(super) fn expire_probes(&mut self, now: Instant) {
        self.probing.retain(|_, since| now.duration_since(*since) < PROBE_TIMEOUT);
    }

    /// No more answers will come about a want for now: the next ones may be asked about.
    pub(super) fn end_probe(&mut self, hash: &Multihash) {
        self.probing.remove(hash);
    }

    pub(super) fn first_waiting(&self) -> Option<Multihash> {
        self.waiting.values().next().copied()
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The wants that nobody is known to serve, in order.
    pub(super) fn homeless(&self) -> Vec<Multihash> {
        self.homeless.values().copied().collect()
    }

    /// Everything wanted, in order.
    pub(super) fn wants(&self) -> Vec<Multihash> {
        let mut wants: Vec<_> = self.open.iter().map(|(hash, place)| (*place, *hash)).collect();
        wants.sort_unstable_by_key(|(place, _)| *place);
        wants.into_iter().map(|(_, hash)| hash).collect()
    }

    pub(super) fn proven(&self) -> impl Iterator<Item = PeerKey> + '_ {
        self.proven.keys().copied()
    }

    /// Returns whether it was not proven before.
    pub(super) fn prove(&mut self, peer: PeerKey) -> bool {
        self.proven.insert(peer, 0).is_none()
    }

    /// Providers were worth searching: the next search need not wait for long.
    pub(super) fn on_served(&mut self) {
        self.search_wait = SEARCH_AGAIN.0;
    }

    /// Returns whether the peer is not proven any more.
    pub(super) fn on_miss(&mut self, peer: PeerKey) -> bool {
        let Some(misses) = self.proven.get_mut(&peer) else { return false };
        *misses += 1;
        *misses > MAX_MISSES && self.proven.remove(&peer).is_some()
    }

    pub(super) fn on_asked(&mut self, peer: PeerKey) {
        self.asked.insert(peer);
    }

    /// Forgets a peer that left. Returns whether it was proven.
    pub(super) fn forget(&mut self, peer: PeerKey) -> bool {
        if let Some(circle) = &mut self.circle {
            circle.retain(|other| *other != peer);
        }
        let was_proven = self.proven.remove(&peer).is_some();
        if was_proven {
            // It may have been the only one: the next search is like the first.
            self.searched = None;
            self.search_wait = SEARCH_AGAIN.0;
        }
        was_proven
    }

    /// Plans a search: at once if nobody is left to answer, and not sooner than the one planned before if there was one.
    pub(super) fn plan_search(&mut self, is_answer_pending: bool, now: Instant) {
        let at = if is_answer_pending { now + SEARCH_DELAY } else { now };
        let is_first = self.searched.is_none();
        self.search_at = Some(match self.search_at {
            Some(planned) if !is_first => planned,
            Some(planned) => planned.min(at),
            None if is_first => at,
            None => now + self.search_wait,
        });
    }

    /// Takes the want whose providers are to be searched now, if a search is due. It stays due while peers that may never
    /// serve are asked for everything.
    pub(super) fn take_search(&mut self, now: Instant) -> Option<Multihash> {
        self.search_at.filter(|at| *at <= now)?;
        // The next one after the last, around.
        let after = self.searched.map_or(0, |place| place + 1);
        let next = self.homeless.range(after..).next().or_else(|| self.homeless.iter().next());
        let (&place, &hash) = next?;
        self.searched = Some(place);
        self.search_at = Some(now + self.search_wait);
        self.search_wait = (self.search_wait * 2).min(SEARCH_AGAIN.1);
        Some(hash)
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            want_count: self.open.len(),
            peers_asked: self.asked.len(),
            provider_count: self.proven.len(),
        }
    }
}
