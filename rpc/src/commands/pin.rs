//! `pin add`, `pin rm`, `pin ls`, `pin update`, `pin verify`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_node::pin_queue::{PinStatus as QueueStatus, QueuedPin, WantedPin};
use cairn_node::pins::{Pin, PinCheck, PinFilter, PinKind, Pins as Kept};
use cairn_proto::cid::Cid;
use cairn_proto::path::ContentPath;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use super::bare_cid;
use crate::command::{Binder, Command, JsonEvent, Output, stream_of};
use crate::context::Context;
use crate::error::{Error, Result};

/// Pause between two events of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);

/// What was pinned or unpinned, or how far the fetching is. Source: Kubo `core/commands/pin/pin.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Pins {
    /// CIDs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// Blocks that are here so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<u64>,
    /// Bytes of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl JsonEvent for Pins {}

/// Fetches DAGs and keeps them.
#[derive(Debug, Clone)]
pub struct Add {
    /// What to pin.
    pub paths: Vec<String>,
    /// Everything below, not the block alone.
    pub recursive: bool,
    /// Name of the pins.
    pub name: Option<String>,
    /// Tell how far the fetching is.
    pub progress: bool,
    /// Return once the pins are in the queue that the daemon works off. Kubo has no such queue.
    pub background: bool,
}

impl Default for Add {
    fn default() -> Self {
        Self { paths: Vec::new(), recursive: true, name: None, progress: false, background: false }
    }
}

impl Command for Add {
    const PATH: &'static str = "pin/add";
    type Event = Pins;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("ipfs-path", 1, &mut self.paths)?;
        binder.option("recursive", "r", &mut self.recursive)?;
        binder.option("name", "n", &mut self.name)?;
        binder.option("progress", "", &mut self.progress)?;
        binder.option("background", "", &mut self.background)
    }

    fn is_stream(&self) -> bool {
        self.progress
    }

    async fn run(self, context: Context, output: Output<Pins>) -> Result<()> {
        let node = context.node().await?;
        let kind = if self.recursive { PinKind::Recursive } else { PinKind::Direct };
        let mut pins = Vec::new();
        for path in &self.paths {
            let path = ContentPath::parse(path)?;
            if self.background {
                pins.push(path_text(&context, &path));
                node.pin_queue().push(WantedPin { path, kind, name: self.name.clone() }).await?;
                continue;
            }
            let (mut told, mut last) = (Instant::now(), (0, 0));
            let on_progress = |blocks, bytes| {
                last = (blocks, bytes);
                if self.progress && told.elapsed() >= PROGRESS_PAUSE {
                    told = Instant::now();
                    output.show(so_far(last));
                }
            };
            let cid =
                node.pin_add(&path, kind, self.name.clone(), context.session_options(), on_progress).await?;
            if self.progress {
                output.send(so_far(last)).await?;
            }
            pins.push(context.text(&cid));
        }
        output.send(Pins { pins, ..Pins::default() }).await
    }
}

/// A path as the caller wants its CID; a bare CID is no path.
fn path_text(context: &Context, path: &ContentPath) -> String {
    bare_cid(path).map_or_else(|| path.to_string(), |cid| context.text(&cid))
}

fn so_far((blocks, bytes): (u64, u64)) -> Pins {
    Pins { pins: Vec::new(), progress: Some(blocks), bytes: Some(bytes) }
}

/// Lets DAGs go, and those that wait to be pinned.
#[derive(Debug, Clone)]
pub struct Rm {
    /// What to unpin.
    pub paths: Vec<String>,
    /// Unpin a recursive pin too, not only a direct one.
    pub recursive: bool,
}

impl Default for Rm {
    fn default() -> Self {
        Self { paths: Vec::new(), recursive: true }
    }
}

