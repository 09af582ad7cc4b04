//! Stores of millions: what starting, stopping, pinning, listing and collecting cost in them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cairn_node::builder::STORE_DIR;
use cairn_node::gc;
use cairn_node::pins::{PinKind, Pins};
use cairn_node::settings::StoreSettings;
use cairn_node::store::{Durability, Store};
use cairn_proto::block::Block;
use cairn_proto::cid::{HashFunction, RAW, Version};
use cairn_tests::{Node, Process, Scratch};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::runtime::Runtime;

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, pause, run as measured};
use crate::start::{answering, shut_down, start};
use crate::tree::collect_added;

/// Length of a block in a large store in bytes: what it costs depends on the number of blocks.
const SMALL_BYTES: usize = 100;
/// Length of a block that is collected, in bytes: from this on blocks stand in files of their own.
pub(crate) const GARBAGE_BYTES: usize = 4096;
/// Blocks stored at a time, and pins made at the same time, which the store groups.
const BATCH: usize = 4096;
const PINS_AT_ONCE: usize = 256;
/// Lines of a listing that are waited for.
const LINES: usize = 1000;
/// Live blocks for one that is collected.
const LIVE: [usize; 2] = [1, 10];
/// Puts without a collection beside them.
const PUTS: usize = 20_000;
/// What a daemon is adding when it is stopped, in bytes, and for how long it has been.
const LOAD_BYTES: u64 = 512 << 20;
const LOAD_TIME: Duration = Duration::from_millis(300);
/// Rounds at most.
const MAX_ROUNDS: usize = 3;

/// Starting, stopping, pinning and listing, each in a large store and an empty one.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let rounds = args.rounds.min(MAX_ROUNDS);
    let (large, empty) = (Node::cairn(), Node::cairn());
    Runtime::new()?.block_on(fill(&large.repo().join(STORE_DIR), args.blocks, args.pins))?;
    let large_name = format!("{} blocks, {} pins", args.blocks, args.pins);
    let scratch = Scratch::new();
    let nodes = || [(large_name.as_str(), &large), ("an empty store", &empty)];
    let both = |title: &str, work: fn(&Node, &Scratch) -> Result<Cost>| {
        let contestants = nodes().map(|(name, node)| Contestant::new(name, || work(node, &scratch)));
        Contest::run(title, rounds, contestants.into())
    };
    let mut contests = vec![
        both("from the start of the daemon to its first answer", |node, _| start(node))?,
        both("the same after kill -9 amid an add", start_after_kill)?,
        both("from the wish to stop amid an add to the end", stop_amid_add)?,
    ];
    let mut contestants = Vec::new();
    for (name, node) in nodes() {
        let root = unpinned(node, &scratch, args.files, SMALL_BYTES, 1)?;
        contestants.push(Contestant::new(name, move || pin(node, &root)));
    }
    let title = format!("pin a file of {} blocks through the daemon", args.files);
    contests.push(Contest::run(title, rounds, contestants)?);
    let listing = vec![Contestant::new(large_name.as_str(), || list(&large))];
    contests.push(Contest::run(format!("the first {LINES} lines of a listing of pins"), rounds, listing)?);
    Ok(contests)
}

/// Collecting beside little and much that stays, and what a writer feels of it.
pub(crate) fn collect(args: &Args) -> Result<Vec<Contest>> {
    let rounds = args.rounds.min(MAX_ROUNDS);
    let scratch = Scratch::new();
    let mut contestants = Vec::new();
    for times in LIVE {
        let node = Node::cairn();
        let live = (args.files * times * GARBAGE_BYTES) as u64;
        let file = scratch.random_file("live", live, 1);
        measured(node.command(&["add", "-Q", "--progress=false", &chunker(GARBAGE_BYTES)]).arg(&file))?;
        std::fs::remove_file(file)?;
        let scratch = &scratch;
        let name = format!("Cairn, beside {} blocks that stay", args.files * times);
        contestants.push(Contestant::new(name, move || {
            collect_added(&node, || unpinned(&node, scratch, args.files, GARBAGE_BYTES, 2).map(drop))
        }));
    }
    let title = format!("collect {} blocks, until the disk has its space back", args.files);
    let mut contests = vec![Contest::run(title, rounds, contestants)?];
    let runtime = Runtime::new()?;
    for durability in [Durability::Later, Durability::Now] {
        let store = scratch.path(&format!("store-{durability:?}"));
        let store = runtime.block_on(open_with_pins(&store, args.files))?;
        let put = |collects| runtime.block_on(longest_put(&store, args.files, durability, collects));
        let contestants = vec![
            Contestant::new("beside a collection", || put(true)),
            Contestant::new("alone", || put(false)),
        ];
        let title = match durability {
            Durability::Later => "the longest put of a block",
            Durability::Now => "the longest put of a block that waits until it is durable",
        };
        contests.push(Contest::run(title, rounds, contestants)?);
    }
    Ok(contests)
}

