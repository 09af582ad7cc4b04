//! A record store on a clock and a backing of the test's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use libp2p::Multiaddr;

use super::*;
use crate::settings::StoreSettings;
use crate::store::{Store, Table};
use crate::swarm::testing::soon;

const HOUR_S: u64 = 3600;

/// A store with a clock that is moved by hand.
struct Bench {
    local: PeerId,
    now_s: Arc<AtomicU64>,
    backing: Arc<dyn Backing>,
    tasks: Tasks,
    records: Records,
}

impl Bench {
    fn new(limits: RecordLimits) -> Self {
        Self::with_backing(limits, Arc::new(MemoryBacking::default()))
    }

    fn with_backing(limits: RecordLimits, backing: Arc<dyn Backing>) -> Self {
        let (local, tasks) = (PeerId::random(), Tasks::new("records"));
        let now_s = Arc::new(AtomicU64::new(1_000_000 * HOUR_S));
        let records = Records::open(local, limits, Arc::clone(&backing), b"p", clock(&now_s), &tasks);
        Self { local, now_s, backing, tasks, records }
    }

    /// Closes the store, and opens another over the same rows.
    async fn reopen(self) -> Self {
        let Self { local, now_s, backing, tasks, records } = self;
        drop(records);
        tasks.shutdown(std::time::Duration::from_secs(10)).await.unwrap();
        let tasks = Tasks::new("records");
        let limits = RecordLimits::default();
        let records = Records::open(local, limits, Arc::clone(&backing), b"p", clock(&now_s), &tasks);
        Self { local, now_s, backing, tasks, records }
    }

