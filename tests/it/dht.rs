//! Content found through the DHT, under a protocol name that no other network uses.

use cairn_tests::{Curl, Node, Scratch, Transport, files_equal};
use serde_json::{Value, json};

/// A DHT server that starts from the node at `bootstrap`.
fn server(bootstrap: Option<&Node>) -> Node {
    let mut node = Node::cairn();
    let peers: Vec<_> = bootstrap.iter().map(|node| node.addr(Transport::Tcp)).collect();
    for (key, value) in [
        ("Routing.Type", json!("dhtserver")),
        ("Routing.DHTProtocol", json!("/cairn-test/kad/1.0.0")),
        ("Routing.LanDHTProtocol", json!("/cairn-test/lan/kad/1.0.0")),
        ("Bootstrap", json!(peers)),
    ] {
        node.set(key, value);
    }
    node.start();
    node
}

fn peer_id(node: &Node) -> String {
    node.run(&["id", "-f", "<id>"]).text()
}

#[test]
fn content_is_found_through_the_dht_by_a_node_that_was_not_told_its_source() {
    let scratch = Scratch::new();
    let file = scratch.random_file("file", 5_000_000, 40);
    let middle = server(None);
    let source = server(Some(&middle));
    let reader = server(Some(&middle));

    let cid = source.add(&file);
    // The root is announced in the background; `routing provide` ends when it is.
    source.run(&["routing", "provide", &cid]).text();
    let providers = reader.run(&["routing", "findprovs", "--timeout=30s", "-n", "1", &cid]).text();
    assert_eq!(providers, peer_id(&source));
    // Programs ask the gateway for the same.
    let port = reader.port("Gateway server");
    let answer = Curl::get(&format!("http://127.0.0.1:{port}/routing/v1/providers/{cid}")).body(200);
    let answer: Value = serde_json::from_slice(&answer).expect("the routing API answers JSON");
    assert_eq!(answer["Providers"][0]["ID"], json!(peer_id(&source)), "{answer}");
    assert!(answer["Providers"][0]["Addrs"].as_array().is_some_and(|addrs| !addrs.is_empty()), "{answer}");
    assert!(files_equal(&file, &reader.get(&cid)));
}
