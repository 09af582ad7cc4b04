//! Cuts a file into blocks and stores them durably: the part of an add that is hashing and the store alone.
//!
//! Run by the benchmark `store`, which measures this process from outside.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cairn_node::settings::StoreSettings;
use cairn_node::store::{Durability, Lease, Store};
use cairn_proto::block::Block;
use cairn_proto::cid::{HashFunction, RAW, Version};
use clap::Parser;
use tokio::task::JoinSet;

/// Blocks hashed and stored together, in bytes.
const BATCH_BYTES: usize = 2 << 20;
/// Batches that are being hashed or stored.
const BATCHES: usize = 6;

/// Stores the blocks of a file.
#[derive(Debug, Parser)]
struct Args {
    /// What to store.
    file: PathBuf,
    /// Length of a block in bytes.
    #[arg(long)]
    block_bytes: usize,
    /// Folder of the store; without one the blocks are hashed and dropped.
    #[arg(long)]
    store: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let args = Args::parse();
    let store = args.store.as_ref().map(|dir| Store::open(dir, &StoreSettings::default())).transpose()?;
    let lease = store.as_ref().map(|store| Arc::new(store.lease()));
    let mut file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    let mut batches = JoinSet::new();
    let len = (BATCH_BYTES / args.block_bytes).max(1) * args.block_bytes;
    loop {
        let mut batch = Vec::with_capacity(len);
        file.by_ref().take(len as u64).read_to_end(&mut batch)?;
        if batch.is_empty() {
            break;
        }
        if batches.len() == BATCHES {
            batches.join_next().await.context("there are some")???;
        }
        batches.spawn(put(batch, args.block_bytes, store.clone(), lease.clone()));
    }
    while let Some(done) = batches.join_next().await {
        done??;
    }
    if let Some(store) = store {
        store.sync().await?;
        println!("{}", store.stat().block_count);
    }
    Ok(())
}

async fn put(
    batch: Vec<u8>,
    block_bytes: usize,
    store: Option<Store>,
    lease: Option<Arc<Lease>>,
) -> Result<()> {
    let batch = Bytes::from(batch);
    let cut = |start: usize| batch.slice(start..(start + block_bytes).min(batch.len()));
    let hash = |data: Bytes| Block::hash(Version::V1, RAW, HashFunction::Sha2_256, data);
    let blocks =
        (0..batch.len()).step_by(block_bytes).map(|start| hash(cut(start))).collect::<Result<Vec<_>, _>>()?;
    if let (Some(store), Some(lease)) = (store, lease) {
        store.put(blocks, Durability::Later, &lease).await?;
    }
    Ok(())
}
