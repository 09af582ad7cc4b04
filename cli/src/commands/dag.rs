//! `cairn dag`.

use std::path::PathBuf;

use anyhow::Result;
use cairn_node::settings::units::format_size;
use cairn_rpc::commands::dag::{DagStats, Export, Get, Import, Imported, PathEnd, Put, Resolve, Stat};

use crate::args::Encoding;
use crate::session::Session;
use crate::terminal::{self, escape};
use crate::walk;

/// Works with nodes as structured data; exports, imports and measures DAGs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Dag {
    /// Print a node as structured data.
    Get(GetArgs),
    /// Store structured data as nodes; standard input without a file.
    Put(PutArgs),
    /// Print the block in which a path ends, and what of the path leads on inside it.
    Resolve(ResolveArgs),
    /// Print a DAG as a CAR.
    Export(ExportArgs),
    /// Store the blocks of CARs; standard input without one.
    Import(ImportArgs),
    /// Count blocks and bytes of DAGs.
    Stat(StatArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// CID or path; it may lead on inside the last block.
    #[arg(value_name = "PATH")]
    path: String,
    /// Codec to print it in: dag-json, dag-cbor, dag-pb, json, cbor or raw.
    #[arg(long, value_name = "NAME", default_value = "dag-json")]
    output_codec: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// Files, each of one node.
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Codec to store them in.
    #[arg(long, value_name = "NAME", default_value = "dag-cbor")]
    store_codec: String,
    /// Codec that they are in.
    #[arg(long, value_name = "NAME", default_value = "dag-json")]
    input_codec: String,
    /// Keep the nodes and all that they link.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pin: bool,
    /// Hash function; by default the configured one.
    #[arg(long, value_name = "NAME")]
    hash: Option<String>,
    /// Has no effect: blocks above 2 MiB are always refused, since no peer takes them.
    #[arg(long)]
    allow_big_block: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResolveArgs {
    /// Path.
    #[arg(value_name = "PATH")]
    path: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Root.
    #[arg(value_name = "CID")]
    root: String,
    /// Show progress; by default where the CAR does not go to a terminal.
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    progress: Option<bool>,
    /// Print what is here of it, and leave out what is not.
    #[arg(long)]
    local_only: bool,
    /// Version of the archive, 1 or 2; version 2 tells its length, which takes a second walk.
    #[arg(long, value_name = "VERSION")]
    car_version: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// CAR files.
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Keep the roots; the default, unless only parts are imported.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pin_roots: Option<bool>,
    /// The files hold parts of DAGs, as `dag export --local-only` prints them.
    #[arg(long)]
    local_only: bool,
    /// Count blocks and bytes.
    #[arg(long)]
    stats: bool,
    /// Print nothing.
    #[arg(long)]
    silent: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// Roots.
    #[arg(required = true, value_name = "CID")]
    roots: Vec<String>,
    /// Show progress; by default on a terminal.
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    progress: Option<bool>,
}

pub(super) async fn run(command: Dag, session: &Session) -> Result<()> {
    match command {
        Dag::Get(args) => {
            let command = Get { path: args.path, output_codec: Some(args.output_codec) };
            session.write(command, Some(false)).await
        }
        Dag::Put(args) => {
            let command = Put {
                store_codec: Some(args.store_codec),
                input_codec: Some(args.input_codec),
                hash: args.hash,
                pin: args.pin,
                allow_big_block: args.allow_big_block,
                files: Some(walk::files(args.paths)),
            };
            session.print(command, |out, stored| super::line!(out, "{}", stored.cid.cid)).await
        }
        Dag::Resolve(args) => {
            let text = |out: &mut String, end: PathEnd| {
                super::line!(out, "{}{}", end.cid.cid, escape(&end.rem_path))
            };
            session.print(Resolve { path: args.path }, text).await
        }
        Dag::Export(args) => {
            let on_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
            let progress = args.progress.or(on_terminal.then_some(false));
            let command =
                Export { path: args.root, local_only: args.local_only, car_version: args.car_version };
            session.write(command, progress).await
        }
        Dag::Import(args) => {
            let files = Some(walk::files(args.paths));
            let command = Import {
                pin_roots: args.pin_roots,
                local_only: args.local_only,
                stats: args.stats,
                silent: args.silent,
                files,
            };
            session.print(command, text_of_import).await
        }
        Dag::Stat(args) => stat(args, session).await,
    }
}

fn text_of_import(out: &mut String, event: Imported) -> Result<()> {
    if let Some(root) = event.root {
        let result = if root.pin_error.is_empty() {
            "success".to_owned()
        } else {
            format!("FAILED: {}", escape(&root.pin_error))
        };
        super::line!(out, "Pinned root\t{}\t{result}", root.cid.cid)?;
    }
    if let Some(stats) = event.stats {
        super::line!(out, "Imported {} blocks ({} bytes)", stats.block_count, stats.block_bytes_count)?;
    }
    Ok(())
}

async fn stat(args: StatArgs, session: &Session) -> Result<()> {
    let bar = terminal::progress(args.progress, None);
    let progress = !bar.is_hidden() || (session.encoding() == Encoding::Json && args.progress != Some(false));
    let result = session
        .print(Stat { paths: args.roots, progress }, |out, stats| {
            bar.set_position(stats.total_size);
            // Only the last event has a ratio.
            if stats.ratio.0 == 0.0 { Ok(()) } else { text_of_stats(out, &stats) }
        })
        .await;
    bar.finish_and_clear();
    result
}

/// Source of the form: Kubo `core/commands/dag/stat.go`.
fn text_of_stats(out: &mut String, stats: &DagStats) -> Result<()> {
    let width = stats.dag_stats.iter().map(|dag| dag.cid.len()).max().unwrap_or(0);
    super::line!(out, "{:width$}\t{:15}\tSize", "CID", "Blocks")?;
    for dag in &stats.dag_stats {
        super::line!(out, "{:width$}\t{:<15}\t{}", dag.cid, dag.num_blocks, dag.size)?;
    }
    super::line!(out, "\nSummary\nTotal Size: {} ({})", stats.total_size, format_size(stats.total_size))?;
    super::line!(out, "Unique Blocks: {}", stats.unique_blocks)?;
    super::line!(out, "Shared Size: {} ({})", stats.shared_size, format_size(stats.shared_size))?;
    super::line!(out, "Ratio: {:.6}\n", stats.ratio.0)
}
