//! How this process takes memory from the system and gives it back.
//!
//! Blocks live for milliseconds in buffers of up to two megabytes. The allocator of glibc returns each of those to the system
//! and takes it anew, and the system clears every page of it each time: a quarter of the processor time of an add.

#![expect(
    unsafe_code,
    reason = "glibc's allocator is adjusted by C functions only; each takes plain numbers"
)]

use std::time::Duration;

use libc::c_int;

/// Allocations from this size on come straight from the system: larger than any buffer of blocks. glibc takes no more.
const MAPPED_BYTES: c_int = 32 << 20;

/// Free memory that is kept for what comes next.
const KEPT_BYTES: c_int = 256 << 20;

/// How often a daemon gives free memory back.
const RETURN_EVERY: Duration = Duration::from_secs(60);

/// Keeps freed memory for the next buffer. To be called before threads are started.
pub(crate) fn keep_freed() {
    let cores = std::thread::available_parallelism()
        .map_or(1, |count| c_int::try_from(count.get()).unwrap_or(c_int::MAX));
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
        (libc::M_ARENA_MAX, cores),
    ] {
        // SAFETY: it takes two numbers, and no other thread runs yet. A refusal leaves the setting as it was.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives free memory back to the system now and then, so that a quiet daemon is small. It never ends.
pub(crate) async fn return_freed() {
    let mut ticks = tokio::time::interval(RETURN_EVERY);
    loop {
        ticks.tick().await;
        // SAFETY: it takes a number, and locks the allocator's state itself.
        let returned = tokio::task::spawn_blocking(|| unsafe { libc::malloc_trim(0) }).await;
        tracing::trace!(?returned, "freed memory was returned");
    }
}
