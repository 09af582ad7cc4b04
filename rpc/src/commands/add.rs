//! `add`.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use cairn_node::dag::{AddEvent, AddOptions, Adder};
use cairn_node::settings::config::import::parse_hash;
use cairn_proto::cid::Version;
use cairn_proto::unixfs::import::{self, Chunker, ImportOptions, Layout};
use cairn_proto::unixfs::{Attributes, Mtime};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output, Param};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::{Files, Part};
use crate::multipart::from_go;

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
    /// How content becomes nodes besides.
    pub layout: LayoutOptions,
    /// What is kept of mode and time.
    pub attributes: AttributeOptions,
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
            layout: LayoutOptions::default(),
            attributes: AttributeOptions::default(),
            files: None,
        }
    }
}

/// How content becomes nodes, where that is not the usual way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayoutOptions {
    /// Files are laid out as trickle, or not; as configured when missing.
    pub trickle: Option<bool>,
    /// Blocks that are small stand in their CIDs.
    pub inline: bool,
    /// Length up to which they do, in bytes; 32 when missing.
    pub inline_limit: Option<usize>,
}

impl LayoutOptions {
    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("trickle", "t", &mut self.trickle)?;
        binder.option("inline", "", &mut self.inline)?;
        binder.option("inline-limit", "", &mut self.inline_limit)
    }

    fn apply(&self, options: &mut ImportOptions) {
        options.layout = match self.trickle {
            Some(true) => Layout::Trickle,
            Some(false) => Layout::Balanced,
            None => options.layout,
        };
        options.inline_limit_bytes = self.inline.then(|| self.inline_limit.unwrap_or(INLINE_LIMIT_BYTES));
    }
}

/// A mode as a user gives it: octal behind a zero, as `0644`, hexadecimal behind `0x`, otherwise decimal, as in Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl std::str::FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, radix) = match text.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&text[2..], 16),
            [b'0', b'o' | b'O', ..] => (&text[2..], 8),
            [b'0', _, ..] => (&text[1..], 8),
            _ => (text, 10),
        };
        u32::from_str_radix(digits, radix).map(Self).map_err(|error| format!("{error}: {text:?}"))
    }
}

impl Param for FileMode {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn to_text(&self) -> Option<String> {
        Some(format!("0{:o}", self.0))
    }
}

/// What is kept of mode and time. Zero asks for nothing, as in Kubo.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributeOptions {
    /// Keep the mode of each file and folder.
    pub preserve_mode: bool,
    /// Keep the time of each.
    pub preserve_mtime: bool,
    /// This mode for all of them instead.
    pub mode: Option<FileMode>,
    /// This time for all of them instead, in seconds since 1970.
    pub mtime: Option<i64>,
    /// Nanoseconds beyond those.
    pub mtime_nsecs: Option<u32>,
}

