//! Adding a big file, against the plain tools that set the limit, and against Kubo.

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cairn_tests::{Node, Profile, Scratch};

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, Meter, run as measured};

/// Without a daemon, then through one.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let file = scratch.random_file("big", args.file_bytes, 1);
    let copy = scratch.path("copy");
    let root = RefCell::new(None);
    let same_root = |(cid, cost): (String, Cost)| {
        let first = root.borrow_mut().get_or_insert(cid.clone()).clone();
        ensure!(first == cid, "the roots differ: {first} and {cid}");
        Ok(cost)
    };
    let mut contests = Vec::new();
    for (title, daemon) in [("without a daemon", false), ("through the daemon", true)] {
        let mut contestants = vec![
            Contestant::new("Cairn, durable", || same_root(add(Node::cairn(), &file, daemon)?)),
            Contestant::new("openssl dgst -sha256", || {
                Ok(measured(Command::new("openssl").args(["dgst", "-sha256"]).arg(&file))?.1)
            }),
            Contestant::new("cp + fsync", || copy_durably(&file, &copy)),
        ];
        if Node::kubo().is_some() {
            contestants.push(Contestant::new("Kubo, not durable", || {
                let kubo = Node::kubo().context("it was there a moment ago")?;
                same_root(add(kubo, &file, daemon)?)
            }));
        }
        let title = format!("add {} MiB of random bytes, {title}", args.file_bytes >> 20);
        let contest = Contest::run(title, args.rounds, contestants)?;
        contests.push(contest.with_slower_of("the limit: the slower of openssl and cp", 1, 2));
    }
    Ok(contests)
}

/// Adds the file to a fresh repo.
fn add(mut node: Node, file: &Path, daemon: bool) -> Result<(String, Cost)> {
    node.apply(Profile::V1);
    let mut command = node.command(&["add", "-Q", "--progress=false"]);
    command.arg(file);
    if !daemon {
        return measured(&mut command);
    }
    node.start();
    let meter = Meter::start(&[node.process_id()])?;
    let (cid, _) = measured(&mut command)?;
    let cost = meter.stop()?;
    node.stop();
    Ok((cid, cost))
}

/// `cp` with an `fsync` of the copy.
pub(crate) fn copy_durably(from: &Path, to: &Path) -> Result<Cost> {
    let mut dd = Command::new("dd");
    dd.args(["bs=1M", "conv=fsync", "status=none"]);
    dd.arg(format!("if={}", from.display())).arg(format!("of={}", to.display()));
    let (_, cost) = measured(&mut dd)?;
    std::fs::remove_file(to)?;
    Ok(cost)
}
