//! Garbage collection: removes blocks that no edge, pin or lease keeps, oldest first, beside readers and writers.
//!
//! Invariant: every removal is decided by the committer, so what is kept at that moment stays. Marks nothing and sweeps
//! nothing: ids, edges and pins are read side by side in their order, without the blocks.

mod auto;

use cairn_proto::cid::{Cid, RAW};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::pins::Pins;
use crate::store::{Request, Store};

pub(crate) use auto::run;

/// Blocks that are removed in one step of the committer.
const STEP_BLOCKS: usize = 512;
/// Steps whose blocks wait to be told to the caller.
const TOLD_QUEUE: usize = 4;
/// Garbage in neighbouring buckets from which on they are compacted, in bytes.
const MIN_COMPACTED_BYTES: u64 = 8 << 20;

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blocks removed.
    pub removed_count: u64,
    /// Their contents together, in bytes.
    pub removed_bytes: u64,
}

/// Removes everything that nothing keeps, then gives the disk of mostly empty ranges back.
///
/// `on_removed` is told each block, as a raw CID, in the order of arrival.
///
/// # Errors
/// What the store says. What was removed until then stays removed.
///
/// # Cancellation
/// Dropped, it stops after the step under way.
pub async fn collect(store: &Store, mut on_removed: impl FnMut(Cid)) -> Result<GcReport> {
    // What is pending gets its rows, so that it is swept too.
    store.sync().await?;
    Pins::new(store.clone()).recover().await?;
    let (told, mut removed) = mpsc::channel(TOLD_QUEUE);
    let worker = store.clone();
    let sweep = tokio::task::spawn_blocking(move || {
        let everything = Goal { from: 0, until: None, max_bytes: u64::MAX };
        let swept = sweep(&worker, &everything, |cids| told.blocking_send(cids).is_ok())?;
        drop(told);
        compact(&worker)?;
        Ok(GcReport { removed_count: swept.removed_count, removed_bytes: swept.removed_bytes })
    });
    while let Some(cids) = removed.recv().await {
        cids.into_iter().for_each(&mut on_removed);
    }
    sweep.await.map_err(|error| Error::internal("collection stopped").with_cause(error))?
}

/// What a sweep has to do.
#[derive(Debug, Clone, Copy)]
struct Goal {
    /// Id of the first block.
    from: u64,
    /// Id before which it ends.
    until: Option<u64>,
    /// Bytes after which it ends.
    max_bytes: u64,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default)]
struct Swept {
    removed_count: u64,
    removed_bytes: u64,
    /// Where the next one goes on; 0 behind the last block.
    ended_at: u64,
}

/// Removes what nothing keeps, in the order of arrival; `on_removed` is told the blocks of a step as raw CIDs and says
/// whether to go on.
fn sweep(store: &Store, goal: &Goal, mut on_removed: impl FnMut(Vec<Cid>) -> bool) -> Result<Swept> {
    let mut swept = Swept::default();
    let mut from = Some(goal.from);
    while let Some(at) = from
        && swept.removed_bytes < goal.max_bytes
        && goal.until.is_none_or(|until| at < until)
    {
        let (blocks, next) = store.shared().garbage_from(at, STEP_BLOCKS)?;
        from = next;
        if blocks.is_empty() {
            continue;
        }
        let asked = blocks.clone();
        let removed = store.ask_blocking(|reply| Request::Collect { blocks: asked, reply })?;
        let gone: Vec<_> =
            blocks.iter().zip(removed).filter(|(_, removed)| *removed).map(|(b, _)| b).collect();
        swept.removed_count += gone.len() as u64;
        swept.removed_bytes += gone.iter().map(|block| u64::from(block.len_bytes())).sum::<u64>();
        let cids =
            gone.iter().filter_map(|block| block.multihash()).map(|hash| Cid::new_v1(RAW, hash)).collect();
        if !on_removed(cids) {
            break;
        }
    }
    swept.ended_at = from.unwrap_or_default();
    Ok(swept)
}

/// Rewrites ranges of ids that hold more garbage than blocks.
fn compact(store: &Store) -> Result<()> {
    // The removals are durable before the bytes go.
    store.ask_blocking(|reply| Request::Sync { reply })?;
    let shared = store.shared();
    let mut run: Vec<(u64, u64)> = Vec::new();
    for (bucket, garbage_bytes) in shared.garbage_buckets()? {
        if shared.bucket_bytes(bucket)? > garbage_bytes {
            continue;
        }
        if run.last().is_some_and(|(last, _)| last + 1 != bucket) {
            compact_run(store, &std::mem::take(&mut run))?;
        }
        run.push((bucket, garbage_bytes));
    }
    compact_run(store, &run)
}

fn compact_run(store: &Store, run: &[(u64, u64)]) -> Result<()> {
    let garbage: u64 = run.iter().map(|(_, bytes)| bytes).sum();
    let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return Ok(()) };
    if garbage < MIN_COMPACTED_BYTES {
        return Ok(());
    }
    store.shared().compact_buckets(*first, *last)?;
    let buckets = run.to_vec();
    store.ask_blocking(|reply| Request::ClearGarbage { buckets, reply })
}

#[cfg(test)]
mod tests;
