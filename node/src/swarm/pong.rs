//! Answers pings of every peer, and pings one when someone asks.
//!
//! libp2p's own handler answers none of a peer that does not answer pings itself, and js-libp2p closes a connection
//! over which its pings stay unanswered. So this one takes the inbound side, and libp2p's the outbound side.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, ping};
use tokio::sync::oneshot;

use crate::{Error, Kind};

/// Bytes of a ping. Source: <https://github.com/libp2p/specs/blob/master/ping/ping.md>.
const PING_BYTES: usize = 32;

/// Streams of one connection that are answered; others are reset. Source: the same (one stream, two for a moment).
const MAX_STREAMS: usize = 2;

/// Pings that wait for a stream of one connection.
const MAX_ASKED: usize = 8;

/// Where a round trip is told.
pub(super) type Reply = oneshot::Sender<Result<Duration, Error>>;

/// Gives each connection a [`Handler`].
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    asked: VecDeque<(PeerId, Reply)>,
}

impl Behaviour {
    /// Pings a peer that is connected.
    pub(super) fn ping(&mut self, peer: PeerId, reply: Reply) {
        // Bounded by the commands that wait; the swarm polls again after each.
        self.asked.push_back((peer, reply));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _id: ConnectionId,
        _peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _id: ConnectionId,
        _peer: PeerId,
        _addr: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _event: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _peer: PeerId,
        _id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.asked.pop_front() {
            Some((peer_id, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            None => Poll::Pending,
        }
    }
}

/// Answers the pings of one connection.
#[derive(Default)]
pub(super) struct Handler {
    streams: FuturesUnordered<BoxFuture<'static, io::Result<()>>>,
    asked: VecDeque<Reply>,
    pings: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Reply;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<ReadyUpgrade<StreamProtocol>> {
        SubstreamProtocol::new(ReadyUpgrade::new(ping::PROTOCOL_NAME), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Reply, Infallible>> {
        // A stream that ended, or failed, is of no more use, and its peer opens another.
        while let Poll::Ready(Some(_)) = self.streams.poll_next_unpin(cx) {}
        while let Poll::Ready(Some(())) = self.pings.poll_next_unpin(cx) {}
        match self.asked.pop_front() {
            Some(reply) => {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(ping::PROTOCOL_NAME), reply);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, reply: Reply) {
        if self.asked.len() < MAX_ASKED {
            self.asked.push_back(reply);
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, ReadyUpgrade<StreamProtocol>, ReadyUpgrade<StreamProtocol>, (), Reply>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. })
                if self.streams.len() < MAX_STREAMS =>
            {
                self.streams.push(answer(stream).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.pings.push(ask(protocol, info).boxed());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(failed(error)));
            }
            _ => {}
        }
    }
}

/// Measures the way there and back.
async fn ask(mut stream: Stream, reply: Reply) {
    stream.ignore_for_keep_alive();
    let measured = async {
        // The first round trip may be that of agreeing on the protocol.
        round_trip(&mut stream).await?;
        let time = round_trip(&mut stream).await?;
        stream.close().await?;
        Ok(time)
    };
    let result: io::Result<Duration> = measured.await;
    // Whoever asked may have gone away.
    let _ = reply.send(result.map_err(failed));
}

async fn round_trip(stream: &mut Stream) -> io::Result<Duration> {
    let sent: [u8; PING_BYTES] = rand::random();
    let start = Instant::now();
    stream.write_all(&sent).await?;
    stream.flush().await?;
    let mut received = [0; PING_BYTES];
    stream.read_exact(&mut received).await?;
    if received != sent {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "other bytes came back"));
    }
    Ok(start.elapsed())
}

fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Unavailable, "peer does not answer a ping").with_cause(cause)
}

/// Sends back what comes in, until the stream ends.
async fn answer(mut stream: Stream) -> io::Result<()> {
    stream.ignore_for_keep_alive();
    let mut ping = [0; PING_BYTES];
    loop {
        stream.read_exact(&mut ping).await?;
        stream.write_all(&ping).await?;
        stream.flush().await?;
    }
}
