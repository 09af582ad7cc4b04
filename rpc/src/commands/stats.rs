//! `stats bw`, `stats bitswap`.

use std::time::Duration;

use cairn_node::settings::units::parse_duration;
use cairn_node::swarm::{Flow, Handle};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use super::bitswap;
use super::routing::parse_peer;
use super::swarm::online;
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Time between two answers of [`Bandwidth`] unless said otherwise. Source: Kubo `core/commands/stat.go`.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest such time.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Tells what goes over the connections.
#[derive(Debug, Clone, Default)]
pub struct Bandwidth {
    /// Of that peer alone.
    pub peer: Option<String>,
    /// Of that protocol alone.
    pub protocol: Option<String>,
    /// Again and again.
    pub poll: bool,
    /// Time between two answers, as `1s`.
    pub interval: Option<String>,
}

/// What went, and goes. Source: go-libp2p `core/metrics` (`Stats`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stats {
    /// Bytes received.
    pub total_in: u64,
    /// Bytes sent.
    pub total_out: u64,
    /// Bytes received a second.
    pub rate_in: f64,
    /// Bytes sent a second.
    pub rate_out: f64,
}

impl JsonEvent for Stats {}

impl From<Flow> for Stats {
    fn from(flow: Flow) -> Self {
        Self {
            total_in: flow.received_bytes,
            total_out: flow.sent_bytes,
            rate_in: flow.received_rate,
            rate_out: flow.sent_rate,
        }
    }
}

/// Whose bytes are told.
enum Of {
    All,
    Peer(PeerId),
    Protocol(String),
}

impl Of {
    fn stats(&self, swarm: &Handle) -> Stats {
        let flow = match self {
            Self::All => Some(swarm.flow()),
            Self::Peer(peer) => swarm.flow_of_peer(peer),
            Self::Protocol(protocol) => swarm.flow_of_protocol(protocol),
        };
        flow.unwrap_or_default().into()
    }
}

impl Command for Bandwidth {
    const PATH: &'static str = "stats/bw";
    type Event = Stats;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("peer", "p", &mut self.peer)?;
        binder.option("proto", "t", &mut self.protocol)?;
        binder.option("poll", "", &mut self.poll)?;
        binder.option("interval", "i", &mut self.interval)
    }

    fn is_stream(&self) -> bool {
        self.poll
    }

    async fn run(self, context: Context, output: Output<Stats>) -> Result<()> {
        let of = match (self.peer, self.protocol) {
            (Some(_), Some(_)) => return Err(Error::client("please only specify peer OR protocol")),
            (Some(peer), None) => Of::Peer(parse_peer(&peer)?),
            (None, Some(protocol)) => Of::Protocol(protocol),
            (None, None) => Of::All,
        };
        let pause = self.interval.as_deref().map(parse_duration).transpose();
        let pause = pause.map_err(Error::client)?.unwrap_or(POLL_INTERVAL).max(MIN_INTERVAL);
        let swarm = online(&context).await?;
        if !self.poll {
            return output.send(of.stats(swarm)).await;
        }
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            output.send(of.stats(swarm)).await?;
        }
    }
}

/// Tells what was exchanged with peers: `bitswap stat` by its other name.
#[derive(Debug, Clone, Default)]
pub struct Bitswap(bitswap::Stat);

impl Command for Bitswap {
    const PATH: &'static str = "stats/bitswap";
    type Event = bitswap::BitswapStat;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        self.0.bind(binder)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Self::Event>) -> Result<()> {
        self.0.run(context, output).await
    }
}