    fn pass(&self, time: Duration) {
        self.now_s.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    fn add(&mut self, key: u32, provider: PeerId) -> Result<()> {
        self.records.add_provider(ProviderRecord::new(record_key(key), provider, vec![addr()]))
    }

    fn providers(&self, key: u32) -> Vec<PeerId> {
        self.records.providers(&record_key(key)).into_iter().map(|record| record.provider).collect()
    }
}

#[tokio::test]
async fn only_valid_records_of_names_are_kept_and_only_to_their_end() {
    use cairn_proto::ipns::Name;
    use libp2p::identity::Keypair;

    let mut bench = Bench::new(RecordLimits::default());
    let key = Keypair::generate_ed25519();
    let name = Name::parse(&key.public().to_peer_id().to_string()).unwrap();
    let row = RecordKey::new(&name.routing_key());
    // The clock of these tests stands in 2084.
    let made =
        |sequence, year| crate::names::tests::record(&key, "/ipns/example.com", sequence, year).to_vec();
    let mut put =
        |key: &RecordKey, value: Vec<u8>| bench.records.put(Record::new(key.clone(), value)).is_ok();
    assert!(put(&row, made(2, 2085)));
    assert!(put(&row, made(2, 2085)), "telling it again is no fault");
    assert!(!put(&row, made(1, 2090)), "an older one");
    assert!(!put(&row, made(3, 2083)), "an expired one");
    assert!(!put(&row, b"nonsense".to_vec()));
    assert!(!put(&RecordKey::new(b"/pk/x"), made(2, 2085)), "another kind of key");
    let kept = |bench: &Bench| bench.records.get(&row).map(|record| record.value.clone());
    assert_eq!(kept(&bench), Some(made(2, 2085)));
    let mut bench = bench.reopen().await;
    assert_eq!(kept(&bench), Some(made(2, 2085)), "it outlives the process");
    let value = made(2, 2085);
    bench.pass(Duration::from_secs(48 * HOUR_S - 1));
    assert_eq!(kept(&bench), Some(value.clone()));
    bench.pass(Duration::from_secs(1));
    assert_eq!(kept(&bench), None, "its owner has told it no more for two days");
    bench.records.put(Record::new(row.clone(), value)).unwrap();
    assert!(kept(&bench).is_some());
    bench.pass(Duration::from_secs(2 * 366 * 24 * HOUR_S));
    assert_eq!(kept(&bench), None, "it has expired");
    bench.records.remove(&row);
}

#[tokio::test]
async fn values_of_one_peer_and_of_all_are_bounded_but_not_our_own() {
    use cairn_proto::ipns::Name;
    use libp2p::identity::Keypair;

    let limits = RecordLimits { max_values_per_peer: 2, max_value_count: 3, ..RecordLimits::default() };
    let mut bench = Bench::new(limits);
    let mut put = |key: &Keypair, sequence, publisher| {
        let name = Name::parse(&key.public().to_peer_id().to_string()).unwrap();
        let value = crate::names::tests::record(key, "/ipns/example.com", sequence, 2085).to_vec();
        let record = Record::new(RecordKey::new(&name.routing_key()), value);
        bench.records.put(Record { publisher, ..record }).is_ok()
    };
    let (greedy, known) = (Some(PeerId::random()), Keypair::generate_ed25519());
    let fresh = Keypair::generate_ed25519;
    assert!(put(&known, 1, greedy) && put(&fresh(), 1, greedy));
    assert!(!put(&fresh(), 1, greedy), "of one peer");
    assert!(put(&known, 2, greedy), "in place of another");
    assert!(put(&fresh(), 1, Some(PeerId::random())));
    assert!(!put(&fresh(), 1, Some(PeerId::random())), "of all");
    assert!(put(&fresh(), 1, None), "our own");
}

fn clock(now_s: &Arc<AtomicU64>) -> WallClock {
    let now_s = Arc::clone(now_s);
    Arc::new(move || UNIX_EPOCH + Duration::from_secs(now_s.load(Ordering::Relaxed)))
}

fn addr() -> Multiaddr {
    "/ip4/1.2.3.4/tcp/4001".parse().unwrap()
}

fn record_key(key: u32) -> RecordKey {
    RecordKey::new(&key.to_be_bytes())
}

#[tokio::test]
async fn providers_are_returned_with_their_addresses_latest_first() {
    let mut bench = Bench::new(RecordLimits::default());
    let (one, other) = (PeerId::random(), PeerId::random());
    bench.add(1, one).unwrap();
    bench.add(1, other).unwrap();
    assert_eq!(bench.providers(1), [other, one]);
    bench.add(1, one).unwrap();
    assert_eq!(bench.providers(1), [one, other], "announced again");
    let records = bench.records.providers(&record_key(1));
    assert!(records.iter().all(|record| record.addresses == [addr()] && record.expires.is_none()));
    bench.records.remove_provider(&record_key(1), &one);
    assert_eq!(bench.providers(1), [other]);
    assert_eq!(bench.providers(2), []);
}

#[tokio::test]
async fn a_record_is_valid_for_48_hours_after_its_last_announcement() {
    let mut bench = Bench::new(RecordLimits::default());
    let (once, again) = (PeerId::random(), PeerId::random());
    bench.add(1, once).unwrap();
    bench.add(1, again).unwrap();
    bench.pass(Duration::from_secs(22 * HOUR_S));
    bench.add(1, again).unwrap();
    bench.pass(Duration::from_secs(26 * HOUR_S - 1));
    assert_eq!(bench.providers(1), [again, once]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.providers(1), [again]);
}

#[tokio::test]
async fn providers_of_one_key_are_bounded() {
    let mut bench = Bench::new(RecordLimits { max_per_key: 3, ..RecordLimits::default() });
    let first = PeerId::random();
    bench.add(1, first).unwrap();
    bench.add(1, PeerId::random()).unwrap();
    bench.add(1, PeerId::random()).unwrap();
    assert!(bench.add(1, PeerId::random()).is_err());
    bench.add(1, first).unwrap();
    bench.add(2, PeerId::random()).unwrap();
    bench.pass(RECORD_TTL);
    bench.add(1, PeerId::random()).unwrap();
}

#[tokio::test]
async fn records_of_one_provider_are_bounded_but_not_our_own() {
    let mut bench = Bench::new(RecordLimits { max_per_peer: 3, ..RecordLimits::default() });
    let greedy = PeerId::random();
    (0..3).for_each(|key| bench.add(key, greedy).unwrap());
    assert!(bench.add(3, greedy).is_err());
    bench.add(0, greedy).unwrap();
    bench.add(3, PeerId::random()).unwrap();
    (0..9).for_each(|key| bench.add(key, bench.local).unwrap());
    bench.pass(RECORD_TTL + Duration::from_secs(HOUR_S));
    bench.add(3, greedy).unwrap();
}

#[tokio::test]
async fn records_are_bounded_in_all_and_strangers_leave_room_for_our_own() {
    let mut bench = Bench::new(RecordLimits { max_count: 3, ..RecordLimits::default() });
    (0..3).for_each(|key| bench.add(key, PeerId::random()).unwrap());
    assert!(bench.add(4, PeerId::random()).is_err());
    (0..3).for_each(|key| bench.add(key, bench.local).unwrap());
    assert!(bench.add(4, bench.local).is_err());
    bench.records.remove_provider(&record_key(0), &bench.local.clone());
    bench.add(4, bench.local).unwrap();
}

#[tokio::test]
async fn records_outlive_the_store_and_count_again_in_memory() {
    outlive(Arc::new(MemoryBacking::default())).await;
}

#[tokio::test]
async fn records_outlive_the_store_and_count_again_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &StoreSettings::default()).unwrap();
    outlive(Arc::new(store.rows(Table::Records))).await;
    store.close().await.unwrap();
}

