//! Nodes that connect on loopback and in memory.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::pnet::PreSharedKey;
use libp2p::swarm::{SwarmEvent, dummy};
use libp2p::{Multiaddr, PeerId, SwarmBuilder, noise, tcp, tls, yamux};

use super::testing::{DEADLINE, Node, settings, soon};
use super::{Direction, PeerInfo};
use crate::Kind;
use crate::settings::ConnectionMarks;
use crate::settings::addresses::parse_network;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const WEBSOCKET: &str = "/ip4/127.0.0.1/tcp/0/ws";

async fn peer_of(node: &Node, other: &Node) -> Option<PeerInfo> {
    let peers = node.swarm.peers().await.unwrap();
    peers.into_iter().find(|info| info.peer == other.peer())
}

/// Two nodes that listen there, the first connected to the second.
async fn pair(listen: &str) -> (Node, Node) {
    let (dialer, listener) = (Node::start(settings(&[listen])).await, Node::start(settings(&[listen])).await);
    dialer.connect(&listener).await;
    (dialer, listener)
}

async fn both_know_each_other(listen: &str) {
    let (dialer, listener) = pair(listen).await;
    let told = |node, other| async move {
        peer_of(node, other).await.filter(|info| !info.agent.is_empty() && info.latency.is_some())
    };
    let seen = soon("identify and ping", || told(&dialer, &listener)).await;
    assert_eq!((seen.addr, seen.direction), (listener.addr(), Direction::Outbound));
    assert_eq!(seen.agent, "cairn-test/1");
    assert!(seen.protocols.iter().any(|protocol| protocol == "/ipfs/ping/1.0.0"), "{:?}", seen.protocols);
    let seen = soon("identify and ping", || told(&listener, &dialer)).await;
    assert_eq!(seen.direction, Direction::Inbound);
    let known = dialer.swarm.known_addrs().await.unwrap();
    assert!(known.contains(&(listener.peer(), vec![listener.addr()])), "{known:?}");
}

#[tokio::test]
async fn two_nodes_connect_over_tcp() {
    both_know_each_other(TCP).await;
}

#[tokio::test]
async fn two_nodes_connect_over_quic() {
    both_know_each_other(QUIC).await;
}

#[tokio::test]
async fn two_nodes_connect_over_a_websocket() {
    both_know_each_other(WEBSOCKET).await;
}

#[tokio::test]
async fn two_nodes_connect_in_memory() {
    both_know_each_other("/memory/0").await;
}

#[tokio::test]
async fn a_node_that_speaks_only_noise_and_one_that_speaks_only_tls_both_get_in() {
    let node = Node::start(settings(&[TCP])).await;
    let addr = node.addr().with_p2p(node.peer()).unwrap();
    let builder = || SwarmBuilder::with_new_identity().with_tokio();
    let noise = builder().with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default);
    let mut noise = noise.unwrap().with_behaviour(|_| dummy::Behaviour).unwrap().build();
    let tls = builder().with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default);
    let mut tls = tls.unwrap().with_behaviour(|_| dummy::Behaviour).unwrap().build();
    for swarm in [&mut noise, &mut tls] {
        swarm.dial(addr.clone()).unwrap();
        let event = tokio::time::timeout(DEADLINE, swarm.select_next_some()).await.unwrap();
        assert!(matches!(event, SwarmEvent::ConnectionEstablished { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    for addr in [
        format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port()),
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port()),
    ] {
        let Err(error) = Node::try_start(settings(&[TCP, &addr])).await else { panic!("listens on {addr}") };
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("address in use, addr={addr} ")), "{text}");
        assert!(text.contains("Addresses.Swarm"), "{text}");
    }
}

