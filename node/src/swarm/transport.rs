//! The ways to reach peers: TCP and WebSockets with TLS or Noise and Yamux, QUIC, and memory for scenarios.
//!
//! A private network is TCP alone, below a cipher whose key its peers share.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::dummy::DummyTransport;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, MemoryTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::pnet::PnetConfig;
use libp2p::swarm::{Executor, NetworkBehaviour, Swarm};
use libp2p::{PeerId, Transport, dns, noise, quic, relay, tcp, websocket, yamux};
use tracing::warn;

use super::filters::Filters;
use super::guarded::Guarded;
use super::muxer::Muxer;
use super::outward::Outward;
use super::security::Security;
use super::traffic::Metered;
use super::{Shared, Transports};
use crate::settings::SwarmSettings;
use crate::tasks::Tasks;
use crate::{Error, Kind};

/// Idle time after which a connection that no protocol needs is closed, once there are more than a few.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Silence after which a QUIC connection is dead, in milliseconds.
const QUIC_IDLE_MILLIS: u32 = 60_000;
/// How often QUIC shows a router that a connection lives. Source: go-libp2p `quicreuse` (15 s).
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longest QUIC handshake.
const QUIC_HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes under way on one QUIC stream: 1 Gbit/s over 100 ms and some.
const QUIC_STREAM_BYTES: u32 = 16 * 1024 * 1024;
/// Bytes under way on one QUIC connection.
const QUIC_CONNECTION_BYTES: u32 = 24 * 1024 * 1024;
/// Longest attempt at one address, handshakes included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Events of one connection that wait for the swarm before the connection pauses.
const CONNECTION_EVENTS: usize = 32;
/// Inbound streams of one connection in negotiation.
const MAX_NEGOTIATING_STREAMS: usize = 256;
/// Longest frame of a WebSocket, in bytes: a message of Yamux and its cipher, as peers send them, many times over.
const MAX_WEBSOCKET_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// A transport whose connections are encrypted and carry streams.
pub(super) type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// The given transports, and that through `relays`.
pub(super) fn build(
    identity: &Keypair,
    transports: Transports,
    settings: &SwarmSettings,
    shared: &Shared,
    relays: Option<relay::client::Transport>,
) -> Result<Connections, Error> {
    let transport = match transports {
        Transports::Memory => memory_transport(identity),
        Transports::Real => real_transport(identity, settings, &shared.filters),
    };
    let transport = transport.and_then(|direct| match relays {
        // Before the others, which take the relay's address for all of it.
        Some(relays) => {
            Ok(secured(relays, identity)?.or_transport(direct).map(|output, _| output.into_inner()).boxed())
        }
        None => Ok(direct),
    });
    let transport = transport.map_err(|error| failed("the transports", error))?;
    let traffic = shared.traffic.clone();
    let metered = transport
        .map(move |(peer, muxer), _| (peer, StreamMuxerBox::new(Metered::new(muxer, peer, &traffic))));
    Ok(metered.boxed())
}

/// A swarm over `transport`. Its connections are tasks of `tasks`.
pub(super) fn swarm<B: NetworkBehaviour + Send>(
    transport: Connections,
    behaviour: B,
    local: PeerId,
    tasks: &Tasks,
) -> Swarm<B>
where
    <B as NetworkBehaviour>::ToSwarm: std::fmt::Debug,
{
    let transport = TransportTimeout::new(transport, CONNECTION_TIMEOUT).boxed();
    let config = libp2p::swarm::Config::with_executor(TaskExecutor(tasks.clone()))
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_per_connection_event_buffer_size(CONNECTION_EVENTS)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS);
    Swarm::new(transport, behaviour, local, config)
}

fn failed(what: &str, cause: impl Into<BoxError>) -> Error {
    Error::new(Kind::Internal, format!("cannot set up {what}")).with_cause(cause)
}

/// The transports of the public network, or that of a private one.
fn real_transport(
    key: &Keypair,
    settings: &SwarmSettings,
    filters: &Filters,
) -> Result<Connections, BoxError> {
    // Guarded below the name resolution, so that no name leads past the guard.
    let guarded_tcp = || Guarded::new(tcp_transport(), filters.clone()).boxed();
    let has_names = dns::tokio::Transport::system(DummyTransport::<()>::new())
        .inspect_err(|error| warn!(%error, "no name resolution: /dns addresses cannot be dialled"))
        .is_ok();
    if let Some(network_key) = settings.private_network {
        let network = PnetConfig::new(network_key);
        let tcp = guarded_tcp().and_then(move |socket, _| network.handshake(socket));
        return with_names(secured(tcp, key)?, has_names);
    }
    let ip = secured(guarded_tcp(), key)?.or_transport(Guarded::new(quic_transport(key), filters.clone()));
    let ip = with_names(ip.map(|output, _| output.into_inner()).boxed(), has_names)?;
    // Before the others, which take the host of a WebSocket address for all of it; and above the name resolution, since
    // TLS is about names.
    let web = websocket(with_names(guarded_tcp(), has_names)?, websocket::tls::Config::client());
    Ok(secured(web, key)?.or_transport(ip).map(|output, _| output.into_inner()).boxed())
}