impl AttributeOptions {
    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("preserve-mode", "", &mut self.preserve_mode)?;
        binder.option("preserve-mtime", "", &mut self.preserve_mtime)?;
        binder.option("mode", "", &mut self.mode)?;
        binder.option("mtime", "", &mut self.mtime)?;
        binder.option("mtime-nsecs", "", &mut self.mtime_nsecs)
    }

    /// What all entries have.
    fn fixed(&self) -> Result<Attributes> {
        let nanos = self.mtime_nsecs.filter(|nanos| *nanos > 0);
        let seconds = self.mtime.filter(|seconds| *seconds != 0);
        if nanos.is_some() && seconds.is_none() {
            return Err(Error::client("option \"mtime-nsecs\" requires \"mtime\" to be provided as well"));
        }
        if nanos.is_some_and(|nanos| nanos > 999_999_999) {
            return Err(Error::client("mtime nanoseconds must be in range [1, 999999999]"));
        }
        Ok(Attributes {
            mode: self.mode.map(|FileMode(mode)| from_go(mode)).filter(|mode| *mode != 0),
            mtime: seconds.map(|seconds| Mtime { seconds, nanos }),
        })
    }

    fn are_wanted(&self, fixed: Attributes) -> bool {
        self.preserve_mode || self.preserve_mtime || !fixed.is_empty()
    }

    /// What an entry gets that has these itself.
    fn of(&self, fixed: Attributes, own: Attributes) -> Attributes {
        Attributes {
            mode: fixed.mode.or(own.mode.filter(|_| self.preserve_mode)),
            mtime: fixed.mtime.or(own.mtime.filter(|_| self.preserve_mtime)),
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

/// Options of Kubo that would change the result here, and are refused rather than ignored, with the reason.
const REFUSED: [(&str, &str); 3] = [
    ("nocopy", "content is always copied into the store, so that it outlives the files that it came from"),
    ("fscache", "there is no filestore: content is always copied into the store"),
    ("to-files", "it is not there yet"),
];

/// Length up to which blocks stand in their CIDs, in bytes. Source: Kubo `core/commands/add.go`.
const INLINE_LIMIT_BYTES: usize = 32;

impl Command for Add {
    const PATH: &'static str = "add";
    const FILES: Option<&'static str> = Some("path");
    type Event = Added;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        for (name, reason) in REFUSED {
            let mut given = None::<String>;
            binder.option(name, "", &mut given)?;
            if given.is_some_and(|text| !matches!(text.as_str(), "false" | "0")) {
                return Err(Error::client(format!("the option {name} is not supported: {reason}")));
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
        binder.option("max-hamt-fanout", "", &mut self.max_hamt_fanout)?;
        self.layout.bind(binder)?;
        self.attributes.bind(binder)
    }

    fn set_files(&mut self, files: Files) {
        self.files = Some(files);
    }

    fn take_files(&mut self) -> Option<Files> {
        self.files.take()
    }

    async fn run(mut self, context: Context, output: Output<Added>) -> Result<()> {
        let files = self.files.take().ok_or_else(|| Error::client("nothing to add"))?;
        let fixed = self.attributes.fixed()?;
        let import = self.import(context.repo.config().import()?, fixed)?;
        let (adder, mut events) = context.node().await?.add(AddOptions {
            import: import.clone(),
            pin: self.pin && !self.only_hash,
            pin_name: self.pin_name.clone(),
            wrap: self.wrap,
            wrap_attributes: fixed,
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
        let files = hash_small_files(files, Arc::new(import));
        let attributes = |own| self.attributes.of(fixed, own);
        tokio::try_join!(feed(adder, files, attributes), report).map(|_| ())
    }
}

impl Add {
    /// The configured options with what this call asks for in place.
    fn import(&self, configured: ImportOptions, fixed: Attributes) -> Result<ImportOptions> {
        let invalid = |error: &dyn std::fmt::Display| Error::client(error.to_string());
        let cid_version = match self.cid_version {
            None => None,
            Some(0) => Some(Version::V0),
            Some(1) => Some(Version::V1),
            Some(other) => return Err(Error::client(format!("no such CID version: {other}"))),
        };
        let hash = self.hash.as_deref().map(parse_hash).transpose().map_err(|error| invalid(&error))?;
        // A raw block has no room for them.
        let raw_leaves = match self.raw_leaves {
            Some(true) if self.attributes.are_wanted(fixed) => {
                let message = "raw-leaves can't be used with UnixFS metadata like mode or modification time";
                return Err(Error::client(message));
            }
            _ if self.attributes.are_wanted(fixed) => Some(false),
            asked => asked,
        };
        let mut options =
            configured.with_cid_options(cid_version, hash, raw_leaves).map_err(|error| invalid(&error))?;
        if let Some(name) = &self.chunker {
            options.chunker = Chunker::parse(name).map_err(|error| invalid(&error))?;
        }
        options.max_file_links = self.max_file_links.unwrap_or(options.max_file_links);
        options.max_directory_links = self.max_directory_links.unwrap_or(options.max_directory_links);
        options.hamt_fanout = self.max_hamt_fanout.unwrap_or(options.hamt_fanout);
        self.layout.apply(&mut options);
        options.check().map_err(|error| invalid(&error))?;
        Ok(options)
    }
}

/// Hands every part to the adder with what `attributes` makes of its own, and ends the add.
async fn feed(
    mut adder: Adder,
    mut files: Files,
    attributes: impl Fn(Attributes) -> Attributes,
) -> Result<()> {
    while let Some((part, own)) = files.next_with_attributes().await? {
        let attributes = attributes(own);
        match part {
            Part::Directory { path } => adder.directory(&path, attributes).await?,
            Part::Symlink { path, target } => adder.symlink(&path, attributes, &target).await?,
            Part::Leaf { path, leaf } => adder.leaf_file(&path, attributes, *leaf).await?,
            Part::Small { path, content } => {
                adder.file(&path, attributes, &mut Cursor::new(content)).await?;
            }
            Part::Local { path, file } => adder.local_file(&path, attributes, file).await?,
            Part::Stream { path } => adder.file(&path, attributes, &mut files.content()).await?,
            Part::Data(_) | Part::Attributes(_) => unreachable!("they come with the part that they are of"),
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
        && content.len() <= options.chunker.max_chunk_bytes()
        && options.chunker.cut(content) == content.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_go_reads_them() {
        for (text, mode) in [("0644", 0o644), ("0o644", 0o644), ("0x1a4", 0o644), ("420", 0o644), ("0", 0)] {
            let read: FileMode = text.parse().unwrap();
            assert_eq!(read, FileMode(mode), "{text}");
            assert_eq!(FileMode::from_text(&read.to_text().unwrap()), Ok(read));
        }
        for text in ["", "0648", "u+x", "-1"] {
            assert!(text.parse::<FileMode>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_asked_for_goes_before_what_a_file_has() {
        let own = Attributes { mode: Some(0o600), mtime: Some(Mtime { seconds: 1, nanos: None }) };
        let options =
            AttributeOptions { preserve_mode: true, mtime: Some(-7), ..AttributeOptions::default() };
        let fixed = options.fixed().unwrap();
        let expected = Attributes { mode: own.mode, mtime: Some(Mtime { seconds: -7, nanos: None }) };
        assert_eq!(options.of(fixed, own), expected);
        let none =
            AttributeOptions { mode: Some(FileMode(0)), mtime: Some(0), ..AttributeOptions::default() };
        assert!(none.of(none.fixed().unwrap(), own).is_empty());
        for nsecs in [1, 1_000_000_000] {
            let mtime = (nsecs > 1).then_some(1);
            let options = AttributeOptions { mtime, mtime_nsecs: Some(nsecs), ..AttributeOptions::default() };
            assert!(options.fixed().is_err(), "{nsecs}");
        }
    }
}
