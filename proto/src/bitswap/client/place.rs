//! Which peer is asked for which want.

use std::ops::Bound;
use std::time::Instant;

use super::peer::Rivals;
use super::{Client, MAX_STRANGERS, Search, SessionId};
use crate::bitswap::PeerKey;
use crate::bitswap::message::WantKind;
use crate::cid::{Cid, Multihash};
use crate::limits::MAX_WANTS_PER_PEER;

/// A peer that owes a session work for longer than this lets others take some of it, in seconds.
const STEAL_MIN_SECONDS: f64 = 0.2;

/// And only if the other would be done that many times sooner.
const STEAL_MIN_FACTOR: f64 = 4.0;

impl Client {
    /// Finds a peer to ask for a want that nobody is asked for now.
    pub(super) fn place(&mut self, hash: Multihash, now: Instant) {
        let Some(want) = self.wants.get(&hash) else { return };
        if let Some(peer) = want.block_at {
            for (session, _) in &want.sessions {
                if let Some(state) = self.sessions.get_mut(session) {
                    state.set_asked(&hash, peer);
                }
            }
            return;
        }
        let able = self.able(&hash);
        match self.fastest(&able, now) {
            Some(peer) => self.ask(peer, hash, WantKind::Block, now),
            None if able.is_empty() => self.seek(hash, now),
            None => self.wait(&able, hash),
        }
    }

    /// Of these peers, the one that has room and would be the first to serve one block more.
    pub(super) fn fastest(&self, able: &[PeerKey], now: Instant) -> Option<PeerKey> {
        let peers = || able.iter().map(|peer| (*peer, &self.peers[peer]));
        let rivals = match able.len() {
            0 | 1 => Rivals::None,
            _ if peers().any(|(_, state)| state.has_served()) => Rivals::Served,
            _ => Rivals::Untried,
        };
        peers()
            .filter(|(_, state)| state.has_room(rivals, now))
            .min_by(|(_, a), (_, b)| a.seconds_to_serve(now).total_cmp(&b.seconds_to_serve(now)))
            .map(|(peer, _)| peer)
    }

    /// Proven peers that may have the block.
    pub(super) fn able(&self, hash: &Multihash) -> Vec<PeerKey> {
        let Some(want) = self.wants.get(hash) else { return Vec::new() };
        let states = want.sessions.iter().filter_map(|(session, _)| self.sessions.get(session));
        let is_able = |peer: &PeerKey| {
            self.peers.get(peer).is_some_and(|state| !state.is_stalled() && !state.lacks(hash))
        };
        let mut able: Vec<_> = states.flat_map(|state| state.proven()).filter(is_able).collect();
        if want.sessions.len() > 1 {
            able.sort_unstable();
            able.dedup();
        }
        able
    }

    /// Puts a want in line for the first peer that has room again.
    fn wait(&mut self, able: &[PeerKey], hash: Multihash) {
        let Some(want) = self.wants.get(&hash) else { return };
        for (session, _) in &want.sessions {
            if let Some(state) = self.sessions.get_mut(session) {
                state.set_waiting(&hash);
            }
            for peer in able {
                if let Some(state) = self.peers.get_mut(peer) {
                    state.starving.insert(*session);
                }
            }
        }
    }

