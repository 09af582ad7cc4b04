//! Peak memory of an add: it must follow the budget, not the length of the file.

use anyhow::Result;
use cairn_tests::{Node, Scratch};

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::run as measured;

/// Adds files of four lengths; the column to read is the peak.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let files: Vec<_> = [args.file_bytes * 4, args.file_bytes, 1024]
        .into_iter()
        .map(|len_bytes| {
            let name =
                if len_bytes < 1 << 20 { "1 KiB".to_owned() } else { format!("{} MiB", len_bytes >> 20) };
            (scratch.random_file(&name, len_bytes, 2), name)
        })
        .collect();
    let mut contestants = Vec::new();
    for (file, name) in &files {
        let add =
            move |node: Node| Ok(measured(node.command(&["add", "-Q", "--progress=false"]).arg(file))?.1);
        contestants.push(Contestant::new(format!("Cairn, {name}"), move || add(Node::cairn())));
    }
    if Node::kubo().is_some() {
        let (file, name) = &files[1];
        contestants.push(Contestant::new(format!("Kubo, {name}"), move || {
            let kubo = Node::kubo().expect("it was there a moment ago");
            Ok(measured(kubo.command(&["add", "-Q", "--progress=false"]).arg(file))?.1)
        }));
    }
    Ok(vec![Contest::run("peak memory of an add", args.rounds.min(3), contestants)?])
}
