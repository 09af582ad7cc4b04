//! Kills, failed calls, power cuts, rotten bits and full disks: what was acknowledged stays, or is known to be lost.
//!
//! Most of these tests run [`child`], a process that adds, imports, pins, unpins, collects and restarts a node, and says
//! what it was promised. [`Promises`] are then held against what is on the disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod child;
mod failed_calls;
mod flips;
mod full_disk;
mod images;
mod kills;

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_node::builder::Builder;
use cairn_node::dag::AddOptions;
use cairn_node::settings::config::Config;
use cairn_node::{Kind, Node, repair};
use cairn_proto::cid::Cid;
use cairn_proto::content::{DagScope, SessionOptions};
use cairn_proto::path::ContentPath;
use cairn_proto::unixfs::Attributes;
use cairn_proto::unixfs::import::ImportOptions;
use futures::TryStreamExt as _;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Longest wait for anything, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
const LOCAL: SessionOptions = SessionOptions { local_only: true, block_timeout: None };

/// How often something is done: the number in an environment variable, or else few times.
pub(crate) fn count(variable: &str, usual: usize) -> usize {
    env::var(variable).map_or(usual, |text| text.parse().expect("the variable is a number"))
}

/// A seed to be printed: the number in `CAIRN_TEST_SEED`, or else any.
fn seed() -> u64 {
    env::var("CAIRN_TEST_SEED").map_or_else(|_| rand::random(), |text| text.parse().expect("a number"))
}

/// A node without a network. Waits for one of this process that was dropped and has not let go of the repo yet.
async fn open(repo: &Path) -> cairn_node::Result<Node> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut settings = Config::generate().to_settings(repo).expect("a new configuration is right");
        settings.swarm = None;
        match Builder::new(settings).open().await {
            Err(error) if error.kind() == Kind::Unavailable && Instant::now() < deadline => {
                tokio::task::yield_now().await;
            }
            opened => return opened,
        }
    }
}

/// Some files and directories, each also as a CAR. It lies in a folder, so that child processes can read it.
struct World {
    folder: PathBuf,
    roots: Vec<Cid>,
}

impl World {
    /// Makes one of some objects in a folder below an existing one; [`files`] says what each is.
    async fn make(folder: &Path, objects: impl IntoIterator<Item = usize>) -> Self {
        let scratch = cairn_tests::fast_folder();
        let node = open(scratch.path()).await.unwrap();
        let mut world = Self { folder: folder.to_path_buf(), roots: Vec::new() };
        for (n, object) in objects.into_iter().enumerate() {
            let path = world.object(n);
            std::fs::create_dir_all(&path).unwrap();
            for (name, bytes) in files(object) {
                std::fs::write(path.join(name), bytes).unwrap();
            }
            let root = world.add(&node, n, false).await.unwrap();
            let session = node.session(LOCAL);
            let car =
                session.car(&ContentPath::from_cid(root), DagScope::All.into()).try_collect::<Vec<_>>().await;
            std::fs::write(world.car(n), car.unwrap().concat()).unwrap();
            world.roots.push(root);
        }
        let roots: Vec<_> = world.roots.iter().map(Cid::to_string).collect();
        std::fs::write(folder.join("roots"), roots.join("\n")).unwrap();
        node.shutdown().await.unwrap();
        world
    }

    /// Finds one that was made.
    fn read(folder: &Path) -> Self {
        let roots = std::fs::read_to_string(folder.join("roots")).unwrap();
        let roots = roots.lines().map(|line| cairn_proto::cid::parse(line).unwrap()).collect();
        Self { folder: folder.to_path_buf(), roots }
    }

    fn object(&self, n: usize) -> PathBuf {
        self.folder.join(format!("object-{n}"))
    }

    fn car(&self, n: usize) -> PathBuf {
        self.folder.join(format!("{n}.car"))
    }