impl Command for Rm {
    const PATH: &'static str = "pin/rm";
    type Event = Pins;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("ipfs-path", 1, &mut self.paths)?;
        binder.option("recursive", "r", &mut self.recursive)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Pins>) -> Result<()> {
        let node = context.node().await?;
        let kept = node.pins().clone();
        let mut pins = Vec::new();
        for path in &self.paths {
            let parsed = ContentPath::parse(path)?;
            let was_queued = node.pin_queue().remove(&parsed).await?;
            if was_queued && bare_cid(&parsed).is_none() {
                pins.push(path_text(&context, &parsed));
                continue;
            }
            let cid = target(&context, path).await?;
            let pin = look_up(&kept, cid, Kept::get).await?;
            let kind = match pin.map(|pin| pin.kind) {
                None if was_queued => {
                    pins.push(context.text(&cid));
                    continue;
                }
                None => return Err(Error::new(format!("not pinned or pinned indirectly, cid={cid}"))),
                Some(PinKind::Recursive) if !self.recursive => {
                    return Err(Error::new(format!("{cid} is pinned recursively")));
                }
                Some(kind) => kind,
            };
            kept.unpin(cid, kind).await?;
            pins.push(context.text(&cid));
        }
        output.send(Pins { pins, ..Pins::default() }).await
    }
}

/// The CID at the end of a path; one that is given as such needs no look at its block.
async fn target(context: &Context, path: &str) -> Result<Cid> {
    let path = ContentPath::parse(path)?;
    match bare_cid(&path) {
        Some(cid) => Ok(cid),
        None => Ok(context.session().await?.resolve(&path).await?.cid),
    }
}

async fn look_up<T: Send + 'static>(
    pins: &Kept,
    cid: Cid,
    look: impl FnOnce(&Kept, &Cid) -> cairn_node::Result<T> + Send + 'static,
) -> Result<T> {
    let pins = pins.clone();
    let found = tokio::task::spawn_blocking(move || look(&pins, &cid)).await;
    Ok(found.map_err(|error| Error::new(format!("looking up a pin stopped: {error}")))??)
}

/// Lists what is kept.
#[derive(Debug, Clone)]
pub struct Ls {
    /// What to look up; everything is listed when empty.
    pub paths: Vec<String>,
    /// `all`, `recursive`, `direct` or `indirect`.
    pub kind: String,
    /// Tell CIDs only; for people, since JSON tells the type anyway.
    pub quiet: bool,
    /// Only pins with this in their names.
    pub name: Option<String>,
    /// One event for each pin.
    pub stream: bool,
    /// Tell names.
    pub names: bool,
    /// Tell of the pins that are being fetched in the background, and of no others.
    pub status: bool,
}

impl Default for Ls {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            kind: "all".to_owned(),
            quiet: false,
            name: None,
            stream: false,
            names: false,
            status: false,
        }
    }
}

/// One pin, or all of them. Source: Kubo `core/commands/pin/pin.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PinList {
    /// All of them by CID, when they do not come one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<BTreeMap<String, PinType>>,
    /// CID, when they come one by one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cid: String,
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What kind of pin it is.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// How far a pin of the background is.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub progress: Option<PinProgress>,
}

impl JsonEvent for PinList {}

/// How far a pin of the background is. Source of the states: the IPFS Pinning Service API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PinProgress {
    /// `queued`, `pinning` or `failed`.
    pub status: String,
    /// Blocks that are here so far.
    #[serde(default)]
    pub blocks: u64,
    /// Bytes of them.
    #[serde(default)]
    pub bytes: u64,
    /// Peers asked for blocks.
    #[serde(default)]
    pub peers_asked: u64,
    /// Providers found.
    #[serde(default)]
    pub providers_found: u64,
    /// Attempts that failed.
    #[serde(default)]
    pub failures: u32,
    /// Why the last of them did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// What kind of pin it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PinType {
    /// `recursive`, `direct`, `indirect`, or `indirect through` a CID.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Name.
    #[serde(default)]
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Only(PinKind),
    Indirect,
}

