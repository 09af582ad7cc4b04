//! `cairn block`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use cairn_rpc::commands::block::{BlockStat, Get, Put, Rm, Stat};

use crate::session::Session;
use crate::terminal::escape;
use crate::walk;

/// Works with single blocks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Block {
    /// Print a block.
    Get(OneArgs),
    /// Print the CID and length of a block.
    Stat(OneArgs),
    /// Store files as blocks; standard input without one.
    Put(PutArgs),
    /// Remove blocks that nothing keeps.
    Rm(RmArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// CID or path.
    #[arg(value_name = "CID")]
    cid: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// Files.
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Codec of the CID: raw, dag-pb, dag-cbor, dag-json, cbor or json.
    #[arg(long, value_name = "NAME")]
    cid_codec: Option<String>,
    /// Hash function.
    #[arg(long, value_name = "NAME")]
    mhtype: Option<String>,
    /// Keep the block.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pin: bool,
    /// Older way to name the codec; v0 makes a CID of version 0.
    #[arg(long, short, value_name = "NAME")]
    format: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// CIDs.
    #[arg(required = true, value_name = "CID")]
    cids: Vec<String>,
    /// A block that is not there is no error.
    #[arg(long, short)]
    force: bool,
    /// Print errors only.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) async fn run(command: Block, session: &Session) -> Result<()> {
    match command {
        Block::Get(args) => session.write(Get { path: args.cid }, Some(false)).await,
        Block::Stat(args) => session.print(Stat { path: args.cid }, text_of_stat).await,
        Block::Put(args) => {
            let command = Put {
                codec: args.cid_codec,
                format: args.format,
                hash: args.mhtype,
                digest_len: None,
                pin: args.pin,
                files: Some(walk::files(args.paths)),
            };
            session.print(command, |out, stat| super::line!(out, "{}", stat.key)).await
        }
        Block::Rm(args) => rm(args, session).await,
    }
}

fn text_of_stat(out: &mut String, stat: BlockStat) -> Result<()> {
    super::line!(out, "Key: {}\nSize: {}", stat.key, stat.size)
}

async fn rm(args: RmArgs, session: &Session) -> Result<()> {
    let mut failed = false;
    let command = Rm { cids: args.cids, force: args.force, quiet: args.quiet };
    session
        .print(command, |out, removed| {
            if removed.error.is_empty() {
                return super::line!(out, "removed {}", removed.hash);
            }
            failed = true;
            eprintln!("cannot remove {}: {}", removed.hash, escape(&removed.error));
            Ok(())
        })
        .await?;
    if failed { bail!("some blocks not removed") } else { Ok(()) }
}
