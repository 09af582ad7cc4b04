//! Two computers on one router, without anything else in the world.

use cairn_tests::{Lan, Node, Scratch, files_equal};
use serde_json::json;

#[test]
fn two_computers_on_one_router_find_each_other_and_exchange() {
    let Some(lan) = Lan::new() else { return };
    let [first, second] = [0, 1].map(|host| {
        let mut node = Node::cairn();
        node.move_to(lan.host(host));
        node.set("Discovery.MDNS.Enabled", json!(true));
        node.set("Addresses.Swarm", json!(["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]));
        node.start();
        node
    });
    let scratch = Scratch::new();
    let file = scratch.random_file("file", 3_000_000, 40);
    // Nobody told one of the other: getting waits until they have met.
    let got = second.get(&first.add(&file));
    assert!(files_equal(&file, &got));
}
