//! Benchmarks, each beside a rival or a plain tool in the same run: `./dev bench [BENCHMARK…]`.
//!
//! The rules are those of `benches/README.md`. A benchmark is a module with a `run`, and a line in [`Benchmark`].

mod add;
mod contest;
mod first_byte;
mod gateway;
mod idle;
mod line;
mod machine;
mod measure;
mod memory;
mod nginx;
mod read;
mod scale;
mod start;
mod store;
mod sweep;
mod transfer;
mod tree;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use crate::contest::Report;

/// Runs benchmarks beside their rivals, prints tables, and writes every sample as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// What to run, all of it when nothing is named.
    #[arg(value_enum)]
    benchmarks: Vec<Benchmark>,
    /// Rounds that count; one more goes before them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of the big file in bytes.
    #[arg(long, default_value_t = 1 << 30)]
    file_bytes: u64,
    /// Files of the tree of small files, entries of the long listing, and blocks that are pinned or collected.
    #[arg(long, default_value_t = 100_000)]
    files: usize,
    /// Times that a small file is fetched from a gateway; larger ones less often.
    #[arg(long, default_value_t = 200_000)]
    requests: usize,
    /// Blocks of a large store.
    #[arg(long, default_value_t = 5_000_000)]
    blocks: usize,
    /// Pins of a large store.
    #[arg(long, default_value_t = 1_000_000)]
    pins: usize,
    /// Keys that a DHT is told of.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Where to write the samples, by default beside this program.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Add a big file, without and through a daemon.
    Add,
    /// Add a big file that is there.
    Again,
    /// Read a big file: `cat` and `get`.
    Read,
    /// Export and import a big file as CAR.
    Archive,
    /// Add a tree of small files.
    Tree,
    /// Pin a tree of small files that is there.
    Pin,
    /// Collect a tree of small files.
    Collect,
    /// Start, stop, pin and list with millions of blocks and pins.
    Scale,
    /// Collect beside little and much that stays, and what a writer feels of it.
    Crowd,
    /// Peak memory of adding a file of one and of four times the length.
    Memory,
    /// Pin a big file from one other node over TCP and QUIC.
    Transfer,
    /// Pin a tree of small files from one other node.
    Small,
    /// Pin a big file from one honest provider among nine liars.
    Liars,
    /// Memory and processor time of a daemon with many peers that want nothing.
    Peers,
    /// Pin a big file over 1 Gbit/s with a round trip of 100 ms.
    Line,
    /// Pin trees of small files over the same line.
    LineTree,
    /// Pin a big file from four providers of 100 Mbit/s each, and from one.
    Providers,
    /// Pin a file over lines that are slow or lose packets.
    LinePoor,
    /// How soon a file begins to arrive from a connected peer, and from one that a DHT of 100 servers knows.
    FirstByte,
    /// Answer HTTP: files small and large, over TLS, ranges, a long listing, many connections.
    Gateway,
    /// Memory and processor time of a daemon that has nothing to do.
    Idle,
    /// Tell a DHT of 200 servers of many keys, and of a fresh root.
    Sweep,
    /// Store blocks durably, without a node around the store.
    Store,
    /// From the start of a daemon to its first answer, and from the wish to stop to its end.
    Start,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let machine = machine::describe()?;
    println!("{machine}");
    let named = if args.benchmarks.is_empty() { Benchmark::value_variants() } else { &args.benchmarks };
    let mut report = Report::new(machine);
    for benchmark in named {
        let contests = match benchmark {
            Benchmark::Add => add::run(&args)?,
            Benchmark::Again => read::again(&args)?,
            Benchmark::Read => read::run(&args)?,
            Benchmark::Archive => read::archive(&args)?,
            Benchmark::Tree => tree::add(&args)?,
            Benchmark::Pin => tree::pin(&args)?,
            Benchmark::Collect => tree::collect(&args)?,
            Benchmark::Scale => scale::run(&args)?,
            Benchmark::Crowd => scale::collect(&args)?,
            Benchmark::Memory => memory::run(&args)?,
            Benchmark::Transfer => transfer::run(&args)?,
            Benchmark::Small => transfer::small(&args)?,
            Benchmark::Liars => transfer::liars(&args)?,
            Benchmark::Peers => idle::peers(&args)?,
            Benchmark::Providers => line::providers(&args)?,
            Benchmark::Line => line::big(&args)?,
            Benchmark::LineTree => line::tree(&args)?,
            Benchmark::LinePoor => line::poor(&args)?,
            Benchmark::FirstByte => first_byte::run(&args)?,
            Benchmark::Gateway => gateway::run(&args)?,
            Benchmark::Idle => idle::run(&args)?,
            Benchmark::Sweep => sweep::run(&args)?,
            Benchmark::Store => store::run(&args)?,
            Benchmark::Start => start::run(&args)?,
        };
        for contest in &contests {
            println!("\n{}", contest.table());
        }
        report.contests.extend(contests);
    }
    let path = match args.json {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("cairn-benches.json"),
    };
    report.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
    println!("samples: {}", path.display());
    Ok(())
}
