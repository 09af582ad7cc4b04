//! What kind of address one is, and which of them a DHT takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Protocol of the public DHT.
///
/// Source: <https://specs.ipfs.tech/routing/kad-dht/>.
pub const WAN_DHT: &str = "/ipfs/kad/1.0.0";

/// Protocol of the DHT of a local network.
///
/// Source: go-libp2p-kad-dht `dual` (prefix `/ipfs/lan`).
pub const LAN_DHT: &str = "/ipfs/lan/kad/1.0.0";

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This machine only, the in-memory transport included.
    Host,
    /// A private network.
    Private,
    /// Anywhere.
    Public,
}

/// Addresses that a DHT keeps, asks and tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Public ones only: the public DHT.
    Public,
    /// Private and loopback ones only: the DHT of a local network.
    Local,
    /// All: a network with a DHT protocol of its own.
    All,
}

impl Rule {
    /// The rule of the DHT that speaks this protocol.
    pub(super) fn of_protocol(protocol: &str) -> Self {
        match protocol {
            WAN_DHT => Self::Public,
            LAN_DHT => Self::Local,
            _ => Self::All,
        }
    }

    /// Whether the DHT takes this address into its table and dials it.
    pub(super) fn lets_in(self, addr: &Multiaddr) -> bool {
        is_dialable(addr) && self.takes(addr)
    }

    /// Whether the DHT keeps and tells this address.
    pub(super) fn takes(self, addr: &Multiaddr) -> bool {
        match self {
            Self::All => true,
            Self::Public => reach(addr) == Reach::Public,
            Self::Local => reach(addr) != Reach::Public,
        }
    }
}

/// Our addresses that a DHT is told: those that belong into it, or, when none does, all of them: an announcement without
/// any address is ignored by Go servers.
pub(super) fn told(rule: Rule, external: &[Multiaddr]) -> Vec<Multiaddr> {
    let belonging: Vec<_> = external.iter().filter(|addr| rule.takes(addr)).cloned().collect();
    if belonging.is_empty() { external.to_vec() } else { belonging }
}

/// How far `addr` reaches, by its first part.
pub(super) fn reach(addr: &Multiaddr) -> Reach {
    match addr.iter().next() {
        Some(Protocol::Ip4(ip)) => reach_of_ip4(ip),
        Some(Protocol::Ip6(ip)) => reach_of_ip6(ip),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name)) => {
            reach_of_name(&name)
        }
        _ => Reach::Host,
    }
}

/// Whether anybody can reach `addr`.
pub(crate) fn is_public(addr: &Multiaddr) -> bool {
    reach(addr) == Reach::Public
}

/// Whether anybody can reach `ip`.
pub(crate) fn is_public_ip(ip: IpAddr) -> bool {
    let reach = match ip {
        IpAddr::V4(ip) => reach_of_ip4(ip),
        IpAddr::V6(ip) => reach_of_ip6(ip),
    };
    reach == Reach::Public
}

/// Whether one of our transports can dial `addr`: TCP, WebSocket, QUIC v1 or memory, with or without a peer ID behind, and
/// any of them with a relay behind.
pub(super) fn is_dialable(addr: &Multiaddr) -> bool {
    use Protocol::{
        Dns, Dns4, Dns6, Dnsaddr, Ip4, Ip6, Memory, P2p, P2pCircuit, QuicV1, Sni, Tcp, Tls, Udp, Ws, Wss,
    };
    let mut parts: Vec<_> = addr.iter().collect();
    parts.pop_if(|part| matches!(part, P2p(_)));
    if parts.pop_if(|part| matches!(part, P2pCircuit)).is_some()
        && parts.pop_if(|part| matches!(part, P2p(_))).is_none()
    {
        return false;
    }
    let (host, transport) = match &parts[..] {
        [Memory(_) | Dnsaddr(_)] => return true,
        [host, transport @ ..] => (host, transport),
        [] => return false,
    };
    let is_host = match host {
        Ip4(ip) => !ip.is_unspecified(),
        Ip6(ip) => !ip.is_unspecified(),
        host => matches!(host, Dns(_) | Dns4(_) | Dns6(_)),
    };
    is_host
        && matches!(
            transport,
            [Udp(_), QuicV1]
                | [Tcp(_)]
                | [Tcp(_), Ws(_) | Wss(_)]
                | [Tcp(_), Tls, Ws(_)]
                | [Tcp(_), Tls, Sni(_), Ws(_)]
        )
}

/// Whether `addr` leads through a relay.
pub(super) fn is_relayed(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::P2pCircuit)
}

/// `addr` without the peer ID at its end.
pub(super) fn without_peer(mut addr: Multiaddr) -> Multiaddr {
    if matches!(addr.iter().last(), Some(Protocol::P2p(_))) {
        addr.pop();
    }
    addr
}

