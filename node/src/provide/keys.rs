//! The list of what is told, on disk in the order of the keyspace, and how far each sweep has come in each part of it.
//!
//! Rows are `k` ‖ point → multihash for what is told again and again, and `w` or `l` ‖ point → multihash for what is new
//! and was not told in that DHT yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_proto::cid::Multihash;
use cairn_proto::sweep::{Cycle, Key, Prefix};
use tokio::sync::watch;

use crate::store::{RowBatch, Rows};
use crate::swarm::Scope;
use crate::{Error, Result};

/// Row of the numbers in [`Counts`].
const COUNTS: &[u8] = b"counts";
/// Row of how far the list is filled: see [`Feeding`].
const FEEDING: &[u8] = b"feeding";
/// Rows that are cleared in one step.
const CLEAR_ROWS: usize = 4096;

/// Part of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Told once per interval.
    Scheduled,
    /// Not told in that DHT yet.
    Fresh(Scope),
}

impl Lane {
    const ALL: [Self; 3] = [Self::Scheduled, Self::Fresh(Scope::Wan), Self::Fresh(Scope::Lan)];

    fn index(self) -> usize {
        match self {
            Self::Scheduled => 0,
            Self::Fresh(Scope::Wan) => 1,
            Self::Fresh(Scope::Lan) => 2,
        }
    }

    fn row(self, key: &Key) -> Vec<u8> {
        let mut row = vec![b"kwl"[self.index()]];
        row.extend_from_slice(key.as_bytes());
        row
    }
}

/// Keys of each lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; 3]);

impl Counts {
    pub(super) fn of(&self, lane: Lane) -> u64 {
        self.0[lane.index()]
    }
}

/// How far the list is filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Feeding {
    /// What it is filled with.
    pub(super) strategy: String,
    /// When every block was last looked at, in seconds since 1970.
    pub(super) looked_s: u64,
    /// Number of the next block that was not looked at.
    pub(super) next: u64,
}

/// The list. Clones share it; every call but [`Self::counts`] and [`Self::changes`] blocks its thread.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    rows: Rows,
    /// Held while rows are added or removed.
    counts: Arc<Mutex<Counts>>,
    changed: watch::Sender<()>,
}

impl Keys {
    pub(super) fn open(rows: Rows) -> Result<Self> {
        let mut counts = Counts::default();
        for (count, bytes) in counts.0.iter_mut().zip(rows.get(COUNTS)?.unwrap_or_default().chunks_exact(8)) {
            *count = bytes.try_into().map_or(0, u64::from_be_bytes);
        }
        Ok(Self { rows, counts: Arc::new(Mutex::new(counts)), changed: watch::Sender::new(()) })
    }

    pub(super) fn counts(&self) -> Counts {
        *self.lock()
    }

    /// Tells when something new is to be told.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Adds what is not in the list yet, to be told soon and then again and again.
    pub(super) fn schedule(&self, content: &[Multihash]) -> Result<()> {
        self.add(content, Lane::Scheduled)
    }

    /// Adds to what is to be told soon.
    pub(super) fn queue(&self, content: &[Multihash]) -> Result<()> {
        self.add(content, Lane::Fresh(Scope::Wan))
    }

