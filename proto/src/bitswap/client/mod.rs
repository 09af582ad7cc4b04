//! The asking side: who is asked for which block, when, and what to do when no answer comes.
//!
//! A want belongs to sessions and is asked of peers. One peer at a time is asked for the block itself; who served the
//! session before is asked straight away, so that no round trip passes for each block. Only while nobody has proven to
//! have a session's blocks are others asked whether they do, and providers searched. Whoever never served is put to the
//! test with little, and what it does not serve at once is asked of others too.
//!
//! Invariant: a want that has a live provider among the peers is always at one of them, in line for one, or due at the
//! next [`Client::tick`]. Must not know blocks' bytes beyond their length, nor how peers are reached.

#[cfg(test)]
mod duplicates;
mod hedge;
mod peer;
mod place;
mod session;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use self::peer::Peer;
use self::session::Session;
use super::PeerKey;
use super::message::{Presence, WantEntry, WantKind};
use crate::cid::{Cid, Multihash};

/// Wants for blocks that one peer has at a time.
///
/// Below [`crate::limits::MAX_WANTS_PER_PEER`]: Kubo takes a want off its list only after it has sent the block, so a list
/// kept full would push out our own newest wants.
pub const MAX_WANTS_IN_FLIGHT: usize = 768;

/// The same of a peer that is a Cairn node and has served: by then it knows that we are one.
///
/// Below [`crate::limits::MAX_WANTS_PER_KIN`], for the same reason.
pub const MAX_WANTS_AT_KIN: usize = 6144;

/// Time without a byte from a peer that owes us blocks before its wants go to others.
pub const STALL_AFTER: Duration = Duration::from_secs(3);

/// Time after which a stalled peer is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Time for which a peer's word that it lacks a block is believed.
const ANSWER_HOLDS: Duration = Duration::from_secs(5);

/// Wait for connected peers before providers are searched.
///
/// Source: boxo `bitswap/internal/defaults` (1 s).
pub const SEARCH_DELAY: Duration = Duration::from_secs(1);

/// Least and most time between searches of a session that makes no progress.
const SEARCH_AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// Time between calls of [`Client::tick`] while there are wants.
pub const TICK: Duration = Duration::from_millis(100);

/// Wants of one session that peers without a record are asked about at a time.
const MAX_PROBES: usize = 32;

/// Time after which a peer's word about a block is not waited for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Peers that neither served before nor are local, asked about a want.
const MAX_STRANGERS: usize = 10;

/// Blocks in a row that a peer may lack before its session stops asking it straight away.
///
/// Source: boxo `bitswap/client/internal/session` (16).
const MAX_MISSES: u32 = 16;

/// Entries in one message.
const MAX_MESSAGE_ENTRIES: usize = 1024;

/// Number of a session, given out by the caller, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What a session has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Wants not yet served.
    pub want_count: usize,
    /// Peers that were asked for any of its blocks.
    pub peers_asked: usize,
    /// Peers known to have some.
    pub provider_count: usize,
}

/// A session that needs providers of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Session.
    pub session: SessionId,
    /// Block to find providers of.
    pub cid: Cid,
}

/// Everything wanted, of whomever.
#[derive(Debug, Default)]
pub struct Client {
    wants: HashMap<Multihash, Want>,
    // In the order of their numbers wherever all are visited: a run with the same input is the same.
    sessions: BTreeMap<SessionId, Session>,
    peers: BTreeMap<PeerKey, Peer>,
    /// Peers with something to be told, each once.
    dirty: VecDeque<PeerKey>,
    searches: Vec<Search>,
    last_tick: Option<Instant>,
    /// Whether a peer that had stalled may be asked again.
    is_recovered: bool,
}

/// One block that is wanted.
#[derive(Debug)]
struct Want {
    /// As it is asked for on the wire.
    cid: Cid,
    /// Who wants it, under which CID.
    sessions: Vec<(SessionId, Cid)>,
    /// Peers that hold an entry for it.
    asked: Vec<PeerKey>,
    /// The one that is asked for the block itself and has not failed.
    block_at: Option<PeerKey>,
}

impl Client {
    /// Opens a session.
    pub fn open(&mut self, session: SessionId) {
        self.sessions.insert(session, Session::default());
    }

    /// Closes a session; what nobody else wants is cancelled.
    pub fn close(&mut self, session: SessionId) {
        let Some(state) = self.sessions.get(&session) else { return };
        state.wants().iter().for_each(|hash| self.drop_want(session, hash));
        for peer in self.sessions.remove(&session).iter().flat_map(Session::proven) {
            if let Some(state) = self.peers.get_mut(&peer) {
                state.session_count -= 1;
            }
        }
    }

