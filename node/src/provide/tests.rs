//! Nodes that tell a DHT in memory what they have.

use std::sync::Arc;
use std::time::SystemTime;

use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, HashFunction, Multihash, RAW, Version};
use cairn_proto::sweep::{Cycle, Key, Prefix};
use futures::StreamExt as _;

use super::keys::{Feeding, Lane};
use super::*;
use crate::blocks::Served;
use crate::denylists::Denylists;
use crate::pins::Pins;
use crate::settings::{DhtMode, StoreSettings};
use crate::store::{Durability, Store, Table};
use crate::swarm::testing::{DEADLINE, Node, settings, soon};

fn block(number: u32) -> Block {
    Block::hash(Version::V1, RAW, HashFunction::Sha2_256, format!("block {number}").into()).unwrap()
}

fn wanted(store: &Store, strategy: &str) -> Wanted {
    let denylists = Denylists::open(Vec::new()).unwrap();
    Wanted::new(store.clone(), Served::new(store.clone(), denylists), strategy.parse().unwrap())
}

/// A node with a store of its own.
struct Provider {
    store: Store,
    node: Node,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl Provider {
    async fn new(block_count: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &StoreSettings::default()).unwrap();
        let lease = store.lease();
        store.put((0..block_count).map(block).collect(), Durability::Now, &lease).await.unwrap();
        Self { store, node: Node::in_memory().await, tasks: Tasks::new("work"), _folder: folder }
    }

    fn start(&self, strategy: &str) -> Handle {
        let parts = Parts {
            rows: self.rows(),
            wanted: wanted(&self.store, strategy),
            swarm: self.node.swarm.clone(),
            clock: Arc::new(SystemTime::now),
        };
        start(parts, DEFAULT_INTERVAL, &self.tasks).unwrap()
    }

    fn rows(&self) -> Rows {
        self.store.rows(Table::Provide)
    }

    async fn stop(&mut self) {
        self.tasks.shutdown(DEADLINE).await.unwrap();
        self.tasks = Tasks::new("work");
    }

    /// Whether a peer keeps a record that names this node, which does not answer for what it has itself.
    async fn is_known_to(&self, peer: &Node, content: &Multihash) -> bool {
        let found: Vec<_> = peer.routing.find_providers(*content, 1).collect().await;
        found.iter().any(|provider| provider.peer == self.node.peer())
    }
}

#[tokio::test]
async fn what_a_node_has_is_told_once_and_not_again_after_a_restart() {
    let (server, mut provider) = (Node::in_memory().await, Provider::new(300).await);
    provider.node.connect(&server).await;
    let handle = provider.start("all");
    let is_done = |handle: &Handle| {
        [Scope::Wan, Scope::Lan]
            .map(|scope| handle.stat(scope))
            .iter()
            .all(|stat| stat.counters.keys_total >= 300 && stat.fresh_count == 0 && stat.next_s.is_some())
    };
    soon("everything told", || async { is_done(&handle).then_some(()) }).await;
    for number in [0, 150, 299] {
        assert!(provider.is_known_to(&server, block(number).cid().hash()).await, "{number}");
    }
    let stat = handle.stat(Scope::Lan);
    assert_eq!((stat.scheduled_count, stat.counters.keys_failed_total, stat.is_online), (300, 0, true));
    assert!((stat.counters.mean_holders() - 1.0).abs() < f64::EPSILON, "{stat:?}");

    provider.stop().await;
    let handle = provider.start("all");
    let waits = |handle: &Handle| handle.stat(Scope::Lan).next_s.is_some();
    soon("the schedule goes on", || async { waits(&handle).then_some(()) }).await;
    assert_eq!(handle.stat(Scope::Lan).counters, Counters::default());
    assert_eq!(handle.stat(Scope::Lan).scheduled_count, 300);
}

#[tokio::test]
async fn roots_alone_are_told_and_others_when_somebody_asks_for_it() {
    let (server, provider) = (Node::in_memory().await, Provider::new(3).await);
    provider.node.connect(&server).await;
    let root: Cid = *block(0).cid();
    let pins = Pins::new(provider.store.clone());
    pins.pin(root, crate::pins::PinKind::Direct, None, &provider.store.lease(), |_, _| ()).await.unwrap();
    let handle = provider.start("roots");
    soon("the root", || async { provider.is_known_to(&server, root.hash()).await.then_some(()) }).await;
    assert_eq!(handle.stat(Scope::Wan).scheduled_count, 1);
    let other = *block(1).cid().hash();
    assert!(!provider.is_known_to(&server, &other).await);
    handle.once(vec![other, *block(9).cid().hash()]).await.unwrap();
    soon("the other", || async { provider.is_known_to(&server, &other).await.then_some(()) }).await;
    assert!(!provider.is_known_to(&server, block(9).cid().hash()).await, "it is not here");
    assert_eq!(handle.stat(Scope::Wan).scheduled_count, 1);
}

