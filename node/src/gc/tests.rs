//! Collections on a real store.

use super::*;
use crate::pins::PinKind;
use crate::store::Durability;
use crate::store::tests::{assert_sound, block_of, open, put, tree};

async fn collected(store: &Store) -> Vec<Cid> {
    let mut removed = Vec::new();
    let report = collect(store, |cid| removed.push(cid)).await.unwrap();
    assert_eq!(report.removed_count, removed.len() as u64);
    removed
}

#[tokio::test]
async fn a_collection_removes_what_nothing_keeps_in_the_order_of_arrival() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let kept = tree(1, 3, 2);
    // More than one step, before and behind what is kept.
    let cache: Vec<_> = (0..1200).map(|n| block_of(n, 20)).collect();
    put(&store, &cache[..600]).await;
    put(&store, &kept).await;
    put(&store, &cache[600..]).await;
    let direct = *cache[3].cid();
    let pins = Pins::new(store.clone());
    let lease = store.lease();
    pins.pin(*kept.last().unwrap().cid(), PinKind::Recursive, None, &lease, |_, _| ()).await.unwrap();
    pins.pin(direct, PinKind::Direct, None, &lease, |_, _| ()).await.unwrap();
    drop(lease);
    let expected: Vec<_> = cache.iter().map(|block| *block.cid()).filter(|cid| *cid != direct).collect();
    assert_eq!(collected(&store).await, expected);
    assert_eq!(assert_sound(&store).counted.block_count, kept.len() as u64 + 1);
    assert_eq!(collected(&store).await, []);
}

#[tokio::test]
async fn a_collection_leaves_what_a_lease_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let [old, again, new] = [1, 2, 3].map(|seed| block_of(seed, 100));
    put(&store, &[old.clone(), again.clone()]).await;
    let lease = store.lease();
    store.put(vec![again.clone(), new.clone()], Durability::Now, &lease).await.unwrap();
    assert_eq!(collected(&store).await, [*old.cid()]);
    drop(lease);
    assert_eq!(collected(&store).await, [*again.cid(), *new.cid()]);
    assert_sound(&store);
}

#[tokio::test]
async fn kept_blocks_cannot_be_removed_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blocks = tree(1, 2, 1);
    put(&store, &blocks).await;
    let root = *blocks.last().unwrap().cid();
    Pins::new(store.clone()).pin(root, PinKind::Recursive, None, &store.lease(), |_, _| ()).await.unwrap();
    let cids: Vec<_> = blocks.iter().map(|block| *block.cid()).collect();
    for (_, answer) in store.remove(&cids).await.unwrap() {
        assert_eq!(answer.unwrap_err().kind(), crate::Kind::Invalid);
    }
    assert_eq!(store.stat().block_count, 3);
}

#[tokio::test]
async fn a_collection_gives_the_disk_back_and_leaves_the_rest_readable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blocks: Vec<_> = (0..512).map(|n| block_of(n, 100_000)).collect();
    put(&store, &blocks).await;
    let pins = Pins::new(store.clone());
    let kept: Vec<_> = blocks.iter().step_by(16).collect();
    for block in &kept {
        pins.pin(*block.cid(), PinKind::Recursive, None, &store.lease(), |_, _| ()).await.unwrap();
    }
    let blob_bytes = || -> u64 {
        let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let blobs = entries.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "blob"));
        blobs.map(|entry| entry.metadata().unwrap().len()).sum()
    };
    assert!(blob_bytes() > 50_000_000);
    assert_eq!(collect(&store, |_| ()).await.unwrap().removed_bytes, 48_000_000);
    assert!(blob_bytes() < 4_000_000, "blob_bytes={}", blob_bytes());
    for block in kept {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
    }
    assert_sound(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_beside_adds_takes_nothing_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let pins = Pins::new(store.clone());
    let adding = tokio::spawn({
        let (store, pins) = (store.clone(), pins.clone());
        async move {
            for salt in 0..40 {
                let (blocks, lease) = (tree(salt % 20, 3, 2), store.lease());
                for block in &blocks {
                    store.put(vec![block.clone()], Durability::Later, &lease).await.unwrap();
                }
                let root = *blocks.last().unwrap().cid();
                pins.pin(root, PinKind::Recursive, None, &lease, |_, _| ()).await.unwrap();
                if salt < 20 {
                    drop(lease);
                    pins.unpin(root, PinKind::Recursive).await.unwrap();
                }
            }
        }
    });
    while !adding.is_finished() {
        collect(&store, |_| ()).await.unwrap();
    }
    adding.await.unwrap();
    collect(&store, |_| ()).await.unwrap();
    let report = assert_sound(&store);
    assert_eq!((report.counted.pin_count, report.counted.block_count), (20, 20 * 13));
}

