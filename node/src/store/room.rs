//! Room for blocks: the quota, what is kept free of the disk, and the bell that is rung when either is short.
//!
//! Whoever stores waits here for a collection when there is no room; [`crate::gc`] answers the bell. The last room of a
//! disk is held by a file, which goes when a write would otherwise fail: so that removing works on a full disk.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

use crate::error::{Error, Kind, Result};

/// Disk that is left free, so that the database can finish what it has accepted and a collection can run.
pub(super) const RESERVE_BYTES: u64 = 128 << 20;
/// Free bytes below which a disk may soon be full.
const NARROW_BYTES: u64 = 8 * RESERVE_BYTES;
/// Part of the reserve that the ballast holds while the disk is nearly full.
const BALLAST_BYTES: u64 = 64 << 20;
/// Free bytes below which the ballast goes: what a few batches need.
const DROP_BALLAST_BYTES: u64 = 16 << 20;
/// Name of the ballast in the store's folder.
const BALLAST: &str = "ballast";
/// Share of the quota, in percent, at which a collection begins by itself, and down to which it collects.
const HIGH_PERCENT: u64 = 95;
const LOW_PERCENT: u64 = 90;

/// Room on the disk and under the quota.
#[derive(Debug)]
pub(crate) struct Room {
    dir: PathBuf,
    max_bytes: Option<u64>,
    has_ballast: AtomicBool,
    /// Somebody answers the bell.
    attended: AtomicBool,
    bell: Notify,
    /// Most bytes that someone waits for.
    wanted_bytes: AtomicU64,
    /// Collections that have ended.
    rounds: watch::Sender<u64>,
}

impl Room {
    pub(crate) fn new(dir: &Path, max_bytes: Option<u64>) -> Self {
        Self {
            dir: dir.to_path_buf(),
            max_bytes,
            has_ballast: AtomicBool::new(dir.join(BALLAST).exists()),
            attended: AtomicBool::new(false),
            bell: Notify::new(),
            wanted_bytes: AtomicU64::new(0),
            rounds: watch::Sender::new(0),
        }
    }

    /// Refuses blocks that exceed the quota, or that would fill the disk up to the reserve together with `waiting_bytes`
    /// that are accepted and not written.
    pub(super) fn check(&self, held_bytes: u64, new_bytes: u64, waiting_bytes: u64) -> Result<()> {
        if let Some(max) = self.max_bytes
            && held_bytes + new_bytes > max
        {
            let words = "store has reached its limit (Datastore.StorageMax), and what is left in it is kept";
            let facts = format!("block_bytes={held_bytes} new_bytes={new_bytes} max={max}");
            return Err(Error::new(Kind::Full, format!("{words}, {facts}")));
        }
        let free = self.free_bytes()?;
        self.lay_ballast(free);
        check_free(free + self.ballast_bytes(), waiting_bytes + new_bytes)
    }

    /// Whether the disk may soon be full.
    pub(super) fn is_narrow(&self) -> bool {
        self.free_bytes().is_ok_and(|free| free < NARROW_BYTES)
    }

    /// Whether the disk has room for a few batches.
    pub(super) fn has_some(&self) -> bool {
        self.before_write(0);
        self.free_bytes().is_ok_and(|free| free >= DROP_BALLAST_BYTES)
    }

    /// Before a write that `waiting_bytes` of blocks go to files with: a disk without room for them gets some from the
    /// ballast.
    pub(super) fn before_write(&self, waiting_bytes: u64) {
        if self.has_ballast.load(Ordering::Relaxed)
            && self.free_bytes().is_ok_and(|free| free < DROP_BALLAST_BYTES + waiting_bytes)
            && self.has_ballast.swap(false, Ordering::Relaxed)
        {
            tracing::warn!("disk of the store is full, its reserve is used");
            if let Err(error) = fs::remove_file(self.dir.join(BALLAST)) {
                tracing::warn!(%error, "reserve was not given back");
            }
        }
    }

