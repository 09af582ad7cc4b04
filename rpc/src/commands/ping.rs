//! `ping`.

use std::time::Duration;

use cairn_node::Node;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use super::routing::parse_peer;
use super::swarm::online;
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Pings unless said otherwise. Source: Kubo `core/commands/ping.go`.
const COUNT: u32 = 10;
/// Time between two pings. Source: the same.
const INTERVAL: Duration = Duration::from_secs(1);

/// Measures the way to a peer and back.
#[derive(Debug, Clone, Default)]
pub struct Ping {
    /// Peer ID, or an address that ends in one.
    pub peer: String,
    /// How often.
    pub count: Option<u32>,
}

/// A ping, or a word about it. Source: Kubo `core/commands/ping.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pong {
    /// Whether it came back.
    pub success: bool,
    /// How long it took, in nanoseconds.
    pub time: u64,
    /// Word for a person; empty for a ping that came back.
    pub text: String,
}

impl JsonEvent for Pong {}

impl Pong {
    fn word(text: String) -> Self {
        Self { success: true, time: 0, text }
    }
}

impl Command for Ping {
    const PATH: &'static str = "ping";
    type Event = Pong;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("peer ID", &mut self.peer)?;
        binder.option("count", "n", &mut self.count)
    }

    async fn run(self, context: Context, output: Output<Pong>) -> Result<()> {
        let peer = parse_peer(self.peer.rsplit('/').next().unwrap_or_default())?;
        let count = self.count.unwrap_or(COUNT);
        if count == 0 {
            return Err(Error::client("ping count must be greater than 0"));
        }
        let swarm = online(&context).await?;
        if peer == swarm.local_peer_id() {
            return Err(Error::client("can't ping self"));
        }
        let node = context.node().await?;
        reach(node, &self.peer, peer, &output).await?;
        output.send(Pong::word(format!("PING {peer}."))).await?;
        let mut times = Vec::new();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..count {
            ticks.tick().await;
            let pong = match swarm.ping(peer).await {
                Ok(time) => {
                    times.push(time);
                    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                    Pong { success: true, time, text: String::new() }
                }
                Err(error) => Pong { success: false, time: 0, text: format!("Ping error: {error}") },
            };
            output.send(pong).await?;
        }
        let Some(total) = times.iter().copied().reduce(|total, time| total + time) else {
            return Err(Error::new("ping failed"));
        };
        let average = total.as_secs_f64() * 1000.0 / times.len() as f64;
        output.send(Pong::word(format!("Average latency: {average:.2}ms"))).await
    }
}

/// Connects to a peer, looking for it if nothing is known of it.
async fn reach(node: &Node, text: &str, peer: PeerId, output: &Output<Pong>) -> Result<()> {
    let (Some(swarm), Some(routing)) = (node.swarm(), node.routing()) else { return Err(Error::offline()) };
    let named = text.parse::<libp2p::Multiaddr>().ok().filter(|addr| addr.iter().count() > 1);
    match swarm.connect(peer, named.into_iter().collect()).await {
        Err(error) if error.kind() == cairn_node::Kind::NotFound => {}
        connected => return Ok(connected?),
    }
    output.send(Pong::word(format!("Looking up peer {peer}"))).await?;
    let addrs = routing.find_peer(peer).await?;
    if addrs.is_empty() {
        return Err(Error::new("peer lookup failed: routing: not found"));
    }
    Ok(swarm.connect(peer, addrs).await?)
}
