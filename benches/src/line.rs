//! Nodes that are far away from each other: lines with a rate and a delay between network namespaces of this machine.
//!
//! Both ends of a contest have the same kernel buffers, which are printed. The program that holds the packets back runs on
//! the same cores, and its time counts for nobody.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cairn_tests::{LineKind, Lines, Node, Profile, Scratch, Transport, command_in, free_port};
use serde_json::json;

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, run as measured};
use crate::nginx::Nginx;
use crate::transfer::pin;
use crate::tree;

/// 1 Gbit/s.
pub(crate) const FAST: u64 = 1_000_000_000;
/// From one end of a long line to the other and back.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// The same to each of several providers.
const PROVIDERS_ROUND_TRIP: Duration = Duration::from_millis(20);
/// Files of the tree that Kubo takes part with: it takes minutes for more.
const MAX_RIVAL_FILES: usize = 5000;
/// Length of the file for poor lines, in bytes.
const POOR_FILE_BYTES: u64 = 8 << 20;
/// Rounds at most where one takes a minute.
const MAX_ROUNDS: usize = 3;

pub(crate) type Make = fn() -> Option<Node>;

const CAIRN: Make = || Some(Node::cairn());
const KUBO: Make = Node::kubo;

/// A big file over a fast and long line.
pub(crate) fn big(args: &Args) -> Result<Vec<Contest>> {
    let Some(lines) = Lines::new(&[LineKind::new(FAST, ROUND_TRIP)]) else { return Ok(Vec::new()) };
    let scratch = Scratch::new();
    let file = scratch.random_file("big", args.file_bytes, 3);
    let mut contestants = vec![
        between(&lines, "Cairn to Cairn over TCP, durable", (CAIRN, CAIRN), &file, Transport::Tcp)?,
        between(&lines, "Cairn to Cairn over QUIC, durable", (CAIRN, CAIRN), &file, Transport::Quic)?,
    ];
    let _nginx = add_curl(&mut contestants, &lines, &scratch, &file)?;
    if Node::kubo().is_some() {
        for (name, ends) in [
            ("Kubo to Kubo", (KUBO, KUBO)),
            ("Cairn to Kubo", (CAIRN, KUBO)),
            ("Kubo to Cairn", (KUBO, CAIRN)),
        ] {
            contestants.push(between(&lines, &format!("{name} over TCP"), ends, &file, Transport::Tcp)?);
        }
    }
    let title = format!("pin {} MiB over 1 Gbit/s, 100 ms", args.file_bytes >> 20);
    run(title, args.rounds.min(MAX_ROUNDS), contestants, &lines)
}

/// A tree of small files over a fast and long line: one that Kubo takes part with, and all of it beside an archive of it.
pub(crate) fn tree(args: &Args) -> Result<Vec<Contest>> {
    let Some(lines) = Lines::new(&[LineKind::new(FAST, ROUND_TRIP)]) else { return Ok(Vec::new()) };
    let mut contests = Vec::new();
    for file_count in [args.files.min(MAX_RIVAL_FILES), args.files] {
        let scratch = Scratch::new();
        let folder = tree::tree(&scratch, file_count)?;
        let archive = scratch.path("archive.tar");
        measured(command_in(None, "tar").arg("-cf").arg(&archive).arg("-C").arg(&folder).arg("."))?;
        let mut contestants =
            vec![between(&lines, "Cairn to Cairn, durable", (CAIRN, CAIRN), &folder, Transport::Tcp)?];
        let _nginx = add_curl(&mut contestants, &lines, &scratch, &archive)?;
        if file_count <= MAX_RIVAL_FILES && Node::kubo().is_some() {
            contestants.push(between(&lines, "Kubo to Kubo", (KUBO, KUBO), &folder, Transport::Tcp)?);
        }
        let title =
            format!("pin a tree of {file_count} files over 1 Gbit/s, 100 ms; curl: one archive of it");
        contests.extend(run(title, args.rounds.min(MAX_ROUNDS), contestants, &lines)?);
        if file_count == args.files {
            break;
        }
    }
    Ok(contests)
}

/// A big file from four providers, each behind a line of its own, and from one of them.
pub(crate) fn providers(args: &Args) -> Result<Vec<Contest>> {
    let kind = LineKind::new(FAST / 10, PROVIDERS_ROUND_TRIP);
    let Some(lines) = Lines::new(&[kind; 4]) else { return Ok(Vec::new()) };
    let scratch = Scratch::new();
    let file = scratch.random_file("big", args.file_bytes / 4, 3);
    let mut senders = Vec::new();
    let mut root = String::new();
    for number in 0..4 {
        let (sender, addr) = far_node(&lines, number, CAIRN, Transport::Tcp)?;
        root = sender.add(&file);
        senders.push((sender, addr));
    }
    let fetch = |senders: &[(Node, String)]| -> Result<Cost> {
        let mut receiver = near_node(&lines, Node::cairn());
        senders.iter().for_each(|(_, addr)| receiver.connect_to(addr));
        let cost = pin(&senders[0].0, &receiver, &root)?;
        let stat = receiver.run(&["bitswap", "stat"]).text();
        let received = stat.lines().filter(|line| line.contains("data received"));
        eprintln!("{} providers: {}", senders.len(), received.map(str::trim).collect::<Vec<_>>().join(", "));
        receiver.stop();
        Ok(cost)
    };
    let contestants = vec![
        Contestant::new("four providers", || fetch(&senders)),
        Contestant::new("one provider", || fetch(&senders[..1])),
    ];
    let title = format!("pin {} MiB from providers of 100 Mbit/s, 20 ms each", args.file_bytes >> 22);
    run(title, args.rounds.min(MAX_ROUNDS), contestants, &lines)
}

