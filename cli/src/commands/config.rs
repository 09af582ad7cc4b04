//! `cairn config`.

use std::path::PathBuf;
use std::process::Command as Process;

use anyhow::{Context as _, Result, bail, ensure};
use cairn_node::settings::config::{Config as Document, FILE_NAME};
use cairn_rpc::commands::config::{Applied, ApplyProfile, Config, Reload, Replace, Show};
use futures::TryStreamExt as _;
use serde_json::Value;

use crate::args::Global;
use crate::session::Session;
use crate::terminal::{escape, print_line};
use crate::{environment, walk};

/// Shows or changes the configuration.
///
/// A running daemon takes most changes at its next start, and those of its gateway's limits and hosts with `config reload`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    below: Option<Below>,
    /// Dotted key, as Swarm.ConnMgr.HighWater.
    #[arg(required = true, value_name = "KEY")]
    key: Option<String>,
    /// Value to set; the key is shown without one.
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: Option<String>,
    /// The value is JSON.
    #[arg(long)]
    json: bool,
    /// The value is true or false.
    #[arg(long)]
    bool: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Below {
    /// Print the configuration without its secrets.
    Show,
    /// Open the configuration in $EDITOR.
    Edit,
    /// Replace the configuration, but not the identity, by a file.
    Replace {
        /// File with the configuration.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Let the running daemon read its configuration again. What waits for its next start is named.
    Reload,
    /// Change several keys together.
    #[command(subcommand)]
    Profile(Profile),
}

#[derive(Debug, clap::Subcommand)]
enum Profile {
    /// Apply a profile: server, local-discovery, test, default-networking, randomports, lowpower, unixfs-v1-2025 (the default) or unixfs-v0-2015.
    Apply {
        /// Name.
        #[arg(value_name = "PROFILE")]
        name: String,
        /// Print what would change only.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    if let Some(Below::Edit) = args.below {
        return edit(global);
    }
    let session = Session::open(global).await?;
    let result = run_in(args, &session).await;
    let closed = session.close().await;
    result.and(closed)
}

async fn run_in(args: Args, session: &Session) -> Result<()> {
    match args.below {
        None => {
            let set = args.value.is_some();
            let key = args.key.context("the key is missing")?;
            let command = Config { key, value: args.value, json: args.json, bool: args.bool };
            session.print(command, |out, field| if set { Ok(()) } else { value(out, &field.value) }).await
        }
        Some(Below::Show) => session.print(Show, |out, shown| value(out, &shown.0)).await,
        Some(Below::Reload) => {
            let waiting = |out: &mut String, key: &String| super::line!(out, "at the next start: {key}");
            session
                .print(Reload, |out, reloaded| reloaded.waiting.iter().try_for_each(|key| waiting(out, key)))
                .await
        }
        Some(Below::Replace { file }) => {
            ensure!(file.exists(), "there is no file {}", file.display());
            let mut events = session.run(Replace { files: Some(walk::files(vec![file])) });
            while events.try_next().await.map_err(|error| session.explain(error))?.is_some() {}
            Ok(())
        }
        Some(Below::Profile(Profile::Apply { name, dry_run })) => {
            session
                .print(ApplyProfile { profile: name, dry_run }, |out, applied| difference(out, &applied))
                .await
        }
        Some(Below::Edit) => unreachable!("editing needs no session"),
    }
}

/// A text as it is, anything else as JSON.
fn value(out: &mut String, value: &Value) -> Result<()> {
    match value {
        Value::String(text) => super::line!(out, "{}", escape(text)),
        other => super::line!(out, "{}", serde_json::to_string_pretty(other)?),
    }
}

/// The keys that differ: before and after.
fn difference(out: &mut String, applied: &Applied) -> Result<()> {
    let mut lines = Vec::new();
    compare("", Some(&applied.old_cfg), Some(&applied.new_cfg), &mut lines);
    lines.iter().try_for_each(|line| super::line!(out, "{line}"))
}

fn compare(key: &str, old: Option<&Value>, new: Option<&Value>, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        for name in names {
            let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            compare(&below, old.get(name), new.get(name), lines);
        }
        return;
    }
    lines.extend(old.map(|old| format!("- {key}: {old}")));
    lines.extend(new.map(|new| format!("+ {key}: {new}")));
}

/// Lets the user's editor work on a copy, which replaces the file only when it is valid.
fn edit(global: &Global) -> Result<()> {
    let repo = environment::repo_path(global)?;
    let before = Document::load(&repo)?;
    let editor =
        ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
    let editor = editor.context("no editor is set; set EDITOR")?;
    let copy = tempfile::Builder::new().prefix(FILE_NAME).suffix(".json").tempfile_in(&repo)?;
    std::fs::write(copy.path(), format!("{before}\n"))?;
    // The editor may come with options of its own, as "code --wait".
    let status = Process::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(copy.path()).status();
    if !status.with_context(|| format!("cannot run {editor}"))?.success() {
        bail!("the editor failed; the configuration is unchanged");
    }
    let after = Document::parse(&std::fs::read_to_string(copy.path())?)?;
    Document::edit(&repo, |document| {
        if *document != before {
            return Err(cairn_node::Error::invalid("the configuration was changed meanwhile; edit it again"));
        }
        *document = after;
        Ok(())
    })?;
    Ok(print_line("configuration saved")?)
}
