//! The keys that the node itself reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use serde::Deserialize;
use tracing::warn;

use super::{
    BOOTSTRAP, Config, DEFAULT_BLOCK_TIMEOUT, DEFAULT_MAX_MEMORY_BYTES, decode_key, defaults, invalid,
};
use crate::error::Result;
use crate::exchange::RetrievalRules;
use crate::exchange::http::GatewayUrl;
use crate::names::{DnsSettings, DohServer};
use crate::provide::{DEFAULT_INTERVAL, ProvideSettings};
use crate::routing::delegated::RouterUrl;
use crate::settings::addresses::{Announce, Withheld, parse_network};
use crate::settings::units::{parse_duration, parse_size};
use crate::settings::{
    BandwidthLimits, ConnectionMarks, ConnectionSettings, DhtMode, Settings, StoreSettings, SwarmSettings,
    UpstreamSettings,
};

/// Folder of a repo with lists of what is not served.
const DENYLISTS_FOLDER: &str = "denylists";

/// Share of the memory budget that connections get: a quarter.
const CONNECTIONS_SHARE: u64 = 4;

/// Memory that a connection is counted as, in bytes: a busy one with its windows and streams.
const CONNECTION_BYTES: u64 = 512 * 1024;

/// Connections that there are always, however small the budget is.
const MIN_CONNECTIONS: u32 = 16;

/// Share of the memory budget that the store gets: three eighths.
const STORE_SHARE: (u64, u64) = (3, 8);

impl Config {
    /// What a node in `repo` is built from.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`], naming the key whose value is wrong.
    pub fn to_settings(&self, repo: &Path) -> Result<Settings> {
        let identity = self
            .read_with("Identity.PrivKey", decode_key)?
            .ok_or_else(|| invalid("Identity.PrivKey", "the private key is missing"))?;
        let peer_id = identity.public().to_peer_id().to_string();
        if self.read::<String>("Identity.PeerID")?.is_some_and(|stated| stated != peer_id) {
            return Err(invalid("Identity.PeerID", format!("the private key belongs to {peer_id}")));
        }
        Ok(Settings {
            repo: repo.to_owned(),
            identity,
            store: self.store()?,
            swarm: Some(self.swarm()?),
            upstream: None,
            routers: self.routers()?,
            retrieval: self.retrieval()?,
            provide: self.provide()?,
            dns: self.dns()?,
            block_timeout: self
                .read_with("Bitswap.BlockTimeout", parse_duration)?
                .unwrap_or(DEFAULT_BLOCK_TIMEOUT),
            denylists: self.denylists(repo)?,
        })
    }

    /// The gateways that a gateway alone asks in place of peers, if it is to ask any.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`], naming the key whose value is wrong.
    pub fn upstream(&self) -> Result<Option<UpstreamSettings>> {
        let gateways = self.read_list("Gateway.Upstream.URLs", GatewayUrl::from_str)?;
        let path = |text: &str| Ok::<_, String>(PathBuf::from(text));
        let settings = UpstreamSettings {
            roots: self.read_with("Gateway.Upstream.Root", path)?,
            timeout: self
                .read_with("Gateway.Upstream.Timeout", parse_duration)?
                .unwrap_or(defaults::UPSTREAM_TIMEOUT),
            agent: self.agent_version()?,
            gateways,
        };
        Ok((!settings.gateways.is_empty()).then_some(settings))
    }

    /// The peer ID, without a look at the private key.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] when `Identity.PeerID` is missing or wrong.
    pub fn peer_id(&self) -> Result<PeerId> {
        self.read_with("Identity.PeerID", PeerId::from_str)?
            .ok_or_else(|| invalid("Identity.PeerID", "the peer ID is missing"))
    }

    /// Peers to start from.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for an address that does not end in a peer ID.
    pub fn bootstrap(&self) -> Result<Vec<Multiaddr>> {
        let mut peers = Vec::new();
        for text in self.read_list("Bootstrap", |text| Ok::<_, String>(text.to_owned()))? {
            match text.as_str() {
                "auto" => peers.extend(BOOTSTRAP.iter().map(|text| peer_address("Bootstrap", text))),
                text => peers.push(peer_address("Bootstrap", text)),
            }
        }
        peers.into_iter().collect()
    }

