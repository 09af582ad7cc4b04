//! Named sets of changes to a configuration, as Kubo has them.

use std::net::{Ipv6Addr, TcpListener};
use std::str::FromStr;

use serde_json::{Value, json};

use super::{Config, defaults};
use crate::error::{Error, Kind, Result};

/// A set of changes. [`Profile::from_str`] reads its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For a machine with a public address: no peers in the local network, private ranges neither dialled nor announced.
    Server,
    /// Reverses [`Self::Server`].
    LocalDiscovery,
    /// For tests: loopback, random ports, no bootstrap, no mDNS.
    Test,
    /// Reverses [`Self::Test`].
    DefaultNetworking,
    /// A random port for peers, chosen now.
    RandomPorts,
    /// Fewer connections, and the DHT as a client only.
    LowPower,
    /// For `cairn gateway`: fetches for everybody within a rate, keeps what it fetched as a cache, gives no blocks.
    Gateway,
    /// CIDs as `ipfs add` made them in 2015.
    UnixfsV0_2015,
    /// CIDs as implementations agreed on in 2025: our default.
    UnixfsV1_2025,
}

/// Every profile: name, meaning.
pub const PROFILES: [(&str, Profile); 10] = [
    ("server", Profile::Server),
    ("local-discovery", Profile::LocalDiscovery),
    ("test", Profile::Test),
    ("default-networking", Profile::DefaultNetworking),
    ("randomports", Profile::RandomPorts),
    ("lowpower", Profile::LowPower),
    ("gateway", Profile::Gateway),
    ("unixfs-v1-2025", Profile::UnixfsV1_2025),
    ("unixfs-v0-2015", Profile::UnixfsV0_2015),
    ("legacy-cid-v0", Profile::UnixfsV0_2015),
];

/// Ranges that never belong to a peer on the public network.
///
/// Source: Kubo `config/profile.go`, after the RFCs named there (1918, 6598, 1122, 3927, 6890, 5737, 2544, 1112, 4291,
/// 6666, 5180, 3849, 4193).
const PRIVATE_RANGES: [&str; 19] = [
    "/ip4/10.0.0.0/ipcidr/8",
    "/ip4/100.64.0.0/ipcidr/10",
    "/ip4/127.0.0.0/ipcidr/8",
    "/ip4/169.254.0.0/ipcidr/16",
    "/ip4/172.16.0.0/ipcidr/12",
    "/ip4/192.0.0.0/ipcidr/24",
    "/ip4/192.0.2.0/ipcidr/24",
    "/ip4/192.168.0.0/ipcidr/16",
    "/ip4/198.18.0.0/ipcidr/15",
    "/ip4/198.51.100.0/ipcidr/24",
    "/ip4/203.0.113.0/ipcidr/24",
    "/ip4/240.0.0.0/ipcidr/4",
    "/ip6/::/ipcidr/3",
    "/ip6/::1/ipcidr/128",
    "/ip6/100::/ipcidr/64",
    "/ip6/2001:2::/ipcidr/48",
    "/ip6/2001:db8::/ipcidr/32",
    "/ip6/fc00::/ipcidr/7",
    "/ip6/fe80::/ipcidr/10",
];

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        PROFILES.iter().find(|(known, _)| *known == name).map(|(_, profile)| *profile).ok_or_else(|| {
            let known: Vec<_> = PROFILES.iter().map(|(known, _)| *known).collect();
            Error::invalid(format!("no such profile: {name:?}; there are {}", known.join(", ")))
        })
    }
}

impl Config {
    /// Changes the configuration as `profile` says.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when a key on the way is no object; [`Kind::Unavailable`] when no port is free.
    pub fn apply(&mut self, profile: Profile) -> Result<()> {
        for (key, value) in changes(profile)? {
            self.put(key, value)?;
        }
        match profile {
            Profile::Server => self.change_ranges(|list| {
                for range in PRIVATE_RANGES {
                    if !list.iter().any(|known| known == range) {
                        list.push(json!(range));
                    }
                }
            }),
            Profile::LocalDiscovery => self.change_ranges(|list| {
                list.retain(|known| !PRIVATE_RANGES.iter().any(|range| known == range));
            }),
            _ => Ok(()),
        }
    }

    fn change_ranges(&mut self, change: impl Fn(&mut Vec<Value>)) -> Result<()> {
        for key in ["Addresses.NoAnnounce", "Swarm.AddrFilters"] {
            let mut list = self.read::<Vec<Value>>(key)?.unwrap_or_default();
            change(&mut list);
            self.put(key, Value::Array(list))?;
        }
        Ok(())
    }
}

