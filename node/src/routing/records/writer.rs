//! Where rows of records are kept for good, and the task that writes them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::counts::Counts;
use super::rows::{Full, Row};
use super::{WallClock, unix_s};
use crate::Error;
use crate::store;
use crate::tasks::Tasks;

/// Changes that wait for the writer, which takes all of them at once.
const MAX_WAITING_CHANGES: usize = 8 * 1024;
/// Rows looked at in one step of counting or sweeping.
const SCAN_ROWS: usize = 4 * 1024;
/// Wait between two steps of the sweep: a million keys in four hours.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps rows; the column family of records on disk, or memory.
///
/// Calls block their thread, reads for no longer than a point read.
pub trait Backing: fmt::Debug + Send + Sync + 'static {
    /// The row of that key; a failure to read counts as none.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;

    /// Applies changes, in order. They may be lost by a crash.
    ///
    /// # Errors
    /// Of the disk.
    fn write(&self, changes: Vec<RowChange>) -> Result<(), Error>;

    /// Rows with keys that start with `prefix`, in order of keys. Rows that come or go meanwhile may be in it or not.
    fn iter(&self, prefix: &[u8]) -> RowIter;
}

/// Rows as they are read: key, prefix included, and content.
pub type RowIter = Box<dyn Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), Error>> + Send>;

/// A row to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// Its key, prefix included.
    pub key: Vec<u8>,
    /// Its new content, `None` to remove it.
    pub value: Option<Vec<u8>>,
}

/// Rows in memory, for a node without a disk and for scenarios.
#[derive(Debug, Default)]
pub struct MemoryBacking {
    rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// The store's end of the changes on their way to the writer. Dropping it lets the writer end after the last.
#[derive(Debug)]
pub(super) struct Queue(Arc<Shared>);

/// Number of a change, counted from one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChangeId(u64);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Notify,
    /// The last change that is written.
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: Vec<RowChange>,
    last: ChangeId,
    is_closed: bool,
}

impl Queue {
    /// Takes a change.
    pub(super) fn push(&self, change: RowChange) -> Result<ChangeId, Full> {
        let mut waiting = self.0.waiting();
        if waiting.changes.len() == MAX_WAITING_CHANGES {
            return Err(Full);
        }
        waiting.changes.push(change);
        waiting.last.0 += 1;
        self.0.changed.notify_one();
        Ok(waiting.last)
    }

