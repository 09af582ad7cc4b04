//! The task that reads what one peer sends: frames, decodes, has blocks hashed, and passes on what they are.
//!
//! Reading goes on while blocks are hashed by other threads. What is read and not yet passed on is bounded in bytes, so a
//! peer that sends faster than we hash is held up on its own streams, and nobody else is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_proto::bitswap::PeerKey;
use cairn_proto::bitswap::message::{Message, Payload};
use cairn_proto::block::Block;
use cairn_proto::limits::{MAX_MESSAGE_BYTES, MAX_WANTS_PER_KIN, MAX_WANTS_PER_PEER};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::swarm::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::debug;

use super::ledger::Ledger;
use super::task::{PeerEvent, Signs};
use super::{Counters, HASH_INLINE_BYTES};
use crate::swarm::bitswap::{Inbound, Opener, frame};

/// Streams of one peer that are read at a time. Kubo opens one for each of its answers.
const MAX_STREAMS: usize = 64;

/// Messages of one peer that are being read or hashed, in bytes: two of the longest.
const IN_FLIGHT_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// What the reader of a peer works with.
pub(super) struct Reader {
    pub(super) peer: PeerKey,
    pub(super) inbound: mpsc::Receiver<Inbound>,
    pub(super) events: mpsc::Sender<(PeerKey, PeerEvent)>,
    /// `None` when peers are not served.
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) counters: Arc<Counters>,
    /// One permit for each thread that may hash.
    pub(super) hashers: Arc<Semaphore>,
    pub(super) signs: Arc<Signs>,
    pub(super) opener: Opener,
}

/// A message, the room that it takes, and the stream that it came from.
type Received = (Message, OwnedSemaphorePermit, Stream);

impl Reader {
    /// Reads until the peer's streams end for good.
    pub(super) async fn run(mut self) {
        let room = Arc::new(Semaphore::new(IN_FLIGHT_BYTES));
        let mut streams = FuturesUnordered::<BoxFuture<'static, Option<Received>>>::new();
        let mut hashing = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(blocks) = hashing.next() => self.pass_on(blocks).await,
                Some(received) = streams.next() => {
                    let Some((mut message, permit, stream)) = received else { continue };
                    self.counters.messages_received.fetch_add(1, Ordering::Relaxed);
                    let payloads = message.take_payloads();
                    if self.signs.may_serve.load(Ordering::Relaxed) && !payloads.is_empty() {
                        hashing.push(self.hash(payloads, permit));
                    } else {
                        self.count_uncalled(&payloads);
                    }
                    self.on_message(message).await;
                    streams.push(self.next_message(stream, &room));
                }
                inbound = self.inbound.recv(), if streams.len() < MAX_STREAMS => {
                    let Some((_, stream)) = inbound else { return };
                    streams.push(self.next_message(stream, &room));
                }
            }
        }
    }

    /// Reads one message. `None` when the stream has ended or failed, which resets it.
    fn next_message(
        &self,
        mut stream: Stream,
        room: &Arc<Semaphore>,
    ) -> BoxFuture<'static, Option<Received>> {
        let (room, signs, peer) = (Arc::clone(room), Arc::clone(&self.signs), self.peer);
        Box::pin(async move {
            let received = async {
                let Some(len_bytes) = frame::read_len(&mut stream).await? else { return Ok(None) };
                let wanted = u32::try_from(len_bytes).expect("no message is that long");
                let permit = room.acquire_many_owned(wanted).await.expect("never closed");
                let on_progress = |read| {
                    signs.received_bytes.fetch_add(read as u64, Ordering::Relaxed);
                };
                let body = frame::read_body(&mut stream, len_bytes, on_progress).await?;
                Ok::<_, frame::FrameError>(Some((body, permit)))
            };
            let (body, permit) = match received.await {
                Ok(received) => received?,
                Err(error) => {
                    debug!(peer = peer.0, %error, "bitswap stream given up");
                    return None;
                }
            };
            match Message::decode(body) {
                Ok(message) => Some((message, permit, stream)),
                Err(error) => {
                    debug!(peer = peer.0, %error, "bitswap message refused");
                    None
                }
            }
        })
    }

    /// Wants and presences.
    async fn on_message(&self, message: Message) {
        let presences: Vec<_> = message.presences().map(|(cid, presence)| (*cid.hash(), presence)).collect();
        if !presences.is_empty() {
            self.tell(PeerEvent::Presences(presences)).await;
        }
        let (Some(ledger), true) = (&self.ledger, message.has_entries()) else { return };
        let (ledger, peer) = (Arc::clone(ledger), self.peer);
        let max_wants = if self.opener.is_kin() { MAX_WANTS_PER_KIN } else { MAX_WANTS_PER_PEER };
        // In order: a cancel must not overtake its want.
        let taken_in = tokio::task::spawn_blocking(move || {
            ledger.on_entries(peer, max_wants, message.is_full_wantlist(), message.entries().collect());
        });
        if let Err(error) = taken_in.await {
            debug!(peer = self.peer.0, %error, "wants not taken in");
        }
    }

    /// Hashes blocks, on another thread unless they are small.
    fn hash(
        &self,
        payloads: Vec<Payload>,
        permit: OwnedSemaphorePermit,
    ) -> BoxFuture<'static, (Vec<Block>, OwnedSemaphorePermit)> {
        let hashers = Arc::clone(&self.hashers);
        Box::pin(async move {
            let len_bytes: usize = payloads.iter().map(Payload::len_bytes).sum();
            if len_bytes <= HASH_INLINE_BYTES {
                return (hash_all(payloads), permit);
            }
            let _hasher = hashers.acquire_owned().await.expect("never closed");
            // A panic while hashing is the sender's loss.
            let blocks = tokio::task::spawn_blocking(move || hash_all(payloads)).await.unwrap_or_default();
            (blocks, permit)
        })
    }

    /// Nothing was asked of the peer: nobody can want what it sends.
    fn count_uncalled(&self, payloads: &[Payload]) {
        let len_bytes: usize = payloads.iter().map(Payload::len_bytes).sum();
        self.counters.on_received(Some(self.peer), payloads.len(), len_bytes);
        self.counters.on_dup(payloads.len(), len_bytes);
    }

    async fn pass_on(&self, (blocks, _permit): (Vec<Block>, OwnedSemaphorePermit)) {
        let len_bytes: usize = blocks.iter().map(|block| block.data().len()).sum();
        self.counters.on_received(Some(self.peer), blocks.len(), len_bytes);
        self.tell(PeerEvent::Blocks(blocks)).await;
    }

    async fn tell(&self, event: PeerEvent) {
        // Closed only when the exchange stops, and then this task too.
        let _ = self.events.send((self.peer, event)).await;
    }
}

fn hash_all(payloads: Vec<Payload>) -> Vec<Block> {
    let hash = |payload: Payload| payload.hash().inspect_err(|error| debug!(%error, "block refused")).ok();
    payloads.into_iter().filter_map(hash).collect()
}
