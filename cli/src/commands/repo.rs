//! `cairn repo`.

use anyhow::{Result, bail};
use cairn_node::settings::units::format_size;
use cairn_rpc::commands::repo::{Gc, RepoStat, Stat};

use crate::session::Session;

/// Measures and cleans the store.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Repo {
    /// Print how much is stored.
    Stat(StatArgs),
    /// Remove what nothing keeps.
    Gc(GcArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// Print sizes only.
    #[arg(long, short)]
    size_only: bool,
    /// Print sizes with units.
    #[arg(long, short = 'H')]
    human: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Print CIDs only.
    #[arg(long, short)]
    quiet: bool,
    /// Print nothing.
    #[arg(long)]
    silent: bool,
    /// Print errors and go on; always so.
    #[arg(long, hide = true)]
    stream_errors: bool,
}

pub(super) async fn run(command: Repo, session: &Session) -> Result<()> {
    match command {
        Repo::Stat(args) => {
            let command = Stat { size_only: args.size_only, human: args.human };
            session.print(command, |out, stat| text_of_stat(out, &stat, &args)).await
        }
        Repo::Gc(args) => gc(&args, session).await,
    }
}

fn text_of_stat(out: &mut String, stat: &RepoStat, args: &StatArgs) -> Result<()> {
    let size = |bytes: u64| match bytes {
        u64::MAX => "none".to_owned(),
        bytes if args.human => format_size(bytes),
        bytes => bytes.to_string(),
    };
    if !args.size_only {
        super::line!(out, "NumObjects: {}", stat.num_objects)?;
    }
    super::line!(out, "RepoSize:   {}\nStorageMax: {}", size(stat.repo_size), size(stat.storage_max))?;
    if !args.size_only {
        super::line!(out, "RepoPath:   {}\nVersion:    {}", stat.repo_path, stat.version)?;
    }
    Ok(())
}

async fn gc(args: &GcArgs, session: &Session) -> Result<()> {
    let mut failed = false;
    session
        .print(Gc { silent: args.silent, quiet: args.quiet }, |out, event| {
            if !event.error.is_empty() {
                failed = true;
                eprintln!("Error: {}", event.error);
                return Ok(());
            }
            let Some(key) = event.key else { return Ok(()) };
            if args.quiet {
                super::line!(out, "{}", key.cid)
            } else {
                super::line!(out, "removed {}", key.cid)
            }
        })
        .await?;
    if failed { bail!("encountered errors during gc run") } else { Ok(()) }
}
