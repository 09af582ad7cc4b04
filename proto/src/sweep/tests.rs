//! A network of peers in virtual time, in which a node provides its keys. Every run prints its seed when it fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

const INTERVAL_S: u64 = 22 * 3600;
/// A node meets this many peers of each bucket, as Kademlia does.
const BUCKET: usize = 20;

/// Peers, each with a routing table of its own.
struct Net {
    rng: ChaCha8Rng,
    /// Point of each peer, and the peers that it knows.
    peers: BTreeMap<Key, Vec<Key>>,
    /// Share of peers that are gone but still in the tables of others.
    gone: BTreeSet<Key>,
    ask_count: usize,
}

impl Net {
    fn new(seed: u64, peer_count: usize) -> Self {
        let mut net = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            peers: BTreeMap::new(),
            gone: BTreeSet::new(),
            ask_count: 0,
        };
        for _ in 0..peer_count {
            let peer = net.point();
            net.peers.insert(peer, Vec::new());
        }
        net.fill_tables();
        net
    }

    fn point(&mut self) -> Key {
        Key::from_bytes(self.rng.random())
    }

    /// Everybody knows up to twenty of each bucket, and so all that are close.
    fn fill_tables(&mut self) {
        let everybody: Vec<_> = self.peers.keys().copied().collect();
        for (peer, table) in &mut self.peers {
            let mut buckets: BTreeMap<u16, Vec<Key>> = BTreeMap::new();
            for other in everybody.iter().filter(|other| *other != peer) {
                buckets.entry(peer.common_prefix_len(other)).or_default().push(*other);
            }
            let rng = &mut self.rng;
            *table = buckets
                .values()
                .flat_map(|bucket| bucket.iter().copied().choose_multiple(rng, BUCKET))
                .collect();
        }
    }

    /// Some peers go, as many come; those who stayed still know the ones that went.
    fn churn(&mut self, count: usize) {
        let going = self.peers.keys().copied().choose_multiple(&mut self.rng, count);
        let coming: Vec<_> = going.iter().map(|_| self.point()).collect();
        for peer in &going {
            self.peers.remove(peer);
        }
        self.peers.extend(coming.iter().map(|peer| (*peer, Vec::new())));
        self.fill_tables();
        for table in self.peers.values_mut() {
            table.extend(going.iter().take(3));
        }
        self.gone.extend(going);
    }

    /// What a peer answers; `None` from one that is gone.
    fn ask(&mut self, ask: &Ask) -> Option<Vec<Key>> {
        self.ask_count += 1;
        let table = self.peers.get(&ask.peer)?;
        Some(closest(&Key::of(&ask.target), table.iter().copied(), REPLICATION))
    }

    /// Runs an exploration from a few peers that a node would know.
    fn explore(&mut self, multihash: &[u8], is_lossy: bool) -> Option<Explored> {
        let known = self.peers.keys().copied().choose_multiple(&mut self.rng, 4);
        let mut explorer = Explorer::new(multihash, known);
        let mut waiting = Vec::new();
        while !explorer.is_at_end() {
            while let Some(ask) = explorer.next_ask() {
                waiting.push(ask);
            }
            // Answers come in any order.
            let index = self.rng.random_range(0..waiting.len());
            let ask = waiting.swap_remove(index);
            match self.ask(&ask) {
                Some(_) if is_lossy && self.rng.random_ratio(1, 20) => explorer.on_failure(ask.peer),
                Some(closer) => explorer.on_answer(&ask, &closer),
                None => explorer.on_failure(ask.peer),
            }
        }
        explorer.explored()
    }
}

/// A node with keys, and when each was told last.
struct Node {
    keys: BTreeMap<Key, Vec<u8>>,
    told_s: HashMap<Key, u64>,
    /// In which cycle that was.
    told_in: HashMap<Key, u64>,
    schedule: Schedule,
    /// Time of the interval in which the keyspace of the widest region is due.
    widest_s: u64,
    region_count: usize,
}

impl Node {
    fn new(net: &mut Net, key_count: usize, now_s: u64) -> Self {
        let multihash = |rng: &mut ChaCha8Rng| [[0x12, 0x20].as_slice(), &rng.random::<[u8; 32]>()].concat();
        let multihashes: Vec<_> = (0..key_count).map(|_| multihash(&mut net.rng)).collect();
        let keys = multihashes.into_iter().map(|bytes| (Key::of(&bytes), bytes)).collect();
        let schedule = Schedule::new(Prefix::ALL, Duration::from_secs(INTERVAL_S), None, now_s);
        Self { keys, told_s: HashMap::new(), told_in: HashMap::new(), schedule, widest_s: 0, region_count: 0 }
    }

