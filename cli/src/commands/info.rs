//! `cairn version`, `cairn commands`, `cairn completion`, `cairn shutdown`.

use anyhow::{Result, bail};
use cairn_rpc::commands::shutdown::Shutdown;
use cairn_rpc::commands::version::VersionInfo;
use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;
use futures::TryStreamExt as _;

use crate::args::{Cli, Encoding};
use crate::session::Session;
use crate::terminal;

/// Shows the version.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Print the number only.
    #[arg(long, short)]
    number: bool,
    /// Print the commit too.
    #[arg(long)]
    commit: bool,
    /// Print the version of the repo only.
    #[arg(long)]
    repo: bool,
    /// Print everything.
    #[arg(long)]
    all: bool,
}

/// Of this program, whatever daemon runs: it needs no repo.
pub(super) fn version(args: &VersionArgs, encoding: Encoding) -> Result<()> {
    let info = VersionInfo::current();
    if encoding == Encoding::Json {
        return Ok(terminal::print_line(&serde_json::to_string(&info)?)?);
    }
    let mut text = String::new();
    text_of_version(&mut text, &info, args)?;
    Ok(terminal::print_line(text.trim_end())?)
}

fn text_of_version(out: &mut String, info: &VersionInfo, args: &VersionArgs) -> Result<()> {
    let commit =
        if args.commit && !info.commit.is_empty() { format!("-{}", info.commit) } else { String::new() };
    if args.all {
        super::line!(out, "Cairn version: {}{commit}", info.version)?;
        super::line!(out, "Repo version: {}\nSystem version: {}", info.repo, info.system)
    } else if args.repo {
        super::line!(out, "{}", info.repo)
    } else if args.number {
        super::line!(out, "{}{commit}", info.version)
    } else {
        super::line!(out, "cairn version {}{commit}", info.version)
    }
}

/// Lists all commands, or prints completions for a shell.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CommandsArgs {
    /// Print options too.
    #[arg(long, short)]
    flags: bool,
    #[command(subcommand)]
    completion: Option<Below>,
}

#[derive(Debug, Subcommand)]
enum Below {
    /// Print completions for a shell.
    Completion(CompletionArgs),
}

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// Shell.
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

pub(super) fn commands(args: &CommandsArgs) -> Result<()> {
    if let Some(Below::Completion(args)) = &args.completion {
        return completion(args.shell);
    }
    let mut lines = Vec::new();
    list(&Cli::command(), String::new(), args.flags, &mut lines);
    lines.iter().try_for_each(|line| Ok(terminal::print_line(line)?))
}

fn list(command: &clap::Command, parent: String, flags: bool, lines: &mut Vec<String>) {
    let path = if parent.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{parent} {}", command.get_name())
    };
    lines.push(path.clone());
    if flags {
        let options = command.get_opts().filter_map(|option| option.get_long());
        lines.extend(options.map(|option| format!("{path} --{option}")));
    }
    for below in command.get_subcommands() {
        list(below, path.clone(), flags, lines);
    }
}

pub(super) fn completion(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cairn", &mut script);
    Ok(std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?)
}

pub(super) async fn shutdown(session: &Session) -> Result<()> {
    if session.is_local() {
        bail!("the daemon is not running");
    }
    let mut events = session.run(Shutdown);
    while events.try_next().await.map_err(|error| session.explain(error))?.is_some() {}
    Ok(())
}
