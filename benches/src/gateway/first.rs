//! The first GET of a file through a gateway alone, which has to fetch it from a peer that it is connected to.

use std::process::Command;

use anyhow::{Context as _, Result};
use cairn_tests::{Node, Process, Profile, Scratch, Transport, free_port};
use serde_json::json;

use super::load::{Load, Target};
use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::Cost;

/// The file is this part of the big one.
const SHARE: u64 = 4;

/// Each round begins with an empty gateway. Its source is Kubo, or Cairn where that is absent.
pub(super) fn run(args: &Args, load: &Load) -> Result<Contest> {
    let scratch = Scratch::new();
    let len_bytes = args.file_bytes / SHARE;
    let mut source = Node::kubo().unwrap_or_else(Node::cairn);
    source.apply(Profile::V1);
    let cid = source.add(&scratch.random_file("first", len_bytes, 70));
    // Whoever has this is connected.
    let probe = source.add(&scratch.random_file("probe", 1000, 71));
    source.start();
    let paths = [probe, cid].map(|cid| format!("/ipfs/{cid}"));
    let addr = source.addr(Transport::Tcp);
    let fetch = |port| -> Result<Cost> {
        let mut wall_s = 0.0;
        for path in &paths {
            wall_s = load.run(&Target::new(port, false, path), 1, 1)?;
        }
        Ok(Cost { wall_s, ..Cost::default() })
    };
    let mut contestants = vec![Contestant::new("Cairn", || {
        let mut gateway = Node::cairn();
        let id = addr.rsplit('/').next().context("an address ends in an id")?;
        gateway.set("Peering.Peers", json!([{ "ID": id, "Addrs": [addr] }]));
        gateway.start_gateway();
        fetch(gateway.port("Gateway server"))
    })];
    if Command::new("rainbow").arg("--version").output().is_ok() {
        contestants.push(Contestant::new("Rainbow", || {
            let scratch = Scratch::new();
            let (gateway, _process) = rainbow(&scratch, &addr)?;
            fetch(gateway)
        }));
    } else {
        println!("skipped: rainbow is not on the PATH");
    }
    let title = format!("first GET of {} MiB through a gateway alone from a connected node", len_bytes >> 20);
    Contest::run(title, args.rounds, contestants)
}

/// Starts Rainbow with one peer and no network besides, and waits until it answers.
fn rainbow(scratch: &Scratch, peer: &str) -> Result<(u16, Process)> {
    let (gateway, control) = (free_port(), free_port());
    let mut command = Command::new("rainbow");
    command.arg("--datadir").arg(scratch.path("")).args([
        "--gateway-listen-address",
        &format!("127.0.0.1:{gateway}"),
        "--ctl-listen-address",
        &format!("127.0.0.1:{control}"),
        "--libp2p-listen-addrs=/ip4/127.0.0.1/tcp/0",
        "--autoconf=false",
        "--bootstrap=",
        "--dht-routing=off",
        // Nobody listens there; without any it asks public ones.
        "--http-routers=http://127.0.0.1:1",
        "--dnslink-resolvers=. : https://127.0.0.1:1/dns-query",
        "--peering",
        peer,
    ]);
    let process = Process::start("rainbow", &mut command);
    cairn_tests::until("rainbow listens", || std::net::TcpStream::connect(("127.0.0.1", gateway)).is_ok());
    Ok((gateway, process))
}
