//! `cairn pin`.

use anyhow::Result;
use cairn_node::settings::units::format_size;
use cairn_rpc::commands::pin::{Add, Ls, PinList, PinProgress, Rm, Update, Verify};
use futures::StreamExt as _;

use crate::args::Encoding;
use crate::session::Session;
use crate::terminal::{self, escape, print_line};

/// Keeps content, or lets it go.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Pin {
    /// Fetch content and keep it.
    Add(AddArgs),
    /// Let content go; the next collection removes what nothing else keeps.
    Rm(RmArgs),
    /// List what is kept: CID, type, name.
    Ls(LsArgs),
    /// Keep content in place of other content; costs what they differ by.
    Update(UpdateArgs),
    /// Look for what is missing below recursive pins.
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct UpdateArgs {
    /// What is kept.
    from: String,
    /// What shall be kept.
    to: String,
    /// Let the old pin go.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    unpin: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Print whole pins too.
    #[arg(long)]
    verbose: bool,
    /// Print CIDs of broken pins only.
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Paths, as CID/name.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Keep everything below, not the block alone.
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    recursive: bool,
    /// Name of the pin.
    #[arg(long, short, value_name = "NAME")]
    name: Option<String>,
    /// Return at once; the daemon fetches it, and tries again until it has it. `pin ls --status` tells how far it is, `pin rm`
    /// gives it up.
    #[arg(long)]
    background: bool,
    /// Show progress; by default on a terminal.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    progress: Option<bool>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Paths, as CID/name.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Let recursive pins go too.
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    recursive: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Paths to look up; all pins are listed without one.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// all, recursive, direct or indirect.
    #[arg(long = "type", short = 't', value_name = "TYPE", default_value = "all")]
    kind: String,
    /// Print CIDs only.
    #[arg(long, short)]
    quiet: bool,
    /// Only pins with this in their names.
    #[arg(long, short, value_name = "TEXT")]
    name: Option<String>,
    /// Print pins as they come. They always come one by one as text.
    #[arg(long, short)]
    stream: bool,
    /// Print names.
    #[arg(long)]
    names: bool,
    /// Print the pins that are fetched in the background, and how far they are.
    #[arg(long)]
    status: bool,
}

pub(super) async fn run(command: Pin, session: &Session) -> Result<()> {
    match command {
        Pin::Add(args) => add(args, session).await,
        Pin::Rm(args) => {
            let command = Rm { paths: args.paths, recursive: args.recursive };
            session
                .print(command, |out, event| {
                    event.pins.iter().try_for_each(|cid| super::line!(out, "unpinned {cid}"))
                })
                .await
        }
        Pin::Ls(args) => ls(args, session).await,
        Pin::Update(args) => {
            let command = Update { from: args.from, to: args.to, unpin: args.unpin };
            session
                .print(command, |out, event| match &event.pins[..] {
                    [from, to] => super::line!(out, "updated {from} to {to}"),
                    _ => anyhow::bail!("the daemon's answer has no two CIDs"),
                })
                .await
        }
        Pin::Verify(args) => verify(&args, session).await,
    }
}

async fn add(args: AddArgs, session: &Session) -> Result<()> {
    let bar = terminal::progress(args.progress, None);
    let progress = !bar.is_hidden() || args.progress == Some(true);
    let command = Add {
        paths: args.paths,
        recursive: args.recursive,
        name: args.name,
        progress,
        background: args.background,
    };
    let done = if args.background { "queued" } else { "pinned" };
    let how = if args.recursive { "recursively" } else { "directly" };
    if session.encoding() == Encoding::Json {
        return session.print(command, |_, _| Ok(())).await;
    }
    let mut events = session.run(command);
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| session.explain(error))?;
        if let (Some(_), Some(bytes)) = (event.progress, event.bytes) {
            bar.set_position(bytes);
        }
        for cid in event.pins {
            bar.finish_and_clear();
            print_line(&format!("{done} {cid} {how}"))?;
        }
    }
    Ok(())
}

async fn ls(args: LsArgs, session: &Session) -> Result<()> {
    let stream = args.stream || session.encoding() == Encoding::Text;
    let quiet = args.quiet;
    let command = Ls {
        paths: args.paths,
        kind: args.kind,
        quiet,
        name: args.name,
        stream,
        names: args.names,
        status: args.status,
    };
    session
        .print(command, |out, pin| {
            if quiet {
                super::line!(out, "{}", pin.cid)
            } else if let Some(progress) = &pin.progress {
                text_of_progress(out, &pin, progress)
            } else if pin.name.is_empty() {
                super::line!(out, "{} {}", pin.cid, pin.kind)
            } else {
                super::line!(out, "{} {} {}", pin.cid, pin.kind, escape(&pin.name))
            }
        })
        .await
}

fn text_of_progress(out: &mut String, pin: &PinList, progress: &PinProgress) -> Result<()> {
    let PinProgress { status, blocks, failures, .. } = progress;
    let mut line = format!("{} {} {status}", pin.cid, pin.kind);
    if *blocks > 0 {
        line += &format!(", {blocks} blocks, {}", format_size(progress.bytes));
    }
    if status == "pinning" {
        line += &format!(", {} peers asked, {} providers", progress.peers_asked, progress.providers_found);
    }
    if *failures > 0 {
        line += &format!(", {failures} failures, the last: {}", escape(&progress.error));
    }
    if !pin.name.is_empty() {
        line += &format!(", {}", escape(&pin.name));
    }
    super::line!(out, "{line}")
}

async fn verify(args: &VerifyArgs, session: &Session) -> Result<()> {
    session
        .print(Verify { verbose: args.verbose, quiet: args.quiet }, |out, pin| {
            if args.quiet {
                return super::line!(out, "{}", pin.cid);
            }
            super::line!(out, "{} {}", pin.cid, if pin.ok { "ok" } else { "broken" })?;
            pin.bad_nodes.iter().try_for_each(|bad| super::line!(out, "  {}: {}", bad.cid, bad.err))
        })
        .await
}
