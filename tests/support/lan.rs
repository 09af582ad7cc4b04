//! Computers on one router: network namespaces of this machine, joined by a cable.

use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::peers::say_skipped;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Two hosts on a network that nobody else is on. Dropping it takes them away.
#[derive(Debug)]
pub struct Lan {
    hosts: [String; 2],
}

impl Lan {
    /// Sets one up. Nothing, and a line that says so, where this machine does not let us.
    #[must_use]
    pub fn new() -> Option<Self> {
        let lan = Self { hosts: ["a", "b"].map(namespace) };
        match lan.set_up() {
            Ok(()) => Some(lan),
            Err(reason) => {
                say_skipped(&format!("no network namespaces here: {reason}"));
                None
            }
        }
    }

    /// Name of the namespace of a host, 0 or 1.
    #[must_use]
    pub fn host(&self, number: usize) -> &str {
        &self.hosts[number]
    }

    fn set_up(&self) -> Result<(), String> {
        let [a, b] = &self.hosts;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["link", "add", "lan", "netns", a, "type", "veth", "peer", "name", "lan", "netns", b])?;
        for (host, addr) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            ip(&["-n", host, "address", "add", addr, "dev", "lan"])?;
            ip(&["-n", host, "link", "set", "lo", "up"])?;
            ip(&["-n", host, "link", "set", "lan", "up"])?;
            // Multicast needs a way out.
            ip(&["-n", host, "route", "add", "default", "dev", "lan"])?;
        }
        Ok(())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in &self.hosts {
            // It may never have been made; its end of the cable goes with it.
            let _ = ip(&["netns", "delete", host]);
        }
    }
}

/// A name for a namespace that no other has.
pub(crate) fn namespace(kind: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("cairn-{}-{number}-{kind}", process::id())
}

/// Runs `ip`; returns what it complains of.
pub(crate) fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
