//! Peers to stay connected to.

use cairn_tests::{Node, Transport, until};

#[test]
fn a_peer_to_stay_connected_to_is_dialled_until_it_answers() {
    let (mut cairn, mut other) = (Node::cairn(), Node::cairn());
    cairn.start();
    other.start();
    let addr = other.addr(Transport::Tcp);
    let (transport_addr, peer) = addr.split_once("/p2p/").expect("it ends in a peer ID");
    assert_eq!(cairn.run(&["swarm", "peering", "add", &addr]).text(), format!("add {peer} success"));
    assert_eq!(cairn.run(&["swarm", "peering", "ls"]).text(), format!("{peer}\n\t{transport_addr}"));
    until("a connection", || cairn.run(&["swarm", "peers"]).text().contains(peer));
    assert_eq!(cairn.run(&["swarm", "peering", "rm", peer]).text(), format!("remove {peer} success"));
    assert_eq!(cairn.run(&["swarm", "peering", "ls"]).text(), "");
}
