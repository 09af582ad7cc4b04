//! `add`.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use cairn_node::dag::{AddEvent, AddOptions, Adder};
use cairn_node::settings::config::import::parse_hash;
use cairn_proto::cid::Version;
use cairn_proto::unixfs::import::{self, Chunker, ImportOptions};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::{Files, Part};

/// Batches of small files that are hashed at the same time.
const MAX_OPEN_BATCHES: usize = 4;

/// Adds files.
#[derive(Debug)]
pub struct Add {
    /// Report the bytes read so far.
    pub progress: bool,
    /// Compute CIDs and store nothing.
    pub only_hash: bool,
    /// Put everything into one directory more.
    pub wrap: bool,
    /// Pin the root.
    pub pin: bool,
    /// Name of the pin.
    pub pin_name: Option<String>,
    /// Version of the CIDs.
    pub cid_version: Option<u32>,
    /// Hash function.
    pub hash: Option<String>,
    /// Leaves are raw blocks.
    pub raw_leaves: Option<bool>,
    /// How files are cut.
    pub chunker: Option<String>,
    /// Most links of a file's inner node.
    pub max_file_links: Option<usize>,
    /// Most links of a plain directory.
    pub max_directory_links: Option<usize>,
    /// Fanout of a sharded directory.
    pub max_hamt_fanout: Option<usize>,
    /// What there is to add.
    pub files: Option<Files>,
}

impl Default for Add {
    fn default() -> Self {
        Self {
            progress: false,
            only_hash: false,
            wrap: false,
            pin: true,
            pin_name: None,
            cid_version: None,
            hash: None,
            raw_leaves: None,
            chunker: None,
            max_file_links: None,
            max_directory_links: None,
            max_hamt_fanout: None,
            files: None,
        }
    }
}

/// Something was added, or more of it was read. Source: Kubo `core/commands/add.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Added {
    /// Path as it was given; empty for a wrapping directory.
    pub name: String,
    /// CID, once everything below it is durable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// Bytes read of it so far, while it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes of its blocks, with all below it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub size: String,
}

impl JsonEvent for Added {}

/// Options of Kubo that would change the result here, and are refused rather than ignored.
const REFUSED: [&str; 9] = [
    "nocopy",
    "fscache",
    "inline",
    "trickle",
    "to-files",
    "preserve-mode",
    "preserve-mtime",
    "mode",
    "mtime",
];

impl Command for Add {
    const PATH: &'static str = "add";
    const FILES: Option<&'static str> = Some("path");
    type Event = Added;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        for name in REFUSED {
            let mut given = None::<String>;
            binder.option(name, "", &mut given)?;
            if given.is_some_and(|text| !matches!(text.as_str(), "false" | "0")) {
                return Err(Error::client(format!("this option is not there yet: {name}")));
            }
        }
        binder.option("progress", "p", &mut self.progress)?;
        binder.option("only-hash", "n", &mut self.only_hash)?;
        binder.option("wrap-with-directory", "w", &mut self.wrap)?;
        binder.option("pin", "", &mut self.pin)?;
        binder.option("pin-name", "", &mut self.pin_name)?;
        binder.option("cid-version", "", &mut self.cid_version)?;
        binder.option("hash", "", &mut self.hash)?;
        binder.option("raw-leaves", "", &mut self.raw_leaves)?;
        binder.option("chunker", "s", &mut self.chunker)?;
        binder.option("max-file-links", "", &mut self.max_file_links)?;
        binder.option("max-directory-links", "", &mut self.max_directory_links)?;
        binder.option("max-hamt-fanout", "", &mut self.max_hamt_fanout)
    }

    fn set_files(&mut self, files: Files) {
        self.files = Some(files);
    }

    fn take_files(&mut self) -> Option<Files> {
        self.files.take()
    }

    async fn run(mut self, context: Context, output: Output<Added>) -> Result<()> {
        let files = self.files.take().ok_or_else(|| Error::client("nothing to add"))?;
        let import = self.import(context.repo.config().import()?)?;
        let (adder, mut events) = context.node().await?.add(AddOptions {
            import: import.clone(),
            pin: self.pin && !self.only_hash,
            pin_name: self.pin_name.clone(),
            wrap: self.wrap,
            only_hash: self.only_hash,
        });
        let report = async {
            while let Some(event) = events.recv().await {
                match event {
                    AddEvent::Progress { path, bytes } if self.progress => {
                        output.show(Added { name: path, bytes: Some(bytes), ..Added::default() });
                    }
                    AddEvent::Progress { .. } => {}
                    AddEvent::Added { path, cid, cumulative_bytes } => {
                        let (hash, size) = (context.text(&cid), cumulative_bytes.to_string());
                        output.send(Added { name: path, hash, size, bytes: None }).await?;
                    }
                }
            }
            Ok(())
        };
        tokio::try_join!(feed(adder, hash_small_files(files, Arc::new(import))), report).map(|_| ())
    }
}