    /// Wants blocks for a session, in the order in which they are needed.
    pub fn want(&mut self, session: SessionId, cids: impl IntoIterator<Item = Cid>, now: Instant) {
        for cid in cids {
            let hash = *cid.hash();
            let Some(state) = self.sessions.get_mut(&session) else { return };
            state.add(hash);
            let want = self.wants.entry(hash).or_insert_with(|| Want {
                cid,
                sessions: Vec::new(),
                asked: Vec::new(),
                block_at: None,
            });
            if !want.sessions.contains(&(session, cid)) {
                want.sessions.push((session, cid));
            }
            self.place(hash, now);
        }
        self.last_tick.get_or_insert(now);
    }

    /// Takes wants of a session back.
    pub fn cancel(&mut self, session: SessionId, cids: impl IntoIterator<Item = Cid>) {
        cids.into_iter().for_each(|cid| self.drop_want(session, cid.hash()));
    }

    /// Tells of a connected peer. Local ones are always asked when nobody is known to have a block.
    pub fn connect(&mut self, peer: PeerKey, is_local: bool, now: Instant) {
        self.peers.insert(peer, Peer::new(is_local, now));
        let with_circle: Vec<_> =
            self.sessions.iter().filter(|(_, state)| state.circle.is_some()).map(|(id, _)| *id).collect();
        for session in with_circle {
            self.widen(session, peer, now);
        }
    }

