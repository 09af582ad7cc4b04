//! The tasks that write to one peer: one reads the blocks that it asked for, the other writes them and our own wants.
//!
//! Both belong to that peer alone, so one that reads slowly holds up nobody else. While a message is written the next is
//! prepared; more than [`ANSWER_QUEUE`] are never held.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::bitswap::PeerKey;
use cairn_proto::bitswap::message::{Outgoing, Presence, Version, WantEntry};
use cairn_proto::bitswap::server::Batch;
use libp2p::swarm::Stream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::sleep;
use tracing::debug;

use super::Counters;
use super::ledger::Ledger;
use super::ports::Blocks;
use super::task::PeerEvent;
use crate::swarm::bitswap::{KeepAlive, OpenError, Opener, frame};

/// Answers that wait while another is written.
pub(super) const ANSWER_QUEUE: usize = 1;

/// Wantlists that wait for the writer; the exchange keeps what comes later and puts it together.
pub(super) const ENTRIES_QUEUE: usize = 1;

/// Streams that fail one after the other before the peer counts as gone.
const MAX_FAILURES: u32 = 3;

/// Wait before another stream is tried.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// An answer, and the reason it gives to keep the connection.
pub(super) type Answer = (Outgoing, KeepAlive);

/// Prepares the answers to one peer.
pub(super) struct Answerer {
    pub(super) peer: PeerKey,
    pub(super) ledger: Arc<Ledger>,
    pub(super) blocks: Arc<dyn Blocks>,
    /// Told when there is something to answer.
    pub(super) work: Arc<Notify>,
    pub(super) opener: Opener,
    /// One permit for each answer that may be read at a time, of all peers, in turn.
    pub(super) readers: Arc<Semaphore>,
    pub(super) answers: mpsc::Sender<Answer>,
}

impl Answerer {
    /// Answers until the writer has ended.
    pub(super) async fn run(self) {
        loop {
            let Some(batch) = self.ledger.take(self.peer) else {
                self.work.notified().await;
                continue;
            };
            let keep_alive = self.opener.keep_alive();
            let answer = self.prepare(batch).await;
            if !answer.is_empty() && self.answers.send((answer, keep_alive)).await.is_err() {
                return;
            }
        }
    }

    async fn prepare(&self, batch: Batch) -> Outgoing {
        let pending_bytes = u32::try_from(batch.pending_bytes).unwrap_or(u32::MAX).min(i32::MAX as u32);
        let mut answer = Outgoing { presences: batch.presences, pending_bytes, ..Outgoing::default() };
        if batch.blocks.is_empty() {
            return answer;
        }
        let _reader = self.readers.acquire().await.expect("never closed");
        let blocks = Arc::clone(&self.blocks);
        let read = tokio::task::spawn_blocking(move || {
            let cids: Vec<_> = batch.blocks.iter().map(|(cid, _)| *cid).collect();
            (blocks.read(&cids), batch.blocks)
        });
        let Ok((blocks, asked)) = read.await else { return answer };
        for (block, (cid, send_dont_have)) in blocks.into_iter().zip(asked) {
            match block {
                Some(block) => answer.blocks.push(block),
                // Gone since it was asked for.
                None if send_dont_have => answer.presences.push((cid, Presence::DontHave)),
                None => {}
            }
        }
        answer
    }
}

/// Writes everything that one peer is sent.
pub(super) struct Writer {
    pub(super) peer: PeerKey,
    pub(super) opener: Opener,
    pub(super) entries: mpsc::Receiver<Vec<WantEntry>>,
    /// `None` when peers are not served.
    pub(super) answers: Option<mpsc::Receiver<Answer>>,
    pub(super) events: mpsc::Sender<(PeerKey, PeerEvent)>,
    pub(super) counters: Arc<Counters>,
}

impl Writer {
    /// Writes until the exchange lets go of the peer, or the peer cannot be reached.
    pub(super) async fn run(mut self) {
        let (mut stream, mut failure_count) = (None, 0);
        while let Some((message, _keep_alive)) = self.next().await {
            let is_written = self.write(&mut stream, &message).await;
            match is_written {
                Ok(()) => failure_count = 0,
                Err(OpenError::Failed) if failure_count + 1 < MAX_FAILURES => {
                    failure_count += 1;
                    sleep(RETRY_DELAY).await;
                    // What was lost with the stream is asked for anew.
                    self.tell(PeerEvent::Lost).await;
                }
                Err(error) => {
                    debug!(peer = self.peer.0, %error, "peer cannot be written to");
                    return self.tell(PeerEvent::Gone).await;
                }
            }
        }
    }

    /// The next message: our wants before answers, since they are small and someone waits for them.
    async fn next(&mut self) -> Option<(Outgoing, Option<KeepAlive>)> {
        let answers = &mut self.answers;
        let answer = async {
            match answers {
                Some(answers) => answers.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            entries = self.entries.recv() => {
                let message = Outgoing { entries: entries?, ..Outgoing::default() };
                self.tell(PeerEvent::Ready).await;
                Some((message, None))
            }
            answer = answer => {
                let (message, keep_alive) = answer?;
                Some((message, Some(keep_alive)))
            }
        }
    }

    async fn write(
        &self,
        stream: &mut Option<(Version, Stream)>,
        message: &Outgoing,
    ) -> Result<(), OpenError> {
        let (version, open) = match stream {
            Some(open) => open,
            None => {
                let opened = self.opener.open().await?;
                if !opened.0.has_presences() {
                    self.tell(PeerEvent::KnowsNoPresences).await;
                }
                stream.insert(opened)
            }
        };
        if !version.has_presences() && message.entries.is_empty() && message.blocks.is_empty() {
            // It would not understand what is left.
            return Ok(());
        }
        if let Err(error) = frame::write(open, &message.encode(*version)).await {
            debug!(peer = self.peer.0, %error, "bitswap stream given up");
            *stream = None;
            return Err(OpenError::Failed);
        }
        let sent_bytes: usize = message.blocks.iter().map(|block| block.data().len()).sum();
        self.counters.on_sent(self.peer, message.blocks.len(), sent_bytes);
        Ok(())
    }

    async fn tell(&self, event: PeerEvent) {
        // Closed only when the exchange stops, and then this task too.
        let _ = self.events.send((self.peer, event)).await;
    }
}
