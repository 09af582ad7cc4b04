//! `dag export`, `dag import`, `dag stat`; single nodes in `nodes`.

mod nodes;

use std::collections::HashSet;
use std::io::Cursor;

use bytes::Bytes;
use cairn_node::dag::ImportEvent;
use cairn_proto::cid::Multihash;
use cairn_proto::content::DagScope;
use cairn_proto::path::ContentPath;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use super::CidLink;
use crate::command::{Binder, Command, JsonEvent, Output, Piece};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::{Files, Part};

pub(super) use nodes::codec_of;
pub use nodes::{Get, PathEnd, Put, Resolve, Stored};

/// Blocks between two events of progress.
const PROGRESS_STEP: u64 = 256;

/// Gives a DAG as a CAR.
#[derive(Debug, Clone, Default)]
pub struct Export {
    /// Root.
    pub path: String,
    /// Give what is here, and leave out what is not.
    pub local_only: bool,
    /// Version of the archive, 1 when missing. Version 2 begins with its length, so the DAG is walked twice. Kubo has only 1.
    pub car_version: Option<u32>,
}

impl Command for Export {
    const PATH: &'static str = "dag/export";
    const CONTENT_TYPE: &'static str = "application/vnd.ipld.car";
    type Event = Piece;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        // How the bar is shown is the business of whoever reads the answer.
        let mut progress = None::<bool>;
        binder.arg("root", &mut self.path)?;
        binder.option("progress", "p", &mut progress)?;
        binder.option("local-only", "", &mut self.local_only)?;
        binder.option("car-version", "", &mut self.car_version)
    }

    async fn run(self, context: Context, output: Output<Piece>) -> Result<()> {
        let has_length = match self.car_version {
            None | Some(1) => false,
            Some(2) => true,
            Some(other) => return Err(Error::client(format!("no such version of a CAR: {other}"))),
        };
        let mut options = context.session_options();
        options.local_only |= self.local_only;
        let session = context.node().await?.session(options);
        let root = session.resolve(&ContentPath::parse(&self.path)?).await?.cid;
        let payload = || match self.local_only {
            true => session.local_car(&root).boxed(),
            false => session.car(&ContentPath::from_cid(root), DagScope::All.into()).boxed(),
        };
        if has_length {
            let sum = |sum: u64, piece: Bytes| async move { Ok(sum + piece.len() as u64) };
            let payload_bytes = payload().try_fold(0, sum).await?;
            output.send(Piece::Bytes(cairn_proto::car::v2_header(payload_bytes))).await?;
        }
        let mut pieces = payload();
        while let Some(piece) = pieces.try_next().await? {
            output.send(Piece::Bytes(piece)).await?;
        }
        Ok(())
    }
}

/// Stores the blocks of CARs.
#[derive(Debug, Default)]
pub struct Import {
    /// Pin the roots; they are when missing, unless only a part is imported.
    pub pin_roots: Option<bool>,
    /// The CARs hold a part of a DAG, whose roots cannot be pinned.
    pub local_only: bool,
    /// Count blocks and bytes.
    pub stats: bool,
    /// Say nothing.
    pub silent: bool,
    /// The CARs.
    pub files: Option<Files>,
}

/// A root, or what was stored. Source: Kubo `core/commands/dag/dag.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Imported {
    /// A root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<ImportedRoot>,
    /// Everything that was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<ImportStats>,
}

impl JsonEvent for Imported {}

/// A root of a CAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImportedRoot {
    /// CID.
    pub cid: CidLink,
    /// Why it was not pinned; empty when it was.
    #[serde(rename = "PinErrorMsg")]
    pub pin_error: String,
}

/// Everything that was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImportStats {
    /// Blocks.
    pub block_count: u64,
    /// Bytes of them.
    pub block_bytes_count: u64,
}

impl Command for Import {
    const PATH: &'static str = "dag/import";
    const FILES: Option<&'static str> = Some("path");
    type Event = Imported;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("pin-roots", "", &mut self.pin_roots)?;
        binder.option("local-only", "", &mut self.local_only)?;
        binder.option("stats", "", &mut self.stats)?;
        binder.option("silent", "", &mut self.silent)
    }

    fn set_files(&mut self, files: Files) {
        self.files = Some(files);
    }

    fn take_files(&mut self) -> Option<Files> {
        self.files.take()
    }

    async fn run(mut self, context: Context, output: Output<Imported>) -> Result<()> {
        let mut files = self.files.take().ok_or_else(|| Error::client("the CAR is missing"))?;
        let pin_roots = match (self.local_only, self.pin_roots) {
            (true, Some(true)) => {
                let message =
                    "--local-only implies --pin-roots=false and cannot be combined with --pin-roots=true";
                return Err(Error::client(format!("{message}; please drop one of them")));
            }
            (is_part, asked) => asked.unwrap_or(!is_part),
        };
        let mut import = Importing {
            context,
            output,
            pin_roots,
            silent: self.silent,
            stats: ImportStats::default(),
            root_count: 0,
            failed_count: 0,
        };
        while let Some(part) = files.next().await? {
            match part {
                Part::Stream { .. } => import.read(files.content()).await?,
                Part::Small { content, .. } => import.read(Cursor::new(content)).await?,
                Part::Local { file, .. } => import.read(tokio::fs::File::from_std(file)).await?,
                _ => return Err(Error::client("this is not a CAR")),
            }
        }
        let Importing { output, stats, root_count, failed_count, .. } = import;
        if self.stats {
            output.send(Imported { root: None, stats: Some(stats) }).await?;
        }
        if failed_count > 0 {
            return Err(Error::new(format!(
                "unable to pin all roots: {failed_count} out of {root_count} failed"
            )));
        }
        Ok(())
    }
}

