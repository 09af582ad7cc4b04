//! `cairn add`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use cairn_rpc::commands::add::{Add, Added, AttributeOptions, FileMode, LayoutOptions};
use futures::StreamExt as _;
use indicatif::ProgressBar;

use crate::args::Encoding;
use crate::session::Session;
use crate::terminal;
use crate::walk::{self, WalkOptions};

/// Adds files and folders.
///
/// Prints `added <cid> <name>` for each, the root last. A line appears once its content is safe on disk, and the last one
/// once it is pinned too. Without a path, or with `-`, standard input is added.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and folders.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Add folders with all they hold.
    #[arg(long, short)]
    recursive: bool,
    /// Print CIDs only.
    #[arg(long, short)]
    quiet: bool,
    /// Print the last CID only.
    #[arg(long, short = 'Q')]
    quieter: bool,
    /// Print nothing.
    #[arg(long)]
    silent: bool,
    /// Show progress; by default on a terminal.
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    progress: Option<bool>,
    /// Compute CIDs and store nothing.
    #[arg(long, short = 'n')]
    only_hash: bool,
    /// Put everything into one folder more, so that names are kept.
    #[arg(long, short = 'w')]
    wrap_with_directory: bool,
    /// Keep what is added.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pin: bool,
    /// Name of the pin.
    #[arg(long, value_name = "NAME")]
    pin_name: Option<String>,
    /// Version of the CIDs, 0 or 1; version 0 takes wrapped leaves with it.
    #[arg(long, value_name = "VERSION")]
    cid_version: Option<u32>,
    /// Hash function.
    #[arg(long, value_name = "NAME")]
    hash: Option<String>,
    /// Store content in raw leaves.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    raw_leaves: Option<bool>,
    /// How files are cut: size-1048576, rabin, rabin-131072-262144-524288 (shortest, average, longest) or buzhash.
    #[arg(long, short = 's', value_name = "CHUNKER")]
    chunker: Option<String>,
    /// Most links of a file's inner node.
    #[arg(long, value_name = "COUNT")]
    max_file_links: Option<usize>,
    /// Most entries of a folder that is not sharded.
    #[arg(long, value_name = "COUNT")]
    max_directory_links: Option<usize>,
    /// Fanout of a sharded folder, a power of two.
    #[arg(long, value_name = "COUNT")]
    max_hamt_fanout: Option<usize>,
    #[command(flatten)]
    layout: LayoutArgs,
    #[command(flatten)]
    attributes: AttributeArgs,
    /// Take files that begin with a dot.
    #[arg(long, short = 'H')]
    hidden: bool,
    /// Take empty folders.
    #[arg(long, short = 'E', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    empty_dirs: bool,
    /// Leave out what matches this pattern, as in .gitignore.
    #[arg(long, value_name = "PATTERN")]
    ignore: Vec<String>,
    /// Leave out what matches a pattern of this file.
    #[arg(long, value_name = "FILE")]
    ignore_rules_path: Option<PathBuf>,
    /// Add what a named link points to, not the link.
    #[arg(long)]
    dereference_args: bool,
    /// Name for what comes from standard input.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    stdin_name: String,
}

/// How content becomes nodes, where that is not the usual way.
#[derive(Debug, clap::Args)]
struct LayoutArgs {
    /// Lay files out for reading from their start.
    #[arg(long, short = 't', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    trickle: Option<bool>,
    /// Put small blocks into their CIDs.
    #[arg(long)]
    inline: bool,
    /// Length up to which blocks are put into their CIDs, in bytes, at most 128.
    #[arg(long, value_name = "BYTES", default_value_t = 32)]
    inline_limit: usize,
    /// Refused: content is always copied into the store.
    #[arg(long, hide = true)]
    nocopy: bool,
    /// Refused: content is always copied into the store.
    #[arg(long, hide = true)]
    fscache: bool,
}

/// What is kept of mode and time; it takes wrapped leaves with it.
#[derive(Debug, clap::Args)]
struct AttributeArgs {
    /// Keep the permissions of files and folders.
    #[arg(long)]
    preserve_mode: bool,
    /// Keep the times of files, folders and links.
    #[arg(long)]
    preserve_mtime: bool,
    /// Permissions for all of them, as 0644.
    #[arg(long, value_name = "MODE")]
    mode: Option<FileMode>,
    /// Time for all of them, in seconds since 1970.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    mtime: Option<i64>,
    /// Nanoseconds beyond that time.
    #[arg(long, value_name = "NANOSECONDS")]
    mtime_nsecs: Option<u32>,
}

