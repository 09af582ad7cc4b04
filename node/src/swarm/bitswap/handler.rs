//! The handler of one connection: offers the protocol, and passes negotiated streams on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use cairn_proto::bitswap::message::Version;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use tracing::debug;

use super::link::{Inbound, OpenError, Opened, Shared};

/// Negotiated inbound streams that wait until the peer's reader has room. Kubo opens one for every message it answers
/// with; what is beyond this is reset, and its content asked for again.
const MAX_WAITING_STREAMS: usize = 128;

/// Every peer that tells its protocols tells this one too; without it a list may be of one behaviour only.
const IDENTIFY: StreamProtocol = StreamProtocol::new("/ipfs/id/1.0.0");

/// A name of the protocol, by its place in [`Version::PROTOCOLS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol(usize);

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        Version::PROTOCOLS[self.0].0
    }
}

/// An offer of protocols, best first.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    first: usize,
    end: usize,
}

impl Offer {
    /// What is understood here.
    pub(super) const ALL: Self = Self { first: 0, end: Version::PROTOCOLS.len() };

    /// What a peer offers that knows no later version.
    #[cfg(test)]
    pub(super) fn up_to(version: Version) -> Self {
        let first = Version::PROTOCOLS.iter().position(|(_, known)| *known <= version);
        Self { first: first.expect("every version has a name"), ..Self::ALL }
    }

    /// Only one: negotiation then needs no round trip of its own.
    fn only(protocol: Protocol) -> Self {
        Self { first: protocol.0, end: protocol.0 + 1 }
    }
}

impl UpgradeInfo for Offer {
    type Info = Protocol;
    type InfoIter = std::iter::Map<std::ops::Range<usize>, fn(usize) -> Protocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        (self.first..self.end).map(Protocol)
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = Inbound;
    type Error = Infallible;
    type Future = Ready<Result<Inbound, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: Protocol) -> Self::Future {
        ready(Ok(negotiated(stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = Inbound;
    type Error = Infallible;
    type Future = Ready<Result<Inbound, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: Protocol) -> Self::Future {
        ready(Ok(negotiated(stream, protocol)))
    }
}

fn negotiated(mut stream: Stream, protocol: Protocol) -> Inbound {
    // Peers leave streams open for as long as they are connected; only a reason to keep it does (`KeepAlive`).
    stream.ignore_for_keep_alive();
    (Version::PROTOCOLS[protocol.0].1, stream)
}

/// Ties the handler to its peer's link, once the connection counts as established.
#[derive(Debug)]
pub struct Attach {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: mpsc::Receiver<Opened>,
}

/// What identify has told about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remote {
    Unknown,
    Speaks(Protocol),
    Mute,
}

/// Negotiates on one connection.
#[derive(Debug)]
pub struct Handler {
    offer: Offer,
    attached: Option<Attached>,
    remote: Remote,
    waiting: VecDeque<Inbound>,
}

#[derive(Debug)]
struct Attached {
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Opened>,
    inbound: PollSender<Inbound>,
}

impl Handler {
    pub(super) fn new(offer: Offer) -> Self {
        Self { offer, attached: None, remote: Remote::Unknown, waiting: VecDeque::new() }
    }

    fn on_inbound(&mut self, stream: Inbound) {
        if self.waiting.len() >= MAX_WAITING_STREAMS {
            debug!(waiting_count = self.waiting.len(), "bitswap stream reset, too many wait");
            return;
        }
        self.waiting.push_back(stream);
    }

    fn on_dial_error(&mut self, error: DialUpgradeError<Opened, Offer>) {
        let reason = match error.error {
            StreamUpgradeError::NegotiationFailed if self.remote == Remote::Unknown => OpenError::Unsupported,
            StreamUpgradeError::NegotiationFailed => {
                // What identify said does not hold: the next try offers all.
                self.remote = Remote::Unknown;
                OpenError::Failed
            }
            _ => OpenError::Failed,
        };
        // Nobody may wait any more.
        let _ = error.info.send(Err(reason));
    }

    fn on_remote_protocols(&mut self, change: ProtocolsChange<'_>) {
        let offered = self.offer;
        let place = |protocol: &StreamProtocol| {
            offered.protocol_info().find(|offer| offer.as_ref() == protocol.as_ref())
        };
        match change {
            ProtocolsChange::Added(added) => {
                let (mut best, mut is_whole_list) = (None::<Protocol>, false);
                for protocol in added {
                    is_whole_list |= *protocol == IDENTIFY;
                    let known = place(protocol).into_iter().chain(best);
                    best = known.min_by_key(|protocol| protocol.0);
                }
                self.remote = match (self.remote, best) {
                    (Remote::Speaks(old), Some(new)) => Remote::Speaks(if new.0 < old.0 { new } else { old }),
                    (_, Some(new)) => Remote::Speaks(new),
                    (Remote::Unknown, None) if is_whole_list => Remote::Mute,
                    (remote, None) => remote,
                };
            }
            ProtocolsChange::Removed(mut removed) => {
                if removed.any(|protocol| place(protocol).is_some()) {
                    self.remote = Remote::Unknown;
                }
            }
        }
    }

    /// Passes waiting streams on as far as there is room.
    fn pass_on(&mut self, cx: &mut Context<'_>) {
        let Some(attached) = &mut self.attached else { return };
        while !self.waiting.is_empty() {
            match attached.inbound.poll_reserve(cx) {
                Poll::Pending => return,
                // Nobody reads this peer any more.
                Poll::Ready(Err(_)) => return self.waiting.clear(),
                Poll::Ready(Ok(())) => {
                    let stream = self.waiting.pop_front().expect("checked above");
                    let _ = attached.inbound.send_item(stream);
                }
            }
        }
    }

    /// The next request for a stream that can be negotiated.
    fn next_request(&mut self, cx: &mut Context<'_>) -> Option<SubstreamProtocol<Offer, Opened>> {
        loop {
            let Poll::Ready(Some(opened)) = self.attached.as_mut()?.requests.poll_recv(cx) else {
                return None;
            };
            let offer = match self.remote {
                Remote::Unknown => self.offer,
                Remote::Speaks(protocol) => Offer::only(protocol),
                Remote::Mute => {
                    let _ = opened.send(Err(OpenError::Unsupported));
                    continue;
                }
            };
            return Some(SubstreamProtocol::new(offer, opened));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Attach;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(self.offer, ())
    }

    fn connection_keep_alive(&self) -> bool {
        !self.waiting.is_empty() || self.attached.as_ref().is_some_and(|attached| attached.shared.is_busy())
    }

    fn on_behaviour_event(&mut self, Attach { shared, requests }: Attach) {
        let inbound = PollSender::new(shared.inbound.clone());
        self.attached = Some(Attached { shared, requests, inbound });
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Opened>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.on_inbound(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                // Nobody may wait any more; the stream is then closed.
                let _ = info.send(Ok(protocol));
            }
            ConnectionEvent::DialUpgradeError(error) => self.on_dial_error(error),
            ConnectionEvent::RemoteProtocolsChange(change) => self.on_remote_protocols(change),
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Offer, Opened, Infallible>> {
        self.pass_on(cx);
        match self.next_request(cx) {
            Some(protocol) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol }),
            None => Poll::Pending,
        }
    }
}
