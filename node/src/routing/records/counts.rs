//! How many valid records there are, in all and per provider, without looking at them.
//!
//! Records expire unseen, so they are counted by the hour in which they do: when that is over, its counts go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::PeerId;

const HOUR_S: u64 = 3600;

/// Counts of records; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    total: u32,
    per_peer: HashMap<PeerId, u32>,
    /// Records by the hour in which they expire.
    by_hour: BTreeMap<u64, HashMap<PeerId, u32>>,
}

impl Counts {
    /// Records in all, of `peer`, and of `local`.
    pub(super) fn of(&self, peer: &PeerId, local: &PeerId, now_s: u64) -> (u32, u32, u32) {
        let mut inner = self.lock();
        inner.expire(now_s);
        let of = |peer| inner.per_peer.get(peer).copied().unwrap_or(0);
        (inner.total, of(peer), of(local))
    }

    pub(super) fn add(&self, peer: PeerId, expires_s: u64) {
        let mut inner = self.lock();
        inner.total += 1;
        *inner.per_peer.entry(peer).or_default() += 1;
        *inner.by_hour.entry(expires_s / HOUR_S).or_default().entry(peer).or_default() += 1;
    }

    /// Takes back what was added. Does nothing if that has expired, or was never counted.
    pub(super) fn remove(&self, peer: &PeerId, expires_s: u64) {
        let mut inner = self.lock();
        let Some(of_hour) = inner.by_hour.get_mut(&(expires_s / HOUR_S)) else { return };
        if take(of_hour, peer, 1) == 1 {
            inner.forget(peer, 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The counts only steer limits; a panic while they were held makes them slightly wrong for two days.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn expire(&mut self, now_s: u64) {
        while let Some(hour) = self.by_hour.first_entry().filter(|hour| *hour.key() < now_s / HOUR_S) {
            for (peer, count) in hour.remove() {
                self.forget(&peer, count);
            }
        }
    }

    fn forget(&mut self, peer: &PeerId, count: u32) {
        self.total -= take(&mut self.per_peer, peer, count);
    }
}

/// Takes up to `count` from the peer's count; returns how many there were to take.
fn take(counts: &mut HashMap<PeerId, u32>, peer: &PeerId, count: u32) -> u32 {
    let Some(left) = counts.get_mut(peer) else { return 0 };
    let taken = count.min(*left);
    *left -= taken;
    if *left == 0 {
        counts.remove(peer);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stop_counting_in_the_hour_after_they_expire() {
        let (counts, peer, local) = (Counts::default(), PeerId::random(), PeerId::random());
        counts.add(peer, 10 * HOUR_S);
        counts.add(peer, 11 * HOUR_S);
        counts.add(local, 11 * HOUR_S);
        assert_eq!(counts.of(&peer, &local, 10 * HOUR_S), (3, 2, 1));
        assert_eq!(counts.of(&peer, &local, 11 * HOUR_S), (2, 1, 1));
        assert_eq!(counts.of(&peer, &local, 12 * HOUR_S), (0, 0, 0));
    }

    #[test]
    fn only_what_was_counted_is_taken_back() {
        let (counts, peer, local) = (Counts::default(), PeerId::random(), PeerId::random());
        counts.add(peer, HOUR_S);
        counts.remove(&peer, 5 * HOUR_S);
        counts.remove(&PeerId::random(), HOUR_S);
        assert_eq!(counts.of(&peer, &local, 0), (1, 1, 0));
        counts.remove(&peer, HOUR_S);
        counts.remove(&peer, HOUR_S);
        assert_eq!(counts.of(&peer, &local, 0), (0, 0, 0));
    }
}
