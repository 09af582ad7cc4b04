//! Measures how fast blocks can cross from one process to another and into a store, before any Bitswap decision is made.
//!
//! A second process of this program sends random blocks over loopback through the very path of the exchange: a stream
//! negotiated by `swarm::bitswap` and handed to a task per peer. The first one reads, hashes and writes them to RocksDB:
//! payload by counter, no log, blob files, flushed at the end. The last stage is the exchange itself, from one store into
//! another. See docs/design/0001-exchange-ceiling.md.

use std::future::Future;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use cairn_node::exchange::{self, ports::Peers};
use cairn_node::settings::StoreSettings;
use cairn_node::store::{Durability, Store};
use cairn_node::swarm::bitswap::{self, Change, Link, Wire, frame};
use cairn_node::tasks::Tasks;
use cairn_proto::bitswap::message::{Message, Outgoing};
use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, HashFunction, Multihash, RAW, Version};
use clap::{Parser, ValueEnum};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, tcp, tls, yamux};
use rand::{RngCore as _, SeedableRng as _};
use tokio::sync::{Semaphore, mpsc};

/// Messages received and not yet stored, in bytes.
const IN_FLIGHT_BYTES: usize = 16 * 1024 * 1024;

/// Clock ticks of `/proc/*/stat` in a second: fixed on Linux.
const TICKS: f64 = 100.0;

/// How the two processes are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    TcpNoise,
    TcpTls,
    Quic,
}

/// How far a received block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Stage {
    /// Read and dropped.
    Wire,
    /// Hashed by the task that reads.
    HashInline,
    /// Hashed by the blocking pool while the task reads on.
    Hash,
    /// And stored.
    Store,
    /// Wanted by a session, read from a store, and put into another one.
    Exchange,
}

#[derive(Debug, Parser)]
struct Options {
    /// Transports to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp-noise,tcp-tls,quic")]
    transports: Vec<Transport>,
    /// How far blocks go.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "wire,hash-inline,hash,store,exchange")]
    stages: Vec<Stage>,
    /// Lengths of the blocks, in bytes.
    #[arg(long, value_delimiter = ',', default_value = "1048576,262144")]
    block_bytes: Vec<usize>,
    /// Bytes to move in each run.
    #[arg(long, default_value_t = 1 << 30)]
    total_bytes: usize,
    /// Runs of each kind; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Folder for the store.
    #[arg(long, default_value = "/tmp")]
    dir: std::path::PathBuf,
    /// Send instead of receive (started by the program itself).
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    if options.serve {
        return runtime.block_on(serve(&options));
    }
    println!("transport   stage        block     MB/s  (runs)                CPU-s/GiB receiver + sender");
    for &transport in &options.transports {
        for &stage in &options.stages {
            for &block_bytes in &options.block_bytes {
                let mut runs = Vec::new();
                for _ in 0..options.runs {
                    runs.push(runtime.block_on(measure(&options, transport, stage, block_bytes))?);
                }
                print(transport, stage, block_bytes, options.total_bytes, runs);
            }
        }
    }
    Ok(())
}

fn print(transport: Transport, stage: Stage, block_bytes: usize, total_bytes: usize, mut runs: Vec<Run>) {
    let rate = |run: &Run| total_bytes as f64 / 1e6 / run.wall.as_secs_f64();
    let all: Vec<_> = runs.iter().map(|run| format!("{:.0}", rate(run))).collect();
    runs.sort_by_key(|run| run.wall);
    let median = &runs[runs.len() / 2];
    let per_gib = (1u64 << 30) as f64 / total_bytes as f64;
    println!(
        "{:11} {:11} {:5} KiB  {:6.0}  {:20}  {:.2} + {:.2}",
        format!("{transport:?}"),
        format!("{stage:?}"),
        block_bytes / 1024,
        rate(median),
        format!("({})", all.join(" ")),
        median.receiver_cpu * per_gib,
        median.sender_cpu * per_gib,
    );
}

/// What blocks come through.
enum Way {
    Link(Link),
    Exchange(Wire, Vec<Cid>),
}

/// Both ways, over Bitswap alone.
fn exchange_options() -> exchange::Options {
    exchange::Options { serves: true, retrieval: None }
}

/// Fetches all blocks through the exchange into a store.
async fn fetch(wire: Wire, cids: Vec<Cid>, block_bytes: usize, dir: &Path) -> Result<()> {
    const WINDOW_BYTES: usize = 64 * 1024 * 1024;
    let (store, tasks) = (Store::open(dir, &StoreSettings::default())?, Tasks::new("exchange"));
    let lease = store.lease();
    let exchange =
        exchange::start(wire, Arc::new(store.clone()), Arc::new(Nobody), exchange_options(), &tasks);
    let mut session = exchange.session();
    let mut rest = cids.into_iter();
    session.want(rest.by_ref().take(WINDOW_BYTES / block_bytes).collect()).await?;
    let (batches, mut received) = mpsc::channel::<Vec<Block>>(2);
    let stored = tokio::spawn({
        let store = store.clone();
        async move {
            while let Some(batch) = received.recv().await {
                store.put(batch, Durability::Later, &lease).await?;
            }
            store.sync().await
        }
    });
    let mut batch = Vec::new();
    while let Some(block) = session.recv().await {
        batch.push(block?);
        session.want(rest.by_ref().take(1).collect()).await?;
        if batch.len() * block_bytes >= 4 * 1024 * 1024 {
            batches.send(std::mem::take(&mut batch)).await?;
        }
    }
    batches.send(batch).await?;
    drop(batches);
    stored.await??;
    tasks.shutdown(Duration::from_secs(5)).await?;
    store.close().await?;
    Ok(())
}