impl Add {
    /// The configured options with what this call asks for in place.
    fn import(&self, configured: ImportOptions) -> Result<ImportOptions> {
        let invalid = |error: &dyn std::fmt::Display| Error::client(error.to_string());
        let cid_version = match self.cid_version {
            None => None,
            Some(0) => Some(Version::V0),
            Some(1) => Some(Version::V1),
            Some(other) => return Err(Error::client(format!("no such CID version: {other}"))),
        };
        let hash = self.hash.as_deref().map(parse_hash).transpose().map_err(|error| invalid(&error))?;
        let mut options = configured
            .with_cid_options(cid_version, hash, self.raw_leaves)
            .map_err(|error| invalid(&error))?;
        if let Some(name) = &self.chunker {
            options.chunker = Chunker::parse(name).map_err(|error| invalid(&error))?;
        }
        options.max_file_links = self.max_file_links.unwrap_or(options.max_file_links);
        options.max_directory_links = self.max_directory_links.unwrap_or(options.max_directory_links);
        options.hamt_fanout = self.max_hamt_fanout.unwrap_or(options.hamt_fanout);
        options.check().map_err(|error| invalid(&error))?;
        Ok(options)
    }
}

/// Hands every part to the adder, and ends the add.
async fn feed(mut adder: Adder, mut files: Files) -> Result<()> {
    while let Some(part) = files.next().await? {
        match part {
            Part::Directory { path } => adder.directory(&path).await?,
            Part::Symlink { path, target } => adder.symlink(&path, &target).await?,
            Part::Leaf { path, leaf } => adder.leaf_file(&path, *leaf).await?,
            Part::Small { path, content } => adder.file(&path, &mut Cursor::new(content)).await?,
            Part::Local { path, file } => adder.local_file(&path, file).await?,
            Part::Stream { path } => adder.file(&path, &mut files.content()).await?,
            Part::Data(_) => unreachable!("data follows a stream, whose reader takes it"),
        }
    }
    adder.finish().await?;
    Ok(())
}

/// The same files, those of one chunk hashed on several threads.
fn hash_small_files(files: Files, options: Arc<ImportOptions>) -> Files {
    let batches = files.into_batches().map(move |batch| {
        let options = Arc::clone(&options);
        async move {
            let mut batch = join_streams(batch?);
            if !batch.iter().any(|part| matches!(part, Part::Small { .. })) {
                return Ok(batch);
            }
            let hash = move || {
                for part in &mut batch {
                    hash_part(part, &options)?;
                }
                Ok(batch)
            };
            tokio::task::spawn_blocking(hash)
                .await
                .map_err(|error| Error::new(format!("hashing stopped: {error}")))?
        }
    });
    Files::new(batches.buffered(MAX_OPEN_BATCHES).into_stream())
}

fn hash_part(part: &mut Part, options: &ImportOptions) -> Result<()> {
    if let Part::Small { path, content } = part
        && content.len() <= options.chunker.chunk_bytes()
    {
        let leaf = import::leaf(options, content.clone()).map_err(|error| Error::new(error.to_string()))?;
        *part = Part::Leaf { path: std::mem::take(path), leaf: Box::new(leaf) };
    }
    Ok(())
}

/// A stream that begins and ends in this batch, with at most one piece of data, is a small file.
fn join_streams(batch: Vec<Part>) -> Vec<Part> {
    let mut parts = Vec::with_capacity(batch.len());
    let mut batch = batch.into_iter().peekable();
    while let Some(part) = batch.next() {
        let Part::Stream { path } = part else {
            parts.push(part);
            continue;
        };
        let data = match batch.next_if(|next| matches!(next, Part::Data(_))) {
            Some(Part::Data(data)) => data,
            _ => Bytes::new(),
        };
        match batch.peek() {
            Some(Part::Data(_)) | None => {
                parts.push(Part::Stream { path });
                parts.push(Part::Data(data));
            }
            Some(_) => parts.push(Part::Small { path, content: data }),
        }
    }
    parts
}
