//! Nodes in one process, each with its own swarm; and peers that speak the wire by hand, well or badly.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::bitswap::message::{Message, Outgoing, Presence, Version, WantEntry, WantKind};
use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, DAG_PB, HashFunction, Multihash, RAW};
use cairn_proto::limits::MAX_MESSAGE_BYTES;
use futures::stream::{self, BoxStream, StreamExt as _};
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::Stream;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::http::{Addresses, Client, ClientOptions};
use super::ports::{Blocks, Peers};
use super::*;
use crate::swarm::bitswap::{self, Change, Inbound, KeepAlive, Opener, frame};
use crate::swarm::{self, Components, Transports, testing};

/// Longest wait for something that should happen soon.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct MemoryBlocks(Mutex<HashMap<Multihash, Block>>);

impl MemoryBlocks {
    fn put(&self, blocks: &[Block]) {
        self.0.lock().unwrap().extend(blocks.iter().map(|block| (*block.multihash(), block.clone())));
    }
}

impl Blocks for MemoryBlocks {
    fn lengths(&self, blocks: &[Multihash]) -> Vec<Option<usize>> {
        let here = self.0.lock().unwrap();
        blocks.iter().map(|hash| here.get(hash).map(|block| block.data().len())).collect()
    }

    fn read(&self, cids: &[Cid]) -> Vec<Option<Block>> {
        let here = self.0.lock().unwrap();
        cids.iter().map(|cid| here.get(cid.hash())?.clone().with_cid(*cid)).collect()
    }
}

/// Providers that a test names.
struct NamedPeers {
    swarm: swarm::Handle,
    providers: Vec<(PeerId, Vec<Multiaddr>)>,
}

impl Peers for NamedPeers {
    fn find(&self, _: Multihash, limit: usize) -> BoxStream<'static, (PeerId, Vec<Multiaddr>)> {
        stream::iter(self.providers.clone()).take(limit).boxed()
    }

    fn connect(
        &self,
        peer: PeerId,
        addrs: Vec<Multiaddr>,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let swarm = self.swarm.clone();
        Box::pin(async move { swarm.connect(peer, addrs).await })
    }
}

async fn start_swarm() -> (swarm::Handle, Wire, Tasks) {
    start_swarm_up_to(Version::V1_2).await
}

async fn start_swarm_up_to(version: Version) -> (swarm::Handle, Wire, Tasks) {
    let (identity, tasks) = (Keypair::generate_ed25519(), Tasks::new("test"));
    let (behaviour, wire) = bitswap::up_to(version);
    let records = || MemoryStore::new(identity.public().to_peer_id());
    let components = Components {
        saved: Vec::new(),
        wan_records: records(),
        lan_records: records(),
        bitswap: Some(behaviour),
        transports: Transports::Memory,
        identity,
    };
    let swarm = swarm::start(&testing::settings(&["/memory/0"]), components, &tasks).await.unwrap();
    (swarm, wire, tasks)
}

/// A node with an exchange.
struct Node {
    swarm: swarm::Handle,
    blocks: Arc<MemoryBlocks>,
    exchange: Handle,
    _tasks: Tasks,
}

impl Node {
    async fn start() -> Self {
        Self::with_providers(Vec::new()).await
    }

    async fn with_providers(providers: Vec<(PeerId, Vec<Multiaddr>)>) -> Self {
        Self::with_retrieval(providers, None).await
    }

    async fn with_retrieval(
        providers: Vec<(PeerId, Vec<Multiaddr>)>,
        retrieval: Option<(Client, RetrievalRules)>,
    ) -> Self {
        let (swarm, wire, tasks) = start_swarm().await;
        let blocks = Arc::<MemoryBlocks>::default();
        let peers = NamedPeers { swarm: swarm.clone(), providers };
        let exchange =
            super::start(wire, blocks.clone(), Arc::new(peers), Options { serves: true, retrieval }, &tasks);
        Self { swarm, blocks, exchange, _tasks: tasks }
    }

    async fn connect(&self, other: &swarm::Handle) {
        self.swarm.connect(other.local_peer_id(), other.listen_addrs()).await.unwrap();
    }

