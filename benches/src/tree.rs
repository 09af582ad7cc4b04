//! A tree of many small files: added, pinned again from what is there, and collected.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cairn_tests::{Node, Profile, Scratch, Tree};

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, disk_bytes, run as measured, settle};

/// Longest file of the tree in bytes; the mean, 12 KiB, is that of a kernel's source.
const MAX_FILE_BYTES: usize = 24_000;
/// Files that 21 folders share.
const FILES_PER_PART: usize = 1000;
/// Rounds at most: one takes Kubo minutes.
const MAX_ROUNDS: usize = 3;
/// How long a store may take to become smaller after a collection.
const SHRINK_DEADLINE: Duration = Duration::from_secs(120);

/// Adds the tree without a daemon.
pub(crate) fn add(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let tree = tree(&scratch, args.files)?;
    let copy = scratch.path("copy");
    let mut contestants = vec![
        Contestant::new("Cairn, durable", || Ok(add_to(&Node::cairn(), &tree, true)?.1)),
        Contestant::new("cp -r + sync", || {
            let script = "cp -r \"$0\" \"$1\" && sync -f \"$1\"";
            let cost = measured(Command::new("sh").args(["-c", script]).arg(&tree).arg(&copy))?.1;
            std::fs::remove_dir_all(&copy)?;
            Ok(cost)
        }),
    ];
    if Node::kubo().is_some() {
        contestants.push(Contestant::new("Kubo, not durable", || Ok(add_to(&kubo()?, &tree, true)?.1)));
    }
    let title = format!("add a tree of {} files without a daemon", args.files);
    Ok(vec![Contest::run(title, args.rounds.min(MAX_ROUNDS), contestants)?])
}

/// Pins the tree, whose blocks are all there.
pub(crate) fn pin(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let tree = tree(&scratch, args.files)?;
    let contestant = |name: &str, node: Node| -> Result<Contestant<'_>> {
        let (root, _) = add_to(&node, &tree, false)?;
        Ok(Contestant::new(name, move || {
            let (_, cost) = measured(&mut node.command(&["pin", "add", &root]))?;
            node.run(&["pin", "rm", &root]).text();
            Ok(cost)
        }))
    };
    let mut contestants = vec![contestant("Cairn, durable", Node::cairn())?];
    if let Some(kubo) = Node::kubo() {
        contestants.push(contestant("Kubo", kubo)?);
    }
    let title = format!("pin a tree of {} files that is there", args.files);
    Ok(vec![Contest::run(title, args.rounds.min(MAX_ROUNDS), contestants)?])
}

/// Collects the tree, until the repo has lost four fifths of what it brought.
pub(crate) fn collect(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let tree = tree(&scratch, args.files)?;
    let mut contestants = vec![Contestant::new("Cairn", || collect_from(&Node::cairn(), &tree))];
    if Node::kubo().is_some() {
        contestants.push(Contestant::new("Kubo", || collect_from(&kubo()?, &tree)));
    }
    let title = format!("collect a tree of {} files, until the disk has its space back", args.files);
    Ok(vec![Contest::run(title, args.rounds.min(MAX_ROUNDS), contestants)?])
}

/// Folders with at most fifty files each, as in a kernel's source.
pub(crate) fn tree(scratch: &Scratch, file_count: usize) -> Result<PathBuf> {
    let root = scratch.path("tree");
    std::fs::create_dir(&root)?;
    for first in (0..file_count).step_by(FILES_PER_PART) {
        let file_count = FILES_PER_PART.min(file_count - first);
        let part = Tree { file_count, max_file_bytes: MAX_FILE_BYTES, nested: true, seed: first as u64 };
        let _folder = scratch.tree(&format!("tree/{first}"), part);
    }
    Ok(root)
}

fn kubo() -> Result<Node> {
    Node::kubo().context("it was there a moment ago")
}

/// Adds the tree to a fresh repo; returns its root.
fn add_to(node: &Node, tree: &Path, pin: bool) -> Result<(String, Cost)> {
    node.apply(Profile::V1);
    let pin = format!("--pin={pin}");
    measured(node.command(&["add", "-r", "-Q", "--progress=false", &pin]).arg(tree))
}

fn collect_from(node: &Node, tree: &Path) -> Result<Cost> {
    collect_added(node, || add_to(node, tree, false).map(drop))
}

/// Collects what `add` brings, until the repo has lost four fifths of it.
pub(crate) fn collect_added(node: &Node, add: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let empty = disk_bytes(&node.repo())?;
    add()?;
    settle()?;
    let full = disk_bytes(&node.repo())?;
    let started = Instant::now();
    let (_, cost) = measured(&mut node.command(&["repo", "gc", "-q"]))?;
    while disk_bytes(&node.repo())? > full - (full - empty) / 5 * 4 {
        ensure!(started.elapsed() < SHRINK_DEADLINE, "the repo does not become smaller");
    }
    Ok(Cost { wall_s: started.elapsed().as_secs_f64(), ..cost })
}