    /// Tells that a peer is a Cairn node too, which takes more wants than others.
    pub fn is_kin(&mut self, peer: PeerKey) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.is_kin = true;
        }
    }

    /// Tells that a peer is gone. Its wants go to others at once. Returns the sessions that it had blocks of: to reach it
    /// again may be worth while.
    pub fn disconnect(&mut self, peer: PeerKey, now: Instant) -> Vec<SessionId> {
        let Some(state) = self.peers.remove(&peer) else { return Vec::new() };
        let of_session = |(id, session): (&SessionId, &mut Session)| session.forget(peer).then_some(*id);
        let sessions = self.sessions.iter_mut().filter_map(of_session).collect();
        for hash in state.wants() {
            let Some(want) = self.wants.get_mut(&hash) else { continue };
            want.asked.retain(|other| *other != peer);
            if want.block_at == Some(peer) {
                want.block_at = None;
                self.place(hash, now);
            }
        }
        sessions
    }

    /// Tells that a peer is of an old version, which knows wants for blocks only.
    pub fn knows_no_presences(&mut self, peer: PeerKey, now: Instant) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.knows_presences = false;
        for hash in state.pending_haves() {
            let Some(state) = self.peers.get_mut(&peer) else { return };
            // It was never told: the wire leaves such wants out.
            state.forget(&hash);
            let Some(want) = self.wants.get_mut(&hash) else { continue };
            want.asked.retain(|other| *other != peer);
            if want.block_at.is_none() {
                self.ask(peer, hash, WantKind::Block, now);
            }
        }
    }

    /// Tells that a peer is said to have a session's blocks: it is asked for them straight away.
    pub fn add_provider(&mut self, session: SessionId, peer: PeerKey, now: Instant) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        self.prove(session, peer);
        let Some(state) = self.sessions.get(&session) else { return };
        // Whoever was asked without a record need not be waited for.
        for hash in state.homeless() {
            if let Some(want) = self.wants.get_mut(&hash) {
                want.block_at = None;
            }
        }
        self.place_open(session, now);
    }

    /// Takes in a verified block. Returns the sessions that wanted it, and under which CID; nobody, when it came uncalled
    /// or twice.
    pub fn on_block(
        &mut self,
        peer: PeerKey,
        hash: &Multihash,
        len_bytes: usize,
        now: Instant,
    ) -> Vec<(SessionId, Cid)> {
        if let Some(state) = self.peers.get_mut(&peer) {
            let was_stalled = state.is_stalled();
            state.on_block(hash, len_bytes, now);
            self.is_recovered |= was_stalled && !state.is_stalled();
        }
        let receivers = self.resolve(hash, Some(peer));
        for (session, _) in &receivers {
            if self.prove(*session, peer) {
                self.place_open(*session, now);
            }
            if let Some(state) = self.sessions.get_mut(session) {
                state.on_served();
            }
        }
        self.feed(peer, now);
        for (session, _) in &receivers {
            self.place_waiting(*session, now);
        }
        if let [(session, _), ..] = receivers[..] {
            self.steal(session, peer, now);
        }
        receivers
    }

    /// Returns whether the peer was not proven before: what the session lacks is then to be placed.
    fn prove(&mut self, session: SessionId, peer: PeerKey) -> bool {
        let (Some(state), Some(session)) = (self.peers.get_mut(&peer), self.sessions.get_mut(&session))
        else {
            return false;
        };
        let is_new = session.prove(peer);
        state.session_count += usize::from(is_new);
        is_new
    }

    /// Takes in that a block has come into the store by another way. Returns the sessions that wanted it.
    pub fn on_local_block(&mut self, hash: &Multihash) -> Vec<(SessionId, Cid)> {
        self.resolve(hash, None)
    }

    /// Whether a block is wanted.
    pub fn wants(&self, hash: &Multihash) -> bool {
        self.wants.contains_key(hash)
    }

    /// Takes in a peer's word about a block.
    pub fn on_presence(&mut self, peer: PeerKey, hash: &Multihash, presence: Presence, now: Instant) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let was_stalled = state.is_stalled();
        if !state.on_presence(hash, presence, now) {
            return;
        }
        self.is_recovered |= was_stalled && !state.is_stalled();
        let Some(want) = self.wants.get_mut(hash) else { return };
        let sessions: Vec<_> = want.sessions.iter().map(|(session, _)| *session).collect();
        match presence {
            Presence::Have => {
                for session in sessions {
                    self.prove(session, peer);
                    self.place_open(session, now);
                }
            }
            Presence::DontHave => {
                if want.block_at == Some(peer) {
                    want.block_at = None;
                }
                for session in &sessions {
                    if self.sessions.get_mut(session).is_some_and(|state| state.on_miss(peer))
                        && let Some(state) = self.peers.get_mut(&peer)
                    {
                        state.session_count -= 1;
                    }
                }
                self.place(*hash, now);
            }
        }
    }

    /// Tells that bytes of messages came in: a peer that sends slowly has not stalled.
    pub fn on_bytes(&mut self, peer: PeerKey, len_bytes: usize, now: Instant) {
        if let Some(state) = self.peers.get_mut(&peer) {
            let was_stalled = state.is_stalled();
            state.on_bytes(len_bytes, now);
            self.is_recovered |= was_stalled && !state.is_stalled();
        }
    }

    /// Takes the next peer that has something to be told.
    pub fn next_dirty(&mut self) -> Option<PeerKey> {
        let peer = self.dirty.pop_front()?;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.is_dirty = false;
        }
        Some(peer)
    }

    /// Puts a peer back that could not be told now; call it when it can.
    pub fn mark_dirty(&mut self, peer: PeerKey) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !std::mem::replace(&mut state.is_dirty, true) {
            self.dirty.push_back(peer);
        }
    }

    /// Takes what a peer is to be told, as far as one message holds it; it counts as sent.
    pub fn take_entries(&mut self, peer: PeerKey, now: Instant) -> Vec<WantEntry> {
        let Some(state) = self.peers.get_mut(&peer) else { return Vec::new() };
        let wants = &self.wants;
        let entries =
            state.take_entries(MAX_MESSAGE_ENTRIES, |hash| wants.get(hash).map(|want| want.cid), now);
        if state.has_entries() {
            self.mark_dirty(peer);
        }
        entries
    }

    /// Takes the sessions that need providers.
    pub fn take_searches(&mut self) -> Vec<Search> {
        std::mem::take(&mut self.searches)
    }

    /// When [`Client::tick`] is due, if anything is wanted.
    pub fn next_tick(&self) -> Option<Instant> {
        (!self.wants.is_empty()).then(|| self.last_tick.map(|last| last + TICK)).flatten()
    }

    /// Sees to whatever waits for time to pass.
    pub fn tick(&mut self, now: Instant) {
        self.last_tick = Some(now);
        let mut stalled = Vec::new();
        for (peer, state) in &mut self.peers {
            let was_stalled = state.is_stalled();
            if state.stalls(now) {
                stalled.push(*peer);
            }
            self.is_recovered |= was_stalled && !state.is_stalled();
        }
        stalled.into_iter().for_each(|peer| self.give_up_on(peer, now));
        self.hedge(now);

        let overdue: Vec<_> = self
            .peers
            .iter()
            .flat_map(|(peer, state)| state.overdue(now).into_iter().map(|hash| (*peer, hash)))
            .collect();
        for (peer, hash) in overdue {
            self.release(peer, &hash);
            self.place(hash, now);
        }

        let is_recovered = std::mem::take(&mut self.is_recovered);
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            if is_recovered {
                self.place_open(session, now);
            } else {
                self.place_waiting(session, now);
            }
            if let Some(state) = self.sessions.get_mut(&session) {
                state.expire_probes(now);
            }
            self.probe_next(session, now);
            self.search(session, now);
            self.steal_for_idle(session, now);
        }
    }

    /// Whether a peer owes us anything, or has what open sessions may want next.
    pub fn needs(&self, peer: PeerKey) -> bool {
        let needs =
            |state: &Peer| state.in_flight_count() > 0 || state.has_entries() || state.session_count > 0;
        self.peers.get(&peer).is_some_and(needs)
    }

    /// Whether a block that a peer sends may be one that it was asked for.
    pub fn may_serve(&self, peer: PeerKey) -> bool {
        self.peers.get(&peer).is_some_and(Peer::may_serve)
    }

    /// How far a session has come.
    pub fn progress(&self, session: SessionId) -> Progress {
        self.sessions.get(&session).map(Session::progress).unwrap_or_default()
    }

    /// CIDs that are wanted.
    pub fn wantlist(&self) -> impl Iterator<Item = Cid> + '_ {
        self.wants.values().map(|want| want.cid)
    }

    /// Number of blocks wanted.
    pub fn want_count(&self) -> usize {
        self.wants.len()
    }
}