/// A file over a line that loses packets, and over a slow one.
pub(crate) fn poor(args: &Args) -> Result<Vec<Contest>> {
    let lossy = LineKind::new(FAST / 10, ROUND_TRIP).losing(10);
    let slow = LineKind::new(8_000_000, ROUND_TRIP);
    let mut contests = Vec::new();
    for (kind, name) in [(lossy, "100 Mbit/s, 100 ms, 1 % lost"), (slow, "8 Mbit/s, 100 ms")] {
        let Some(lines) = Lines::new(&[kind]) else { return Ok(Vec::new()) };
        let scratch = Scratch::new();
        let file = scratch.random_file("file", POOR_FILE_BYTES, 5);
        let mut contestants = vec![
            between(&lines, "Cairn to Cairn over TCP, durable", (CAIRN, CAIRN), &file, Transport::Tcp)?,
            between(&lines, "Cairn to Cairn over QUIC, durable", (CAIRN, CAIRN), &file, Transport::Quic)?,
        ];
        let _nginx = add_curl(&mut contestants, &lines, &scratch, &file)?;
        if Node::kubo().is_some() {
            contestants.push(between(&lines, "Kubo to Kubo over TCP", (KUBO, KUBO), &file, Transport::Tcp)?);
        }
        let title = format!("pin {} MiB over {name}", POOR_FILE_BYTES >> 20);
        contests.extend(run(title, args.rounds.min(MAX_ROUNDS), contestants, &lines)?);
    }
    Ok(contests)
}

fn run(
    title: String,
    rounds: usize,
    contestants: Vec<Contestant<'_>>,
    lines: &Lines,
) -> Result<Vec<Contest>> {
    println!("{title}: {}", lines.describe());
    let contest = Contest::run(title, rounds, contestants)?;
    println!("packets dropped by full queues: {}", lines.dropped_count());
    Ok(vec![contest])
}

/// One far sender that has the content for all rounds, and a fresh near receiver in each.
fn between<'a>(
    lines: &'a Lines,
    name: &str,
    (sender, receiver): (Make, Make),
    content: &Path,
    transport: Transport,
) -> Result<Contestant<'a>> {
    let (sender, addr) = far_node(lines, 0, sender, transport)?;
    let root = sender.add(content);
    Ok(Contestant::new(name, move || {
        let receiver = receiver().context("the node is there")?;
        let mut receiver = near_node(lines, receiver);
        receiver.connect_to(&addr);
        let cost = pin(&sender, &receiver, &root)?;
        receiver.stop();
        Ok(cost)
    }))
}

/// Starts a node on the near host, with sockets that lead to the far one.
pub(crate) fn near_node(lines: &Lines, mut node: Node) -> Node {
    node.move_to(lines.near());
    let ip = lines.near_ip(0);
    node.set("Addresses.Swarm", json!([format!("/ip4/{ip}/tcp/0"), format!("/ip4/{ip}/udp/0/quic-v1")]));
    node.start();
    node
}

/// A node that runs on a far host, and its address there.
pub(crate) fn far_node(
    lines: &Lines,
    number: usize,
    make: Make,
    transport: Transport,
) -> Result<(Node, String)> {
    let mut node = make().context("the node is there")?;
    node.apply(Profile::V1);
    node.move_to(lines.far(number));
    // Others on this host are still there.
    let (ip, port) = (lines.far_ip(number), free_port());
    let addr = match transport {
        Transport::Quic => format!("/ip4/{ip}/udp/{port}/quic-v1"),
        _ => format!("/ip4/{ip}/tcp/{port}"),
    };
    node.set("Addresses.Swarm", json!([addr]));
    node.start();
    let id = node.run(&["id", "-f", "<id>"]).text();
    Ok((node, format!("{addr}/p2p/{id}")))
}

/// curl, from nginx at the far end: a connection of its own, to a file, which is not synced.
fn add_curl<'a>(
    contestants: &mut Vec<Contestant<'a>>,
    lines: &'a Lines,
    scratch: &Scratch,
    file: &Path,
) -> Result<Option<Nginx>> {
    let Some(nginx) = Nginx::start(scratch.path(""), Some(lines.far(0)))? else { return Ok(None) };
    let name = file.file_name().context("a file has a name")?.to_string_lossy();
    let url = format!("http://{}:{}/{name}", lines.far_ip(0), nginx.port);
    let target = scratch.path("got");
    contestants.push(Contestant::new("curl from nginx", move || curl(lines, &url, &target)));
    Ok(Some(nginx))
}

fn curl(lines: &Lines, url: &str, target: &PathBuf) -> Result<Cost> {
    let mut command = command_in(Some(lines.near()), "curl");
    let (_, cost) = measured(command.args(["--silent", "--fail", "--output"]).arg(target).arg(url))?;
    std::fs::remove_file(target)?;
    Ok(cost)
}