async fn outlive(backing: Arc<dyn Backing>) {
    let mut bench = Bench::with_backing(RecordLimits::default(), backing);
    let (provider, gone) = (PeerId::random(), PeerId::random());
    bench.add(1, gone).unwrap();
    bench.pass(Duration::from_secs(24 * HOUR_S));
    bench.add(1, provider).unwrap();
    bench.add(2, provider).unwrap();
    let bench = bench.reopen().await;
    assert_eq!(bench.providers(1), [provider, gone]);
    let now_s = || bench.now_s.load(Ordering::Relaxed);
    soon("count of rows", || async {
        (bench.records.counts.of(&provider, &bench.local, now_s()) == (3, 2, 0)).then_some(())
    })
    .await;
    bench.pass(Duration::from_secs(24 * HOUR_S));
    assert_eq!(bench.providers(1), [provider]);
}

/// A disk that writes only when the test lets it.
#[derive(Debug, Default)]
struct SlowBacking {
    rows: MemoryBacking,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Backing for SlowBacking {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.rows.get(key)
    }

    fn write(&self, changes: Vec<RowChange>) -> std::result::Result<(), crate::Error> {
        let _open = self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap();
        self.rows.write(changes)
    }

    fn iter(&self, prefix: &[u8]) -> RowIter {
        Backing::iter(&self.rows, prefix)
    }
}

#[tokio::test]
async fn a_stuck_disk_refuses_newcomers_and_loses_none_that_were_taken() {
    let slow = Arc::new(SlowBacking::default());
    let limits = RecordLimits { max_cached_rows: 8, ..RecordLimits::default() };
    let mut bench = Bench::with_backing(limits, Arc::clone(&slow) as Arc<dyn Backing>);
    let provider = PeerId::random();
    let taken = (0..100).find(|&key| bench.add(key, provider).is_err()).unwrap();
    assert_eq!(taken, 8, "two generations of four");
    assert!((0..taken).all(|key| bench.providers(key) == [provider]));
    *slow.is_open.lock().unwrap() = true;
    slow.opened.notify_all();
    soon("writer caught up", || {
        let is_taken = bench.add(taken, provider).is_ok();
        async move { is_taken.then_some(()) }
    })
    .await;
    assert!((0..=taken).all(|key| bench.providers(key) == [provider]));
    let bench = bench.reopen().await;
    assert!((0..=taken).all(|key| bench.providers(key) == [provider]));
}

#[derive(Debug)]
struct Everything;

impl Own for Everything {
    fn provides(&self, _: &cairn_proto::cid::Multihash) -> bool {
        true
    }
}

#[tokio::test]
async fn what_is_provided_here_is_answered_for_once_and_without_a_record() {
    let mut bench = Bench::new(RecordLimits::default());
    let (other, local) = (PeerId::random(), bench.local);
    let content = cairn_proto::cid::HashFunction::Sha2_256.multihash(b"content");
    let key = RecordKey::from(content);
    let providers = |bench: &Bench| -> Vec<PeerId> {
        bench.records.providers(&key).into_iter().map(|record| record.provider).collect()
    };
    let add = |bench: &mut Bench, provider| {
        bench.records.add_provider(ProviderRecord::new(key.clone(), provider, vec![addr()])).unwrap();
    };
    add(&mut bench, other);
    assert_eq!(providers(&bench), [other]);
    bench.records = bench.records.with_own(Arc::new(Everything));
    assert_eq!(providers(&bench), [local, other]);
    add(&mut bench, local);
    assert_eq!(providers(&bench), [local, other], "a record of it is kept besides");
    assert_eq!(bench.providers(1), [], "a key that is no content");
}
