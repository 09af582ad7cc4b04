//! WebSockets, both ways, with real Helia and real Kubo.

use cairn_tests::{Helia, Node, Scratch, Transport, files_equal, sha256_of};
use serde_json::json;

const FILE_BYTES: u64 = 3_000_000;

/// A node that listens for nothing but WebSockets.
fn listen_for_websockets(node: &mut Node) {
    node.set("Addresses.Swarm", json!(["/ip4/127.0.0.1/tcp/0/ws"]));
    node.start();
}

#[test]
fn helia_gets_a_file_over_a_websocket() {
    let Some(mut helia) = Helia::start() else { return };
    let mut cairn = Node::cairn();
    listen_for_websockets(&mut cairn);
    helia.dial(&cairn.addr(Transport::WebSocket));
    let scratch = Scratch::new();
    let file = scratch.random_file("file", FILE_BYTES, 50);
    assert_eq!(helia.get(&cairn.add(&file)), (FILE_BYTES, sha256_of(&file)));
}

#[test]
fn we_get_a_file_from_helia_over_a_websocket_that_we_dialled() {
    let Some(mut helia) = Helia::start() else { return };
    let mut cairn = Node::cairn();
    cairn.start();
    cairn.connect_to(helia.web_addr());
    let scratch = Scratch::new();
    let file = scratch.random_file("file", FILE_BYTES, 51);
    assert!(files_equal(&file, &cairn.get(&helia.add_file(&file))));
}

#[test]
fn kubo_and_we_exchange_files_over_a_websocket_whoever_dialled() {
    for cairn_dials in [true, false] {
        let (mut cairn, Some(mut kubo)) = (Node::cairn(), Node::kubo()) else { return };
        listen_for_websockets(&mut cairn);
        listen_for_websockets(&mut kubo);
        let (dialer, listener) = if cairn_dials { (&cairn, &kubo) } else { (&kubo, &cairn) };
        dialer.connect(listener, Transport::WebSocket);
        let scratch = Scratch::new();
        for (from, to, seed) in [(&cairn, &kubo, 52), (&kubo, &cairn, 53)] {
            let file = scratch.random_file(&format!("file-{seed}"), FILE_BYTES, seed);
            assert!(files_equal(&file, &to.get(&from.add(&file))), "cairn_dials={cairn_dials}");
        }
    }
}
