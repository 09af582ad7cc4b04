//! The ways to reach peers: TCP with TLS or Noise and Yamux, QUIC, and memory for scenarios.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::dummy::DummyTransport;
use libp2p::core::transport::{Boxed, MemoryTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::{Executor, NetworkBehaviour, Swarm};
use libp2p::{PeerId, SwarmBuilder, Transport as _, dns, noise, quic, tcp, yamux};
use tracing::warn;

use super::Transports;
use super::guarded::Guarded;
use super::muxer::Muxer;
use super::security::Security;
use crate::settings::addresses::Networks;
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

/// A swarm over the given transports. Its connections are tasks of `tasks`.
pub(super) fn build<B: NetworkBehaviour + Send>(
    identity: Keypair,
    transports: Transports,
    refused: Networks,
    behaviour: B,
    tasks: &Tasks,
) -> Result<Swarm<B>, Error>
where
    <B as NetworkBehaviour>::ToSwarm: std::fmt::Debug,
{
    let executor = TaskExecutor(tasks.clone());
    let config = move |_| {
        libp2p::swarm::Config::with_executor(executor)
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_per_connection_event_buffer_size(CONNECTION_EVENTS)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS)
    };
    // The phases of the builder have types that cannot be named, so the last steps are a macro.
    macro_rules! finish {
        ($builder:expr) => {
            $builder
                .with_behaviour(|_| behaviour)
                .unwrap_or_else(|never| match never {})
                .with_swarm_config(config)
                .with_connection_timeout(CONNECTION_TIMEOUT)
                .build()
        };
    }
    let builder = SwarmBuilder::with_existing_identity(identity).with_tokio();
    if transports == Transports::Memory {
        let memory =
            builder.with_other_transport(memory_transport).map_err(|error| failed("noise", error))?;
        return Ok(finish!(memory));
    }
    // Guarded below the name resolution, so that no name leads past the guard.
    let builder = builder
        .with_other_transport(|key| Ok::<_, BoxError>(Guarded::new(ip_transport(key)?, refused)))
        .map_err(|error| failed("tls and noise", error))?;
    match dns::tokio::Transport::system(DummyTransport::<()>::new()) {
        Ok(_) => Ok(finish!(builder.with_dns().map_err(|error| failed("name resolution", error))?)),
        Err(error) => {
            warn!(%error, "no name resolution: /dns addresses cannot be dialled");
            Ok(finish!(builder))
        }
    }
}

fn failed(what: &str, cause: impl Into<BoxError>) -> Error {
    Error::new(Kind::Internal, format!("cannot set up {what}")).with_cause(cause)
}

/// TCP and QUIC.
fn ip_transport(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, BoxError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(Security::new(key)?)
        .multiplex(Muxer::new())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = quic::tokio::Transport::new(quic_config(quic::Config::new(key)))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(tcp.or_transport(quic).map(|output, _| output.into_inner()).boxed())
}

fn memory_transport(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, BoxError> {
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
