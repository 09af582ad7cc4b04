//! A process that is killed at random moments while it stores, pins, unpins and collects.
//!
//! The child says on its output what it begins and what it was promised; the parent kills it after a random number of
//! lines, opens the store and holds it against the promises.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::gc;
use crate::pins::{PinKind, Pins};
use rand::{Rng, SeedableRng};

const KILLS: usize = 20;
const CHILD: &str = "store::tests::crash::child_that_is_killed";
const FOLDER: &str = "CAIRN_CRASH_TEST_FOLDER";
const SEED: &str = "CAIRN_CRASH_TEST_SEED";

/// DAGs that are stored and pinned: small ones, and some that are too large for the log. Neighbours overlap.
fn dags() -> Vec<Vec<Block>> {
    let mut dags: Vec<Vec<Block>> = Vec::new();
    for salt in 0..30 {
        let mut blocks = match salt % 10 {
            0 => (0..7).map(|n| block_of(1000 * salt + n, 700_000)).collect(),
            _ => tree(salt, 3, 2),
        };
        let mut children: Vec<_> = blocks.iter().map(|block| *block.cid()).collect();
        if let Some(before) = dags.last() {
            children.push(*before[0].cid());
            blocks.insert(0, before[0].clone());
        }
        blocks.push(node(salt, &children));
        dags.push(blocks);
    }
    dags
}

/// Does nothing by itself: it is the child that the test below runs and kills.
#[tokio::test]
async fn child_that_is_killed() {
    let (Ok(folder), Ok(seed)) = (std::env::var(FOLDER), std::env::var(SEED)) else { return };
    let mut random = rand::rngs::StdRng::seed_from_u64(seed.parse().unwrap());
    let store = open(Path::new(&folder));
    let pins = Pins::new(store.clone());
    let dags = dags();
    let is_pinned = |salt: &usize| pins.get(dags[*salt].last().unwrap().cid()).unwrap().is_some();
    let mut pinned: BTreeSet<_> = (0..dags.len()).filter(is_pinned).collect();
    // A child that nobody kills ends by itself.
    for _ in 0..200 {
        let salt = random.random_range(0..dags.len());
        let blocks = &dags[salt];
        let root = *blocks.last().unwrap().cid();
        match random.random_range(0..10) {
            0..6 => {
                let lease = store.lease();
                println!("pinning {salt}");
                let (later, now) = blocks.split_at(blocks.len() / 2);
                store.put(later.to_vec(), Durability::Later, &lease).await.unwrap();
                store.put(now.to_vec(), Durability::Now, &lease).await.unwrap();
                pins.pin(root, PinKind::Recursive, None, &lease, |_, _| ()).await.unwrap();
                pinned.insert(salt);
                println!("pinned {salt}");
            }
            6..9 => {
                if pinned.remove(&salt) {
                    println!("unpinning {salt}");
                    pins.unpin(root, PinKind::Recursive).await.unwrap();
                    println!("unpinned {salt}");
                }
            }
            _ => {
                gc::collect(&store, |_| ()).await.unwrap();
                println!("collected");
            }
        }
    }
}

/// Runs the child, kills it after that many lines, and returns what it said.
fn killed_child(folder: &Path, seed: u64, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while said.len() < lines {
        match output.next() {
            Some(line) => said.push(line.unwrap()),
            None => break,
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it was killed counts, too; the last line may be torn.
    said.extend(output.map_while(std::io::Result::ok));
    said
}

#[tokio::test]
async fn a_killed_process_keeps_what_it_acknowledged() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let dags = dags();
    let (mut pinned, mut open_ended, mut said_count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for kill in 0..KILLS {
        // The test harness says a few lines first.
        let lines = random.random_range(1..40);
        for line in killed_child(dir.path(), seed.wrapping_add(kill as u64), lines) {
            let mut words = line.split(' ');
            let (Some(verb), Some(Ok(salt))) = (words.next(), words.next().map(str::parse::<usize>)) else {
                continue;
            };
            said_count += 1;
            match verb {
                "pinning" | "unpinning" => _ = (pinned.remove(&salt), open_ended.insert(salt)),
                "pinned" => _ = (open_ended.remove(&salt), pinned.insert(salt)),
                "unpinned" => _ = (open_ended.remove(&salt), pinned.remove(&salt)),
                _ => {}
            }
        }
        check(dir.path(), &dags, &mut pinned, &mut open_ended).await;
    }
    assert!(said_count > KILLS, "the child did nothing");
}

/// Every pin that was promised is there with its whole DAG, and no other; the store is sound.
async fn check(
    folder: &Path,
    dags: &[Vec<Block>],
    pinned: &mut BTreeSet<usize>,
    open_ended: &mut BTreeSet<usize>,
) {
    let store = open(folder);
    let pins = Pins::new(store.clone());
    pins.recover().await.unwrap();
    assert_sound(&store);
    for (salt, blocks) in dags.iter().enumerate() {
        let is_pinned = pins.get(blocks.last().unwrap().cid()).unwrap().is_some();
        if open_ended.remove(&salt) && is_pinned {
            pinned.insert(salt);
        }
        assert_eq!(is_pinned, pinned.contains(&salt), "dag {salt}");
        if is_pinned {
            assert!(blocks.iter().all(|block| store.get(block.cid()).unwrap().is_some()), "dag {salt}");
        }
    }
}
