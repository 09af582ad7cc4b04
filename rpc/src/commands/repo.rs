//! `repo stat`, `repo gc`.

use std::sync::Mutex;

use cairn_proto::cid::Cid;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::CidLink;
use super::version::REPO_VERSION;
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::Result;

/// Tells how much is stored.
#[derive(Debug, Clone, Default)]
pub struct Stat {
    /// Sizes alone.
    pub size_only: bool,
    /// For people, with units.
    pub human: bool,
}

/// How much is stored. Source: Kubo `core/corerepo/stat.go`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RepoStat {
    /// Bytes of all blocks.
    pub repo_size: u64,
    /// Most bytes; the largest number when there is no such limit.
    pub storage_max: u64,
    /// Blocks.
    pub num_objects: u64,
    /// Folder of the repo.
    pub repo_path: String,
    /// Format of the repo.
    pub version: String,
}

impl JsonEvent for RepoStat {}

impl Command for Stat {
    const PATH: &'static str = "repo/stat";
    type Event = RepoStat;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("size-only", "s", &mut self.size_only)?;
        binder.option("human", "H", &mut self.human)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<RepoStat>) -> Result<()> {
        let node = context.node().await?;
        let stat = node.store().stat();
        let sizes = RepoStat {
            repo_size: stat.block_bytes,
            storage_max: node.settings().store.max_bytes.unwrap_or(u64::MAX),
            num_objects: 0,
            repo_path: String::new(),
            version: String::new(),
        };
        if self.size_only {
            return output.send(sizes).await;
        }
        let repo_path = context.repo.path().display().to_string();
        let version = format!("fs-repo@{REPO_VERSION}");
        output.send(RepoStat { num_objects: stat.block_count, repo_path, version, ..sizes }).await
    }
}

/// Removes what nothing keeps.
#[derive(Debug, Clone, Default)]
pub struct Gc {
    /// Say nothing of what was removed.
    pub silent: bool,
    /// Tell CIDs only; for people.
    pub quiet: bool,
}

/// A block that was removed. Source: Kubo `core/commands/repo.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Collected {
    /// CID.
    pub key: Option<CidLink>,
    /// Why something was not removed; empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl JsonEvent for Collected {}

impl Command for Gc {
    const PATH: &'static str = "repo/gc";
    type Event = Collected;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("silent", "", &mut self.silent)?;
        binder.option("quiet", "q", &mut self.quiet)
    }

    async fn run(self, context: Context, output: Output<Collected>) -> Result<()> {
        // The collection tells what it removed from inside its work, which cannot wait. What it told is handed on before
        // it goes on: it works in small steps, so this stays small.
        let (removed, told) = (Mutex::new(Vec::new()), Notify::new());
        let take = || std::mem::take(&mut *removed.lock().expect("no holder of this lock panics"));
        let hand_on = async |cids: Vec<Cid>| {
            for cid in cids {
                output
                    .send(Collected { key: Some(CidLink::new(context.text(&cid))), error: String::new() })
                    .await?;
            }
            Ok::<_, crate::Error>(())
        };
        let node = context.node().await?;
        let mut collection = std::pin::pin!(node.collect(|cid| {
            if !self.silent {
                removed.lock().expect("no holder of this lock panics").push(cid);
                told.notify_one();
            }
        }));
        loop {
            tokio::select! {
                biased;
                () = told.notified() => hand_on(take()).await?,
                report = &mut collection => {
                    report?;
                    return hand_on(take()).await;
                }
            }
        }
    }
}
