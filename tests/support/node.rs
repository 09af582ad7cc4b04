//! A Cairn or Kubo node with a repo of its own. Both speak the same commands, so one type drives both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peers::{self, Peer};
use crate::process::{self, Output, Process};

/// Longest wait for a daemon to answer, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Longest wait for a daemon to end after it was asked to. Cairn promises ten seconds.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Longest wait for one command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(600);

/// The transport that a peer is dialled over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// QUIC, version 1.
    Quic,
    /// A WebSocket without TLS.
    WebSocket,
}

/// A CID profile of IPIP-499.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `unixfs-v0-2015`.
    V0,
    /// `unixfs-v1-2025`.
    V1,
}

impl Profile {
    /// Both profiles.
    pub const ALL: [Self; 2] = [Self::V0, Self::V1];

    fn name(self) -> &'static str {
        match self {
            Self::V0 => "unixfs-v0-2015",
            Self::V1 => "unixfs-v1-2025",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Cairn,
    Kubo,
}

/// A node: a repo in a folder of its own, and its daemon while that runs. Dropping it kills the daemon.
#[derive(Debug)]
pub struct Node {
    program: Program,
    binary: PathBuf,
    /// Network namespace that it runs in, if not in this machine's.
    namespace: Option<String>,
    daemon: Option<Daemon>,
    folder: TempDir,
}

#[derive(Debug)]
struct Daemon {
    process: Process,
    addrs: Vec<String>,
    listeners: Vec<String>,
}

impl Node {
    /// Makes a Cairn repo that listens on random loopback ports, and knows no other peer.
    #[must_use]
    pub fn cairn() -> Self {
        let node = Self::new(Program::Cairn, peers::cairn_binary());
        node.run(&["init", "--profile", "test"]).text();
        // Only the tests that are about the DHT take part in one, under a name of their own.
        node.set("Routing.Type", json!("none"));
        node
    }

    /// Makes a Kubo repo of the same kind. Nothing, and a line that says so, where Kubo is absent.
    #[must_use]
    pub fn kubo() -> Option<Self> {
        let node = Self::new(Program::Kubo, peers::find(Peer::Kubo)?);
        node.run(&["init", "--profile=test"]).text();
        for (key, value) in [
            ("AutoConf.Enabled", json!(false)),
            ("Bootstrap", json!([])),
            ("Routing.Type", json!("none")),
            ("Routing.DelegatedRouters", json!([])),
            ("Ipns.DelegatedPublishers", json!([])),
            ("DNS.Resolvers", json!({})),
            ("Plugins.Plugins", json!({ "telemetry": { "Disabled": true } })),
            ("Addresses.Swarm", json!(["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"])),
        ] {
            node.set(key, value);
        }
        Some(node)
    }

    fn new(program: Program, binary: PathBuf) -> Self {
        let folder = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a temporary folder");
        Self { program, binary, namespace: None, daemon: None, folder }
    }

    /// Lets what starts from now on run in a network namespace.
    pub fn move_to(&mut self, namespace: &str) {
        self.namespace = Some(namespace.to_owned());
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the daemon with further arguments and waits until it is ready.
    pub fn start_with(&mut self, args: &[&str]) {
        self.launch("daemon", args);
        let id: Value = serde_json::from_str(&self.run(&["id"]).text()).expect("id prints JSON");
        let addrs = id["Addresses"].as_array().into_iter().flatten();
        let addrs = addrs.filter_map(|addr| addr.as_str().map(str::to_owned)).collect();
        self.daemon.as_mut().expect("it was set above").addrs = addrs;
    }

    /// Starts a gateway alone on the repo, in place of the daemon, and waits until it is ready. It takes no commands.
    pub fn start_gateway(&mut self) {
        self.start_gateway_with(&[]);
    }

    /// The same with further arguments.
    pub fn start_gateway_with(&mut self, args: &[&str]) {
        self.run(&["config", "profile", "apply", "gateway"]).text();
        self.launch("gateway", args);
    }

    fn launch(&mut self, command: &str, args: &[&str]) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let mut command = self.command(&[command]);
        command.args(args);
        let mut process = Process::start(format!("{:?} daemon", self.program), &mut command);
        let mut listeners = Vec::new();
        while let Some(listener) = process.wait_for("Daemon is ready", START_DEADLINE, |line| {
            let listener = line.split_once(" listening on ").map(|_| line.to_owned());
            (listener.is_some() || line == "Daemon is ready").then_some(listener)
        }) {
            listeners.push(listener);
        }
        self.daemon = Some(Daemon { process, addrs: Vec::new(), listeners });
    }

