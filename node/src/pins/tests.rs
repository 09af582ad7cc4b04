//! Pins on a real store. Chunks hold 8 edges here, so these trees take several.

use cairn_proto::block::Block;
use cairn_proto::cid::{HashFunction, RAW};

use super::*;
use crate::error::Kind;
use crate::store::tests::{assert_sound, block_of, crashed, kind, node, open, put, tree};

async fn pin(pins: &Pins, cid: &Cid) -> Result<()> {
    pins.pin(*cid, PinKind::Recursive, None, &pins.store.lease(), |_, _| ()).await
}

fn listed(pins: &Pins) -> Vec<(Cid, PinKind)> {
    pins.list(PinFilter::default()).map(|pin| pin.unwrap()).map(|pin| (pin.cid, pin.kind)).collect()
}

/// A store with the tree `tree(1, 4, 3)`: 64 leaves, 21 nodes, 84 links.
async fn with_tree() -> (tempfile::TempDir, Pins, Vec<Block>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blocks = tree(1, 4, 3);
    put(&store, &blocks).await;
    (dir, Pins::new(store), blocks)
}

#[tokio::test]
async fn a_pin_has_an_edge_for_every_link_and_unpinning_takes_them_away() {
    let (_dir, pins, blocks) = with_tree().await;
    let root = *blocks.last().unwrap().cid();
    pin(&pins, &root).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 84);
    assert_eq!(listed(&pins), [(root, PinKind::Recursive)]);
    assert_eq!(pins.indirect(blocks[0].cid()).unwrap(), Some(root));
    assert_eq!(pins.indirect(&root).unwrap(), None, "it is pinned itself, not from above");
    assert_eq!(pins.list_indirect().count(), 84);

    pins.unpin(root, PinKind::Recursive).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 0);
    assert_eq!(listed(&pins), []);
    assert_eq!(pins.indirect(blocks[0].cid()).unwrap(), None);
    assert_eq!(kind(pins.unpin(root, PinKind::Recursive).await), Kind::NotFound);
}

#[tokio::test]
async fn what_two_pins_share_stays_until_both_are_gone() {
    let (_dir, pins, blocks) = with_tree().await;
    let shared = *blocks.last().unwrap().cid();
    let other = node(7, &[shared]);
    put(&pins.store, std::slice::from_ref(&other)).await;
    pin(&pins, &shared).await.unwrap();
    pin(&pins, other.cid()).await.unwrap();
    pins.unpin(shared, PinKind::Recursive).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 85);
    assert_eq!(pins.indirect(&shared).unwrap(), Some(*other.cid()));
    pins.unpin(*other.cid(), PinKind::Recursive).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 0);
}