impl Args {
    fn command(&self) -> Add {
        Add {
            progress: true,
            only_hash: self.only_hash,
            wrap: self.wrap_with_directory,
            pin: self.pin,
            pin_name: self.pin_name.clone(),
            cid_version: self.cid_version,
            hash: self.hash.clone(),
            raw_leaves: self.raw_leaves,
            chunker: self.chunker.clone(),
            max_file_links: self.max_file_links,
            max_directory_links: self.max_directory_links,
            max_hamt_fanout: self.max_hamt_fanout,
            layout: LayoutOptions {
                trickle: self.layout.trickle,
                inline: self.layout.inline,
                inline_limit: Some(self.layout.inline_limit),
            },
            attributes: AttributeOptions {
                preserve_mode: self.attributes.preserve_mode,
                preserve_mtime: self.attributes.preserve_mtime,
                mode: self.attributes.mode,
                mtime: self.attributes.mtime,
                mtime_nsecs: self.attributes.mtime_nsecs,
            },
            files: None,
        }
    }
}

pub(super) async fn run(args: Args, session: &Session) -> Result<()> {
    if args.layout.nocopy || args.layout.fscache {
        bail!(
            "there is no filestore: content is always copied into the store, so that it outlives the files that it came from"
        );
    }
    let mut command = args.command();
    let from_input = args.paths.is_empty() || args.paths == [PathBuf::from("-")];
    let bar = terminal::progress(args.progress, None);
    if from_input {
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            eprintln!("cairn: reading from standard input; end it with Ctrl-D");
        }
        command.files = Some(walk::standard_input(args.stdin_name.clone()));
    } else {
        let options = WalkOptions {
            recursive: args.recursive,
            hidden: args.hidden,
            empty_folders: args.empty_dirs,
            dereference_args: args.dereference_args,
            attributes: args.attributes.preserve_mode || args.attributes.preserve_mtime,
            ignore: walk::ignore_rules(&args.ignore, args.ignore_rules_path.as_deref())?,
        };
        if !bar.is_hidden() {
            let (bar, paths, options) = (bar.clone(), args.paths.clone(), options.clone());
            tokio::task::spawn_blocking(move || {
                terminal::set_total(&bar, walk::total_bytes(&paths, &options))
            });
        }
        command.files = Some(walk::walk(args.paths.clone(), options));
    }
    command.progress = !bar.is_hidden() || session.encoding() == Encoding::Json;
    let result = show(command, &args, session, &bar).await;
    bar.finish_and_clear();
    result
}

async fn show(command: Add, args: &Args, session: &Session, bar: &ProgressBar) -> Result<()> {
    let mut bytes = BytesRead::default();
    let mut last = None;
    if args.quieter && session.encoding() == Encoding::Text {
        let mut events = session.run(command);
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| session.explain(error))?;
            bytes.show(&event, bar);
            last = Some(event.hash).filter(|hash| !hash.is_empty()).or(last);
        }
        return match last {
            Some(hash) => Ok(terminal::print_line(&hash)?),
            None => bail!("nothing was added"),
        };
    }
    session
        .print(command, |out, event| {
            bytes.show(&event, bar);
            if event.hash.is_empty() || args.silent {
                return Ok(());
            }
            bar.suspend(|| {
                if args.quiet {
                    super::line!(out, "{}", event.hash)
                } else {
                    super::line!(out, "added {} {}", event.hash, terminal::escape(&event.name))
                }
            })
        })
        .await
}

/// Bytes read of all files together, from what is told of each.
#[derive(Default)]
struct BytesRead {
    done: u64,
    name: String,
    current: u64,
}

impl BytesRead {
    fn show(&mut self, event: &Added, bar: &ProgressBar) {
        let Some(bytes) = event.bytes else { return };
        if event.name != self.name {
            self.done += self.current;
            self.name.clone_from(&event.name);
        }
        self.current = bytes;
        bar.set_position(self.done + self.current);
    }
}