    /// One step; returns when the next is due. `told` is given each key of a region and who was given its record.
    fn step(
        &mut self,
        net: &mut Net,
        now_s: u64,
        is_lossy: bool,
        mut told: impl FnMut(&Net, Key, Vec<Key>),
    ) -> u64 {
        let cursor = self.schedule.cycle().cursor;
        let found = cursor.and_then(|cursor| self.keys.range(cursor..).next());
        let key = match self.schedule.step(now_s, found.map(|(key, _)| *key)) {
            Step::Wait { until_s } => return until_s,
            Step::Again => return now_s,
            Step::Tell(key) => key,
        };
        let Some(explored) = net.explore(&self.keys[&key], is_lossy) else { return now_s + 60 };
        assert!(explored.region.contains(&key));
        let cursor = cursor.unwrap();
        for key in self.keys.range(cursor..=explored.region.last()).map(|(key, _)| *key) {
            self.told_s.insert(key, now_s);
            let cycle = self.schedule.cycle().started_s;
            assert_ne!(self.told_in.insert(key, cycle), Some(cycle), "told twice in a cycle");
            told(net, key, closest(&key, explored.peers.iter().copied(), REPLICATION));
        }
        self.widest_s = self.widest_s.max(INTERVAL_S >> explored.region.bit_count());
        self.region_count += 1;
        self.schedule.on_told(&explored.region);
        now_s
    }

    /// As after a restart: all that is left is what was kept.
    fn restart(&mut self, now_s: u64) {
        let kept = Cycle::from_bytes(&self.schedule.cycle().to_bytes());
        assert_eq!(kept, Some(self.schedule.cycle()));
        self.schedule = Schedule::new(Prefix::ALL, Duration::from_secs(INTERVAL_S), kept, now_s);
    }
}

#[test]
fn in_a_calm_network_every_record_comes_to_the_twenty_closest_peers() {
    for (seed, peer_count) in (0..60).zip([5, 19, 20, 21, 60, 200].into_iter().cycle()) {
        let mut net = Net::new(seed, peer_count);
        let mut node = Node::new(&mut net, 300, 1_000_000);
        let mut now_s = 1_000_000;
        while node.told_s.len() < node.keys.len() {
            now_s = node.step(&mut net, now_s, false, |net, key, given| {
                let right = closest(&key, net.peers.keys().copied(), REPLICATION);
                assert_eq!(given, right, "seed {seed}");
            });
        }
        assert_eq!(now_s, 1_000_000, "the first time everything is told at once, seed {seed}");
    }
}

#[test]
fn one_key_comes_to_the_twenty_closest_peers_and_to_the_surest_before_all_are_found() {
    let mut early_count = 0;
    for (seed, peer_count) in (0..120).zip([1, 5, 20, 60, 200, 500].into_iter().cycle()) {
        let mut net = Net::new(seed, peer_count);
        let multihash = [[0x12, 0x20].as_slice(), &net.rng.random::<[u8; 32]>()].concat();
        // Who announces is a peer like the others.
        let local = *net.peers.keys().next().unwrap();
        let known = net.peers[&local].clone();
        let mut announcer = Announcer::new(&multihash, &local, known);
        let (mut waiting, mut given) = (Vec::new(), BTreeSet::new());
        loop {
            while let Some(call) = announcer.next_call() {
                waiting.push(call);
            }
            if waiting.is_empty() {
                break;
            }
            let index = net.rng.random_range(0..waiting.len());
            match waiting.swap_remove(index) {
                Call::Ask(peer) => {
                    early_count += given.len().min(1);
                    let ask = Ask { peer, target: announcer.target().to_vec() };
                    let closer = net.ask(&ask).unwrap();
                    announcer.on_answer(&peer, &closer);
                }
                Call::Tell(peer) => {
                    assert!(given.insert(peer), "each once");
                    announcer.on_taken(&peer);
                }
            }
        }
        let others = net.peers.keys().copied().filter(|peer| *peer != local);
        let right = closest(&Key::of(&multihash), others, REPLICATION);
        // Who is far enough to be in a crowded bucket of everybody asked may be missed.
        let missed = right.iter().filter(|peer| !given.contains(*peer)).count();
        assert!(missed <= 2, "seed {seed}, {peer_count} peers: {missed} missed");
        assert_eq!(announcer.is_enough(), right.len() >= 15, "seed {seed}");
        assert!(net.ask_count <= 60, "seed {seed}: {} questions", net.ask_count);
    }
    assert!(early_count > 100, "some records are given while peers are still asked: {early_count}");
}

