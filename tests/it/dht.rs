//! Content found through the DHT, under a protocol name that no other network uses.

use cairn_tests::{Curl, Node, Output, Scratch, Transport, files_equal, until};
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
    source.run(&["routing", "provide", "-r", &cid]).text();
    // A peer that is not connected is found, once others know it, and asked who it is.
    let mut told = Value::Null;
    until("the source to tell who it is", || {
        let answer = reader.run(&["id", "--timeout=30s", &peer_id(&source)]);
        told = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        answer.status.success()
    });
    assert_eq!(told["ID"], json!(peer_id(&source)), "{told}");
    assert!(told["AgentVersion"].as_str().is_some_and(|agent| agent.starts_with("cairn/")), "{told}");
    assert!(told["Addresses"].as_array().is_some_and(|addrs| !addrs.is_empty()), "{told}");
    let providers = reader.run(&["routing", "findprovs", "--timeout=30s", "-n", "1", &cid]).text();
    assert_eq!(providers, peer_id(&source));
    // Programs ask the gateway for the same.
    let port = reader.port("Gateway server");
    let answer = Curl::get(&format!("http://127.0.0.1:{port}/routing/v1/providers/{cid}")).body(200);
    let answer: Value = serde_json::from_slice(&answer).expect("the routing API answers JSON");
    assert_eq!(answer["Providers"][0]["ID"], json!(peer_id(&source)), "{answer}");
    assert!(answer["Providers"][0]["Addrs"].as_array().is_some_and(|addrs| !addrs.is_empty()), "{answer}");
    assert!(files_equal(&file, &reader.get(&cid)));

    // A node without a DHT asks that gateway.
    let mut guest = Node::cairn();
    guest.set("Routing.Type", json!("delegated"));
    guest.set("Routing.DelegatedRouters", json!([format!("http://127.0.0.1:{port}")]));
    guest.start();
    let providers = guest.run(&["routing", "findprovs", "--timeout=60s", &cid]).text();
    let addrs = guest.run(&["routing", "findpeer", "--timeout=60s", &peer_id(&source)]).text();
    assert!(providers.lines().any(|line| line == peer_id(&source)), "{providers}");
    assert!(addrs.contains("/ip4/127.0.0.1/tcp/"), "{addrs}");
    assert!(files_equal(&file, &guest.get(&cid)));
}

#[test]
fn a_node_that_starts_again_finds_its_network_without_a_list_of_peers() {
    let middle = server(None);
    let mut reader = server(Some(&middle));
    let middle_id = peer_id(&middle);
    // Told where it listens means that it stands in the routing table.
    until("the reader knows the DHT", || {
        reader.run(&["routing", "findpeer", "--timeout=30s", &middle_id]).status.success()
    });
    reader.stop();
    reader.run(&["bootstrap", "rm", "--all"]).text();
    assert_eq!(reader.run(&["bootstrap", "list"]).text(), "");
    reader.start();
    until("connection", || reader.run(&["swarm", "peers"]).text().contains(&middle_id));
}

#[test]
fn peers_to_start_from_are_changed_as_with_kubo() {
    let Some(kubo) = Node::kubo() else { return };
    let cairn = Node::cairn();
    let peer = "12D3KooWKwdSiNYuBYBCtqW6bHv6FQ5GW9q3eM7RvoMnpcGvMB8R";
    let [first, second] =
        [format!("/ip4/192.0.2.1/tcp/4001/p2p/{peer}"), format!("/ip4/192.0.2.2/tcp/4001/p2p/{peer}")];
    let whole = format!("/p2p/{peer}");
    for args in [
        &["list"][..],
        &["add", &first, &second],
        &["add", &first],
        &["list"],
        &["add", "/ip4/192.0.2.1/tcp/4001"],
        &["rm", &first],
        &["rm", &first],
        &["list", "--enc=json"],
        &["add", "--enc=json", &first],
        &["rm", &whole],
        &["add", &first],
        &["rm", "--all"],
        &["add", &second],
        &["rm", "all"],
        &["list"],
    ] {
        let [ours, theirs] = [&cairn, &kubo].map(|node| node.run(&[&["bootstrap"], args].concat()));
        assert_eq!(ours.status.success(), theirs.status.success(), "{args:?}");
        assert_eq!(sorted(&ours), sorted(&theirs), "{args:?}");
    }
}

/// The lines of an answer; Kubo keeps the peers in no order.
fn sorted(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn kubo_is_told_every_block_that_we_have() {
    let (Some(mut kubo), mut cairn) = (Node::kubo(), Node::cairn()) else { return };
    cairn.set("Routing.Type", json!("dhtserver"));
    kubo.set("Routing.Type", json!("dht"));
    kubo.set("Routing.LoopbackAddressesOnLanDHT", json!(true));
    cairn.start();
    kubo.start();
    let scratch = Scratch::new();
    let cid = cairn.add(&scratch.random_file("file", 5_000_000, 41));
    cairn.connect(&kubo, Transport::Tcp);
    let blocks = cairn.run(&["refs", "-r", &cid]).text();
    let leaf = blocks.lines().last().expect("a file of many blocks");
    let id = peer_id(&cairn);
    // Kubo asks no one but itself: nobody else is there.
    for block in [leaf, &cid] {
        until("Kubo knows a provider", || {
            let found = kubo.run(&["routing", "findprovs", "--timeout=10s", "-n", "1", block]);
            found.status.success() && found.text() == id
        });
    }
    until("everything is told", || {
        let stat = cairn.run(&["provide", "stat", "--lan", "--enc=json"]).text();
        let stat: Value = serde_json::from_str(&stat).expect("stat prints JSON");
        stat["Sweep"]["queues"]["pending_key_provides"] == json!(0)
            && stat["Sweep"]["operations"]["past"]["keys_provided"].as_u64()
                >= Some(blocks.lines().count() as u64)
    });
    let metrics = format!("http://127.0.0.1:{}/debug/metrics/prometheus", cairn.port("RPC API server"));
    let metrics = String::from_utf8(Curl::get(&metrics).body(200)).expect("metrics are text");
    assert!(metrics.contains("\ncairn_dht_table_peers_count{dht=\"lan\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\ncairn_provide_fresh_keys{dht=\"lan\"} 0\n"), "{metrics}");
}

#[test]
fn kubo_finds_at_us_what_we_have_although_nobody_keeps_a_record_of_it() {
    let (Some(mut kubo), mut cairn) = (Node::kubo(), Node::cairn()) else { return };
    cairn.set("Routing.Type", json!("dhtserver"));
    kubo.set("Routing.Type", json!("dhtclient"));
    kubo.set("Routing.LoopbackAddressesOnLanDHT", json!(true));
    cairn.start();
    kubo.start();
    let scratch = Scratch::new();
    let cid = cairn.add(&scratch.random_file("file", 2_000_000, 42));
    let blocks = cairn.run(&["refs", "-r", &cid]).text();
    let leaf = blocks.lines().last().expect("a file of many blocks");
    cairn.connect(&kubo, Transport::Tcp);
    let id = peer_id(&cairn);
    until("Kubo knows a provider", || {
        let found = kubo.run(&["routing", "findprovs", "--timeout=10s", "-n", "1", leaf]);
        found.status.success() && found.text() == id
    });
}
