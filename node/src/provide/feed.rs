//! Filling the list of what is told.
//!
//! Blocks have numbers in the order of their arrival, so with the strategy `all` only those behind the last one are
//! looked at. What pins keep changes among old blocks, too: once per interval every block is looked at.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::blocking;
use super::keys::{Feeding, Keys};
use super::strategy::Wanted;
use crate::Result;
use crate::routing::records::{WallClock, unix_s};

/// How often new blocks are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Blocks looked at in one step.
const STEP_BLOCKS: usize = 4096;

/// Fills the list.
pub(super) struct Feed {
    keys: Keys,
    wanted: Wanted,
    clock: WallClock,
    interval_s: u64,
}

impl Feed {
    pub(super) fn new(keys: Keys, wanted: Wanted, clock: WallClock, interval: Duration) -> Self {
        Self { keys, wanted, clock, interval_s: interval.as_secs() }
    }

    /// Looks for new blocks until `stopping`.
    pub(super) async fn run(self, stopping: CancellationToken) {
        loop {
            if let Err(error) = self.fill(&stopping).await {
                debug!(%error, "the list of what is provided was not filled");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Adds what is not in the list yet.
    pub(super) async fn fill(&self, stopping: &CancellationToken) -> Result<()> {
        let (keys, strategy) = (self.keys.clone(), self.wanted.strategy());
        let now_s = unix_s((self.clock)());
        let kept = blocking(move || keys.feeding()).await?;
        let mut feeding = match kept {
            Some(kept) if kept.strategy == strategy.to_string() => kept,
            other => {
                if other.is_some() {
                    let keys = self.keys.clone();
                    blocking(move || keys.reset()).await?;
                }
                Feeding { strategy: strategy.to_string(), looked_s: now_s, next: 0 }
            }
        };
        let is_over = feeding.looked_s > now_s || now_s - feeding.looked_s > self.interval_s;
        if is_over && self.interval_s > 0 {
            feeding = Feeding { looked_s: now_s, next: 0, ..feeding };
        }
        while !stopping.is_cancelled() {
            let (keys, wanted, mut now) = (self.keys.clone(), self.wanted.clone(), feeding.clone());
            let step = blocking(move || {
                let (content, Some(next)) = wanted.next(now.next, STEP_BLOCKS)? else { return Ok(None) };
                keys.schedule(&content)?;
                now.next = next;
                keys.set_feeding(&now)?;
                Ok(Some(now))
            });
            match step.await? {
                Some(now) => feeding = now,
                None => break,
            }
        }
        Ok(())
    }
}