fn tcp_transport() -> tcp::tokio::Transport {
    tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
}

fn quic_transport(key: &Keypair) -> Connections {
    Outward::new(quic::tokio::Transport::new(quic_config(quic::Config::new(key))))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// WebSockets over `tcp`: plain ones both ways, those with TLS for dialling unless `tls` has a certificate.
fn websocket<T>(tcp: Boxed<T>, tls: websocket::tls::Config) -> websocket::Config<Boxed<T>>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut websocket = websocket::Config::new(tcp);
    websocket.set_max_data_size(MAX_WEBSOCKET_FRAME_BYTES).set_tls_config(tls);
    websocket
}

/// `sockets` with a cipher and Yamux.
fn secured<T, S>(sockets: T, key: &Keypair) -> Result<Connections, BoxError>
where
    T: Transport<Output = S, Error: Send + Sync, ListenerUpgrade: Send, Dial: Send> + Send + Unpin + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Ok(sockets
        .upgrade(Version::V1Lazy)
        .authenticate(Security::new(key)?)
        .multiplex(Muxer::new())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed())
}

/// `inner` behind the resolution of names, where this machine has one.
fn with_names<O: 'static>(inner: Boxed<O>, has_names: bool) -> Result<Boxed<O>, BoxError> {
    if has_names { Ok(dns::tokio::Transport::system(inner)?.boxed()) } else { Ok(inner) }
}

fn memory_transport(key: &Keypair) -> Result<Connections, BoxError> {
    Ok(MemoryTransport::default()
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux::Config::default())
        .boxed())
}

/// Runs connections as tasks of the swarm's group, so that shutdown joins them.
struct TaskExecutor(Tasks);

impl Executor for TaskExecutor {
    fn exec(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn("connection", future);
    }
}

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn quic_config(mut config: quic::Config) -> quic::Config {
    config.max_idle_timeout = QUIC_IDLE_MILLIS;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.handshake_timeout = QUIC_HANDSHAKE;
    config.max_stream_data = QUIC_STREAM_BYTES;
    config.max_connection_data = QUIC_CONNECTION_BYTES;
    config
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::future::poll_fn;
    use libp2p::Multiaddr;
    use libp2p::core::Endpoint;
    use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportEvent};
    use libp2p::multiaddr::Protocol;

    use super::*;

    async fn next(
        transport: &mut Connections,
    ) -> TransportEvent<<Connections as Transport>::ListenerUpgrade, io::Error> {
        poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await
    }

    /// Listens with a certificate for `localhost`, dials there with `tls`, and returns whom the dialer met.
    async fn dial_with_tls(
        tls: impl FnOnce(&websocket::tls::Certificate) -> websocket::tls::Config,
    ) -> io::Result<(PeerId, PeerId)> {
        let [listener_key, dialer_key] = [(); 2].map(|()| Keypair::generate_ed25519());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = websocket::tls::Certificate::new(made.cert.der().to_vec());
        let private = websocket::tls::PrivateKey::new(made.signing_key.serialize_der());
        let server = websocket::tls::Config::new(private, [certificate.clone()]).unwrap();
        let mut listener = secured(websocket(tcp_transport().boxed(), server), &listener_key).unwrap();
        let mut dialer = secured(websocket(tcp_transport().boxed(), tls(&certificate)), &dialer_key).unwrap();

        listener.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0/wss".parse().unwrap()).unwrap();
        let TransportEvent::NewAddress { listen_addr, .. } = next(&mut listener).await else {
            panic!("it listens")
        };
        let ip_and_port: Multiaddr = listen_addr.iter().take(2).collect();
        let name = [Protocol::Tls, Protocol::Sni("localhost".into()), Protocol::Ws("/".into())];
        let addr = name.into_iter().fold(ip_and_port, Multiaddr::with);
        let dial = dialer.dial(addr, DialOpts { role: Endpoint::Dialer, port_use: PortUse::New }).unwrap();
        let accept = async {
            let TransportEvent::Incoming { upgrade, .. } = next(&mut listener).await else {
                panic!("one comes")
            };
            // It ends only once the dialer speaks; here the dialer is heard.
            let _ = upgrade.await;
            std::future::pending::<()>().await;
        };
        let met = tokio::select! {
            dialled = dial => dialled?.0,
            () = accept => unreachable!("it waits for ever"),
        };
        Ok((met, listener_key.public().to_peer_id()))
    }

    #[tokio::test]
    async fn a_websocket_with_tls_is_dialled_by_its_name_and_its_certificate_verified() {
        let trusting = |certificate: &_| {
            let mut builder = websocket::tls::Config::builder();
            builder.add_trust(certificate).unwrap();
            builder.finish()
        };
        let (met, listening) = dial_with_tls(trusting).await.unwrap();
        assert_eq!(met, listening);
        let error = dial_with_tls(|_| websocket::tls::Config::client()).await.unwrap_err();
        assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    }
}
