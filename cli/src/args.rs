//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use cairn_node::settings::units::parse_duration;
use clap::{Args, Parser, ValueEnum};

use crate::commands::Command;

/// A content-addressed peer-to-peer node: add files, get them from anyone, serve them to browsers.
#[derive(Debug, Parser)]
#[command(
    name = "cairn",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "The repo is in $CAIRN_PATH (default ~/.cairn). Any key of its configuration can be set for one run by \
                  the environment, as CAIRN_CONFIG__Swarm__ConnMgr__HighWater=32. CAIRN_LOG sets what is logged."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Folder of the repo.
    #[arg(long, short = 'c', global = true, env = "CAIRN_PATH", value_name = "PATH", hide_env_values = true)]
    pub(crate) repo_dir: Option<PathBuf>,
    /// Use what is in the store only; never ask the network.
    #[arg(long, global = true)]
    pub(crate) offline: bool,
    /// Address of the daemon, as /ip4/127.0.0.1/tcp/5001 or http://127.0.0.1:5001.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) api: Option<String>,
    /// Secret for the daemon, as bearer:TOKEN or basic:USER:PASSWORD.
    #[arg(long, global = true, value_name = "SECRET")]
    pub(crate) api_auth: Option<String>,
    /// Give up after this long, as 30s or 1h30m.
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Form of the output.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) enc: Encoding,
    /// Base that CIDs of version 1 are written in, as base32 or base36.
    #[arg(long, global = true, value_name = "BASE")]
    pub(crate) cid_base: Option<String>,
    /// Write CIDs of version 0 as version 1.
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) upgrade_cidv0_in_output: Option<bool>,
    /// Log what goes on.
    #[arg(long, short = 'D', global = true)]
    pub(crate) debug: bool,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// For people and for scripts that read lines.
    #[default]
    Text,
    /// One JSON object a line, as the RPC gives it.
    Json,
}
