//! Leases: what a collection must leave alone because work in progress relies on it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layout::BlockId;

/// Separate runs of ids that one lease remembers. Above it the lease covers everything from its lowest id on.
const MAX_RUNS: usize = 65_536;

/// While it lives, nothing is collected that was stored, stored again or claimed under it, nor any block that
/// arrived after it was taken. Dropping it ends that.
#[derive(Debug)]
pub struct Lease {
    table: Arc<LeaseTable>,
    number: u64,
}

impl Lease {
    pub(crate) fn number(&self) -> LeaseNumber {
        LeaseNumber(self.number)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.table.lock().leases.remove(&self.number);
    }
}

/// Names a lease that may have ended meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LeaseNumber(u64);

/// The live leases, and the ids that are being removed at this moment.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    leases: HashMap<u64, Hold>,
    /// Ids whose removal has been decided and not yet written: no lease can have them any more.
    doomed: HashSet<BlockId>,
}

/// What one lease protects: ids from `floor` on, and the runs below it (start → end, both included).
#[derive(Debug)]
struct Hold {
    floor: BlockId,
    runs: BTreeMap<BlockId, BlockId>,
}

impl LeaseTable {
    /// Takes a lease; `next_id` gives the id of the next block to arrive.
    pub(crate) fn lease(self: &Arc<Self>, next_id: impl FnOnce() -> BlockId) -> Lease {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        // Read under the lock: a removal that is decided later sees this lease.
        let hold = Hold { floor: next_id(), runs: BTreeMap::new() };
        inner.leases.insert(number, hold);
        drop(inner);
        Lease { table: Arc::clone(self), number }
    }

    /// Puts blocks under a lease. `false` for each that is being removed: it must count as absent.
    ///
    /// A lease that has ended holds nothing.
    pub(crate) fn touch(&self, lease: LeaseNumber, ids: impl IntoIterator<Item = BlockId>) -> Vec<bool> {
        let mut inner = self.lock();
        let Inner { leases, doomed, .. } = &mut *inner;
        let mut hold = leases.get_mut(&lease.0);
        ids.into_iter()
            .map(|id| {
                if doomed.contains(&id) {
                    return false;
                }
                if let Some(hold) = &mut hold {
                    hold.add(id);
                }
                true
            })
            .collect()
    }

    /// Decides which blocks may be removed: those that no lease holds. Until [`Self::removed`] nobody can claim them.
    pub(crate) fn doom(&self, ids: impl IntoIterator<Item = BlockId>) -> Vec<bool> {
        let mut inner = self.lock();
        ids.into_iter()
            .map(|id| {
                let free = !inner.leases.values().any(|hold| hold.covers(id));
                if free {
                    inner.doomed.insert(id);
                }
                free
            })
            .collect()
    }

    /// The removal of all doomed blocks is written, or has failed: the database tells the truth again.
    pub(crate) fn removed(&self) {
        self.lock().doomed.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every statement that holds the lock leaves the table whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    fn covers(&self, id: BlockId) -> bool {
        id >= self.floor || self.runs.range(..=id).next_back().is_some_and(|(_, end)| *end >= id)
    }

    fn add(&mut self, id: BlockId) {
        if self.covers(id) {
            return;
        }
        let mut end = id;
        if let Some(after) = self.runs.remove(&(id + 1)) {
            end = after;
        }
        match self.runs.range_mut(..id).next_back() {
            Some((_, before)) if *before + 1 == id => *before = end,
            _ => {
                self.runs.insert(id, end);
            }
        }
        if self.runs.len() > MAX_RUNS {
            self.floor = self.runs.keys().next().copied().map_or(self.floor, |first| first.min(self.floor));
            self.runs.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_what_came_after_it_and_what_it_touched_until_it_is_dropped() {
        let table = Arc::new(LeaseTable::default());
        let lease = table.lease(|| 10);
        assert_eq!(table.touch(lease.number(), [3, 4, 6, 5]), [true; 4]);
        let ids = [2, 3, 4, 5, 6, 7, 9, 10, 11];
        let free: Vec<_> =
            ids.into_iter().zip(table.doom(ids)).filter(|(_, free)| *free).map(|(id, _)| id).collect();
        assert_eq!(free, [2, 7, 9]);
        table.removed();
        drop(lease);
        assert_eq!(table.doom(ids), [true; 9]);
    }

    #[test]
    fn a_block_that_is_being_removed_cannot_be_touched() {
        let table = Arc::new(LeaseTable::default());
        assert_eq!(table.doom([5]), [true]);
        let lease = table.lease(|| 10);
        assert_eq!(table.touch(lease.number(), [5, 6]), [false, true]);
        table.removed();
        assert_eq!(table.touch(lease.number(), [5]), [true]);
    }

    #[test]
    fn a_lease_remembers_its_runs_up_to_the_limit_and_then_covers_all_from_the_lowest() {
        let table = Arc::new(LeaseTable::default());
        let lease = table.lease(|| u64::MAX);
        let runs = MAX_RUNS as u64;
        table.touch(lease.number(), (0..runs).map(|n| 100 + 2 * n));
        assert_eq!(table.doom([101]), [true], "gaps are free at the limit");
        table.removed();
        table.touch(lease.number(), [100 + 2 * runs]);
        assert_eq!(table.doom([99, 101, u64::MAX - 1]), [true, false, false], "and held above it");
    }
}
