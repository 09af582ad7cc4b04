//! `cairn bootstrap`.

use anyhow::Result;
use cairn_rpc::commands::bootstrap::{Add, List, Peers, Rm, RmAll};

use crate::session::Session;
use crate::terminal::escape;

/// Shows or changes the peers to start from. A daemon reads them when it starts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bootstrap {
    /// List them.
    List {
        /// Print the public list in place of `auto`.
        #[arg(long)]
        expand_auto: bool,
    },
    /// Add some.
    Add {
        /// Addresses that end in /p2p/ and a peer ID; `default` and `auto` stand for the public list.
        #[arg(required = true, value_name = "PEER")]
        peers: Vec<String>,
    },
    /// Remove some, or `all`.
    Rm {
        /// Remove all.
        #[arg(long)]
        all: bool,
        /// Addresses that end in /p2p/ and a peer ID; `all` for all of them.
        #[arg(value_name = "PEER")]
        peers: Vec<String>,
    },
}

pub(super) async fn run(command: Option<Bootstrap>, session: &Session) -> Result<()> {
    match command.unwrap_or(Bootstrap::List { expand_auto: false }) {
        Bootstrap::List { expand_auto } => session.print(List { expand_auto }, lines("")).await,
        Bootstrap::Add { peers } => session.print(Add { peers }, lines("added ")).await,
        Bootstrap::Rm { peers, .. } if peers == ["all"] => session.print(RmAll, lines("removed ")).await,
        Bootstrap::Rm { all, peers } => session.print(Rm { peers, all }, lines("removed ")).await,
    }
}

/// Source of the form: Kubo `core/commands/bootstrap.go`.
fn lines(verb: &'static str) -> impl FnMut(&mut String, Peers) -> Result<()> {
    move |out, peers| peers.peers.iter().try_for_each(|peer| super::line!(out, "{verb}{}", escape(peer)))
}
