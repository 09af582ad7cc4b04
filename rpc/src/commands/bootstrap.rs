//! `bootstrap`, `bootstrap list`.

use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::Result;

/// Lists the peers to start from.
#[derive(Debug, Clone, Default)]
pub struct List;

/// The same, as Kubo lets it be called without its second word.
#[derive(Debug, Clone, Default)]
pub struct Bootstrap;

/// Addresses of peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Peers {
    /// Each ends in `/p2p/` and a peer ID.
    pub peers: Vec<String>,
}

impl JsonEvent for Peers {}

impl Command for List {
    const PATH: &'static str = "bootstrap/list";
    type Event = Peers;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Peers>) -> Result<()> {
        let peers = context.repo.config().bootstrap()?;
        output.send(Peers { peers: peers.iter().map(ToString::to_string).collect() }).await
    }
}

impl Command for Bootstrap {
    const PATH: &'static str = "bootstrap";
    type Event = Peers;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Peers>) -> Result<()> {
        List.run(context, output).await
    }
}
