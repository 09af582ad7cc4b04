//! The limit of open files, which a node needs more of than most systems allow at first.

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Least files and connections that a daemon works with: its database, listeners and a few peers.
const MIN_OPEN_FILES: u64 = 512;

/// Raises the limit to what the system allows.
///
/// # Errors
/// When even that is too low.
pub(crate) fn raise_open_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        // Checked below: a refusal matters only when the limit is too low.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    match getrlimit(Resource::Nofile).current {
        Some(count) if count < MIN_OPEN_FILES => {
            bail!(
                "only {count} open files are allowed, a daemon needs {MIN_OPEN_FILES}; raise the limit with `ulimit -n {MIN_OPEN_FILES}`"
            )
        }
        _ => Ok(()),
    }
}
