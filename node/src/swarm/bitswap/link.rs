//! What leaves the swarm: which peers are connected, and a link to each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_proto::bitswap::message::Version;
use libp2p::swarm::{ConnectionId, Stream};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::sync::{Notify, mpsc, oneshot};

/// Streams that wait to be read by the holder of a [`Link`], beside those that wait in the handler.
const INBOUND_QUEUE: usize = 16;

/// Requests for a stream that wait for one connection's task; a link has one open at a time.
pub(super) const OPEN_QUEUE: usize = 2;

/// A negotiated stream.
pub type Inbound = (Version, Stream);

/// Answer to a request for a stream.
pub(super) type Opened = oneshot::Sender<Result<Inbound, OpenError>>;

/// Why no stream could be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer does not speak Bitswap.
    #[error("peer does not speak bitswap")]
    Unsupported,
    /// The stream failed or took too long; another try may succeed.
    #[error("stream could not be opened")]
    Failed,
    /// The peer is not connected any more.
    #[error("peer is not connected")]
    Disconnected,
}

/// A peer that came or went.
#[derive(Debug)]
pub enum Change {
    /// The peer has its first connection.
    Connected(Link),
    /// The peer's last connection is closed. Its link is of no more use.
    Disconnected(PeerId),
}

/// The swarm's Bitswap side, as the exchange sees it.
#[derive(Debug)]
pub struct Wire {
    pub(super) changes: Arc<Changes>,
}

impl Wire {
    /// Takes the changes that are there already.
    pub fn try_changes(&mut self) -> Vec<Change> {
        self.changes.take()
    }

    /// Waits until peers came or went, and takes all such changes in order. A peer that came and went meanwhile is
    /// left out, so this never holds more than two changes for each peer.
    ///
    /// # Cancellation
    /// Cancel-safe: changes stay until taken.
    pub async fn changes(&mut self) -> Vec<Change> {
        loop {
            let changed = self.changes.notify.notified();
            let changes = self.changes.take();
            if !changes.is_empty() {
                return changes;
            }
            changed.await;
        }
    }
}

/// A mailbox between the swarm's task, which never waits, and the exchange.
#[derive(Debug, Default)]
pub(super) struct Changes {
    peers: Mutex<HashMap<PeerId, PeerChange>>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct PeerChange {
    disconnected: bool,
    connected: Option<Link>,
}

impl Changes {
    pub(super) fn connected(&self, link: Link) {
        let peer = link.peer;
        lock(&self.peers).entry(peer).or_default().connected = Some(link);
        self.notify.notify_one();
    }

    pub(super) fn disconnected(&self, peer: PeerId) {
        let mut peers = lock(&self.peers);
        let change = peers.entry(peer).or_default();
        if change.connected.take().is_none() {
            change.disconnected = true;
        } else if !change.disconnected {
            // Nobody was told that it came.
            peers.remove(&peer);
        }
        drop(peers);
        self.notify.notify_one();
    }

    fn take(&self) -> Vec<Change> {
        let peers = std::mem::take(&mut *lock(&self.peers));
        let mut changes = Vec::with_capacity(peers.len());
        for (peer, change) in peers {
            changes.extend(change.disconnected.then_some(Change::Disconnected(peer)));
            changes.extend(change.connected.map(Change::Connected));
        }
        changes
    }
}

/// A connected peer's streams, over whichever of its connections.
#[derive(Debug)]
pub struct Link {
    peer: PeerId,
    is_local: bool,
    inbound: mpsc::Receiver<Inbound>,
    shared: Arc<Shared>,
}

impl Link {
    /// A link, and the part of it that the handlers of the peer's connections share.
    pub(super) fn new(peer: PeerId, remote: &Multiaddr) -> (Self, Arc<Shared>) {
        let (inbound_tx, inbound) = mpsc::channel(INBOUND_QUEUE);
        let shared = Arc::new(Shared {
            inbound: inbound_tx,
            reason_count: AtomicUsize::new(0),
            openers: Mutex::default(),
            is_kin: AtomicBool::new(false),
        });
        (Self { peer, is_local: is_local(remote), inbound, shared: Arc::clone(&shared) }, shared)
    }

    /// The peer.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Whether the peer was reached at a loopback or private address.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Opens streams to the peer.
    pub fn opener(&self) -> Opener {
        Opener { shared: Arc::clone(&self.shared) }
    }

