//! On what, and of what, the numbers are.

use std::fs;
use std::process::Command;

use anyhow::Result;
use cairn_tests::{Peer, cairn_binary, find};

use crate::measure::run;

/// A line each for the machine and for the versions of everyone who takes part.
pub(crate) fn describe() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let gibibytes = memory.and_then(|text| text.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1048576.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;

    let said = |command: &mut Command| run(command).map_or_else(|_| "absent".to_owned(), |(text, _)| text);
    let commit = said(Command::new("git").args([
        "-C",
        env!("CARGO_MANIFEST_DIR"),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]));
    let cairn = said(Command::new(cairn_binary()).arg("version"));
    let openssl = said(Command::new("openssl").arg("version"));
    let kubo = find(Peer::Kubo).map_or("absent".to_owned(), |kubo| said(Command::new(kubo).arg("version")));
    Ok(format!(
        "machine: {count} × {}, {gibibytes:.0} GiB, Linux {}, load {}\nversions: {cairn} at {commit}; Kubo: {kubo}; {openssl}",
        model.map_or("unknown processor", |(_, name)| name),
        kernel.trim(),
        load.split(' ').take(3).collect::<Vec<_>>().join(" "),
    ))
}
