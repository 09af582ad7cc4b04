//! Every block hashed again, and the damaged ones fetched from peers.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::cid::{Cid, RAW};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::blocks::Blocks;
use crate::error::{Error, Result};
use crate::store::{Checked, Store};

/// Parts of a step that are hashed at the same time.
const HASHERS: usize = 2;
/// Blocks that one of them hashes in a step.
const STEP_BLOCKS: usize = 128;

/// How blocks are verified.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Fetch damaged blocks from peers, each within this time.
    pub heal: Option<Duration>,
    /// Most bytes a second; `None` for as fast as it goes.
    pub max_bytes_per_second: Option<u64>,
    /// Begin with the first block, even if the last verification was cut short.
    pub restart: bool,
}

/// What is told while blocks are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyEvent {
    /// Blocks looked at so far.
    Progress(VerifyReport),
    /// A block whose bytes are not what its hash says, or were not when they were last read. They are set aside.
    Damaged {
        /// Its CID, as of a raw block.
        cid: Cid,
        /// Whether a peer had it: it is whole again. An error says why not, if it was asked for.
        healed: Result<bool, String>,
    },
}

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blocks looked at by this verification, damaged ones included.
    pub block_count: u64,
    /// Bytes that were hashed.
    pub block_bytes: u64,
    /// Damaged blocks.
    pub damaged_count: u64,
    /// Damaged blocks that peers had.
    pub healed_count: u64,
}

/// Hashes every block, in the order of arrival. Goes on where the last verification was cut short.
///
/// # Errors
/// What the store says; [`crate::Kind::Closed`] when nobody hears the events. A damaged block is no error.
///
/// # Cancellation
/// Safe: the next one goes on from there.
pub(crate) async fn verify(
    blocks: &Blocks,
    options: VerifyOptions,
    events: mpsc::Sender<VerifyEvent>,
) -> Result<VerifyReport> {
    let store = blocks.store();
    store
        .sync()
        .await
        .or_else(|error| if store.read_only_because().is_some() { Ok(()) } else { Err(error) })?;
    let mut from = if options.restart { 0 } else { store.verified_until()? };
    let mut report = VerifyReport::default();
    let begun = Instant::now();
    loop {
        let step = check_step(store, from).await?;
        let Some((last, _)) = step.last() else { break };
        from = last + 1;
        for (_, checked) in step {
            report.block_count += 1;
            let damaged = match checked {
                Checked::Whole { len_bytes } => {
                    report.block_bytes += len_bytes;
                    continue;
                }
                Checked::Damaged(multihash) => Cid::new_v1(RAW, multihash),
            };
            let healed = match options.heal {
                Some(timeout) => heal(blocks, &damaged, timeout).await.map(|()| true),
                None => Ok(false),
            };
            report.damaged_count += 1;
            report.healed_count += u64::from(healed == Ok(true));
            tell(&events, VerifyEvent::Damaged { cid: damaged, healed }).await?;
        }
        tell(&events, VerifyEvent::Progress(report)).await?;
        store.note_verified(from);
        if let Some(rate) = options.max_bytes_per_second {
            let due = Duration::from_secs_f64(report.block_bytes as f64 / rate.max(1) as f64);
            tokio::time::sleep_until(begun + due).await;
        }
    }
    store.note_verified(0);
    Ok(report)
}

async fn tell(events: &mpsc::Sender<VerifyEvent>, event: VerifyEvent) -> Result<()> {
    events.send(event).await.map_err(|_| Error::closed("whoever verifies"))
}

async fn check_step(store: &Store, from: u64) -> Result<Vec<(u64, Checked)>> {
    let stored = store.clone();
    let panicked = |error| Error::internal("verification stopped").with_cause(error);
    let rows = tokio::task::spawn_blocking(move || stored.ids_from(from, HASHERS * STEP_BLOCKS));
    let rows = Arc::new(rows.await.map_err(panicked)??);
    let hashers: Vec<_> = (0..rows.len().div_ceil(STEP_BLOCKS))
        .map(|part| {
            let (store, rows) = (store.clone(), Arc::clone(&rows));
            let rest = part * STEP_BLOCKS;
            tokio::task::spawn_blocking(move || {
                let end = rows.len().min(rest + STEP_BLOCKS);
                store.check(&rows[rest..end])
            })
        })
        .collect();
    let mut checked = Vec::with_capacity(rows.len());
    for hasher in hashers {
        checked.extend(hasher.await.map_err(panicked)??);
    }
    Ok(checked)
}

async fn heal(blocks: &Blocks, cid: &Cid, timeout: Duration) -> Result<(), String> {
    let mut session = blocks.session(false, Some(timeout), &Arc::default());
    let fetched = async {
        session.get(cid).await?;
        session.finish().await
    };
    fetched.await.map_err(|error| error.to_string())
}
