//! A DHT of servers that answer from what they all know together, and count what they are asked.
//!
//! They speak libp2p over TCP on loopback (Noise, yamux, identify, Kademlia), but keep no record, so that what a run costs
//! is the sweep's.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cairn_node::swarm::bitswap::frame;
use cairn_proto::sweep::{Key, REPLICATION, closest};
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use libp2p::core::Transport as _;
use libp2p::core::muxing::{StreamMuxer as _, StreamMuxerBox, SubstreamBox};
use libp2p::core::transport::{Boxed, ListenerId, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, noise, tcp, yamux};
use multistream_select::listener_select_proto;

/// DHT of local networks, which both contestants speak on loopback.
const KAD: &str = "/ipfs/lan/kad/1.0.0";
const IDENTIFY: &str = "/ipfs/id/1.0.0";
/// Types of Kademlia's messages. Source: <https://specs.ipfs.tech/routing/kad-dht/#message-format>.
const ADD_PROVIDER: u64 = 2;
const FIND_NODE: u64 = 4;
/// Keys whose point begins with so many zero bits are looked at more closely.
const SAMPLE_BITS: u16 = 10;

/// The servers.
pub(super) struct Servers {
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Shared {
    peers: OnceLock<HashMap<Key, Peer>>,
    find_node_count: AtomicU64,
    record_count: AtomicU64,
    /// Who was given the records of some keys.
    sample: Mutex<HashMap<Bytes, Vec<Key>>>,
}

struct Peer {
    id: PeerId,
    addr: Multiaddr,
}

impl Servers {
    /// Starts so many servers.
    pub(super) fn start(count: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let shared = Arc::new(Shared::default());
        let starting = async {
            let mut peers = HashMap::new();
            for _ in 0..count {
                let identity = Keypair::generate_ed25519();
                let id = identity.public().to_peer_id();
                let mut transport = transport(&identity)?;
                transport.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse()?)?;
                let addr = loop {
                    let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
                    if let TransportEvent::NewAddress { listen_addr, .. } = event {
                        break listen_addr;
                    }
                };
                let server = Server { identity, key: Key::of(&id.to_bytes()), addr: addr.clone() };
                peers.insert(server.key, Peer { id, addr });
                tokio::spawn(Arc::new(server).accept(transport, Arc::clone(&shared)));
            }
            anyhow::Ok(peers)
        };
        let peers = runtime.block_on(starting)?;
        shared.peers.set(peers).ok().context("set once")?;
        Ok(Self { shared, _runtime: runtime })
    }

    /// Address of one of them, with its peer ID.
    pub(super) fn any_addr(&self) -> Result<String> {
        let peer = self.shared.peers().values().next().context("there are servers")?;
        Ok(format!("{}/p2p/{}", peer.addr, peer.id))
    }

    /// Questions for the closest peers so far.
    pub(super) fn find_node_count(&self) -> u64 {
        self.shared.find_node_count.load(Ordering::Relaxed)
    }

    /// Records given so far.
    pub(super) fn record_count(&self) -> u64 {
        self.shared.record_count.load(Ordering::Relaxed)
    }

    /// Keys looked at more closely, and how many of the right peers have their records, on average.
    pub(super) fn right_holders(&self) -> (usize, f64) {
        let sample = self.shared.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let right_count = |(multihash, holders): (&Bytes, &Vec<Key>)| {
            let right = closest(&Key::of(multihash), self.shared.peers().keys().copied(), REPLICATION);
            right.iter().filter(|peer| holders.contains(peer)).count()
        };
        let total: usize = sample.iter().map(right_count).sum();
        (sample.len(), total as f64 / sample.len().max(1) as f64)
    }
}

impl Shared {
    fn peers(&self) -> &HashMap<Key, Peer> {
        self.peers.get().expect("set before anybody knows an address")
    }

    /// The answer to a question for the peers closest to some bytes.
    fn closer_peers(&self, target: &[u8]) -> Vec<u8> {
        let peers = self.peers();
        let mut answer = vec![0x08, 0x04];
        for key in closest(&Key::of(target), peers.keys().copied(), REPLICATION) {
            let Peer { id, addr } = &peers[&key];
            let peer = [field(1, &id.to_bytes()), field(2, &addr.to_vec())].concat();
            answer.extend(field(8, &peer));
        }
        answer
    }

    fn on_record(&self, server: Key, multihash: Bytes) {
        self.record_count.fetch_add(1, Ordering::Relaxed);
        if Key::of(&multihash).common_prefix_len(&Key::FIRST) >= SAMPLE_BITS {
            let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
            sample.entry(multihash).or_default().push(server);
        }
    }
}

