//! One server among askers of every kind, in virtual time: messages are late, connections break, parts of the network are
//! cut off, blocks arrive late. Nobody is sent what it does not want, nobody's wants outgrow their bound, and every honest
//! asker gets everything once the network has healed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::cid::{RAW, SHA2_256};
use crate::limits::MAX_WANTS_PER_PEER;
use crate::simulation::every_seed;

/// Blocks that are here or come, and as many that never do.
const BLOCK_COUNT: usize = 60;
/// From when on no connection breaks, in milliseconds.
const HEALED_MS: u64 = 20_000;
/// When every honest asker must have everything, in milliseconds.
const DEADLINE_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Wants some blocks, and asks again for what is missing when it comes back.
    Honest,
    /// Wants more than anybody may, again and again, under any priority.
    Flood,
    /// Wants and cancels at random, in lists that may replace those before.
    Confused,
    /// Wants much, and never takes what it is sent.
    Stuck,
}

const MANNERS: [Manner; 6] =
    [Manner::Honest, Manner::Honest, Manner::Honest, Manner::Flood, Manner::Confused, Manner::Stuck];

/// A flood takes as long as everything else together: every so many networks have one.
const FLOOD_STRIDE: u64 = 8;

/// Somebody who asks, and what the server has to think of it.
struct Asker {
    manner: Manner,
    /// Counts connections: what was sent over an earlier one is lost.
    connection: u64,
    is_connected: bool,
    wants: BTreeSet<usize>,
    /// What the server heard and has not been told that it is not wanted any more.
    heard: HashSet<usize>,
    /// A batch is on its way to it.
    is_served: bool,
    /// Messages arrive in the order sent.
    last_arrival_ms: u64,
}

#[derive(Debug)]
enum Event {
    Entries(u64, bool, Vec<WantEntry>),
    Delivered(u64, Batch),
    Break,
    Return,
    Mischief,
    /// Blocks of that number come in.
    Arrival(usize),
}

struct Net {
    seed: u64,
    rng: ChaCha8Rng,
    now_ms: u64,
    server: Server,
    askers: BTreeMap<PeerKey, Asker>,
    here: HashSet<usize>,
    events: BTreeMap<(u64, u64), (PeerKey, Event)>,
    event_count: u64,
}

fn cid(number: usize) -> Cid {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    Cid::new_v1(RAW, Multihash::wrap(SHA2_256, &digest).unwrap())
}

fn number(cid: &Cid) -> usize {
    usize::from_be_bytes(cid.hash().digest()[..8].try_into().unwrap())
}

/// Small ones that replace a HAVE, those of which some share a message, and those that go alone.
fn len_bytes(number: usize) -> usize {
    [100, 5_000, 100_000, 1_000_000][number % 4]
}

