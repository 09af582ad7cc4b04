//! Nodes behind routers, and the relays that bring them together.

use cairn_tests::{Host, Internet, Node, Scratch, Transport, files_equal, until};
use serde_json::json;

/// A limit that a file fits into, unlike what relays carry by default.
const RELAYED_BYTES: u64 = 100_000_000;

/// A relay on loopback, whoever made it.
fn relay(mut node: Node) -> Node {
    node.set("Swarm.RelayService", json!({ "Enabled": true, "ConnectionDataLimit": RELAYED_BYTES }));
    node.set("Internal.Libp2pForceReachability", json!("public"));
    node.start();
    node
}

/// The address at a relay under which a node is reached, once it has one.
fn circuit_of(node: &Node) -> String {
    let mut circuit = None;
    until("an address at a relay", || {
        let addrs = node.run(&["id", "-f", "<addrs>"]).text();
        circuit = addrs.lines().find(|addr| addr.contains("/p2p-circuit")).map(str::to_owned);
        circuit.is_some()
    });
    circuit.expect("it was waited for")
}

/// Whether a node is connected to another, through a relay or not.
fn is_connected(node: &Node, to: &str, through_relay: bool) -> bool {
    let peers = node.run(&["swarm", "peers"]).text();
    peers.lines().any(|peer| peer.ends_with(to) && peer.contains("/p2p-circuit") == through_relay)
}

fn content_moves_through(relay: &Node) {
    let (mut hidden, mut visitor) = (Node::cairn(), Node::cairn());
    for node in [&hidden, &visitor] {
        // On one machine they would not need the relay for long.
        node.set("Swarm.EnableHolePunching", json!(false));
    }
    hidden.set("Internal.Libp2pForceReachability", json!("private"));
    hidden.set("Swarm.RelayClient.StaticRelays", json!([relay.addr(Transport::Tcp)]));
    hidden.start();
    visitor.start();
    visitor.connect_to(&circuit_of(&hidden));
    assert!(is_connected(&visitor, &id(&hidden), true));
    let scratch = Scratch::new();
    let file = scratch.random_file("file", 1_000_000, 70);
    assert!(files_equal(&file, &visitor.get(&hidden.add(&file))));
    assert!(is_connected(&visitor, &id(&hidden), true));
    assert!(is_connected(&hidden, &id(&visitor), true));
}

fn id(node: &Node) -> String {
    node.run(&["id", "-f", "<id>"]).text()
}

#[test]
fn content_moves_through_a_relay_to_a_node_that_nobody_can_dial() {
    content_moves_through(&relay(Node::cairn()));
}

#[test]
fn content_moves_through_kubo_as_a_relay() {
    let Some(kubo) = Node::kubo() else { return };
    // It tells nobody to reach others through it unless it has a public address itself.
    kubo.set("Addresses.AppendAnnounce", json!(["/ip4/11.0.0.1/tcp/4001"]));
    content_moves_through(&relay(kubo));
}

/// A node on a host of the internet that starts from another one, if there is one already.
fn node_on(host: &Host, routing: &str, start_from: Option<&str>) -> Node {
    let mut node = Node::cairn();
    node.move_to(&host.namespace);
    node.set("Routing.Type", json!(routing));
    node.set("Addresses.Swarm", json!(["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]));
    node.set("Bootstrap", json!(start_from.into_iter().collect::<Vec<_>>()));
    if start_from.is_none() {
        // Nobody is there to find it out.
        node.set("Internal.Libp2pForceReachability", json!("public"));
    }
    node.start();
    node
}

fn wait_for_reachability(node: &Node, reachability: &str) {
    until("others to have tried to dial", || {
        node.run(&["swarm", "addrs", "autonat"]).text().contains(&format!("Reachability: {reachability}"))
    });
}

fn answers_public_dht(node: &Node) -> bool {
    node.run(&["id", "-f", "<protocols>"]).text().lines().any(|protocol| protocol == "/ipfs/kad/1.0.0")
}

#[test]
fn two_nodes_at_home_find_out_that_nobody_can_dial_them_and_still_connect_without_a_relay() {
    let Some(mut internet) = Internet::new() else { return };
    let public = internet.public_host();
    let relay = node_on(&public, "none", None);
    let start_from = format!("/ip4/{}/tcp/4001/p2p/{}", public.public_ip, id(&relay));

    // In the public DHT; nobody else is on this internet.
    let server = node_on(&internet.public_host(), "auto", Some(&start_from));
    wait_for_reachability(&server, "Public");
    until("the public DHT to be answered", || answers_public_dht(&server));

    let homes = [internet.host_at_home(), internet.host_at_home()];
    let [first, second] = homes.each_ref().map(|home| node_on(home, "none", Some(&start_from)));
    wait_for_reachability(&first, "Private");
    second.connect_to(&circuit_of(&first));
    until("a connection without the relay", || is_connected(&second, &id(&first), false));
    until("the relayed connection to end", || !is_connected(&second, &id(&first), true));
    let peers = second.run(&["swarm", "peers"]).text();
    assert!(peers.contains(&homes[0].public_ip), "{peers}");
    let scratch = Scratch::new();
    let file = scratch.random_file("file", 3_000_000, 71);
    assert!(files_equal(&file, &second.get(&first.add(&file))));
}