/// A block of that length, another one for each number.
fn block(number: usize, len_bytes: usize) -> Result<Block> {
    let mut data = vec![0; len_bytes];
    data[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Ok(Block::hash(Version::V1, RAW, HashFunction::Sha2_256, Bytes::from(data))?)
}

/// Stores blocks and pins the first of them.
async fn fill(dir: &Path, block_count: usize, pin_count: usize) -> Result<()> {
    let store = Store::open(dir, &StoreSettings::default())?;
    put(&store, 0..block_count, SMALL_BYTES).await?;
    pin_all(&store, pin_count, SMALL_BYTES).await?;
    Ok(store.close().await?)
}

async fn put(store: &Store, numbers: std::ops::Range<usize>, len_bytes: usize) -> Result<()> {
    let lease = store.lease();
    for first in numbers.clone().step_by(BATCH) {
        let batch = first..numbers.end.min(first + BATCH);
        let blocks = batch.map(|number| block(number, len_bytes)).collect::<Result<_>>()?;
        store.put(blocks, Durability::Later, &lease).await?;
    }
    Ok(store.sync().await?)
}

async fn pin_all(store: &Store, pin_count: usize, len_bytes: usize) -> Result<()> {
    let (pins, lease) = (Pins::new(store.clone()), store.lease());
    let pin = |number| {
        let (pins, lease) = (&pins, &lease);
        async move {
            let cid = *block(number, len_bytes)?.cid();
            anyhow::Ok(pins.pin(cid, PinKind::Recursive, None, lease, |_, _| ()).await?)
        }
    };
    stream::iter(0..pin_count).map(pin).buffer_unordered(PINS_AT_ONCE).try_collect().await
}

/// A store with as many pinned blocks.
async fn open_with_pins(dir: &Path, block_count: usize) -> Result<Store> {
    let store = Store::open(dir, &StoreSettings::default())?;
    put(&store, 0..block_count, GARBAGE_BYTES).await?;
    pin_all(&store, block_count, GARBAGE_BYTES).await?;
    Ok(store)
}

/// The longest of many puts, one after the other.
async fn longest_put(
    store: &Store,
    block_count: usize,
    durability: Durability,
    collects: bool,
) -> Result<Cost> {
    let garbage = block_count..2 * block_count;
    put(store, garbage.clone(), GARBAGE_BYTES).await?;
    let collected = store.clone();
    let collection = collects.then(|| tokio::spawn(async move { gc::collect(&collected, |_| ()).await }));
    let lease = store.lease();
    let mut longest = 0.0_f64;
    for number in garbage.end.. {
        match &collection {
            Some(collection) if collection.is_finished() => break,
            None if number == garbage.end + PUTS => break,
            _ => {}
        }
        let blocks = vec![block(number, GARBAGE_BYTES)?];
        let begun = Instant::now();
        store.put(blocks, durability, &lease).await?;
        longest = longest.max(begun.elapsed().as_secs_f64());
    }
    if let Some(collection) = collection {
        ensure!(collection.await??.removed_count >= block_count as u64, "not everything was collected");
    }
    drop(lease);
    // What was put is garbage to the next.
    gc::collect(store, |_| ()).await?;
    Ok(Cost { wall_s: longest, ..Cost::default() })
}

fn chunker(block_bytes: usize) -> String {
    format!("--chunker=size-{block_bytes}")
}

/// Adds a file of that many blocks, which nothing keeps; returns its root.
pub(crate) fn unpinned(
    node: &Node,
    scratch: &Scratch,
    blocks: usize,
    block_bytes: usize,
    seed: u64,
) -> Result<String> {
    let file = scratch.random_file("unpinned", (blocks * block_bytes) as u64, seed);
    let mut add = node.command(&["add", "-Q", "--progress=false", "--pin=false", &chunker(block_bytes)]);
    Ok(measured(add.arg(file))?.0)
}

/// A daemon that is adding a file, which takes it a while.
fn busy(node: &Node, scratch: &Scratch) -> Result<(Process, Process, u16)> {
    let (daemon, port) = answering(node)?;
    // Content that is there already would not be written.
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos();
    let file = scratch.random_file("load", LOAD_BYTES, seed.into());
    let add = Process::start("load", node.command(&["add", "-Q", "--progress=false"]).arg(file));
    pause(LOAD_TIME);
    Ok((daemon, add, port))
}

fn start_after_kill(node: &Node, scratch: &Scratch) -> Result<Cost> {
    let (daemon, _add, _) = busy(node, scratch)?;
    daemon.kill();
    start(node)
}

fn stop_amid_add(node: &Node, scratch: &Scratch) -> Result<Cost> {
    let (daemon, _add, port) = busy(node, scratch)?;
    Ok(Cost { wall_s: shut_down(daemon, port)?, ..Cost::default() })
}

fn pin(node: &Node, root: &str) -> Result<Cost> {
    let (daemon, port) = answering(node)?;
    let (_, cost) = measured(&mut node.command(&["pin", "add", "--progress=false", root]))?;
    node.run(&["pin", "rm", root]).text();
    shut_down(daemon, port)?;
    Ok(cost)
}

/// From the question to so many lines of the answer.
fn list(node: &Node) -> Result<Cost> {
    let (daemon, port) = answering(node)?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let begun = Instant::now();
    let path = "/api/v0/pin/ls?stream=true&type=recursive";
    write!(stream, "POST {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n")?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.starts_with('{'));
    ensure!(lines.take(LINES).count() == LINES, "the listing is too short");
    let wall_s = begun.elapsed().as_secs_f64();
    shut_down(daemon, port).context("after a listing that was not read to its end")?;
    Ok(Cost { wall_s, ..Cost::default() })
}
