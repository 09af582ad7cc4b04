//! Pins in the background: what is still to be fetched, kept on disk, and the task that works it off.
//!
//! Invariant: a pin that was asked for is in the queue, or pinned, or was given up by whoever asked; a crash changes nothing of
//! that. Without a network the queue only fills: the next start with one goes on.

mod row;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_proto::content::Progress;
use cairn_proto::limits::MAX_PIN_NAME_BYTES;
use cairn_proto::path::{ContentPath, Root};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pins::PinKind;
use crate::store::Rows;
use crate::{Error, Kind, Result};

use row::Row;
pub(crate) use worker::run;

/// Pins that the queue holds, at most; all of them are in memory, some hundred bytes each.
pub const MAX_QUEUED_PINS: usize = 16 * 1024;

/// Pins that are fetched at the same time.
const MAX_RUNNING: usize = 4;

/// First and longest pause before a pin is tried again.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(60 * 60));

/// Pins to be. Clones share the queue.
#[derive(Debug, Clone)]
pub struct PinQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rows: Rows,
    jobs: Mutex<BTreeMap<String, Job>>,
    changed: Notify,
}

/// What is to be pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPin {
    /// Where it is; a name is followed anew each time.
    pub path: ContentPath,
    /// The DAG or the one block.
    pub kind: PinKind,
    /// Name of the pin.
    pub name: Option<String>,
}

/// A pin in the queue, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedPin {
    /// What is to be pinned.
    pub pin: WantedPin,
    /// How far it is.
    pub status: PinStatus,
    /// Attempts that failed.
    pub failure_count: u32,
    /// Why the last of them did.
    pub last_error: Option<String>,
}

/// How far a pin is. Source of the words: the IPFS Pinning Service API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinStatus {
    /// It waits for its turn, or for another attempt.
    Queued,
    /// It is being fetched.
    Pinning {
        /// Blocks that are here so far.
        block_count: u64,
        /// Bytes of them.
        block_bytes: u64,
        /// Peers asked and found.
        network: Progress,
    },
    /// It cannot succeed, so it is not tried again.
    Failed,
}

#[derive(Debug)]
struct Job {
    path: ContentPath,
    row: Row,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Instant },
    Running { stop: CancellationToken, block_count: u64, block_bytes: u64, network: Progress },
    Failed,
}

impl PinQueue {
    /// The queue that these rows hold. Blocks its thread.
    ///
    /// # Errors
    /// What the store says. A row that cannot be read is passed over.
    pub(crate) fn open(rows: Rows) -> Result<Self> {
        let mut jobs = BTreeMap::new();
        for stored in rows.iter(b"") {
            let (key, value) = stored?;
            match Row::decode(&key, &value) {
                Some((path, row)) => {
                    let phase =
                        if row.is_final { Phase::Failed } else { Phase::Waiting { until: Instant::now() } };
                    jobs.insert(path.to_string(), Job { path, row, phase });
                }
                None => tracing::warn!(key_len_bytes = key.len(), "a queued pin cannot be read"),
            }
        }
        Ok(Self { shared: Arc::new(Shared { rows, jobs: Mutex::new(jobs), changed: Notify::new() }) })
    }

    /// Puts a pin into the queue; durable on return. One that is there already takes the new kind and name, and is tried anew.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a name that is too long, [`Kind::Full`] above [`MAX_QUEUED_PINS`], and what the store says.
    pub async fn push(&self, pin: WantedPin) -> Result<()> {
        if pin.name.as_ref().is_some_and(|name| name.len() > MAX_PIN_NAME_BYTES) {
            return Err(Error::invalid(format!("pin name too long, max={MAX_PIN_NAME_BYTES}")));
        }
        let path = pin.path.to_string();
        if !self.jobs().contains_key(&path) && self.jobs().len() >= MAX_QUEUED_PINS {
            return Err(Error::new(Kind::Full, format!("queue of pins is full, max={MAX_QUEUED_PINS}")));
        }
        let row = Row::new(pin.kind, pin.name);
        self.save(&path, Some(&row)).await?;
        let job = Job { path: pin.path, row, phase: Phase::Waiting { until: Instant::now() } };
        if let Some(Job { phase: Phase::Running { stop, .. }, .. }) = self.jobs().insert(path, job) {
            stop.cancel();
        }
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Takes a pin out of the queue and stops its fetching; durable on return. False when it is not there.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancellation
    /// A pin whose last write is under way may still appear.
    pub async fn remove(&self, path: &ContentPath) -> Result<bool> {
        let path = path.to_string();
        let Some(job) = self.jobs().remove(&path) else { return Ok(false) };
        if let Phase::Running { stop, .. } = job.phase {
            stop.cancel();
        }
        self.save(&path, None).await?;
        Ok(true)
    }

    /// Every pin in the queue, by path.
    pub fn list(&self) -> Vec<QueuedPin> {
        let queued = |job: &Job| QueuedPin {
            pin: job.pin(),
            status: job.phase.status(),
            failure_count: job.row.failure_count,
            last_error: job.row.last_error.clone(),
        };
        self.jobs().values().map(queued).collect()
    }

    async fn save(&self, path: &str, row: Option<&Row>) -> Result<()> {
        let (rows, key, value) = (self.shared.rows.clone(), path.as_bytes().to_vec(), row.map(Row::encode));
        let write = move || {
            match value {
                Some(value) => rows.put(&key, &value),
                None => rows.delete(&key),
            }?;
            rows.sync()
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(|error| Error::internal("the queue of pins stopped").with_cause(error))?
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        // The map is whole after every statement that holds the lock.
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn pin(&self) -> WantedPin {
        WantedPin { path: self.path.clone(), kind: self.row.kind(), name: self.row.name.clone() }
    }
}

impl Phase {
    fn status(&self) -> PinStatus {
        match *self {
            Self::Waiting { .. } => PinStatus::Queued,
            Self::Failed => PinStatus::Failed,
            Self::Running { block_count, block_bytes, network, .. } => {
                PinStatus::Pinning { block_count, block_bytes, network }
            }
        }
    }
}

/// Pause after that many failures.
fn retry_delay(failure_count: u32) -> Duration {
    let (first, longest) = RETRY_DELAYS;
    first.saturating_mul(2_u32.saturating_pow(failure_count.saturating_sub(1))).min(longest)
}

/// Whether a failure would come again however often one tries.
fn is_final(path: &ContentPath, error: &Error) -> bool {
    match error.kind() {
        Kind::Invalid | Kind::Blocked | Kind::BlockedByLaw => true,
        // A name may lead elsewhere some day; what a CID names has no such path, and never will.
        Kind::NotFound => matches!(path.root(), Root::Ipfs(_)),
        _ => false,
    }
}
