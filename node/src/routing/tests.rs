//! Nodes that find each other's content through a DHT of their own, in memory.

use std::sync::Arc;

use cairn_proto::cid::{HashFunction, Multihash};
use cairn_proto::ipns::Name;
use futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::{NetworkBehaviour, StreamProtocol};
use libp2p::{Multiaddr, PeerId, SwarmBuilder, identify, kad, noise, tcp, yamux};
use tokio::net::TcpListener;

use super::records::{Backing, MemoryBacking};
use super::{Provider, saved};
use crate::Kind;
use crate::settings::DhtMode;
use crate::swarm::testing::{DEADLINE, Node, settings, soon};

fn key(text: &str) -> Multihash {
    HashFunction::Sha2_256.multihash(text.as_bytes())
}

/// Two nodes that know only a third, which answers the DHT.
async fn two_around_a_server() -> (Node, Node, Node) {
    let client = || async {
        let mut settings = settings(&["/memory/0"]);
        settings.dht = DhtMode::Client;
        Node::start(settings).await
    };
    let (server, one, other) = (Node::in_memory().await, client().await, client().await);
    one.connect(&server).await;
    other.connect(&server).await;
    (server, one, other)
}

async fn find(node: &Node, key: Multihash) -> Vec<Provider> {
    node.routing.find_providers(key, 10).collect().await
}

