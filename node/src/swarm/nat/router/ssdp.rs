//! Finding the router: one question to everybody on the local network.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Where routers listen for searches.
pub(super) const MULTICAST: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900);

/// Longest wait for an answer; routers take up to two seconds, as they are told.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 2048;

const SEARCH: &str = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\n\
    ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";

/// Where a router describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) host: SocketAddr,
    pub(super) path: String,
}

/// Looks for a router.
pub(super) async fn find(everybody: SocketAddr) -> io::Result<Location> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.send_to(SEARCH.as_bytes(), everybody).await?;
    let answered = async {
        let mut buffer = [0; MAX_ANSWER_BYTES];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await?;
            let answer = String::from_utf8_lossy(&buffer[..len]);
            // Only about itself may a device speak.
            if let Some(location) = location(&answer).filter(|location| location.host.ip() == from.ip()) {
                return Ok(location);
            }
        }
    };
    timeout(TIMEOUT, answered)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::NotFound, "no router answers")))
}

fn location(answer: &str) -> Option<Location> {
    let url = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then_some(value.trim())
    });
    parse(url?)
}

/// Reads a URL whose host is an address.
pub(super) fn parse(url: &str) -> Option<Location> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.parse().or_else(|_| format!("{host}:80").parse()).ok()?;
    let path = format!("/{path}");
    // It goes into the first line of a request.
    path.chars().all(|c| c.is_ascii_graphic()).then_some(Location { host, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_read_from_an_answer_however_its_head_is_written() {
        let answer = "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nLOCATION: http://192.168.1.1:5000/rootDesc.xml\r\n\r\n";
        let expected =
            Location { host: "192.168.1.1:5000".parse().unwrap(), path: "/rootDesc.xml".to_owned() };
        assert_eq!(location(answer), Some(expected));
        assert_eq!(parse("http://10.0.0.1").unwrap().host, "10.0.0.1:80".parse().unwrap());
        for url in
            ["https://10.0.0.1/", "http://example.org/", "http://10.0.0.1/a b", "http://10.0.0.1/a\r\nX: y"]
        {
            assert_eq!(parse(url), None, "{url}");
        }
    }
}
