//! When which part of the keyspace is told.

use std::time::Duration;

use super::key::{Key, Prefix};

/// How far a node has come on its way through the keyspace: what is kept over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycle {
    /// When it set out, in seconds since 1970.
    pub started_s: u64,
    /// Everything before this point is told; `None` when everything is.
    pub cursor: Option<Key>,
}

impl Cycle {
    /// A form to keep.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.started_s.to_be_bytes().to_vec();
        if let Some(cursor) = self.cursor {
            bytes.extend_from_slice(cursor.as_bytes());
        }
        bytes
    }

    /// Reverses [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (started, rest) = bytes.split_first_chunk()?;
        let cursor = match rest {
            [] => None,
            rest => Some(Key::from_bytes(rest.try_into().ok()?)),
        };
        Some(Self { started_s: u64::from_be_bytes(*started), cursor })
    }
}

/// Goes through a part of the keyspace once per interval: whatever lies in the middle of the whole is told half an interval
/// after the start. Parts share nothing, so that those which are late are told side by side.
///
/// A key is told again after an interval at the most, and as much longer as its region is a share of the keyspace: its
/// region may be cut in another way, and is told when its first key is due. So no key waits two intervals, which for
/// the usual 22 hours is less than the 48 that a record is valid. Whoever was away catches up at once.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    part: Prefix,
    interval_s: u64,
    cycle: Cycle,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing until then, in seconds since 1970.
    Wait {
        /// When to ask again.
        until_s: u64,
    },
    /// Explore the region around this key, tell its keys from the cursor on, and report [`Schedule::on_told`].
    Tell(Key),
    /// Ask again: the cycle came to its end, or a new one began.
    Again,
}

impl Schedule {
    /// Goes on where an earlier run stopped in that part; starts over, with everything due at once, when there was none or it is so
    /// long ago that every record has expired.
    pub fn new(part: Prefix, interval: Duration, kept: Option<Cycle>, now_s: u64) -> Self {
        let interval_s = interval.as_secs().max(1);
        let over = Cycle { started_s: now_s.saturating_sub(interval_s), cursor: Some(part.first()) };
        let mut schedule = Self { part, interval_s, cycle: kept.unwrap_or(over) };
        let due_s = schedule.cycle.cursor.map_or(schedule.end_s(), |cursor| schedule.due_s(&cursor));
        // A clock that was set back must not put everything off.
        let is_ahead = schedule.cycle.started_s > now_s;
        if is_ahead || now_s > due_s.saturating_add(interval_s) {
            schedule.cycle = over;
        }
        schedule
    }

    /// How far it has come.
    pub fn cycle(&self) -> Cycle {
        self.cycle
    }

    /// What to do; `found` is the first key of the part at the cursor or behind it.
    pub fn step(&mut self, now_s: u64, found: Option<Key>) -> Step {
        match (self.cycle.cursor, found) {
            (None, _) if now_s < self.end_s() => Step::Wait { until_s: self.end_s() },
            (None, _) => {
                // Whoever comes late begins with everything overdue, but no more than once.
                let started_s = self.end_s().max(now_s.saturating_sub(self.interval_s));
                self.cycle = Cycle { started_s, cursor: Some(self.part.first()) };
                Step::Again
            }
            (Some(_), None) => {
                self.cycle.cursor = None;
                Step::Again
            }
            (Some(_), Some(key)) => match self.due_s(&key) {
                due_s if now_s < due_s => Step::Wait { until_s: due_s },
                _ => Step::Tell(key),
            },
        }
    }

    /// The keys of this region, from the cursor to the end of the part, are told.
    pub fn on_told(&mut self, region: &Prefix) {
        self.cycle.cursor = region.last().next().filter(|next| *next <= self.part.last());
    }

    /// When a key is due in this cycle, in seconds since 1970.
    pub fn due_s(&self, key: &Key) -> u64 {
        let into = (u128::from(self.interval_s) * u128::from(key.position())) >> 64;
        self.cycle.started_s.saturating_add(u64::try_from(into).unwrap_or(u64::MAX))
    }

    fn end_s(&self) -> u64 {
        self.cycle.started_s.saturating_add(self.interval_s)
    }
}