/// No providers beyond the one that is connected.
struct Nobody;

impl Peers for Nobody {
    fn find(&self, _: Multihash, _: usize) -> BoxStream<'static, (PeerId, Vec<Multiaddr>)> {
        futures::stream::empty().boxed()
    }

    fn connect(
        &self,
        _: PeerId,
        _: Vec<Multiaddr>,
    ) -> Pin<Box<dyn Future<Output = Result<(), cairn_node::Error>> + Send>> {
        Box::pin(async { Err(cairn_node::Error::not_found("nobody")) })
    }
}

struct Run {
    wall: Duration,
    receiver_cpu: f64,
    sender_cpu: f64,
}

/// Moves the blocks once.
async fn measure(options: &Options, transport: Transport, stage: Stage, block_bytes: usize) -> Result<Run> {
    let (sender, address) = start_sender(options, transport, stage, block_bytes)?;
    let (mut swarm, mut wire) = swarm(transport)?;
    swarm.dial(address)?;
    let driver = tokio::spawn(async move {
        while let Some(event) = swarm.next().await {
            if let SwarmEvent::ConnectionClosed { cause: Some(cause), .. } = event {
                eprintln!("connection closed: {cause}");
            }
        }
    });
    let dir = tempfile::tempdir_in(&options.dir)?;
    let way = if stage == Stage::Exchange {
        let cids =
            random_blocks(block_bytes, options.total_bytes)?.iter().map(|block| *block.cid()).collect();
        Way::Exchange(wire, cids)
    } else {
        Way::Link(connected(&mut wire).await?)
    };
    let (cpu_before, sender_before, began) =
        (cpu_seconds("self")?, cpu_seconds(&sender.child.id().to_string())?, Instant::now());
    match way {
        Way::Link(link) => receive(link, stage, options.total_bytes, dir.path()).await?,
        Way::Exchange(wire, cids) => fetch(wire, cids, block_bytes, dir.path()).await?,
    }
    let run = Run {
        wall: began.elapsed(),
        receiver_cpu: cpu_seconds("self")? - cpu_before,
        sender_cpu: cpu_seconds(&sender.child.id().to_string())? - sender_before,
    };
    driver.abort();
    Ok(run)
}

/// Reads all blocks from the peer, as far as `stage` says.
async fn receive(link: Link, stage: Stage, total_bytes: usize, dir: &Path) -> Result<()> {
    let (mut inbound, opener) = link.split();
    let _open = opener.keep_alive();
    let (version, mut requests) = opener.open().await?;
    frame::write(&mut requests, &Outgoing { full: true, ..Outgoing::default() }.encode(version)).await?;
    let (_, mut stream) = inbound.recv().await.context("no stream came")?;

    let (blocks, stored) = mpsc::channel::<Block>(64);
    let path = dir.to_owned();
    let store = std::thread::spawn(move || store(&path, stored));
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_BYTES));
    let mut received_bytes = 0;
    while received_bytes < total_bytes {
        let len_bytes = frame::read_len(&mut stream).await?.context("stream ended early")?;
        let permit = Arc::clone(&in_flight).acquire_many_owned(u32::try_from(len_bytes)?).await?;
        let body = frame::read_body(&mut stream, len_bytes, |_| ()).await?;
        let payloads = Message::decode(body)?.take_payloads();
        received_bytes += payloads.iter().map(|payload| payload.len_bytes()).sum::<usize>();
        if stage == Stage::HashInline {
            payloads.into_iter().for_each(|payload| drop(payload.hash()));
        } else if stage > Stage::HashInline {
            let blocks = (stage == Stage::Store).then(|| blocks.clone());
            tokio::task::spawn_blocking(move || {
                for block in payloads.into_iter().filter_map(|payload| payload.hash().ok()) {
                    if let Some(blocks) = &blocks {
                        let _ = blocks.blocking_send(block);
                    }
                }
                drop(permit);
            });
        }
    }
    let _all_hashed = in_flight.acquire_many(u32::try_from(IN_FLIGHT_BYTES)?).await?;
    drop(blocks);
    tokio::task::spawn_blocking(move || store.join()).await?.map_err(|_| anyhow!("the store panicked"))?
}

