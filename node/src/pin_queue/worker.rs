//! The task that works the queue off: some pins at a time, those that failed again later.

use std::sync::{Arc, Weak};

use cairn_proto::cid::Cid;
use cairn_proto::content::{Progress, SessionOptions};
use cairn_proto::path::ContentPath;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Job, MAX_RUNNING, Phase, PinQueue, Row, WantedPin, is_final, retry_delay};
use crate::Result;
use crate::node::{Inner, Node};

/// The end of an attempt; `None` when it was stopped.
struct Ended {
    path: ContentPath,
    result: Option<Result<Cid>>,
    stop: CancellationToken,
}

/// Works the queue off until `stopping`, or until the node is gone.
pub(crate) async fn run(queue: PinQueue, node: Weak<Inner>, stopping: CancellationToken) {
    let mut running: FuturesUnordered<BoxFuture<'static, Ended>> = FuturesUnordered::new();
    loop {
        while running.len() < MAX_RUNNING
            && let Some((pin, stop)) = queue.start_next()
        {
            let Some(inner) = node.upgrade() else { return };
            running.push(Box::pin(attempt(queue.clone(), inner, pin, stop)));
        }
        let until = if running.len() < MAX_RUNNING { queue.next_due() } else { None };
        tokio::select! {
            () = stopping.cancelled() => return,
            Some(ended) = running.next() => queue.end(ended).await,
            () = queue.shared.changed.notified() => {}
            () = sleep_until(until) => {}
        }
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

async fn attempt(queue: PinQueue, inner: Arc<Inner>, pin: WantedPin, stop: CancellationToken) -> Ended {
    let (node, key) = (Node::from_shared(inner), pin.path.to_string());
    let on_progress = |block_count, block_bytes, network| {
        queue.show(&key, &stop, (block_count, block_bytes), network);
    };
    let pinning = node.pin_with(&pin.path, pin.kind, pin.name, SessionOptions::default(), on_progress);
    let result = stop.run_until_cancelled(pinning).await;
    Ended { path: pin.path, result, stop }
}

impl PinQueue {
    /// Marks the next pin that is due as being fetched.
    fn start_next(&self) -> Option<(WantedPin, CancellationToken)> {
        let now = Instant::now();
        let mut jobs = self.jobs();
        let due = |job: &Job| match job.phase {
            Phase::Waiting { until } if until <= now => Some(until),
            _ => None,
        };
        let job = jobs.values_mut().filter(|job| due(job).is_some()).min_by_key(|job| due(job))?;
        let stop = CancellationToken::new();
        job.phase = Phase::Running {
            stop: stop.clone(),
            block_count: 0,
            block_bytes: 0,
            network: Progress::default(),
        };
        Some((job.pin(), stop))
    }

    fn next_due(&self) -> Option<Instant> {
        let waiting = |job: &Job| match job.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        };
        self.jobs().values().filter_map(waiting).min()
    }

    /// Notes how far an attempt is, unless another one has taken its place.
    fn show(&self, key: &str, of: &CancellationToken, blocks: (u64, u64), progress: Progress) {
        if of.is_cancelled() {
            return;
        }
        if let Some(Job { phase: Phase::Running { block_count, block_bytes, network, .. }, .. }) =
            self.jobs().get_mut(key)
        {
            (*block_count, *block_bytes) = blocks;
            *network = progress;
        }
    }

    /// Takes a pin that is there out of the queue, or plans the next attempt.
    async fn end(&self, ended: Ended) {
        let Ended { path, result: Some(result), stop } = ended else { return };
        if stop.is_cancelled() {
            return;
        }
        let key = path.to_string();
        let row = match result {
            Ok(_) => {
                self.jobs().remove(&key);
                None
            }
            Err(error) => {
                tracing::debug!(%path, %error, "background pin failed");
                let mut jobs = self.jobs();
                let Some(job) = jobs.get_mut(&key) else { return };
                job.row.failure_count += 1;
                job.row.last_error = Some(error.to_string());
                job.row.is_final = is_final(&path, &error);
                let until = Instant::now() + retry_delay(job.row.failure_count);
                job.phase = if job.row.is_final { Phase::Failed } else { Phase::Waiting { until } };
                Some(Row::clone(&job.row))
            }
        };
        // Unsaved, it is tried again after the next start: nothing is lost.
        if let Err(error) = self.save(&key, row.as_ref()).await {
            tracing::warn!(%path, %error, "state of a background pin was not saved");
        }
    }
}
