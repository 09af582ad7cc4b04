//! `cairn name`.

use anyhow::Result;
use cairn_rpc::commands::name::Resolve;

use crate::session::Session;
use crate::terminal::escape;

/// Finds where names lead.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Name {
    /// Print where a name leads: an IPNS key or a domain with a DNSLink.
    Resolve(ResolveArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResolveArgs {
    /// Name; this node's own without one.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Follow names that it leads to.
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    recursive: bool,
    /// Ask peers even if a fresh record is here.
    #[arg(long, short)]
    nocache: bool,
}

pub(super) async fn run(command: Name, session: &Session) -> Result<()> {
    let Name::Resolve(args) = command;
    let command = Resolve { name: args.name, recursive: args.recursive, no_cache: args.nocache };
    session.print(command, |out, resolved| super::line!(out, "{}", escape(&resolved.path))).await
}
