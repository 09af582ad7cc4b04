//! Damage that is looked for, and stores that are made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_proto::block::Block;
use tempfile::TempDir;

use super::*;
use crate::blocks::Blocks;
use crate::pins::{PinKind, Pins};
use crate::settings::StoreSettings;
use crate::store::tests::{assert_sound, block_of, kind, open, put, tree};
use crate::store::{Store, Table};

/// A repo with a pinned tree and a pinned file of large blocks, closed.
async fn repo() -> (TempDir, PathBuf, Vec<Vec<Block>>) {
    let repo = tempfile::tempdir().unwrap();
    let dir = repo.path().join("store");
    let large: Vec<_> = (100..110).map(|seed| block_of(seed, 50_000)).collect();
    let root = crate::store::tests::node(9, &large.iter().map(|block| *block.cid()).collect::<Vec<_>>());
    let dags = vec![tree(1, 3, 2), large.into_iter().chain([root]).collect()];
    let store = open(&dir);
    for dag in &dags {
        put(&store, dag).await;
        let pins = Pins::new(store.clone());
        let root = *dag.last().unwrap().cid();
        pins.pin(root, PinKind::Recursive, Some("kept".into()), &store.lease(), |_, _| ()).await.unwrap();
    }
    store.rows(Table::Files).put(b"root", b"value").unwrap();
    store.close().await.unwrap();
    (repo, dir, dags)
}

fn file(dir: &Path, ending: &str) -> PathBuf {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.to_string_lossy().ends_with(ending)).min().unwrap()
}

/// Flips a bit where `needle` is in a file.
fn spoil(path: &Path, needle: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(needle.len()).position(|part| part == needle).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

async fn verified(store: &Store, options: VerifyOptions) -> (VerifyReport, Vec<VerifyEvent>) {
    let blocks = Blocks::new(store.clone(), None, Duration::from_secs(1), Default::default());
    let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
    let report = verify(&blocks, options, sender).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    events.retain(|event| matches!(event, VerifyEvent::Damaged { .. }));
    (report, events)
}

#[tokio::test]
async fn verifying_names_every_damaged_block_and_tells_the_same_again_until_it_is_back() {
    let (_repo, dir, dags) = repo().await;
    drop(open(&dir));
    let lost = &dags[1][3];
    spoil(&file(&dir, ".blob"), &lost.data()[1000..1020]);
    let store = open(&dir);
    for _ in 0..2 {
        let (report, events) = verified(&store, VerifyOptions::default()).await;
        assert_eq!((report.block_count, report.damaged_count), (24, 1));
        assert_eq!(events, [VerifyEvent::Damaged { cid: *lost.cid(), healed: Ok(false) }]);
    }
    put(&store, std::slice::from_ref(lost)).await;
    assert_eq!(verified(&store, VerifyOptions::default()).await.0.damaged_count, 0);
}

#[tokio::test]
async fn a_verification_that_was_cut_short_goes_on_where_it_was() {
    let (_repo, dir, _) = repo().await;
    let store = open(&dir);
    store.note_verified(20);
    assert_eq!(verified(&store, VerifyOptions::default()).await.0.block_count, 5);
    assert_eq!(verified(&store, VerifyOptions::default()).await.0.block_count, 24);
    store.note_verified(20);
    let restart = VerifyOptions { restart: true, ..Default::default() };
    assert_eq!(verified(&store, restart).await.0.block_count, 24);
}

#[tokio::test(start_paused = true)]
async fn a_verification_reads_no_faster_than_it_may() {
    let (_repo, dir, _) = repo().await;
    let store = open(&dir);
    let begun = tokio::time::Instant::now();
    let options = VerifyOptions { max_bytes_per_second: Some(1000), ..Default::default() };
    let (report, _) = verified(&store, options).await;
    assert!(begun.elapsed().as_secs() >= report.block_bytes / 1000);
}

/// The store was salvaged and has all of these blocks and pins but one leaf and what needs it.
async fn assert_salvaged(dir: &Path, dags: &[Vec<Block>], lost: Option<&Block>) {
    let report = salvage(dir, &StoreSettings::default()).await.unwrap();
    let lost_count = usize::from(lost.is_some());
    assert_eq!(report.lost_pins.len(), lost_count, "{:?}", report.lost_pins);
    assert!(report.damaged.join("CURRENT").exists(), "the damaged store is kept");
    let store = open(dir);
    for block in dags.iter().flatten() {
        let found = store.get(block.cid()).unwrap();
        assert_eq!(found.is_some(), Some(block) != lost, "{}", block.cid());
    }
    let pins: Vec<_> = Pins::new(store.clone()).list(Default::default()).map(|pin| pin.unwrap()).collect();
    assert_eq!(pins.len(), dags.len() - lost_count);
    assert!(pins.iter().all(|pin| pin.name.as_deref() == Some("kept")));
    assert_eq!(store.rows(Table::Files).get(b"root").unwrap().as_deref(), Some(&b"value"[..]));
    assert_sound(&store);
}

#[tokio::test]
async fn a_store_without_its_list_of_files_is_made_anew_from_them() {
    let (_repo, dir, dags) = repo().await;
    drop(open(&dir));
    fs::remove_file(file(&dir, "CURRENT")).unwrap();
    fs::write(dir.join("CURRENT"), "MANIFEST-009999\n").unwrap();
    let error = Store::open(&dir, &StoreSettings::default()).unwrap_err();
    assert!(error.to_string().contains("repo salvage"), "{error}");
    assert_salvaged(&dir, &dags, None).await;
}

#[tokio::test]
async fn a_store_with_a_bad_block_is_made_anew_from_the_others() {
    let (_repo, dir, dags) = repo().await;
    drop(open(&dir));
    let lost = &dags[1][3];
    spoil(&file(&dir, ".blob"), &lost.data()[1000..1020]);
    assert_salvaged(&dir, &dags, Some(lost)).await;
}

#[tokio::test]
async fn a_store_whose_log_lost_what_was_acknowledged_is_refused_and_made_anew() {
    let repo = tempfile::tempdir().unwrap();
    let dir = repo.path().join("store");
    let (kept, lost) = (block_of(1, 100), block_of(2, 100));
    {
        let store = open(&dir);
        put(&store, std::slice::from_ref(&kept)).await;
        put(&store, std::slice::from_ref(&lost)).await;
    }
    spoil(&file(&dir, ".log"), &lost.data()[20..60]);
    let error = Store::open(&dir, &StoreSettings::default()).unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Corrupt);
    assert!(error.to_string().contains("log of the store is damaged"), "{error}");
    let report = salvage(&dir, &StoreSettings::default()).await.unwrap();
    assert_eq!(report.stat.block_count, 1);
    assert!(open(&dir).get(kept.cid()).unwrap().is_some());
}

#[tokio::test]
async fn a_store_that_is_not_there_is_not_salvaged() {
    let (_repo, dir, _) = repo().await;
    let missing = dir.with_file_name("nothing");
    assert_eq!(kind(salvage(&missing, &StoreSettings::default()).await), crate::Kind::NotFound);
}