    /// Gives a session that found no room at this peer a chance before those that it serves already.
    pub(super) fn feed(&mut self, peer: PeerKey, now: Instant) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let later = (Bound::Excluded(state.fed_last), Bound::Unbounded);
        let next = state.starving.range(later).next().or_else(|| state.starving.first()).copied();
        let Some(session) = next else { return };
        state.starving.remove(&session);
        state.fed_last = session;
        let Some(hash) = self.sessions.get(&session).and_then(|state| state.first_waiting()) else { return };
        self.place(hash, now);
        if self.sessions.get(&session).is_some_and(|state| state.has_waiting())
            && let Some(state) = self.peers.get_mut(&peer)
        {
            state.starving.insert(session);
        }
    }

    /// Places a session's waiting wants, in order, as far as there is room.
    pub(super) fn place_waiting(&mut self, session: SessionId, now: Instant) {
        while let Some(hash) = self.sessions.get(&session).and_then(|state| state.first_waiting()) {
            self.place(hash, now);
            if self.sessions.get(&session).and_then(|state| state.first_waiting()) == Some(hash) {
                return;
            }
        }
    }

    /// Places everything of a session that is not placed, since there may be new peers for it.
    pub(super) fn place_open(&mut self, session: SessionId, now: Instant) {
        let Some(state) = self.sessions.get(&session) else { return };
        for hash in state.homeless() {
            self.place(hash, now);
        }
        self.place_waiting(session, now);
    }

    /// Notes that no proven peer has a block: peers are asked about it in turn, and a search for providers is planned.
    fn seek(&mut self, hash: Multihash, now: Instant) {
        let Some(want) = self.wants.get(&hash) else { return };
        let sessions: Vec<_> = want.sessions.iter().map(|(session, _)| *session).collect();
        for session in sessions {
            let is_pending = self.is_answer_pending(&hash);
            let Some(state) = self.sessions.get_mut(&session) else { continue };
            state.set_homeless(&hash);
            if !is_pending {
                state.end_probe(&hash);
            }
            self.probe_next(session, now);
            self.plan_search(session, &hash, now);
        }
    }

    /// Asks a session's circle about the next wants that nobody was asked about.
    pub(super) fn probe_next(&mut self, session: SessionId, now: Instant) {
        while let Some(probes) = self.sessions.get_mut(&session).map(|state| state.take_probes(now))
            && !probes.is_empty()
        {
            let circle = self.circle(session);
            for hash in probes {
                for peer in &circle {
                    self.probe(*peer, hash, circle.len() == 1, now);
                }
                if !self.is_answer_pending(&hash)
                    && let Some(state) = self.sessions.get_mut(&session)
                {
                    state.end_probe(&hash);
                }
            }
        }
    }

    fn is_answer_pending(&self, hash: &Multihash) -> bool {
        let is_pending = |peer: &PeerKey| self.peers.get(peer).is_some_and(|state| state.is_pending(hash));
        self.wants.get(hash).is_some_and(|want| want.asked.iter().any(is_pending))
    }

    /// Asks a peer without a record in this session about a block.
    fn probe(&mut self, peer: PeerKey, hash: Multihash, is_only_one: bool, now: Instant) {
        let (Some(state), Some(want)) = (self.peers.get(&peer), self.wants.get(&hash)) else { return };
        if state.was_asked(&hash) || state.is_stalled() || state.want_count() >= MAX_WANTS_PER_PEER {
            return;
        }
        let is_likely = is_only_one || state.has_served();
        let rivals = if is_only_one { Rivals::None } else { Rivals::Untried };
        let asks_block = want.block_at.is_none() && state.has_room(rivals, now);
        match (asks_block && is_likely, state.knows_presences) {
            (true, _) => self.ask(peer, hash, WantKind::Block, now),
            (false, true) => self.ask(peer, hash, WantKind::Have, now),
            (false, false) if asks_block => self.ask(peer, hash, WantKind::Block, now),
            (false, false) => {}
        }
    }

    /// Peers that a session asks around: those that served anyone before, best first, local ones, and a few others.
    fn circle(&mut self, session: SessionId) -> Vec<PeerKey> {
        if let Some(circle) = self.sessions.get(&session).and_then(|state| state.circle.clone()) {
            return circle;
        }
        let mut peers: Vec<_> = self.peers.iter().map(|(peer, state)| (*peer, state)).collect();
        peers.sort_unstable_by_key(|(peer, state)| (std::cmp::Reverse(state.served_bytes()), *peer));
        let mut stranger_count = 0;
        peers.retain(|(_, state)| {
            let is_stranger = !state.is_local && !state.has_served();
            stranger_count += usize::from(is_stranger);
            !is_stranger || stranger_count <= MAX_STRANGERS
        });
        let circle: Vec<_> = peers.into_iter().map(|(peer, _)| peer).collect();
        if let Some(state) = self.sessions.get_mut(&session) {
            state.circle = Some(circle.clone());
        }
        circle
    }

    /// Lets a session ask a peer that came later, unless it asks enough strangers already.
    pub(super) fn widen(&mut self, session: SessionId, peer: PeerKey, now: Instant) {
        let mut circle = self.circle(session);
        if !circle.contains(&peer) {
            let is_stranger = |peer: &PeerKey| {
                self.peers.get(peer).is_some_and(|state| !state.is_local && !state.has_served())
            };
            let stranger_count = circle.iter().filter(|peer| is_stranger(peer)).count();
            if is_stranger(&peer) && stranger_count >= MAX_STRANGERS {
                return;
            }
            circle.push(peer);
        }
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.circle = Some(circle);
        for hash in state.homeless() {
            state.set_unprobed(&hash);
        }
        self.probe_next(session, now);
    }

    fn plan_search(&mut self, session: SessionId, hash: &Multihash, now: Instant) {
        let is_pending = self.is_answer_pending(hash);
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.plan_search(is_pending, now);
        self.search(session, now);
    }

    /// Asks for providers if it is time to, and peers anew: one may have come by the block meanwhile, or answered wrongly.
    pub(super) fn search(&mut self, session: SessionId, now: Instant) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let Some(hash) = state.take_search(now) else { return };
        if let Some(want) = self.wants.get(&hash) {
            self.searches.push(Search { session, cid: want.cid });
        }
        self.ask_again(session, now);
    }

    /// Asks peers again about a session's wants that nobody had, but for those that have just answered.
    fn ask_again(&mut self, session: SessionId, now: Instant) {
        let Some(state) = self.sessions.get(&session) else { return };
        for hash in state.homeless() {
            let Some(want) = self.wants.get(&hash) else { continue };
            let mut is_open = false;
            for peer in &want.asked {
                is_open |= self.peers.get_mut(peer).is_some_and(|state| state.reopen(&hash, now));
            }
            if !is_open {
                continue;
            }
            if let Some(state) = self.sessions.get_mut(&session) {
                state.set_unprobed(&hash);
            }
            self.place(hash, now);
        }
        self.probe_next(session, now);
    }

    /// Asks one peer.
    pub(super) fn ask(&mut self, peer: PeerKey, hash: Multihash, kind: WantKind, now: Instant) {
        let (Some(state), Some(want)) = (self.peers.get_mut(&peer), self.wants.get_mut(&hash)) else {
            return;
        };
        let is_news = state.ask(hash, kind, now);
        if !want.asked.contains(&peer) {
            want.asked.push(peer);
        }
        if kind == WantKind::Block {
            want.block_at = Some(peer);
        }
        for (session, _) in &want.sessions {
            let Some(state) = self.sessions.get_mut(session) else { continue };
            state.on_asked(peer);
            if kind == WantKind::Block {
                state.set_asked(&hash, peer);
            }
        }
        if is_news {
            self.mark_dirty(peer);
        }
    }

    /// Gives a peer's unanswered wants to others; it keeps them too, should it come back.
    pub(super) fn give_up_on(&mut self, peer: PeerKey, now: Instant) {
        let Some(state) = self.peers.get(&peer) else { return };
        let awaited = state.awaited();
        for hash in &awaited {
            self.release(peer, hash);
        }
        for hash in awaited {
            self.place(hash, now);
        }
    }

    pub(super) fn release(&mut self, peer: PeerKey, hash: &Multihash) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.release(hash);
        }
        if let Some(want) = self.wants.get_mut(hash).filter(|want| want.block_at == Some(peer)) {
            want.block_at = None;
        }
    }

    /// Lets peers that have served and now have nothing to do take over from slow ones.
    pub(super) fn steal_for_idle(&mut self, session: SessionId, now: Instant) {
        let Some(state) = self.sessions.get(&session) else { return };
        let is_idle = |peer: &PeerKey| {
            let has_time = |state: &super::peer::Peer| state.has_served() && state.in_flight_count() == 0;
            self.peers.get(peer).is_some_and(|state| has_time(state) && !state.is_stalled())
        };
        let idle: Vec<_> = state.proven().filter(is_idle).collect();
        idle.into_iter().for_each(|thief| self.steal(session, thief, now));
    }

    /// Lets a peer that has almost nothing left to do take over half of what the slowest one owes the session.
    pub(super) fn steal(&mut self, session: SessionId, thief: PeerKey, now: Instant) {
        let (Some(state), Some(thief_state)) = (self.sessions.get(&session), self.peers.get(&thief)) else {
            return;
        };
        if thief_state.in_flight_count() > 1 || state.has_waiting() {
            return;
        }
        let owed = |peer: PeerKey| self.peers.get(&peer).map_or(0.0, |state| state.seconds_to_serve(now));
        let others = state.proven().filter(|peer| *peer != thief);
        let Some(slowest) = others.max_by(|a, b| owed(*a).total_cmp(&owed(*b))) else { return };
        if owed(slowest) < STEAL_MIN_SECONDS
            || owed(slowest) < STEAL_MIN_FACTOR * thief_state.seconds_to_serve(now)
        {
            return;
        }
        let mut loot = self.peers[&slowest].awaited();
        loot.retain(|hash| {
            let is_here = |want: &super::Want| want.sessions.iter().any(|(other, _)| *other == session);
            !thief_state.lacks(hash) && self.wants.get(hash).is_some_and(is_here)
        });
        // The later half: the earlier one may be on its way.
        for hash in loot.split_off(loot.len() / 2) {
            self.revoke(slowest, &hash);
            self.ask(thief, hash, WantKind::Block, now);
        }
    }

    /// Takes a want back from one peer.
    pub(super) fn revoke(&mut self, peer: PeerKey, hash: &Multihash) {
        let (Some(state), Some(want)) = (self.peers.get_mut(&peer), self.wants.get_mut(hash)) else { return };
        want.asked.retain(|other| *other != peer);
        if want.block_at == Some(peer) {
            want.block_at = None;
        }
        if state.revoke(hash, want.cid) {
            self.mark_dirty(peer);
        }
    }

    /// Takes a session's want away; what nobody wants any more is cancelled.
    pub(super) fn drop_want(&mut self, session: SessionId, hash: &Multihash) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.remove(hash);
        }
        let Some(want) = self.wants.get_mut(hash) else { return };
        want.sessions.retain(|(other, _)| *other != session);
        if want.sessions.is_empty() {
            self.resolve(hash, None);
        }
    }

    /// Ends a want: all peers but the one that served it are told, and its sessions returned.
    pub(super) fn resolve(&mut self, hash: &Multihash, served_by: Option<PeerKey>) -> Vec<(SessionId, Cid)> {
        let Some(want) = self.wants.remove(hash) else { return Vec::new() };
        for peer in want.asked {
            let Some(state) = self.peers.get_mut(&peer).filter(|_| Some(peer) != served_by) else { continue };
            if state.cancel(hash, want.cid) {
                self.mark_dirty(peer);
            }
        }
        for (session, _) in &want.sessions {
            if let Some(state) = self.sessions.get_mut(session) {
                state.remove(hash);
            }
        }
        want.sessions
    }
}
