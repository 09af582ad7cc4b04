//! A daemon that has nothing to do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cairn_tests::{Liar, Lie, Node};

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, Meter, memory, pause};

/// Seconds after the start that do not count.
const WARM_UP: Duration = Duration::from_secs(5);
/// Seconds that count.
const PERIOD: Duration = Duration::from_secs(30);

/// Peers of the daemon that has some.
const PEER_COUNT: usize = 200;

/// Memory resident at the end, and processor seconds of the period, where 0.30 is one percent of a core.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let mut contestants = vec![Contestant::new("Cairn", || idle(Node::cairn()))];
    if Node::kubo().is_some() {
        contestants
            .push(Contestant::new("Kubo", || idle(Node::kubo().context("it was there a moment ago")?)));
    }
    let title = format!("idle for {} s without peers (peak: memory resident at the end)", PERIOD.as_secs());
    Ok(vec![Contest::run(title, args.rounds.min(3), contestants)?])
}

/// The same with peers that are connected and want nothing.
pub(crate) fn peers(args: &Args) -> Result<Vec<Contest>> {
    // Each is a real peer with a key, a connection and Bitswap; none says anything.
    let peers: Vec<_> = (0..PEER_COUNT).map(|_| Liar::start(Lie::Silence)).collect();
    let contestant = |name: &str, make: fn() -> Option<Node>| {
        let peers = &peers;
        Contestant::new(name, move || {
            let mut node = make().context("it was there a moment ago")?;
            node.start();
            peers.iter().for_each(|peer| node.connect_to(peer.addr()));
            measure(node)
        })
    };
    let mut contestants = vec![contestant("Cairn", || Some(Node::cairn()))];
    if Node::kubo().is_some() {
        contestants.push(contestant("Kubo", Node::kubo));
    }
    let title =
        format!("idle for {} s with {PEER_COUNT} peers (peak: memory resident at the end)", PERIOD.as_secs());
    Ok(vec![Contest::run(title, args.rounds.min(3), contestants)?])
}

fn idle(mut node: Node) -> Result<Cost> {
    node.start();
    measure(node)
}

fn measure(mut node: Node) -> Result<Cost> {
    pause(WARM_UP);
    let meter = Meter::start(&[node.process_id()])?;
    pause(PERIOD);
    let cost = meter.stop()?;
    let peak_bytes = memory(node.process_id(), "VmRSS")?;
    node.stop();
    Ok(Cost { peak_bytes, ..cost })
}