#[tokio::test]
async fn what_is_kept_already_is_not_walked_again() {
    let (_dir, pins, blocks) = with_tree().await;
    let shared = *blocks.last().unwrap().cid();
    let other = node(7, &[shared]);
    put(&pins.store, std::slice::from_ref(&other)).await;
    pin(&pins, &shared).await.unwrap();
    let counted = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = std::sync::Arc::clone(&counted);
    let progress = move |count, _| seen.store(count, std::sync::atomic::Ordering::SeqCst);
    pins.pin(*other.cid(), PinKind::Recursive, None, &pins.store.lease(), progress).await.unwrap();
    assert_eq!(counted.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_missing_block_is_named_and_nothing_of_the_pin_stays() {
    let (_dir, pins, blocks) = with_tree().await;
    let lost = block_of(999, 10);
    let root = node(8, &[*blocks.last().unwrap().cid(), *lost.cid()]);
    let above = node(9, &[*blocks.last().unwrap().cid(), *root.cid()]);
    put(&pins.store, &[root, above.clone()]).await;
    let error = pin(&pins, above.cid()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains(&lost.cid().to_string()), "{error}");
    assert_eq!(assert_sound(&pins.store).edge_count, 0);
}

#[tokio::test]
async fn a_direct_pin_keeps_one_block_and_gives_way_to_a_recursive_one() {
    let (_dir, pins, blocks) = with_tree().await;
    let root = *blocks.last().unwrap().cid();
    let lease = pins.store.lease();
    pins.pin(root, PinKind::Direct, Some("mine".into()), &lease, |_, _| ()).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 0);
    assert_eq!(pins.get(&root).unwrap().unwrap().name.as_deref(), Some("mine"));
    pin(&pins, &root).await.unwrap();
    assert_eq!(listed(&pins), [(root, PinKind::Recursive)]);
    assert_eq!(kind(pins.pin(root, PinKind::Direct, None, &lease, |_, _| ()).await), Kind::Invalid);
    assert_eq!(pins.store.stat().pin_count, 1);
    assert_sound(&pins.store);
}

#[tokio::test]
async fn a_name_may_have_255_bytes_is_kept_when_none_is_given_and_filters_the_list() {
    let (_dir, pins, blocks) = with_tree().await;
    let (root, leaf) = (*blocks.last().unwrap().cid(), *blocks[0].cid());
    let lease = pins.store.lease();
    let name = |len| Some("n".repeat(len));
    let long = pins.pin(root, PinKind::Recursive, name(256), &lease, |_, _| ()).await;
    assert_eq!(kind(long), Kind::Invalid);
    pins.pin(root, PinKind::Recursive, name(255), &lease, |_, _| ()).await.unwrap();
    pin(&pins, &root).await.unwrap();
    pins.pin(leaf, PinKind::Direct, Some("leaf".into()), &lease, |_, _| ()).await.unwrap();
    assert_eq!(pins.get(&root).unwrap().unwrap().name, name(255));
    let filter = PinFilter { name_part: Some("ea".into()), ..Default::default() };
    assert_eq!(pins.list(filter).map(|pin| pin.unwrap().cid).collect::<Vec<_>>(), [leaf]);
    let filter = PinFilter { kind: Some(PinKind::Recursive), ..Default::default() };
    assert_eq!(pins.list(filter).map(|pin| pin.unwrap().cid).collect::<Vec<_>>(), [root]);
}

#[tokio::test]
async fn bytes_that_are_a_leaf_to_one_dag_and_a_node_to_another_keep_their_links_for_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let leaf = block_of(1, 10);
    let inner = node(1, &[*leaf.cid()]);
    let inner_as_raw = Cid::new_v1(RAW, *inner.multihash());
    let (as_leaf, as_node) = (node(2, &[inner_as_raw]), node(3, &[*inner.cid()]));
    put(&store, &[leaf, inner, as_leaf.clone(), as_node.clone()]).await;
    let pins = Pins::new(store);
    pin(&pins, as_leaf.cid()).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 1);
    pin(&pins, as_node.cid()).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 3);
    pins.unpin(*as_leaf.cid(), PinKind::Recursive).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 2);
    pins.unpin(*as_node.cid(), PinKind::Recursive).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 0);
}

#[tokio::test]
async fn versions_of_cids_are_listed_as_they_were_linked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let child = node(1, &[]);
    let v0 = Cid::new_v0(*child.multihash()).unwrap();
    let root = node(2, &[v0]);
    put(&store, &[child, root.clone()]).await;
    let pins = Pins::new(store);
    pin(&pins, root.cid()).await.unwrap();
    assert_eq!(pins.list_indirect().map(|cid| cid.unwrap()).collect::<Vec<_>>(), [v0]);
}

#[tokio::test]
async fn an_identity_cid_is_pinned_without_a_block_and_its_links_count_for_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let leaf = block_of(1, 10);
    let inline = node(1, &[*leaf.cid()]);
    let hash = Multihash::wrap(IDENTITY, inline.data()).unwrap();
    let inline = Cid::new_v1(DAG_PB, hash);
    let root = node(2, &[inline]);
    put(&store, &[leaf.clone(), root.clone()]).await;
    let pins = Pins::new(store);
    pin(&pins, root.cid()).await.unwrap();
    assert_eq!(pins.indirect(leaf.cid()).unwrap(), Some(*root.cid()));
    assert_eq!(kind(pin(&pins, &inline).await), Kind::Invalid);
    let text = Cid::new_v1(RAW, Multihash::wrap(IDENTITY, b"text").unwrap());
    pin(&pins, &text).await.unwrap();
    assert!(pins.get(&text).unwrap().is_some());
    assert_sound(&pins.store);
    pins.unpin(text, PinKind::Recursive).await.unwrap();
    assert_eq!(listed(&pins).len(), 1);
}

