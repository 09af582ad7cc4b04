//! Which addresses are told to peers, and which are not talked to.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Networks, written as `/ip4/10.0.0.0/ipcidr/8`.
///
/// Source: Kubo `Swarm.AddrFilters`, go-multiaddr `net` (`NewMask`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether the address begins with an IP address of one of them.
    pub fn contain(&self, addr: &Multiaddr) -> bool {
        self.0.iter().any(|network| is_in(network, addr))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// What is not told to peers: a network, or a single address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withheld {
    /// Every address in it.
    Network(IpNet),
    /// Just that one.
    Address(Multiaddr),
}

impl FromStr for Withheld {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match network(text) {
            Some(network) => Ok(Self::Network(network)),
            None => {
                text.parse().map(Self::Address).map_err(|error| format!("not an address: {text:?}: {error}"))
            }
        }
    }
}

impl Withheld {
    fn covers(&self, addr: &Multiaddr) -> bool {
        match self {
            Self::Network(network) => is_in(network, addr),
            Self::Address(withheld) => withheld == addr,
        }
    }
}

/// Addresses that peers are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announce {
    /// In place of the listening ones; empty for those.
    pub replace: Vec<Multiaddr>,
    /// Beside those.
    pub append: Vec<Multiaddr>,
    /// Never told.
    pub withhold: Vec<Withheld>,
}

impl Announce {
    /// What is told of a node that is reachable at these addresses.
    pub fn apply(&self, reachable: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let mut told = if self.replace.is_empty() { reachable } else { self.replace.clone() };
        for addr in &self.append {
            if !told.contains(addr) {
                told.push(addr.clone());
            }
        }
        told.retain(|addr| !self.withhold.iter().any(|withheld| withheld.covers(addr)));
        told
    }
}

/// Text form of one network, as [`parse_network`] reads it.
pub fn network_text(network: &IpNet) -> String {
    let version = match network {
        IpNet::V4(_) => "ip4",
        IpNet::V6(_) => "ip6",
    };
    format!("/{version}/{}/ipcidr/{}", network.addr(), network.prefix_len())
}

/// Parses one network.
///
/// # Errors
/// What is wrong, in words, for anything but an IP address and a prefix that fits it.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    network(text).ok_or_else(|| format!("not a network: {text:?}; write it as /ip4/10.0.0.0/ipcidr/8"))
}

fn network(text: &str) -> Option<IpNet> {
    let addr = Multiaddr::from_str(text).ok()?;
    let ip = leading_ip(&addr)?;
    let mut rest = addr.iter().skip(1);
    let (Some(Protocol::Ipcidr(prefix_len)), None) = (rest.next(), rest.next()) else { return None };
    IpNet::new(ip, prefix_len).ok()
}

fn is_in(network: &IpNet, addr: &Multiaddr) -> bool {
    leading_ip(addr).is_some_and(|ip| network.contains(&ip.to_canonical()))
}

/// IP address at the front of an address.
pub(crate) fn leading_ip(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| parse_network(text).unwrap()).collect()
    }

    #[test]
    fn a_network_contains_its_first_and_its_last_address_and_no_other() {
        let private = networks(&["/ip4/172.16.0.0/ipcidr/12", "/ip6/fc00::/ipcidr/7"]);
        for (addr, expected) in [
            ("/ip4/172.16.0.0/tcp/1", true),
            ("/ip4/172.31.255.255/udp/1/quic-v1", true),
            ("/ip4/172.15.255.255/tcp/1", false),
            ("/ip4/172.32.0.0/tcp/1", false),
            ("/ip6/fdff::1/tcp/1", true),
            ("/ip6/fe00::1/tcp/1", false),
            ("/ip6/::ffff:172.16.0.1/tcp/1", true),
            ("/dns4/172.16.0.1/tcp/1", false),
        ] {
            assert_eq!(private.contain(&addr.parse().unwrap()), expected, "{addr}");
        }
    }

    #[test]
    fn only_an_address_with_a_prefix_that_fits_is_a_network() {
        for text in
            ["/ip4/10.0.0.0", "/ip4/10.0.0.0/ipcidr/33", "/ip4/10.0.0.0/ipcidr/8/tcp/1", "10.0.0.0/8", ""]
        {
            assert!(parse_network(text).unwrap_err().contains("ipcidr"), "{text}");
        }
        for text in ["/ip6/::/ipcidr/128", "/ip4/10.0.0.0/ipcidr/8"] {
            assert_eq!(network_text(&parse_network(text).unwrap()), text);
        }
    }

    #[test]
    fn told_addresses_are_replaced_then_appended_to_then_withheld() {
        let here = addrs(&["/ip4/192.168.1.2/tcp/1", "/ip4/8.8.8.8/tcp/1"]);
        let mut announce = Announce::default();
        assert_eq!(announce.apply(here.clone()), here);
        announce.append = addrs(&["/ip4/8.8.8.8/tcp/1", "/ip4/9.9.9.9/tcp/1"]);
        announce.withhold = vec!["/ip4/192.168.0.0/ipcidr/16".parse().unwrap()];
        assert_eq!(announce.apply(here.clone()), announce.append);
        announce.replace = addrs(&["/ip4/7.7.7.7/tcp/1", "/ip4/10.0.0.1/tcp/1"]);
        announce.withhold = vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap()];
        let expected = addrs(&["/ip4/7.7.7.7/tcp/1", "/ip4/8.8.8.8/tcp/1", "/ip4/9.9.9.9/tcp/1"]);
        assert_eq!(announce.apply(here), expected);
    }
}
