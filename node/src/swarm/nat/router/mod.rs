//! Has the router of the local network open ports for this node, by UPnP or NAT-PMP.
//!
//! What the router promises is not taken for granted: an address at it is a candidate like those that peers see, and told to
//! nobody before a peer has dialled it. Source: UPnP Device Architecture 1.1, WANIPConnection:1.

mod pmp;
mod soap;
mod ssdp;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{FutureExt as _, select_ok};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long a port stays open unless it is asked for again.
const LEASE: Duration = Duration::from_secs(3600);
/// Time after which ports are asked for again.
const RENEWAL: Duration = Duration::from_secs(1200);
/// Time after which a router is looked for again when there is none.
const SEARCH_INTERVAL: Duration = Duration::from_secs(300);
/// Longest wait for ports to be closed at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Addresses that wait for the swarm.
const ADDR_QUEUE: usize = 16;
/// Ports asked for.
const MAX_PORTS: usize = 8;

/// A port of this computer that others shall reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Port {
    is_tcp: bool,
    number: u16,
}

impl Port {
    /// That of a listening address that others in the local network reach over IPv4.
    fn of(addr: &Multiaddr) -> Option<Self> {
        let mut parts = addr.iter();
        let Some(Protocol::Ip4(ip)) = parts.next() else { return None };
        if ip.is_loopback() {
            return None;
        }
        match parts.next()? {
            Protocol::Tcp(number) => Some(Self { is_tcp: true, number }),
            Protocol::Udp(number) => Some(Self { is_tcp: false, number }),
            _ => None,
        }
    }

    /// The same kind of port with another number.
    fn at<'a>(self, number: u16) -> Protocol<'a> {
        if self.is_tcp { Protocol::Tcp(number) } else { Protocol::Udp(number) }
    }

    /// Its name in UPnP.
    fn protocol(self) -> &'static str {
        if self.is_tcp { "TCP" } else { "UDP" }
    }
}

/// A router that opens ports.
#[derive(Debug)]
enum Router {
    Upnp(soap::Router),
    Pmp(pmp::Router),
}

impl Router {
    /// Lets in what comes for a port of its own, which it returns.
    async fn open(&self, port: Port) -> io::Result<u16> {
        match self {
            Self::Upnp(router) => {
                router.open(port.protocol(), port.number, LEASE).await?;
                Ok(port.number)
            }
            Self::Pmp(router) => router.open(port.is_tcp, port.number, LEASE).await,
        }
    }

    async fn close(&self, port: Port) -> io::Result<()> {
        match self {
            Self::Upnp(router) => router.close(port.protocol(), port.number).await,
            Self::Pmp(router) => router.open(port.is_tcp, port.number, Duration::ZERO).await.map(drop),
        }
    }
}

/// Tells the swarm of addresses at the router.
pub(in crate::swarm) struct Ports {
    addrs: mpsc::Receiver<Multiaddr>,
}

/// Keeps ports open.
pub(in crate::swarm) struct Keeper {
    addrs: mpsc::Sender<Multiaddr>,
    search: SocketAddr,
    /// Where a router is asked that does not answer searches.
    gateway: fn() -> Option<SocketAddr>,
}

/// The part that keeps ports open, and the part that tells the swarm.
pub(in crate::swarm) fn new() -> (Keeper, Ports) {
    let (sender, addrs) = mpsc::channel(ADDR_QUEUE);
    (Keeper { addrs: sender, search: ssdp::MULTICAST, gateway: pmp::gateway }, Ports { addrs })
}