/// A network, content, and four peers that are known: the three that are closest, who know nobody, and one that is not.
fn hidden_network(seed: u64) -> (Net, Vec<u8>, [Key; 4]) {
    let mut net = Net::new(seed, 60);
    let multihash = [[0x12, 0x20].as_slice(), &net.rng.random::<[u8; 32]>()].concat();
    let sorted = closest(&Key::of(&multihash), net.peers.keys().copied(), 60);
    sorted[..3].iter().for_each(|peer| drop(net.peers.insert(*peer, Vec::new())));
    (net, multihash, [sorted[0], sorted[1], sorted[2], sorted[40]])
}

#[test]
fn a_region_is_not_taken_for_a_small_network_before_everybody_known_was_asked() {
    let (mut net, multihash, known) = hidden_network(1);
    let mut explorer = Explorer::new(&multihash, known);
    while let Some(ask) = explorer.next_ask() {
        explorer.on_answer(&ask, &net.ask(&ask).unwrap());
    }
    let explored = explorer.explored().unwrap();
    let right = closest(&Key::of(&multihash), net.peers.keys().copied(), REPLICATION);
    let missed = right.iter().filter(|peer| !explored.peers.contains(peer)).count();
    assert!(missed <= 2 && explored.region != Prefix::ALL, "{missed} missed, {:?}", explored.region);
}

#[test]
fn a_key_is_not_announced_to_a_few_before_everybody_known_was_asked() {
    let (mut net, multihash, known) = hidden_network(1);
    let mut announcer = Announcer::new(&multihash, &Key::of(b"local"), known);
    while let Some(call) = announcer.next_call() {
        match call {
            Call::Ask(peer) => {
                let ask = Ask { peer, target: announcer.target().to_vec() };
                announcer.on_answer(&peer, &net.ask(&ask).unwrap());
            }
            Call::Tell(peer) => announcer.on_taken(&peer),
        }
    }
    assert!(announcer.is_enough(), "{} took it", announcer.taken_count());
}

#[test]
fn peers_that_refuse_a_record_are_replaced_by_the_next_closest() {
    let mut net = Net::new(1, 100);
    let multihash = [[0x12, 0x20].as_slice(), &[9; 32]].concat();
    let sorted = closest(&Key::of(&multihash), net.peers.keys().copied(), 100);
    let mut announcer = Announcer::new(&multihash, &Key::of(b"local"), net.peers.keys().copied());
    let mut taken = BTreeSet::new();
    while let Some(call) = announcer.next_call() {
        match call {
            Call::Ask(peer) => {
                let ask = Ask { peer, target: announcer.target().to_vec() };
                announcer.on_answer(&peer, &net.ask(&ask).unwrap());
            }
            Call::Tell(peer) if sorted[..7].contains(&peer) => announcer.on_refused(&peer),
            Call::Tell(peer) => {
                announcer.on_taken(&peer);
                taken.insert(peer);
            }
        }
    }
    assert!(sorted[7..27].iter().all(|peer| taken.contains(peer)));
    assert_eq!((announcer.is_enough(), announcer.taken_count()), (true, taken.len()));
}

#[test]
fn a_key_is_not_announced_to_nobody() {
    let mut announcer = Announcer::new(&[[0x12, 0x20].as_slice(), &[9; 32]].concat(), &Key::of(b"local"), []);
    assert_eq!((announcer.next_call(), announcer.is_enough()), (None, false));
    let mut announcer =
        Announcer::new(&[[0x12, 0x20].as_slice(), &[9; 32]].concat(), &Key::of(b"local"), [Key::of(b"peer")]);
    assert_eq!(announcer.next_call(), Some(Call::Ask(Key::of(b"peer"))));
    announcer.on_unanswered(&Key::of(b"peer"));
    assert_eq!((announcer.next_call(), announcer.taken_count()), (None, 0));
}

#[test]
fn questions_are_as_many_as_peers_and_not_as_keys() {
    for seed in 0..10 {
        let mut net = Net::new(seed, 200);
        let mut node = Node::new(&mut net, 5_000, 1_000_000);
        while node.told_s.len() < node.keys.len() {
            node.step(&mut net, 1_000_000, false, |_, _, _| ());
        }
        assert!(
            net.ask_count <= 300,
            "seed {seed}: {} questions, {} regions",
            net.ask_count,
            node.region_count
        );
    }
}

