//! Private networks: peers with one key, real Kubo among them.

use std::fs;

use cairn_tests::{Node, Scratch, Transport, files_equal};
use serde_json::json;

/// As Kubo's documentation of private networks has it.
fn key(digit: char) -> String {
    format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", digit.to_string().repeat(64))
}

/// What [`key`] makes of `a`, encoded in another way.
const SAME_KEY: &str = "/key/swarm/psk/1.0.0/\n/base64/\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n";

fn give_key(node: &Node, key: &str) {
    // A private network goes over TCP alone.
    node.set("Addresses.Swarm", json!(["/ip4/127.0.0.1/tcp/0"]));
    fs::write(node.repo().join("swarm.key"), key).expect("a file can be written");
}

#[test]
fn kubo_with_the_same_key_exchanges_files_with_us_and_one_with_another_key_or_none_is_kept_out() {
    let Some(mut friend) = Node::kubo() else { return };
    let [Some(mut stranger), Some(mut open)] = [Node::kubo(), Node::kubo()] else { return };
    let mut cairn = Node::cairn();
    give_key(&cairn, SAME_KEY);
    give_key(&friend, &key('a'));
    give_key(&stranger, &key('b'));
    for node in [&mut cairn, &mut friend, &mut stranger, &mut open] {
        node.start();
    }
    friend.connect(&cairn, Transport::Tcp);
    let scratch = Scratch::new();
    for (from, to, seed) in [(&cairn, &friend, 60), (&friend, &cairn, 61)] {
        let file = scratch.random_file(&format!("file-{seed}"), 3_000_000, seed);
        assert!(files_equal(&file, &to.get(&from.add(&file))));
    }
    let addr = cairn.addr(Transport::Tcp);
    for outsider in [&stranger, &open] {
        assert!(!outsider.run(&["swarm", "connect", &addr]).status.success());
        let theirs = outsider.addr(Transport::Tcp);
        cairn.run(&["swarm", "connect", &theirs]).error();
    }
    let peers = cairn.run(&["swarm", "peers"]).text();
    assert_eq!(peers.lines().count(), 1, "{peers}");
}

#[test]
fn a_node_in_a_private_network_listens_over_tcp_alone_and_one_that_must_be_private_does_not_start_without_a_key()
 {
    let mut cairn = Node::cairn();
    let mut start = cairn.command(&["daemon"]);
    let refused = cairn_tests::run(start.env("LIBP2P_FORCE_PNET", "1"), std::time::Duration::from_secs(60));
    assert!(refused.error().contains("swarm.key"), "{}", refused.stderr);

    fs::write(cairn.repo().join("swarm.key"), key('c')).expect("a file can be written");
    cairn.set("Addresses.Swarm", json!(["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]));
    cairn.start();
    let listening = cairn.run(&["swarm", "addrs", "listen"]).text();
    assert!(listening.lines().count() == 1 && listening.contains("/tcp/"), "{listening}");
}
