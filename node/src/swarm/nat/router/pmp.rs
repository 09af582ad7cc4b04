//! The router asked by NAT-PMP: two small datagrams for each port.
//!
//! Source: RFC 6886.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Port on which routers are asked. Source: section 3.
const PORT: u16 = 5351;
/// Wait before the first question is asked again; doubled each time. Source: section 3.1 (250 ms).
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Times that a question is asked. The RFC goes on for a minute; a router on the local network answers at once or not at all.
const TRIES: u32 = 4;
/// Bit that tells answers from questions.
const ANSWER: u8 = 128;

const OP_ADDRESS: u8 = 0;
const OP_UDP: u8 = 1;
const OP_TCP: u8 = 2;

/// A router that speaks NAT-PMP.
#[derive(Debug)]
pub(super) struct Router {
    socket: UdpSocket,
}

/// The router through which everything leaves this computer, as far as the system tells.
pub(super) fn gateway() -> Option<SocketAddr> {
    // Elsewhere than on Linux there is no such file.
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    Some(SocketAddr::new(IpAddr::V4(default_route(&table)?), PORT))
}

/// Source: proc(5); addresses are hexadecimal, in the order of bytes that the machine has.
fn default_route(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|gateway| *gateway != 0)?;
        (destination == "00000000").then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

impl Router {
    pub(super) async fn at(gateway: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        // Datagrams of others are not let in then.
        socket.connect(gateway).await?;
        Ok(Self { socket })
    }

    /// Its address on the other side.
    pub(super) async fn public_ip(&self) -> io::Result<Ipv4Addr> {
        let answer = self.ask::<2, 12>([0, OP_ADDRESS]).await?;
        let [.., a, b, c, d] = answer;
        Ok(Ipv4Addr::new(a, b, c, d))
    }

    /// Lets in what comes for a port, or for another one that it chooses and that is returned. Nothing any more for a lease
    /// of zero.
    pub(super) async fn open(&self, is_tcp: bool, port: u16, lease: Duration) -> io::Result<u16> {
        let op = if is_tcp { OP_TCP } else { OP_UDP };
        let [high, low] = port.to_be_bytes();
        // Section 3.4: who wants nothing any more suggests no port.
        let [wanted_high, wanted_low] = if lease.is_zero() { [0; 2] } else { [high, low] };
        let [l0, l1, l2, l3] = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX).to_be_bytes();
        let question = [0, op, 0, 0, high, low, wanted_high, wanted_low, l0, l1, l2, l3];
        let answer = self.ask::<12, 16>(question).await?;
        if answer[8..10] != [high, low] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the router opened a port of another"));
        }
        Ok(u16::from_be_bytes([answer[10], answer[11]]))
    }

    /// Asks until there is an answer to that, or too often.
    async fn ask<const Q: usize, const A: usize>(&self, question: [u8; Q]) -> io::Result<[u8; A]> {
        for attempt in 0..TRIES {
            self.socket.send(&question).await?;
            let answered = timeout(FIRST_WAIT * 2_u32.pow(attempt), self.answer::<A>(question[1])).await;
            if let Ok(answer) = answered {
                return answer;
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the router does not speak NAT-PMP"))
    }

    async fn answer<const A: usize>(&self, op: u8) -> io::Result<[u8; A]> {
        loop {
            // One byte more, so that what is too long is seen.
            let mut buffer = [0; 64];
            let len = self.socket.recv(&mut buffer).await?;
            match &buffer[..len] {
                [0, kind, 0, 0, ..] if *kind == op | ANSWER && len == A => {
                    return Ok(std::array::from_fn(|index| buffer[index]));
                }
                [0, kind, high, low, ..] if *kind == op | ANSWER && [*high, *low] != [0, 0] => {
                    let code = u16::from_be_bytes([*high, *low]);
                    return Err(io::Error::other(format!("the router refuses, code={code}")));
                }
                // An answer to an earlier question, or nonsense.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_that_of_the_route_to_everywhere() {
        // As Linux on a machine of little endian prints it.
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
            eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n";
        if cfg!(target_endian = "little") {
            assert_eq!(default_route(table), Some(Ipv4Addr::new(192, 168, 1, 1)));
        }
        assert_eq!(default_route(""), None);
    }
}
