//! A node that sweeps a DHT in virtual time: answers are late, get lost and overtake each other, a part of the network is cut
//! off, peers come and go, some lie, and the node itself is started again now and then. Nothing is told that is not to be
//! told, nothing twice in a turn, and once the network has healed, every key is told to peers where it is found.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::simulation::every_seed;

const INTERVAL_S: u64 = 1000;
const PEER_COUNT: usize = 40;
const KEY_COUNT: usize = 40;
/// Share of peers that lie: they invent peers, and say that they took what they did not.
const LIAR_SHARE: f64 = 0.1;
/// From when on nothing is lost and nobody comes or goes, in milliseconds.
const HEALED_MS: u64 = 1_500_000;
/// When every key must have been told since: after an interval, and the share of the keyspace that a region may be.
const DEADLINE_MS: u64 = HEALED_MS + 2 * INTERVAL_S * 1000;
/// Wait for a peer that does not answer, in milliseconds.
const TIMEOUT_MS: u64 = 10_000;
/// A node meets so many peers of each bucket.
const BUCKET: usize = 20;
/// Right peers of twenty that have a record in the end, whatever liars do.
const MIN_HOLDERS: usize = 10;

#[derive(Debug, Clone)]
struct Peer {
    is_liar: bool,
    is_cut_off: bool,
    table: Vec<Key>,
    /// When it was given the record of each key last, in milliseconds.
    records: HashMap<Key, u64>,
}

#[derive(Debug)]
enum Event {
    /// What a peer answered, or that it did not.
    Answer(Ask, Option<Vec<Key>>),
    /// Whether a peer took records.
    Pushed(Key, bool),
    Wake,
}

/// What happens to the network.
#[derive(Debug)]
enum Turn {
    Churn,
    Cut,
    Mend,
    Restart,
}

/// A part of the keyspace and what is done in it.
struct Part {
    prefix: Prefix,
    schedule: Schedule,
    work: Work,
    /// Answers to what an earlier life asked count no more.
    life: u64,
}

enum Work {
    Wait,
    Explore { from: Key, explorer: Box<Explorer> },
    Push { explored: Explored, left: usize, failed: BTreeSet<Key>, is_second: bool, keys: Vec<Key> },
}

struct Net {
    seed: u64,
    rng: ChaCha8Rng,
    now_ms: u64,
    peers: BTreeMap<Key, Peer>,
    /// The node's keys, and when each was told last, in milliseconds.
    keys: BTreeMap<Key, (Vec<u8>, u64)>,
    /// In which turn of its part a key was told.
    told_in: HashMap<Key, u64>,
    parts: Vec<Part>,
    events: BTreeMap<(u64, u64), (usize, u64, Event)>,
    turns: BTreeMap<(u64, u64), Turn>,
    event_count: u64,
}

