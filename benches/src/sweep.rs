//! Telling a DHT of many keys: questions, memory and time, and how soon a fresh root is known.

mod servers;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cairn_tests::{Node, Scratch};
use serde_json::{Value, json};

use self::servers::Servers;
use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, Meter, memory, pause};

/// Servers of the DHT.
const SERVERS: usize = 200;
/// Bytes of a block.
const BLOCK_BYTES: u64 = 64;
/// How often is looked how far the sweep is.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Roots that are told one after the other.
const ROOTS: u64 = 20;
/// Time in which a node fills its routing table.
const TABLE_TIME: Duration = Duration::from_secs(15);
/// Longest sweep.
const DEADLINE: Duration = Duration::from_secs(1800);

/// All keys once, then fresh roots one by one.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let file = scratch.random_file("keys", args.keys * BLOCK_BYTES, 7);
    let servers = Servers::start(SERVERS)?;
    let own_count = without_keys(&servers)?;
    let mut node = Node::cairn();
    node.set("Routing.Type", json!("dhtclient"));
    let chunker = format!("--chunker=size-{BLOCK_BYTES}");
    node.run(&["add", "-Q", "--progress=false", &chunker, file.to_str().context("UTF-8")?]).text();
    node.start();
    let key_count = listed(&node)?;
    ensure!(key_count >= args.keys, "{key_count} keys are listed");

    let before_bytes = memory(node.process_id(), "VmRSS")?;
    let meter = Meter::start(&[node.process_id()])?;
    node.connect_to(&servers.any_addr()?);
    let mut peak_bytes = 0;
    let began = Instant::now();
    loop {
        pause(LOOK_PERIOD);
        peak_bytes = memory(node.process_id(), "VmRSS")?.max(peak_bytes);
        let stat = stat(&node)?;
        if stat["queues"]["pending_key_provides"] == 0 && stat["operations"]["past"]["keys_provided"] != 0 {
            break;
        }
        ensure!(began.elapsed() < DEADLINE, "not told in time: {stat}");
    }
    let cost = Cost { peak_bytes: peak_bytes.saturating_sub(before_bytes), ..meter.stop()? };
    let (sampled, right) = servers.right_holders();
    println!(
        "{key_count} keys, {SERVERS} servers: {} FIND_NODE, of which {own_count} fill the routing table; {} ADD_PROVIDER; \
         {right:.2} of the 20 right servers have a record ({sampled} keys looked at); {:.0} MiB resident before",
        servers.find_node_count() - own_count,
        servers.record_count(),
        before_bytes as f64 / 1_048_576.0,
    );
    println!("{}", stat(&node)?);

    let mut root = 0;
    let announce = || {
        root += 1;
        let cid = node.add(&scratch.random_file("root", 1000, 1000 + root));
        let meter = Meter::start(&[node.process_id()])?;
        node.run(&["routing", "provide", &cid]).text();
        meter.stop()
    };
    let title = format!("routing provide of a fresh root, {SERVERS} servers");
    let roots = Contest::run(title, usize::try_from(ROOTS)?, vec![Contestant::new("Cairn", announce)])?;
    let title = format!("sweep of {key_count} keys, {SERVERS} servers (peak: growth of resident memory)");
    let sweep = Contest::single(title, "Cairn", cost);
    node.stop();
    Ok(vec![sweep, roots])
}

/// Questions of a node that has nothing to tell.
fn without_keys(servers: &Servers) -> Result<u64> {
    let mut node = Node::cairn();
    node.set("Routing.Type", json!("dhtclient"));
    node.start();
    node.connect_to(&servers.any_addr()?);
    pause(TABLE_TIME);
    node.stop();
    Ok(servers.find_node_count())
}

/// Keys that are told again and again, once all are listed.
fn listed(node: &Node) -> Result<u64> {
    let mut last = 0;
    loop {
        let stat = stat(node)?;
        let count = stat["schedule"]["keys"].as_u64().context("a number")?;
        if count > 0 && count == last {
            return Ok(count);
        }
        last = count;
        pause(LOOK_PERIOD * 10);
    }
}

fn stat(node: &Node) -> Result<Value> {
    let text = node.run(&["provide", "stat", "--lan", "--enc=json"]).text();
    let stat: Value = serde_json::from_str(&text)?;
    Ok(stat["Sweep"].clone())
}
