//! The answering side: what peers want from us, and in which order each is answered.
//!
//! Invariant: a peer never has more wants here than the caller allows it, and none once it has disconnected. Who feeds
//! this looks up lengths and reads blocks; the queues know CIDs only. Fairness between peers is the callers': each peer is
//! answered by its own task, one [`Batch`] at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::PeerKey;
use super::message::{Presence, WantEntry, WantKind};
use crate::cid::{Cid, Multihash};
use crate::limits::MAX_HAVE_REPLACED_BYTES;

/// Blocks are put together into one message up to this length; a longer block goes alone. In bytes.
pub const BATCH_BYTES: usize = 256 * 1024;

/// HAVEs and DONT_HAVEs in one message.
const MAX_BATCH_PRESENCES: usize = 1024;

/// What is sent to a peer next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Blocks to read and send, and whether a DONT_HAVE is wanted for one that turns out to be gone.
    pub blocks: Vec<(Cid, bool)>,
    /// Answers that need no block.
    pub presences: Vec<(Cid, Presence)>,
    /// Bytes of blocks that this peer still waits for behind this batch.
    pub pending_bytes: u64,
}

/// What a peer has asked for, the place of its wants in line, and who waits for blocks that are not here.
#[derive(Debug, Default)]
pub struct Server {
    peers: HashMap<PeerKey, Queue>,
    /// Peers that wait for a block that is not here.
    waiting: HashMap<Multihash, Vec<PeerKey>>,
    /// Grows with every call of [`Server::on_arrival`].
    epoch: u64,
}

/// Place in line: higher priority first, then the older want.
type Place = (Reverse<i32>, u64);

/// One peer's wants.
#[derive(Debug, Default)]
struct Queue {
    wants: HashMap<Multihash, Want>,
    /// Every want by its place: the last one is evicted first.
    places: BTreeMap<Place, Multihash>,
    /// Those that can be answered.
    ready: BTreeMap<Place, Multihash>,
    next_seq: u64,
    pending_bytes: u64,
}

#[derive(Debug, Clone)]
struct Want {
    cid: Cid,
    place: Place,
    kind: WantKind,
    send_dont_have: bool,
    /// Length of the block, `None` when it is not here.
    len_bytes: Option<usize>,
}

impl Want {
    /// Whether the answer is the block, be it asked for or so small that it replaces a HAVE.
    fn gets_block(&self) -> bool {
        let is_small = |len_bytes| len_bytes <= MAX_HAVE_REPLACED_BYTES;
        self.len_bytes.is_some_and(|len_bytes| self.kind == WantKind::Block || is_small(len_bytes))
    }

    /// Bytes of blocks that the answer holds.
    fn answer_bytes(&self) -> u64 {
        if self.gets_block() { self.len_bytes.unwrap_or_default() as u64 } else { 0 }
    }
}

impl Server {
    /// Takes in the entries of a message, each want with the length of its block if that is here.
    ///
    /// Returns whether there is something to send. Wants above `max_wants` push out those of lowest priority,
    /// or are passed over if they are of lowest priority themselves.
    pub fn on_entries(
        &mut self,
        peer: PeerKey,
        max_wants: usize,
        is_full: bool,
        entries: impl IntoIterator<Item = (WantEntry, Option<usize>)>,
    ) -> bool {
        if is_full {
            self.disconnect(peer);
        }
        for (entry, len_bytes) in entries {
            match entry {
                WantEntry::Cancel(cid) => self.remove(peer, cid.hash()),
                WantEntry::Want { cid, priority, kind, send_dont_have } => {
                    let place = (Reverse(priority), 0);
                    self.on_want(peer, max_wants, Want { cid, place, kind, send_dont_have, len_bytes });
                }
            }
        }
        self.has_work(peer)
    }