impl Keeper {
    /// Keeps the ports of these listening addresses open until `stopping`; then closes them.
    pub(in crate::swarm) async fn run(self, listen: Vec<Multiaddr>, stopping: CancellationToken) {
        let mut open = None;
        loop {
            let pause = tokio::select! {
                () = stopping.cancelled() => break,
                opened = self.open(&listen) => match opened {
                    Ok(opened) => {
                        open = Some(opened);
                        RENEWAL
                    }
                    Err(error) => {
                        debug!(%error, "no port opened at a router");
                        SEARCH_INTERVAL
                    }
                },
            };
            tokio::select! {
                () = stopping.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Some((router, ports)) = open {
            let close = async {
                for port in ports {
                    if let Err(error) = router.close(port).await {
                        debug!(%error, port = port.number, "port stays open at the router until its lease ends");
                    }
                }
            };
            // The lease ends by itself.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
        }
    }

    /// Looks for the router and has it open the ports.
    async fn open(&self, listen: &[Multiaddr]) -> io::Result<(Router, Vec<Port>)> {
        let (router, ip) = self.find().await?;
        let ip = IpAddr::V4(ip);
        let mut ports: HashMap<Port, u16> = HashMap::new();
        for addr in listen {
            let Some(port) = Port::of(addr) else { continue };
            let opened = match ports.get(&port) {
                Some(opened) => *opened,
                None if ports.len() == MAX_PORTS => continue,
                None => router.open(port).await?,
            };
            ports.insert(port, opened);
            let at_router = addr.replace(0, |_| Some(ip.into()));
            let at_router = at_router.and_then(|addr| addr.replace(1, |_| Some(port.at(opened))));
            let Some(at_router) = at_router else { continue };
            debug!(addr = %at_router, "port opened at the router");
            // Closed only when the swarm stops.
            let _ = self.addrs.send(at_router).await;
        }
        Ok((router, ports.into_keys().collect()))
    }

    /// The router that answers first, and its address on the other side.
    async fn find(&self) -> io::Result<(Router, Ipv4Addr)> {
        let upnp = async {
            let router = soap::Router::at(&ssdp::find(self.search).await?).await?;
            let ip = router.public_ip().await?;
            Ok::<_, io::Error>((Router::Upnp(router), ip))
        };
        let pmp = async {
            let none = || io::Error::new(io::ErrorKind::NotFound, "no route leads to a router");
            let router = pmp::Router::at((self.gateway)().ok_or_else(none)?).await?;
            let ip = router.public_ip().await?;
            Ok::<_, io::Error>((Router::Pmp(router), ip))
        };
        let (found, _) = select_ok([upnp.boxed(), pmp.boxed()]).await?;
        Ok(found)
    }
}

impl NetworkBehaviour for Ports {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.addrs.poll_recv(cx) {
            Poll::Ready(Some(addr)) => Poll::Ready(ToSwarm::NewExternalAddrCandidate(addr)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

    /// Services of a router as the appendix of WANIPConnection:1 and common routers describe them.
    const DESCRIPTION: &str = r#"<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
        <serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
        <controlURL>/ctl/L3F</controlURL></service></serviceList><deviceList><device><serviceList><service>
        <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
        <serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><SCPDURL>/WANIPCn.xml</SCPDURL>
        <controlURL>/ctl/IPConn</controlURL></service></serviceList></device></deviceList></device></root>"#;

    /// A router on loopback: where it answers searches, and what it was asked.
    async fn router() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = format!("http://{}/rootDesc.xml", http.local_addr().unwrap());
        let search = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = search.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = search.recv_from(&mut buffer).await {
                assert!(buffer[..len].starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
                let answer = format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: {location}\r\n\r\n");
                search.send_to(answer.as_bytes(), from).await.unwrap();
            }
        });
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = http.accept().await {
                let request = read_request(&mut stream).await;
                let body = if request.starts_with("GET /rootDesc.xml ") {
                    DESCRIPTION.to_owned()
                } else {
                    assert!(request.starts_with("POST /ctl/IPConn "), "{request}");
                    "<NewExternalIPAddress>11.22.33.44</NewExternalIPAddress>".to_owned()
                };
                log.lock().unwrap().push(request);
                stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes()).await.unwrap();
            }
        });
        (at, asked)
    }

    async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
        let mut request = String::new();
        let mut buffer = [0; 4096];
        loop {
            let len = stream.read(&mut buffer).await.unwrap();
            request.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
            let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if len == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return request;
            }
        }
    }

    #[tokio::test]
    async fn ports_are_opened_told_as_candidates_and_closed_at_the_end() {
        let (search, asked) = router().await;
        let (sender, mut addrs) = mpsc::channel(ADDR_QUEUE);
        let keeper = Keeper { addrs: sender, search, gateway: || None };
        let listen =
            ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.7.2/tcp/4001", "/ip4/192.168.7.2/udp/4001/quic-v1"];
        let listen = listen.iter().map(|addr| addr.parse().unwrap()).collect();
        let stopping = CancellationToken::new();
        let running = tokio::spawn(keeper.run(listen, stopping.clone()));
        let expected = ["/ip4/11.22.33.44/tcp/4001", "/ip4/11.22.33.44/udp/4001/quic-v1"];
        for expected in expected {
            assert_eq!(addrs.recv().await.unwrap().to_string(), expected);
        }
        stopping.cancel();
        running.await.unwrap();
        let asked = asked.lock().unwrap();
        let of = |action: &str| asked.iter().filter(|request| request.contains(action)).count();
        assert_eq!((of("#AddPortMapping\""), of("#DeletePortMapping\"")), (2, 2), "{asked:?}");
        let tcp = asked.iter().find(|request| request.contains("#AddPortMapping\"")).unwrap();
        for field in [
            "<NewExternalPort>4001</NewExternalPort>",
            "<NewProtocol>TCP</NewProtocol>",
            "<NewInternalPort>4001</NewInternalPort>",
            "<NewInternalClient>127.0.0.1</NewInternalClient>",
            "<NewEnabled>1</NewEnabled>",
            "<NewLeaseDuration>3600</NewLeaseDuration>",
        ] {
            assert!(tcp.contains(field), "{field}\n{tcp}");
        }
    }

    #[tokio::test]
    async fn a_router_that_speaks_nat_pmp_alone_opens_ports_and_may_choose_others() {
        // It answers no search, and is asked on a port that the test cannot choose before.
        static ROUTER: std::sync::OnceLock<SocketAddr> = std::sync::OnceLock::new();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let router = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        ROUTER.set(router.local_addr().unwrap()).unwrap();
        let answering = tokio::spawn(async move {
            let (mut buffer, mut asked) = ([0; 64], Vec::new());
            while asked.len() < 5 {
                let (len, from) = router.recv_from(&mut buffer).await.unwrap();
                let answer = match &buffer[..len] {
                    // RFC 6886, 3.2: version, operation, result, time since the start, address.
                    [0, 0] => vec![0, 128, 0, 0, 0, 0, 0, 9, 11, 22, 33, 44],
                    // 3.3: the same, then both ports and the lease. UDP goes to another port here.
                    [0, op @ (1 | 2), 0, 0, high, low, _, _, lease @ ..] => {
                        let mapped = if *op == 1 { [0x13, 0x88] } else { [*high, *low] };
                        let head = [0, op | 128, 0, 0, 0, 0, 0, 9, *high, *low];
                        [head.as_slice(), &mapped, lease].concat()
                    }
                    other => panic!("{other:?}"),
                };
                // A question may come twice.
                if !asked.contains(&buffer[..len].to_vec()) {
                    asked.push(buffer[..len].to_vec());
                }
                router.send_to(&answer, from).await.unwrap();
            }
            asked
        });
        let (sender, mut addrs) = mpsc::channel(ADDR_QUEUE);
        let search = silent.local_addr().unwrap();
        let keeper = Keeper { addrs: sender, search, gateway: || ROUTER.get().copied() };
        let listen = ["/ip4/192.168.7.2/tcp/4001", "/ip4/192.168.7.2/udp/4001/quic-v1"];
        let (router, ports) = keeper.open(&listen.map(|addr| addr.parse().unwrap())).await.unwrap();
        for expected in ["/ip4/11.22.33.44/tcp/4001", "/ip4/11.22.33.44/udp/5000/quic-v1"] {
            assert_eq!(addrs.recv().await.unwrap().to_string(), expected);
        }
        for port in ports {
            // The last answer may be cut off with the router, which ends after it.
            let _ = router.close(port).await;
        }
        let mut closing = answering.await.unwrap().split_off(3);
        closing.sort_unstable();
        // 3.4: no port, no lease.
        let closed = |op| [0, op, 0, 0, 0x0f, 0xa1, 0, 0, 0, 0, 0, 0];
        assert_eq!(closing, [closed(1), closed(2)]);
    }
}
