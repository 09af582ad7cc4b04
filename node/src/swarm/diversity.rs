//! How many peers of one network may stand in a routing table: an attacker with many keys has few networks.
//!
//! Source: go-libp2p-kbucket `peerdiversity` and go-libp2p-kad-dht `rt_diversity_filter.go`.
//!
//! # Differences
//! An IPv6 network is its first 32 bits, which is what a registry gives to one provider; Go looks up its number first.

use std::collections::HashSet;
use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Most peers of one network in the whole table.
const MAX_IN_TABLE: usize = 3;
/// Most peers of one network in one bucket.
const MAX_IN_BUCKET: usize = 2;

/// First bytes of IPv4 networks that were given out whole. Source: as above, `legacyClassA`.
const WHOLE_NETWORKS: [u8; 8] = [12, 17, 19, 38, 48, 53, 56, 73];

/// A network whose addresses are likely to be one owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Network {
    /// `a.0.0.0/8`.
    Whole(u8),
    /// `a.b.0.0/16`.
    V4([u8; 2]),
    /// The first 32 bits.
    V6([u16; 2]),
}

/// The networks that a peer's addresses belong to; names belong to none.
pub(super) fn networks<'a>(addrs: impl IntoIterator<Item = &'a Multiaddr>) -> HashSet<Network> {
    addrs.into_iter().filter_map(ip).map(network).collect()
}

/// Whether a peer of these networks may be added to a table with those peers: for each the networks, and whether it
/// is in the bucket that the newcomer goes to.
pub(super) fn has_room(
    newcomer: &HashSet<Network>,
    table: impl IntoIterator<Item = (HashSet<Network>, bool)>,
) -> bool {
    let (mut in_table, mut in_bucket) = (Vec::new(), Vec::new());
    for (networks, is_in_bucket) in table {
        for network in networks.intersection(newcomer) {
            in_table.push(*network);
            if is_in_bucket {
                in_bucket.push(*network);
            }
        }
    }
    let count = |list: &[Network], network| list.iter().filter(|known| *known == network).count();
    newcomer
        .iter()
        .all(|network| count(&in_table, network) < MAX_IN_TABLE && count(&in_bucket, network) < MAX_IN_BUCKET)
}

fn ip(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

fn network(ip: IpAddr) -> Network {
    match ip {
        IpAddr::V4(ip) => match ip.octets() {
            [first, ..] if WHOLE_NETWORKS.contains(&first) => Network::Whole(first),
            [first, second, ..] => Network::V4([first, second]),
        },
        IpAddr::V6(ip) => Network::V6([ip.segments()[0], ip.segments()[1]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addrs: &[&str]) -> HashSet<Network> {
        networks(&addrs.iter().map(|addr| addr.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn networks_are_told_by_the_first_part_of_an_address() {
        // Vectors: go-libp2p-kbucket `peerdiversity/filter_test.go`.
        assert_eq!(
            of(&["/ip4/17.111.0.1/tcp/1", "/ip4/17.112.0.1/tcp/1"]),
            HashSet::from([Network::Whole(17)])
        );
        assert_eq!(of(&["/ip4/192.168.1.1/tcp/1"]), HashSet::from([Network::V4([192, 168])]));
        assert_eq!(of(&["/ip6/::ffff:192.168.1.1/tcp/1"]), HashSet::from([Network::V4([192, 168])]));
        assert_eq!(of(&["/ip6/2001:bc8:1::1/udp/1/quic-v1"]), HashSet::from([Network::V6([0x2001, 0xbc8])]));
        assert_eq!(of(&["/dns/example.com/tcp/1", "/memory/1"]), HashSet::new());
    }

    #[test]
    fn three_peers_of_a_network_fit_into_a_table_and_two_into_a_bucket() {
        let newcomer = of(&["/ip4/1.2.9.9/tcp/1", "/ip4/5.6.7.8/tcp/1"]);
        let same = |in_bucket| (of(&["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.5/tcp/1"]), in_bucket);
        let other = |in_bucket| (of(&["/ip4/1.3.3.4/tcp/1"]), in_bucket);
        assert!(has_room(&newcomer, [same(true), same(false), other(true), other(true), other(false)]));
        assert!(!has_room(&newcomer, [same(true), same(true)]));
        assert!(!has_room(&newcomer, [same(false), same(false), same(false)]));
        assert!(has_room(&of(&["/dns/a.example/tcp/1"]), [same(true), same(true), same(true)]));
    }
}
