//! Asking several peers for one block, while none of those asked has ever served.
//!
//! To say that one has a block costs nothing. Of ten peers that say so nine may be liars, and each would cost a session
//! seconds if it were found out after the other. So all are found out at once. What comes twice is a block of each peer
//! that is honest, but slow to begin.

use std::time::Instant;

use super::Client;
use crate::bitswap::PeerKey;
use crate::bitswap::message::WantKind;
use crate::cid::Multihash;

impl Client {
    /// Asks others for what doubtful peers owe.
    pub(super) fn hedge(&mut self, now: Instant) {
        let is_doubtful = |peer: &PeerKey| self.peers[peer].is_doubtful(now);
        let doubtful: Vec<_> = self.peers.keys().copied().filter(is_doubtful).collect();
        for peer in doubtful {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            state.on_doubt(now);
            for (number, hash) in state.awaited().into_iter().enumerate() {
                self.hedge_want(peer, hash, number == 0, now);
            }
        }
    }

    /// Moves a want from a doubtful peer to one that has served; the first one, by which it may still prove itself, it keeps
    /// as well. Where nobody has served, twice as many more are asked for the first one as owe it.
    fn hedge_want(&mut self, peer: PeerKey, hash: Multihash, is_first: bool, now: Instant) {
        let Some(want) = self.wants.get(&hash) else { return };
        let owes = |peer: &PeerKey| self.peers.get(peer).is_some_and(|state| state.awaits_block(&hash));
        let owing: Vec<_> = want.asked.iter().copied().filter(owes).collect();
        if !owing.iter().all(|peer| self.peers[peer].is_doubtful(now)) {
            return;
        }
        let mut others = self.able(&hash);
        others.retain(|other| !owing.contains(other) && !self.peers[other].is_doubtful(now));
        let mut count = 2 * owing.len();
        if others.iter().any(|other| self.peers[other].has_served()) {
            others.retain(|other| self.peers[other].has_served());
            count = 1;
        } else if !is_first {
            return;
        }
        for _ in 0..count {
            let Some(other) = self.fastest(&others, now) else { return };
            if !is_first {
                self.revoke(peer, &hash);
            }
            self.ask(other, hash, WantKind::Block, now);
            others.retain(|left| *left != other);
        }
    }
}
