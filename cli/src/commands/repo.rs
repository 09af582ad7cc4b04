//! `cairn repo`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cairn_node::repair;
use cairn_node::settings::units::{format_size, parse_size};
use cairn_rpc::commands::repo::{Backup, Copied, Gc, ImportKubo, Ls, RepoStat, Salvage, Stat, Verify};

use crate::args::Global;
use crate::session::Session;
use crate::{environment, terminal};

/// Measures and cleans the store.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Repo {
    /// Print how much is stored.
    Stat(StatArgs),
    /// Remove what nothing keeps.
    Gc(GcArgs),
    /// List every block.
    Ls,
    /// Hash every block again, and fetch damaged ones from peers.
    Verify(VerifyArgs),
    /// Make the store anew from what is whole in a damaged one; the damaged one is kept beside it.
    Salvage,
    /// Copy the repo into a new folder, with its key, while it is in use.
    Backup {
        /// Folder that does not exist yet.
        #[arg(value_name = "FOLDER")]
        path: PathBuf,
    },
    /// Take over the blocks, pins and keys of a Kubo repo that is not in use. What is here already is passed over, so an import
    /// that was cut short may be begun again.
    ImportKubo {
        /// Folder of Kubo's repo.
        #[arg(value_name = "FOLDER")]
        path: PathBuf,
        /// Take over the identity too, and never run Kubo with it again.
        #[arg(long)]
        identity: bool,
    },
    /// Make a repo of a backup, after looking at every block of it.
    Restore {
        /// Folder of the backup.
        #[arg(value_name = "FOLDER")]
        path: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Succeed when all damaged blocks were set aside.
    #[arg(long)]
    drop: bool,
    /// Fetch damaged blocks from peers.
    #[arg(long)]
    heal: bool,
    /// Longest wait for each of them, as 30s.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    heal_timeout: String,
    /// Most bytes a second, as 50MB.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_rate: Option<u64>,
    /// Begin with the first block, even if the last verification was cut short.
    #[arg(long)]
    restart: bool,
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
        Repo::Ls => session.print(Ls, |out, block| super::line!(out, "{}", block.text)).await,
        Repo::Verify(args) => verify(args, session).await,
        Repo::Salvage => salvage(session).await,
        Repo::Backup { path } => {
            // The daemon may run in another folder.
            let path = std::path::absolute(path)?;
            let text = path.to_str().context("the path of the folder is not UTF-8")?.to_owned();
            let command = Backup { path: text };
            session.print(command, |out, copied| text_of_copy(out, "copied", &copied, &path)).await
        }
        Repo::ImportKubo { path, identity } => {
            let path = path.to_str().context("the path of the folder is not UTF-8")?.to_owned();
            import_kubo(ImportKubo { path, identity }, session).await
        }
        Repo::Restore { .. } => unreachable!("it runs without a session"),
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

async fn verify(args: VerifyArgs, session: &Session) -> Result<()> {
    let command = Verify {
        drop: args.drop,
        heal: args.heal,
        heal_timeout: args.heal_timeout,
        max_bytes_per_second: args.max_rate.unwrap_or_default(),
        restart: args.restart,
    };
    let bar = terminal::counter("blocks");
    let verified = session
        .print(command, |out, event| {
            if event.msg.is_empty() {
                bar.set_position(event.progress);
                Ok(())
            } else {
                super::line!(out, "{}", event.msg)
            }
        })
        .await;
    bar.finish_and_clear();
    verified
}

async fn import_kubo(command: ImportKubo, session: &Session) -> Result<()> {
    let bar = terminal::counter("blocks");
    let imported = session
        .print(command, |out, event| {
            if event.msg.is_empty() {
                bar.set_position(event.blocks);
                return Ok(());
            }
            bar.suspend(|| match event.is_failure {
                true => {
                    eprintln!("not taken over: {}", terminal::escape(&event.msg));
                    Ok(())
                }
                false => super::line!(out, "{}", terminal::escape(&event.msg)),
            })
        })
        .await;
    bar.finish_and_clear();
    imported
}

async fn salvage(session: &Session) -> Result<()> {
    session
        .print(Salvage, |out, report| {
            for pin in &report.lost_pins {
                let name = terminal::escape(&pin.name);
                super::line!(out, "lost pin {} {name}: {}", pin.cid, pin.reason)?;
            }
            let (blocks, bytes, pins) = (report.num_objects, report.repo_size, report.num_pins);
            super::line!(out, "salvaged {blocks} blocks ({}) and {pins} pins", format_size(bytes))?;
            super::line!(out, "the damaged store is in {}; remove it when nothing is missed", report.damaged)
        })
        .await
}

/// Makes a repo of a backup.
pub(super) async fn restore(backup: &Path, global: &Global) -> Result<()> {
    let repo = environment::repo_path(global)?;
    let copied = repair::restore(backup, &repo).await?.into();
    let mut text = String::new();
    text_of_copy(&mut text, "restored", &copied, &repo)?;
    Ok(terminal::print_line(text.trim_end())?)
}

fn text_of_copy(out: &mut String, done: &str, copied: &Copied, to: &Path) -> Result<()> {
    let (blocks, size, pins) = (copied.num_objects, format_size(copied.repo_size), copied.num_pins);
    super::line!(out, "{done} {blocks} blocks ({size}) and {pins} pins to {}", to.display())
}