/// A store of at most that many bytes, with a collector.
fn limited(dir: &std::path::Path, max_bytes: u64) -> (Store, tokio_util::sync::DropGuard) {
    let settings = crate::settings::StoreSettings { max_bytes: Some(max_bytes), ..Default::default() };
    let store = Store::open(dir, &settings).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(run(store.clone(), stop.clone()));
    (store, stop.drop_guard())
}

#[tokio::test]
async fn a_full_store_makes_room_by_its_oldest_cache_and_keeps_what_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _stop) = limited(dir.path(), 1_000_000);
    tokio::task::yield_now().await;
    let blocks: Vec<_> = (0..400).map(|n| block_of(n, 10_000)).collect();
    let pinned = &blocks[..20];
    for block in pinned {
        put(&store, std::slice::from_ref(block)).await;
        let pins = Pins::new(store.clone());
        pins.pin(*block.cid(), PinKind::Recursive, None, &store.lease(), |_, _| ()).await.unwrap();
    }
    // Four times what fits.
    for block in &blocks[20..] {
        put(&store, std::slice::from_ref(block)).await;
        assert!(store.stat().block_bytes <= 1_000_000);
    }
    assert!(store.stat().block_bytes > 800_000, "no more goes than has to");
    assert!(pinned.iter().all(|block| store.has(block.multihash()).unwrap()));
    let here: Vec<_> = blocks[20..].iter().map(|block| store.has(block.multihash()).unwrap()).collect();
    let first = here.iter().position(|here| *here).unwrap();
    assert!(here[first..].iter().all(|here| *here), "the oldest go first");
    assert_sound(&store);
}

#[tokio::test]
async fn storing_again_what_is_there_pushes_nothing_out_of_a_full_store() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _stop) = limited(dir.path(), 100_000);
    tokio::task::yield_now().await;
    let blocks: Vec<_> = (0..9).map(|n| block_of(n, 10_000)).collect();
    put(&store, &blocks).await;
    let next_id = store.shared().next_id();
    put(&store, &blocks).await;
    assert_eq!(store.shared().next_id(), next_id, "none of them went and came anew");
}

#[tokio::test]
async fn what_is_pinned_alone_fills_a_store_until_a_pin_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _stop) = limited(dir.path(), 100_000);
    tokio::task::yield_now().await;
    let pins = Pins::new(store.clone());
    for n in 0..10 {
        let block = block_of(n, 10_000);
        put(&store, std::slice::from_ref(&block)).await;
        pins.pin(*block.cid(), PinKind::Direct, None, &store.lease(), |_, _| ()).await.unwrap();
    }
    let lease = store.lease();
    for _ in 0..2 {
        let refused = store.put(vec![block_of(99, 10_000)], Durability::Now, &lease).await;
        assert_eq!(refused.unwrap_err().kind(), crate::Kind::Full);
    }
    drop(lease);
    pins.unpin(*block_of(3, 10_000).cid(), PinKind::Direct).await.unwrap();
    put(&store, &[block_of(99, 10_000)]).await;
    assert!(!store.has(block_of(3, 10_000).multihash()).unwrap());
    assert_sound(&store);
}