#[tokio::test]
async fn a_dag_of_the_deepest_depth_is_pinned_and_one_level_more_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut chain = vec![node(0, &[])];
    for level in 1..=cairn_proto::limits::MAX_DAG_DEPTH as u64 + 1 {
        chain.push(node(level, &[*chain.last().unwrap().cid()]));
    }
    put(&store, &chain).await;
    let pins = Pins::new(store);
    let deepest = *chain.last().unwrap().cid();
    assert_eq!(kind(pin(&pins, &deepest).await), Kind::Invalid);
    assert_eq!(assert_sound(&pins.store).edge_count, 0);
    pin(&pins, chain[chain.len() - 2].cid()).await.unwrap();
    assert_sound(&pins.store);
}

#[tokio::test]
async fn a_block_that_does_not_decode_cannot_be_pinned_as_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let data = bytes::Bytes::from_static(b"not a protobuf");
    let bad = Block::hash(Version::V1, DAG_PB, HashFunction::Sha2_256, data).unwrap();
    put(&store, std::slice::from_ref(&bad)).await;
    let pins = Pins::new(store);
    assert_eq!(kind(pin(&pins, bad.cid()).await), Kind::Invalid);
    pin(&pins, &Cid::new_v1(RAW, *bad.multihash())).await.unwrap();
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_walk_leaves_nothing_after_recovery() {
    let (_dir, pins, blocks) = with_tree().await;
    let root = *blocks.last().unwrap().cid();
    let (store, images) = (pins.store.clone(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let taken = std::sync::Arc::clone(&images);
    let progress = move |count, _| {
        if count % 20 == 0 {
            taken.lock().unwrap().push(crashed(&store));
        }
    };
    pins.pin(root, PinKind::Recursive, None, &pins.store.lease(), progress).await.unwrap();
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert_eq!(images.len(), 4);
    let mut begun = 0;
    for image in images {
        let crashed = Pins::new(open(image.path()));
        begun += usize::from(crashed.store.edges().next().is_some());
        crashed.recover().await.unwrap();
        assert_eq!(assert_sound(&crashed.store).edge_count, 0);
        // And what was left before the recovery does not mislead a new walk.
        pin(&crashed, &root).await.unwrap();
        assert_eq!(assert_sound(&crashed.store).edge_count, 84);
    }
    assert!(begun > 0, "no image was taken behind a chunk");
}

#[tokio::test]
async fn a_walk_that_was_dropped_is_undone_by_recovery() {
    let (_dir, pins, blocks) = with_tree().await;
    let root = *blocks.last().unwrap().cid();
    let (reached, mut wait) = tokio::sync::mpsc::channel(1);
    let (go_on, gate) = std::sync::mpsc::channel::<()>();
    let progress = move |count, _| {
        if count == 40 {
            reached.blocking_send(()).unwrap();
            // Until the call is dropped.
            let _ = gate.recv();
        }
    };
    let lease = pins.store.lease();
    tokio::select! {
        result = pins.pin(root, PinKind::Recursive, None, &lease, progress) => panic!("not dropped: {result:?}"),
        _ = wait.recv() => {}
    }
    drop(go_on);
    // The walk ends by itself and undoes what it wrote, or leaves that to us.
    while pins.store.shared().has_open_work() {
        tokio::task::yield_now().await;
    }
    pins.recover().await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 0);
    assert_eq!(listed(&pins), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_begins_anew_when_an_unpin_takes_away_what_it_relied_on() {
    let (_dir, pins, blocks) = with_tree().await;
    let shared = *blocks.last().unwrap().cid();
    let leaf = block_of(77, 10);
    let other = node(7, &[shared, *leaf.cid()]);
    put(&pins.store, &[leaf, other.clone()]).await;
    pin(&pins, &shared).await.unwrap();
    let (runtime, within, mut unpinned) = (tokio::runtime::Handle::current(), pins.clone(), false);
    let progress = move |count, _| {
        // The root, the shared tree (not entered), then the leaf.
        if count == 3 && !std::mem::replace(&mut unpinned, true) {
            runtime.block_on(within.unpin(shared, PinKind::Recursive)).unwrap();
        }
    };
    pins.pin(*other.cid(), PinKind::Recursive, None, &pins.store.lease(), progress).await.unwrap();
    assert_eq!(assert_sound(&pins.store).edge_count, 86);
    assert_eq!(listed(&pins), [(*other.cid(), PinKind::Recursive)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_and_unpins_of_overlapping_dags_at_once_leave_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let leaves: Vec<_> = (0..30).map(|n| block_of(n, 10)).collect();
    let inner: Vec<_> = (0..20).map(|n| node(n as u64, &cids(&leaves[n..n + 10]))).collect();
    let middle: Vec<_> = (0..15).map(|n| node(100 + n as u64, &cids(&inner[n..n + 5]))).collect();
    let roots: Vec<_> = (0..10).map(|n| node(200 + n as u64, &cids(&middle[n..n + 5]))).collect();
    for blocks in [&leaves, &inner, &middle, &roots] {
        put(&store, blocks).await;
    }
    let pins = Pins::new(store);
    let everything: Vec<_> = [&inner, &middle, &roots].into_iter().flat_map(|blocks| cids(blocks)).collect();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        // Each has its own roots; what is below them overlaps.
        let own: Vec<_> = everything.iter().copied().skip(worker).step_by(4).collect();
        let pins = pins.clone();
        workers.spawn(async move {
            for round in 0..6 {
                for (n, cid) in own.iter().enumerate() {
                    if (n + round) % 2 == 0 {
                        pin(&pins, cid).await.unwrap();
                    } else if round > 0 {
                        pins.unpin(*cid, PinKind::Recursive).await.unwrap();
                    }
                }
            }
            own.into_iter()
                .enumerate()
                .filter(|(n, _)| (n + 5) % 2 == 0)
                .map(|(_, cid)| cid)
                .collect::<Vec<_>>()
        });
    }
    let mut expected: Vec<_> = workers.join_all().await.concat();
    let mut found: Vec<_> = listed(&pins).into_iter().map(|(cid, _)| cid).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    pins.recover().await.unwrap();
    assert_sound(&pins.store);
}

fn cids(blocks: &[Block]) -> Vec<Cid> {
    blocks.iter().map(|block| *block.cid()).collect()
}

#[tokio::test]
async fn verifying_pins_names_what_is_missing_below_each() {
    let (_dir, pins, blocks) = with_tree().await;
    let root = *blocks.last().unwrap().cid();
    let above = node(9, &[root]);
    put(&pins.store, std::slice::from_ref(&above)).await;
    pin(&pins, &root).await.unwrap();
    pin(&pins, above.cid()).await.unwrap();
    let check = |pins: &Pins| pins.verify().map(|check| check.unwrap()).collect::<Vec<_>>();
    let whole = |cid: &Cid| PinCheck { cid: *cid, broken: vec![] };
    assert_eq!(check(&pins), [whole(&root), whole(above.cid())]);
    // A leaf, and a node with the leaves below it, which nobody can tell then.
    for lost in [&blocks[0], &blocks[9]] {
        crate::store::tests::lose(&pins.store, lost);
    }
    for checked in check(&pins) {
        let mut lost: Vec<_> = checked.broken.into_iter().map(|(cid, _)| cid).collect();
        lost.sort();
        let mut expected = vec![*blocks[0].cid(), *blocks[9].cid()];
        expected.sort();
        assert_eq!(lost, expected, "{}", checked.cid);
    }
}