    /// Adds to that lane what it has not yet, and to those behind it with it.
    fn add(&self, content: &[Multihash], first: Lane) -> Result<()> {
        let keyed = content.iter().map(Multihash::to_bytes).map(|bytes| (Key::of(&bytes), bytes));
        // The same content twice in one call would be counted twice.
        let keyed: BTreeMap<_, _> = keyed.collect();
        let mut counts = self.lock();
        let (mut batch, mut after) = (RowBatch::new(), *counts);
        for (key, bytes) in keyed {
            if self.rows.get(&first.row(&key))?.is_some() {
                continue;
            }
            for lane in &Lane::ALL[first.index()..] {
                if *lane == first || self.rows.get(&lane.row(&key))?.is_none() {
                    after.0[lane.index()] += 1;
                    batch.push((lane.row(&key), Some(bytes.clone())));
                }
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.write(batch, &mut counts, after)?;
        self.changed.send_replace(());
        Ok(())
    }

    /// The first keys of a lane from a point on, up to another.
    pub(super) fn range(
        &self,
        lane: Lane,
        from: &Key,
        to: &Key,
        max: usize,
    ) -> Result<Vec<(Key, Multihash)>> {
        let rows = self.rows.range(&lane.row(from), &lane.row(to), max)?;
        let read = |(row, value): (Box<[u8]>, Box<[u8]>)| {
            let key = Key::from_bytes(row.get(1..)?.try_into().ok()?);
            Some((key, Multihash::from_bytes(&value).ok()?))
        };
        let damaged = || Error::corrupt("a row of what is provided cannot be read");
        rows.into_iter().map(|row| read(row).ok_or_else(damaged)).collect()
    }

    /// Takes those of these keys that it has out of a lane.
    pub(super) fn remove(&self, lane: Lane, keys: &[Key]) -> Result<()> {
        let mut counts = self.lock();
        let (mut batch, mut after) = (RowBatch::new(), *counts);
        for row in keys.iter().map(|key| lane.row(key)) {
            if self.rows.get(&row)?.is_some() {
                batch.push((row, None));
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        after.0[lane.index()] = after.of(lane).saturating_sub(batch.len() as u64);
        self.write(batch, &mut counts, after)
    }

    /// Empties what is to be told soon; returns how many there were.
    pub(super) fn clear(&self) -> Result<u64> {
        let counts = self.counts();
        let [_, fresh @ ..] = Lane::ALL;
        self.empty(&fresh)?;
        Ok(fresh.map(|lane| counts.of(lane)).into_iter().max().unwrap_or(0))
    }

    /// Empties the list.
    pub(super) fn reset(&self) -> Result<()> {
        self.empty(&Lane::ALL)
    }

    fn empty(&self, lanes: &[Lane]) -> Result<()> {
        for lane in lanes {
            loop {
                let page = self.range(*lane, &Prefix::ALL.first(), &Prefix::ALL.last(), CLEAR_ROWS)?;
                if page.is_empty() {
                    break;
                }
                self.remove(*lane, &page.into_iter().map(|(key, _)| key).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// How far the sweep of a DHT has come in a part of the keyspace; `None` before the first.
    pub(super) fn cycle(&self, scope: Scope, part: &Prefix) -> Result<Option<Cycle>> {
        Ok(self.rows.get(&cycle_row(scope, part))?.and_then(|bytes| Cycle::from_bytes(&bytes)))
    }

    pub(super) fn set_cycle(&self, scope: Scope, part: &Prefix, cycle: Cycle) -> Result<()> {
        self.rows.put(&cycle_row(scope, part), &cycle.to_bytes())
    }

    pub(super) fn feeding(&self) -> Result<Option<Feeding>> {
        let read = |bytes: Vec<u8>| {
            let (looked, rest) = bytes.split_first_chunk()?;
            let (next, strategy) = rest.split_first_chunk()?;
            Some(Feeding {
                strategy: String::from_utf8(strategy.to_vec()).ok()?,
                looked_s: u64::from_be_bytes(*looked),
                next: u64::from_be_bytes(*next),
            })
        };
        Ok(self.rows.get(FEEDING)?.and_then(read))
    }

    pub(super) fn set_feeding(&self, feeding: &Feeding) -> Result<()> {
        let Feeding { strategy, looked_s, next } = feeding;
        let row = [&looked_s.to_be_bytes(), &next.to_be_bytes(), strategy.as_bytes()].concat();
        self.rows.put(FEEDING, &row)
    }

    fn write(&self, mut batch: RowBatch, counts: &mut Counts, after: Counts) -> Result<()> {
        let row = after.0.iter().flat_map(|count| count.to_be_bytes()).collect();
        batch.push((COUNTS.to_vec(), Some(row)));
        self.rows.write(batch)?;
        *counts = after;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // The numbers are only for show; whole after every statement that holds the lock.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cycle_row(scope: Scope, part: &Prefix) -> Vec<u8> {
    let scope: &[u8] = match scope {
        Scope::Wan => b"cycle/wan/",
        Scope::Lan => b"cycle/lan/",
    };
    [scope, &part.bit_count().to_be_bytes(), part.first().as_bytes()].concat()
}
