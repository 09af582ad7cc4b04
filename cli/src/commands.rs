//! Every command of the program: its options, and the text of its events.

mod add;
mod block;
mod bootstrap;
mod cat;
mod config;
mod dag;
mod get;
mod health;
mod id;
mod info;
mod init;
mod ls;
mod name;
mod network;
mod pin;
mod provide;
mod refs;
mod repo;
mod swarm;

use anyhow::Result;
use clap::Subcommand;

use crate::args::{Cli, Global};
use crate::daemon::{self, Role};
use crate::session::Session;
use crate::signals::Signals;

pub(crate) use init::init;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a repo.
    Init(init::Args),
    /// Run a node until it is interrupted.
    Daemon(daemon::Args),
    /// Run a gateway alone until it is interrupted.
    Gateway(daemon::GatewayArgs),
    /// Ask the daemon or gateway of the repo whether it answers.
    Health,
    /// Stop the daemon.
    Shutdown,
    /// Add files and folders, and print their CIDs.
    Add(add::Args),
    /// Print the content of files.
    Cat(cat::Args),
    /// Download a file or folder.
    Get(get::Args),
    /// List folders.
    Ls(ls::Args),
    /// List the links of DAGs.
    Refs(refs::Args),
    /// Keep content, or let it go.
    #[command(subcommand)]
    Pin(pin::Pin),
    /// Work with single blocks.
    #[command(subcommand)]
    Block(block::Block),
    /// Export, import and measure DAGs.
    #[command(subcommand)]
    Dag(dag::Dag),
    /// Show or change the configuration.
    Config(config::Args),
    /// Show who this node or another peer is.
    Id(id::Args),
    /// Show connections, or make and end them.
    #[command(subcommand)]
    Swarm(swarm::Swarm),
    /// Show or change the peers to start from.
    #[command(args_conflicts_with_subcommands = true)]
    Bootstrap {
        #[command(subcommand)]
        command: Option<bootstrap::Bootstrap>,
    },
    /// Find who has content, or tell that this node has it.
    #[command(subcommand)]
    Routing(swarm::Routing),
    /// Show how others are told what this node has.
    #[command(subcommand)]
    Provide(provide::Provide),
    /// Find where names lead.
    #[command(subcommand)]
    Name(name::Name),
    /// Show what is exchanged with peers.
    #[command(subcommand)]
    Bitswap(swarm::Bitswap),
    /// Show what goes over the network.
    #[command(subcommand)]
    Stats(network::Stats),
    /// Measure the way to a peer and back.
    Ping(network::PingArgs),
    /// Measure and clean the store.
    #[command(subcommand)]
    Repo(repo::Repo),
    /// Show the version.
    Version(info::VersionArgs),
    /// List all commands, or print completions for a shell.
    Commands(info::CommandsArgs),
    /// Print completions for a shell.
    Completion(info::CompletionArgs),
}

/// Runs what the command line says.
pub(crate) async fn run(cli: Cli) -> Result<()> {
    let global = &cli.global;
    match cli.command {
        Command::Init(args) => init::run(&args, global),
        Command::Daemon(args) => daemon::run(args, Role::Node, global).await,
        Command::Gateway(args) => daemon::run(args.into(), Role::Gateway, global).await,
        Command::Health => health::run(global).await,
        Command::Config(args) => config::run(args, global).await,
        Command::Repo(repo::Repo::Restore { path }) => repo::restore(&path, global).await,
        Command::Commands(args) => info::commands(&args),
        Command::Completion(args) => info::completion(args.shell),
        Command::Version(args) => info::version(&args, global.enc),
        command => {
            let mut signals = Signals::listen()?;
            let session = Session::open(global).await?;
            // Ending the command, rather than the process, lets it clear away what is half done.
            let result = tokio::select! {
                result = run_in(command, &session, global) => result,
                _ = signals.next() => Err(anyhow::anyhow!("interrupted")),
            };
            let closed = session.close().await;
            result.and(closed)
        }
    }
}

async fn run_in(command: Command, session: &Session, global: &Global) -> Result<()> {
    match command {
        Command::Add(args) => add::run(args, session).await,
        Command::Bitswap(command) => swarm::bitswap(command, session).await,
        Command::Block(command) => block::run(command, session).await,
        Command::Bootstrap { command } => bootstrap::run(command, session).await,
        Command::Cat(args) => cat::run(args, session).await,
        Command::Dag(command) => dag::run(command, session).await,
        Command::Get(args) => get::run(args, session).await,
        Command::Id(args) => id::run(args, session).await,
        Command::Ls(args) => ls::run(args, session).await,
        Command::Name(command) => name::run(command, session).await,
        Command::Pin(command) => pin::run(command, session).await,
        Command::Ping(args) => network::ping(args, session).await,
        Command::Provide(command) => provide::run(command, session).await,
        Command::Refs(args) => refs::run(args, session).await,
        Command::Repo(command) => repo::run(command, session).await,
        Command::Routing(command) => swarm::routing(command, session).await,
        Command::Shutdown => info::shutdown(session).await,
        Command::Stats(command) => network::stats(command, session).await,
        Command::Swarm(command) => swarm::run(command, session).await,
        Command::Init(_)
        | Command::Daemon(_)
        | Command::Gateway(_)
        | Command::Health
        | Command::Config(_)
        | Command::Commands(_)
        | Command::Completion(_)
        | Command::Version(_) => {
            unreachable!("{:?} runs without a session", global.repo_dir)
        }
    }
}

/// Writes a line.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        use std::fmt::Write as _;
        writeln!($out, $($arg)*).map_err(anyhow::Error::from)
    }};
}
use line;