/// Writes blocks by counter, in batches without a log, and flushes at the end.
fn store(dir: &Path, mut blocks: mpsc::Receiver<Block>) -> Result<()> {
    const BATCH_BYTES: usize = 4 * 1024 * 1024;
    let mut settings = rocksdb::Options::default();
    settings.create_if_missing(true);
    settings.set_enable_blob_files(true);
    settings.set_min_blob_size(4096);
    settings.set_write_buffer_size(32 * 1024 * 1024);
    settings.set_max_write_buffer_number(4);
    settings.set_max_background_jobs(2);
    let db = rocksdb::DB::open(&settings, dir)?;
    let mut unlogged = rocksdb::WriteOptions::default();
    unlogged.disable_wal(true);

    let (mut id, mut batch) = (0u64, rocksdb::WriteBatch::default());
    while let Some(block) = blocks.blocking_recv() {
        batch.put(id.to_be_bytes(), block.data());
        id += 1;
        if batch.size_in_bytes() >= BATCH_BYTES {
            db.write_opt(std::mem::take(&mut batch), &unlogged)?;
        }
    }
    db.write_opt(batch, &unlogged)?;
    db.flush()?;
    Ok(())
}

/// The second process, killed when dropped, and its folder.
struct Sender {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Sender {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_sender(
    options: &Options,
    transport: Transport,
    stage: Stage,
    block_bytes: usize,
) -> Result<(Sender, Multiaddr)> {
    let name = transport.to_possible_value().context("every transport has a name")?;
    let stage = stage.to_possible_value().context("every stage has a name")?;
    let dir = tempfile::tempdir_in(&options.dir)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--serve", "--transports", name.get_name(), "--stages", stage.get_name()])
        .arg("--dir")
        .arg(dir.path())
        .args(["--block-bytes", &block_bytes.to_string(), "--total-bytes", &options.total_bytes.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let sender = Sender { child, _dir: dir };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok((sender, line.trim().parse().context("the sender names its address")?))
}

/// Sends every block to the first peer that asks.
async fn serve(options: &Options) -> Result<()> {
    let [transport, ..] = options.transports[..] else { bail!("no transport") };
    let blocks = random_blocks(options.block_bytes[0], options.total_bytes)?;
    let (mut swarm, mut wire) = swarm(transport)?;
    let mut store = None;
    if options.stages == [Stage::Exchange] {
        store = Some(filled_store(&blocks, &options.dir).await?);
    }
    swarm.listen_on(match transport {
        Transport::Quic => "/ip4/127.0.0.1/udp/0/quic-v1".parse()?,
        Transport::TcpNoise | Transport::TcpTls => "/ip4/127.0.0.1/tcp/0".parse()?,
    })?;
    tokio::spawn(async move {
        while let Some(event) = swarm.next().await {
            if let SwarmEvent::NewListenAddr { address, .. } = event {
                println!("{address}");
            }
        }
    });
    if let Some(store) = store {
        drop(blocks);
        let tasks = Tasks::new("exchange");
        let _exchange = exchange::start(wire, Arc::new(store), Arc::new(Nobody), exchange_options(), &tasks);
        return std::future::pending().await;
    }
    let (mut inbound, opener) = connected(&mut wire).await?.split();
    let _open = opener.keep_alive();
    let (_, mut requests) = inbound.recv().await.context("nobody asked")?;
    frame::read_len(&mut requests).await?.context("nobody asked")?;
    let (version, mut stream) = opener.open().await?;
    for block in blocks {
        frame::write(&mut stream, &Outgoing { blocks: vec![block], ..Outgoing::default() }.encode(version))
            .await?;
    }
    // The other process ends this one.
    std::future::pending().await
}

/// A store with these blocks.
async fn filled_store(blocks: &[Block], dir: &Path) -> Result<Store> {
    let store = Store::open(dir, &StoreSettings::default())?;
    let lease = store.lease();
    for blocks in blocks.chunks(16) {
        store.put(blocks.to_vec(), Durability::Later, &lease).await?;
    }
    store.sync().await?;
    Ok(store)
}

fn random_blocks(block_bytes: usize, total_bytes: usize) -> Result<Vec<Block>> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    (0..total_bytes / block_bytes)
        .map(|_| {
            let mut data = vec![0; block_bytes];
            random.fill_bytes(&mut data);
            Ok(Block::hash(Version::V1, RAW, HashFunction::Sha2_256, Bytes::from(data))?)
        })
        .collect()
}

fn swarm(transport: Transport) -> Result<(Swarm<bitswap::Behaviour>, Wire)> {
    const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
    let (behaviour, wire) = bitswap::new();
    let builder = SwarmBuilder::with_new_identity().with_tokio();
    let swarm = match transport {
        Transport::TcpNoise => builder
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
            .with_behaviour(|_| behaviour)?
            .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
            .build(),
        Transport::TcpTls => builder
            .with_tcp(tcp::Config::default().nodelay(true), tls::Config::new, yamux::Config::default)?
            .with_behaviour(|_| behaviour)?
            .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
            .build(),
        Transport::Quic => builder
            .with_quic()
            .with_behaviour(|_| behaviour)?
            .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
            .build(),
    };
    Ok((swarm, wire))
}

async fn connected(wire: &mut Wire) -> Result<Link> {
    match wire.changes().await.pop() {
        Some(Change::Connected(link)) => Ok(link),
        _ => bail!("the peer left"),
    }
}

/// Processor time of a process so far, user and system, in seconds.
fn cpu_seconds(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().context("no name in stat")?.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / TICKS)
}
