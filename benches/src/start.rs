//! How long a daemon takes to answer, and to stop.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cairn_tests::{Node, Process};

use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, memory};

const DEADLINE: Duration = Duration::from_secs(60);

/// From the start of the process to the answer of its RPC, and from the RPC's `shutdown` to the end of the process.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    Ok(vec![
        contest("start of the daemon to the first answer", args.rounds, start)?,
        contest("shutdown of the daemon", args.rounds, stop)?,
    ])
}

fn contest(title: &str, rounds: usize, measure: fn(&Node) -> Result<Cost>) -> Result<Contest> {
    let cairn = Node::cairn();
    let mut contestants = vec![Contestant::new("Cairn", move || measure(&cairn))];
    if let Some(kubo) = Node::kubo() {
        contestants.push(Contestant::new("Kubo", move || measure(&kubo)));
    }
    Contest::run(title, rounds, contestants)
}

/// Starts a daemon, and stops it once it has answered.
pub(crate) fn start(node: &Node) -> Result<Cost> {
    let started = Instant::now();
    let (daemon, port) = answering(node)?;
    let wall_s = started.elapsed().as_secs_f64();
    let peak_bytes = memory(daemon.id(), "VmHWM")?;
    shut_down(daemon, port)?;
    Ok(Cost { wall_s, peak_bytes, ..Cost::default() })
}

fn stop(node: &Node) -> Result<Cost> {
    let (daemon, port) = answering(node)?;
    let wall_s = shut_down(daemon, port)?;
    Ok(Cost { wall_s, ..Cost::default() })
}

/// Seconds that a daemon takes to end. It is asked when it is ready: Kubo fails when it is stopped while it starts.
pub(crate) fn shut_down(mut daemon: Process, port: u16) -> Result<f64> {
    daemon.wait_for("Daemon is ready", DEADLINE, |line| (line == "Daemon is ready").then_some(()));
    let started = Instant::now();
    post(port, "shutdown")?;
    ensure!(daemon.wait(DEADLINE).success(), "the daemon ended with an error");
    Ok(started.elapsed().as_secs_f64())
}

/// A daemon whose RPC has answered once.
pub(crate) fn answering(node: &Node) -> Result<(Process, u16)> {
    let mut daemon = Process::start("daemon", &mut node.command(&["daemon"]));
    let port = daemon.wait_for("the RPC's address", DEADLINE, |line| {
        let address = line.strip_prefix("RPC API server listening on /ip4/127.0.0.1/tcp/")?;
        address.split('/').next()?.parse::<u16>().ok()
    });
    let answer = post(port, "version")?;
    ensure!(answer.contains("\"Version\""), "not an answer: {answer}");
    Ok((daemon, port))
}

/// A POST without a client's own start-up time. Version 1.0 of HTTP, so that the end of the stream ends the body.
fn post(port: u16, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "POST /api/v0/{command} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("no answer")?;
    Ok(answer)
}
