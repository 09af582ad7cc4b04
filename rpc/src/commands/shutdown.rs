//! `shutdown`.

use crate::command::{Binder, Command, Output, Piece};
use crate::context::Context;
use crate::error::{Error, Result};

/// Stops the daemon.
#[derive(Debug, Clone, Default)]
pub struct Shutdown;

impl Command for Shutdown {
    const PATH: &'static str = "shutdown";
    const CONTENT_TYPE: &'static str = "text/plain";
    type Event = Piece;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, _output: Output<Piece>) -> Result<()> {
        let daemon = context.repo.as_daemon().ok_or_else(|| Error::new("the daemon is not running"))?;
        daemon.shutdown.cancel();
        Ok(())
    }
}
