//! A Helia node in memory, driven line by line: `peers/helia/peer.mjs` says how.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::peers::{self, Peer};
use crate::process::Process;

/// Longest wait for one answer.
const DEADLINE: Duration = Duration::from_secs(180);
const SCRIPT: &str = include_str!("../peers/helia/peer.mjs");

/// A running Helia node. Dropping it kills it.
#[derive(Debug)]
pub struct Helia {
    process: Process,
    addrs: Vec<String>,
}

impl Helia {
    /// Starts a node that listens on a random loopback port. Nothing, and a line that says so, where Helia is absent.
    #[must_use]
    pub fn start() -> Option<Self> {
        let folder = peers::find(Peer::Helia)?;
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
        let node = folder.join(format!("node_modules/node-linux-{machine}/bin/node"));
        // Its imports are looked up from the current folder, so the script need not be copied there.
        let mut command = Command::new(node);
        command.args(["--input-type=module", "--eval", SCRIPT]).current_dir(folder);
        let mut process = Process::start("Helia", &mut command);
        let started = process.wait_for("its addresses", DEADLINE, json_line);
        let addrs = started["addrs"].as_array().into_iter().flatten();
        let addrs = addrs.filter_map(|addr| addr.as_str().map(str::to_owned)).collect();
        Some(Self { process, addrs })
    }

    /// Its address for TCP, ending in `/p2p/` and its peer ID.
    #[must_use]
    pub fn addr(&self) -> &str {
        self.addrs.iter().find(|addr| !addr.contains("/ws/")).expect("it listens for TCP")
    }

    /// Its address for WebSockets, ending in `/p2p/` and its peer ID.
    #[must_use]
    pub fn web_addr(&self) -> &str {
        self.addrs.iter().find(|addr| addr.contains("/ws/")).expect("it listens for WebSockets")
    }

    /// Connects to an address that ends in `/p2p/` and a peer ID.
    pub fn dial(&mut self, addr: &str) {
        self.call(&json!({ "do": "dial", "addr": addr }));
    }

    /// Adds a file and returns its CID.
    pub fn add_file(&mut self, path: &Path) -> String {
        let answer = self.call(&json!({ "do": "add", "file": path }));
        answer["cid"].as_str().expect("add answers a CID").to_owned()
    }

    /// Adds what a folder holds and returns the CID of the directory.
    pub fn add_directory(&mut self, path: &Path) -> String {
        let answer = self.call(&json!({ "do": "add", "directory": path }));
        answer["cid"].as_str().expect("add answers a CID").to_owned()
    }

    /// Reads a file to its end and returns its length in bytes and its SHA-256 in hexadecimal.
    pub fn get(&mut self, cid: &str) -> (u64, String) {
        let answer = self.call(&json!({ "do": "get", "cid": cid }));
        let sha256 = answer["sha256"].as_str().expect("get answers a digest").to_owned();
        (answer["len_bytes"].as_u64().expect("get answers a length"), sha256)
    }

    /// Names in a directory, in its order.
    pub fn list(&mut self, cid: &str) -> Vec<String> {
        let answer = self.call(&json!({ "do": "ls", "cid": cid }));
        let names = answer["names"].as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    fn call(&mut self, request: &Value) -> Value {
        self.process.send(&request.to_string());
        let answer = self.process.wait_for("an answer", DEADLINE, json_line);
        assert!(answer.get("error").is_none(), "Helia cannot: {answer}, request={request}");
        answer
    }
}

fn json_line(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}
