//! `repo stat`, `repo gc`, `repo ls`, `repo verify`, `repo salvage`, `repo backup`; `repo import-kubo` in `kubo`.

mod kubo;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use cairn_node::builder::STORE_DIR;
use cairn_node::repair::{self, VerifyEvent, VerifyOptions};
use cairn_node::settings::units::parse_duration;
use cairn_node::store::StoreStat;
use cairn_proto::cid::Cid;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

pub use kubo::{ImportKubo, Imported};

use super::CidLink;
use super::refs::{Local, Ref};
use super::version::REPO_VERSION;
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

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

/// Lists every block; the same as `refs local`.
#[derive(Debug, Clone, Default)]
pub struct Ls;

impl Command for Ls {
    const PATH: &'static str = "repo/ls";
    type Event = Ref;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    async fn run(self, context: Context, output: Output<Ref>) -> Result<()> {
        Local.run(context, output).await
    }
}

/// Events of a verification that wait for their reader.
const EVENT_QUEUE: usize = 64;

/// How long the search for one damaged block goes on. Source: `ipfs repo verify --help` of Kubo 0.43.
const HEAL_TIMEOUT: &str = "30s";

/// Hashes every block again.
#[derive(Debug, Clone)]
pub struct Verify {
    /// Count damaged blocks as dealt with: they are set aside in any case.
    pub drop: bool,
    /// Fetch damaged blocks from peers.
    pub heal: bool,
    /// Longest wait for each of them.
    pub heal_timeout: String,
    /// Most bytes a second; 0 for as fast as it goes.
    pub max_bytes_per_second: u64,
    /// Begin anew, even if the last verification was cut short.
    pub restart: bool,
}

impl Default for Verify {
    fn default() -> Self {
        let heal_timeout = HEAL_TIMEOUT.to_owned();
        Self { drop: false, heal: false, heal_timeout, max_bytes_per_second: 0, restart: false }
    }
}

/// A message, or how many blocks were looked at. Source: Kubo `core/commands/repo.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Verified {
    /// What was found.
    pub msg: String,
    /// Blocks so far.
    pub progress: u64,
}

impl JsonEvent for Verified {}

impl Command for Verify {
    const PATH: &'static str = "repo/verify";
    type Event = Verified;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("drop", "", &mut self.drop)?;
        binder.option("heal", "", &mut self.heal)?;
        binder.option("heal-timeout", "", &mut self.heal_timeout)?;
        binder.option("max-bytes-per-second", "", &mut self.max_bytes_per_second)?;
        binder.option("restart", "", &mut self.restart)
    }

    async fn run(self, context: Context, output: Output<Verified>) -> Result<()> {
        let heal_timeout: Duration = parse_duration(&self.heal_timeout).map_err(Error::client)?;
        let node = context.node().await?;
        if self.heal && (node.exchange().is_none() || context.options.offline) {
            return Err(Error::client("damaged blocks come from peers: start `cairn daemon` to heal them"));
        }
        let options = VerifyOptions {
            heal: self.heal.then_some(heal_timeout),
            max_bytes_per_second: Some(self.max_bytes_per_second).filter(|rate| *rate > 0),
            restart: self.restart,
        };
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        let tell = async {
            while let Some(event) = events.recv().await {
                output.send(told(&context, event)).await?;
            }
            Ok::<_, Error>(())
        };
        let verification = async { Ok(node.verify(options, sender).await?) };
        let (report, ()) = futures::try_join!(verification, tell)?;
        let left = report.damaged_count - report.healed_count;
        if left > 0 && (self.heal || !self.drop) {
            let blocks = report.block_count;
            return Err(Error::new(format!(
                "verify complete, {left} of {blocks} blocks are damaged and missing"
            )));
        }
        let msg = match report.damaged_count {
            0 => "verify complete, all blocks validated.".to_owned(),
            count if self.heal => format!("verify complete, {count} damaged blocks were fetched again."),
            count => format!("verify complete, {count} damaged blocks were set aside."),
        };
        output.send(Verified { msg, progress: 0 }).await
    }
}

fn told(context: &Context, event: VerifyEvent) -> Verified {
    match event {
        VerifyEvent::Progress(report) => Verified { msg: String::new(), progress: report.block_count },
        VerifyEvent::Damaged { cid, healed } => {
            let fate = match healed {
                Ok(true) => "healed".to_owned(),
                Ok(false) => "set aside".to_owned(),
                Err(reason) => format!("not healed: {reason}"),
            };
            Verified { msg: format!("block {} was corrupt, {fate}", context.text(&cid)), progress: 0 }
        }
    }
}

/// Makes the store anew from what is whole in a damaged one.
#[derive(Debug, Clone, Default)]
pub struct Salvage;

/// What a salvage brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Salvaged {
    /// Blocks in the new store.
    pub num_objects: u64,
    /// Their bytes.
    pub repo_size: u64,
    /// Pins in the new store.
    pub num_pins: u64,
    /// Pins that could not be made again.
    pub lost_pins: Vec<LostPin>,
    /// Where the damaged store is.
    pub damaged: String,
}

impl JsonEvent for Salvaged {}

/// A pin that could not be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LostPin {
    /// CID.
    pub cid: String,
    /// Name.
    pub name: String,
    /// What is missing.
    pub reason: String,
}

impl Command for Salvage {
    const PATH: &'static str = "repo/salvage";
    type Event = Salvaged;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Salvaged>) -> Result<()> {
        if context.repo.as_daemon().is_some() {
            return Err(Error::client("a daemon has the store open: stop it with `cairn shutdown` first"));
        }
        let settings = context.repo.config().to_settings(context.repo.path())?;
        let report = repair::salvage(&context.repo.path().join(STORE_DIR), &settings.store).await?;
        let lost = |pin: repair::LostPin| LostPin {
            cid: context.text(&pin.cid),
            name: pin.name.unwrap_or_default(),
            reason: pin.reason,
        };
        let salvaged = Salvaged {
            num_objects: report.stat.block_count,
            repo_size: report.stat.block_bytes,
            num_pins: report.stat.pin_count,
            lost_pins: report.lost_pins.into_iter().map(lost).collect(),
            damaged: report.damaged.display().to_string(),
        };
        output.send(salvaged).await
    }
}

/// Copies the repo of a running node.
#[derive(Debug, Clone, Default)]
pub struct Backup {
    /// Folder for it, on the machine of the node; it does not exist yet.
    pub path: String,
}

/// What is in a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Copied {
    /// Blocks.
    pub num_objects: u64,
    /// Their bytes.
    pub repo_size: u64,
    /// Pins.
    pub num_pins: u64,
}

impl JsonEvent for Copied {}

impl From<StoreStat> for Copied {
    fn from(stat: StoreStat) -> Self {
        Self { num_objects: stat.block_count, repo_size: stat.block_bytes, num_pins: stat.pin_count }
    }
}

impl Command for Backup {
    const PATH: &'static str = "repo/backup";
    type Event = Copied;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("path", &mut self.path)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Copied>) -> Result<()> {
        let target = Path::new(&self.path);
        if !target.is_absolute() {
            return Err(Error::client(
                "the node may run in another folder: give the whole path of the backup",
            ));
        }
        let store = context.node().await?.store();
        output.send(repair::backup(store, context.repo.path(), target).await?.into()).await
    }
}