    /// Adds an object.
    async fn add(&self, node: &Node, n: usize, pin: bool) -> cairn_node::Result<Cid> {
        let import = ImportOptions::default();
        let options = AddOptions {
            import,
            pin,
            pin_name: None,
            wrap: false,
            wrap_attributes: Attributes::default(),
            only_hash: false,
        };
        let (mut adder, mut events) = node.add(options);
        let reader = tokio::spawn(async move { while events.recv().await.is_some() {} });
        let mut entries: Vec<_> =
            std::fs::read_dir(self.object(n)).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        let alone = entries.len() == 1;
        for path in entries {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let name = if alone { name } else { format!("dir/{name}") };
            adder.local_file(&name, Attributes::default(), std::fs::File::open(path).unwrap()).await?;
        }
        let root = adder.finish().await?;
        reader.await.unwrap();
        Ok(root)
    }
}

/// The files of an object: one that is too large for the log, a directory, one that shares with others, a small one.
fn files(n: usize) -> Vec<(String, Vec<u8>)> {
    let bytes = |salt: usize, len: usize| {
        let mut bytes = vec![0; len];
        ChaCha8Rng::seed_from_u64(salt as u64).fill_bytes(&mut bytes);
        bytes
    };
    match n % 4 {
        0 => vec![("large".to_owned(), bytes(n, 4_500_000 + n))],
        1 => (0..60).map(|k| (format!("file-{k:02}"), bytes(1000 * n + k, 100 + k * 97))).collect(),
        2 => vec![("shared".to_owned(), [bytes(2, 1 << 20), bytes(n / 8, 1 << 20), bytes(n, 5000)].concat())],
        _ => vec![("small".to_owned(), bytes(n, 50))],
    }
}

/// What a process was promised, from what it said.
#[derive(Debug, Clone, Default)]
struct Promises {
    pinned: BTreeSet<usize>,
    /// Their pins are being made or taken away.
    open_ended: BTreeSet<usize>,
    /// Stored for good, but nothing keeps them from a collection.
    stored: BTreeSet<usize>,
    /// The last backup, and what was pinned when it was made.
    saved: Option<(usize, BTreeSet<usize>)>,
    /// Operations that ended well, and in an error.
    done_count: usize,
    failures: Vec<String>,
}

impl Promises {
    fn hear(&mut self, said: &str) {
        for line in said.lines() {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            if verb == "failed" {
                self.failures.push(rest.to_owned());
            }
            if verb == "collecting" {
                self.stored.clear();
            }
            let Ok(n) = rest.parse() else { continue };
            match verb {
                "begin" => _ = (self.pinned.remove(&n), self.open_ended.insert(n)),
                "pinned" => _ = (self.open_ended.remove(&n), self.pinned.insert(n)),
                "unpinned" => _ = (self.open_ended.remove(&n), self.pinned.remove(&n)),
                "stored" => _ = self.stored.insert(n),
                "saved" => self.saved = Some((n, self.pinned.clone())),
                _ => continue,
            }
            self.done_count += usize::from(verb != "begin");
        }
    }

    /// Everything that was promised is in the repo, and nothing in it is wrong. What was open is settled by it.
    async fn check(&mut self, world: &World, repo: &Path) {
        let node = open(repo).await.unwrap_or_else(|error| panic!("the repo does not open: {error}"));
        node.pins().recover().await.unwrap();
        let report = node.store().audit().await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(report.counted, node.store().stat());
        let mut found: BTreeSet<_> =
            node.pins().list(Default::default()).map(|pin| pin.unwrap().cid).collect();
        for (n, root) in world.roots.iter().enumerate() {
            let is_pinned = found.remove(root);
            if self.open_ended.remove(&n) && is_pinned {
                self.pinned.insert(n);
            }
            assert_eq!(is_pinned, self.pinned.contains(&n), "pin of object {n}");
            if is_pinned || self.stored.contains(&n) {
                let whole = node.session(LOCAL).stat(root).await;
                assert!(whole.is_ok(), "object {n}: {whole:?}");
            }
        }
        assert!(found.is_empty(), "pins that nobody made: {found:?}");
        node.shutdown().await.unwrap();
    }

    /// The last backup has what was pinned when it was made, whatever came after it. Says whether there was one.
    async fn check_saved(&mut self, world: &World, repo: &Path) -> bool {
        let Some((number, pinned)) = self.saved.take() else { return false };
        let folder = cairn_tests::fast_folder();
        let restored = folder.path().join("restored");
        repair::restore(&child::backup(repo, number), &restored).await.unwrap();
        let mut promises = Self { pinned, ..Self::default() };
        promises.check(world, &restored).await;
        true
    }
}