    /// Whether that change and all before it are written.
    pub(super) fn is_written(&self, change: ChangeId) -> bool {
        change.0 <= self.0.written.load(Ordering::Acquire)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.waiting().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    async fn next_work(&self, sweep: &mut tokio::time::Interval) -> Work {
        loop {
            let changed = self.changed.notified();
            {
                let mut waiting = self.waiting();
                if !waiting.changes.is_empty() {
                    return Work::Write(std::mem::take(&mut waiting.changes), waiting.last);
                }
                if waiting.is_closed {
                    return Work::End;
                }
            }
            tokio::select! {
                () = changed => {}
                _ = sweep.tick() => return Work::Sweep,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // The queue is whole after every statement that holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the writer of the rows under `prefix`, and its sweep of expired ones.
pub(super) fn start<T: Row>(
    backing: &Arc<dyn Backing>,
    prefix: &[u8],
    counts: Counts,
    clock: &WallClock,
    tasks: &Tasks,
) -> Queue {
    let shared = Arc::new(Shared::default());
    let writer = Writer {
        backing: Arc::clone(backing),
        prefix: prefix.into(),
        records_of: |row| T::decode(row).records(),
        clock: Arc::clone(clock),
        shared: Arc::clone(&shared),
        unswept: None,
    };
    let rows = backing.iter(prefix);
    let (clock, stopping) = (Arc::clone(clock), tasks.stopping().clone());
    let count = move || count(rows, |row| T::decode(row).records(), &counts, &clock, &stopping);
    tasks.spawn("record writer", writer.run());
    tasks.spawn_blocking("record count", count);
    Queue(shared)
}

/// Who told the records of a stored row, and when each expires.
type RecordsOf = fn(&[u8]) -> Vec<(PeerId, u64)>;

/// Counts the valid records on disk.
fn count(
    rows: RowIter,
    records_of: RecordsOf,
    counts: &Counts,
    clock: &WallClock,
    stopping: &CancellationToken,
) {
    for row in rows.take_while(|_| !stopping.is_cancelled()) {
        let row = match row {
            Ok((_, row)) => row,
            Err(error) => return warn!(%error, "records on disk not counted"),
        };
        let now_s = unix_s(clock());
        for (peer, expires_s) in records_of(&row).into_iter().filter(|(_, expires_s)| *expires_s > now_s) {
            counts.add(peer, expires_s);
        }
    }
}

struct Writer {
    backing: Arc<dyn Backing>,
    prefix: Box<[u8]>,
    records_of: RecordsOf,
    clock: WallClock,
    shared: Arc<Shared>,
    /// Rows that the sweep has still to look at.
    unswept: Option<RowIter>,
}

enum Work {
    Write(Vec<RowChange>, ChangeId),
    Sweep,
    End,
}

impl Writer {
    /// Writes until the store of records is gone and everything that it handed over is written.
    async fn run(mut self) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let work = self.shared.next_work(&mut sweep).await;
            if matches!(work, Work::End) {
                return;
            }
            self = match tokio::task::spawn_blocking(move || self.apply(work)).await {
                Ok(writer) => writer,
                Err(error) => return warn!(%error, "writer of records failed"),
            };
        }
    }

    fn apply(mut self, work: Work) -> Self {
        let result = match work {
            Work::Write(changes, last) => {
                let result = self.backing.write(changes);
                // What could not be written is lost, and announced again by its providers.
                self.shared.written.store(last.0, Ordering::Release);
                result
            }
            Work::Sweep => self.sweep(),
            Work::End => Ok(()),
        };
        if let Err(error) = result {
            warn!(%error, "records not written");
        }
        self
    }

    /// Removes rows whose every record has expired, a few thousand rows further on.
    fn sweep(&mut self) -> Result<(), Error> {
        let now_s = unix_s((self.clock)());
        let mut rows = self.unswept.take().unwrap_or_else(|| self.backing.iter(&self.prefix));
        let mut changes = Vec::new();
        let mut row_count = 0;
        for row in rows.by_ref().take(SCAN_ROWS) {
            let (key, row) = row?;
            row_count += 1;
            if (self.records_of)(&row).iter().all(|(_, expires_s)| *expires_s <= now_s) {
                changes.push(RowChange { key: key.into(), value: None });
            }
        }
        // After the last row the next sweep starts over.
        self.unswept = (row_count == SCAN_ROWS).then_some(rows);
        if changes.is_empty() { Ok(()) } else { self.backing.write(changes) }
    }
}

impl MemoryBacking {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        // The map is whole after every statement that holds the lock.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backing for MemoryBacking {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.rows().get(key).cloned()
    }

    fn write(&self, changes: Vec<RowChange>) -> Result<(), Error> {
        let mut rows = self.rows();
        for change in changes {
            match change.value {
                Some(value) => drop(rows.insert(change.key, value)),
                None => drop(rows.remove(&change.key)),
            }
        }
        Ok(())
    }

    fn iter(&self, prefix: &[u8]) -> RowIter {
        let rows = self.rows();
        let own = rows.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let own: Vec<_> = own.map(|(key, row)| Ok((key.as_slice().into(), row.as_slice().into()))).collect();
        Box::new(own.into_iter())
    }
}

/// The table of records on disk. Its cache makes reads fast; writes go through RocksDB's log without waiting for the disk.
impl Backing for store::Rows {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        Self::get(self, key).unwrap_or_else(|error| {
            warn!(%error, "record not read");
            None
        })
    }

    fn write(&self, changes: Vec<RowChange>) -> Result<(), Error> {
        Self::write(self, changes.into_iter().map(|change| (change.key, change.value)).collect())
    }

    fn iter(&self, prefix: &[u8]) -> RowIter {
        Box::new(Self::iter(self, prefix))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::rows::Entry;
    use super::*;

    fn row(expires_s: &[u64]) -> Vec<u8> {
        let entry = |&expires_s| Entry { peer: libp2p::PeerId::random(), expires_s, addrs: Vec::new() };
        expires_s.iter().map(entry).collect::<Vec<_>>().encode()
    }

    #[test]
    fn rows_whose_records_have_all_expired_are_swept_away() {
        let backing = Arc::new(MemoryBacking::default());
        let change = |key: &[u8], value| RowChange { key: key.to_vec(), value: Some(value) };
        backing
            .write(vec![
                change(b"p1", row(&[99, 100])),
                change(b"p2", row(&[100, 101])),
                change(b"p3", b"damaged".to_vec()),
                change(b"q1", row(&[1])),
            ])
            .unwrap();
        let writer = Writer {
            backing: Arc::clone(&backing) as Arc<dyn Backing>,
            prefix: b"p".as_slice().into(),
            records_of: |row| Vec::<Entry>::decode(row).records(),
            clock: Arc::new(|| UNIX_EPOCH + Duration::from_secs(100)),
            shared: Arc::default(),
            unswept: None,
        };
        writer.apply(Work::Sweep);
        let left: Vec<_> = backing.rows().keys().cloned().collect();
        assert_eq!(left, [b"p2", b"q1"]);
    }
}