    /// Whether [`Self::make`] would do anything for new blocks.
    pub(super) fn may_be_short(&self, held_bytes: u64, new_bytes: u64) -> bool {
        self.attended.load(Ordering::Relaxed)
            && (self.is_nearly_full(held_bytes, new_bytes) || self.check(held_bytes, new_bytes, 0).is_err())
    }

    fn is_nearly_full(&self, held_bytes: u64, new_bytes: u64) -> bool {
        self.max_bytes.is_some_and(|max| held_bytes + new_bytes > max / 100 * HIGH_PERCENT)
    }

    /// Waits for collections until there is room for new blocks, or until one ended without making any.
    ///
    /// # Cancellation
    /// Safe: the collection goes on.
    pub(super) async fn make(&self, held_bytes: impl Fn() -> u64, new_bytes: u64) {
        if new_bytes == 0 {
            return;
        }
        if self.check(held_bytes(), new_bytes, 0).is_ok() {
            // Somewhat early, so that nobody has to wait.
            if self.is_nearly_full(held_bytes(), new_bytes) {
                self.ring(new_bytes);
            }
            return;
        }
        let mut rounds = self.rounds.subscribe();
        // A collection that is under way may have begun before this was wanted.
        for _ in 0..2 {
            self.ring(new_bytes);
            if rounds.changed().await.is_err() || self.check(held_bytes(), new_bytes, 0).is_ok() {
                return;
            }
        }
    }

    /// Waits for the bell.
    pub(crate) async fn short(&self) {
        self.attended.store(true, Ordering::Relaxed);
        self.bell.notified().await;
    }

    /// Bytes that have to go until the bell need not ring.
    pub(crate) fn missing_bytes(&self, held_bytes: u64) -> u64 {
        let wanted = self.wanted_bytes.load(Ordering::Relaxed);
        let quota =
            self.max_bytes.map_or(0, |max| (held_bytes + wanted).saturating_sub(max / 100 * LOW_PERCENT));
        let free = self.free_bytes().unwrap_or(u64::MAX).saturating_add(self.ballast_bytes());
        quota.max((2 * RESERVE_BYTES + wanted).saturating_sub(free))
    }

    /// A collection has ended: whoever waits looks again.
    pub(crate) fn collected(&self) {
        self.wanted_bytes.store(0, Ordering::Relaxed);
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    /// Nobody answers the bell any more.
    pub(crate) fn leave(&self) {
        self.attended.store(false, Ordering::Relaxed);
        self.collected();
    }

    fn ring(&self, wanted_bytes: u64) {
        self.wanted_bytes.fetch_max(wanted_bytes, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// Makes the ballast while there is room for it, but not much more.
    fn lay_ballast(&self, free_bytes: u64) {
        let for_ballast = 2 * RESERVE_BYTES..NARROW_BYTES;
        if !for_ballast.contains(&free_bytes) || self.has_ballast.load(Ordering::Relaxed) {
            return;
        }
        let path = self.dir.join(BALLAST);
        let lay = || -> std::io::Result<()> {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES)?;
            Ok(())
        };
        match lay() {
            Ok(()) => self.has_ballast.store(true, Ordering::Relaxed),
            // Without it a full disk needs help from outside: no reason to refuse a block that fits.
            Err(error) => {
                tracing::debug!(%error, "no reserve on the disk");
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn ballast_bytes(&self) -> u64 {
        if self.has_ballast.load(Ordering::Relaxed) { BALLAST_BYTES } else { 0 }
    }

    fn free_bytes(&self) -> Result<u64> {
        let disk = rustix::fs::statvfs(&self.dir)
            .map_err(|error| Error::internal("free space cannot be read").with_cause(error))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

pub(super) fn check_free(free_bytes: u64, bytes: u64) -> Result<()> {
    if free_bytes >= bytes.saturating_add(RESERVE_BYTES) {
        return Ok(());
    }
    let message = format!("disk of the store is full, free_bytes={free_bytes} reserve={RESERVE_BYTES}");
    Err(Error::new(Kind::Full, message))
}
