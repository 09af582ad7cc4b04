//! The task that goes through the list for one DHT.
//!
//! It goes through several parts of the keyspace side by side. In quiet times only one of them has something that is due;
//! a node that is late tells them all at once.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use cairn_proto::cid::Multihash;
use cairn_proto::sweep::{Key, Prefix, Schedule, Step};
use futures::future::try_join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::blocking;
use super::keys::{Keys, Lane};
use super::region::{Caller, Region};
use super::stat::{self, Watch};
use super::strategy::Wanted;
use crate::routing::records::{WallClock, unix_s};
use crate::swarm::Scope;
use crate::{Error, Kind, Result};

/// Bits of a number of a part.
const PART_BITS: u8 = 3;
/// Parts of the keyspace that are gone through side by side.
pub(super) const PART_COUNT: usize = 1 << PART_BITS;
/// Keys of one part in memory at once. The smaller, the more streams; the larger, the more memory.
const CHUNK_KEYS: usize = 4096;
/// How often is looked whether there are peers, while there are none.
const ALONE_INTERVAL: Duration = Duration::from_secs(1);
/// Wait after something failed; doubled each time.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// Longest wait after something failed.
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Longest sleep: a clock may be set.
const MAX_SLEEP: Duration = Duration::from_secs(60);

pub(super) struct Sweep {
    pub(super) scope: Scope,
    pub(super) keys: Keys,
    pub(super) wanted: Wanted,
    pub(super) caller: Caller,
    pub(super) clock: WallClock,
    pub(super) interval: Duration,
    pub(super) watch: Watch,
}