#[tokio::test]
async fn alone_nothing_is_told_and_what_waits_can_be_cleared() {
    let provider = Provider::new(5).await;
    let handle = provider.start("all");
    soon("the list", || async { (handle.stat(Scope::Wan).fresh_count == 5).then_some(()) }).await;
    assert!(!handle.stat(Scope::Wan).is_online);
    assert_eq!(handle.clear().await.unwrap(), 5);
    assert_eq!(handle.clear().await.unwrap(), 0);
    let stat = handle.stat(Scope::Lan);
    assert_eq!((stat.fresh_count, stat.scheduled_count, stat.counters), (0, 5, Counters::default()));
}

#[tokio::test]
async fn the_list_is_in_the_order_of_the_keyspace_and_counts_what_it_holds() {
    let provider = Provider::new(0).await;
    let keys = Keys::open(provider.store.rows(Table::Provide)).unwrap();
    let content: Vec<_> = (0..50).map(|number| *block(number).cid().hash()).collect();
    keys.schedule(&[&content[..], &content[..10]].concat()).unwrap();
    keys.schedule(&content).unwrap();
    keys.queue(&content[..20]).unwrap();
    let count = |keys: &Keys, lane| keys.counts().of(lane);
    let lanes = [Lane::Scheduled, Lane::Fresh(Scope::Wan), Lane::Fresh(Scope::Lan)];
    assert_eq!(lanes.map(|lane| count(&keys, lane)), [50, 50, 50]);
    let mut sorted: Vec<_> = content.iter().map(|hash| (Key::of(&hash.to_bytes()), *hash)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let (first, last) = (sorted[10].0, sorted[19].0);
    assert_eq!(keys.range(Lane::Scheduled, &first, &last, 99).unwrap(), sorted[10..20]);
    assert_eq!(keys.range(Lane::Scheduled, &first, &last, 3).unwrap(), sorted[10..13]);
    keys.remove(Lane::Fresh(Scope::Lan), &[first, last]).unwrap();
    let keys = Keys::open(provider.store.rows(Table::Provide)).unwrap();
    assert_eq!(lanes.map(|lane| count(&keys, lane)), [50, 50, 48]);
    let feeding = Feeding { strategy: "all".to_owned(), looked_s: 7, next: 8 };
    keys.set_feeding(&feeding).unwrap();
    assert_eq!(keys.feeding().unwrap(), Some(feeding));
    let cycle = Cycle { started_s: 9, cursor: Some(first) };
    let (part, other) = (Prefix::new(&first, 3), Prefix::new(&first, 4));
    keys.set_cycle(Scope::Lan, &part, cycle).unwrap();
    let kept = |scope, part| keys.cycle(scope, part).unwrap();
    assert_eq!((kept(Scope::Lan, &part), kept(Scope::Lan, &other)), (Some(cycle), None));
    assert_eq!(kept(Scope::Wan, &part), None);
}

#[tokio::test]
async fn another_strategy_takes_what_does_not_belong_to_it_out_of_the_list() {
    let mut provider = Provider::new(4).await;
    let handle = provider.start("all");
    soon("the list", || async { (handle.stat(Scope::Lan).scheduled_count == 4).then_some(()) }).await;
    provider.stop().await;
    let handle = provider.start("pinned");
    // Two writes, one after the other.
    let counts = || (handle.stat(Scope::Lan).scheduled_count, handle.stat(Scope::Lan).fresh_count);
    soon("an empty list", || async { (counts() == (0, 0)).then_some(()) }).await;
}

#[tokio::test]
async fn a_fault_of_the_store_puts_the_announcements_off_and_does_not_end_them() {
    let (server, provider) = (Node::in_memory().await, Provider::new(30).await);
    provider.node.connect(&server).await;
    // A row that cannot be read stands for a disk that fails; it lies in the way of one part.
    let content = *block(7).cid().hash();
    let row = [b"k".as_slice(), Key::of(&content.to_bytes()).as_bytes()].concat();
    provider.rows().put(&row, b"damaged").unwrap();
    let handle = provider.start("all");
    soon("two faults", || async { (handle.stat(Scope::Wan).counters.faults_total >= 2).then_some(()) }).await;
    provider.rows().put(&row, &content.to_bytes()).unwrap();
    soon("everything told", || async { (handle.stat(Scope::Wan).counters.keys_total >= 30).then_some(()) })
        .await;
    soon("the rest", || async { provider.is_known_to(&server, &content).await.then_some(()) }).await;
}

#[tokio::test]
async fn a_server_answers_for_what_it_has_although_nobody_was_told() {
    let mut provider = Provider::new(3).await;
    provider.node = Node::with_own(Arc::new(wanted(&provider.store, "all"))).await;
    let mut client = settings(&["/memory/0"]);
    client.dht = DhtMode::Client;
    let client = Node::start(client).await;
    client.connect(&provider.node).await;
    let content = *block(2).cid().hash();
    let found = soon("an answer", || async {
        client.routing.find_providers(content, 1).collect::<Vec<_>>().await.pop()
    })
    .await;
    let addr = provider.node.addr();
    assert_eq!(
        (found.peer, found.addrs),
        (provider.node.peer(), vec![addr.with_p2p(provider.node.peer()).unwrap()])
    );
    let absent = *block(3).cid().hash();
    assert_eq!(client.routing.find_providers(absent, 1).collect::<Vec<_>>().await, []);
}
