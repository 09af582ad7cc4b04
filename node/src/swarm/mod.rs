//! The peer-to-peer network: connections, transports and DHTs of one node.
//!
//! One task owns libp2p's swarm. A [`Handle`] sends it commands; block bytes never pass through it. The swarm must not
//! know the store: whoever wants to keep records or serve blocks gives it the parts that do, in [`Components`].
//! Read [`start`] first, then `task`.

mod address;
mod behaviour;
pub mod bitswap;
mod book;
mod dht;
mod dial;
mod diversity;
mod filters;
mod gate;
mod guarded;
mod keeper;
mod muxer;
mod nat;
mod outward;
mod peers;
mod pong;
pub mod private;
mod query;
mod security;
mod task;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod traffic;
mod transport;
mod trim;
mod wire;

use std::time::Duration;

use ipnet::IpNet;
use libp2p::identity::{Keypair, PublicKey};
use libp2p::kad::store::RecordStore;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot, watch};

pub use address::{LAN_DHT, WAN_DHT};
pub(crate) use address::{is_public, is_public_ip};
pub use dht::Scope;
pub use query::Provider;
pub(crate) use query::{Query, Question};
pub use traffic::Flow;
pub(crate) use wire::Contact;

use wire::Wire;

use crate::settings::SwarmSettings;
use crate::settings::reach::Reachability;
use crate::tasks::Tasks;
use crate::{Error, Kind};

/// Longest wait of [`Handle::connect`].
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait of [`Handle::ping`]. Source: go-libp2p `p2p/protocol/ping` (10 s).
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Commands that wait for the swarm.
const COMMAND_QUEUE: usize = 64;
/// Questions to the DHTs that wait for one of those under way to end.
const QUERY_QUEUE: usize = 64;

/// The parts that a swarm is built from besides its settings.
#[derive(Debug)]
pub struct Components<R> {
    /// Key of the local peer ID.
    pub identity: Keypair,
    /// Routing tables of an earlier run; those of other protocols are left out.
    pub saved: Vec<Table>,
    /// Records of the public DHT.
    pub wan_records: R,
    /// Records of the local network's DHT.
    pub lan_records: R,
    /// Bitswap's streams; `None` for a node that does not exchange blocks.
    pub bitswap: Option<bitswap::Behaviour>,
    /// What carries the connections.
    pub transports: Transports,
}

/// What carries the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transports {
    /// TCP, WebSockets and QUIC; TCP alone in a private network.
    Real,
    /// Memory of this process, under `/memory/…` addresses: for scenarios.
    Memory,
}

/// A running swarm. Clones share it.
#[derive(Debug, Clone)]
pub struct Handle {
    local_peer_id: PeerId,
    commands: mpsc::Sender<Command>,
    queries: mpsc::Sender<Query>,
    local: watch::Receiver<Local>,
    reachability: watch::Receiver<Reachability>,
    shared: Shared,
    wire: Wire,
}

/// What the parts of a swarm and its handles have in common. Clones share it.
#[derive(Debug, Clone)]
struct Shared {
    traffic: traffic::Traffic,
    filters: filters::Filters,
    max_count: u32,
}

/// The peers that answer a DHT, as far as they are known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Protocol of the DHT.
    pub protocol: String,
    /// Who, and where each listens.
    pub peers: Vec<(PeerId, Vec<Multiaddr>)>,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Remote address of the oldest connection, without the peer ID.
    pub addr: Multiaddr,
    /// Who opened that connection.
    pub direction: Direction,
    /// Last round trip of a ping.
    pub latency: Option<Duration>,
    /// Agent version that the peer told; empty until then.
    pub agent: String,
    /// Protocols that the peer told.
    pub protocols: Vec<String>,
    /// Public key that the peer told.
    pub public_key: Option<PublicKey>,
    /// Protocols of the streams that are open, each as often as it is.
    pub streams: Vec<String>,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The other side.
    Inbound,
    /// We.
    Outbound,
}

/// What the swarm counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections opened, in both directions.
    pub connections_opened_total: u64,
    /// Connections closed.
    pub connections_closed_total: u64,
    /// Connections that others opened and that are open now.
    pub inbound_open_count: usize,
    /// Connections that this node opened and that are open now.
    pub outbound_open_count: usize,
    /// Peers connected now.
    pub peers_connected_count: usize,
    /// Inbound connections that failed or were refused.
    pub inbound_failed_total: u64,
    /// Dials that failed.
    pub outbound_failed_total: u64,
    /// Questions asked to the DHTs.
    pub queries_total: u64,
    /// Questions under way now.
    pub queries_running_count: usize,
    /// Provider records of others stored.
    pub records_stored_total: u64,
    /// Records of others refused.
    pub records_refused_total: u64,
}

/// What the local node is reached by: addresses without its peer ID, and names of protocols.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Local {
    listen: Vec<Multiaddr>,
    external: Vec<Multiaddr>,
    reached: Vec<Multiaddr>,
    unreachable: Vec<Multiaddr>,
    protocols: Vec<String>,
}