    /// Those that every program of this computer shares, and then those of the repo, which go before them.
    fn denylists(&self, repo: &Path) -> Result<Vec<PathBuf>> {
        let key = "Denylists.Folders";
        let shared = match self.get(key) {
            None => vec![PathBuf::from(defaults::DENYLISTS)],
            Some(_) => self.read_list(key, |text| Ok::<_, String>(PathBuf::from(text)))?,
        };
        Ok(shared.into_iter().chain([repo.join(DENYLISTS_FOLDER)]).collect())
    }

    /// The one budget that everything has a share of.
    pub(super) fn max_memory_bytes(&self) -> Result<u64> {
        Ok(self.read_size("Resources.MaxMemory")?.unwrap_or(DEFAULT_MAX_MEMORY_BYTES))
    }

    fn store(&self) -> Result<StoreSettings> {
        let memory_bytes = self.max_memory_bytes()?;
        let (share, of) = STORE_SHARE;
        Ok(StoreSettings {
            max_bytes: self.read_size("Datastore.StorageMax")?,
            memory_bytes: usize::try_from(memory_bytes / of * share)
                .map_err(|error| invalid("Resources.MaxMemory", error))?,
        })
    }

    /// Source of `DNS.Resolvers`: Kubo `docs/config.md`. `auto` stands for no resolver of its own.
    fn dns(&self) -> Result<DnsSettings> {
        let key = "DNS.Resolvers";
        let resolvers: BTreeMap<String, String> = self.read(key)?.unwrap_or_default();
        let resolvers = resolvers.into_iter().filter(|(_, url)| url != "auto" && !url.is_empty());
        let resolvers = resolvers.map(|(domain, url)| {
            Ok((domain, url.parse::<DohServer>().map_err(|error| invalid(key, error))?))
        });
        Ok(DnsSettings {
            map: self.read_with("DNS.NameMap", str::parse)?.unwrap_or_default(),
            resolvers: resolvers.collect::<Result<_>>()?,
        })
    }

    fn swarm(&self) -> Result<SwarmSettings> {
        let protocol = |key, default: &str| {
            self.read_with(key, |text| {
                if text.starts_with('/') {
                    Ok(text.to_owned())
                } else {
                    Err("a protocol starts with a slash")
                }
            })
            .map(|protocol| protocol.unwrap_or_else(|| default.to_owned()))
        };
        Ok(SwarmSettings {
            listen: self.listen()?,
            announce: self.announce()?,
            refused: self.read_list("Swarm.AddrFilters", parse_network)?.into_iter().collect(),
            bootstrap: self.bootstrap()?,
            peering: self.peering()?,
            mdns: self.read("Discovery.MDNS.Enabled")?.unwrap_or(true),
            dht: self.read_with("Routing.Type", dht_mode)?.unwrap_or(DhtMode::Auto),
            dht_protocol: protocol("Routing.DHTProtocol", "/ipfs/kad/1.0.0")?,
            lan_dht_protocol: protocol("Routing.LanDHTProtocol", "/ipfs/lan/kad/1.0.0")?,
            bitswap_server: self.read("Bitswap.ServerEnabled")?.unwrap_or(true),
            connections: self.connections()?,
            bandwidth: BandwidthLimits {
                up_bytes: self.read_size("Resources.MaxUpload")?,
                down_bytes: self.read_size("Resources.MaxDownload")?,
            },
            agent_version: self.agent_version()?,
            // Its key is a file of the repo, which is not looked into here.
            private_network: None,
            must_be_private: self.must_be_private()?,
            reach: self.reach()?,
        })
    }

    /// The variable that may stand for this key is `1` in Go.
    fn must_be_private(&self) -> Result<bool> {
        let key = "Swarm.RequireKey";
        match self.get(key) {
            Some(serde_json::Value::Number(number)) => Ok(number.as_u64() == Some(1)),
            _ => Ok(self.read(key)?.unwrap_or(false)),
        }
    }

