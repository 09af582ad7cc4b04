//! The store on a real disk. Pins and collections have their tests beside them.

mod crash;
mod damage;
mod limits;
mod model;

use std::collections::HashMap;

use super::*;
use bytes::Bytes;
use cairn_proto::cid::{DAG_PB, HashFunction, RAW, Version};
use cairn_proto::codec::dag_pb::{PbLink, PbNode};
use tempfile::TempDir;

/// A raw block.
pub(crate) fn block(data: &[u8]) -> Block {
    Block::hash(Version::V1, RAW, HashFunction::Sha2_256, Bytes::copy_from_slice(data)).unwrap()
}

/// A raw block of that length whose bytes depend on `seed`.
pub(crate) fn block_of(seed: u64, len: usize) -> Block {
    use rand_chacha::rand_core::{RngCore, SeedableRng};
    let mut data = vec![0; len];
    rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut data);
    block(&data)
}

/// A dag-pb node with these children; `salt` tells it from others with the same ones.
pub(crate) fn node(salt: u64, children: &[Cid]) -> Block {
    let link = |cid: &Cid| PbLink { cid: *cid, name: None, tsize: None };
    let data = Bytes::copy_from_slice(&salt.to_be_bytes());
    let bytes = PbNode { links: children.iter().map(link).collect(), data: Some(data) }.encode();
    Block::hash(Version::V1, DAG_PB, HashFunction::Sha2_256, bytes).unwrap()
}

/// A tree of that fanout and depth, leaves first and its root last.
pub(crate) fn tree(salt: u64, fanout: u64, depth: u32) -> Vec<Block> {
    if depth == 0 {
        return vec![block_of(salt, 100)];
    }
    let mut blocks = Vec::new();
    let mut children = Vec::new();
    for n in 0..fanout {
        blocks.extend(tree(salt * (fanout + 1) + n + 1, fanout, depth - 1));
        children.push(*blocks.last().unwrap().cid());
    }
    blocks.push(node(salt, &children));
    blocks
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, &StoreSettings::default()).unwrap()
}

/// Stores blocks for good, under a lease that ends at once.
pub(crate) async fn put(store: &Store, blocks: &[Block]) {
    store.put(blocks.to_vec(), Durability::Now, &store.lease()).await.unwrap();
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    result.unwrap_err().kind()
}

/// Takes a block away, whatever keeps it.
pub(crate) fn lose(store: &Store, block: &Block) {
    let mut batch = store.shared().db.batch();
    batch.delete(cf::INDEX, block.multihash().to_bytes());
    store.shared().db.write(batch).unwrap();
}

/// The folder as a crash at this moment would leave it, but for what RocksDB does by itself meanwhile.
pub(crate) fn crashed(store: &Store) -> TempDir {
    loop {
        let copy = tempfile::tempdir().unwrap();
        let before = files(store.dir());
        let copied =
            before.keys().all(|name| std::fs::copy(store.dir().join(name), copy.path().join(name)).is_ok());
        // A flush or a compaction in the background would make an image of two moments.
        if copied && files(store.dir()) == before {
            return copy;
        }
    }
}

fn files(dir: &Path) -> HashMap<std::ffi::OsString, u64> {
    let entries = std::fs::read_dir(dir).unwrap().filter_map(|entry| entry.ok());
    let files = entries.filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?)));
    files.filter(|(_, data)| data.is_file()).map(|(name, data)| (name, data.len())).collect()
}

/// The auditor finds nothing wrong. Nothing may be pending.
pub(crate) fn assert_sound(store: &Store) -> AuditReport {
    let report = audit::audit(store).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.counted, store.stat());
    report
}

#[tokio::test]
async fn blocks_come_back_before_and_after_they_are_durable_and_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let blocks: Vec<_> = [0, 1, 4095, 4096, 300_000].map(|len| block_of(len as u64, len)).into();
    {
        let store = open(dir.path());
        let lease = store.lease();
        for durability in [Durability::Later, Durability::Now] {
            store.put(blocks.clone(), durability, &lease).await.unwrap();
            for block in &blocks {
                assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
                assert_eq!(store.size(block.multihash()).unwrap(), Some(block.data().len() as u64));
            }
        }
        assert_eq!(store.stat(), StoreStat { block_count: 5, block_bytes: 308_192, pin_count: 0 });
    }
    let store = open(dir.path());
    let cids: Vec<_> = blocks.iter().map(|block| *block.cid()).collect();
    let read: Vec<_> = store.get_many(&cids).into_iter().map(|block| block.unwrap().unwrap()).collect();
    assert_eq!(read, blocks);
    assert_sound(&store);
}