/// An import of one CAR after another.
struct Importing {
    context: Context,
    output: Output<Imported>,
    pin_roots: bool,
    silent: bool,
    stats: ImportStats,
    root_count: u64,
    failed_count: u64,
}

impl Importing {
    async fn read<R: AsyncRead + Unpin + Send>(&mut self, car: R) -> Result<()> {
        let mut import = self.context.node().await?.import_car(car, self.pin_roots);
        while let Some(event) = import.next().await? {
            let ImportEvent::Root { cid, pin_error } = event else { continue };
            self.root_count += 1;
            self.failed_count += u64::from(!pin_error.is_empty());
            if self.pin_roots && !self.silent {
                let root = ImportedRoot { cid: CidLink::new(self.context.text(&cid)), pin_error };
                self.output.send(Imported { root: Some(root), stats: None }).await?;
            }
        }
        let (block_count, block_bytes) = import.stat();
        self.stats.block_count += block_count;
        self.stats.block_bytes_count += block_bytes;
        Ok(())
    }
}

/// Counts the blocks of DAGs.
#[derive(Debug, Clone)]
pub struct Stat {
    /// Roots.
    pub paths: Vec<String>,
    /// Tell the counts so far.
    pub progress: bool,
}

impl Default for Stat {
    fn default() -> Self {
        Self { paths: Vec::new(), progress: true }
    }
}

/// Counts of some DAGs together. Source: Kubo `core/commands/dag/dag.go`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DagStats {
    /// Distinct blocks; 0 while it counts.
    #[serde(skip_serializing_if = "is_zero")]
    pub unique_blocks: u64,
    /// Bytes of the distinct blocks.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_size: u64,
    /// Bytes that would be needed more if the DAGs shared nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub shared_size: u64,
    /// Bytes without sharing, over bytes; 0 while it counts.
    #[serde(skip_serializing_if = "is_zero_ratio")]
    pub ratio: Ratio,
    /// Each DAG.
    pub dag_stats: Vec<DagStat>,
}

impl JsonEvent for DagStats {}

/// A ratio, which Go writes without a fraction when it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct Ratio(pub f32);

impl Serialize for Ratio {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only a ratio without a fraction, far below 2^53, is converted"
    )]
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(ratio) = self;
        if ratio.fract() == 0.0 && *ratio < 1e9 {
            serializer.serialize_i64(*ratio as i64)
        } else {
            serializer.serialize_f32(*ratio)
        }
    }
}

/// Counts of one DAG.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DagStat {
    /// Root.
    pub cid: String,
    /// Bytes of its distinct blocks.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Its distinct blocks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_blocks: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_zero_ratio(ratio: &Ratio) -> bool {
    ratio.0 == 0.0
}

impl Command for Stat {
    const PATH: &'static str = "dag/stat";
    type Event = DagStats;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("root", 1, &mut self.paths)?;
        binder.option("progress", "p", &mut self.progress)
    }

    async fn run(self, context: Context, output: Output<DagStats>) -> Result<()> {
        let session = context.session().await?;
        let mut stats = DagStats::default();
        // Within one DAG the walk counts each block once; only several DAGs can share blocks.
        let mut seen = (self.paths.len() > 1).then(HashSet::<Multihash>::new);
        for path in &self.paths {
            let root = session.resolve(&ContentPath::parse(path)?).await?.cid;
            let mut dag = DagStat { cid: context.text(&root), ..DagStat::default() };
            let mut blocks = std::pin::pin!(session.blocks(&root));
            while let Some(block) = blocks.try_next().await? {
                let len_bytes = block.data().len() as u64;
                dag.num_blocks += 1;
                dag.size += len_bytes;
                if seen.as_mut().is_none_or(|seen| seen.insert(*block.multihash())) {
                    stats.unique_blocks += 1;
                    stats.total_size += len_bytes;
                }
                if self.progress && dag.num_blocks.is_multiple_of(PROGRESS_STEP) {
                    let mut so_far = DagStats { unique_blocks: 0, ..stats.clone() };
                    so_far.dag_stats.push(dag.clone());
                    output.show(so_far);
                }
            }
            stats.dag_stats.push(dag);
        }
        let all: u64 = stats.dag_stats.iter().map(|dag| dag.size).sum();
        stats.shared_size = all - stats.total_size;
        #[expect(clippy::cast_possible_truncation, reason = "a ratio for people")]
        let ratio = (all as f64 / stats.total_size.max(1) as f64) as f32;
        stats.ratio = Ratio(ratio);
        output.send(stats).await
    }
}