/// What a [`Handle`] asks of the swarm.
#[derive(Debug)]
enum Command {
    Connect { peer: PeerId, addrs: Vec<Multiaddr>, reply: oneshot::Sender<Result<(), Error>> },
    Disconnect { peer: PeerId, reply: oneshot::Sender<Result<(), Error>> },
    Peers { reply: oneshot::Sender<Vec<PeerInfo>> },
    KnownAddrs { reply: oneshot::Sender<Vec<(PeerId, Vec<Multiaddr>)>> },
    Counters { reply: oneshot::Sender<Counters> },
    Tables { reply: oneshot::Sender<Vec<Table>> },
    Peering(Peering),
    Ping { peer: PeerId, reply: oneshot::Sender<Result<Duration, Error>> },
}

/// What a [`Handle`] asks about the peers to stay connected to.
#[derive(Debug)]
enum Peering {
    Add { peer: PeerId, addrs: Vec<Multiaddr>, reply: oneshot::Sender<Result<(), Error>> },
    Remove { peer: PeerId, reply: oneshot::Sender<()> },
    List { reply: oneshot::Sender<Vec<(PeerId, Vec<Multiaddr>)>> },
}

/// Starts a swarm as a task of `tasks` and returns once it listens.
///
/// # Errors
/// [`Kind::Unavailable`] when an address is in use or none can be listened on, [`Kind::Invalid`] for a DHT protocol that
/// does not start with `/`.
///
/// # Cancellation
/// Dropping the future stops the swarm.
pub async fn start<R: RecordStore + Send + 'static>(
    settings: &SwarmSettings,
    components: Components<R>,
    tasks: &Tasks,
) -> Result<Handle, Error> {
    let local_peer_id = components.identity.public().to_peer_id();
    let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
    let (queries, query_queue) = mpsc::channel(QUERY_QUEUE);
    let (local_sender, local) = watch::channel(Local::default());
    let (reachability_sender, reachability) = watch::channel(Reachability::default());
    let (identity, transports) = (components.identity.clone(), components.transports);
    let saved = components.saved.clone();
    let shared = Shared {
        traffic: traffic::Traffic::new(settings.bandwidth),
        filters: filters::Filters::new(settings.refused.clone()),
        max_count: settings.connections.max_count,
    };
    let nat::Parts { ports, transport: relays, nat } = nat::Nat::with_transport(&settings.reach, &identity);
    let transport = transport::build(&identity, transports, settings, &shared, relays)?;
    let streams = libp2p_stream::Behaviour::new();
    let wire = Wire::new(streams.new_control(), settings)?;
    let behaviour = behaviour::Behaviour::new(settings, components, &shared, nat, &wire, streams);
    let swarm = transport::swarm(transport, behaviour, local_peer_id, tasks);
    let queues = task::Queues {
        commands: command_queue,
        queries: query_queue,
        local: local_sender,
        reachability: reachability_sender,
    };
    let mut task = task::Task::new(swarm, settings, queues, shared.traffic.clone(), tasks.stopping().clone());
    task.restore(saved);
    task.listen(&settings.listen).await?;
    tasks.spawn("swarm", task.run());
    if let Some(ports) = ports {
        let listen = local.borrow().listen.clone();
        tasks.spawn("router", ports.run(listen, tasks.stopping().clone()));
    }
    Ok(Handle { local_peer_id, commands, queries, local, reachability, shared, wire })
}

impl Handle {
    /// Peer ID of this node.
    pub fn local_peer_id(&self) -> PeerId {
        self.local_peer_id
    }

