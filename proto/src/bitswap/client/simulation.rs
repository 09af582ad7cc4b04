//! One asker among peers of every kind, in virtual time: messages are late and overtake each other, peers leave and come
//! back, some lie, and one is mute. Whatever has an honest provider arrives, and nothing else does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::tests::some_time;
use super::*;
use crate::bitswap::server::Server;
use crate::block::Block;
use crate::cid::{HashFunction, RAW, Version};
use crate::limits::MAX_WANTS_PER_PEER;
use crate::simulation::every_seed;

const ASKER: PeerKey = PeerKey(0);
const SESSION: SessionId = SessionId(1);
const BLOCK_COUNT: usize = 300;
const PEER_COUNT: u64 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Serves what it has; may leave and come back.
    Fickle,
    /// Serves what it has, always.
    Honest,
    /// Claims to have everything, and sends other bytes.
    Liar,
    /// Claims to have everything, and sends less than a block in an hour.
    Drip,
    /// Claims to have everything, and begins blocks that it does not end.
    Half,
    /// Claims to have everything, and answers nothing any more.
    Promiser,
    /// Never answers.
    Mute,
}

impl Manner {
    fn claims_all(self) -> bool {
        matches!(self, Self::Liar | Self::Drip | Self::Half | Self::Promiser)
    }

    /// Bytes of no block that it sends each second.
    fn dripped_bytes(self) -> usize {
        match self {
            Self::Drip => 1,
            Self::Half => 1 << 20,
            _ => 0,
        }
    }
}

struct Node {
    manner: Manner,
    blocks: HashMap<Multihash, Block>,
    server: Server,
    /// Counts connections: what was sent over an earlier one is lost.
    connection: u64,
    is_connected: bool,
    /// Wants arrive in the order sent, since they share a stream.
    last_arrival: Instant,
}

#[derive(Debug)]
enum Event {
    Entries(u64, Vec<WantEntry>),
    Block(u64, Block),
    Presence(u64, Cid, Presence),
    Found(Cid),
    Flip,
    Arrive,
    /// Bytes, and those that follow.
    Bytes(u64, usize),
}

struct Net {
    random: ChaCha8Rng,
    now: Instant,
    client: Client,
    nodes: BTreeMap<PeerKey, Node>,
    events: BTreeMap<(Instant, u64), (PeerKey, Event)>,
    event_count: u64,
    received: HashSet<Cid>,
    /// Whether searches find providers; otherwise the honest ones come by themselves.
    finds: bool,
}

impl Net {
    fn new(seed: u64, blocks: &[Block]) -> Self {
        let now = some_time();
        let (random, client) = (ChaCha8Rng::seed_from_u64(seed), Client::default());
        let (nodes, events, received) = (BTreeMap::new(), BTreeMap::new(), HashSet::new());
        let finds = seed.is_multiple_of(2);
        let mut net = Self { random, now, client, nodes, events, event_count: 0, received, finds };
        for number in 1..=PEER_COUNT {
            let manner = match number {
                1 | 2 => Manner::Honest,
                3 => Manner::Liar,
                4 => Manner::Mute,
                5 => Manner::Drip,
                6 => Manner::Half,
                7 => Manner::Promiser,
                _ => Manner::Fickle,
            };
            let node = Node {
                manner,
                blocks: HashMap::new(),
                server: Server::default(),
                connection: 0,
                is_connected: false,
                last_arrival: now,
            };
            net.nodes.insert(PeerKey(number), node);
            match manner {
                Manner::Fickle => net.schedule(PeerKey(number), 0..3000, Event::Flip),
                Manner::Honest if !finds => net.schedule(PeerKey(number), 0..3000, Event::Arrive),
                _ => {}
            }
        }
        for block in blocks {
            // One honest provider at least, and any number of others.
            let honest = PeerKey(net.random.random_range(1..=2));
            for (peer, node) in &mut net.nodes {
                if *peer == honest || net.random.random_bool(0.3) {
                    node.blocks.insert(*block.multihash(), block.clone());
                }
            }
        }
        net
    }

    fn schedule(&mut self, peer: PeerKey, delay_ms: std::ops::Range<u64>, event: Event) {
        let at = self.now + Duration::from_millis(self.random.random_range(delay_ms));
        self.schedule_at(peer, at, event);
    }

    fn schedule_at(&mut self, peer: PeerKey, at: Instant, event: Event) {
        self.event_count += 1;
        self.events.insert((at, self.event_count), (peer, event));
    }

    fn connect(&mut self, peer: PeerKey) {
        let node = self.nodes.get_mut(&peer).unwrap();
        if !std::mem::replace(&mut node.is_connected, true) {
            node.connection += 1;
            let connection = node.connection;
            let len_bytes = node.manner.dripped_bytes();
            self.client.connect(peer, false, self.now);
            if len_bytes > 0 {
                self.schedule(peer, 0..1000, Event::Bytes(connection, len_bytes));
            }
        }
    }

    fn flip(&mut self, peer: PeerKey) {
        self.schedule(peer, 500..4000, Event::Flip);
        let node = self.nodes.get_mut(&peer).unwrap();
        if !node.is_connected {
            return self.connect(peer);
        }
        node.is_connected = false;
        node.server.disconnect(ASKER);
        self.client.disconnect(peer, self.now);
    }

    fn step(&mut self) {
        let tick = self.client.next_tick().unwrap_or(self.now + TICK);
        match self.events.first_key_value() {
            Some((&(at, _), _)) if at <= tick => {
                let ((at, _), (peer, event)) = self.events.pop_first().unwrap();
                self.now = at;
                self.apply(peer, event);
            }
            _ => {
                self.now = tick.max(self.now);
                self.client.tick(self.now);
            }
        }
        self.flush();
    }