#[tokio::test]
async fn a_record_that_one_node_tells_another_finds_at_a_third() {
    let (_server, one, other) = two_around_a_server().await;
    let key = Keypair::generate_ed25519();
    let name = Name::parse(&key.public().to_peer_id().to_string()).unwrap();
    let record = crate::names::tests::record(&key, "/ipns/example.com", 1, 9999);
    let value = record.to_vec();
    soon("record taken", || async { one.routing.put_value(name.routing_key(), value.clone()).await.ok() })
        .await;
    let found: Vec<_> = other.routing.get_value(name.routing_key(), 4).collect().await;
    assert!(found.contains(&value), "{found:?}");
    let error = one.routing.put_value(name.routing_key(), b"no record".to_vec()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[tokio::test]
async fn what_one_node_provides_another_finds_through_a_third() {
    let (_server, one, other) = two_around_a_server().await;
    soon("announcement", || async { one.routing.provide(key("a")).await.ok() }).await;
    let found = soon("provider", || async { find(&other, key("a")).await.pop() }).await;
    assert_eq!(found, Provider { peer: one.peer(), addrs: vec![one.addr().with_p2p(one.peer()).unwrap()] });
    assert_eq!(find(&other, key("b")).await, []);
    other.swarm.connect(found.peer, found.addrs).await.unwrap();
}

#[tokio::test]
async fn a_node_alone_tells_that_it_could_not_announce_and_still_knows_what_it_has() {
    let node = Node::in_memory().await;
    let error = node.routing.provide(key("a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let own = Provider { peer: node.peer(), addrs: vec![node.addr()] };
    assert_eq!(find(&node, key("a")).await, [own]);
    assert_eq!(node.routing.bootstrap().await.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn a_node_without_a_dht_finds_nothing_at_once() {
    let mut off = settings(&["/memory/0"]);
    off.dht = DhtMode::Off;
    let node = Node::start(off).await;
    assert_eq!(find(&node, key("a")).await, []);
    assert_eq!(node.routing.provide(key("a")).await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(node.routing.find_peer(PeerId::random()).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_search_returns_no_more_than_its_limit() {
    let (server, one, other) = two_around_a_server().await;
    for node in [&one, &other] {
        soon("announcement", || async { node.routing.provide(key("a")).await.ok() }).await;
    }
    soon("both", || async { (find(&server, key("a")).await.len() == 2).then_some(()) }).await;
    for limit in [0, 1] {
        assert_eq!(server.routing.find_providers(key("a"), limit).collect::<Vec<_>>().await.len(), limit);
    }
}

#[tokio::test]
async fn a_peer_is_found_through_a_third() {
    let (server, other) = (Node::in_memory().await, Node::in_memory().await);
    let one = Node::in_memory().await;
    one.connect(&server).await;
    other.connect(&server).await;
    let addrs = soon("address", || async { one.routing.find_peer(other.peer()).await.ok() }).await;
    assert_eq!(addrs, [other.addr().with_p2p(other.peer()).unwrap()]);
    let addrs = soon("address", || async { one.routing.find_peer(server.peer()).await.ok() }).await;
    assert_eq!(addrs, [server.addr().with_p2p(server.peer()).unwrap()], "one that is connected");
}

#[tokio::test]
async fn a_node_that_starts_again_needs_no_peer_to_start_from() {
    let server = Node::in_memory().await;
    let first = Node::in_memory().await;
    first.connect(&server).await;
    let backing: Arc<dyn Backing> = Arc::new(MemoryBacking::default());
    soon("saved table", || async {
        saved::save(&first.swarm, &backing).await;
        (saved::load(&*backing).len() == 2).then_some(())
    })
    .await;
    first.tasks.shutdown(DEADLINE).await.unwrap();
    let tables = saved::load(&*backing);
    assert_eq!(tables[0].peers, [(server.peer(), vec![server.addr().with_p2p(server.peer()).unwrap()])]);
    let second = Node::restart(settings(&["/memory/0"]), tables.clone()).await.unwrap();
    soon("connection", || async {
        let peers = second.swarm.peers().await.unwrap();
        peers.iter().any(|peer| peer.peer == server.peer()).then_some(())
    })
    .await;
    let mut other = settings(&["/memory/0"]);
    other.dht_protocol = "/cairn-test/other/kad/1.0.0".to_owned();
    other.lan_dht_protocol = "/cairn-test/other/lan/kad/1.0.0".to_owned();
    let other = Node::restart(other, tables).await.unwrap();
    assert!(other.swarm.tables().await.unwrap().iter().all(|table| table.peers.is_empty()));
}

/// A DHT server that names a peer which accepts connections and then says nothing.
#[derive(NetworkBehaviour)]
struct Misleading {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

#[tokio::test]
async fn a_dropped_search_ends() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_addr: Multiaddr =
        format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port()).parse().unwrap();
    let mut server = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| {
            let local = key.public().to_peer_id();
            let config = kad::Config::new(StreamProtocol::new("/cairn-test/kad/1.0.0"));
            let mut kad = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
            kad.set_mode(Some(kad::Mode::Server));
            kad.add_address(&PeerId::random(), silent_addr);
            Misleading {
                identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())),
                kad,
            }
        })
        .unwrap()
        .build();
    server.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let server_peer = *server.local_peer_id();
    let (listening, listens) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(async move {
        let mut listening = Some(listening);
        loop {
            if let libp2p::swarm::SwarmEvent::NewListenAddr { address, .. } = server.select_next_some().await
            {
                listening.take().unwrap().send(address).unwrap();
            }
        }
    });
    let node = Node::start(settings(&["/ip4/127.0.0.1/tcp/0"])).await;
    node.swarm.connect(server_peer, vec![listens.await.unwrap()]).await.unwrap();

    let running = || async { node.swarm.counters().await.unwrap().queries_running_count };
    let mut search = soon("a search that waits for the silent peer", || async {
        let mut search = Box::pin(node.routing.find_providers(key("a"), 10));
        let has_begun = tokio::select! {
            _ = search.next() => false,
            _ = silent.accept() => true,
        };
        has_begun.then_some(search)
    })
    .await;
    assert!(futures::poll!(search.next()).is_pending());
    assert_eq!(running().await, 1);
    drop(search);
    // The dial of the silent peer would go on for ten seconds.
    let ended = soon("end of the search", || async { (running().await == 0).then_some(()) });
    tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.unwrap();
    serving.abort();
}
