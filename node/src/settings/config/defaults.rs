//! What a fresh configuration holds, and what a missing key means.

use std::time::Duration;

use libp2p::identity::Keypair;
use serde_json::{Map, Value, json};

use super::encode_key;

/// Peers to start from on the public network: what the word `auto` in `Bootstrap` stands for.
///
/// Source: boxo `autoconf/fallbacks.go`.
pub const BOOTSTRAP: [&str; 7] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dnsaddr/va1.bootstrap.libp2p.io/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
    "/ip4/104.131.131.82/udp/4001/quic-v1/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
];

/// Memory that the node aims to stay within, in bytes, when `Resources.MaxMemory` is missing.
pub const DEFAULT_MAX_MEMORY_BYTES: u64 = 512 * 1024 * 1024;

/// Longest wait for one block from the network when `Bitswap.BlockTimeout` is missing.
pub const DEFAULT_BLOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Folder of denylists when `Denylists.Folders` is missing. Source: the compact denylist format, file locations.
pub(super) const DENYLISTS: &str = "/etc/ipfs/denylists";

/// Longest request to a gateway that stands in for peers: it may have to look for the content itself.
pub(super) const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// How long browsers shall come with TLS only when `Gateway.TLS.HSTS` is missing: a year, as browsers' lists want it.
pub(super) const HSTS: Duration = Duration::from_secs(365 * 24 * 3600);

/// Listening addresses when a key is missing, by key.
pub(super) const SWARM: [&str; 4] = [
    "/ip4/0.0.0.0/tcp/4001",
    "/ip6/::/tcp/4001",
    "/ip4/0.0.0.0/udp/4001/quic-v1",
    "/ip6/::/udp/4001/quic-v1",
];
pub(super) const API: &str = "/ip4/127.0.0.1/tcp/5001";
pub(super) const GATEWAY: &str = "/ip4/127.0.0.1/tcp/8080";
pub(super) const GATEWAY_TLS: &str = "/ip4/127.0.0.1/tcp/8443";

/// `Addresses` of a fresh configuration and of the profile `default-networking`.
pub(super) fn addresses() -> Value {
    json!({
        "Swarm": SWARM,
        "Announce": [],
        "AppendAnnounce": [],
        "NoAnnounce": [],
        "API": API,
        "Gateway": GATEWAY,
        "GatewayTLS": GATEWAY_TLS,
    })
}

/// A fresh configuration: the keys that people look for first. All others mean their defaults while they are missing.
pub(super) fn document(identity: &Keypair) -> Map<String, Value> {
    let document = json!({
        "Identity": {
            "PeerID": identity.public().to_peer_id().to_string(),
            "PrivKey": encode_key(identity),
        },
        "Addresses": addresses(),
        "Bootstrap": ["auto"],
        "Discovery": { "MDNS": { "Enabled": true } },
        "Routing": {},
        "Datastore": {},
        "Gateway": {},
        "API": { "HTTPHeaders": {} },
        "Import": {},
        "Swarm": { "ConnMgr": {}, "AddrFilters": [] },
        "Peering": { "Peers": [] },
        "Resources": {},
    });
    match document {
        Value::Object(map) => map,
        _ => unreachable!("the literal above is an object"),
    }
}
