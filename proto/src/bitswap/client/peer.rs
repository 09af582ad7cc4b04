//! What one peer is asked, has answered, and how fast it is.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{ANSWER_HOLDS, ASK_AGAIN_AFTER, MAX_WANTS_AT_KIN, MAX_WANTS_IN_FLIGHT, STALL_AFTER, SessionId};
use crate::bitswap::message::{Presence, WantEntry, WantKind};
use crate::cid::{Cid, Multihash};
use crate::limits::MAX_MESSAGE_BYTES;

/// Wants that a peer gets before its speed is known, when others could serve them too.
const FIRST_WANTS: usize = 16;

/// Time without a byte after which a peer that owes us blocks and never served any is doubtful: so many times what it took to
/// answer whether it has one, and within these bounds.
const DOUBT_FACTOR: u32 = 3;
const DOUBT_AFTER: (Duration, Duration) = (Duration::from_millis(80), Duration::from_secs(1));

/// The same for one that was never asked whether it has one.
const DOUBT_UNKNOWN_AFTER: Duration = Duration::from_millis(300);

/// Least and most time until a peer that was doubtful may try to serve again.
const TRIAL_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Time over which a peer's speed is averaged.
const RATE_WINDOW: Duration = Duration::from_millis(200);

/// What a block of a peer of unknown speed takes, in seconds: a little, so that those with the fewest wants come first.
const UNKNOWN_SECONDS_PER_BLOCK: f64 = 1e-3;

/// Bytes a second below which a peer that owes us blocks does not count as sending: 8 kbit/s.
const MIN_BYTES_PER_SECOND: f64 = 1000.0;

/// Bytes without an answer among them after which more of them are no sign of life: two of the longest messages.
const MAX_UNANSWERING_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// Blocks that nobody asked for, less those that were asked for, after which a peer counts as stalled. Some come twice from
/// good peers: cancelled, and on their way already.
const MAX_UNCALLED: u32 = 64;

/// A want that was passed by this many later ones, and is this old, will not be answered any more.
const OVERDUE: (u64, Duration) = (64, Duration::from_secs(5));

/// Who else could serve what a peer may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rivals {
    None,
    /// Peers of whom none has served yet.
    Untried,
    /// Peers of whom some have served.
    Served,
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) is_local: bool,
    pub(super) knows_presences: bool,
    pub(super) is_kin: bool,
    pub(super) is_dirty: bool,
    /// Open sessions that it has proven to have blocks of.
    pub(super) session_count: usize,
    /// Sessions that found no room here, and the one that got room last.
    pub(super) starving: BTreeSet<SessionId>,
    pub(super) fed_last: SessionId,
    wants: HashMap<Multihash, Asked>,
    /// Wants to be sent; some may have changed or gone meanwhile.
    queue: VecDeque<Multihash>,
    cancels: BTreeMap<Multihash, Cid>,
    /// Wants for blocks without an answer.
    in_flight_count: usize,
    next_order: u64,
    speed: Speed,
    last_progress: Instant,
    /// Bytes that came since the last answer.
    unanswering_bytes: usize,
    /// Blocks that it was not asked for, less others.
    uncalled_count: u32,
    /// Since when it owes us the next block.
    owes_since: Option<Instant>,
    stalled_since: Option<Instant>,
    /// The shortest time from a question whether it has a block to the answer.
    answer_time: Option<Duration>,
    /// When it may try to serve again, and how long it waits the next time.
    trial_at: Option<Instant>,
    trial_wait: Duration,
    /// A block that it owed when another was first to serve it. If it comes late, the peer serves too.
    missed: Option<Multihash>,
}

/// A want that the peer has been told or will be.
#[derive(Debug, Clone, Copy)]
struct Asked {
    kind: WantKind,
    state: State,
    /// Grows with every question.
    order: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be sent; `on_list` if an earlier form of it was.
    Queued { on_list: bool },
    /// Sent, and the number of blocks served once everything before it is answered.
    Sent { at: Instant, due_count: u64 },
    /// The peer has it, and took the want off its list.
    Has,
    /// The peer has it not, and keeps the want on its list.
    HasNot { since: Instant },
    /// No answer came in time; the want may be on its list.
    Silent,
}

impl Asked {
    fn awaits_block(&self) -> bool {
        self.kind == WantKind::Block && self.is_pending()
    }

    fn is_pending(&self) -> bool {
        matches!(self.state, State::Queued { .. } | State::Sent { .. })
    }

    fn is_on_list(&self) -> bool {
        match self.state {
            State::Queued { on_list } => on_list,
            State::Sent { .. } | State::HasNot { .. } | State::Silent => true,
            State::Has => false,
        }
    }
}

