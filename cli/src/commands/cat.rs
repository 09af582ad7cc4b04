//! `cairn cat`.

use anyhow::Result;
use cairn_rpc::commands::cat::Cat;

use crate::session::Session;

/// Prints the content of files, one behind the other.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Paths, as CID/name.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Leave out this many bytes at the start.
    #[arg(long, short, value_name = "BYTES", default_value_t, hide_default_value = true)]
    offset: u64,
    /// Print at most this many bytes.
    #[arg(long, short, value_name = "BYTES")]
    length: Option<u64>,
    /// Show progress; by default only where the content does not go to a terminal.
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    progress: Option<bool>,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<()> {
    let on_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let progress = args.progress.or(on_terminal.then_some(false));
    session.write(Cat { paths: args.paths, offset: args.offset, length: args.length }, progress).await
}