    async fn fetch(&self, blocks: &[Block]) -> Vec<Block> {
        let mut session = self.exchange.session();
        session.want(blocks.iter().map(|block| *block.cid()).collect()).await.unwrap();
        receive_all(&mut session).await
    }
}

async fn receive_all(session: &mut Session) -> Vec<Block> {
    let mut received = Vec::new();
    while let Some(block) = in_time(session.recv()).await {
        received.push(block.unwrap());
    }
    received
}

/// A peer whose messages are written and read by the test.
struct Puppet {
    version: Version,
    swarm: swarm::Handle,
    wire: Wire,
    inbound: Option<mpsc::Receiver<Inbound>>,
    opener: Option<(Opener, KeepAlive)>,
    reading: Option<Stream>,
    writing: Option<Stream>,
    _tasks: Tasks,
}

impl Puppet {
    async fn connected_to(node: &Node) -> Self {
        Self::of_version(Version::V1_2, node).await
    }

    async fn of_version(version: Version, node: &Node) -> Self {
        let (swarm, mut wire, _tasks) = start_swarm_up_to(version).await;
        node.connect(&swarm).await;
        let Some(Change::Connected(link)) = in_time(wire.changes()).await.pop() else {
            panic!("not connected")
        };
        let (inbound, opener) = link.split();
        let keep_alive = opener.keep_alive();
        let (inbound, opener) = (Some(inbound), Some((opener, keep_alive)));
        Self { version, swarm, wire, inbound, opener, reading: None, writing: None, _tasks }
    }

    async fn write(&mut self, frames: &[Bytes]) {
        if self.writing.is_none() {
            let (opener, _) = self.opener.as_ref().unwrap();
            let (version, stream) = in_time(opener.open()).await.unwrap();
            assert_eq!(version, self.version);
            self.writing = Some(stream);
        }
        in_time(frame::write(self.writing.as_mut().unwrap(), frames)).await.unwrap();
    }

    async fn send(&mut self, message: Outgoing) {
        self.write(&message.encode(self.version)).await;
    }

