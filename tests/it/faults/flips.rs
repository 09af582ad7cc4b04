//! Rotten bits: no wrong byte is ever served, nothing is lost in silence, and a bad file costs only what is in it.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_node::builder::STORE_DIR;
use cairn_node::repair::salvage;
use cairn_node::settings::StoreSettings;
use cairn_node::{Kind, Node};
use cairn_proto::cid::{Cid, RAW};
use cairn_tests::run;
use futures::stream::{self, StreamExt as _};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::{DEADLINE, World, child, count, open, seed};

const STEPS: usize = 40;
const SIGABRT: i32 = 6;
/// Repos looked at side by side: opening and closing one is mostly waiting.
const AT_ONCE: usize = 4;

/// `CAIRN_TEST_FLIPS` says how many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_any_file_is_noticed_and_costs_no_more_than_its_file() {
    let flips = count("CAIRN_TEST_FLIPS", 400);
    let seed = seed();
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = cairn_tests::fast_folder();
    let repo = folder.path().join("repo");
    // Small objects, so that the repo is: a flip should hit something.
    let world = World::make(&folder.path().join("world"), [1, 3, 5, 7, 11, 15]).await;
    // A run that ends well leaves tables, one that dies leaves a log. It dies between two steps: of one that is not
    // acknowledged, the end may be missing.
    run(&mut child::command(&world, &repo, seed, STEPS), DEADLINE).text();
    let mut dying_seed = seed;
    let (pristine, whole) = loop {
        dying_seed = dying_seed.wrapping_add(1);
        let died = run(&mut child::command_that_dies(&world, &repo, dying_seed, STEPS), DEADLINE);
        assert_eq!(died.status.signal(), Some(SIGABRT));
        let pristine = Image::read(&repo);
        let (_repo, node) = pristine.open_flipped(None).await.unwrap();
        let whole = Contents::of(&node).unwrap();
        // If everything was unpinned in the end, another run goes on from there.
        if !whole.blocks.is_empty() && !whole.pins.is_empty() {
            break (pristine, whole);
        }
        assert!(dying_seed != seed.wrapping_add(10), "most runs leave something pinned");
    };
    let places: Vec<_> =
        (0..flips).map(|_| (pristine.place(&mut random), random.random_range(0..8))).collect();
    let (pristine, whole) = (Arc::new(pristine), Arc::new(whole));
    let outcomes = stream::iter(places).map(|((name, at), bit)| {
        let (pristine, whole) = (Arc::clone(&pristine), Arc::clone(&whole));
        tokio::spawn(async move {
            let outcome = pristine.outcome((&name, at, bit), &whole).await;
            (name, at, bit, outcome)
        })
    });
    let mut found = BTreeMap::<String, [usize; 3]>::new();
    let mut outcomes = outcomes.buffer_unordered(AT_ONCE);
    while let Some(outcome) = outcomes.next().await {
        let (name, at, bit, outcome) = outcome.unwrap();
        let flip = (name.as_path(), at, bit);
        let counts = found.entry(kind_of(flip.0)).or_default();
        counts[outcome as usize] += 1;
        if outcome == Outcome::Refused && counts[outcome as usize] == 1 {
            whole.check_salvaged(&pristine, flip).await;
        }
    }
    for (kind, [harmless, noticed, refused]) in found {
        println!("{kind}: {harmless} harmless, {noticed} noticed on read, {refused} refused at start");
    }
    println!("{flips} flipped bits");
}

/// What a flipped bit leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything is there.
    Harmless,
    /// Something is known to be lost.
    Noticed,
    /// The store does not open, and says what to do.
    Refused,
}

/// File, byte and bit.
type Flip<'a> = (&'a Path, usize, u8);