fn reach_of_ip4(ip: Ipv4Addr) -> Reach {
    let [a, b, ..] = ip.octets();
    let carrier_nat = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (18..20).contains(&b);
    if ip.is_loopback() || ip.is_unspecified() {
        Reach::Host
    } else if ip.is_private() || ip.is_link_local() || carrier_nat {
        Reach::Private
    } else if benchmark
        || ip.is_documentation()
        || ip.is_broadcast()
        || ip.is_multicast()
        || a == 0
        || a >= 240
    {
        // Reserved ranges lead nowhere; the public DHT has no use for them.
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_of_ip6(ip: Ipv6Addr) -> Reach {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return reach_of_ip4(ip);
    }
    if ip.is_loopback() || ip.is_unspecified() {
        Reach::Host
    } else if ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[..2] != [0x2001, 0x0db8] {
        // Global unicast is 2000::/3 (RFC 4291), less the documentation prefix.
        Reach::Public
    } else {
        Reach::Private
    }
}

fn reach_of_name(name: &str) -> Reach {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        Reach::Host
    } else if name.ends_with(".local") || name.ends_with(".home.arpa") || !name.contains('.') {
        Reach::Private
    } else {
        Reach::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_their_range_says() {
        // Ranges: RFC 1918, 3927, 6598, 5737, 4193, 4291, 6762, 8375.
        for (addr, expected) in [
            ("/ip4/127.0.0.1/tcp/4001", Reach::Host),
            ("/ip6/::1/udp/4001/quic-v1", Reach::Host),
            ("/memory/7", Reach::Host),
            ("/dns4/localhost/tcp/4001", Reach::Host),
            ("/ip4/10.1.2.3/tcp/1", Reach::Private),
            ("/ip4/172.31.0.1/tcp/1", Reach::Private),
            ("/ip4/192.168.1.1/tcp/1", Reach::Private),
            ("/ip4/169.254.1.1/tcp/1", Reach::Private),
            ("/ip4/100.64.0.1/tcp/1", Reach::Private),
            ("/ip6/fd00::1/tcp/1", Reach::Private),
            ("/ip6/fe80::1/tcp/1", Reach::Private),
            ("/dns/box.local/tcp/1", Reach::Private),
            ("/ip4/172.32.0.1/tcp/1", Reach::Public),
            ("/ip4/100.128.0.1/tcp/1", Reach::Public),
            ("/ip6/2a00::1/tcp/1", Reach::Public),
            ("/dnsaddr/bootstrap.example.org", Reach::Public),
        ] {
            assert_eq!(reach(&addr.parse().unwrap()), expected, "{addr}");
        }
    }

    #[test]
    fn only_tcp_websocket_quic_and_memory_addresses_are_dialable() {
        let peer = libp2p::PeerId::random();
        for (addr, expected) in [
            ("/ip4/1.2.3.4/tcp/4001".to_owned(), true),
            (format!("/ip4/1.2.3.4/udp/4001/quic-v1/p2p/{peer}"), true),
            ("/memory/3".to_owned(), true),
            ("/dnsaddr/example.org".to_owned(), true),
            ("/ip4/0.0.0.0/tcp/4001".to_owned(), false),
            ("/ip4/1.2.3.4/tcp/4001/ws".to_owned(), true),
            (format!("/dns4/example.org/tcp/443/wss/p2p/{peer}"), true),
            ("/dns/example.org/tcp/443/tls/ws".to_owned(), true),
            ("/ip4/1.2.3.4/tcp/443/tls/sni/example.org/ws".to_owned(), true),
            ("/ip4/1.2.3.4/tcp/443/tls".to_owned(), false),
            ("/ip4/1.2.3.4/udp/4001/ws".to_owned(), false),
            ("/ip4/1.2.3.4/udp/4001".to_owned(), false),
            ("/ip4/1.2.3.4/udp/4001/quic-v1/webtransport".to_owned(), false),
            (format!("/ip4/1.2.3.4/tcp/4001/p2p/{peer}/p2p-circuit"), true),
            (format!("/ip4/1.2.3.4/udp/4001/quic-v1/p2p/{peer}/p2p-circuit/p2p/{peer}"), true),
            ("/ip4/1.2.3.4/tcp/4001/p2p-circuit".to_owned(), false),
            (format!("/ip4/1.2.3.4/p2p/{peer}/p2p-circuit"), false),
            (format!("/p2p/{peer}"), false),
        ] {
            assert_eq!(is_dialable(&addr.parse().unwrap()), expected, "{addr}");
        }
    }

    #[test]
    fn the_public_dht_takes_public_addresses_and_the_local_one_the_others() {
        let public = "/ip4/1.2.3.4/tcp/1".parse().unwrap();
        let private = "/ip4/192.168.1.2/tcp/1".parse().unwrap();
        let takes = |protocol: &str| {
            let rule = Rule::of_protocol(protocol);
            (rule.takes(&public), rule.takes(&private))
        };
        assert_eq!(takes(WAN_DHT), (true, false));
        assert_eq!(takes(LAN_DHT), (false, true));
        assert_eq!(takes("/test/kad/1.0.0"), (true, true));
    }
}
