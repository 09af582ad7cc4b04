//! The task that goes through the list for one DHT.

use std::time::{Duration, Instant};

use cairn_proto::cid::Multihash;
use cairn_proto::sweep::{Key, Prefix, Schedule, Step};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::blocking;
use super::keys::{Keys, Lane};
use super::region::{self, Region};
use super::stat::Watch;
use super::strategy::Wanted;
use crate::routing::records::{WallClock, unix_s};
use crate::swarm::{self, Scope};
use crate::{Error, Kind, Result};

/// Keys in memory at once. The smaller, the more streams; the larger, the more memory.
const CHUNK_KEYS: usize = 4096;
/// How often is looked whether there are peers, while there are none.
const ALONE_INTERVAL: Duration = Duration::from_secs(1);
/// Wait after a region that failed; doubled each time.
const MIN_BACKOFF: Duration = Duration::from_secs(10);
/// Longest wait after a region that failed.
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Longest sleep: a clock may be set.
const MAX_SLEEP: Duration = Duration::from_secs(60);

pub(super) struct Sweep {
    pub(super) scope: Scope,
    pub(super) keys: Keys,
    pub(super) wanted: Wanted,
    pub(super) swarm: swarm::Handle,
    pub(super) clock: WallClock,
    pub(super) interval: Duration,
    pub(super) watch: Watch,
}

/// What is done next.
enum Work {
    /// Tell the region around this key, from it on.
    Tell(Lane, Key, Multihash),
    Sleep(Duration),
}

