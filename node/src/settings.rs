//! What a user may tune, as plain values. Parts that do work are given to the builder instead.

pub mod addresses;
pub mod config;
pub mod reach;
pub mod units;

use std::path::PathBuf;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId, identity::Keypair, pnet::PreSharedKey};

use self::addresses::{Announce, Networks};
use self::reach::ReachSettings;
use crate::exchange::http::GatewayUrl;

/// Everything that a node is built from besides its parts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of the repo; the database is in `store` below it.
    pub repo: PathBuf,
    /// Key of the peer ID.
    pub identity: Keypair,
    /// Blocks, pins and records on disk.
    pub store: StoreSettings,
    /// Listeners, peers and transports. `None` for a node that never touches the network.
    pub swarm: Option<SwarmSettings>,
    /// Gateways that are asked for everything in place of peers. The node has no swarm then.
    pub upstream: Option<UpstreamSettings>,
    /// Servers of the routing API that are asked beside the DHTs.
    pub routers: Vec<crate::routing::delegated::RouterUrl>,
    /// Which gateways are asked for blocks over HTTP when they are providers of content; `None` for none of them.
    pub retrieval: Option<crate::exchange::RetrievalRules>,
    /// What is told to the DHTs.
    pub provide: crate::provide::ProvideSettings,
    /// Where domains are looked up.
    pub dns: crate::names::DnsSettings,
    /// Longest wait for a single block from the network before a request fails with [`crate::Kind::Timeout`].
    pub block_timeout: Duration,
    /// Folders with lists of what is not served; see [`crate::denylists`].
    pub denylists: Vec<PathBuf>,
}

/// Gateways that are asked in place of peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The gateways, the first that has a block gives it.
    pub gateways: Vec<GatewayUrl>,
    /// PEM file of the roots to trust in talking to them, `None` for those of this computer.
    pub roots: Option<PathBuf>,
    /// Longest time of one request.
    pub timeout: Duration,
    /// What they are told of who asks.
    pub agent: String,
}

/// Settings of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Most bytes that block contents may take, `None` for the disk less a reserve.
    pub max_bytes: Option<u64>,
    /// Memory for RocksDB's memtables and block cache together, in bytes.
    pub memory_bytes: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { max_bytes: None, memory_bytes: 192 * 1024 * 1024 }
    }
}

/// Settings of the swarm.
#[derive(Debug, Clone)]
pub struct SwarmSettings {
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Addresses to tell peers.
    pub announce: Announce,
    /// Networks that are neither dialled nor let in.
    pub refused: Networks,
    /// Peers to start from, each ending in `/p2p/…`.
    pub bootstrap: Vec<Multiaddr>,
    /// Peers to stay connected to.
    pub peering: Vec<(PeerId, Vec<Multiaddr>)>,
    /// Find peers on the local network.
    pub mdns: bool,
    /// How the DHT takes part.
    pub dht: DhtMode,
    /// Protocol of the public DHT, `/ipfs/kad/1.0.0` but in tests.
    pub dht_protocol: String,
    /// Protocol of the LAN DHT, `/ipfs/lan/kad/1.0.0` but in tests.
    pub lan_dht_protocol: String,
    /// Serve blocks to others.
    pub bitswap_server: bool,
    /// How many connections there are.
    pub connections: ConnectionSettings,
    /// Bytes a second that go over them.
    pub bandwidth: BandwidthLimits,
    /// Agent version told to peers.
    pub agent_version: String,
    /// Key of the private network that the node is in; see [`crate::swarm::private`].
    pub private_network: Option<PreSharedKey>,
    /// Do not start without such a key.
    pub must_be_private: bool,
    /// How the node is reached when others cannot dial it.
    pub reach: ReachSettings,
}

/// How many connections a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Connections above which new inbound ones are refused: what there is memory for.
    pub max_count: u32,
    /// When connections of little use end; `None` for never.
    pub marks: Option<ConnectionMarks>,
}

/// When connections of little use end.
///
/// Source of the defaults: Kubo `config/init.go` (`DefaultConnMgr…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionMarks {
    /// How many are left then. Below it none ends for being idle either.
    pub low: u32,
    /// Count above which some end.
    pub high: u32,
    /// Age below which none does.
    pub grace: Duration,
}

impl Default for ConnectionMarks {
    fn default() -> Self {
        Self { low: 32, high: 96, grace: Duration::from_secs(20) }
    }
}

/// Bytes a second that a node sends to peers and receives from them at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BandwidthLimits {
    /// Sent; `None` for no limit.
    pub up_bytes: Option<u64>,
    /// Received; `None` for no limit.
    pub down_bytes: Option<u64>,
}

/// How a node takes part in the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhtMode {
    /// Not at all.
    Off,
    /// Asks only.
    Client,
    /// Asks and answers.
    Server,
    /// A client until an external address is confirmed, then a server.
    Auto,
}
