//! What is in the store comes out again: verified, as a stream, a file or an archive.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use cairn_tests::{Node, Profile, Scratch};

use crate::Args;
use crate::add::copy_durably;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, Meter, run as measured, to_file};

/// `cat` without and through a daemon, and `get`.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let file = scratch.random_file("big", args.file_bytes, 4);
    let mebibytes = args.file_bytes >> 20;
    let mut contests = Vec::new();
    for (title, daemon) in [("without a daemon", false), ("through the daemon", true)] {
        let title = format!("cat {mebibytes} MiB {title}");
        let mut contestants = vec![cat("Cairn, verified", Node::cairn(), &file, daemon)];
        contestants.push(openssl(&file));
        if let Some(kubo) = Node::kubo() {
            contestants.push(cat("Kubo", kubo, &file, daemon));
        }
        contests.push(Contest::run(title, args.rounds, contestants)?);
    }
    let target = scratch.path("copy");
    let mut contestants = vec![get("Cairn, verified", Node::cairn(), &file), openssl(&file)];
    contestants.push(Contestant::new("cp", || copy(&file, &target)));
    if let Some(kubo) = Node::kubo() {
        contestants.push(get("Kubo", kubo, &file));
    }
    let contest = Contest::run(format!("get {mebibytes} MiB without a daemon"), args.rounds, contestants)?;
    contests.push(contest.with_slower_of("the limit: the slower of openssl and cp", 1, 2));
    Ok(contests)
}

/// An archive of the file written and read.
pub(crate) fn archive(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let file = scratch.random_file("big", args.file_bytes, 6);
    let (archive, target) = (scratch.path("archive.car"), scratch.path("copy"));
    let mebibytes = args.file_bytes >> 20;
    let export = |name: &str, node: Node| {
        let root = add(&node, &file);
        let archive = archive.clone();
        Contestant::new(name, move || {
            // Emptying the file of the round before would be measured too.
            let _ = std::fs::remove_file(&archive);
            let export = node.command(&["dag", "export", "--progress=false", &root]);
            Ok(measured(&mut to_file(&export, &archive))?.1)
        })
    };
    let import = |name: &str, make: fn() -> Option<Node>| {
        let archive = archive.clone();
        Contestant::new(name, move || {
            let node = make().expect("it was there a moment ago");
            Ok(measured(node.command(&["dag", "import"]).arg(&archive))?.1)
        })
    };
    let mut exports =
        vec![export("Cairn, verified", Node::cairn()), Contestant::new("cp", || copy(&file, &target))];
    exports.extend(Node::kubo().map(|kubo| export("Kubo", kubo)));
    let exports = Contest::run(format!("export {mebibytes} MiB as CAR"), args.rounds, exports)?;
    let mut imports = vec![
        import("Cairn, verified, durable", || Some(Node::cairn())),
        Contestant::new("cp + fsync", || copy_durably(&archive, &target)),
    ];
    if Node::kubo().is_some() {
        imports.push(import("Kubo, not durable", Node::kubo));
    }
    let imports = Contest::run(format!("import {mebibytes} MiB from a CAR"), args.rounds, imports)?;
    Ok(vec![exports, imports])
}

/// Adds a file to a store that has it.
pub(crate) fn again(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let file = scratch.random_file("big", args.file_bytes, 7);
    let add_again = |name: &str, node: Node| {
        add(&node, &file);
        let file = &file;
        Contestant::new(name, move || {
            Ok(measured(node.command(&["add", "-Q", "--progress=false"]).arg(file))?.1)
        })
    };
    let mut contestants = vec![add_again("Cairn, durable", Node::cairn()), openssl(&file)];
    contestants.extend(Node::kubo().map(|kubo| add_again("Kubo", kubo)));
    let title = format!("add {} MiB that is there", args.file_bytes >> 20);
    Ok(vec![Contest::run(title, args.rounds, contestants)?])
}

fn add(node: &Node, file: &Path) -> String {
    node.apply(Profile::V1);
    node.add(file)
}

fn cat<'a>(name: &str, mut node: Node, file: &Path, daemon: bool) -> Contestant<'a> {
    let root = add(&node, file);
    if daemon {
        node.start();
    }
    Contestant::new(name, move || {
        let meter = Meter::start(&if daemon { vec![node.process_id()] } else { Vec::new() })?;
        let (_, cost) = measured(&mut to_file(
            &node.command(&["cat", "--progress=false", &root]),
            Path::new("/dev/null"),
        ))?;
        let peak_bytes = cost.peak_bytes;
        Ok(Cost { peak_bytes, ..meter.stop()? })
    })
}

fn get<'a>(name: &str, node: Node, file: &Path) -> Contestant<'a> {
    let root = add(&node, file);
    Contestant::new(name, move || {
        let target = node.repo().with_file_name("got");
        let (_, cost) = measured(node.command(&["get", "--progress=false", &root, "-o"]).arg(&target))?;
        std::fs::remove_file(target)?;
        Ok(cost)
    })
}

fn openssl(file: &Path) -> Contestant<'_> {
    Contestant::new("openssl dgst -sha256", move || {
        Ok(measured(Command::new("openssl").args(["dgst", "-sha256"]).arg(file))?.1)
    })
}

fn copy(from: &Path, to: &Path) -> Result<Cost> {
    let (_, cost) = measured(Command::new("cp").arg(from).arg(to))?;
    std::fs::remove_file(to)?;
    Ok(cost)
}