    /// Takes the link apart: streams that the peer opens, and the means to open one.
    ///
    /// The queue of streams ends some time after the peer has disconnected.
    pub fn split(self) -> (mpsc::Receiver<Inbound>, Opener) {
        (self.inbound, Opener { shared: self.shared })
    }
}

/// Opens streams to a peer, and keeps its connection alive while there is something to do. Clones share both.
#[derive(Debug, Clone)]
pub struct Opener {
    shared: Arc<Shared>,
}

impl Opener {
    /// Opens a stream on one of the peer's connections.
    ///
    /// # Errors
    /// [`OpenError`]: only after [`OpenError::Failed`] another try makes sense.
    ///
    /// # Cancellation
    /// Cancel-safe: a stream that is still negotiated is closed.
    pub async fn open(&self) -> Result<Inbound, OpenError> {
        loop {
            let Some((connection, requests)) = lock(&self.shared.openers).first().cloned() else {
                return Err(OpenError::Disconnected);
            };
            let (opened, answer) = oneshot::channel();
            if requests.send(opened).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
            // That connection is gone; the peer may have another.
            self.shared.detach(connection);
        }
    }

    /// Whether the peer says that it is a Cairn node too; `false` until it has said what it is.
    pub fn is_kin(&self) -> bool {
        self.shared.is_kin.load(Ordering::Relaxed)
    }

    /// Keeps the peer's connections open for as long as the returned value lives. Without any, a connection may be closed
    /// after the swarm's idle timeout.
    pub fn keep_alive(&self) -> KeepAlive {
        self.shared.reason_count.fetch_add(1, Ordering::Relaxed);
        KeepAlive { shared: Arc::clone(&self.shared) }
    }
}

/// A reason to keep a peer's connections: something is wanted from it, or owed to it.
#[derive(Debug)]
pub struct KeepAlive {
    shared: Arc<Shared>,
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.shared.reason_count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the handlers of a peer's connections share with its [`Link`].
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) inbound: mpsc::Sender<Inbound>,
    /// Living [`KeepAlive`]s.
    reason_count: AtomicUsize,
    openers: Mutex<Vec<(ConnectionId, mpsc::Sender<Opened>)>>,
    is_kin: AtomicBool,
}

impl Shared {
    pub(super) fn is_busy(&self) -> bool {
        self.reason_count.load(Ordering::Relaxed) > 0
    }

    pub(super) fn set_kin(&self, is_kin: bool) {
        self.is_kin.store(is_kin, Ordering::Relaxed);
    }

    pub(super) fn attach(&self, connection: ConnectionId, requests: mpsc::Sender<Opened>) {
        lock(&self.openers).push((connection, requests));
    }

    pub(super) fn detach(&self, connection: ConnectionId) {
        lock(&self.openers).retain(|(other, _)| *other != connection);
    }
}

/// Whether an address is on this machine or a private network.
fn is_local(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(peer: PeerId) -> Link {
        Link::new(peer, &"/ip4/127.0.0.1/tcp/1".parse().unwrap()).0
    }

    fn kinds(changes: &[Change]) -> Vec<&'static str> {
        let kind = |change: &Change| match change {
            Change::Connected(_) => "connected",
            Change::Disconnected(_) => "disconnected",
        };
        changes.iter().map(kind).collect()
    }

    #[test]
    fn a_peer_that_came_and_went_unseen_is_left_out() {
        let (changes, peer) = (Changes::default(), PeerId::random());
        changes.connected(link(peer));
        changes.disconnected(peer);
        assert!(changes.take().is_empty());
    }

    #[test]
    fn a_peer_that_went_and_came_again_is_told_in_that_order() {
        let (changes, peer) = (Changes::default(), PeerId::random());
        changes.connected(link(peer));
        assert_eq!(kinds(&changes.take()), ["connected"]);
        for _ in 0..3 {
            changes.disconnected(peer);
            changes.connected(link(peer));
        }
        assert_eq!(kinds(&changes.take()), ["disconnected", "connected"]);
    }

    #[tokio::test]
    async fn opening_without_a_connection_fails_at_once() {
        let (_, opener) = link(PeerId::random()).split();
        assert_eq!(opener.open().await.unwrap_err(), OpenError::Disconnected);
    }
}
