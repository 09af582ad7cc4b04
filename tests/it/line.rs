//! Nodes with a long line between them.

use std::time::Duration;

use cairn_tests::{LineKind, Lines, Node, Scratch, files_equal};
use serde_json::json;

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// Sends a file from the far end of a line to the near one, over both transports.
fn a_file_arrives_over(kind: LineKind, file_bytes: u64) {
    let Some(lines) = Lines::new(&[kind]) else { return };
    let scratch = Scratch::new();
    let mut far = Node::cairn();
    far.move_to(lines.far(0));
    let ip = lines.far_ip(0);
    let addrs = [format!("/ip4/{ip}/tcp/4001"), format!("/ip4/{ip}/udp/4001/quic-v1")];
    far.set("Addresses.Swarm", json!(addrs));
    far.start();
    let id = far.run(&["id", "-f", "<id>"]).text();
    for (seed, addr) in [50, 51].into_iter().zip(&addrs) {
        let file = scratch.random_file(&format!("file-{seed}"), file_bytes, seed);
        let cid = far.add(&file);
        let mut near = Node::cairn();
        near.move_to(lines.near());
        let own_ip = lines.near_ip(0);
        near.set("Addresses.Swarm", json!([format!("/ip4/{own_ip}/udp/0/quic-v1")]));
        near.start();
        near.connect_to(&format!("{addr}/p2p/{id}"));
        assert!(files_equal(&file, &near.get(&cid)), "{addr}");
    }
}

#[test]
fn a_file_arrives_over_a_line_that_loses_one_packet_of_a_hundred() {
    a_file_arrives_over(LineKind::new(100_000_000, ROUND_TRIP).losing(10), 400_000);
}

#[test]
fn a_file_arrives_over_a_slow_line() {
    a_file_arrives_over(LineKind::new(8_000_000, ROUND_TRIP), 400_000);
}