    /// Addresses that the node listens on, without the peer ID. A wildcard stands as one address per interface.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.local.borrow().listen.clone()
    }

    /// Addresses under which others are told to reach this node, without the peer ID.
    pub fn external_addrs(&self) -> Vec<Multiaddr> {
        self.local.borrow().external.clone()
    }

    /// Whether anybody can dial this node, now and whenever that changes.
    pub fn reachability(&self) -> watch::Receiver<Reachability> {
        self.reachability.clone()
    }

    /// Public addresses of this node that were dialled by others, and those that were dialled in vain.
    pub fn tested_addrs(&self) -> (Vec<Multiaddr>, Vec<Multiaddr>) {
        let local = self.local.borrow();
        (local.reached.clone(), local.unreachable.clone())
    }

    /// Names of the protocols that peers may speak to this node, sorted.
    pub fn protocols(&self) -> Vec<String> {
        self.local.borrow().protocols.clone()
    }

    /// The connected peers.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, Error> {
        let mut peers = self.ask(|reply| Command::Peers { reply }).await?;
        for info in &mut peers {
            info.streams = self.shared.traffic.streams(&info.peer);
        }
        Ok(peers)
    }

    /// Addresses of the peers met lately, connected or not.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn known_addrs(&self) -> Result<Vec<(PeerId, Vec<Multiaddr>)>, Error> {
        self.ask(|reply| Command::KnownAddrs { reply }).await
    }

    /// The routing tables of the DHTs that the node takes part in.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn tables(&self) -> Result<Vec<Table>, Error> {
        self.ask(|reply| Command::Tables { reply }).await
    }

    /// What the swarm counted since its start.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn counters(&self) -> Result<Counters, Error> {
        self.ask(|reply| Command::Counters { reply }).await
    }

    /// Connects to a peer at the given addresses, or, without any, at those known of it. Is done at once if it is connected.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without any address, [`Kind::Invalid`] when another peer answers or the peer is this node,
    /// [`Kind::Unavailable`] with what each address said, [`Kind::Timeout`] after [`CONNECT_TIMEOUT`], [`Kind::Closed`].
    ///
    /// # Cancellation
    /// Cancel-safe: the attempt goes on.
    pub async fn connect(&self, peer: PeerId, addrs: Vec<Multiaddr>) -> Result<(), Error> {
        let attempt = self.ask(|reply| Command::Connect { peer, addrs, reply });
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(result) => result?,
            Err(_) => {
                let waited_s = CONNECT_TIMEOUT.as_secs();
                Err(Error::new(
                    Kind::Timeout,
                    format!("peer did not answer in time, peer={peer} waited_s={waited_s}"),
                ))
            }
        }
    }

    /// Closes every connection to a peer.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is not connected, [`Kind::Closed`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), Error> {
        self.ask(|reply| Command::Disconnect { peer, reply }).await?
    }

    /// Measures the way to a peer that is connected and back.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is not connected, [`Kind::Unavailable`] when it does not answer as it should,
    /// [`Kind::Timeout`] after [`PING_TIMEOUT`], [`Kind::Closed`].
    pub async fn ping(&self, peer: PeerId) -> Result<Duration, Error> {
        let pong = self.ask(|reply| Command::Ping { peer, reply });
        match tokio::time::timeout(PING_TIMEOUT, pong).await {
            Ok(result) => result?,
            Err(_) => Err(Error::new(Kind::Timeout, format!("no answer to a ping in time, peer={peer}"))),
        }
    }

    /// Connections above which inbound ones are refused; `u32::MAX` for no limit.
    pub fn max_connection_count(&self) -> u32 {
        self.shared.max_count
    }

    /// Connections above which this node opens none; `u32::MAX` for no limit.
    pub fn max_outbound_count(&self) -> u32 {
        gate::max_outbound_count(self.shared.max_count)
    }

    /// Networks that are neither dialled nor let in.
    pub fn filters(&self) -> Vec<IpNet> {
        self.shared.filters.list()
    }

    /// Neither dials nor lets in these networks from now on, until the node stops. Open connections stay.
    pub fn set_filters(&self, networks: Vec<IpNet>) {
        self.shared.filters.set(networks);
    }

    /// What went over all connections.
    pub fn flow(&self) -> Flow {
        self.shared.traffic.total()
    }

    /// What was exchanged with a peer that is connected.
    pub fn flow_of_peer(&self, peer: &PeerId) -> Option<Flow> {
        self.shared.traffic.of_peer(peer)
    }

    /// What went over streams of a protocol, if there were any.
    pub fn flow_of_protocol(&self, protocol: &str) -> Option<Flow> {
        self.shared.traffic.of_protocol(protocol)
    }

    /// What went over streams of each protocol. Those that peers name besides ours are bounded, and then counted as one.
    pub fn flows(&self) -> Vec<(String, Flow)> {
        self.shared.traffic.protocols()
    }

    /// Streams that are open.
    pub fn stream_count(&self) -> usize {
        self.shared.traffic.stream_count()
    }

    /// Stays connected to a peer from now on, until the node stops: dials it with a backoff whenever it is not connected.
    /// Addresses of a peer that is known already are replaced.
    ///
    /// # Errors
    /// [`Kind::Full`] when there are too many such peers, [`Kind::Closed`].
    pub async fn add_peering(&self, peer: PeerId, addrs: Vec<Multiaddr>) -> Result<(), Error> {
        self.ask(|reply| Command::Peering(Peering::Add { peer, addrs, reply })).await?
    }

    /// Lets a peer go that was stayed connected to. Its connections stay while they are of use.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn remove_peering(&self, peer: PeerId) -> Result<(), Error> {
        self.ask(|reply| Command::Peering(Peering::Remove { peer, reply })).await
    }

    /// The peers to stay connected to, and their addresses.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub async fn peering(&self) -> Result<Vec<(PeerId, Vec<Multiaddr>)>, Error> {
        self.ask(|reply| Command::Peering(Peering::List { reply })).await
    }

    /// Asks a DHT; waits while too many questions are under way.
    pub(crate) async fn query(&self, query: Query) -> Result<(), Error> {
        self.queries.send(query).await.map_err(|_| closed())
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}

fn closed() -> Error {
    Error::closed("the swarm")
}
