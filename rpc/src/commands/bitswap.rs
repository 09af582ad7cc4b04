//! `bitswap stat`, `bitswap wantlist`, `bitswap waiting`, `bitswap ledger`.

use serde::{Deserialize, Serialize};

use super::CidLink;
use super::routing::parse_peer;
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Tells what was exchanged with peers.
#[derive(Debug, Clone, Default)]
pub struct Stat {
    /// Name the peers; for people.
    pub verbose: bool,
    /// With units; for people.
    pub human: bool,
}

/// What was exchanged. Source: boxo `bitswap/stat.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BitswapStat {
    /// CIDs that are asked for.
    pub wantlist: Vec<CidLink>,
    /// Peers that are asked.
    pub peers: Vec<String>,
    /// Blocks received.
    pub blocks_received: u64,
    /// Bytes of them.
    pub data_received: u64,
    /// Blocks received again.
    pub dup_blks_received: u64,
    /// Bytes of them.
    pub dup_data_received: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Bytes of them.
    pub data_sent: u64,
}

impl JsonEvent for BitswapStat {}

impl Command for Stat {
    const PATH: &'static str = "bitswap/stat";
    type Event = BitswapStat;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("verbose", "v", &mut self.verbose)?;
        binder.option("human", "", &mut self.human)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<BitswapStat>) -> Result<()> {
        let exchange = context.node().await?.exchange().ok_or_else(Error::offline)?;
        let stat = exchange.stat().await?;
        output
            .send(BitswapStat {
                wantlist: stat.wantlist.iter().map(|cid| CidLink::new(context.text(cid))).collect(),
                peers: stat.peers.iter().map(ToString::to_string).collect(),
                blocks_received: stat.blocks_received,
                data_received: stat.data_received,
                dup_blks_received: stat.dup_blocks_received,
                dup_data_received: stat.dup_data_received,
                messages_received: stat.messages_received,
                blocks_sent: stat.blocks_sent,
                data_sent: stat.data_sent,
            })
            .await
    }
}

/// Lists the blocks that this node wants, or that a peer wants from it.
#[derive(Debug, Clone, Default)]
pub struct Wantlist {
    /// That peer; this node when missing.
    pub peer: Option<String>,
}

/// CIDs. Source: Kubo `core/commands/bitswap.go` (`KeyList`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Keys {
    /// Each of them.
    pub keys: Vec<CidLink>,
}

impl JsonEvent for Keys {}

impl Command for Wantlist {
    const PATH: &'static str = "bitswap/wantlist";
    type Event = Keys;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("peer", "p", &mut self.peer)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Keys>) -> Result<()> {
        let exchange = context.node().await?.exchange().ok_or_else(Error::offline)?;
        let own = context.repo.config().peer_id()?;
        let peer = self.peer.as_deref().map(parse_peer).transpose()?.filter(|peer| *peer != own);
        let wantlist = match peer {
            None => exchange.stat().await?.wantlist,
            Some(peer) => exchange.peer_stat(peer).await?.unwrap_or_default().wantlist,
        };
        output.send(Keys { keys: wantlist.iter().map(|cid| CidLink::new(context.text(cid))).collect() }).await
    }
}

/// Tells what was exchanged with a peer since it connected.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Peer ID.
    pub peer: String,
}

/// What was exchanged with a peer. Source: boxo `bitswap/server/internal/decision` (`Receipt`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Receipt {
    /// Peer ID.
    pub peer: String,
    /// Bytes sent for each byte received.
    pub value: f64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub recv: u64,
    /// Messages with blocks, both ways.
    pub exchanged: u64,
}

impl JsonEvent for Receipt {}

impl Command for Ledger {
    const PATH: &'static str = "bitswap/ledger";
    type Event = Receipt;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("peer", &mut self.peer)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Receipt>) -> Result<()> {
        let peer = parse_peer(&self.peer)?;
        let exchange = context.node().await?.exchange().ok_or_else(Error::offline)?;
        let stat = exchange.peer_stat(peer).await?.unwrap_or_default();
        let receipt = Receipt {
            peer: peer.to_string(),
            // One more, as Kubo has it, so that there is always a quotient.
            value: stat.sent_bytes as f64 / (stat.received_bytes as f64 + 1.0),
            sent: stat.sent_bytes,
            recv: stat.received_bytes,
            exchanged: stat.exchanges_count,
        };
        output.send(receipt).await
    }
}

/// Tells what the node waits for. Not a command of Kubo's.
#[derive(Debug, Clone, Default)]
pub struct Waiting;

/// What all downloads together wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WaitsFor {
    /// Blocks that have not come.
    pub blocks: usize,
    /// Peers that were asked for them.
    pub peers_asked: usize,
    /// Peers known to have some of them.
    pub providers_found: usize,
}

impl JsonEvent for WaitsFor {}

impl Command for Waiting {
    const PATH: &'static str = "bitswap/waiting";
    type Event = WaitsFor;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<WaitsFor>) -> Result<()> {
        let exchange = context.node().await?.exchange().ok_or_else(Error::offline)?;
        let progress = exchange.stat().await?.progress;
        output
            .send(WaitsFor {
                blocks: progress.want_count,
                peers_asked: progress.peers_asked,
                providers_found: progress.provider_count,
            })
            .await
    }
}
