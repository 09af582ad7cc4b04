//! Limits and settings.

use super::super::layout::meta;
use super::super::room::{RESERVE_BYTES, check_free};
use super::*;

#[tokio::test]
async fn blocks_fit_up_to_max_bytes_and_one_byte_more_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Store::open(dir.path(), &StoreSettings { max_bytes: Some(1000), ..Default::default() }).unwrap();
    put(&store, &[block_of(1, 400), block_of(2, 600)]).await;
    let lease = store.lease();
    assert_eq!(kind(store.put(vec![block_of(3, 1)], Durability::Later, &lease).await), Kind::Full);
    put(&store, &[block_of(1, 400)]).await;
    store.remove(&[*block_of(1, 400).cid()]).await.unwrap().pop().unwrap().1.unwrap();
    put(&store, &[block_of(3, 400)]).await;
    assert_sound(&store);
}

#[test]
fn the_disk_is_filled_up_to_the_reserve_and_no_further() {
    assert!(check_free(RESERVE_BYTES + 10, 10).is_ok());
    assert_eq!(kind(check_free(RESERVE_BYTES + 9, 10)), Kind::Full);
}

#[tokio::test]
async fn blocks_stored_for_later_become_durable_at_the_most_that_a_group_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease();
    let mut blocks: Vec<_> = (0..16_384).map(|n| block_of(n, 8)).collect();
    let last = blocks.pop().unwrap();
    store.put(blocks, Durability::Later, &lease).await.unwrap();
    assert_eq!(open(crashed(&store).path()).stat().block_count, 0, "one less is not enough");
    store.put(vec![last], Durability::Later, &lease).await.unwrap();
    // The group is written before the next request is answered.
    store.put(Vec::new(), Durability::Later, &lease).await.unwrap();
    let copy = crashed(&store);
    let reopened = open(copy.path());
    assert_eq!(reopened.stat().block_count, 16_384);
    assert_sound(&reopened);
}

#[tokio::test]
async fn blocks_stored_for_later_become_durable_at_the_most_bytes_that_a_group_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease();
    for n in 0..63 {
        store.put(vec![block_of(n, 1 << 20)], Durability::Later, &lease).await.unwrap();
    }
    let copy = crashed(&store);
    assert_eq!(open(copy.path()).stat().block_count, 0);
    assert_sound(&open(copy.path()));
    store.put(vec![block_of(63, 1 << 20)], Durability::Later, &lease).await.unwrap();
    store.put(Vec::new(), Durability::Later, &lease).await.unwrap();
    let copy = crashed(&store);
    assert_eq!(open(copy.path()).stat(), StoreStat { block_count: 64, block_bytes: 64 << 20, pin_count: 0 });
    assert_sound(&open(copy.path()));
}

#[tokio::test]
async fn memory_bytes_bounds_what_waits_in_memtables() {
    let blob_count = |dir: &Path| {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".blob")).count()
    };
    let (small, large) = (24 << 20, 192 << 20);
    for (memory_bytes, flushed) in [(small, true), (large, false)] {
        let dir = tempfile::tempdir().unwrap();
        let settings = StoreSettings { memory_bytes, ..Default::default() };
        let store = Store::open(dir.path(), &settings).unwrap();
        let lease = store.lease();
        // Three memtables of the small setting: the first has reached the disk before the last is taken.
        for n in 0..16 {
            store.put(vec![block_of(n, 1 << 20)], Durability::Later, &lease).await.unwrap();
        }
        assert_eq!(blob_count(dir.path()) > 0, flushed, "memory_bytes={memory_bytes}");
    }
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_written_and_everything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let block = block_of(1, 10);
    put(&store, std::slice::from_ref(&block)).await;
    store.shared().health.fail(&Error::internal("fsync failed"));
    let error = store.put(vec![block_of(2, 10)], Durability::Now, &store.lease()).await.unwrap_err();
    assert!(error.to_string().contains("read-only") && error.to_string().contains("fsync failed"), "{error}");
    assert!(store.read_only_because().unwrap().contains("fsync failed"));
    assert!(store.sync().await.is_err());
    assert!(store.rows(Table::Records).put(b"k", b"v").is_err());
    assert!(store.get(block.cid()).unwrap().is_some());
}

#[tokio::test]
async fn a_newer_format_is_refused_and_its_version_named() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        let mut batch = store.shared().db.batch();
        batch.put(cf::META, meta::FORMAT, 2u32.to_be_bytes());
        store.shared().db.write(batch).unwrap();
    }
    let error = Store::open(dir.path(), &StoreSettings::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("format=2") && error.to_string().contains("newer cairn"), "{error}");
}

#[tokio::test]
async fn a_newer_format_with_other_column_families_is_refused_and_its_version_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    {
        let families = cf::ALL.into_iter().chain(["later"]);
        let mut options = rocksdb::Options::default();
        options.create_missing_column_families(true);
        let db = rocksdb::DB::open_cf(&options, dir.path(), families).unwrap();
        db.put_cf(&db.cf_handle(cf::META).unwrap(), meta::FORMAT, 7u32.to_be_bytes()).unwrap();
    }
    let error = Store::open(dir.path(), &StoreSettings::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("format=7"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    assert_eq!(kind(Store::open(&dir.path().join("file"), &StoreSettings::default())), Kind::Invalid);
}