impl Command for Ls {
    const PATH: &'static str = "pin/ls";
    type Event = PinList;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("ipfs-path", 0, &mut self.paths)?;
        binder.option("type", "t", &mut self.kind)?;
        binder.option("quiet", "q", &mut self.quiet)?;
        binder.option("name", "n", &mut self.name)?;
        binder.option("stream", "s", &mut self.stream)?;
        binder.option("names", "", &mut self.names)?;
        binder.option("status", "", &mut self.status)
    }

    fn is_stream(&self) -> bool {
        self.stream || self.status
    }

    async fn run(mut self, context: Context, output: Output<PinList>) -> Result<()> {
        let wanted = match self.kind.as_str() {
            "all" => Wanted::All,
            "recursive" => Wanted::Only(PinKind::Recursive),
            "direct" => Wanted::Only(PinKind::Direct),
            "indirect" => Wanted::Indirect,
            other => {
                return Err(Error::client(format!(
                    "invalid type '{other}', must be one of {{direct, indirect, recursive, all}}"
                )));
            }
        };
        self.name = self.name.filter(|name| !name.is_empty());
        if self.status {
            return self.list_queued(&context, wanted, output).await;
        }
        if self.stream {
            return self.list(&context, wanted, output).await;
        }
        let mut keys = BTreeMap::new();
        let mut pins = std::pin::pin!(stream_of(|output| self.list(&context, wanted, output)));
        while let Some(PinList { cid, name, kind, .. }) = pins.try_next().await? {
            keys.insert(cid, PinType { kind, name });
        }
        output.send(PinList { keys: Some(keys), ..PinList::default() }).await
    }
}

impl Ls {
    async fn list(&self, context: &Context, wanted: Wanted, output: Output<PinList>) -> Result<()> {
        let kept = context.node().await?.pins().clone();
        if self.paths.is_empty() {
            self.list_all(context, wanted, kept, output).await
        } else {
            self.list_given(context, wanted, &kept, &output).await
        }
    }

    async fn list_queued(&self, context: &Context, wanted: Wanted, output: Output<PinList>) -> Result<()> {
        let paths: Vec<_> =
            self.paths.iter().map(|path| ContentPath::parse(path)).collect::<Result<_, _>>()?;
        for queued in context.node().await?.pin_queue().list() {
            let QueuedPin { pin, .. } = &queued;
            let name = pin.name.as_deref().unwrap_or_default();
            let fits = (paths.is_empty() || paths.contains(&pin.path))
                && (wanted == Wanted::All || wanted == Wanted::Only(pin.kind))
                && self.name.as_ref().is_none_or(|part| name.contains(part));
            if fits {
                output.send(queued_entry(context, &queued)).await?;
            }
        }
        Ok(())
    }

    async fn list_all(
        &self,
        context: &Context,
        wanted: Wanted,
        kept: Kept,
        output: Output<PinList>,
    ) -> Result<()> {
        let kind = if let Wanted::Only(kind) = wanted { Some(kind) } else { None };
        let filter = PinFilter { kind, name_part: self.name.clone() };
        let (named, context) = (self.names || self.name.is_some(), context.clone());
        let text = move |cid: &Cid| context.text(cid);
        // A block that is only kept by others has no name.
        let indirect = wanted != Wanted::Only(PinKind::Recursive) && kind.is_none() && self.name.is_none();
        output
            .send_blocking(move || {
                let pins = (wanted != Wanted::Indirect).then(|| kept.list(filter)).into_iter().flatten();
                let others = indirect.then(|| kept.list_indirect()).into_iter().flatten();
                let others_text = text.clone();
                let pins = pins.map(move |pin| pin.map(|pin| entry(text(&pin.cid), &pin, named)));
                let others = others.map(move |cid| {
                    let cid = others_text(&cid?);
                    Ok(PinList { cid, kind: "indirect".to_owned(), ..PinList::default() })
                });
                pins.chain(others).map(|event| event.map_err(Error::from))
            })
            .await
    }

    async fn list_given(
        &self,
        context: &Context,
        wanted: Wanted,
        kept: &Kept,
        output: &Output<PinList>,
    ) -> Result<()> {
        for path in &self.paths {
            let not_pinned = || Error::new(format!("path '{path}' is not pinned"));
            let cid = target(context, path).await?;
            let pin = look_up(kept, cid, Kept::get).await?;
            let pin = pin.filter(|pin| wanted == Wanted::All || wanted == Wanted::Only(pin.kind));
            let event = match pin {
                Some(pin) => entry(context.text(&cid), &pin, self.names),
                None if matches!(wanted, Wanted::Only(_)) => return Err(not_pinned()),
                None => {
                    let parent = look_up(kept, cid, Kept::indirect).await?.ok_or_else(not_pinned)?;
                    let kind = format!("indirect through {}", context.text(&parent));
                    PinList { cid: context.text(&cid), kind, ..PinList::default() }
                }
            };
            output.send(event).await?;
        }
        Ok(())
    }
}