#[tokio::test]
async fn a_failed_connection_says_what_every_address_said() {
    let node = Node::start(settings(&[TCP])).await;
    // No system gives out port 1 by itself.
    let refused: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let unsupported: Multiaddr = "/ip4/127.0.0.1/udp/1/webrtc-direct".parse().unwrap();
    let error =
        node.swarm.connect(PeerId::random(), vec![refused.clone(), unsupported.clone()]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&refused.to_string()) && text.contains("Connection refused"), "{text}");
    assert!(text.contains(&unsupported.to_string()) && text.contains("Unsupported"), "{text}");

    let error = node.swarm.connect(PeerId::random(), Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    let error = node.swarm.connect(node.peer(), Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
}

#[tokio::test]
async fn another_peer_at_the_address_is_named() {
    let (node, other) = (Node::start(settings(&[TCP])).await, Node::start(settings(&[TCP])).await);
    let wanted = PeerId::random();
    let error = node.swarm.connect(wanted, vec![other.addr()]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let text = error.to_string();
    assert!(text.contains(&wanted.to_string()) && text.contains(&other.peer().to_string()), "{text}");
}

#[tokio::test]
async fn connections_above_the_count_are_refused() {
    let mut small = settings(&["/memory/0"]);
    small.connections.max_count = 2;
    let node = Node::start(small).await;
    let mut guests = Vec::new();
    for _ in 0..2 {
        let guest = Node::in_memory().await;
        guest.connect(&node).await;
        guests.push(guest);
    }
    soon("two connections", || async { (node.swarm.peers().await.unwrap().len() == 2).then_some(()) }).await;
    let third = Node::in_memory().await;
    // The handshake may end at the guest before the refusal reaches it.
    let _ = third.swarm.connect(node.peer(), vec![node.addr()]).await;
    soon("refusal", || async {
        (node.swarm.counters().await.unwrap().inbound_failed_total == 1).then_some(())
    })
    .await;
    soon("no connection left", || async { third.swarm.peers().await.unwrap().is_empty().then_some(()) })
        .await;
    assert_eq!(node.swarm.peers().await.unwrap().len(), 2);
}

#[tokio::test]
async fn peers_to_start_from_are_dialled_at_the_start() {
    let first = Node::in_memory().await;
    let mut second = settings(&["/memory/0"]);
    second.bootstrap = vec![first.addr().with_p2p(first.peer()).unwrap()];
    let second = Node::start(second).await;
    soon("connection", || peer_of(&second, &first)).await;
}

#[tokio::test]
async fn a_disconnected_peer_is_gone_on_both_sides() {
    let (dialer, listener) = pair("/memory/0").await;
    dialer.swarm.disconnect(listener.peer()).await.unwrap();
    soon("closed here", || async { peer_of(&dialer, &listener).await.is_none().then_some(()) }).await;
    soon("closed there", || async { peer_of(&listener, &dialer).await.is_none().then_some(()) }).await;
    let error = dialer.swarm.disconnect(listener.peer()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn shutdown_ends_every_task_and_tells_the_peers() {
    for listen in [TCP, QUIC, "/memory/0"] {
        let (dialer, listener) = pair(listen).await;
        dialer.tasks.shutdown(Duration::from_secs(3)).await.unwrap();
        soon("closed there", || async { peer_of(&listener, &dialer).await.is_none().then_some(()) }).await;
        assert_eq!(dialer.swarm.peers().await.unwrap_err().kind(), Kind::Closed);
    }
}

#[tokio::test]
async fn loopback_listeners_are_told_as_external_in_a_private_network() {
    let node = Node::start(settings(&[TCP, QUIC])).await;
    let mut listen = node.swarm.listen_addrs();
    listen.sort_unstable();
    assert_eq!(listen.len(), 2);
    assert_eq!(node.swarm.external_addrs(), listen);
    let mut announced = settings(&[TCP]);
    announced.announce.replace = vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()];
    assert_eq!(Node::start(announced.clone()).await.swarm.external_addrs(), announced.announce.replace);
}

#[tokio::test]
async fn a_refused_network_is_neither_dialled_nor_let_in() {
    let listener = Node::start(settings(&[TCP, QUIC, WEBSOCKET])).await;
    let mut guarded = settings(&[TCP, QUIC, WEBSOCKET]);
    guarded.refused = [parse_network("/ip4/127.0.0.0/ipcidr/8").unwrap()].into_iter().collect();
    let guarded = Node::start(guarded).await;
    for addr in listener.swarm.listen_addrs() {
        let error = guarded.swarm.connect(listener.peer(), vec![addr]).await.unwrap_err();
        assert!(error.to_string().contains("Swarm.AddrFilters"), "{error}");
    }
    for addr in guarded.swarm.listen_addrs() {
        // The handshake may end at the guest before the refusal reaches it.
        let _ = listener.swarm.connect(guarded.peer(), vec![addr]).await;
    }
    soon("refusals", || async {
        (guarded.swarm.counters().await.unwrap().inbound_failed_total == 3).then_some(())
    })
    .await;
    assert!(guarded.swarm.peers().await.unwrap().is_empty());
}

#[tokio::test]
async fn peers_are_told_no_withheld_address() {
    let mut shy = settings(&[TCP]);
    shy.announce.append = vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()];
    shy.announce.withhold = vec!["/ip4/127.0.0.0/ipcidr/8".parse().unwrap()];
    let (shy, other) = (Node::start(shy).await, Node::start(settings(&[TCP])).await);
    shy.connect(&other).await;
    soon("identify", || async { peer_of(&other, &shy).await.filter(|info| !info.agent.is_empty()) }).await;
    let known = other.swarm.known_addrs().await.unwrap();
    assert_eq!(known, [(shy.peer(), vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()])]);
}

#[tokio::test]
async fn a_peer_that_answers_no_pings_gets_its_own_answered() {
    let node = Node::start(settings(&[TCP])).await;
    let streams = libp2p_stream::Behaviour::new();
    let mut control = streams.new_control();
    let builder = SwarmBuilder::with_new_identity().with_tokio();
    let builder = builder.with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default);
    let mut mute = builder.unwrap().with_behaviour(|_| streams).unwrap().build();
    mute.dial(node.addr().with_p2p(node.peer()).unwrap()).unwrap();
    let opened = async {
        loop {
            tokio::select! {
                _ = mute.select_next_some() => {}
                stream = control.open_stream(node.peer(), libp2p::ping::PROTOCOL_NAME) => break stream.unwrap(),
            }
        }
    };
    let mut stream = tokio::time::timeout(DEADLINE, opened).await.unwrap();
    let pinged = async {
        for round in 0..20 {
            let mut answer = [0; 32];
            stream.write_all(&[round; 32]).await.unwrap();
            stream.flush().await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [round; 32]);
        }
    };
    let serve = async { while mute.next().await.is_some() {} };
    tokio::select! {
        () = pinged => {}
        () = serve => panic!("a swarm does not end"),
        () = tokio::time::sleep(DEADLINE) => panic!("a ping was not answered"),
    }
}