#[tokio::test]
async fn a_block_is_found_under_every_codec_of_its_multihash() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let raw = block(b"both");
    let as_pb = Cid::new_v1(DAG_PB, *raw.multihash());
    put(&store, std::slice::from_ref(&raw)).await;
    assert_eq!(store.get(&as_pb).unwrap().unwrap().cid(), &as_pb);
    assert!(store.has(as_pb.hash()).unwrap());
}

#[tokio::test]
async fn identity_cids_are_answered_and_never_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = Cid::new_v1(RAW, Multihash::wrap(cairn_proto::cid::IDENTITY, b"inline").unwrap());
    let inline = Block::from_identity(cid).unwrap();
    put(&store, std::slice::from_ref(&inline)).await;
    assert_eq!(store.stat(), StoreStat::default());
    assert_eq!(store.get(&cid).unwrap(), Some(inline));
}

#[tokio::test]
async fn storing_a_block_again_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blocks = [block_of(1, 10), block_of(2, 10_000)];
    for _ in 0..2 {
        put(&store, &[blocks[0].clone(), blocks[1].clone(), blocks[1].clone()]).await;
        assert_eq!(store.shared().next_id(), 3);
        assert_eq!(store.stat().block_count, 2);
    }
    assert_sound(&store);
}

#[tokio::test]
async fn blocks_are_listed_once_in_the_order_of_arrival() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // More than one page.
    let blocks: Vec<_> = (0..3000).map(|n| block_of(n, 8)).collect();
    put(&store, &blocks).await;
    let listed: Vec<_> = store.blocks().map(|row| row.unwrap()).collect();
    let expected: Vec<_> = blocks.iter().map(|block| (*block.multihash(), 8)).collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn removed_blocks_are_gone_and_each_has_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let [here, held, absent] = [1, 2, 3].map(|seed| block_of(seed, 100));
    put(&store, std::slice::from_ref(&here)).await;
    let lease = store.lease();
    store.put(vec![held.clone()], Durability::Later, &lease).await.unwrap();
    let answers = store.remove(&[*here.cid(), *held.cid(), *absent.cid()]).await.unwrap();
    let kinds: Vec<_> =
        answers.into_iter().map(|(_, answer)| answer.err().map(|error| error.kind())).collect();
    assert_eq!(kinds, [None, Some(Kind::Unavailable), Some(Kind::NotFound)]);
    assert!(!store.has(here.multihash()).unwrap());
    assert!(store.has(held.multihash()).unwrap());
    drop(lease);
    store.remove(&[*held.cid()]).await.unwrap().pop().unwrap().1.unwrap();
    assert_eq!(store.stat(), StoreStat::default());
    assert_sound(&store);
}

#[tokio::test]
async fn rows_of_other_parts_are_written_listed_by_prefix_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    {
        let records = open(dir.path()).rows(Table::Records);
        records.put(b"a/1", b"one").unwrap();
        records
            .write(vec![(b"a/2".to_vec(), Some(b"two".to_vec())), (b"b/1".to_vec(), Some(vec![]))])
            .unwrap();
        records.delete(b"b/1").unwrap();
        records.sync().unwrap();
    }
    let store = open(dir.path());
    let rows: Vec<_> = store.rows(Table::Records).iter(b"a/").map(|row| row.unwrap().1).collect();
    assert_eq!(rows, [(*b"one").into(), (*b"two").into()] as [Box<[u8]>; 2]);
    assert_eq!(store.rows(Table::Records).get(b"b/1").unwrap(), None);
    assert_eq!(store.rows(Table::Provide).iter(b"").count(), 0);
}

#[tokio::test]
async fn a_closed_store_reads_and_refuses_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let block = block_of(1, 10);
    let lease = store.lease();
    store.put(vec![block.clone()], Durability::Later, &lease).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(kind(store.put(vec![block_of(2, 10)], Durability::Now, &lease).await), Kind::Closed);
    assert!(store.has(block.multihash()).unwrap());
    let copy = crashed(&store);
    assert!(open(copy.path()).has(block.multihash()).unwrap(), "closing makes durable");
}

#[tokio::test]
async fn a_second_open_is_refused_as_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(dir.path(), &StoreSettings::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("in use"), "{error}");
    drop(store);
    open(dir.path());
}
