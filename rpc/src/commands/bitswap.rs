//! `bitswap stat`.

use serde::{Deserialize, Serialize};

use super::CidLink;
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
