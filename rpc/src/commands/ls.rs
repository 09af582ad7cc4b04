//! `ls`.

use cairn_node::dag::Session;
use cairn_proto::cid::RAW;
use cairn_proto::content::{Entry, NodeKind};
use cairn_proto::path::ContentPath;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Entries that are looked at ahead, so that a listing does not cost a round trip each.
const ENTRIES_AHEAD: usize = 32;

/// The time of an entry that has none, as Go writes it.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Lists directories.
#[derive(Debug, Clone)]
pub struct Ls {
    /// Paths of the directories.
    pub paths: Vec<String>,
    /// Tell what each entry is, which may fetch its block.
    pub resolve_type: bool,
    /// Tell how long each file is, which may fetch its block.
    pub size: bool,
    /// One event for each entry.
    pub stream: bool,
}

impl Default for Ls {
    fn default() -> Self {
        Self { paths: Vec::new(), resolve_type: true, size: true, stream: false }
    }
}

/// Some directories, or some entries of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listing {
    /// The directories.
    pub objects: Vec<Object>,
}

impl JsonEvent for Listing {}

/// A directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Object {
    /// Path as it was given.
    pub hash: String,
    /// Its entries.
    pub links: Vec<Link>,
}

/// An entry. Source: Kubo `core/commands/ls.go`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Link {
    /// Name.
    pub name: String,
    /// CID.
    pub hash: String,
    /// Length of a file's content, in bytes.
    pub size: u64,
    /// What it is: [`DIRECTORY`], [`FILE`], [`SYMLINK`], or 0 when nobody looked.
    #[serde(rename = "Type")]
    pub kind: u8,
    /// Where a link points.
    #[serde(default)]
    pub target: String,
    /// Permissions; always 0.
    #[serde(default)]
    pub mode: u32,
    /// Time of change; none.
    #[serde(default)]
    pub mod_time: String,
}

/// Type of a directory. Source: the UnixFS protobuf.
pub const DIRECTORY: u8 = 1;
/// Type of a file.
pub const FILE: u8 = 2;
/// Type of a symbolic link.
pub const SYMLINK: u8 = 4;

impl Command for Ls {
    const PATH: &'static str = "ls";
    type Event = Listing;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("ipfs-path", 1, &mut self.paths)?;
        binder.option("resolve-type", "", &mut self.resolve_type)?;
        binder.option("size", "", &mut self.size)?;
        binder.option("stream", "s", &mut self.stream)
    }

    fn is_stream(&self) -> bool {
        self.stream
    }

    async fn run(self, context: Context, output: Output<Listing>) -> Result<()> {
        let session = context.session().await?;
        let mut objects = Vec::new();
        for path in &self.paths {
            let resolved = session.resolve(&ContentPath::parse(path)?).await?;
            let mut object = Object { hash: path.clone(), links: Vec::new() };
            match resolved.kind {
                NodeKind::Directory { .. } => {
                    let entries = session.entries(&resolved.cid).map_err(Error::from);
                    let links = entries
                        .map_ok(|entry| self.link(&session, &context, entry))
                        .try_buffered(ENTRIES_AHEAD);
                    let mut links = std::pin::pin!(links);
                    while let Some(link) = links.try_next().await? {
                        if self.stream {
                            let object = Object { hash: path.clone(), links: vec![link] };
                            output.send(Listing { objects: vec![object] }).await?;
                        } else {
                            object.links.push(link);
                        }
                    }
                }
                NodeKind::File { .. } | NodeKind::Symlink { .. } => {}
                NodeKind::Data { codec } => {
                    return Err(Error::new(format!(
                        "this is not a directory, path={path} codec=0x{codec:x}"
                    )));
                }
            }
            objects.push(object);
        }
        if self.stream { Ok(()) } else { output.send(Listing { objects }).await }
    }
}

impl Ls {
    async fn link(&self, session: &Session, context: &Context, entry: Entry) -> Result<Link> {
        let mut link = Link {
            name: entry.name,
            hash: context.text(&entry.cid),
            size: 0,
            kind: 0,
            target: String::new(),
            mode: 0,
            mod_time: NO_TIME.to_owned(),
        };
        if entry.cid.codec() == RAW {
            // A raw block is a file, and the link knows its length: no need to fetch it.
            (link.kind, link.size) = (FILE, entry.cumulative_bytes);
        } else if self.resolve_type || self.size {
            match session.resolve(&ContentPath::from_cid(entry.cid)).await?.kind {
                NodeKind::File { len_bytes } => (link.kind, link.size) = (FILE, len_bytes),
                NodeKind::Directory { .. } => link.kind = DIRECTORY,
                NodeKind::Symlink { target } => {
                    (link.kind, link.size) = (SYMLINK, target.len() as u64);
                    link.target = target;
                }
                NodeKind::Data { .. } => {}
            }
        }
        Ok(link)
    }
}
