//! Two Cairn daemons on loopback.

use cairn_tests::{Node, Profile, Scratch, Transport, Tree, big_file_bytes, files_equal, trees_equal};
use serde_json::{Value, json};

/// Two running nodes, the second connected to the first.
fn pair(transport: Transport) -> (Node, Node) {
    let (mut first, mut second) = (Node::cairn(), Node::cairn());
    first.start();
    second.start();
    second.connect(&first, transport);
    (first, second)
}

#[test]
fn a_file_added_on_one_node_is_got_on_the_other() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let scratch = Scratch::new();
        let file = scratch.random_file("big", big_file_bytes(), 1);
        let (first, second) = pair(transport);
        let got = second.get(&first.add(&file));
        assert!(files_equal(&file, &got), "{transport:?}");
    }
}

#[test]
fn a_tree_added_on_one_node_is_got_on_the_other() {
    let scratch = Scratch::new();
    let tree = Tree { file_count: 2_000, max_file_bytes: 20_000, nested: true, seed: 2 };
    let tree = scratch.tree("tree", tree);
    let (first, second) = pair(Transport::Tcp);
    let got = second.get(&first.add(&tree));
    assert!(trees_equal(&tree, &got));
}

#[test]
fn a_directory_of_ten_thousand_entries_is_listed_from_the_other_node() {
    let scratch = Scratch::new();
    let tree = Tree { file_count: 10_000, max_file_bytes: 100, nested: false, seed: 3 };
    let directory = scratch.tree("flat", tree);
    let (first, second) = pair(Transport::Tcp);
    let listed = second.run(&["ls", &first.add(&directory)]).text();
    assert_eq!(listed.lines().count(), 10_000);
    assert!(listed.lines().any(|line| line.ends_with(" file-09999.bin")), "{listed:.300}");
}

#[test]
fn pinned_content_stays_after_its_source_is_gone() {
    let scratch = Scratch::new();
    let tree = Tree { file_count: 50, max_file_bytes: 5_000, nested: true, seed: 4 };
    let tree = scratch.tree("tree", tree);
    let (mut first, mut second) = pair(Transport::Tcp);
    let cid = first.add(&tree);
    second.run(&["pin", "add", &cid]).text();
    first.stop();
    second.run(&["repo", "gc"]).text();
    second.stop();
    assert!(trees_equal(&tree, &second.get(&cid)));
}

#[test]
fn content_that_nobody_has_ends_with_a_reason() {
    let (mut first, mut second) = (Node::cairn(), Node::cairn());
    second.set("Bitswap.BlockTimeout", json!("2s"));
    first.start();
    second.start();
    second.connect(&first, Transport::Tcp);
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let output = second.run(&["cat", absent]);
    assert!(output.error().contains(absent), "the message names the CID: {}", output.stderr);
    assert!(output.stderr.contains("peers_asked=1"), "the message says who was asked: {}", output.stderr);
    assert!(output.stdout.is_empty());
}

#[test]
fn a_command_ends_at_its_timeout() {
    let (_first, second) = pair(Transport::Tcp);
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    assert!(second.run(&["cat", "--timeout=1s", absent]).error().contains("timeout=1s"));
}

#[test]
fn a_daemon_keeps_its_content_through_a_restart() {
    let scratch = Scratch::new();
    let file = scratch.random_file("file", 3_000_000, 5);
    let mut node = Node::cairn();
    node.start();
    let cid = node.add(&file);
    node.stop();
    node.start();
    assert!(files_equal(&file, &node.get(&cid)));
    let pins = node.run(&["pin", "ls", "--type=recursive", "-q"]).text();
    assert_eq!(pins, cid);
}

#[test]
fn commands_do_the_same_with_and_without_a_daemon() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree", Tree { file_count: 30, max_file_bytes: 3_000, nested: true, seed: 6 });
    let mut node = Node::cairn();
    let alone = node.add(&tree);
    node.start();
    assert_eq!(node.add(&tree), alone);
    let through_daemon = node.run(&["ls", &alone]).text();
    node.stop();
    assert_eq!(node.run(&["ls", &alone]).text(), through_daemon);
}

#[test]
fn both_profiles_name_content_differently_and_say_so_in_the_cid() {
    let scratch = Scratch::new();
    let file = scratch.random_file("file", 3_000_000, 7);
    let node = Node::cairn();
    node.apply(Profile::V0);
    assert!(node.add(&file).starts_with("Qm"));
    node.apply(Profile::V1);
    assert!(node.add(&file).starts_with("bafybei"));
}

#[test]
fn a_node_tells_who_it_is_and_whom_it_knows() {
    let (first, second) = pair(Transport::Quic);
    let id: Value = serde_json::from_str(&first.run(&["id"]).text()).expect("id prints JSON");
    let peers = second.run(&["swarm", "peers"]).text();
    let peer_id = id["ID"].as_str().expect("a node has a peer ID");
    assert!(peers.lines().any(|line| line.ends_with(peer_id)), "{peers}");
    // What libp2p tells peers on its own.
    let told: Value = serde_json::from_str(&second.run(&["id", peer_id]).text()).expect("id prints JSON");
    let sorted = |id: &Value| {
        let mut names: Vec<_> =
            id["Protocols"].as_array().expect("a list").iter().map(Value::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&id), sorted(&told));
}