/// Bytes served over time.
#[derive(Debug, Default)]
struct Speed {
    served_count: u64,
    served_bytes: u64,
    bytes_per_second: Option<f64>,
    window: Option<(Instant, usize)>,
}

impl Peer {
    pub(super) fn new(is_local: bool, now: Instant) -> Self {
        Self {
            is_local,
            knows_presences: true,
            is_kin: false,
            is_dirty: false,
            session_count: 0,
            starving: BTreeSet::new(),
            fed_last: SessionId(0),
            wants: HashMap::new(),
            queue: VecDeque::new(),
            cancels: BTreeMap::new(),
            in_flight_count: 0,
            next_order: 0,
            speed: Speed::default(),
            last_progress: now,
            unanswering_bytes: 0,
            uncalled_count: 0,
            owes_since: None,
            stalled_since: None,
            answer_time: None,
            trial_at: None,
            trial_wait: TRIAL_AGAIN.0,
            missed: None,
        }
    }

    /// Asks for a block or its presence. Returns whether there is something to be told now.
    pub(super) fn ask(&mut self, hash: Multihash, kind: WantKind, now: Instant) -> bool {
        let known = self.wants.get(&hash).copied();
        if known.is_some_and(|asked| asked.is_pending() && asked.kind >= kind) {
            return false;
        }
        if kind == WantKind::Block {
            if self.in_flight_count == 0 {
                self.last_progress = now;
                self.speed.window = Some((now, 0));
            }
            self.in_flight_count += 1;
            self.owes_since.get_or_insert(now);
        }
        let cancelled = self.cancels.remove(&hash).is_some();
        let on_list = cancelled || known.is_some_and(|asked| asked.is_on_list());
        let asked = Asked { kind, state: State::Queued { on_list }, order: self.next_order };
        self.next_order += 1;
        self.wants.insert(hash, asked);
        self.queue.push_back(hash);
        true
    }

    /// Takes a want back that nobody has any more. Returns whether the peer has to be told.
    pub(super) fn cancel(&mut self, hash: &Multihash, cid: Cid) -> bool {
        if !self.has_served() && self.awaits_block(hash) {
            self.missed = Some(*hash);
        }
        let must_tell = self.revoke(hash, cid);
        if self.in_flight_count == 0 {
            self.owes_since = None;
        }
        must_tell
    }

    /// Takes a want back since the peer is slow. Returns whether it has to be told.
    pub(super) fn revoke(&mut self, hash: &Multihash, cid: Cid) -> bool {
        let is_on_list = self.forget(hash);
        if is_on_list {
            self.cancels.insert(*hash, cid);
        }
        is_on_list
    }

    /// Gives up waiting for a block without taking the want back.
    pub(super) fn release(&mut self, hash: &Multihash) {
        let Some(asked) = self.wants.get_mut(hash) else { return };
        if asked.awaits_block() {
            self.in_flight_count -= 1;
        }
        asked.state = State::Silent;
    }

    /// Lets a question that was answered long ago, or never, be asked anew. Returns whether it may be.
    pub(super) fn reopen(&mut self, hash: &Multihash, now: Instant) -> bool {
        let is_stalled = self.is_stalled();
        let Some(asked) = self.wants.get_mut(hash) else { return false };
        let is_open = match asked.state {
            State::HasNot { since } => now.duration_since(since) >= ANSWER_HOLDS,
            State::Has | State::Silent => !is_stalled,
            State::Queued { .. } | State::Sent { .. } => false,
        };
        if is_open {
            asked.state = State::Silent;
        }
        is_open
    }

    /// Drops a want. Returns whether it may still be on the peer's list.
    pub(super) fn forget(&mut self, hash: &Multihash) -> bool {
        let Some(asked) = self.wants.remove(hash) else { return false };
        if asked.awaits_block() {
            self.in_flight_count -= 1;
        }
        asked.is_on_list()
    }

    pub(super) fn on_block(&mut self, hash: &Multihash, len_bytes: usize, now: Instant) {
        self.cancels.remove(hash);
        let is_late = self.missed.take_if(|missed| missed == hash).is_some();
        if !self.wants.contains_key(hash) && !is_late {
            self.uncalled_count += 1;
            if self.has_served() && self.uncalled_count <= MAX_UNCALLED {
                self.on_answer(now);
            }
            return;
        }
        self.uncalled_count = self.uncalled_count.saturating_sub(1);
        self.forget(hash);
        self.on_answer(now);
        self.speed.on_block(len_bytes, self.in_flight_count == 0, now);
    }