    /// Asks the daemon to stop and waits until it has.
    pub fn stop(&mut self) {
        let daemon = self.daemon.take().expect("the daemon runs");
        self.run(&["shutdown"]).text();
        let status = daemon.process.wait(STOP_DEADLINE);
        assert!(status.success(), "the daemon ended with {status}");
    }

    /// Ends the daemon as a power cut would.
    pub fn kill(&mut self) {
        self.daemon.take().expect("the daemon runs").process.kill();
    }

    /// Runs a command of this node to its end.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        process::run(&mut self.command(args), COMMAND_DEADLINE)
    }

    /// The command with this node's repo in its environment.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = process::command_in(self.namespace.as_deref(), &self.binary);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("CAIRN_PATH", self.repo())
            .env("IPFS_PATH", self.repo())
            .env("IPFS_TELEMETRY", "off");
        command
    }

    /// Adds a file or a folder and returns its CID.
    #[must_use]
    pub fn add(&self, path: &Path) -> String {
        self.run(&["add", "-r", "-Q", "--progress=false", text(path)]).text()
    }

    /// Gets content into a new file or folder of this node's own, and returns its path.
    #[must_use]
    pub fn get(&self, cid: &str) -> PathBuf {
        let target = self.folder.path().join(format!("got-{cid}"));
        self.run(&["get", "--progress=false", "-o", text(&target), cid]).text();
        target
    }

    /// Connects to another node over `transport`.
    pub fn connect(&self, other: &Self, transport: Transport) {
        self.connect_to(&other.addr(transport));
    }

    /// Connects to an address that ends in `/p2p/` and a peer ID.
    pub fn connect_to(&self, addr: &str) {
        self.run(&["swarm", "connect", addr]).text();
    }

    /// An address of the running daemon, ending in `/p2p/` and its peer ID.
    #[must_use]
    pub fn addr(&self, transport: Transport) -> String {
        let is_over = |addr: &String| match transport {
            Transport::Tcp => addr.contains("/tcp/") && !addr.contains("/ws/"),
            Transport::Quic => addr.contains("/quic-v1/"),
            Transport::WebSocket => addr.contains("/ws/"),
        };
        let addrs = &self.daemon().addrs;
        let found = addrs.iter().find(|addr| addr.starts_with("/ip4/127.0.0.1/") && is_over(addr));
        found.unwrap_or_else(|| panic!("no such address, transport={transport:?} addrs={addrs:?}")).clone()
    }

    /// The loopback port that the daemon said one of its servers listens on: `RPC API server`, `Gateway server`,
    /// `Gateway (HTTPS)`.
    #[must_use]
    pub fn port(&self, server: &str) -> u16 {
        let listeners = &self.daemon().listeners;
        let prefix = format!("{server} listening on /ip4/127.0.0.1/tcp/");
        let port =
            listeners.iter().find_map(|line| line.strip_prefix(&prefix)?.split('/').next()?.parse().ok());
        port.unwrap_or_else(|| panic!("no {server}, listeners={listeners:?}"))
    }

    /// The certificate of the authority that the gateway's own certificate is from.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.repo().join("tls/ca.pem")
    }

    /// Process id of the running daemon.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.daemon().process.id()
    }

    /// Folder of the repo.
    #[must_use]
    pub fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    /// Makes what is added from now on have the CIDs of `profile`.
    pub fn apply(&self, profile: Profile) {
        self.run(&["config", "profile", "apply", profile.name()]).text();
    }

    /// Sets a key of the configuration file, which a daemon reads when it starts.
    pub fn set(&self, key: &str, value: Value) {
        let path = self.repo().join("config");
        let config = fs::read_to_string(&path).expect("a repo has a configuration");
        let mut config: Value = serde_json::from_str(&config).expect("the configuration is JSON");
        let place = key.split('.').fold(&mut config, |place, name| &mut place[name]);
        *place = value;
        fs::write(&path, config.to_string()).expect("the configuration can be written");
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the daemon runs")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
