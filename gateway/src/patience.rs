//! A timer that runs only while something is waited for, so that a fast path pays nothing for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long one may wait without anything happening.
pub(crate) struct Patience {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, waiting: false }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// To be polled whenever nothing has come: ready once the limit passed since the first such poll.
    pub(crate) fn poll_spent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + self.limit);
        }
        timer.as_mut().poll(cx)
    }

    /// Something came: the next wait starts anew.
    pub(crate) fn renew(&mut self) {
        self.waiting = false;
    }
}