/// Keys that a profile sets to fixed values. Source: Kubo `config/profile.go`.
fn changes(profile: Profile) -> Result<Vec<(&'static str, Value)>> {
    const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";
    Ok(match profile {
        Profile::Server => {
            vec![("Discovery.MDNS.Enabled", json!(false)), ("Swarm.DisableNatPortMap", json!(true))]
        }
        Profile::LocalDiscovery => {
            vec![("Discovery.MDNS.Enabled", json!(true)), ("Swarm.DisableNatPortMap", json!(false))]
        }
        Profile::Test => vec![
            ("Addresses.API", json!(LOOPBACK)),
            ("Addresses.Gateway", json!(LOOPBACK)),
            ("Addresses.GatewayTLS", json!(LOOPBACK)),
            ("Addresses.Swarm", json!([LOOPBACK, "/ip4/127.0.0.1/udp/0/quic-v1"])),
            ("Swarm.DisableNatPortMap", json!(true)),
            ("Routing.LoopbackAddressesOnLanDHT", json!(true)),
            ("Routing.DelegatedRouters", json!([])),
            ("Bootstrap", json!([])),
            ("Discovery.MDNS.Enabled", json!(false)),
        ],
        Profile::DefaultNetworking => vec![
            ("Addresses", defaults::addresses()),
            ("Bootstrap", json!(["auto"])),
            ("Routing.DelegatedRouters", json!(["auto"])),
            ("Swarm.DisableNatPortMap", json!(false)),
            ("Discovery.MDNS.Enabled", json!(true)),
        ],
        Profile::RandomPorts => {
            let port = free_port()?;
            let addresses = [
                format!("/ip4/0.0.0.0/tcp/{port}"),
                format!("/ip6/::/tcp/{port}"),
                format!("/ip4/0.0.0.0/udp/{port}/quic-v1"),
                format!("/ip6/::/udp/{port}/quic-v1"),
            ];
            vec![("Addresses.Swarm", json!(addresses))]
        }
        Profile::LowPower => vec![
            ("Routing.Type", json!("autoclient")),
            ("AutoNAT.ServiceMode", json!("disabled")),
            ("Swarm.RelayService.Enabled", json!(false)),
            ("Swarm.ConnMgr.Type", json!("basic")),
            ("Swarm.ConnMgr.LowWater", json!(20)),
            ("Swarm.ConnMgr.HighWater", json!(40)),
            ("Swarm.ConnMgr.GracePeriod", json!("1m0s")),
        ],
        Profile::Gateway => vec![
            ("Addresses.API", json!(null)),
            ("Bitswap.ServerEnabled", json!(false)),
            ("Datastore.StorageMax", json!("10GB")),
            ("Gateway.NoFetch", json!(false)),
            ("Gateway.RateLimit", json!({ "RequestsPerSecond": 50, "Burst": 500 })),
            ("Routing.Type", json!("autoclient")),
        ],
        Profile::UnixfsV0_2015 => import(0, false, "size-262144", 174, "links"),
        Profile::UnixfsV1_2025 => import(1, true, "size-1048576", 1024, "block"),
    })
}

/// Source: IPIP-499 and Kubo `config/profile.go`.
fn import(
    version: u8,
    raw_leaves: bool,
    chunker: &str,
    max_links: u32,
    size_estimate: &str,
) -> Vec<(&'static str, Value)> {
    vec![
        ("Import.CidVersion", json!(version)),
        ("Import.UnixFSRawLeaves", json!(raw_leaves)),
        ("Import.UnixFSChunker", json!(chunker)),
        ("Import.HashFunction", json!("sha2-256")),
        ("Import.UnixFSFileMaxLinks", json!(max_links)),
        ("Import.UnixFSDirectoryMaxLinks", json!(0)),
        ("Import.UnixFSHAMTDirectoryMaxFanout", json!(256)),
        ("Import.UnixFSHAMTDirectorySizeThreshold", json!("256KiB")),
        ("Import.UnixFSHAMTDirectorySizeEstimation", json!(size_estimate)),
        ("Import.UnixFSDAGLayout", json!("balanced")),
    ]
}

fn free_port() -> Result<u16> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
        .or_else(|_| TcpListener::bind(("0.0.0.0", 0)))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Error::new(Kind::Unavailable, "no free port").with_cause(error))
}