    fn apply(&mut self, peer: PeerKey, event: Event) {
        let is_live = |connection| {
            let node = &self.nodes[&peer];
            node.is_connected && node.connection == connection
        };
        match event {
            Event::Entries(connection, entries) if is_live(connection) => self.answer(peer, entries),
            Event::Block(connection, block) if is_live(connection) => {
                let len_bytes = block.data().len();
                for (_, cid) in self.client.on_block(peer, block.multihash(), len_bytes, self.now) {
                    assert!(block.clone().with_cid(cid).is_some(), "only what it hashes to");
                    assert!(self.received.insert(cid), "each once");
                }
            }
            Event::Presence(connection, cid, presence) if is_live(connection) => {
                self.client.on_presence(peer, cid.hash(), presence, self.now);
            }
            Event::Found(cid) => {
                let has = |node: &Node| node.blocks.contains_key(cid.hash()) || node.manner.claims_all();
                let providers: Vec<_> =
                    self.nodes.iter().filter(|(_, node)| has(node)).map(|(peer, _)| *peer).collect();
                let count = self.random.random_range(1..=providers.len());
                let found: Vec<_> = providers.choose_multiple(&mut self.random, count).copied().collect();
                for provider in found {
                    self.connect(provider);
                    self.client.add_provider(SESSION, provider, self.now);
                }
            }
            Event::Bytes(connection, len_bytes) if is_live(connection) => {
                self.client.on_bytes(peer, len_bytes, self.now);
                self.schedule(peer, 900..1000, Event::Bytes(connection, len_bytes));
            }
            Event::Flip => self.flip(peer),
            Event::Arrive => self.connect(peer),
            // Sent over a connection that is closed.
            Event::Entries(..) | Event::Block(..) | Event::Presence(..) | Event::Bytes(..) => {}
        }
    }

    fn answer(&mut self, peer: PeerKey, entries: Vec<WantEntry>) {
        let node = self.nodes.get_mut(&peer).unwrap();
        let (manner, connection) = (node.manner, node.connection);
        if manner == Manner::Mute {
            return;
        }
        let lookup = |entry: WantEntry| {
            let len_bytes = match &entry {
                WantEntry::Want { .. } if manner.claims_all() => Some(5000),
                WantEntry::Want { cid, .. } => node.blocks.get(cid.hash()).map(|block| block.data().len()),
                WantEntry::Cancel(_) => None,
            };
            (entry, len_bytes)
        };
        let entries: Vec<_> = entries.into_iter().map(lookup).collect();
        node.server.on_entries(ASKER, MAX_WANTS_PER_PEER, false, entries);
        while let Some(batch) = self.nodes.get_mut(&peer).unwrap().server.take(ASKER) {
            for (cid, _) in batch.blocks {
                if matches!(manner, Manner::Drip | Manner::Half | Manner::Promiser) {
                    continue;
                }
                let block = match manner {
                    Manner::Liar => block(usize::MAX),
                    _ => self.nodes[&peer].blocks[cid.hash()].clone(),
                };
                self.schedule(peer, 1..300, Event::Block(connection, block));
            }
            for (cid, presence) in batch.presences {
                self.schedule(peer, 1..300, Event::Presence(connection, cid, presence));
            }
        }
    }

    fn flush(&mut self) {
        while let Some(peer) = self.client.next_dirty() {
            let entries = self.client.take_entries(peer, self.now);
            let delay = Duration::from_millis(self.random.random_range(1..150));
            let node = self.nodes.get_mut(&peer).unwrap();
            node.last_arrival = node.last_arrival.max(self.now + delay);
            let (at, connection) = (node.last_arrival, node.connection);
            self.schedule_at(peer, at, Event::Entries(connection, entries));
        }
        for search in self.client.take_searches() {
            if self.finds {
                self.schedule(ASKER, 50..500, Event::Found(search.cid));
            }
        }
    }
}

fn block(number: usize) -> Block {
    let data = [number.to_be_bytes().as_slice(), &vec![7; 100 + number % 5000]].concat();
    Block::hash(Version::V1, RAW, HashFunction::Sha2_256, Bytes::from(data)).unwrap()
}

fn run(seed: u64) {
    let blocks: Vec<_> = (0..BLOCK_COUNT).map(block).collect();
    let mut net = Net::new(seed, &blocks);
    net.client.open(SESSION);
    let peers: Vec<_> = net.nodes.keys().copied().collect();
    for peer in peers {
        if net.random.random_bool(0.5) {
            net.connect(peer);
        }
    }
    let mut wanted = 0;
    let deadline = net.now + Duration::from_secs(600);
    while net.received.len() < BLOCK_COUNT {
        // As a walk does: a window of wants, refilled.
        let window = net.random.random_range(1..64);
        if wanted < BLOCK_COUNT && net.client.want_count() < window {
            let more = &blocks[wanted..BLOCK_COUNT.min(wanted + window)];
            wanted += more.len();
            net.client.want(SESSION, more.iter().map(|block| *block.cid()), net.now);
            net.flush();
        }
        net.step();
        assert!(net.now < deadline, "seed={seed} received={} wanted={wanted}", net.received.len());
    }
    assert_eq!(net.client.want_count(), 0);
    net.client.close(SESSION);
}

#[test]
fn every_want_with_an_honest_provider_is_served() {
    every_seed(run);
}
