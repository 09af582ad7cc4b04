//! Where a command runs: a daemon if there is one, otherwise this process on the repo itself.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cairn_node::settings::config::Config;
use cairn_node::settings::config::http::authorization_header;
use cairn_rpc::client::Client;
use cairn_rpc::command::JsonEvent;
use cairn_rpc::context::CallOptions;
use cairn_rpc::{CidEncoder, Command, Context, Events, Piece, Repo};
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;

use crate::args::{Encoding, Global};
use crate::{environment, terminal, waiting};

/// Name of the file in a repo that says where its daemon listens.
pub(crate) const API_FILE: &str = "api";

/// Events that are turned into text before the text is written.
const EVENTS_AT_ONCE: usize = 256;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    target: Target,
    options: CallOptions,
    encoding: Encoding,
}

#[derive(Debug)]
enum Target {
    Daemon(Client),
    Local(Arc<Repo>),
}

impl Session {
    /// Finds the daemon or the repo.
    pub(crate) async fn open(global: &Global) -> Result<Self> {
        let options = CallOptions {
            offline: global.offline,
            timeout: global.timeout,
            cids: CidEncoder::new(global.cid_base.as_deref(), global.upgrade_cidv0_in_output)?,
        };
        let target = target(global).await?;
        Ok(Self { target, options, encoding: global.enc })
    }

    /// Whether the commands run in this process.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.target, Target::Local(_))
    }

    /// The form that the user asked for.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Runs a command.
    pub(crate) fn run<C: Command>(&self, command: C) -> Events<C::Event> {
        match &self.target {
            Target::Daemon(client) => client.run(command, self.options.clone()),
            Target::Local(repo) => {
                let context = Context { repo: Arc::clone(repo), options: self.options.clone() };
                cairn_rpc::run(command, context)
            }
        }
    }

    /// Runs a command and prints each event: as JSON if asked for, otherwise what `text` writes.
    pub(crate) async fn print<C>(
        &self,
        command: C,
        mut text: impl FnMut(&mut String, C::Event) -> Result<()>,
    ) -> Result<()>
    where
        C: Command,
        C::Event: JsonEvent,
    {
        let mut batches = self.run(command).ready_chunks(EVENTS_AT_ONCE);
        while let Some(batch) = batches.next().await {
            let (mut lines, mut failure) = (String::new(), None);
            for event in batch {
                match event {
                    Ok(event) if self.encoding == Encoding::Json => {
                        lines.push_str(&serde_json::to_string(&event)?);
                        lines.push('\n');
                    }
                    Ok(event) => text(&mut lines, event)?,
                    Err(error) => failure = Some(error),
                }
            }
            let mut out = std::io::stdout().lock();
            out.write_all(lines.as_bytes())?;
            out.flush()?;
            if let Some(error) = failure {
                return Err(self.explain(error));
            }
        }
        Ok(())
    }

    /// Runs a command that yields one event.
    pub(crate) async fn one<C: Command>(&self, command: C) -> Result<C::Event> {
        let event = self.run(command).try_next().await.map_err(|error| self.explain(error))?;
        event.context("the command gave no answer")
    }

    /// Passes on what a command yields; while nothing comes, says on `bar`, if that is seen, what the daemon waits for.
    pub(crate) fn explain_waiting(&self, pieces: Events<Piece>, bar: &ProgressBar) -> Events<Piece> {
        match &self.target {
            Target::Daemon(client) if !bar.is_hidden() => {
                waiting::explained(pieces, client.clone(), self.options.clone(), bar.clone())
            }
            Target::Daemon(_) | Target::Local(_) => pieces,
        }
    }

    /// Runs a command that yields bytes and writes them to standard output.
    pub(crate) async fn write<C: Command<Event = Piece>>(
        &self,
        command: C,
        progress: Option<bool>,
    ) -> Result<()> {
        let bar = terminal::progress(progress, None);
        let mut pieces = self.explain_waiting(self.run(command), &bar);
        let mut out = terminal::stdout();
        while let Some(piece) = pieces.next().await {
            match piece.map_err(|error| self.explain(error))? {
                Piece::Length(length) => terminal::set_total(&bar, length),
                Piece::Bytes(bytes) => {
                    out.write_all(&bytes)?;
                    bar.inc(bytes.len() as u64);
                }
            }
        }
        bar.finish_and_clear();
        Ok(out.flush()?)
    }

    /// An error with what to do about it.
    pub(crate) fn explain(&self, error: cairn_rpc::Error) -> anyhow::Error {
        if self.is_local() && error.is_not_local() {
            return anyhow::anyhow!("{error}; start `cairn daemon` to fetch it from peers");
        }
        error.into()
    }

    /// Closes what was opened.
    pub(crate) async fn close(self) -> Result<()> {
        if let Target::Local(repo) = &self.target {
            repo.close().await?;
        }
        Ok(())
    }
}

async fn target(global: &Global) -> Result<Target> {
    let authorization = global.api_auth.as_deref().map(authorization_header).transpose();
    let authorization = authorization.map_err(|error| anyhow::anyhow!("--api-auth: {error}"))?;
    if let Some(address) = &global.api {
        let client = Client::new(address, authorization.as_deref())?;
        if !client.is_up().await {
            bail!("no daemon answers at {address}");
        }
        return Ok(Target::Daemon(client));
    }
    let path = environment::repo_path(global)?;
    if let Some(client) = daemon_of(&path, authorization.as_deref()).await {
        return Ok(Target::Daemon(client));
    }
    Ok(Target::Local(Arc::new(open_repo(path)?)))
}

/// The daemon that the repo's file names, unless that file is left over from one that died.
pub(crate) async fn daemon_of(repo: &Path, authorization: Option<&str>) -> Option<Client> {
    let address = std::fs::read_to_string(repo.join(API_FILE)).ok()?;
    let client = Client::new(address.trim(), authorization).ok()?;
    client.is_up().await.then_some(client)
}

fn open_repo(path: PathBuf) -> Result<Repo> {
    let config = environment::overlay(&Config::load(&path)?)?;
    Ok(Repo::local(path, config))
}
