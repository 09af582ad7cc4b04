//! Honest providers at the ends of lines of every kind, in virtual time: how much of what they send comes twice.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::tests::{cid, some_time};
use super::*;

const SESSION: SessionId = SessionId(1);
const BLOCK_BYTES: usize = 1 << 20;
const BLOCK_COUNT: usize = 400;
/// Blocks that are wanted at a time.
const WINDOW: usize = 64;
/// Parts of a block that arrive one after the other.
const PART_COUNT: usize = 16;

#[derive(Debug)]
enum Event {
    /// A provider is told.
    Entries(Vec<WantEntry>),
    /// A provider can send the next block.
    Idle,
    Presence(Cid),
    /// A part of a block arrives; the last one ends it.
    Part(Cid, usize),
}

struct Net {
    now: Instant,
    client: Client,
    /// What each provider is to send; the first of it is on its way.
    providers: BTreeMap<PeerKey, VecDeque<Cid>>,
    events: BTreeMap<(Instant, u64), (PeerKey, Event)>,
    event_count: u64,
    one_way: Duration,
    part_time: Duration,
    double_count: usize,
}

impl Net {
    fn new(provider_count: u64, round_trip: Duration, bytes_per_second: f64) -> Self {
        let mut net = Self {
            now: some_time(),
            client: Client::default(),
            providers: (1..=provider_count).map(|number| (PeerKey(number), VecDeque::new())).collect(),
            events: BTreeMap::new(),
            event_count: 0,
            one_way: round_trip / 2,
            part_time: Duration::from_secs_f64((BLOCK_BYTES / PART_COUNT) as f64 / bytes_per_second),
            double_count: 0,
        };
        net.client.open(SESSION);
        net.providers.keys().for_each(|peer| net.client.connect(*peer, false, net.now));
        net
    }

    fn schedule(&mut self, delay: Duration, peer: PeerKey, event: Event) {
        self.event_count += 1;
        self.events.insert((self.now + delay, self.event_count), (peer, event));
    }

    fn flush(&mut self) {
        while let Some(peer) = self.client.next_dirty() {
            let entries = self.client.take_entries(peer, self.now);
            self.schedule(self.one_way, peer, Event::Entries(entries));
        }
    }

    fn step(&mut self) {
        let tick = self.client.next_tick().expect("something is wanted");
        match self.events.first_entry().filter(|entry| entry.key().0 <= tick) {
            Some(entry) => {
                self.now = entry.key().0;
                let (peer, event) = entry.remove();
                self.apply(peer, event);
            }
            None => {
                self.now = tick;
                self.client.tick(tick);
            }
        }
        self.flush();
    }

    fn apply(&mut self, peer: PeerKey, event: Event) {
        match event {
            Event::Entries(entries) => entries.into_iter().for_each(|entry| self.on_entry(peer, entry)),
            Event::Idle => {
                let queue = self.providers.get_mut(&peer).unwrap();
                queue.pop_front();
                self.send_first(peer);
            }
            Event::Presence(cid) => self.client.on_presence(peer, cid.hash(), Presence::Have, self.now),
            Event::Part(cid, number) => {
                self.client.on_bytes(peer, BLOCK_BYTES / PART_COUNT, self.now);
                if number == PART_COUNT {
                    let receivers = self.client.on_block(peer, cid.hash(), BLOCK_BYTES, self.now);
                    self.double_count += usize::from(receivers.is_empty());
                }
            }
        }
    }

    fn on_entry(&mut self, peer: PeerKey, entry: WantEntry) {
        let queue = self.providers.get_mut(&peer).unwrap();
        match entry {
            WantEntry::Cancel(cid) => {
                if let Some(index) = queue.iter().skip(1).position(|queued| *queued == cid) {
                    queue.remove(index + 1);
                }
            }
            WantEntry::Want { cid, kind: WantKind::Have, .. } => {
                self.schedule(self.one_way, peer, Event::Presence(cid));
            }
            WantEntry::Want { cid, kind: WantKind::Block, .. } => {
                queue.push_back(cid);
                if queue.len() == 1 {
                    self.send_first(peer);
                }
            }
        }
    }

    fn send_first(&mut self, peer: PeerKey) {
        let Some(cid) = self.providers[&peer].front().copied() else { return };
        for number in 1..=PART_COUNT {
            let time = self.part_time * u32::try_from(number).unwrap();
            self.schedule(time + self.one_way, peer, Event::Part(cid, number));
        }
        self.schedule(self.part_time * u32::try_from(PART_COUNT).unwrap(), peer, Event::Idle);
    }

    /// Fetches a root and then everything else; how many blocks came twice.
    fn run(mut self) -> usize {
        let mut wanted = 0;
        loop {
            // Only the root tells what else there is.
            let has_root = wanted > 0 && !self.client.wants(cid(0).hash());
            let window = if has_root { WINDOW } else { 1 };
            let more = window.saturating_sub(self.client.want_count()).min(BLOCK_COUNT - wanted);
            self.client.want(SESSION, (wanted..wanted + more).map(cid), self.now);
            wanted += more;
            if self.client.want_count() == 0 {
                return self.double_count;
            }
            self.flush();
            self.step();
        }
    }
}

#[test]
fn one_provider_sends_nothing_twice_and_four_at_most_a_twentieth() {
    for round_trip_ms in [1, 20, 100, 300, 600] {
        for bytes_per_second in [250e3, 1e6, 12.5e6, 125e6] {
            let round_trip = Duration::from_millis(round_trip_ms);
            let double_count = |provider_count| Net::new(provider_count, round_trip, bytes_per_second).run();
            let (of_one, of_four) = (double_count(1), double_count(4));
            assert!(
                of_one == 0 && of_four <= BLOCK_COUNT / 20,
                "{round_trip_ms} ms, {bytes_per_second} B/s: {of_one} and {of_four} of {BLOCK_COUNT} came twice"
            );
        }
    }
}
