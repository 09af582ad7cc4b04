//! Where HTTP servers listen, as multiaddrs and as sockets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::error::{Error, Result};

/// A host, by address or name, and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Address or name; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl HostPort {
    /// Parses `/ip4/127.0.0.1/tcp/5001` (also with `dns`, `/http` behind it) or `http://127.0.0.1:5001`.
    ///
    /// # Errors
    /// Any other form.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = || {
            Error::client(format!(
                "not an address of a server: {text:?}; write it as /ip4/127.0.0.1/tcp/5001"
            ))
        };
        if let Some(authority) = text.strip_prefix("http://") {
            let authority: http::uri::Authority =
                authority.trim_end_matches('/').parse().map_err(|_| malformed())?;
            let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
            return Ok(Self { host, port: authority.port_u16().unwrap_or(80) });
        }
        Self::from_multiaddr(&text.parse().map_err(|_| malformed())?).ok_or_else(malformed)
    }

    /// The host and port of `/…/tcp/…`, with or without `/http` behind it.
    pub fn from_multiaddr(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => ip.to_string(),
            Protocol::Ip6(ip) => ip.to_string(),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.into_owned(),
            _ => return None,
        };
        let Protocol::Tcp(port) = parts.next()? else { return None };
        parts.all(|part| matches!(part, Protocol::Http)).then_some(Self { host, port })
    }

    /// For [`tokio::net`].
    pub fn to_pair(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The multiaddr of a listening socket.
pub fn multiaddr(address: SocketAddr) -> String {
    let family = match address.ip() {
        IpAddr::V4(_) => "ip4",
        IpAddr::V6(_) => "ip6",
    };
    format!("/{family}/{}/tcp/{}", address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_multiaddrs_and_urls() {
        for (text, shown) in [
            ("/ip4/127.0.0.1/tcp/5001", "127.0.0.1:5001"),
            ("/ip6/::1/tcp/5001", "[::1]:5001"),
            ("/dns4/localhost/tcp/1/http", "localhost:1"),
            ("http://127.0.0.1:5001", "127.0.0.1:5001"),
            ("http://[::1]:5001/", "[::1]:5001"),
            ("http://host", "host:80"),
        ] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "127.0.0.1:5001",
            "https://host",
            "/ip4/127.0.0.1/udp/1",
            "/ip4/127.0.0.1",
            "/unix/x",
            "http://",
        ] {
            assert!(HostPort::parse(text).is_err(), "{text}");
        }
        let socket: SocketAddr = "[::1]:5001".parse().unwrap();
        assert_eq!(HostPort::parse(&multiaddr(socket)).unwrap().to_string(), socket.to_string());
    }
}