    async fn read(&mut self) -> Message {
        if self.reading.is_none() {
            let inbound = self.inbound.as_mut().unwrap();
            self.reading = Some(in_time(inbound.recv()).await.unwrap().1);
        }
        let stream = self.reading.as_mut().unwrap();
        let len_bytes = in_time(frame::read_len(stream)).await.unwrap().unwrap();
        Message::decode(in_time(frame::read_body(stream, len_bytes, |_| ())).await.unwrap()).unwrap()
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("not in time")
}

fn block(number: usize, len_bytes: usize) -> Block {
    let mut data = vec![7; len_bytes.max(8)];
    data[..8].copy_from_slice(&number.to_be_bytes());
    Block::hash(cairn_proto::cid::Version::V1, RAW, HashFunction::Sha2_256, data.into()).unwrap()
}

fn want(block: &Block, kind: WantKind) -> Outgoing {
    let want = WantEntry::Want { cid: *block.cid(), priority: 1, kind, send_dont_have: true };
    Outgoing { entries: vec![want], ..Outgoing::default() }
}

fn sorted(mut blocks: Vec<Block>) -> Vec<Block> {
    blocks.sort_unstable_by_key(|block| *block.cid());
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_every_size_come_from_a_connected_peer() {
    let (asker, server) = (Node::start().await, Node::start().await);
    let blocks: Vec<_> =
        (0..1500).map(|number| block(number, [10, 1000, 2000, 40_000, 300_000][number % 5])).collect();
    server.blocks.put(&blocks);
    asker.connect(&server.swarm).await;
    assert_eq!(sorted(asker.fetch(&blocks).await), sorted(blocks.clone()));

    let stat = asker.exchange.stat().await.unwrap();
    assert_eq!((stat.blocks_received, stat.dup_blocks_received), (1500, 0));
    assert_eq!(stat.data_received, blocks.iter().map(|block| block.data().len() as u64).sum::<u64>());
    assert_eq!(stat.wantlist, []);
    assert_eq!(stat.peers, [server.swarm.local_peer_id()]);
    assert_eq!(server.exchange.stat().await.unwrap().blocks_sent, 1500);
}

#[tokio::test]
async fn providers_are_searched_and_connected_to_when_no_peer_is_there() {
    let server = Node::start().await;
    let provider = (server.swarm.local_peer_id(), server.swarm.listen_addrs());
    let asker = Node::with_providers(vec![provider]).await;
    let blocks = [block(1, 100)];
    server.blocks.put(&blocks);
    assert_eq!(asker.fetch(&blocks).await, blocks);
}

#[tokio::test]
async fn a_named_provider_is_asked_even_before_it_is_connected() {
    let (asker, server) = (Node::start().await, Node::start().await);
    let provider = server.swarm.local_peer_id();
    asker.connect(&server.swarm).await;
    asker.swarm.disconnect(provider).await.unwrap();
    let blocks = [block(1, 100)];
    server.blocks.put(&blocks);
    let mut session = asker.exchange.session();
    session.want(vec![*blocks[0].cid()]).await.unwrap();
    session.add_provider(provider).await.unwrap();
    assert_eq!(receive_all(&mut session).await, blocks);
}

#[tokio::test]
async fn a_peer_that_served_a_session_and_left_is_reached_again() {
    let (asker, server) = (Node::start().await, Node::start().await);
    let provider = server.swarm.local_peer_id();
    let blocks = [block(1, 100), block(2, 100)];
    server.blocks.put(&blocks);
    asker.connect(&server.swarm).await;
    let mut session = asker.exchange.session();
    session.want(vec![*blocks[0].cid()]).await.unwrap();
    assert_eq!(receive_all(&mut session).await, blocks[..1]);
    asker.swarm.disconnect(provider).await.unwrap();
    session.want(vec![*blocks[1].cid()]).await.unwrap();
    assert_eq!(receive_all(&mut session).await, blocks[1..]);
}

#[tokio::test]
async fn a_peer_that_waits_gets_a_block_when_it_comes_into_the_store() {
    let node = Node::start().await;
    let (mut peer, awaited) = (Puppet::connected_to(&node).await, block(1, 5000));
    peer.send(want(&awaited, WantKind::Block)).await;
    let absent: Vec<_> = peer.read().await.presences().collect();
    assert_eq!(absent, [(*awaited.cid(), Presence::DontHave)]);

    node.blocks.put(std::slice::from_ref(&awaited));
    node.exchange.new_blocks(&[*awaited.cid()]).await.unwrap();
    let payload = peer.read().await.take_payloads().remove(0);
    assert_eq!(payload.hash().unwrap(), awaited);
}

#[tokio::test]
async fn a_session_that_waits_gets_a_block_when_it_comes_into_the_store() {
    let (node, awaited) = (Node::start().await, block(1, 5000));
    let mut session = node.exchange.session();
    session.want(vec![*awaited.cid()]).await.unwrap();
    node.blocks.put(std::slice::from_ref(&awaited));
    node.exchange.new_blocks(&[*awaited.cid()]).await.unwrap();
    assert_eq!(receive_all(&mut session).await, [awaited]);
}

#[tokio::test]
async fn presence_is_answered_without_the_block() {
    let node = Node::start().await;
    let (mut peer, here) = (Puppet::connected_to(&node).await, block(1, 5000));
    node.blocks.put(std::slice::from_ref(&here));
    peer.send(want(&here, WantKind::Have)).await;
    let mut answer = peer.read().await;
    assert_eq!(answer.presences().collect::<Vec<_>>(), [(*here.cid(), Presence::Have)]);
    assert!(answer.take_payloads().is_empty());
}

#[tokio::test]
async fn a_dropped_session_takes_its_wants_back() {
    let node = Node::start().await;
    let mut peer = Puppet::connected_to(&node).await;
    let cid = *block(1, 100).cid();
    let mut session = node.exchange.session();
    session.want(vec![cid]).await.unwrap();
    assert_eq!(peer.read().await.entries().count(), 1);
    drop(session);
    assert_eq!(peer.read().await.entries().collect::<Vec<_>>(), [WantEntry::Cancel(cid)]);
    assert_eq!(node.exchange.stat().await.unwrap().wantlist, []);
}

#[tokio::test]
async fn blocks_that_nobody_asked_for_go_nowhere_and_wanted_ones_still_arrive() {
    let node = Node::start().await;
    let (mut peer, wanted) = (Puppet::connected_to(&node).await, block(1, 100));
    let mut session = node.exchange.session();
    session.want(vec![*wanted.cid()]).await.unwrap();
    peer.read().await;
    let blocks = vec![block(2, 50_000), block(3, 100), wanted.clone()];
    peer.send(Outgoing { blocks, ..Outgoing::default() }).await;
    assert_eq!(receive_all(&mut session).await, std::slice::from_ref(&wanted));
    let stat = node.exchange.stat().await.unwrap();
    assert_eq!((stat.blocks_received, stat.dup_blocks_received), (3, 2));

    // Nothing is asked of the peer any more: its blocks are not hashed, but counted.
    let blocks = vec![block(4, 100)];
    peer.send(Outgoing { blocks, ..want(&wanted, WantKind::Block) }).await;
    peer.read().await;
    let stat = node.exchange.stat().await.unwrap();
    assert_eq!((stat.blocks_received, stat.dup_blocks_received), (4, 3));
}

#[tokio::test]
async fn a_stream_that_announces_too_much_or_speaks_nonsense_is_reset_and_the_next_one_is_heard() {
    let node = Node::start().await;
    let (mut peer, here) = (Puppet::connected_to(&node).await, block(1, 5000));
    node.blocks.put(std::slice::from_ref(&here));
    let mut too_long = bytes::BytesMut::new();
    prost::encoding::encode_varint(MAX_MESSAGE_BYTES as u64 + 1, &mut too_long);
    for nonsense in [too_long.freeze(), Bytes::from_static(&[3, 0xff, 0xff, 0xff])] {
        peer.write(&[nonsense]).await;
        let stream = peer.writing.as_mut().unwrap();
        let mut end = [0];
        // The other side drops the stream: it ends or fails here.
        let ended = in_time(futures::AsyncReadExt::read(stream, &mut end)).await;
        assert!(matches!(ended, Ok(0) | Err(_)));
        peer.writing = None;
    }
    peer.send(want(&here, WantKind::Block)).await;
    assert_eq!(peer.read().await.take_payloads().remove(0).hash().unwrap(), here);
}

#[tokio::test]
async fn more_wants_than_a_session_may_have_are_refused() {
    let node = Node::start().await;
    let mut session = node.exchange.session();
    let cids: Vec<_> = (0..=MAX_SESSION_WANTS).map(|number| *block(number, 8).cid()).collect();
    assert!(session.want(cids[1..].to_vec()).await.is_ok());
    assert_eq!(session.want(cids[..1].to_vec()).await.unwrap_err().kind(), crate::Kind::Invalid);
    session.cancel(cids[1..2].to_vec()).await.unwrap();
    assert!(session.want(cids[..1].to_vec()).await.is_ok());
}

#[tokio::test]
async fn a_peer_that_leaves_is_forgotten() {
    let node = Node::start().await;
    let mut peer = Puppet::connected_to(&node).await;
    peer.send(want(&block(1, 100), WantKind::Block)).await;
    peer.read().await;
    peer.swarm.disconnect(node.swarm.local_peer_id()).await.unwrap();
    assert!(matches!(in_time(peer.wire.changes()).await[..], [Change::Disconnected(_)]));
    testing::soon("the exchange hears of it", || async {
        node.exchange.stat().await.unwrap().peers.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn peers_of_old_versions_are_asked_for_blocks_only_and_answered_in_their_words() {
    for version in [Version::V1_1, Version::V1_0] {
        let node = Node::start().await;
        let mut peer = Puppet::of_version(version, &node).await;
        // A second peer, so that a want would be for a presence first.
        let _other = Puppet::connected_to(&node).await;
        let function = HashFunction::Sha2_256;
        let dag_pb =
            |text| Block::hash(cairn_proto::cid::Version::V0, DAG_PB, function, Bytes::from_static(text));
        let (wanted, here) = (dag_pb(b"wanted").unwrap(), dag_pb(b"here").unwrap());
        node.blocks.put(std::slice::from_ref(&here));

        let mut session = node.exchange.session();
        session.want(vec![*wanted.cid()]).await.unwrap();
        let mut entries = Vec::new();
        while entries.is_empty() {
            entries.extend(peer.read().await.entries());
        }
        let [WantEntry::Want { cid, kind: WantKind::Block, send_dont_have: false, .. }] = entries[..] else {
            panic!("{entries:?}")
        };
        assert_eq!(cid, *wanted.cid());
        peer.send(Outgoing { blocks: vec![wanted.clone()], ..Outgoing::default() }).await;
        assert_eq!(receive_all(&mut session).await, [wanted]);

        peer.send(want(&here, WantKind::Block)).await;
        let payload = peer.read().await.take_payloads().remove(0);
        assert_eq!(payload.hash().unwrap(), here);
    }
}

#[tokio::test]
async fn a_session_knows_who_served_it() {
    let (here, there) = (Node::start().await, Node::start().await);
    here.connect(&there.swarm).await;
    let (local, remote) = (block(1, 100), block(2, 100));
    there.blocks.put(std::slice::from_ref(&remote));
    let mut session = here.exchange.session();
    session.want(vec![*local.cid()]).await.unwrap();
    here.blocks.put(std::slice::from_ref(&local));
    here.exchange.new_blocks(&[*local.cid()]).await.unwrap();
    receive_all(&mut session).await;
    assert!(session.providers().is_empty());
    session.want(vec![*remote.cid()]).await.unwrap();
    receive_all(&mut session).await;
    assert_eq!(session.providers(), [there.swarm.local_peer_id()]);
}

/// A gateway that answers for one block with the content of another, or its own; and what it takes to ask it.
struct TestGateway {
    server: super::http::tests::Server,
    client: Client,
    provider: (PeerId, Vec<Multiaddr>),
    _roots: tempfile::TempDir,
}

impl TestGateway {
    async fn start(asked: &Block, given: &Block) -> Self {
        use super::http::tests::{Server, body, status};

        let (cid, content) = (*asked.cid(), given.data().clone());
        let (server, certificate) = Server::over_tls(move |request| {
            let is_it = request.uri().path() == format!("/ipfs/{cid}");
            if is_it { body(content.clone()) } else { status(404) }
        })
        .await;
        let roots = tempfile::tempdir().unwrap();
        let path = roots.path().join("roots.pem");
        std::fs::write(&path, certificate).unwrap();
        let client = Client::new(ClientOptions {
            addresses: Addresses::Any,
            timeout: testing::DEADLINE,
            roots: Some(path),
            agent: "test".to_owned(),
        });
        let addr = format!("/ip4/127.0.0.1/tcp/{}/tls/http", server.port()).parse().unwrap();
        let provider = (PeerId::random(), vec![addr]);
        Self { server, client: client.unwrap(), provider, _roots: roots }
    }

    fn rules(&self, denied: &[&str]) -> Option<(Client, RetrievalRules)> {
        let denied = denied.iter().map(|&host| host.to_owned()).collect();
        Some((self.client.clone(), RetrievalRules { denied, ..RetrievalRules::default() }))
    }
}

#[tokio::test]
async fn a_gateway_that_is_a_provider_is_asked_over_http() {
    let block = block(1, 100);
    let gateway = TestGateway::start(&block, &block).await;
    let asker = Node::with_retrieval(vec![gateway.provider.clone()], gateway.rules(&[])).await;
    assert_eq!(asker.fetch(std::slice::from_ref(&block)).await, [block]);
    assert_eq!(asker.exchange.stat().await.unwrap().blocks_received, 1);
}

#[tokio::test]
async fn gateways_that_lie_or_are_denied_cost_nothing_but_a_request() {
    let (first, second) = (block(1, 100), block(2, 100));
    let honest = Node::start().await;
    honest.blocks.put(&[first.clone(), second.clone()]);
    let gateway = TestGateway::start(&first, &second).await;
    let providers =
        vec![gateway.provider.clone(), (honest.swarm.local_peer_id(), honest.swarm.listen_addrs())];
    for (denied, max_requests) in [(&["127.0.0.1"][..], 0), (&[], 4)] {
        let asker = Node::with_retrieval(providers.clone(), gateway.rules(denied)).await;
        for wanted in [&first, &second].map(std::slice::from_ref) {
            assert_eq!(asker.fetch(wanted).await, wanted);
        }
        assert!(gateway.server.request_count() <= max_requests, "{denied:?}");
    }
}