    /// Returns whether the peer had been asked.
    pub(super) fn on_presence(&mut self, hash: &Multihash, presence: Presence, now: Instant) -> bool {
        let Some(asked) = self.wants.get_mut(hash) else { return false };
        if let State::Sent { at, .. } = asked.state {
            let time = now.duration_since(at);
            self.answer_time = Some(self.answer_time.map_or(time, |shortest| shortest.min(time)));
        }
        match presence {
            // The block is on its way, or was asked for meanwhile.
            Presence::Have if asked.kind == WantKind::Block => return true,
            Presence::Have => asked.state = State::Has,
            Presence::DontHave => {
                if asked.awaits_block() {
                    self.in_flight_count -= 1;
                }
                asked.state = State::HasNot { since: now };
            }
        }
        self.on_answer(now);
        true
    }

    /// Something came that was asked for.
    fn on_answer(&mut self, now: Instant) {
        self.unanswering_bytes = 0;
        self.owes_since = (self.in_flight_count > 0).then_some(now);
        self.last_progress = now;
        self.stalled_since = None;
    }

    /// Bytes came: of what, is not known yet.
    pub(super) fn on_bytes(&mut self, len_bytes: usize, now: Instant) {
        self.unanswering_bytes = self.unanswering_bytes.saturating_add(len_bytes);
        if self.unanswering_bytes > MAX_UNANSWERING_BYTES {
            return;
        }
        // Whoever sends as slowly as that comes no nearer to the present.
        let worth = Duration::from_secs_f64(len_bytes as f64 / MIN_BYTES_PER_SECOND);
        self.last_progress = self.last_progress.checked_add(worth).map_or(now, |at| at.min(now));
        if now.duration_since(self.last_progress) < STALL_AFTER {
            self.stalled_since = None;
        }
    }

    /// Takes what is to be sent, at most `max` entries: cancels first, then wants in the order asked.
    pub(super) fn take_entries(
        &mut self,
        max: usize,
        cid_of: impl Fn(&Multihash) -> Option<Cid>,
        now: Instant,
    ) -> Vec<WantEntry> {
        let mut entries = Vec::new();
        let cancelled: Vec<_> = self.cancels.keys().take(max).copied().collect();
        entries.extend(cancelled.iter().filter_map(|hash| self.cancels.remove(hash)).map(WantEntry::Cancel));
        while entries.len() < max {
            let Some(hash) = self.queue.pop_front() else { break };
            let Some(asked) = self.wants.get_mut(&hash) else { continue };
            let (State::Queued { .. }, Some(cid)) = (asked.state, cid_of(&hash)) else { continue };
            let due_count = self.speed.served_count + self.in_flight_count as u64;
            asked.state = State::Sent { at: now, due_count };
            // Older questions first, whatever order the other side keeps them in.
            let age = i32::try_from(asked.order % (i32::MAX as u64)).expect("below i32::MAX");
            let (kind, priority) = (asked.kind, i32::MAX - age);
            entries.push(WantEntry::Want { cid, priority, kind, send_dont_have: true });
        }
        entries
    }

    pub(super) fn has_entries(&self) -> bool {
        !self.cancels.is_empty() || !self.queue.is_empty()
    }

    /// Whether a block that it sends may be one that it was asked for.
    pub(super) fn may_serve(&self) -> bool {
        !self.wants.is_empty() || self.missed.is_some()
    }

    /// Everything asked, answered or not.
    pub(super) fn want_count(&self) -> usize {
        self.wants.len()
    }

    pub(super) fn in_flight_count(&self) -> usize {
        self.in_flight_count
    }

    /// Whether it may be asked for one more block. One that never served gets few while others could serve as well, and a
    /// single one, to show what it can, while others have shown it.
    pub(super) fn has_room(&self, rivals: Rivals, now: Instant) -> bool {
        let served_count = usize::try_from(self.speed.served_count).unwrap_or(usize::MAX);
        let allowed = match rivals {
            Rivals::None => usize::MAX,
            Rivals::Served if !self.has_served() => usize::from(self.trial_at.is_none_or(|at| at <= now)),
            Rivals::Untried | Rivals::Served => served_count.saturating_mul(2) + FIRST_WANTS,
        };
        let knows_us = self.is_kin && served_count >= MAX_WANTS_IN_FLIGHT;
        self.in_flight_count < allowed.min(if knows_us { MAX_WANTS_AT_KIN } else { MAX_WANTS_IN_FLIGHT })
    }

    /// Seconds until it has served what it owes and one block more, as far as can be said: no fewer than it has been silent.
    pub(super) fn seconds_to_serve(&self, now: Instant) -> f64 {
        let silent = self.owes_since.map_or(0.0, |since| now.duration_since(since).as_secs_f64());
        let per_block = self.speed.seconds_per_block().unwrap_or(silent.max(UNKNOWN_SECONDS_PER_BLOCK));
        silent + (self.in_flight_count + 1) as f64 * per_block
    }

    pub(super) fn has_served(&self) -> bool {
        self.speed.served_count > 0
    }

    pub(super) fn served_bytes(&self) -> u64 {
        self.speed.served_bytes
    }

