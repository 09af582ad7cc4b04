//! A disk without room: a clear message, reads go on, a collection frees, writing resumes.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use cairn_node::Kind;
use cairn_node::settings::StoreSettings;
use cairn_node::store::{Durability, Store, Table};
use cairn_proto::block::Block;
use cairn_proto::cid::{HashFunction, RAW, Version};

use cairn_tests::{Node, Scratch, files_equal, run, skip};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::DEADLINE;

/// A small disk in memory. Nothing, and a line that says so, where none can be mounted.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    fn mount(folder: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(folder);
        if !run(&mut mount, DEADLINE).status.success() {
            skip("a small disk cannot be mounted here");
            return None;
        }
        Some(Self { folder: folder.to_path_buf() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file of it open keeps that.
        run(Command::new("umount").arg("--lazy").arg(&self.folder), DEADLINE);
    }
}

#[test]
fn a_full_disk_is_told_reads_go_on_and_a_collection_makes_room_again() {
    let mut node = Node::cairn();
    let Some(_disk) = Disk::mount(&node.repo().join("store"), 320) else { return };
    let scratch = Scratch::new();
    let kept = scratch.random_file("kept", 20_000_000, 1);
    let too_large = scratch.random_file("too-large", 330_000_000, 2);
    let fits = scratch.random_file("fits", 40_000_000, 3);
    node.start();
    let kept_cid = node.add(&kept);
    let mut add = node.command(&["add", "-Q", "--progress=false"]);
    let refused = run(add.arg(&too_large), DEADLINE);
    assert!(refused.error().contains("full"), "{}", refused.stderr);
    assert!(files_equal(&kept, &node.get(&kept_cid)), "reads go on");
    node.run(&["repo", "gc", "--silent"]).text();
    let fits_cid = node.add(&fits);
    assert!(files_equal(&fits, &node.get(&fits_cid)), "and writing, without a restart");
    node.stop();
}

/// Somebody who takes whatever room there is on a disk, also what the store itself lets go of, until it is dropped.
struct Others {
    file: PathBuf,
    taking: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Others {
    fn new(file: &Path) -> Self {
        let taking = Arc::new(AtomicBool::new(true));
        let (full, is_full) = mpsc::sync_channel(1);
        let mut taken = File::create(file).unwrap();
        let on = Arc::clone(&taking);
        let thread = thread::spawn(move || {
            let zeros = vec![0; 1 << 20];
            while on.load(Ordering::Relaxed) {
                match taken.write(&zeros) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => {
                        _ = full.try_send(());
                        thread::yield_now();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        is_full.recv().unwrap();
        Self { file: file.to_path_buf(), taking, thread: Some(thread) }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.taking.store(false, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::fs::remove_file(&self.file).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_written_once_others_have_made_room_on_the_disk() {
    let folder = cairn_tests::fast_folder();
    // Too small for a reserve: that would be used up first.
    let Some(disk) = Disk::mount(&folder.path().join("disk"), 250) else { return };
    let dir = disk.folder.join("store");
    // What is accepted stays in memory until it has to be durable.
    let settings = StoreSettings { memory_bytes: 512 << 20, ..StoreSettings::default() };
    let store = Store::open(&dir, &settings).unwrap();
    let lease = store.lease();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut blocks = || -> Vec<Block> {
        let block = |_| {
            let mut data = vec![0; 1 << 20];
            random.fill_bytes(&mut data);
            Block::hash(Version::V1, RAW, HashFunction::Sha2_256, data.into()).unwrap()
        };
        (0..20).map(block).collect()
    };
    let (durable, accepted) = (blocks(), blocks());
    store.put(durable.clone(), Durability::Now, &lease).await.unwrap();
    store.put(accepted.clone(), Durability::Later, &lease).await.unwrap();
    let others = Others::new(&disk.folder.join("others"));

    let full = |result: cairn_node::Result<()>| {
        let error = result.unwrap_err();
        assert!(error.kind() == Kind::Full && error.to_string().contains("full"), "{error}");
    };
    let rows = store.rows(Table::Records);
    let mut written = store.sync().await;
    let mut row_count = 0;
    while written.is_ok() {
        written = rows.put(&u32::to_be_bytes(row_count), &[0; 100_000]);
        row_count += u32::from(written.is_ok());
        assert!(row_count < 2500, "that is as much as the disk holds");
    }
    full(written);
    full(store.sync().await);
    full(rows.put(b"key", b"value"));
    for block in durable.iter().chain(&accepted) {
        assert!(store.get(block.cid()).unwrap().is_some(), "reads go on");
    }

    drop(others);
    let until = Instant::now() + DEADLINE;
    while let Err(error) = store.sync().await {
        assert!(Instant::now() < until, "{error}");
        tokio::task::yield_now().await;
    }
    assert_eq!(store.read_only_because(), None);
    assert_eq!(rows.iter(b"").count(), row_count as usize);
    store.close().await.unwrap();
    drop((lease, rows, store));
    let store = Store::open(&dir, &StoreSettings::default()).unwrap();
    for block in durable.iter().chain(&accepted) {
        assert!(store.get(block.cid()).unwrap().is_some());
    }
    assert_eq!(store.audit().await.unwrap().problems, Vec::<String>::new());
}