impl Net {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let multihash = |rng: &mut ChaCha8Rng| [[0x12, 0x20].as_slice(), &rng.random::<[u8; 32]>()].concat();
        let keys = (0..KEY_COUNT).map(|_| multihash(&mut rng)).map(|bytes| (Key::of(&bytes), (bytes, 0)));
        let keys: BTreeMap<_, _> = keys.collect();
        let bit_count = u8::try_from(seed % 4).unwrap();
        let part = |prefix| Part {
            prefix,
            schedule: Schedule::new(prefix, Duration::from_secs(INTERVAL_S), None, 10 * INTERVAL_S),
            work: Work::Wait,
            life: 0,
        };
        let mut net = Self {
            seed,
            now_ms: 0,
            peers: BTreeMap::new(),
            keys,
            told_in: HashMap::new(),
            parts: Prefix::parts(bit_count).map(part).collect(),
            events: BTreeMap::new(),
            turns: BTreeMap::new(),
            event_count: 0,
            rng,
        };
        (0..PEER_COUNT).for_each(|_| net.come());
        net.fill_tables();
        for part in 0..net.parts.len() {
            net.schedule(part, 0, Event::Wake);
        }
        for turn in [Turn::Churn, Turn::Churn, Turn::Churn, Turn::Restart, Turn::Restart] {
            net.turn(0..HEALED_MS, turn);
        }
        let cut_ms = net.rng.random_range(0..HEALED_MS / 2);
        net.turn(cut_ms..cut_ms + 1, Turn::Cut);
        net.turn(cut_ms + 1..HEALED_MS, Turn::Mend);
        net
    }

    fn come(&mut self) {
        let key = Key::from_bytes(self.rng.random());
        let is_liar = self.rng.random_bool(LIAR_SHARE);
        let peer = Peer { is_liar, is_cut_off: false, table: Vec::new(), records: HashMap::new() };
        self.peers.insert(key, peer);
    }

    /// Everybody meets up to twenty of each bucket, and does not forget those that are gone by then.
    fn fill_tables(&mut self) {
        let everybody: Vec<_> = self.peers.keys().copied().collect();
        for (key, peer) in &mut self.peers {
            let mut buckets: BTreeMap<u16, Vec<Key>> = BTreeMap::new();
            for other in everybody.iter().filter(|other| *other != key) {
                buckets.entry(key.common_prefix_len(other)).or_default().push(*other);
            }
            let gone: Vec<_> =
                peer.table.iter().filter(|old| !everybody.contains(old)).take(2).copied().collect();
            let rng = &mut self.rng;
            let met = buckets.values().flat_map(|bucket| bucket.iter().copied().choose_multiple(rng, BUCKET));
            peer.table = met.chain(gone).collect();
        }
    }

    fn schedule(&mut self, part: usize, delay_ms: u64, event: Event) {
        self.event_count += 1;
        let life = self.parts[part].life;
        self.events.insert((self.now_ms + delay_ms, self.event_count), (part, life, event));
    }

    fn turn(&mut self, at_ms: std::ops::Range<u64>, turn: Turn) {
        let at_ms = self.rng.random_range(at_ms);
        self.event_count += 1;
        self.turns.insert((at_ms, self.event_count), turn);
    }

    fn now_s(&self) -> u64 {
        10 * INTERVAL_S + self.now_ms / 1000
    }

    fn run(&mut self) {
        while let Some((&at, _)) = self.events.first_key_value() {
            if let Some(entry) = self.turns.first_entry().filter(|entry| entry.key() <= &at) {
                self.now_ms = entry.key().0;
                let turn = entry.remove();
                self.apply(turn);
                continue;
            }
            let (_, (part, life, event)) = self.events.pop_first().unwrap();
            self.now_ms = at.0;
            if self.now_ms > DEADLINE_MS {
                return;
            }
            if self.parts[part].life == life {
                self.on_event(part, event);
            }
        }
    }

    fn apply(&mut self, turn: Turn) {
        match turn {
            Turn::Churn => {
                for key in self.peers.keys().copied().choose_multiple(&mut self.rng, 4) {
                    self.peers.remove(&key);
                    self.come();
                }
                self.fill_tables();
            }
            Turn::Cut => {
                let rng = &mut self.rng;
                self.peers.values_mut().for_each(|peer| peer.is_cut_off = rng.random_bool(0.5));
            }
            Turn::Mend => self.peers.values_mut().for_each(|peer| peer.is_cut_off = false),
            Turn::Restart => {
                let (interval, now_s) = (Duration::from_secs(INTERVAL_S), self.now_s());
                for number in 0..self.parts.len() {
                    let part = &mut self.parts[number];
                    let kept = Cycle::from_bytes(&part.schedule.cycle().to_bytes());
                    assert_eq!(kept, Some(part.schedule.cycle()));
                    part.schedule = Schedule::new(part.prefix, interval, kept, now_s);
                    part.work = Work::Wait;
                    part.life += 1;
                    self.schedule(number, 0, Event::Wake);
                }
            }
        }
    }

    fn on_event(&mut self, number: usize, event: Event) {
        match (event, &mut self.parts[number].work) {
            (Event::Wake, Work::Wait) => self.wake(number),
            (Event::Answer(ask, answer), Work::Explore { explorer, .. }) => {
                match answer {
                    Some(closer) => explorer.on_answer(&ask, &closer),
                    None => explorer.on_failure(ask.peer),
                }
                self.explore(number);
            }
            (Event::Pushed(peer, is_taken), Work::Push { left, failed, .. }) => {
                *left -= 1;
                if !is_taken {
                    failed.insert(peer);
                }
                if *left == 0 {
                    self.on_pushed(number);
                }
            }
            // An answer that nobody waits for any more.
            _ => {}
        }
    }

    fn wake(&mut self, number: usize) {
        let now_s = self.now_s();
        let part = &mut self.parts[number];
        let (cursor, last) = (part.schedule.cycle().cursor, part.prefix.last());
        let found = cursor.and_then(|cursor| self.keys.range(cursor..=last).next());
        match part.schedule.step(now_s, found.map(|(key, _)| *key)) {
            Step::Wait { until_s } => self.schedule(number, (until_s - now_s) * 1000, Event::Wake),
            Step::Again => self.schedule(number, 0, Event::Wake),
            Step::Tell(from) => {
                assert!(part.prefix.contains(&from), "seed {}", self.seed);
                // Some of the peers that a node would know.
                let known: Vec<_> = self.peers.keys().copied().choose_multiple(&mut self.rng, 4);
                let explorer = Box::new(Explorer::new(&self.keys[&from].0, known));
                self.parts[number].work = Work::Explore { from, explorer };
                self.explore(number);
            }
        }
    }

    fn explore(&mut self, number: usize) {
        let Work::Explore { from, explorer } = &mut self.parts[number].work else { unreachable!() };
        let from = *from;
        let mut asks = Vec::new();
        while let Some(ask) = explorer.next_ask() {
            asks.push(ask);
        }
        let (is_at_end, explored) = (explorer.is_at_end(), explorer.explored());
        for ask in asks {
            let answer = self.answer(&ask);
            let delay_ms = if answer.is_some() { self.rng.random_range(10..3000) } else { TIMEOUT_MS };
            self.schedule(number, delay_ms, Event::Answer(ask, answer));
        }
        if !is_at_end {
            return;
        }
        let Some(explored) = explored else { return self.fail(number) };
        assert!(explored.region.contains(&from), "seed {}", self.seed);
        let last = explored.region.last().min(self.parts[number].prefix.last());
        let keys: Vec<_> = self.keys.range(from..=last).map(|(key, _)| *key).collect();
        self.push(number, explored, keys, BTreeSet::new(), false);
    }

    /// Gives the records to the peers of a region; `failed` are those that were given them in vain.
    fn push(
        &mut self,
        number: usize,
        mut explored: Explored,
        keys: Vec<Key>,
        failed: BTreeSet<Key>,
        is_second: bool,
    ) {
        let before: HashSet<_> = explored.peers.iter().copied().collect();
        explored.peers.retain(|peer| !failed.contains(peer));
        let mut assigned: BTreeMap<Key, Vec<Key>> = BTreeMap::new();
        for key in &keys {
            let given = match is_second {
                true => closest(key, before.iter().copied(), REPLICATION),
                false => Vec::new(),
            };
            for peer in closest(key, explored.peers.iter().copied(), REPLICATION) {
                if !given.contains(&peer) {
                    assigned.entry(peer).or_default().push(*key);
                }
            }
        }
        let left = assigned.len();
        let work = Work::Push { explored, left, failed: BTreeSet::new(), is_second, keys };
        self.parts[number].work = work;
        for (peer, keys) in assigned {
            let is_lost = self.is_lost();
            let is_taken = self.peers.get(&peer).is_some_and(|peer| !peer.is_cut_off) && !is_lost;
            if let Some(holder) = self.peers.get_mut(&peer).filter(|peer| is_taken && !peer.is_liar) {
                holder.records.extend(keys.into_iter().map(|key| (key, self.now_ms)));
            }
            let delay_ms = if is_taken { self.rng.random_range(10..3000) } else { TIMEOUT_MS };
            self.schedule(number, delay_ms, Event::Pushed(peer, is_taken));
        }
        if left == 0 {
            self.on_pushed(number);
        }
    }

    fn on_pushed(&mut self, number: usize) {
        let work = std::mem::replace(&mut self.parts[number].work, Work::Wait);
        let Work::Push { explored, failed, is_second, keys, .. } = work else { unreachable!() };
        if !is_second && !failed.is_empty() {
            return self.push(number, explored, keys, failed, true);
        }
        let turn = self.parts[number].schedule.cycle().started_s;
        for key in keys {
            assert_ne!(
                self.told_in.insert(key, turn),
                Some(turn),
                "seed {}: told twice in a turn",
                self.seed
            );
            self.keys.get_mut(&key).unwrap().1 = self.now_ms;
        }
        self.parts[number].schedule.on_told(&explored.region);
        self.schedule(number, 0, Event::Wake);
    }

    fn fail(&mut self, number: usize) {
        self.parts[number].work = Work::Wait;
        self.schedule(number, 10_000, Event::Wake);
    }

    /// Whether a message is lost.
    fn is_lost(&mut self) -> bool {
        self.now_ms < HEALED_MS && self.rng.random_ratio(1, 20)
    }

    /// What a peer answers, if it does.
    fn answer(&mut self, ask: &Ask) -> Option<Vec<Key>> {
        let is_lost = self.is_lost();
        let peer = self.peers.get(&ask.peer).filter(|peer| !peer.is_cut_off && !is_lost)?;
        let target = Key::of(&ask.target);
        if !peer.is_liar {
            return Some(closest(&target, peer.table.iter().copied(), REPLICATION));
        }
        // As close as nobody is.
        let near = Prefix::new(&target, 12);
        let invent = |_| {
            let mut bytes = *near.first().as_bytes();
            self.rng.fill(&mut bytes[2..]);
            Key::from_bytes(bytes)
        };
        Some((0..3).map(invent).collect())
    }
}

fn run(seed: u64) {
    let mut net = Net::new(seed);
    net.run();
    for (key, (_, told_ms)) in &net.keys {
        assert!(*told_ms >= HEALED_MS, "seed {seed}: {key:?} is not told since {told_ms} ms");
        let right = closest(key, net.peers.keys().copied(), REPLICATION);
        let is_honest = |peer: &&Key| !net.peers[*peer].is_liar;
        let has = |peer: &&Key| net.peers[*peer].records.get(key).is_some_and(|at_ms| *at_ms >= HEALED_MS);
        let (honest, holders) =
            (right.iter().filter(is_honest).count(), right.iter().filter(is_honest).filter(has).count());
        assert!(holders >= MIN_HOLDERS.min(honest), "seed {seed}: {holders} of {honest} have a record");
    }
}

#[test]
fn every_key_is_found_where_it_belongs_once_the_network_has_healed() {
    every_seed(run);
}
