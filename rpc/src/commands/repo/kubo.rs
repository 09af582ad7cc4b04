//! `repo import-kubo`.

use std::path::Path;

use cairn_node::kubo::{KuboEvent, KuboReport};
use cairn_node::settings::config::{Config, FILE_NAME};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Events of an import that wait for their reader.
const EVENT_QUEUE: usize = 64;

/// Takes over the repo of a Kubo node. Kubo has no such command.
#[derive(Debug, Clone, Default)]
pub struct ImportKubo {
    /// Folder of Kubo's repo.
    pub path: String,
    /// Take over the identity too.
    pub identity: bool,
}

/// A message, or how far the import is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Imported {
    /// What was found; empty in an event of progress.
    pub msg: String,
    /// Whether the message tells of something that was not taken over.
    pub is_failure: bool,
    /// Blocks that are here by now.
    pub blocks: u64,
    /// Bytes that were stored.
    pub bytes: u64,
    /// Folders of blocks that are done.
    pub folders_done: u64,
    /// Folders of blocks.
    pub folders: u64,
}

impl JsonEvent for Imported {}

impl Command for ImportKubo {
    const PATH: &'static str = "repo/import-kubo";
    type Event = Imported;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("path", &mut self.path)?;
        binder.option("identity", "", &mut self.identity)
    }

    async fn run(self, context: Context, output: Output<Imported>) -> Result<()> {
        if context.repo.as_daemon().is_some() {
            return Err(Error::client("a daemon has the store open: stop it with `cairn shutdown` first"));
        }
        let node = context.node().await?;
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        let tell = async {
            while let Some(event) = events.recv().await {
                output.send(told(&context, event, self.identity)).await?;
            }
            Ok::<_, Error>(())
        };
        let import = async { Ok(node.import_kubo(Path::new(&self.path), sender).await?) };
        let (report, ()) = futures::try_join!(import, tell)?;
        if self.identity {
            adopt_identity(Path::new(&self.path), context.repo.path())?;
        }
        output.send(message(summary(&report), false)).await?;
        match report.bad_block_count + report.bad_pin_count + report.bad_key_count {
            0 => Ok(()),
            count => {
                Err(Error::new(format!("{count} things were not taken over; a new import tries them again")))
            }
        }
    }
}

fn adopt_identity(kubo: &Path, repo: &Path) -> Result<()> {
    let unreadable = |error: std::io::Error| Error::new(format!("cannot read Kubo's configuration: {error}"));
    let config = std::fs::read_to_string(kubo.join(FILE_NAME)).map_err(unreadable)?;
    let config = Config::parse(&config)?;
    Ok(Config::edit(repo, |ours| ours.adopt_identity(&config))?)
}

fn message(msg: String, is_failure: bool) -> Imported {
    Imported { msg, is_failure, ..Imported::default() }
}

fn told(context: &Context, event: KuboEvent, takes_identity: bool) -> Imported {
    match event {
        KuboEvent::Progress(report) => Imported {
            blocks: report.block_count,
            bytes: report.stored_bytes,
            folders_done: report.folders_done,
            folders: report.folder_count,
            ..Imported::default()
        },
        KuboEvent::BadBlock { file, reason } => message(format!("block {file}: {reason}"), true),
        KuboEvent::BadPin { cid, reason } => message(format!("pin {}: {reason}", context.text(&cid)), true),
        KuboEvent::BadKey { file, reason } => message(format!("key {file}: {reason}"), true),
        KuboEvent::Key { name, peer_id } => {
            message(format!("copied key {name} ({peer_id}), which cannot publish yet"), false)
        }
        KuboEvent::Files { cid, name } => {
            let cid = context.text(&cid);
            message(format!("pinned the root of Kubo's files as {name}: {cid}"), false)
        }
        KuboEvent::Identity { peer_id } if takes_identity => message(
            format!("took over the identity {peer_id}: never run Kubo with it at the same time"),
            false,
        ),
        KuboEvent::Identity { peer_id } => {
            message(format!("the identity {peer_id} stays with Kubo; --identity takes it over"), false)
        }
    }
}

fn summary(report: &KuboReport) -> String {
    let KuboReport { block_count, stored_bytes, pin_count, key_count, .. } = report;
    format!("imported {block_count} blocks ({stored_bytes} bytes new), {pin_count} pins and {key_count} keys")
}
