//! Bytes that rot on disk.

use super::super::layout::meta;
use super::*;
use crate::pins::{PinKind, Pins};

/// Overwrites the payload of a block with other bytes of the same length.
fn spoil(store: &Store, block: &Block) {
    let key = block.multihash().to_bytes();
    let entry = store.shared().entry(&key).unwrap().unwrap();
    let mut batch = store.shared().db.batch();
    let spoilt: Vec<_> = block.data().iter().map(|byte| byte ^ 1).collect();
    batch.put(cf::PAYLOAD, layout::payload_key(entry.id, &key), spoilt);
    store.shared().db.write(batch).unwrap();
}

#[tokio::test]
async fn a_damaged_block_is_a_miss_is_set_aside_and_can_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (leaf, other) = (block_of(1, 5000), block_of(2, 50));
    let root = node(1, &[*leaf.cid(), *other.cid()]);
    put(&store, &[leaf.clone(), other, root.clone()]).await;
    let pins = Pins::new(store.clone());
    pins.pin(*root.cid(), PinKind::Recursive, None, &store.lease(), |_, _| ()).await.unwrap();
    spoil(&store, &leaf);

    assert_eq!(store.get(leaf.cid()).unwrap(), None);
    store.sync().await.unwrap();
    assert_eq!((store.damaged_count(), store.stat().block_count), (1, 2));
    assert!(!store.has(leaf.multihash()).unwrap());
    let aside = std::fs::read_dir(dir.path().join(quarantine::FOLDER)).unwrap().next().unwrap().unwrap();
    let spoilt: Vec<_> = leaf.data().iter().map(|byte| byte ^ 1).collect();
    assert_eq!(std::fs::read(aside.path()).unwrap(), spoilt);

    // Its id is still its own, so the edge of the pinned DAG holds it as before.
    put(&store, std::slice::from_ref(&leaf)).await;
    assert_eq!(store.get(leaf.cid()).unwrap(), Some(leaf.clone()));
    crate::gc::collect(&store, |_| ()).await.unwrap();
    assert_eq!(store.stat().block_count, 3);
    assert_sound(&store);
}

#[tokio::test]
async fn a_damaged_block_that_nothing_keeps_leaves_no_row_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let block = block_of(1, 100);
    put(&store, std::slice::from_ref(&block)).await;
    spoil(&store, &block);
    assert_eq!(store.get_many(&[*block.cid()]).pop().unwrap().unwrap(), None);
    store.sync().await.unwrap();
    crate::gc::collect(&store, |_| ()).await.unwrap();
    assert_eq!(store.shared().db.last_key(cf::IDS).unwrap(), None);
    assert_sound(&store);
}

#[tokio::test]
async fn a_flipped_bit_in_a_blob_file_is_never_served_and_the_rest_of_the_store_works() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = [block_of(1, 100_000), block_of(2, 100_000)];
    {
        let store = open(dir.path());
        put(&store, &blocks).await;
        store.shared().db.flush(cf::PAYLOAD).unwrap();
    }
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let blob = names.filter(|path| path.extension().is_some_and(|ext| ext == "blob")).last().unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    let at = bytes.windows(16).position(|part| part == &blocks[0].data()[500..516]).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(&blob, bytes).unwrap();

    let store = open(dir.path());
    assert_eq!(store.get(blocks[0].cid()).unwrap(), None);
    assert_eq!(store.get(blocks[1].cid()).unwrap().as_ref(), Some(&blocks[1]));
    store.sync().await.unwrap();
    assert_eq!(store.damaged_count(), 1);
    put(&store, &blocks).await;
    assert_eq!(store.get(blocks[0].cid()).unwrap().as_ref(), Some(&blocks[0]));
    assert_sound(&store);
}

#[tokio::test]
async fn a_manifest_that_seems_to_end_early_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let block = block_of(1, 100_000);
    {
        let store = open(dir.path());
        for seed in 0..3 {
            put(&store, &[block_of(seed, 5_000_000 / 3), block.clone()]).await;
            store.shared().db.flush(cf::INDEX).unwrap();
        }
        put(&store, &[block_of(9, 10)]).await;
    }
    let name = std::fs::read_to_string(dir.path().join("CURRENT")).unwrap();
    let manifest = dir.path().join(name.trim_end());
    let whole = std::fs::read(&manifest).unwrap();
    let records: Vec<_> = std::iter::successors(Some(0), |at| {
        // Header: checksum, length, type. Source: RocksDB `db/log_format.h`.
        let next = at + 7 + usize::from(u16::from_le_bytes([whole[at + 4], whole[at + 5]]));
        (next < whole.len()).then_some(next)
    })
    .collect();
    assert!(records.len() > 3 && whole.len() < 32 * 1024);
    for at in records {
        let mut bytes = whole.clone();
        bytes[at + 5] ^= 0x40;
        std::fs::write(&manifest, bytes).unwrap();
        let error = Store::open(dir.path(), &StoreSettings::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "record at {at}");
        assert!(error.to_string().contains("repo salvage"), "{error}");
    }
    std::fs::write(&manifest, whole).unwrap();
    assert_eq!(open(dir.path()).get(block.cid()).unwrap(), Some(block));
}

#[tokio::test]
async fn the_auditor_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blocks = tree(1, 2, 2);
    put(&store, &blocks).await;
    let root = *blocks.last().unwrap().cid();
    Pins::new(store.clone()).pin(root, PinKind::Recursive, None, &store.lease(), |_, _| ()).await.unwrap();
    assert_sound(&store);
    let db = &store.shared().db;
    let edge = db.page(cf::EDGES, &[], None, 1).unwrap().pop().unwrap().0.into_vec();
    let stray_edge = [&[0, 0, 0, 0, 0, 0, 0, 1, 0x55][..], &[0, 0, 0, 0, 0, 0, 0, 2, 0x70]].concat();
    let key = blocks[0].multihash().to_bytes();
    let breaks = [
        (cf::EDGES, edge, None),
        (cf::EDGES, stray_edge, Some(vec![])),
        (cf::INDEX, key.clone(), None),
        (cf::PAYLOAD, layout::payload_key(1, &key), None),
        (cf::PAYLOAD, layout::payload_key(99, &key), Some(b"stray".to_vec())),
        (cf::META, meta::COUNTERS.to_vec(), Some(vec![0; 24])),
    ];
    for (family, key, value) in breaks {
        let before = db.get(family, &key).unwrap().map(|row| row.to_vec());
        let set = |value: Option<Vec<u8>>| {
            let mut batch = db.batch();
            match value {
                Some(value) => batch.put(family, &key, value),
                None => batch.delete(family, &key),
            }
            db.write(batch).unwrap();
        };
        set(value);
        assert_ne!(store.audit().await.unwrap().problem_count, 0, "{family} {key:?}");
        set(before);
        assert_sound(&store);
    }
}
