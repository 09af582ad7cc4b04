//! Whether the store can be written to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Kind, Result};

/// What the last write came to.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Well,
    /// The disk had no room for a write. Nothing of it is in the database, and RocksDB goes on by itself once there is
    /// some.
    Full { cause: String },
    /// It is open what the disk holds: nothing is written until the store is opened again.
    ReadOnly { kind: Kind, cause: String },
}

impl Health {
    /// Refuses to write while nothing can be written. A disk that was full is looked at again.
    pub(super) fn check(&self, has_room: impl FnOnce() -> bool) -> Result<()> {
        let mut state = self.state();
        if matches!(*state, State::Full { .. }) && has_room() {
            tracing::info!("disk of the store has room again");
            *state = State::Well;
        }
        match &*state {
            State::Well => Ok(()),
            State::Full { cause } => Err(Error::new(Kind::Full, cause.clone())),
            State::ReadOnly { kind, cause } => Err(Error::new(*kind, format!("store is read-only: {cause}"))),
        }
    }

    /// Why nothing is written; `None` while everything is well.
    pub(super) fn cause(&self) -> Option<String> {
        match &*self.state() {
            State::Well => None,
            State::Full { cause } | State::ReadOnly { cause, .. } => Some(cause.clone()),
        }
    }

    /// A write failed before anything of it was in the database, if it is for want of room; see [`Self::fail`].
    pub(super) fn refuse(&self, error: &Error) {
        if error.kind() != Kind::Full {
            return self.fail(error);
        }
        let mut state = self.state();
        if let State::Well = *state {
            tracing::error!(%error, "disk of the store is full, nothing is written until there is room");
            *state = State::Full { cause: format!("nothing is written until there is room: {error}") };
        }
    }

    /// A write failed, and it is open what the disk holds.
    pub(super) fn fail(&self, error: &Error) {
        tracing::error!(%error, "write failed, store is read-only now");
        let cause = format!("a write failed, open it again when that is mended: {error}");
        self.close(error.kind(), cause);
    }

    /// Nothing is written any more. The first cause is the one that matters.
    pub(super) fn close(&self, kind: Kind, cause: String) {
        let mut state = self.state();
        if !matches!(*state, State::ReadOnly { .. }) {
            *state = State::ReadOnly { kind, cause };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: Kind) -> Error {
        Error::new(kind, "why")
    }

    #[test]
    fn a_full_disk_is_written_to_again_once_it_has_room() {
        let health = Health::default();
        health.refuse(&error(Kind::Full));
        assert_eq!(health.check(|| false).unwrap_err().kind(), Kind::Full);
        assert!(health.cause().is_some_and(|cause| cause.contains("why")));
        health.check(|| true).unwrap();
        assert_eq!(health.cause(), None);
        health.check(|| panic!("nobody looks at the disk while all is well")).unwrap();
    }

    #[test]
    fn after_any_other_failure_nothing_is_written_for_good() {
        for fail in [
            |health: &Health| health.refuse(&error(Kind::Internal)),
            // A sync: it is open what the disk holds.
            |health: &Health| health.fail(&error(Kind::Full)),
        ] {
            let health = Health::default();
            health.refuse(&error(Kind::Full));
            fail(&health);
            health.refuse(&error(Kind::Full));
            let refused = health.check(|| true).unwrap_err();
            assert!(refused.to_string().contains("read-only"), "{refused}");
        }
    }
}
