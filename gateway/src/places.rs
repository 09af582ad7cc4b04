//! How many requests are answered at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The requests that run. Clones share the count, so that it outlives every change of its limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<AtomicUsize>);

/// One request that runs; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Places);

impl Places {
    /// A place, unless `max` or more are taken.
    pub(crate) fn take(&self, max: usize) -> Option<Place> {
        let add = |taken| (taken < max).then(|| taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Place(self.clone()))
    }

    /// Whether there is one more.
    pub(crate) fn has_room(&self, max: usize) -> bool {
        self.0.load(Ordering::Relaxed) < max
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
