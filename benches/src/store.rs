//! Storing blocks durably, against hashing alone and against copying the file.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use cairn_tests::Scratch;

use crate::Args;
use crate::add::copy_durably;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, run as measured};

/// Length of the small blocks, and how many there are.
const SMALL: (usize, u64) = (1500, 300_000);

/// Large blocks, blocks of the usual length, and many small ones.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let large = scratch.random_file("large", args.file_bytes, 3);
    let small = scratch.random_file("small", SMALL.0 as u64 * SMALL.1, 4);
    let (copy, store) = (scratch.path("copy"), scratch.path("store"));
    let mut contests = Vec::new();
    for (file, block_bytes) in [(&large, 1 << 20), (&large, 256 << 10), (&small, SMALL.0)] {
        let len_bytes = std::fs::metadata(file)?.len();
        let contestants = vec![
            Contestant::new("store, durable", || {
                let cost = put(file, block_bytes, Some(&store))?;
                std::fs::remove_dir_all(&store)?;
                Ok(cost)
            }),
            Contestant::new("hash alone", || put(file, block_bytes, None)),
            Contestant::new("cp + fsync", || copy_durably(file, &copy)),
        ];
        let title = format!("store {} MiB in blocks of {block_bytes} bytes", len_bytes >> 20);
        contests.push(Contest::run(title, args.rounds, contestants)?);
    }
    Ok(contests)
}

fn put(file: &Path, block_bytes: usize, store: Option<&Path>) -> Result<Cost> {
    let program = std::env::current_exe()?.parent().context("a program is in a folder")?.join("store-put");
    let mut command = Command::new(program);
    command.arg(file).arg(format!("--block-bytes={block_bytes}"));
    if let Some(store) = store {
        command.arg("--store").arg(store);
    }
    Ok(measured(&mut command)?.1)
}