/// A part of the keyspace.
struct Part {
    number: usize,
    prefix: Prefix,
    /// `None` without an interval: then only what is new is told.
    schedule: Option<Schedule>,
    changes: watch::Receiver<()>,
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
        let parts = Prefix::parts(PART_BITS).enumerate();
        let work = try_join_all(parts.map(|(number, prefix)| self.go_through(number, prefix)));
        tokio::select! {
            _ = work => {}
            () = stopping.cancelled() => {}
        }
    }

    /// Goes through a part again and again. Whatever fails, the disk or the network, is tried again later.
    async fn go_through(&self, number: usize, prefix: Prefix) -> Result<Infallible> {
        let (mut part, mut backoff) = (None, MIN_BACKOFF);
        loop {
            let Err(error) = self.step(number, prefix, &mut part).await else {
                backoff = MIN_BACKOFF;
                continue;
            };
            if error.kind() == Kind::Unavailable {
                debug!(%error, scope = ?self.scope, "a region was not told");
            } else {
                warn!(%error, scope = ?self.scope, "telling what is provided failed, and is tried again");
                self.watch.on_fault();
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Does what is next in a part, which the first step opens.
    async fn step(&self, number: usize, prefix: Prefix, part: &mut Option<Part>) -> Result<()> {
        let part = match part {
            Some(part) => part,
            None => part.insert(self.open(number, prefix).await?),
        };
        let (lane, key, content) = match self.next_work(part).await? {
            Work::Tell(lane, key, content) => (lane, key, content),
            Work::Sleep(time) => {
                // It fails only when the list is gone, and we hold it.
                let _ = tokio::time::timeout(time, part.changes.changed()).await;
                return Ok(());
            }
        };
        if !self.caller.has_peers().await {
            self.watch.set_online(false, (self.clock)());
            tokio::time::sleep(ALONE_INTERVAL).await;
            return Ok(());
        }
        let busy = self.watch.busy();
        let region = self.tell_region(&part.prefix, lane, key, content).await?;
        drop(busy);
        self.watch.set_online(true, (self.clock)());
        if let (Lane::Scheduled, Some(schedule)) = (lane, part.schedule.as_mut()) {
            schedule.on_told(&region);
            self.keep(part).await?;
        }
        Ok(())
    }

    async fn open(&self, number: usize, prefix: Prefix) -> Result<Part> {
        let changes = self.keys.changes();
        let (keys, scope) = (self.keys.clone(), self.scope);
        let kept = blocking(move || keys.cycle(scope, &prefix)).await?;
        let schedule =
            (!self.interval.is_zero()).then(|| Schedule::new(prefix, self.interval, kept, self.now_s()));
        Ok(Part { number, prefix, schedule, changes })
    }

    /// What is due goes before what is new: there is never more of it than an interval holds.
    async fn next_work(&self, part: &mut Part) -> Result<Work> {
        let mut sleep = MAX_SLEEP;
        if let Some(schedule) = &mut part.schedule {
            let found = match schedule.cycle().cursor {
                Some(cursor) => self.first(Lane::Scheduled, cursor, &part.prefix).await?,
                None => None,
            };
            match schedule.step(self.now_s(), found.map(|(key, _)| key)) {
                Step::Tell(_) => {
                    if let Some((key, content)) = found {
                        return Ok(Work::Tell(Lane::Scheduled, key, content));
                    }
                }
                Step::Again => {
                    self.keep(part).await?;
                    sleep = Duration::ZERO;
                }
                Step::Wait { until_s } => {
                    self.show(part, Some(until_s));
                    sleep = sleep.min(Duration::from_secs(until_s.saturating_sub(self.now_s())));
                }
            }
        }
        let fresh = Lane::Fresh(self.scope);
        Ok(match self.first(fresh, part.prefix.first(), &part.prefix).await? {
            Some((key, content)) => Work::Tell(fresh, key, content),
            None => Work::Sleep(sleep),
        })
    }

    /// Tells all keys of a lane and part in the region around the first of them, and returns the region.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when no peer takes them; they stay in the list. What the store says.
    async fn tell_region(&self, part: &Prefix, lane: Lane, first: Key, content: Multihash) -> Result<Prefix> {
        let began = Instant::now();
        let Some(mut region) = self.caller.explore(&content).await else {
            self.watch.set_online(false, (self.clock)());
            return Err(Error::new(Kind::Unavailable, "no peer of the DHT answered"));
        };
        let end = region.prefix.last().min(part.last());
        let mut from = Some(first);
        while let Some(start) = from {
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
        let told_keys: Vec<_> = page.content.iter().map(|(key, _)| *key).collect();
        if !told_keys.is_empty() {
            let told = region.tell(&self.caller, page.content).await?;
            let failed_count = told_keys.len() as u64 - told.key_count;
            self.watch.on_told(told.key_count, failed_count, told.record_count);
            if told.key_count == 0 {
                return Err(Error::new(Kind::Unavailable, "no peer of the region took a record"));
            }
        }
        let (keys, fresh, stale) = (self.keys.clone(), Lane::Fresh(self.scope), page.stale);
        blocking(move || {
            keys.remove(lane, &stale)?;
            // Whatever it was told for, it is not new any more.
            keys.remove(fresh, &told_keys)
        })
        .await
    }

    async fn first(&self, lane: Lane, from: Key, part: &Prefix) -> Result<Option<(Key, Multihash)>> {
        let (keys, last) = (self.keys.clone(), part.last());
        Ok(blocking(move || keys.range(lane, &from, &last, 1)).await?.pop())
    }

    async fn keep(&self, part: &Part) -> Result<()> {
        self.show(part, None);
        let Some(schedule) = &part.schedule else { return Ok(()) };
        let (keys, scope, prefix, cycle) = (self.keys.clone(), self.scope, part.prefix, schedule.cycle());
        blocking(move || keys.set_cycle(scope, &prefix, cycle)).await
    }

    fn show(&self, part: &Part, next_s: Option<u64>) {
        let started_s = part.schedule.as_ref().map(|schedule| schedule.cycle().started_s);
        self.watch.set_part(part.number, stat::Part { started_s, next_s });
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
