//! Collecting by itself: when the store is short of room, oldest first, and no more than is missing.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Goal, compact, sweep};
use crate::error::{Error, Result};
use crate::pins::Pins;
use crate::store::Store;

/// Pause after a collection that found too little, unless pins have gone since: a search costs as much as the store is
/// large.
const PAUSE: Duration = Duration::from_secs(10);

/// Answers the store's bell until `stop`.
pub(crate) async fn run(store: Store, stop: CancellationToken) {
    let _leave = Leave(store.clone());
    let mut from = 0;
    // Pins that had gone when a collection found too little, and until when that is believed.
    let mut exhausted = None;
    let mut resting = Instant::now();
    loop {
        tokio::select! {
            () = store.room().short() => {}
            () = stop.cancelled() => return,
        }
        let unpinned = store.shared().unpinned_count();
        if exhausted == Some(unpinned) && Instant::now() < resting {
            store.room().collected();
            continue;
        }
        exhausted = match relieve(&store, from).await {
            Ok((next, enough)) => {
                from = next;
                (!enough).then_some(unpinned)
            }
            Err(error) => {
                tracing::warn!(%error, "collection failed");
                Some(unpinned)
            }
        };
        resting = Instant::now() + PAUSE;
        store.room().collected();
    }
}

struct Leave(Store);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.room().leave();
    }
}

/// Frees what is missing, from where the last collection ended. Returns where this one did, and whether it sufficed.
async fn relieve(store: &Store, from: u64) -> Result<(u64, bool)> {
    store.sync().await?;
    Pins::new(store.clone()).recover().await?;
    let store = store.clone();
    let work = move || {
        let missing = store.room().missing_bytes(store.stat().block_bytes);
        let mut goal = Goal { from, until: None, max_bytes: missing };
        let mut report = sweep(&store, &goal, |_| true)?;
        if report.removed_bytes < missing && from > 0 {
            goal = Goal { from: 0, until: Some(from), max_bytes: missing - report.removed_bytes };
            let rest = sweep(&store, &goal, |_| true)?;
            report.removed_bytes += rest.removed_bytes;
            report.removed_count += rest.removed_count;
            report.ended_at = rest.ended_at;
        }
        compact(&store)?;
        let (blocks, bytes) = (report.removed_count, report.removed_bytes);
        tracing::info!(blocks, bytes, missing, "collected what nothing keeps to make room");
        Ok((report.ended_at, bytes >= missing))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("collection stopped").with_cause(error))?
}