struct Server {
    identity: Keypair,
    key: Key,
    addr: Multiaddr,
}

impl Server {
    async fn accept(self: Arc<Self>, mut transport: Boxed<(PeerId, StreamMuxerBox)>, shared: Arc<Shared>) {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
            let TransportEvent::Incoming { upgrade, .. } = event else { continue };
            let (server, shared) = (Arc::clone(&self), Arc::clone(&shared));
            tokio::spawn(async move {
                let Ok((_, muxer)) = upgrade.await else { return };
                server.serve(muxer, &shared).await;
            });
        }
    }

    async fn serve(self: Arc<Self>, mut muxer: StreamMuxerBox, shared: &Arc<Shared>) {
        loop {
            let inbound = poll_fn(|cx| {
                // Drives the connection; what it reports is of no interest, its end is seen below.
                let _ = Pin::new(&mut muxer).poll(cx);
                Pin::new(&mut muxer).poll_inbound(cx)
            });
            let Ok(stream) = inbound.await else { return };
            let (server, shared) = (Arc::clone(&self), Arc::clone(shared));
            // A peer that goes away ends its streams; nobody waits for them.
            tokio::spawn(async move { server.answer(stream, &shared).await });
        }
    }

    async fn answer(&self, stream: SubstreamBox, shared: &Shared) -> Result<()> {
        let (protocol, mut stream) = listener_select_proto(stream, [IDENTIFY, KAD]).await?;
        if protocol == IDENTIFY {
            frame::write(&mut stream, &[framed(&self.identity())]).await?;
            return Ok(stream.close().await?);
        }
        let (reader, mut writer) = stream.split();
        let mut reader = BufReader::with_capacity(64 * 1024, reader);
        while let Some(message) = read(&mut reader).await? {
            let (kind, key) = parse(&message).context("a message of Kademlia")?;
            match kind {
                ADD_PROVIDER => shared.on_record(self.key, message.slice_ref(key)),
                FIND_NODE => {
                    shared.find_node_count.fetch_add(1, Ordering::Relaxed);
                    reply(&mut writer, &shared.closer_peers(key)).await?;
                }
                // No value and no provider is known here.
                _ => reply(&mut writer, &[field_number(1, kind), shared.closer_peers(key)].concat()).await?,
            }
        }
        Ok(writer.close().await?)
    }

    /// Source: <https://github.com/libp2p/specs/blob/master/identify/README.md>.
    fn identity(&self) -> Vec<u8> {
        [
            field(1, &self.identity.public().encode_protobuf()),
            field(2, &self.addr.to_vec()),
            field(3, KAD.as_bytes()),
            field(3, IDENTIFY.as_bytes()),
            field(5, b"ipfs/0.1.0"),
            field(6, b"cairn-bench/dht"),
        ]
        .concat()
    }
}

fn transport(identity: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(identity)?)
        .multiplex(yamux::Config::default());
    Ok(transport.boxed())
}

async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>> {
    let Some(len_bytes) = frame::read_len(reader).await? else { return Ok(None) };
    let mut message = vec![0; len_bytes];
    reader.read_exact(&mut message).await?;
    Ok(Some(message.into()))
}

async fn reply(writer: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    writer.write_all(&framed(message)).await?;
    writer.flush().await
}

/// Type and key of a message.
fn parse(mut message: &[u8]) -> Option<(u64, &[u8])> {
    let (mut kind, mut key) = (0, [].as_slice());
    while !message.is_empty() {
        let (tag, rest) = unsigned_varint::decode::u64(message).ok()?;
        let (value, rest) = unsigned_varint::decode::u64(rest).ok()?;
        message = rest;
        if tag & 7 == 2 {
            let (bytes, rest) = rest.split_at_checked(usize::try_from(value).ok()?)?;
            message = rest;
            if tag >> 3 == 2 {
                key = bytes;
            }
        } else if tag >> 3 == 1 {
            kind = value;
        }
    }
    Some((kind, key))
}

fn framed(message: &[u8]) -> Bytes {
    [varint(message.len() as u64).as_slice(), message].concat().into()
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2).as_slice(), &varint(bytes.len() as u64), bytes].concat()
}

fn field_number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(number: u64) -> Vec<u8> {
    unsigned_varint::encode::u64(number, &mut unsigned_varint::encode::u64_buffer()).to_vec()
}
