//! A daemon that has nothing to do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cairn_tests::Node;

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, Meter, memory, pause};

/// Seconds after the start that do not count.
const WARM_UP: Duration = Duration::from_secs(5);
/// Seconds that count.
const PERIOD: Duration = Duration::from_secs(30);

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

fn idle(mut node: Node) -> Result<Cost> {
    node.start();
    pause(WARM_UP);
    let meter = Meter::start(&[node.process_id()])?;
    pause(PERIOD);
    let cost = meter.stop()?;
    let peak_bytes = memory(node.process_id(), "VmRSS")?;
    node.stop();
    Ok(Cost { peak_bytes, ..cost })
}