    /// Source of names and defaults: Kubo `docs/config.md`, `Swarm.ConnMgr` and `Swarm.ResourceMgr`.
    fn connections(&self) -> Result<ConnectionSettings> {
        let max_count = self.max_connection_count()?;
        let defaults = ConnectionMarks::default();
        let is_on = self.read_with("Swarm.ConnMgr.Type", |name| match name {
            "basic" => Ok(true),
            "none" => Ok(false),
            other => Err(format!("no such connection manager: {other:?}; there are basic and none")),
        });
        let marks = ConnectionMarks {
            low: self.read("Swarm.ConnMgr.LowWater")?.unwrap_or(defaults.low),
            high: self.read("Swarm.ConnMgr.HighWater")?.unwrap_or(defaults.high),
            grace: self.read_with("Swarm.ConnMgr.GracePeriod", parse_duration)?.unwrap_or(defaults.grace),
        };
        let high = marks.high.min(max_count);
        if high < marks.high {
            warn!(max_count, "Swarm.ConnMgr.HighWater is lowered: there is memory for so many connections");
        }
        let marks = ConnectionMarks { high, low: marks.low.min(high), ..marks };
        Ok(ConnectionSettings { max_count, marks: is_on?.unwrap_or(true).then_some(marks) })
    }

    /// Connections that there is memory for, and files.
    fn max_connection_count(&self) -> Result<u32> {
        if !self.read("Swarm.ResourceMgr.Enabled")?.unwrap_or(true) {
            return Ok(u32::MAX);
        }
        let all = self.max_memory_bytes()?;
        let memory = self.read_size("Swarm.ResourceMgr.MaxMemory")?.unwrap_or(all / CONNECTIONS_SHARE);
        let files = self.read::<u32>("Swarm.ResourceMgr.MaxFileDescriptors")?.unwrap_or(u32::MAX);
        let in_memory = u32::try_from(memory / CONNECTION_BYTES).unwrap_or(u32::MAX);
        Ok(in_memory.min(files).max(MIN_CONNECTIONS))
    }

    /// Source of the key: Kubo `docs/config.md`, `Routing.DelegatedRouters`.
    fn routers(&self) -> Result<Vec<RouterUrl>> {
        let (kind, key) =
            (self.read::<String>("Routing.Type")?.unwrap_or_default(), "Routing.DelegatedRouters");
        let automatic = RouterUrl::automatic(kind != "delegated");
        let listed = match self.get(key) {
            None => vec![automatic],
            Some(_) => self.read_list(key, |text| match text {
                "auto" => Ok(automatic.clone()),
                text => text.parse(),
            })?,
        };
        let are_asked = matches!(kind.as_str(), "" | "auto" | "autoclient" | "delegated");
        Ok(if are_asked { listed } else { Vec::new() })
    }

    /// Source of the keys: Kubo `docs/config.md`, `HTTPRetrieval`.
    fn retrieval(&self) -> Result<Option<RetrievalRules>> {
        let hosts = |key| self.read_list(key, |host| Ok::<_, String>(host.to_owned()));
        let rules = RetrievalRules {
            allowed: hosts("HTTPRetrieval.Allowlist")?,
            denied: hosts("HTTPRetrieval.Denylist")?,
        };
        Ok(self.read("HTTPRetrieval.Enabled")?.unwrap_or(true).then_some(rules))
    }

    /// Source of the keys: Kubo `docs/config.md`, `Provide`.
    fn provide(&self) -> Result<ProvideSettings> {
        Ok(ProvideSettings {
            is_enabled: self.read("Provide.Enabled")?.unwrap_or(true),
            strategy: self.read_with("Provide.Strategy", str::parse)?.unwrap_or_default(),
            interval: match self.get("Provide.DHT.Interval").and_then(serde_json::Value::as_str) {
                Some("0") => Duration::ZERO,
                _ => self.read_with("Provide.DHT.Interval", parse_duration)?.unwrap_or(DEFAULT_INTERVAL),
            },
        })
    }

