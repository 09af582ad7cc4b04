//! How soon content begins to arrive that somebody far away has: a connected peer, or one that a DHT must be asked for.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cairn_tests::{LineKind, Lines, Node, Profile, Scratch, Transport, command_in};
use serde_json::json;

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::line::{FAST, far_node, near_node};
use crate::measure::{Cost, pause, run as measured};

/// Servers of the DHT.
const SERVERS: usize = 100;
/// From one end of the line to the other and back.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Rounds, each with a file and a provider of its own, which nobody asked before. One more goes before them.
const ROUNDS: usize = 10;
/// Length of each file in bytes: one block.
const FILE_BYTES: u64 = 100_000;
/// Time in which the nodes fill their routing tables.
const TABLE_TIME: Duration = Duration::from_secs(20);

/// From the request to the gateway of a near node until the first byte of the content.
pub(crate) fn run(_: &Args) -> Result<Vec<Contest>> {
    let Some(lines) = Lines::new(&[LineKind::new(FAST, ROUND_TRIP)]) else { return Ok(Vec::new()) };
    let scratch = Scratch::new();
    let far = |make| far_node(&lines, 0, make, Transport::Tcp);
    let servers = (0..SERVERS).map(|_| far(server)).collect::<Result<Vec<_>>>()?;
    let (_, first) = servers.first().context("there are servers")?;
    servers[1..].iter().for_each(|(server, _)| server.connect_to(first));
    let mut receiver = near_node(&lines, Node::cairn());
    receiver.connect_to(first);
    pause(TABLE_TIME);

    let provide = |(node, addr): (Node, String), seed| -> Result<(Node, String, String)> {
        let root = node.add(&scratch.random_file("file", FILE_BYTES, seed));
        Ok((node, addr, root))
    };
    let (mut unknown, mut connected) = (Vec::new(), Vec::new());
    for seed in 0..=ROUNDS as u64 {
        let (node, addr, root) = provide(far(client)?, seed)?;
        node.connect_to(first);
        node.run(&["routing", "provide", &root]).text();
        unknown.push((node, addr, root));
        let provider = provide(far(client)?, 1000 + seed)?;
        receiver.connect_to(&provider.1);
        connected.push(provider);
    }
    pause(TABLE_TIME);
    let gateway = receiver.port("Gateway server");
    let fetch = |root: Option<&(Node, String, String)>| {
        let (_, _, root) = root.context("one for each round")?;
        let url = format!("http://127.0.0.1:{gateway}/ipfs/{root}");
        let mut curl = command_in(Some(lines.near()), "curl");
        let told = ["--silent", "--fail", "--output", "/dev/null", "--write-out", "%{time_starttransfer}"];
        let (told, _) = measured(curl.args(told).arg(url))?;
        Ok(Cost { wall_s: told.trim().parse().context("curl tells seconds")?, ..Cost::default() })
    };
    let (mut connected_roots, mut unknown_roots) = (connected.iter(), unknown.iter());
    let contestants = vec![
        Contestant::new("a provider that the DHT knows", || fetch(unknown_roots.next())),
        Contestant::new("a connected provider", || fetch(connected_roots.next())),
    ];
    let title = format!(
        "the first byte of a file at {} ms, beside a DHT of {SERVERS} servers (wall: until then)",
        ROUND_TRIP.as_millis()
    );
    let contest = Contest::run(title, ROUNDS, contestants)?;
    receiver.stop();
    Ok(vec![contest])
}

fn server() -> Option<Node> {
    Some(with_routing("dhtserver"))
}

/// It tells the DHT what it has, and answers no questions of it.
fn client() -> Option<Node> {
    Some(with_routing("dhtclient"))
}

fn with_routing(kind: &str) -> Node {
    let node = Node::cairn();
    node.apply(Profile::V1);
    node.set("Routing.Type", json!(kind));
    node
}
