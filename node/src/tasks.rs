//! Named tasks with an owner that joins them, and an ordered, bounded end.
//!
//! Every spawned task belongs to a [`Tasks`] group. The groups of a node stop in order, users before what they use.
//! Must not know what the tasks do.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks that stop together; clones share the group.
#[derive(Debug, Clone)]
pub struct Tasks {
    group: &'static str,
    tracker: TaskTracker,
    stopping: CancellationToken,
    running: Arc<Mutex<Running>>,
}

/// Tasks that were still running when their group's time was up; they were aborted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tasks did not stop in time, tasks={}", .names.join(","))]
pub struct Overdue {
    /// `group/task` of each.
    pub names: Vec<String>,
}

#[derive(Debug, Default)]
struct Running {
    next_id: u64,
    tasks: HashMap<u64, (&'static str, Option<AbortHandle>)>,
}

impl Tasks {
    /// An empty group.
    pub fn new(group: &'static str) -> Self {
        Self {
            group,
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            running: Arc::default(),
        }
    }

    /// Cancelled when the group shall stop. A task that holds nothing back watches it and returns soon after.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Starts a task. Dropping the handle leaves it running: the group joins it.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let entry = self.enter(name);
        let id = entry.id;
        let handle = self.tracker.spawn(async move {
            let _entry = entry;
            future.await
        });
        // The task may have ended already and taken its entry away.
        if let Some((_, abort)) = lock(&self.running).tasks.get_mut(&id) {
            *abort = Some(handle.abort_handle());
        }
        handle
    }

    /// Starts work that blocks its thread. It cannot be aborted, so it ends by itself or watches [`Tasks::stopping`].
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let entry = self.enter(name);
        self.tracker.spawn_blocking(move || {
            let _entry = entry;
            work()
        })
    }

    /// Tells the tasks to stop, and waits until all have ended or `bound` is over.
    ///
    /// # Errors
    /// [`Overdue`] with the tasks that were aborted.
    ///
    /// # Cancellation
    /// Cancel-safe: the tasks stay told to stop; call it again to wait.
    pub async fn shutdown(&self, bound: Duration) -> Result<(), Overdue> {
        self.stopping.cancel();
        self.tracker.close();
        if tokio::time::timeout(bound, self.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let running = lock(&self.running);
        let mut names: Vec<_> =
            running.tasks.values().map(|(name, _)| format!("{}/{name}", self.group)).collect();
        names.sort_unstable();
        for abort in running.tasks.values().filter_map(|(_, abort)| abort.as_ref()) {
            abort.abort();
        }
        if names.is_empty() { Ok(()) } else { Err(Overdue { names }) }
    }

    fn enter(&self, name: &'static str) -> Entry {
        let mut running = lock(&self.running);
        let id = running.next_id;
        running.next_id += 1;
        running.tasks.insert(id, (name, None));
        Entry { id, running: Arc::clone(&self.running) }
    }
}

/// Stops groups one after the other within `bound` in all: each may take half of what is left, the last all of it.
///
/// # Errors
/// [`Overdue`] with the tasks of every group that were aborted; the later groups are stopped all the same.
pub async fn shutdown_in_order(groups: &[Tasks], bound: Duration) -> Result<(), Overdue> {
    let end = Instant::now() + bound;
    let mut names = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = if index + 1 == groups.len() { left } else { left / 2 };
        if let Err(overdue) = group.shutdown(share).await {
            names.extend(overdue.names);
        }
    }
    if names.is_empty() { Ok(()) } else { Err(Overdue { names }) }
}

/// Keeps a task's name listed while the task lives.
struct Entry {
    id: u64,
    running: Arc<Mutex<Running>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.running).tasks.remove(&self.id);
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    // The map is whole after every statement that holds the lock.
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn shutdown_joins_tasks_that_watch_the_token() {
        let tasks = Tasks::new("group");
        let stopping = tasks.stopping().clone();
        let polite = tasks.spawn("polite", async move {
            stopping.cancelled().await;
            7
        });
        assert_eq!(tasks.shutdown(BOUND).await, Ok(()));
        assert_eq!(polite.await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_named_and_aborted() {
        let tasks = Tasks::new("group");
        let stuck = tasks.spawn("stuck", std::future::pending::<()>());
        assert_eq!(tasks.shutdown(BOUND).await, Err(Overdue { names: vec!["group/stuck".into()] }));
        assert!(stuck.await.unwrap_err().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn groups_stop_in_order_and_a_stuck_one_leaves_time_for_the_next() {
        let (users, used) = (Tasks::new("users"), Tasks::new("used"));
        users.spawn("stuck", std::future::pending::<()>());
        let (stopping, users_stopping) = (used.stopping().clone(), users.stopping().clone());
        let flush = used.spawn("flush", async move {
            stopping.cancelled().await;
            let users_first = users_stopping.is_cancelled();
            tokio::time::timeout(BOUND / 4, std::future::pending::<()>()).await.unwrap_err();
            users_first
        });
        let began = Instant::now();
        let overdue = shutdown_in_order(&[users, used], BOUND).await.unwrap_err();
        assert_eq!(overdue.names, ["users/stuck"]);
        assert!(flush.await.unwrap(), "users are told first");
        assert_eq!(began.elapsed(), BOUND / 2 + BOUND / 4, "virtual time");
    }

    #[tokio::test]
    async fn a_task_that_panics_does_not_hold_the_group() {
        let tasks = Tasks::new("group");
        let failed = tasks.spawn("failed", async { panic!("on purpose") });
        assert!(failed.await.unwrap_err().is_panic());
        assert_eq!(tasks.shutdown(BOUND).await, Ok(()));
        assert!(lock(&tasks.running).tasks.is_empty());
    }
}
