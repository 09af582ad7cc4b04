//! An internet of this machine's own: network namespaces on one public network, some of them behind routers.

use crate::lan::{ip, namespace};
use crate::peers::say_skipped;

/// Hosts with public addresses, and homes whose routers let out and not in. Dropping it takes all of them away.
#[derive(Debug)]
pub struct Internet {
    backbone: String,
    spaces: Vec<String>,
}

/// A host: the name of its namespace, and the address under which others see it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Network namespace.
    pub namespace: String,
    /// Public address; of the router for a host at home.
    pub public_ip: String,
}

/// What a router at home does: everybody inside looks like the router, and nobody gets in who was not called.
const ROUTER: &str = "
    table ip home {
        chain out { type nat hook postrouting priority 100; oifname \"wan\" masquerade; }
        chain in { type filter hook input priority 0; iifname \"wan\" ct state new drop; }
        chain through { type filter hook forward priority 0; iifname \"wan\" ct state new drop; }
    }";

impl Internet {
    /// Sets up an empty one. Nothing, and a line that says so, where this machine does not let us.
    #[must_use]
    pub fn new() -> Option<Self> {
        let backbone = namespace("net");
        let internet = Self { spaces: vec![backbone.clone()], backbone };
        let set_up = || {
            ip(&["netns", "add", &internet.backbone])?;
            ip(&["-n", &internet.backbone, "link", "add", "net", "type", "bridge"])?;
            ip(&["-n", &internet.backbone, "link", "set", "net", "up"])?;
            // Without it no router can be set up.
            in_namespace(&internet.backbone, &["nft", "list", "ruleset"])
        };
        match set_up() {
            Ok(()) => Some(internet),
            Err(reason) => {
                say_skipped(&format!("no routers between network namespaces here: {reason}"));
                None
            }
        }
    }

    /// A host that everybody can reach.
    pub fn public_host(&mut self) -> Host {
        let host = self.attach("host", "wan");
        done(ip(&["-n", &host.namespace, "link", "set", "lo", "up"]));
        host
    }

    /// A host behind a router of its own.
    pub fn host_at_home(&mut self) -> Host {
        let router = self.attach("router", "wan");
        let host = namespace("home");
        self.spaces.push(host.clone());
        done(ip(&["netns", "add", &host]));
        let (inside, home) = (&router.namespace, &host);
        done(ip(&[
            "link", "add", "lan", "netns", inside, "type", "veth", "peer", "name", "lan", "netns", home,
        ]));
        for (space, addr) in [(inside, "192.168.1.1/24"), (home, "192.168.1.2/24")] {
            done(ip(&["-n", space, "address", "add", addr, "dev", "lan"]));
            done(ip(&["-n", space, "link", "set", "lo", "up"]));
            done(ip(&["-n", space, "link", "set", "lan", "up"]));
        }
        done(ip(&["-n", home, "route", "add", "default", "via", "192.168.1.1"]));
        done(in_namespace(inside, &["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]));
        done(in_namespace(inside, &["nft", ROUTER]));
        Host { namespace: host, public_ip: router.public_ip }
    }

    /// A new namespace on the public network.
    fn attach(&mut self, kind: &str, device: &str) -> Host {
        let space = namespace(kind);
        // A range that is assigned, and to nobody on this machine.
        let public_ip = format!("11.0.0.{}", self.spaces.len());
        self.spaces.push(space.clone());
        let port = format!("port{}", self.spaces.len());
        done(ip(&["netns", "add", &space]));
        let backbone = &self.backbone;
        done(ip(&[
            "link", "add", &port, "netns", backbone, "type", "veth", "peer", "name", device, "netns", &space,
        ]));
        done(ip(&["-n", backbone, "link", "set", &port, "master", "net", "up"]));
        done(ip(&["-n", &space, "address", "add", &format!("{public_ip}/24"), "dev", device]));
        done(ip(&["-n", &space, "link", "set", device, "up"]));
        Host { namespace: space, public_ip }
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        for space in &self.spaces {
            // It may never have been made; its cables go with it.
            let _ = ip(&["netns", "delete", space]);
        }
    }
}

fn done(result: Result<(), String>) {
    result.expect("what worked for the backbone works for the rest");
}

fn in_namespace(space: &str, command: &[&str]) -> Result<(), String> {
    ip(&[&["netns", "exec", space], command].concat())
}