#[test]
fn with_churn_loss_and_restarts_every_key_is_told_in_time_and_none_twice_in_a_cycle() {
    for seed in 0..120 {
        let mut net = Net::new(seed, 120);
        let start_s = 10 * INTERVAL_S;
        let mut node = Node::new(&mut net, 200, start_s);
        let (mut now_s, mut churned_s) = (start_s, start_s);
        let mut last: HashMap<Key, u64> = HashMap::new();
        while now_s < start_s + 4 * INTERVAL_S {
            if now_s >= churned_s + 3600 {
                net.churn(3);
                churned_s = now_s;
            }
            if net.rng.random_ratio(1, 5) {
                let position = node.schedule.cycle();
                node.restart(now_s);
                assert_eq!(node.schedule.cycle(), position, "no region again, seed {seed}");
            }
            let (widest_s, mut late) = (node.widest_s, None);
            let until_s = node.step(&mut net, now_s, true, |_, key, given| {
                if let Some(before_s) = last.insert(key, now_s) {
                    let gap_s = now_s - before_s;
                    // Overdue keys of the start may be told once more right after it.
                    let longest_s = INTERVAL_S + widest_s + 3600;
                    if gap_s > longest_s || given.len() < REPLICATION {
                        late = Some((gap_s, given.len()));
                    }
                }
            });
            assert_eq!(late, None, "seed {seed}");
            if until_s > now_s {
                now_s = until_s.min(churned_s + 3600);
            }
        }
        assert_eq!(last.len(), node.keys.len(), "seed {seed}");
        assert!(last.values().all(|told_s| now_s - told_s < 2 * INTERVAL_S), "seed {seed}");
    }
}

#[test]
fn who_was_away_catches_up_at_once_and_then_keeps_its_pace() {
    let mut net = Net::new(7, 100);
    let mut node = Node::new(&mut net, 100, 1_000_000);
    let mut tell_all = |node: &mut Node, from_s: u64| {
        let mut now_s = from_s;
        while node.told_s.values().any(|told_s| *told_s < from_s) || node.told_s.len() < node.keys.len() {
            now_s = node.step(&mut net, now_s, false, |_, _, _| ());
        }
        now_s
    };
    assert_eq!(tell_all(&mut node, 1_000_000), 1_000_000);
    // Away for a third of an interval, and for three.
    for away_s in [INTERVAL_S / 3, 3 * INTERVAL_S] {
        let now_s = node.told_s.values().max().unwrap() + away_s;
        node.restart(now_s);
        let done_s = tell_all(&mut node, now_s);
        assert!(done_s <= now_s + INTERVAL_S, "{away_s}");
        assert!(away_s < INTERVAL_S || done_s == now_s, "everything had expired");
    }
}

#[test]
fn a_clock_set_back_puts_nothing_off() {
    let mut schedule = Schedule::new(Prefix::ALL, Duration::from_secs(INTERVAL_S), None, 900 * INTERVAL_S);
    assert_eq!(schedule.step(900 * INTERVAL_S, None), Step::Again);
    let schedule =
        Schedule::new(Prefix::ALL, Duration::from_secs(INTERVAL_S), Some(schedule.cycle()), INTERVAL_S);
    assert_eq!(schedule.cycle(), Cycle { started_s: 0, cursor: Some(Key::FIRST) });
}

#[test]
fn without_a_peer_nothing_is_explored() {
    let multihash = [[0x12, 0x20].as_slice(), &[7; 32]].concat();
    assert!(Explorer::new(&multihash, []).is_at_end());
    assert_eq!(Explorer::new(&multihash, []).explored(), None);
    let peer = Key::of(b"peer");
    let mut explorer = Explorer::new(&multihash, [peer]);
    let ask = explorer.next_ask().unwrap();
    assert_eq!((ask.peer, explorer.next_ask()), (peer, None));
    explorer.on_failure(peer);
    assert!(explorer.is_at_end() && explorer.explored().is_none());
}

#[test]
fn peers_that_invent_peers_without_end_are_not_followed_without_end() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut explorer = Explorer::new(&[[0x12, 0x20].as_slice(), &[7; 32]].concat(), [Key::of(b"liar")]);
    let mut ask_count = 0_u16;
    while let Some(ask) = explorer.next_ask() {
        ask_count += 1;
        // Each names twenty that are closer than itself.
        let near = Prefix::new(&Key::of(&ask.target), 20 + ask_count % 200).first();
        let invented: Vec<_> = (0..20)
            .map(|_| {
                let mut bytes = *near.as_bytes();
                rng.fill(&mut bytes[26..]);
                Key::from_bytes(bytes)
            })
            .collect();
        explorer.on_answer(&ask, &invented);
        assert!(ask_count < 20_000);
    }
    assert!(explorer.is_at_end());
}