    fn on_want(&mut self, peer: PeerKey, max_wants: usize, mut want: Want) {
        let hash = *want.cid.hash();
        let queue = self.peers.entry(peer).or_default();
        if let Some(known) = queue.wants.get(&hash) {
            // As in boxo: a want for a block is not turned back into one for its presence.
            want.kind = want.kind.max(known.kind);
            want.send_dont_have |= known.send_dont_have;
            self.remove(peer, &hash);
        }
        let queue = self.peers.entry(peer).or_default();
        want.place.1 = queue.next_seq;
        queue.next_seq += 1;
        if queue.wants.len() >= max_wants {
            let (&last_place, &last) = queue.places.last_key_value().expect("a full queue has a last place");
            if last_place < want.place {
                return;
            }
            self.remove(peer, &last);
        }
        let queue = self.peers.entry(peer).or_default();
        if want.len_bytes.is_none() {
            self.waiting.entry(hash).or_default().push(peer);
        }
        queue.insert(hash, want);
    }

    /// Tells that blocks are here now. Returns those that peers wait for; [`Server::on_lengths`] then wants their lengths.
    pub fn on_arrival<'a>(&mut self, blocks: impl IntoIterator<Item = &'a Multihash>) -> Vec<Multihash> {
        self.epoch += 1;
        blocks.into_iter().filter(|hash| self.waiting.contains_key(hash)).copied().collect()
    }

    /// Tells the lengths of blocks that peers wait for. Returns the peers that have something to be sent.
    pub fn on_lengths(&mut self, blocks: impl IntoIterator<Item = (Multihash, usize)>) -> Vec<PeerKey> {
        let mut to_wake = Vec::new();
        for (hash, len_bytes) in blocks {
            for peer in self.waiting.remove(&hash).unwrap_or_default() {
                let queue = self.peers.get_mut(&peer).expect("who waits is connected");
                let mut want = queue.remove(&hash).expect("who waits has a want");
                want.len_bytes = Some(len_bytes);
                queue.insert(hash, want);
                to_wake.push(peer);
            }
        }
        to_wake.sort_unstable();
        to_wake.dedup();
        to_wake
    }

    /// Grows when blocks arrive. Whoever looks up lengths compares it before and after, so that no arrival is missed.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes what is sent to the peer next. Its wants are gone from the queue then, but for those that still wait.
    pub fn take(&mut self, peer: PeerKey) -> Option<Batch> {
        let queue = self.peers.get_mut(&peer)?;
        let (mut batch, mut batch_bytes) = (Batch::default(), 0);
        while let Some((&place, &hash)) = queue.ready.first_key_value() {
            let want = &queue.wants[&hash];
            let answer_bytes = usize::try_from(want.answer_bytes()).unwrap_or(usize::MAX);
            let is_first = batch.blocks.is_empty();
            if want.gets_block() && !is_first && batch_bytes + answer_bytes > BATCH_BYTES {
                break;
            }
            if !want.gets_block() && batch.presences.len() >= MAX_BATCH_PRESENCES {
                break;
            }
            match want.len_bytes {
                None => {
                    // Answered, and served after all if the block arrives.
                    batch.presences.push((want.cid, Presence::DontHave));
                    queue.ready.remove(&place);
                    continue;
                }
                Some(_) if want.gets_block() => batch.blocks.push((want.cid, want.send_dont_have)),
                Some(_) => batch.presences.push((want.cid, Presence::Have)),
            }
            batch_bytes += answer_bytes;
            queue.remove(&hash);
        }
        batch.pending_bytes = queue.pending_bytes;
        (!batch.blocks.is_empty() || !batch.presences.is_empty()).then_some(batch)
    }

    /// Whether [`Server::take`] would give something.
    pub fn has_work(&self, peer: PeerKey) -> bool {
        self.peers.get(&peer).is_some_and(|queue| !queue.ready.is_empty())
    }

    /// Forgets a peer and everything it wanted.
    pub fn disconnect(&mut self, peer: PeerKey) {
        let Some(queue) = self.peers.remove(&peer) else { return };
        for (hash, want) in queue.wants {
            if want.len_bytes.is_none() {
                self.stop_waiting(peer, &hash);
            }
        }
    }

    /// CIDs that a peer wants and has not been sent.
    pub fn wantlist(&self, peer: PeerKey) -> Vec<Cid> {
        let Some(queue) = self.peers.get(&peer) else { return Vec::new() };
        queue.places.values().map(|hash| queue.wants[hash].cid).collect()
    }

    fn remove(&mut self, peer: PeerKey, hash: &Multihash) {
        let want = self.peers.get_mut(&peer).and_then(|queue| queue.remove(hash));
        if want.is_some_and(|want| want.len_bytes.is_none()) {
            self.stop_waiting(peer, hash);
        }
    }

    fn stop_waiting(&mut self, peer: PeerKey, hash: &Multihash) {
        let Some(peers) = self.waiting.get_mut(hash) else { return };
        peers.retain(|other| *other != peer);
        if peers.is_empty() {
            self.waiting.remove(hash);
        }
    }
}