fn entry(cid: String, pin: &Pin, named: bool) -> PinList {
    let name = if named { pin.name.clone().unwrap_or_default() } else { String::new() };
    PinList { cid, name, kind: kind_text(pin.kind), ..PinList::default() }
}

fn queued_entry(context: &Context, queued: &QueuedPin) -> PinList {
    let pin = &queued.pin;
    let mut progress = PinProgress {
        failures: queued.failure_count,
        error: queued.last_error.clone().unwrap_or_default(),
        ..PinProgress::default()
    };
    progress.status = match queued.status {
        QueueStatus::Queued => "queued".to_owned(),
        QueueStatus::Failed => "failed".to_owned(),
        QueueStatus::Pinning { block_count, block_bytes, network } => {
            (progress.blocks, progress.bytes) = (block_count, block_bytes);
            progress.peers_asked = network.peers_asked_count;
            progress.providers_found = network.providers_found_count;
            "pinning".to_owned()
        }
    };
    PinList {
        cid: path_text(context, &pin.path),
        name: pin.name.clone().unwrap_or_default(),
        kind: kind_text(pin.kind),
        progress: Some(progress),
        ..PinList::default()
    }
}

fn kind_text(kind: PinKind) -> String {
    match kind {
        PinKind::Recursive => "recursive".to_owned(),
        PinKind::Direct => "direct".to_owned(),
    }
}

/// Pins one DAG in place of another.
#[derive(Debug, Clone)]
pub struct Update {
    /// What is pinned.
    pub from: String,
    /// What shall be.
    pub to: String,
    /// Let the old pin go.
    pub unpin: bool,
}

impl Default for Update {
    fn default() -> Self {
        Self { from: String::new(), to: String::new(), unpin: true }
    }
}

impl Command for Update {
    const PATH: &'static str = "pin/update";
    type Event = Pins;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("from-path", &mut self.from)?;
        binder.arg("to-path", &mut self.to)?;
        binder.option("unpin", "", &mut self.unpin)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Pins>) -> Result<()> {
        let from = target(&context, &self.from).await?;
        let to = ContentPath::parse(&self.to)?;
        let node = context.node().await?;
        let to = node.pin_update(from, &to, self.unpin, context.session_options()).await?;
        output.send(Pins { pins: vec![context.text(&from), context.text(&to)], ..Pins::default() }).await
    }
}

/// Looks for what is missing below pins.
#[derive(Debug, Clone, Default)]
pub struct Verify {
    /// Tell of whole pins too.
    pub verbose: bool,
    /// Tell CIDs only; for people.
    pub quiet: bool,
}

/// A pin that was looked through. Source: Kubo 0.43, `ipfs pin verify --enc=json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PinStatus {
    /// CID.
    pub cid: String,
    /// Whether everything is there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ok: bool,
    /// What is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_nodes: Vec<BadNode>,
}

impl JsonEvent for PinStatus {}

/// A block that is missing or damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BadNode {
    /// CID.
    pub cid: String,
    /// What is wrong with it.
    pub err: String,
}

impl Command for Verify {
    const PATH: &'static str = "pin/verify";
    type Event = PinStatus;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("verbose", "", &mut self.verbose)?;
        binder.option("quiet", "q", &mut self.quiet)
    }

    async fn run(self, context: Context, output: Output<PinStatus>) -> Result<()> {
        if self.verbose && self.quiet {
            return Err(Error::client("the --verbose and --quiet options can not be used at the same time"));
        }
        let kept = context.node().await?.pins().clone();
        let status = move |check: PinCheck| PinStatus {
            cid: context.text(&check.cid),
            ok: check.broken.is_empty(),
            bad_nodes: check
                .broken
                .into_iter()
                .map(|(cid, err)| BadNode { cid: context.text(&cid), err })
                .collect(),
        };
        let verbose = self.verbose;
        output
            .send_blocking(move || {
                let checks = kept.verify().map(move |check| check.map(&status).map_err(Error::from));
                checks.filter(move |status| verbose || !status.as_ref().is_ok_and(|status| status.ok))
            })
            .await
    }
}
