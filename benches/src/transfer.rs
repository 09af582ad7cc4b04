//! A big file from node to node on loopback, fetched, verified, stored and pinned.

use anyhow::{Context as _, Result};
use cairn_tests::{Liar, Lie, Node, Profile, Scratch, Transport};

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, Meter};
use crate::tree;

/// Files at most: Kubo takes long for more.
const MAX_FILES: usize = 20_000;

/// Over TCP, then over QUIC: Cairn to Cairn against Kubo to Kubo.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let file = scratch.random_file("big", args.file_bytes, 3);
    let mut contests = Vec::new();
    for transport in [Transport::Tcp, Transport::Quic] {
        let cairn = || Some(Node::cairn());
        let mut contestants = vec![contestant("Cairn to Cairn, durable", &cairn, &file, transport)?];
        if Node::kubo().is_some() {
            contestants.push(contestant("Kubo to Kubo, not durable", &Node::kubo, &file, transport)?);
        }
        let title = format!("pin {} MiB from one other node over {transport:?}", args.file_bytes >> 20);
        contests.push(Contest::run(title, args.rounds, contestants)?);
    }
    Ok(contests)
}

/// A tree of small files, over TCP.
pub(crate) fn small(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let file_count = args.files.min(MAX_FILES);
    let tree = tree::tree(&scratch, file_count)?;
    let cairn = || Some(Node::cairn());
    let mut contestants = vec![contestant("Cairn to Cairn, durable", &cairn, &tree, Transport::Tcp)?];
    if Node::kubo().is_some() {
        contestants.push(contestant("Kubo to Kubo, not durable", &Node::kubo, &tree, Transport::Tcp)?);
    }
    let title = format!("pin a tree of {file_count} files from one other node");
    Ok(vec![Contest::run(title, args.rounds, contestants)?])
}

/// A big file from one provider, alone and among nine in bad faith.
pub(crate) fn liars(args: &Args) -> Result<Vec<Contest>> {
    let scratch = Scratch::new();
    let file = scratch.random_file("big", args.file_bytes, 3);
    let mut sender = Node::cairn();
    sender.start();
    let cid = sender.add(&file);
    let liars = Lie::NINE.map(Liar::start);
    let fetch = |liars: &[Liar]| -> Result<Cost> {
        let mut receiver = Node::cairn();
        receiver.start();
        liars.iter().for_each(|liar| receiver.connect_to(liar.addr()));
        receiver.connect(&sender, Transport::Tcp);
        let cost = pin(&sender, &receiver, &cid)?;
        receiver.stop();
        Ok(cost)
    };
    let contestants = vec![
        Contestant::new("one honest provider among nine liars", || fetch(&liars)),
        Contestant::new("one honest provider", || fetch(&[])),
    ];
    let title = format!("pin {} MiB among liars", args.file_bytes >> 20);
    Ok(vec![Contest::run(title, args.rounds, contestants)?])
}

/// One sender that has the file for all rounds, and a fresh receiver in each.
fn contestant<'a>(
    name: &str,
    make: &'a dyn Fn() -> Option<Node>,
    file: &std::path::Path,
    transport: Transport,
) -> Result<Contestant<'a>> {
    let mut sender = make().context("the node is there")?;
    sender.apply(Profile::V1);
    sender.start();
    let cid = sender.add(file);
    Ok(Contestant::new(name, move || {
        let mut receiver = make().context("the node is there")?;
        receiver.start();
        receiver.connect(&sender, transport);
        let cost = pin(&sender, &receiver, &cid)?;
        receiver.stop();
        Ok(cost)
    }))
}

/// Lets the receiver pin what the sender has.
pub(crate) fn pin(sender: &Node, receiver: &Node, cid: &str) -> Result<Cost> {
    let meter = Meter::start(&[sender.process_id(), receiver.process_id()])?;
    receiver.run(&["pin", "add", cid]).text();
    meter.stop()
}