/// The files of a repo.
struct Image {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Image {
    fn read(repo: &Path) -> Self {
        let mut files = Vec::new();
        let mut folders = vec![repo.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => {
                        let name = entry.path().strip_prefix(repo).unwrap().to_path_buf();
                        files.push((name, std::fs::read(entry.path()).unwrap()));
                    }
                }
            }
        }
        files.sort();
        Self { files }
    }

    /// A byte: half of the time of any file, so that small files have their turn too.
    fn place(&self, random: &mut ChaCha8Rng) -> (PathBuf, usize) {
        let full: Vec<_> = self.files.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        let (name, bytes) = match random.random() {
            true => full.choose(random).unwrap(),
            false => full.choose_weighted(random, |(_, bytes)| bytes.len()).unwrap(),
        };
        (name.clone(), random.random_range(0..bytes.len()))
    }

    /// Opens the repo with a bit flipped, and checks what it has.
    async fn outcome(&self, flip: Flip<'_>, whole: &Contents) -> Outcome {
        let (name, at, bit) = flip;
        let place = format!("{} byte {at} bit {bit}", name.display());
        match self.open_flipped(Some(flip)).await {
            Err(error) => {
                assert!(!is_data(name), "{place}: {error}");
                assert_eq!(error.kind(), Kind::Corrupt, "{place}: {error}");
                assert!(error.to_string().contains("repo salvage"), "{error}");
                Outcome::Refused
            }
            Ok((_repo, node)) => {
                let noticed = whole.check(&node, &place).await;
                node.shutdown().await.ok();
                if noticed { Outcome::Noticed } else { Outcome::Harmless }
            }
        }
    }

    async fn open_flipped(&self, flip: Option<Flip<'_>>) -> cairn_node::Result<(TempDir, Node)> {
        let folder = self.flipped(flip);
        let node = open(folder.path()).await?;
        Ok((folder, node))
    }

    fn flipped(&self, flip: Option<Flip<'_>>) -> TempDir {
        let folder = cairn_tests::fast_folder();
        let repo = folder.path();
        for (name, bytes) in &self.files {
            let path = repo.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match flip {
                Some((flipped, at, bit)) if flipped == name => {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= 1 << bit;
                    std::fs::write(path, bytes).unwrap();
                }
                _ => std::fs::write(path, bytes).unwrap(),
            }
        }
        folder
    }
}

/// Tables and blob files: what is in one is lost with it, nothing else.
fn is_data(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "sst" || extension == "blob")
}

/// The name without its number.
fn kind_of(name: &Path) -> String {
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    name.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// What is in a store.
struct Contents {
    blocks: Vec<Cid>,
    pins: Vec<Cid>,
}

impl Contents {
    fn of(node: &Node) -> cairn_node::Result<Self> {
        let blocks = node.store().blocks().map(|row| row.map(|(hash, _)| Cid::new_v1(RAW, hash)));
        Ok(Self { blocks: blocks.collect::<Result<_, _>>()?, pins: pins(node)? })
    }

    /// What is missing is known to be missing. Returns whether anything is.
    async fn check(&self, node: &Node, flip: &str) -> bool {
        let store = node.store();
        let mut lost_count = 0;
        let mut noticed = false;
        for cid in &self.blocks {
            match store.get(cid) {
                // A `Block` has been hashed, so its bytes are right.
                Ok(Some(_)) => {}
                Ok(None) => lost_count += 1,
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Corrupt, "{flip}: {error}");
                    noticed = true;
                }
            }
        }
        // What was found damaged is set aside before this is answered, unless the store is read-only.
        let _ = store.sync().await;
        let damaged = store.damaged_count() > 0 || store.read_only_because().is_some();
        assert!(lost_count == 0 || noticed || damaged, "{flip}: {lost_count} blocks are lost in silence");
        match pins(node) {
            Ok(pins) => assert_eq!(pins, self.pins, "{flip}: pins are lost in silence"),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Corrupt, "{flip}: {error}");
                noticed = true;
            }
        }
        noticed || damaged
    }
}

impl Contents {
    /// A salvage of a store that is refused brings back every pin that it does not name as lost.
    async fn check_salvaged(&self, pristine: &Image, flip: Flip<'_>) {
        let folder = pristine.flipped(Some(flip));
        let store = folder.path().join(STORE_DIR);
        let report = salvage(&store, &StoreSettings::default()).await.unwrap();
        let node = open(folder.path()).await.unwrap();
        let audit = node.store().audit().await.unwrap();
        assert_eq!(audit.problems, Vec::<String>::new(), "{flip:?}");
        let lost = report.lost_pins.iter().map(|pin| pin.cid);
        let mut found: Vec<_> = pins(&node).unwrap().into_iter().chain(lost).collect();
        found.sort();
        found.dedup();
        if flip.0.extension().is_none_or(|extension| extension != "log") {
            let mut expected = self.pins.clone();
            expected.sort();
            assert_eq!(found, expected, "{flip:?}");
        }
        node.shutdown().await.unwrap();
    }
}

fn pins(node: &Node) -> cairn_node::Result<Vec<Cid>> {
    node.pins().list(Default::default()).map(|pin| pin.map(|pin| pin.cid)).collect()
}
