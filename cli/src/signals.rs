//! The signals that ask the program to stop, or a daemon to read its configuration again.

use std::io::{IsTerminal as _, stderr, stdin};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// SIGHUP says that it is gone.
    has_terminal: bool,
}

/// What a signal asks of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To stop.
    Stop,
    /// To read its configuration again.
    Reload,
}

impl Signals {
    /// Takes them over from the system, which would end the process.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            has_terminal: stdin().is_terminal() || stderr().is_terminal(),
        })
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Asked {
        let hangup = if self.has_terminal { Asked::Stop } else { Asked::Reload };
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hangup.recv() => hangup,
        }
    }

    /// Waits for the next one that asks to stop. Cancel-safe.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