impl Sweep {
    /// Sweeps until `stopping`. What is under way is then dropped, and done again by the next run.
    pub(super) async fn run(self, stopping: CancellationToken) {
        let work = async {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "content is not provided any more");
            }
        };
        tokio::select! {
            () = work => {}
            () = stopping.cancelled() => {}
        }
    }

    async fn sweep(&self) -> Result<()> {
        let (keys, scope) = (self.keys.clone(), self.scope);
        let kept = blocking(move || keys.cycle(scope)).await?;
        // Without an interval only what is new is told.
        let mut schedule =
            (!self.interval.is_zero()).then(|| Schedule::new(self.interval, kept, self.now_s()));
        let mut backoff = MIN_BACKOFF;
        loop {
            let (lane, key, content) = match self.next_work(schedule.as_mut()).await? {
                Work::Tell(lane, key, content) => (lane, key, content),
                Work::Sleep(time) => {
                    self.sleep(time).await;
                    continue;
                }
            };
            if !self.has_peers().await {
                self.watch.set_online(false, (self.clock)());
                tokio::time::sleep(ALONE_INTERVAL).await;
                continue;
            }
            self.watch.set_busy(true);
            let told = self.tell_region(lane, key, content).await;
            self.watch.set_busy(false);
            match told {
                Ok(prefix) => {
                    backoff = MIN_BACKOFF;
                    self.watch.set_online(true, (self.clock)());
                    if let (Lane::Scheduled, Some(schedule)) = (lane, schedule.as_mut()) {
                        schedule.on_told(&prefix);
                        self.keep(schedule).await?;
                    }
                }
                Err(error) if error.kind() == Kind::Unavailable => {
                    debug!(%error, scope = ?self.scope, "a region was not told");
                    self.watch.set_online(false, (self.clock)());
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What is due goes before what is new: there is never more of it than an interval holds.
    async fn next_work(&self, schedule: Option<&mut Schedule>) -> Result<Work> {
        let mut sleep = MAX_SLEEP;
        if let Some(schedule) = schedule {
            let cursor = schedule.cycle().cursor;
            let found = match cursor {
                Some(cursor) => self.first(Lane::Scheduled, cursor).await?,
                None => None,
            };
            match schedule.step(self.now_s(), found.map(|(key, _)| key)) {
                Step::Tell(_) => {
                    if let Some((key, content)) = found {
                        return Ok(Work::Tell(Lane::Scheduled, key, content));
                    }
                }
                Step::Again => {
                    self.keep(schedule).await?;
                    sleep = Duration::ZERO;
                }
                Step::Wait { until_s } => {
                    self.watch.set_cycle(schedule.cycle(), Some(until_s));
                    sleep = sleep.min(Duration::from_secs(until_s.saturating_sub(self.now_s())));
                }
            }
        }
        let fresh = Lane::Fresh(self.scope);
        Ok(match self.first(fresh, Key::FIRST).await? {
            Some((key, content)) => Work::Tell(fresh, key, content),
            None => Work::Sleep(sleep),
        })
    }

    /// Tells all keys of a lane in the region around the first of them, and returns the region.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when no peer takes them; they stay in the list.
    async fn tell_region(&self, lane: Lane, first: Key, content: Multihash) -> Result<Prefix> {
        let began = Instant::now();
        let nobody = || Error::new(Kind::Unavailable, "no peer of the DHT answered");
        let mut region = region::explore(&self.swarm, self.scope, &content).await.ok_or_else(nobody)?;
        let mut from = Some(first);
        while let Some(start) = from {
            let end = region.prefix.last();
            let (keys, wanted) = (self.keys.clone(), self.wanted.clone());
            let page = blocking(move || Page::read(&keys, &wanted, lane, &start, &end)).await?;
            from = page.next;
            self.tell_page(lane, &mut region, page).await?;
        }
        let (asked_count, reached_count) = region.reached();
        self.watch.on_region(&region.prefix, asked_count, reached_count, began.elapsed());
        Ok(region.prefix)
    }

    async fn tell_page(&self, lane: Lane, region: &mut Region, page: Page) -> Result<()> {
        let key_count = page.content.len() as u64;
        let mut done = page.stale;
        if key_count > 0 {
            done.extend(page.content.iter().map(|(key, _)| *key).filter(|_| lane != Lane::Scheduled));
            let told = region.tell(&self.swarm, self.scope, page.content).await;
            self.watch.on_told(told.key_count, key_count - told.key_count, told.record_count);
            if told.key_count == 0 {
                return Err(Error::new(Kind::Unavailable, "no peer of the region took a record"));
            }
        }
        if done.is_empty() {
            return Ok(());
        }
        let keys = self.keys.clone();
        blocking(move || keys.remove(lane, &done)).await
    }

    async fn first(&self, lane: Lane, from: Key) -> Result<Option<(Key, Multihash)>> {
        let keys = self.keys.clone();
        let last = Prefix::ALL.last();
        Ok(blocking(move || keys.range(lane, &from, &last, 1)).await?.pop())
    }

    async fn keep(&self, schedule: &Schedule) -> Result<()> {
        let (keys, scope, cycle) = (self.keys.clone(), self.scope, schedule.cycle());
        self.watch.set_cycle(cycle, None);
        blocking(move || keys.set_cycle(scope, cycle)).await
    }

    async fn has_peers(&self) -> bool {
        let tables = self.swarm.tables().await.unwrap_or_default();
        let protocol = self.swarm.dht_protocol(self.scope);
        tables.iter().any(|table| table.protocol == protocol && !table.peers.is_empty())
    }

    async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.keys.changed(self.scope) => {}
        }
    }

    fn now_s(&self) -> u64 {
        unix_s((self.clock)())
    }
}

/// Some keys of a region.
struct Page {
    /// Those that are to be told.
    content: Vec<(Key, Multihash)>,
    /// Those that are not here any more, or do not belong to the strategy.
    stale: Vec<Key>,
    /// Where the rest begins.
    next: Option<Key>,
}

impl Page {
    fn read(keys: &Keys, wanted: &Wanted, lane: Lane, from: &Key, to: &Key) -> Result<Self> {
        let found = keys.range(lane, from, to, CHUNK_KEYS)?;
        let is_full = found.len() == CHUNK_KEYS;
        let next = found.last().filter(|_| is_full).and_then(|(key, _)| key.next()).filter(|key| key <= to);
        let content: Vec<_> = found.iter().map(|(_, hash)| *hash).collect();
        let holds = match lane {
            Lane::Scheduled => wanted.holds(&content)?,
            // What a person asked for need not belong to the strategy.
            Lane::Fresh(_) => wanted.has(&content)?,
        };
        let (mut content, mut stale) = (Vec::new(), Vec::new());
        for ((key, hash), is_wanted) in found.into_iter().zip(holds) {
            if is_wanted { content.push((key, hash)) } else { stale.push(key) }
        }
        Ok(Self { content, stale, next })
    }
}
