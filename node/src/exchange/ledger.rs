//! What peers want from us, shared by the tasks that hear of it and those that answer.
//!
//! The lock is held for a few map operations at a time, never across a read or a wait. It is shared rather than owned by
//! one task so that a peer's answers do not wait for anything but its own reads and writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_proto::bitswap::PeerKey;
use cairn_proto::bitswap::message::WantEntry;
use cairn_proto::bitswap::server::{Batch, Server};
use cairn_proto::cid::{Cid, Multihash};
use tokio::sync::Notify;

use super::ports::Blocks;

/// Wants of all peers, and who answers them.
pub(super) struct Ledger {
    blocks: Arc<dyn Blocks>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    server: Server,
    answerers: HashMap<PeerKey, Arc<Notify>>,
}

impl Ledger {
    pub(super) fn new(blocks: Arc<dyn Blocks>) -> Self {
        Self { blocks, state: Mutex::default() }
    }

    /// Lets a peer want things. The returned value tells when there is something to answer.
    pub(super) fn connect(&self, peer: PeerKey) -> Arc<Notify> {
        let work = Arc::new(Notify::new());
        self.lock().answerers.insert(peer, Arc::clone(&work));
        work
    }

    /// Forgets a peer and all it wanted.
    pub(super) fn disconnect(&self, peer: PeerKey) {
        let mut state = self.lock();
        state.answerers.remove(&peer);
        state.server.disconnect(peer);
    }

    /// Takes in a message's entries. Blocks the thread.
    pub(super) fn on_entries(&self, peer: PeerKey, max_wants: usize, is_full: bool, entries: Vec<WantEntry>) {
        let hashes: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                WantEntry::Want { cid, .. } => Some(*cid.hash()),
                WantEntry::Cancel(_) => None,
            })
            .collect();
        let mut epoch = self.lock().server.epoch();
        let mut lengths = self.blocks.lengths(&hashes);
        loop {
            let mut state = self.lock();
            if !state.answerers.contains_key(&peer) {
                return;
            }
            if state.server.epoch() == epoch || lengths.iter().all(Option::is_some) {
                let mut lengths = lengths.into_iter();
                let entries = entries.into_iter().map(|entry| match entry {
                    WantEntry::Want { .. } => (entry, lengths.next().flatten()),
                    WantEntry::Cancel(_) => (entry, None),
                });
                if state.server.on_entries(peer, max_wants, is_full, entries) {
                    state.wake([peer]);
                }
                return;
            }
            // Blocks have arrived since: one of those that were missing may be among them.
            epoch = state.server.epoch();
            drop(state);
            lengths = self.blocks.lengths(&hashes);
        }
    }

    /// Takes what a peer is sent next.
    pub(super) fn take(&self, peer: PeerKey) -> Option<Batch> {
        self.lock().server.take(peer)
    }

    /// What a peer wants and has not been sent.
    pub(super) fn wantlist(&self, peer: PeerKey) -> Vec<Cid> {
        self.lock().server.wantlist(peer)
    }

    /// Serves blocks that have arrived to the peers that wait for them. Blocks the thread.
    pub(super) fn on_new_blocks(&self, hashes: &[Multihash]) {
        let awaited = self.lock().server.on_arrival(hashes);
        if awaited.is_empty() {
            return;
        }
        let lengths = self.blocks.lengths(&awaited);
        let here = awaited.into_iter().zip(lengths).filter_map(|(hash, length)| Some((hash, length?)));
        let mut state = self.lock();
        let peers = state.server.on_lengths(here);
        state.wake(peers);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside leaves at worst one peer's wants wrong.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl State {
    fn wake(&self, peers: impl IntoIterator<Item = PeerKey>) {
        for work in peers.into_iter().filter_map(|peer| self.answerers.get(&peer)) {
            work.notify_one();
        }
    }
}