    fn announce(&self) -> Result<Announce> {
        Ok(Announce {
            replace: self.read_list("Addresses.Announce", Multiaddr::from_str)?,
            append: self.read_list("Addresses.AppendAnnounce", Multiaddr::from_str)?,
            withhold: self.read_list("Addresses.NoAnnounce", Withheld::from_str)?,
        })
    }

    fn agent_version(&self) -> Result<String> {
        let own = concat!("cairn/", env!("CARGO_PKG_VERSION"));
        let suffix = self.read::<String>("Version.AgentSuffix")?.filter(|suffix| !suffix.is_empty());
        Ok(suffix.map_or_else(|| own.to_owned(), |suffix| format!("{own}/{suffix}")))
    }

    /// Addresses of transports that this program lacks are left out, so that a Kubo configuration works.
    fn listen(&self) -> Result<Vec<Multiaddr>> {
        let key = "Addresses.Swarm";
        if self.get(key).is_none_or(serde_json::Value::is_null) {
            return defaults::SWARM
                .iter()
                .map(|text| text.parse().map_err(|error| invalid(key, error)))
                .collect();
        }
        let mut addresses = self.read_list(key, Multiaddr::from_str)?;
        addresses.retain(|address| {
            let supported = is_supported(address);
            if !supported {
                warn!(%address, "not listening there: no such transport");
            }
            supported
        });
        Ok(addresses)
    }

    fn peering(&self) -> Result<Vec<(PeerId, Vec<Multiaddr>)>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Peer {
            #[serde(rename = "ID")]
            id: String,
            #[serde(default)]
            addrs: Option<Vec<String>>,
        }
        let key = "Peering.Peers";
        let peers = self.read::<Vec<Peer>>(key)?.unwrap_or_default();
        peers
            .into_iter()
            .map(|peer| {
                let id = PeerId::from_str(&peer.id).map_err(|error| invalid(key, error))?;
                let addrs = peer.addrs.unwrap_or_default();
                let addrs = addrs.iter().map(|text| text.parse().map_err(|error| invalid(key, error)));
                Ok((id, addrs.collect::<Result<_>>()?))
            })
            .collect()
    }

    /// A size as a text with a unit or as a number of bytes.
    pub(super) fn read_size(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key) {
            Some(serde_json::Value::Number(_)) => self.read(key),
            _ => self.read_with(key, parse_size),
        }
    }
}

/// Source of the names: Kubo `docs/config.md`, `Routing.Type`.
fn dht_mode(name: &str) -> Result<DhtMode, String> {
    match name {
        "auto" | "dht" => Ok(DhtMode::Auto),
        "autoclient" | "dhtclient" => Ok(DhtMode::Client),
        "dhtserver" => Ok(DhtMode::Server),
        "none" | "delegated" => Ok(DhtMode::Off),
        other => Err(format!(
            "no such routing: {other:?}; there are auto, autoclient, dht, dhtclient, dhtserver, delegated, none"
        )),
    }
}

fn is_supported(address: &Multiaddr) -> bool {
    use Protocol::{Dns, Dns4, Dns6, Ip4, Ip6, P2p, QuicV1, Tcp, Udp, Ws};
    let parts: Vec<_> = address.iter().filter(|part| !matches!(part, P2p(_))).collect();
    let [host, transport @ ..] = &parts[..] else { return false };
    matches!(host, Ip4(_) | Ip6(_) | Dns(_) | Dns4(_) | Dns6(_))
        && matches!(transport, [Tcp(_)] | [Tcp(_), Ws(_)] | [Udp(_), QuicV1])
}

pub(super) fn peer_address(key: &str, text: &str) -> Result<Multiaddr> {
    let address: Multiaddr = text.parse().map_err(|error| invalid(key, format!("{error}: {text:?}")))?;
    if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        return Err(invalid(key, format!("the address does not end in /p2p/ and a peer ID: {text:?}")));
    }
    Ok(address)
}
