//! `swarm resources`: how many connections there are, and how many there may be.

use serde::{Deserialize, Serialize};

use super::online;
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::Result;

/// Tells limits and what is used of them.
#[derive(Debug, Clone, Default)]
pub struct Resources;

/// What is used of each limit. Source: Kubo `core/node/libp2p/rcmgr.go` (`LimitsConfigAndUsage`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Usage {
    /// Of the whole node. Kubo tells of services and protocols besides; here no limit holds for one of them alone.
    pub system: Scope,
}

impl JsonEvent for Usage {}

/// Limits and what is used of them. A limit is a number, or `unlimited`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Scope {
    /// Connections.
    pub conns: Limit,
    /// Those there are.
    pub conns_usage: u64,
    /// Connections that others opened.
    pub conns_inbound: Limit,
    /// Those there are.
    pub conns_inbound_usage: u64,
    /// Connections that this node opened.
    pub conns_outbound: Limit,
    /// Those there are.
    pub conns_outbound_usage: u64,
    /// Streams.
    pub streams: Limit,
    /// Those there are.
    pub streams_usage: u64,
}

/// A limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Limit {
    /// At most so many.
    Count(u64),
    /// A word of Kubo's.
    Word(String),
    /// Not told.
    #[default]
    Unknown,
}

impl Limit {
    fn of(count: u32) -> Self {
        if count == u32::MAX { Self::unlimited() } else { Self::Count(count.into()) }
    }

    fn unlimited() -> Self {
        Self::Word("unlimited".to_owned())
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Word(word) => word.fmt(f),
            Self::Unknown => Ok(()),
        }
    }
}

impl Command for Resources {
    const PATH: &'static str = "swarm/resources";
    type Event = Usage;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Usage>) -> Result<()> {
        let swarm = online(&context).await?;
        let counters = swarm.counters().await?;
        let [inbound, outbound] =
            [counters.inbound_open_count, counters.outbound_open_count].map(|count| count as u64);
        let system = Scope {
            conns: Limit::of(swarm.max_outbound_count()),
            conns_usage: inbound + outbound,
            // Each is refused while there are so many of both kinds.
            conns_inbound: Limit::of(swarm.max_connection_count()),
            conns_inbound_usage: inbound,
            conns_outbound: Limit::of(swarm.max_outbound_count()),
            conns_outbound_usage: outbound,
            streams: Limit::unlimited(),
            streams_usage: swarm.stream_count() as u64,
        };
        output.send(Usage { system }).await
    }
}