    /// Whether it has said that it lacks the block.
    pub(super) fn lacks(&self, hash: &Multihash) -> bool {
        self.wants.get(hash).is_some_and(|asked| matches!(asked.state, State::HasNot { .. }))
    }

    /// Whether it has answered about the block, or may still do so.
    pub(super) fn was_asked(&self, hash: &Multihash) -> bool {
        self.wants.get(hash).is_some_and(|asked| asked.state != State::Silent)
    }

    /// Whether an answer about the block is still to come.
    pub(super) fn is_pending(&self, hash: &Multihash) -> bool {
        self.wants.get(hash).is_some_and(Asked::is_pending)
    }

    /// Whether it owes the block, as far as it knows.
    pub(super) fn awaits_block(&self, hash: &Multihash) -> bool {
        self.wants.get(hash).is_some_and(Asked::awaits_block)
    }

    /// Whether it owes blocks, never served any, and has sent others or been silent for longer than an honest one is likely
    /// to be.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        if self.has_served() || self.in_flight_count == 0 {
            return false;
        }
        if self.uncalled_count > 0 {
            return true;
        }
        let patience = self.answer_time.map_or(DOUBT_UNKNOWN_AFTER, |time| time * DOUBT_FACTOR);
        now.duration_since(self.last_progress) >= patience.clamp(DOUBT_AFTER.0, DOUBT_AFTER.1)
    }

    /// It is doubtful: before it is tried again, it waits longer each time.
    pub(super) fn on_doubt(&mut self, now: Instant) {
        if self.trial_at.is_none_or(|at| at <= now) {
            self.trial_at = Some(now + self.trial_wait);
            self.trial_wait = (self.trial_wait * 2).min(TRIAL_AGAIN.1);
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Whether it stalls from now on. One that stalled long ago gets another chance.
    pub(super) fn stalls(&mut self, now: Instant) -> bool {
        if now.duration_since(self.last_progress) >= STALL_AFTER {
            self.missed = None;
        }
        match self.stalled_since {
            Some(since) if now.duration_since(since) >= ASK_AGAIN_AFTER => {
                self.uncalled_count = 0;
                self.on_answer(now);
                false
            }
            Some(_) => false,
            None => {
                let is_stalled =
                    self.in_flight_count > 0 && now.duration_since(self.last_progress) >= STALL_AFTER;
                self.stalled_since = is_stalled.then_some(now);
                is_stalled
            }
        }
    }

    /// Wants for blocks without an answer, in the order asked.
    pub(super) fn awaited(&self) -> Vec<Multihash> {
        self.select(Asked::awaits_block)
    }

    /// Wants for blocks that were passed by many later ones.
    pub(super) fn overdue(&self, now: Instant) -> Vec<Multihash> {
        self.select(|asked| match asked.state {
            State::Sent { at, due_count } => {
                asked.kind == WantKind::Block
                    && self.speed.served_count >= due_count + OVERDUE.0
                    && now.duration_since(at) >= OVERDUE.1
            }
            _ => false,
        })
    }

    /// Wants for presences without an answer.
    pub(super) fn pending_haves(&self) -> Vec<Multihash> {
        self.select(|asked| asked.kind == WantKind::Have && asked.is_pending())
    }

    /// Everything that it was asked and has not served, in the order asked.
    pub(super) fn wants(&self) -> Vec<Multihash> {
        self.select(|_| true)
    }

    fn select(&self, is_wanted: impl Fn(&Asked) -> bool) -> Vec<Multihash> {
        let mut selected: Vec<_> = self.wants.iter().filter(|(_, asked)| is_wanted(asked)).collect();
        selected.sort_unstable_by_key(|(_, asked)| asked.order);
        selected.into_iter().map(|(hash, _)| *hash).collect()
    }
}

impl Speed {
    fn on_block(&mut self, len_bytes: usize, is_idle: bool, now: Instant) {
        self.served_count += 1;
        self.served_bytes += len_bytes as u64;
        let Some((since, bytes)) = &mut self.window else { return };
        *bytes += len_bytes;
        let elapsed = now.duration_since(*since);
        if elapsed >= RATE_WINDOW || (is_idle && !elapsed.is_zero() && self.bytes_per_second.is_none()) {
            let sample = *bytes as f64 / elapsed.as_secs_f64();
            self.bytes_per_second = Some(self.bytes_per_second.map_or(sample, |old| (old + sample) / 2.0));
            self.window = Some((now, 0));
        }
        if is_idle {
            self.window = None;
        }
    }

    /// As far as is known.
    fn seconds_per_block(&self) -> Option<f64> {
        let rate = self.bytes_per_second.filter(|rate| *rate > 0.0)?;
        Some(self.served_bytes as f64 / self.served_count as f64 / rate)
    }
}
