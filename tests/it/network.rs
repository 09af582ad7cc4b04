//! What a node tells of its connections, beside what Kubo tells of the same ones.

use cairn_tests::{Curl, Node, Scratch, Transport, files_equal, until};
use serde_json::Value;

const FILE_BYTES: u64 = 1_000_000;

fn id(node: &Node) -> String {
    node.run(&["id", "-f", "<id>"]).text()
}

fn json(node: &Node, args: &[&str]) -> Value {
    let text = node.run(&[&["--enc=json"], args].concat()).text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn pings_bytes_and_peers_are_told_as_kubo_tells_them() {
    let Some(mut kubo) = Node::kubo() else { return };
    let mut cairn = Node::cairn();
    cairn.start();
    kubo.start();
    cairn.connect(&kubo, Transport::Tcp);
    let scratch = Scratch::new();
    let file = scratch.random_file("file", FILE_BYTES, 80);
    assert!(files_equal(&file, &kubo.get(&cairn.add(&file))));

    let ids = [id(&cairn), id(&kubo)];
    for (node, peer) in [(&cairn, &ids[1]), (&kubo, &ids[0])] {
        let pings = node.run(&["ping", "-n", "1", peer]).text();
        let lines: Vec<_> = pings.lines().collect();
        assert_eq!(lines[0], format!("PING {peer}."));
        assert!(lines[1].starts_with("Pong received: time=") && lines[1].ends_with(" ms"), "{pings}");
        assert!(lines[2].starts_with("Average latency: ") && lines[2].ends_with("ms"), "{pings}");

        for args in [&["stats", "bw"][..], &["stats", "bw", "--peer", peer]] {
            let bandwidth = node.run(args).text();
            let heads: Vec<_> =
                bandwidth.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
            assert_eq!(heads, ["Bandwidth", "TotalIn", "TotalOut", "RateIn", "RateOut"], "{bandwidth}");
            assert!(bandwidth.contains(" MB\n"), "{bandwidth}");
        }
        until("the peer to tell of itself", || json(node, &["id", peer])["AgentVersion"] != "");
        let known = json(node, &["id", peer]);
        let verbose = json(node, &["swarm", "peers", "-v"]);
        let connection = &verbose["Peers"][0];
        assert_eq!(connection["Identify"]["PublicKey"], known["PublicKey"]);
        assert!(known["PublicKey"].as_str().is_some_and(|key| key.starts_with("CAES")), "{known}");
        let direction = if peer == &ids[1] { 2 } else { 1 };
        assert_eq!(
            (&connection["Peer"], &connection["Direction"]),
            (&peer.as_str().into(), &direction.into())
        );
    }

    // Either counts a block once it has gone.
    until("a block to be counted as sent", || {
        let sent = json(&cairn, &["bitswap", "ledger", &ids[1]]);
        (sent["Sent"].as_u64(), sent["Recv"].as_u64()) == (Some(FILE_BYTES), Some(0))
    });
    until("a block to be counted as received", || {
        json(&kubo, &["bitswap", "ledger", &ids[0]])["Recv"].as_u64() == Some(FILE_BYTES)
    });
    assert_eq!(json(&cairn, &["bitswap", "wantlist"]), json(&kubo, &["bitswap", "wantlist"]));
    let usage = json(&cairn, &["swarm", "resources"]);
    assert_eq!(usage["System"]["ConnsOutboundUsage"], 1, "{usage}");

    let metrics = format!("http://127.0.0.1:{}/debug/metrics/prometheus", cairn.port("RPC API server"));
    let page = String::from_utf8(Curl::get(&metrics).body(200)).expect("numbers are text");
    for line in [
        "ipfs_p2p_peers_total 1".to_owned(),
        "cairn_swarm_connections_open_count{direction=\"outbound\"} 1".to_owned(),
        format!("cairn_bitswap_sent_bytes_total {FILE_BYTES}"),
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

#[test]
fn a_filter_holds_at_once_and_after_a_restart_until_it_is_removed() {
    let (mut cairn, mut other) = (Node::cairn(), Node::cairn());
    cairn.start();
    other.start();
    let loopback = "/ip4/127.0.0.0/ipcidr/8";
    assert_eq!(cairn.run(&["swarm", "filters", "add", loopback]).text(), loopback);
    let refused = cairn.run(&["swarm", "connect", &other.addr(Transport::Tcp)]);
    assert!(refused.error().contains("Swarm.AddrFilters"), "{}", refused.stderr);
    cairn.stop();
    cairn.start();
    assert_eq!(cairn.run(&["swarm", "filters"]).text(), loopback);
    assert_eq!(cairn.run(&["swarm", "filters", "rm", "all"]).text(), loopback);
    assert_eq!(cairn.run(&["swarm", "filters", "ls"]).text(), "");
    cairn.connect(&other, Transport::Tcp);
}