impl Queue {
    fn insert(&mut self, hash: Multihash, want: Want) {
        self.places.insert(want.place, hash);
        if want.len_bytes.is_some() || want.send_dont_have {
            self.ready.insert(want.place, hash);
        }
        self.pending_bytes += want.answer_bytes();
        self.wants.insert(hash, want);
    }

    fn remove(&mut self, hash: &Multihash) -> Option<Want> {
        let want = self.wants.remove(hash)?;
        self.places.remove(&want.place);
        self.ready.remove(&want.place);
        self.pending_bytes -= want.answer_bytes();
        Some(want)
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cid::{RAW, SHA2_256};
    use crate::limits::MAX_WANTS_PER_PEER;

    const PEER: PeerKey = PeerKey(1);

    fn cid(number: usize) -> Cid {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        Cid::new_v1(RAW, Multihash::wrap(SHA2_256, &digest).unwrap())
    }

    fn want(number: usize, priority: i32, kind: WantKind) -> WantEntry {
        WantEntry::Want { cid: cid(number), priority, kind, send_dont_have: true }
    }

    fn block(number: usize, priority: i32, len_bytes: usize) -> (WantEntry, Option<usize>) {
        (want(number, priority, WantKind::Block), Some(len_bytes))
    }

    fn taken(server: &mut Server) -> Vec<usize> {
        let number = |cid: Cid| usize::from_be_bytes(cid.hash().digest()[..8].try_into().unwrap());
        let batch = server.take(PEER).unwrap_or_default();
        batch.blocks.into_iter().map(|(cid, _)| number(cid)).collect()
    }

    #[test]
    fn blocks_come_by_priority_and_then_in_the_order_asked() {
        let mut server = Server::default();
        server.on_entries(
            PEER,
            MAX_WANTS_PER_PEER,
            false,
            [block(1, 5, 10), block(2, 9, 10), block(3, 5, 10)],
        );
        assert_eq!(taken(&mut server), [2, 1, 3]);
        assert_eq!(server.take(PEER), None);
    }

    #[test]
    fn small_blocks_share_a_message_and_large_ones_go_alone() {
        let mut server = Server::default();
        let half = BATCH_BYTES / 2;
        let lens = [half, half, 1, 2 * BATCH_BYTES, 1];
        server.on_entries(
            PEER,
            MAX_WANTS_PER_PEER,
            false,
            lens.iter().enumerate().map(|(number, len)| block(number, 1, *len)),
        );
        assert_eq!(server.take(PEER).unwrap().pending_bytes, (2 * BATCH_BYTES + 2) as u64);
        assert_eq!(taken(&mut server), [2]);
        assert_eq!(taken(&mut server), [3]);
        assert_eq!(taken(&mut server), [4]);
    }

    #[test]
    fn a_have_is_replaced_by_a_block_of_the_limit_and_not_by_a_larger_one() {
        let mut server = Server::default();
        let have = |number, len| (want(number, 1, WantKind::Have), Some(len));
        server.on_entries(
            PEER,
            MAX_WANTS_PER_PEER,
            false,
            [have(1, MAX_HAVE_REPLACED_BYTES), have(2, MAX_HAVE_REPLACED_BYTES + 1)],
        );
        let batch = server.take(PEER).unwrap();
        assert_eq!(batch.blocks, [(cid(1), true)]);
        assert_eq!(batch.presences, [(cid(2), Presence::Have)]);
    }

    #[test]
    fn absence_is_answered_when_asked_for_and_the_block_sent_when_it_arrives() {
        let mut server = Server::default();
        let silent =
            WantEntry::Want { cid: cid(2), priority: 1, kind: WantKind::Block, send_dont_have: false };
        server.on_entries(
            PEER,
            MAX_WANTS_PER_PEER,
            false,
            [(want(1, 1, WantKind::Block), None), (silent, None)],
        );
        assert_eq!(server.take(PEER).unwrap().presences, [(cid(1), Presence::DontHave)]);
        assert_eq!(server.take(PEER), None);

        let (epoch, arrived) = (server.epoch(), [1, 2, 3].map(|number| *cid(number).hash()));
        assert_eq!(server.on_arrival(&arrived), arrived[..2]);
        assert_ne!(server.epoch(), epoch);
        assert_eq!(server.on_lengths(arrived.map(|hash| (hash, 7))), [PEER]);
        assert_eq!(taken(&mut server), [1, 2]);
    }

    #[test]
    fn cancelled_wants_are_not_served() {
        let mut server = Server::default();
        server.on_entries(
            PEER,
            MAX_WANTS_PER_PEER,
            false,
            [block(1, 1, 10), (want(2, 1, WantKind::Block), None)],
        );
        let cancels = [1, 2].map(|number| (WantEntry::Cancel(cid(number)), None));
        assert!(!server.on_entries(PEER, MAX_WANTS_PER_PEER, false, cancels));
        assert!(server.on_lengths([(*cid(2).hash(), 7)]).is_empty());
        assert!(server.wantlist(PEER).is_empty() && server.waiting.is_empty());
    }

    #[test]
    fn a_full_wantlist_replaces_the_one_before() {
        let mut server = Server::default();
        server.on_entries(PEER, MAX_WANTS_PER_PEER, false, [block(1, 1, 10)]);
        server.on_entries(PEER, MAX_WANTS_PER_PEER, true, [block(2, 1, 10)]);
        assert_eq!(taken(&mut server), [2]);
    }

    #[test]
    fn a_want_for_a_block_is_not_turned_back_into_one_for_its_presence() {
        let mut server = Server::default();
        server.on_entries(
            PEER,
            MAX_WANTS_PER_PEER,
            false,
            [block(1, 1, 5000), (want(1, 1, WantKind::Have), Some(5000))],
        );
        assert_eq!(taken(&mut server), [1]);
        assert_eq!(server.take(PEER), None);
    }

    #[test]
    fn wants_of_the_limit_are_kept_and_one_more_pushes_out_the_lowest() {
        let mut server = Server::default();
        let priority = |number: usize| i32::try_from(number).unwrap() + 10;
        server.on_entries(
            PEER,
            MAX_WANTS_PER_PEER,
            false,
            (0..MAX_WANTS_PER_PEER).map(|number| block(number, priority(number), 10)),
        );
        assert_eq!(server.wantlist(PEER).len(), MAX_WANTS_PER_PEER);

        let (low, high) = (MAX_WANTS_PER_PEER, MAX_WANTS_PER_PEER + 1);
        server.on_entries(PEER, MAX_WANTS_PER_PEER, false, [block(low, 1, 10), block(high, i32::MAX, 10)]);
        let kept = server.wantlist(PEER);
        assert_eq!(kept.len(), MAX_WANTS_PER_PEER);
        assert!(kept.contains(&cid(high)) && !kept.contains(&cid(low)) && !kept.contains(&cid(0)));
    }

    #[test]
    fn nothing_is_kept_of_a_peer_that_left() {
        let mut server = Server::default();
        server.on_entries(
            PEER,
            MAX_WANTS_PER_PEER,
            false,
            [block(1, 1, 10), (want(2, 1, WantKind::Block), None)],
        );
        server.disconnect(PEER);
        assert!(server.peers.is_empty() && server.waiting.is_empty());
        assert!(server.on_lengths([(*cid(2).hash(), 7)]).is_empty());
    }
}