impl Net {
    fn new(seed: u64) -> Self {
        let mut net = Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_ms: 0,
            server: Server::default(),
            askers: BTreeMap::new(),
            here: HashSet::new(),
            events: BTreeMap::new(),
            event_count: 0,
        };
        let manners =
            MANNERS.iter().filter(|manner| **manner != Manner::Flood || seed.is_multiple_of(FLOOD_STRIDE));
        for (index, &manner) in (1..).zip(manners) {
            let want_count = if manner == Manner::Honest { net.rng.random_range(1..BLOCK_COUNT) } else { 0 };
            let wants = (0..BLOCK_COUNT).choose_multiple(&mut net.rng, want_count).into_iter().collect();
            net.askers.insert(
                PeerKey(index),
                Asker {
                    manner,
                    connection: 0,
                    is_connected: false,
                    wants,
                    heard: HashSet::new(),
                    is_served: false,
                    last_arrival_ms: 0,
                },
            );
            net.schedule(PeerKey(index), 0..2000, Event::Return);
        }
        for number in 0..BLOCK_COUNT {
            if net.rng.random_bool(0.6) {
                net.here.insert(number);
            } else {
                net.schedule(PeerKey(0), 0..HEALED_MS, Event::Arrival(number));
            }
        }
        // A part of the network is cut off at once, and comes back together.
        let cut_ms = net.rng.random_range(0..HEALED_MS / 2);
        for peer in [2, 3, 4].map(PeerKey) {
            net.schedule(peer, cut_ms..cut_ms + 1, Event::Break);
        }
        net
    }

    fn schedule(&mut self, peer: PeerKey, delay_ms: std::ops::Range<u64>, event: Event) {
        let at_ms = self.now_ms + self.rng.random_range(delay_ms);
        self.event_count += 1;
        self.events.insert((at_ms, self.event_count), (peer, event));
    }

    /// Sends entries over the stream of an asker.
    fn send(&mut self, peer: PeerKey, is_full: bool, entries: Vec<WantEntry>) {
        let delay_ms = self.rng.random_range(1..400);
        let asker = self.askers.get_mut(&peer).unwrap();
        asker.last_arrival_ms = asker.last_arrival_ms.max(self.now_ms + delay_ms);
        let (at_ms, connection) = (asker.last_arrival_ms, asker.connection);
        self.event_count += 1;
        let event = Event::Entries(connection, is_full, entries);
        self.events.insert((at_ms, self.event_count), (peer, event));
    }

    fn want(&mut self, number: usize) -> WantEntry {
        let is_block = self.rng.random_bool(0.7);
        let kind = if is_block { WantKind::Block } else { WantKind::Have };
        let (priority, send_dont_have) = (self.rng.random_range(1..100), self.rng.random());
        WantEntry::Want { cid: cid(number), priority, kind, send_dont_have }
    }

    fn step(&mut self) -> bool {
        let Some(((at_ms, _), (peer, event))) = self.events.pop_first() else { return false };
        self.now_ms = at_ms;
        match event {
            Event::Entries(connection, is_full, entries) if self.is_live(peer, connection) => {
                self.on_entries(peer, is_full, entries);
            }
            Event::Delivered(connection, batch) if self.is_live(peer, connection) => {
                self.on_delivered(peer, &batch);
            }
            Event::Break if self.askers[&peer].is_connected => self.on_break(peer),
            Event::Return if !self.askers[&peer].is_connected => self.on_return(peer),
            Event::Mischief if self.askers[&peer].is_connected => self.on_mischief(peer),
            Event::Arrival(number) => self.on_arrival(number),
            // Over a connection that is closed, or too late.
            _ => {}
        }
        self.check(peer);
        true
    }

    fn is_live(&self, peer: PeerKey, connection: u64) -> bool {
        let asker = &self.askers[&peer];
        asker.is_connected && asker.connection == connection
    }

    fn on_return(&mut self, peer: PeerKey) {
        let asker = self.askers.get_mut(&peer).unwrap();
        asker.connection += 1;
        asker.is_connected = true;
        asker.last_arrival_ms = self.now_ms;
        let (manner, wants) = (asker.manner, asker.wants.clone());
        let want = |number| WantEntry::Want {
            cid: cid(number),
            priority: self.rng.random_range(1..100),
            kind: WantKind::Block,
            send_dont_have: true,
        };
        let entries = wants.into_iter().map(want).collect();
        self.send(peer, true, entries);
        if manner != Manner::Honest {
            self.schedule(peer, 1..2000, Event::Mischief);
        }
        let left_ms = HEALED_MS.saturating_sub(self.now_ms);
        if left_ms > 1 && self.rng.random_bool(0.7) {
            self.schedule(peer, 1..left_ms, Event::Break);
        }
    }

    fn on_break(&mut self, peer: PeerKey) {
        self.server.disconnect(peer);
        let asker = self.askers.get_mut(&peer).unwrap();
        (asker.is_connected, asker.is_served) = (false, false);
        asker.heard.clear();
        assert!(self.server.wantlist(peer).is_empty(), "seed {}", self.seed);
        self.schedule(peer, 1..5000, Event::Return);
    }

    fn on_mischief(&mut self, peer: PeerKey) {
        let entries: Vec<_> = match self.askers[&peer].manner {
            Manner::Flood => (0..2 * MAX_WANTS_PER_PEER).map(|number| self.want(number)).collect(),
            Manner::Stuck => (0..BLOCK_COUNT).map(|number| self.want(number)).collect(),
            _ => (0..50)
                .map(|_| {
                    let number = self.rng.random_range(0..2 * BLOCK_COUNT);
                    if self.rng.random() { self.want(number) } else { WantEntry::Cancel(cid(number)) }
                })
                .collect(),
        };
        let is_full = self.rng.random_bool(0.2);
        self.send(peer, is_full, entries);
        if self.now_ms < HEALED_MS {
            self.schedule(peer, 1000..5000, Event::Mischief);
        }
    }

    fn on_entries(&mut self, peer: PeerKey, is_full: bool, entries: Vec<WantEntry>) {
        let heard = &mut self.askers.get_mut(&peer).unwrap().heard;
        if is_full {
            heard.clear();
        }
        for entry in &entries {
            match entry {
                WantEntry::Want { cid, .. } => drop(heard.insert(number(cid))),
                WantEntry::Cancel(cid) => drop(heard.remove(&number(cid))),
            }
        }
        let lookup = |entry: WantEntry| {
            let length = match &entry {
                WantEntry::Want { cid, .. } => {
                    Some(number(cid)).filter(|number| self.here.contains(number)).map(len_bytes)
                }
                WantEntry::Cancel(_) => None,
            };
            (entry, length)
        };
        let entries: Vec<_> = entries.into_iter().map(lookup).collect();
        self.server.on_entries(peer, MAX_WANTS_PER_PEER, is_full, entries);
        self.serve(peer);
    }

    fn on_arrival(&mut self, number: usize) {
        self.here.insert(number);
        let hash = *cid(number).hash();
        let wanted = self.server.on_arrival([&hash]);
        let to_wake = self.server.on_lengths(wanted.into_iter().map(|hash| (hash, len_bytes(number))));
        for peer in to_wake {
            self.serve(peer);
        }
    }

    /// Sends the next batch of an asker that has none on its way, as its task does.
    fn serve(&mut self, peer: PeerKey) {
        if self.askers[&peer].is_served {
            return;
        }
        let Some(batch) = self.server.take(peer) else {
            assert!(!self.server.has_work(peer), "seed {}", self.seed);
            return;
        };
        self.check_batch(peer, &batch);
        let asker = self.askers.get_mut(&peer).unwrap();
        asker.is_served = true;
        let connection = asker.connection;
        if asker.manner != Manner::Stuck {
            self.schedule(peer, 1..500, Event::Delivered(connection, batch));
        }
    }

    fn check_batch(&mut self, peer: PeerKey, batch: &Batch) {
        let seed = self.seed;
        let total_bytes: usize = batch.blocks.iter().map(|(cid, _)| len_bytes(number(cid))).sum();
        assert!(total_bytes <= BATCH_BYTES || batch.blocks.len() == 1, "seed {seed}: {total_bytes} bytes");
        let heard = &mut self.askers.get_mut(&peer).unwrap().heard;
        for (cid, _) in &batch.blocks {
            assert!(self.here.contains(&number(cid)), "seed {seed}: a block that is not here");
            assert!(heard.remove(&number(cid)), "seed {seed}: a block that is not wanted");
        }
        for (cid, presence) in &batch.presences {
            let is_here = *presence == Presence::Have;
            assert_eq!(self.here.contains(&number(cid)), is_here, "seed {seed}: a lie");
            assert!(heard.contains(&number(cid)), "seed {seed}: an answer to nothing");
            if is_here {
                heard.remove(&number(cid));
            }
        }
    }

    fn on_delivered(&mut self, peer: PeerKey, batch: &Batch) {
        let asker = self.askers.get_mut(&peer).unwrap();
        asker.is_served = false;
        for (cid, _) in &batch.blocks {
            asker.wants.remove(&number(cid));
        }
        self.serve(peer);
    }

    /// What holds at any time, of the asker of whom something happened.
    fn check(&self, peer: PeerKey) {
        let (seed, Some(asker)) = (self.seed, self.askers.get(&peer)) else { return };
        let wantlist = self.server.wantlist(peer);
        assert!(wantlist.len() <= MAX_WANTS_PER_PEER, "seed {seed}: {} wants", wantlist.len());
        assert!(wantlist.iter().all(|cid| asker.heard.contains(&number(cid))), "seed {seed}: invented wants");
        let is_idle = asker.is_connected && !asker.is_served;
        assert!(!is_idle || !self.server.has_work(peer), "seed {seed}: work is left lying");
    }
}

fn run(seed: u64) {
    let mut net = Net::new(seed);
    while net.now_ms < DEADLINE_MS && net.step() {}
    for (peer, asker) in &net.askers {
        assert!(asker.wants.is_empty(), "seed {seed}: {peer:?} waits for {:?}", asker.wants);
    }
    let peers: Vec<_> = net.askers.keys().copied().collect();
    peers.into_iter().for_each(|peer| net.server.disconnect(peer));
    assert!(net.server.peers.is_empty() && net.server.waiting.is_empty(), "seed {seed}: something is left");
}

#[test]
fn whoever_is_honest_is_served_and_nobody_gets_what_it_does_not_want() {
    every_seed(run);
}