#[tokio::test]
async fn only_peers_with_the_same_key_connect_in_a_private_network() {
    let with_key = |key: Option<u8>| {
        let mut settings = settings(&[TCP]);
        settings.private_network = key.map(|byte| PreSharedKey::new([byte; 32]));
        settings
    };
    let (node, friend) = (Node::start(with_key(Some(1))).await, Node::start(with_key(Some(1))).await);
    friend.connect(&node).await;
    for other in [Some(2), None] {
        let other = Node::start(with_key(other)).await;
        let error = other.swarm.connect(node.peer(), vec![node.addr()]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    }
    // Nothing but TCP is dialled.
    let quic = "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap();
    let error = node.swarm.connect(PeerId::random(), vec![quic]).await.unwrap_err();
    assert!(error.to_string().contains("Unsupported"), "{error}");
}

#[tokio::test]
async fn a_peer_to_stay_connected_to_is_dialled_when_it_is_added_and_again_when_it_is_lost() {
    let (node, other) = (Node::in_memory().await, Node::in_memory().await);
    node.swarm.add_peering(other.peer(), vec![other.addr()]).await.unwrap();
    assert_eq!(node.swarm.peering().await.unwrap(), [(other.peer(), vec![other.addr()])]);
    soon("connection", || peer_of(&node, &other)).await;
    other.swarm.disconnect(node.peer()).await.unwrap();
    soon("closed", || async { peer_of(&node, &other).await.is_none().then_some(()) }).await;
    soon("connection again", || peer_of(&node, &other)).await;
    node.swarm.remove_peering(other.peer()).await.unwrap();
    assert!(node.swarm.peering().await.unwrap().is_empty());
}

#[tokio::test]
async fn streams_are_counted_by_peer_and_protocol_in_both_directions() {
    for listen in [TCP, QUIC, "/memory/0"] {
        let (dialer, listener) = pair(listen).await;
        for (node, other) in [(&dialer, &listener), (&listener, &dialer)] {
            for (protocol, least_bytes) in [("/ipfs/ping/1.0.0", 32), ("/ipfs/id/1.0.0", 100)] {
                soon("bytes of a protocol", || async {
                    let flow = node.swarm.flow_of_protocol(protocol)?;
                    (flow.received_bytes >= least_bytes && flow.sent_bytes >= least_bytes).then_some(())
                })
                .await;
            }
            let peer = node.swarm.flow_of_peer(&other.peer()).unwrap();
            let all = node.swarm.flow();
            assert!(peer.received_bytes >= 132 && peer.sent_bytes >= 132, "{peer:?}");
            assert!(
                all.received_bytes >= peer.received_bytes && all.sent_bytes >= peer.sent_bytes,
                "{all:?}"
            );
        }
        soon("an open stream", || async {
            let streams = peer_of(&dialer, &listener).await?.streams;
            streams.iter().any(|protocol| protocol == "/ipfs/ping/1.0.0").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn connections_of_little_use_end_above_the_high_mark() {
    let mut crowded = settings(&["/memory/0"]);
    crowded.connections.marks = Some(ConnectionMarks { low: 2, high: 4, grace: Duration::ZERO });
    let node = Node::start(crowded).await;
    let friend = Node::in_memory().await;
    node.swarm.add_peering(friend.peer(), vec![friend.addr()]).await.unwrap();
    soon("connection", || peer_of(&node, &friend)).await;
    let mut guests = Vec::new();
    for _ in 0..5 {
        let guest = Node::in_memory().await;
        // It may be let go as soon as it is there.
        let _ = guest.swarm.connect(node.peer(), vec![node.addr()]).await;
        guests.push(guest);
    }
    soon("few connections again", || async {
        let counters = node.swarm.counters().await.unwrap();
        let is_trimmed = counters.connections_opened_total == 6 && counters.connections_closed_total > 0;
        (is_trimmed && node.swarm.peers().await.unwrap().len() <= 4).then_some(())
    })
    .await;
    assert!(peer_of(&node, &friend).await.is_some());
}
