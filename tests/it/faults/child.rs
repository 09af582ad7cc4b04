//! The process that is killed, and whose file calls fail.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_node::pins::PinKind;
use cairn_node::settings::config::{Config, FILE_NAME};
use cairn_node::{Node, repair};
use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{World, open};

const NAME: &str = "faults::child::a_process_that_is_hurt";
const FOLDER: &str = "CAIRN_HURT_REPO";
const WORLD: &str = "CAIRN_HURT_WORLD";
const SEED: &str = "CAIRN_HURT_SEED";
const STEPS: &str = "CAIRN_HURT_STEPS";
/// Set when the child makes backups too.
const BACKUPS: &str = "CAIRN_HURT_BACKUPS";
/// Set when the child dies after its last step.
const DIES: &str = "CAIRN_HURT_DIES";

/// The command that runs the child: `steps` random operations on `repo`.
pub(super) fn command(world: &World, repo: &Path, seed: u64, steps: usize) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env(FOLDER, repo)
        .env(WORLD, &world.folder)
        .env(SEED, seed.to_string())
        .env(STEPS, steps.to_string());
    command
}

/// The same with backups, each in the [`backup`] folder of its number.
pub(super) fn command_with_backups(world: &World, repo: &Path, seed: u64, steps: usize) -> Command {
    let mut command = command(world, repo, seed, steps);
    command.env(BACKUPS, "1");
    command
}

/// The same, which dies after its last step instead of closing the repo.
pub(super) fn command_that_dies(world: &World, repo: &Path, seed: u64, steps: usize) -> Command {
    let mut command = command(world, repo, seed, steps);
    command.env(DIES, "1");
    command
}

/// Where backups are made: below the repo, so that file calls in there fail as well.
pub(super) fn backups(repo: &Path) -> PathBuf {
    repo.join("backups")
}

/// Folder of a backup.
pub(super) fn backup(repo: &Path, number: usize) -> PathBuf {
    backups(repo).join(number.to_string())
}

/// Does nothing by itself: it is what [`command`] runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_hurt() {
    let variable = |name: &str| env::var(name).ok();
    let (Some(repo), Some(world), Some(seed), Some(steps)) =
        (variable(FOLDER), variable(WORLD), variable(SEED), variable(STEPS))
    else {
        return;
    };
    // The test harness has begun a line.
    println!();
    let mut hurt = Hurt {
        world: World::read(Path::new(&world)),
        repo: repo.into(),
        random: ChaCha8Rng::seed_from_u64(seed.parse().unwrap()),
        backups: variable(BACKUPS).map(|_| 0),
        dies: variable(DIES).is_some(),
    };
    let result = hurt.run(steps.parse().unwrap()).await;
    if let Err(error) = result {
        println!("failed to run: {error}");
    }
}

struct Hurt {
    world: World,
    repo: PathBuf,
    random: ChaCha8Rng,
    /// Number of the next backup.
    backups: Option<usize>,
    dies: bool,
}

impl Hurt {
    async fn run(&mut self, steps: usize) -> cairn_node::Result<()> {
        let mut node = open(&self.repo).await?;
        for _ in 0..steps {
            if self.random.random_ratio(1, 12) {
                node.shutdown().await?;
                drop(node);
                node = open(&self.repo).await?;
            }
            if let Err(error) = self.step(&node).await {
                println!("failed {error}");
            }
        }
        if self.dies {
            std::process::abort();
        }
        node.shutdown().await
    }

    async fn step(&mut self, node: &Node) -> cairn_node::Result<()> {
        let n = self.random.random_range(0..self.world.roots.len());
        match self.random.random_range(0..if self.backups.is_some() { 14 } else { 12 }) {
            0..4 => {
                println!("begin {n}");
                self.world.add(node, n, true).await?;
                println!("pinned {n}");
            }
            4..6 => {
                println!("begin {n}");
                let car = tokio::fs::File::open(self.world.car(n)).await.unwrap();
                let mut import = node.import_car(car, true);
                let mut pin_errors = String::new();
                while let Some(event) = import.next().await? {
                    if let cairn_node::dag::ImportEvent::Root { pin_error, .. } = event {
                        pin_errors.push_str(&pin_error);
                    }
                }
                if !pin_errors.is_empty() {
                    return Err(cairn_node::Error::internal(pin_errors));
                }
                println!("pinned {n}");
            }
            6..7 => {
                self.world.add(node, n, false).await?;
                println!("stored {n}");
            }
            7..10 => {
                let pins: BTreeSet<_> = node
                    .pins()
                    .list(Default::default())
                    .collect::<cairn_node::Result<Vec<_>>>()?
                    .iter()
                    .map(|pin| pin.cid)
                    .collect();
                let pinned = (0..self.world.roots.len()).filter(|n| pins.contains(&self.world.roots[*n]));
                if let Some(n) = pinned.choose(&mut self.random) {
                    println!("begin {n}");
                    node.pins().unpin(self.world.roots[n], PinKind::Recursive).await?;
                    println!("unpinned {n}");
                }
            }
            10..12 => {
                println!("collecting");
                node.collect(|_| ()).await?;
                println!("collected");
            }
            _ => self.back_up(node).await?,
        }
        Ok(())
    }

    async fn back_up(&mut self, node: &Node) -> cairn_node::Result<()> {
        let number = self.backups.as_mut().expect("a run without backups has no such step");
        *number += 1;
        std::fs::create_dir_all(backups(&self.repo)).unwrap();
        if !self.repo.join(FILE_NAME).exists() {
            Config::generate().save(&self.repo)?;
        }
        repair::backup(node.store(), &self.repo, &backup(&self.repo, *number)).await?;
        println!("saved {number}");
        Ok(())
    }
}
