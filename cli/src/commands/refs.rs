//! `cairn refs`.

use anyhow::Result;
use cairn_rpc::commands::refs::{Local, Ref, Refs};

use crate::session::Session;
use crate::terminal::escape;

/// Lists the links of DAGs.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    local: Option<Below>,
    /// Paths, as CID/name.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Text of each line: <src>, <dst> and <linkname> are replaced.
    #[arg(long, value_name = "TEXT")]
    format: Option<String>,
    /// Print `<src> -> <dst>`.
    #[arg(long, short)]
    edges: bool,
    /// Print each link once.
    #[arg(long, short)]
    unique: bool,
    /// Follow links.
    #[arg(long, short)]
    recursive: bool,
    /// Most levels to follow; -1 for all.
    #[arg(long, value_name = "COUNT", default_value_t = -1, allow_negative_numbers = true)]
    max_depth: i64,
}

/// What else can be listed.
#[derive(Debug, clap::Subcommand)]
enum Below {
    /// List every block of the store.
    Local,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<()> {
    let text = |out: &mut String, event: Ref| {
        if event.err.is_empty() {
            super::line!(out, "{}", escape(&event.text))
        } else {
            anyhow::bail!("{}", event.err)
        }
    };
    if let Some(Below::Local) = args.local {
        return session.print(Local, text).await;
    }
    let command = Refs {
        paths: args.paths,
        format: args.format,
        edges: args.edges,
        unique: args.unique,
        recursive: args.recursive,
        max_depth: args.max_depth,
    };
    session.print(command, text).await
}
