//! `get`: a file or a whole directory as an archive.

use std::io::Write as _;

use bytes::Bytes;
use cairn_node::dag::Session;
use cairn_proto::cid::Cid;
use cairn_proto::content::{Entry, NodeKind};
use cairn_proto::path::{ContentPath, Root};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::tar::{self, Kind};
use crate::command::{Binder, Command, Output, Piece};
use crate::context::Context;
use crate::error::{Error, Result};

/// Entries of a directory that are looked at ahead, so that many small files do not cost a round trip each.
const ENTRIES_AHEAD: usize = 32;

/// Longest file whose content is fetched ahead, in bytes: all that are ahead take 8 MiB.
const SMALL_FILE_BYTES: u64 = 256 * 1024;

/// Deepest directory, in levels. Source: the segments of a path.
const MAX_DEPTH: usize = cairn_proto::limits::MAX_PATH_SEGMENTS;

/// Gives a tar archive; with `compress` it is gzipped, and a file alone comes without the archive unless that is asked for.
///
/// Source of the forms: Kubo `core/commands/get.go`.
#[derive(Debug, Clone, Default)]
pub struct Get {
    /// What to get.
    pub path: String,
    /// An archive even where a compressed file would do.
    pub archive: bool,
    /// Compress with gzip.
    pub compress: bool,
    /// Level of compression, 1 to 9.
    pub compression_level: Option<u32>,
}

impl Command for Get {
    const PATH: &'static str = "get";
    type Event = Piece;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("ipfs-path", &mut self.path)?;
        binder.option("archive", "a", &mut self.archive)?;
        binder.option("compress", "C", &mut self.compress)?;
        binder.option("compression-level", "l", &mut self.compression_level)
    }

    fn content_type(&self) -> &'static str {
        if self.compress { "application/gzip" } else { "application/x-tar" }
    }

    async fn run(self, context: Context, output: Output<Piece>) -> Result<()> {
        let path = ContentPath::parse(&self.path)?;
        let level = match self.compression_level {
            None => Compression::default(),
            Some(level @ 1..=9) => Compression::new(level),
            Some(other) => {
                return Err(Error::client(format!("compression level must be between 1 and 9, got {other}")));
            }
        };
        let session = context.session().await?;
        let resolved = session.resolve(&path).await?;
        output.send(Piece::Length(size(&resolved.kind))).await?;
        let node =
            Node { name: name(&path, &context), cid: resolved.cid, kind: resolved.kind, content: None };
        let gzip = self.compress.then(|| GzEncoder::new(Vec::new(), level));
        let mut archive = Archive { session, output, gzip };
        match node.kind {
            NodeKind::File { .. } if self.compress && !self.archive => archive.content(&node).await?,
            _ => {
                archive.tree(node).await?;
                archive.write(tar::end()).await?;
            }
        }
        archive.finish().await
    }
}

/// The last part of the path: what the target is called unless the caller says otherwise.
fn name(path: &ContentPath, context: &Context) -> String {
    match (path.segments().last(), path.root()) {
        (Some(segment), _) => segment.clone(),
        (None, Root::Ipfs(cid)) => context.text(cid),
        (None, Root::Ipns(name)) => name.clone(),
    }
}

fn size(kind: &NodeKind) -> u64 {
    match kind {
        NodeKind::File { len_bytes } => *len_bytes,
        NodeKind::Directory { cumulative_bytes } => *cumulative_bytes,
        NodeKind::Symlink { .. } | NodeKind::Data { .. } => 0,
    }
}

/// One entry, and its content if that is small.
struct Node {
    name: String,
    cid: Cid,
    kind: NodeKind,
    content: Option<Bytes>,
}

/// A directory that is being written.
struct Level {
    path: String,
    entries: BoxStream<'static, Result<Node>>,
}

struct Archive {
    session: Session,
    output: Output<Piece>,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Archive {
    /// Writes an entry and all below it, depth first.
    async fn tree(&mut self, root: Node) -> Result<()> {
        let mut levels: Vec<Level> = self.entry(String::new(), root).await?.into_iter().collect();
        while let Some(level) = levels.last_mut() {
            let Some(node) = level.entries.try_next().await? else {
                levels.pop();
                continue;
            };
            let parent = format!("{}/", level.path);
            levels.extend(self.entry(parent, node).await?);
            if levels.len() > MAX_DEPTH {
                return Err(Error::new(format!("directories are too deep, max={MAX_DEPTH}")));
            }
        }
        Ok(())
    }

    /// Writes an entry; gives back a directory to go on with.
    async fn entry(&mut self, parent: String, node: Node) -> Result<Option<Level>> {
        tar::check_name(&node.name)?;
        let path = parent + &node.name;
        match &node.kind {
            NodeKind::File { len_bytes } => {
                self.write(tar::head(&path, Kind::File(*len_bytes))).await?;
                self.content(&node).await?;
                self.write(tar::padding(*len_bytes)).await?;
            }
            NodeKind::Symlink { target } => self.write(tar::head(&path, Kind::Symlink(target))).await?,
            NodeKind::Directory { .. } => {
                self.write(tar::head(&path, Kind::Directory)).await?;
                return Ok(Some(Level { path, entries: entries(&self.session, &node.cid) }));
            }
            NodeKind::Data { codec } => {
                return Err(Error::new(format!("this is not a file, path={path:?} codec=0x{codec:x}")));
            }
        }
        Ok(None)
    }

    /// Writes the content of a file, which has exactly the length that it claims.
    async fn content(&mut self, node: &Node) -> Result<()> {
        if let Some(content) = &node.content {
            return self.write(content.clone()).await;
        }
        let len_bytes = size(&node.kind);
        let mut pieces = Box::pin(self.session.bytes(&node.cid, 0..len_bytes));
        let mut written = 0;
        while let Some(piece) = pieces.try_next().await? {
            written += piece.len() as u64;
            self.write(piece).await?;
        }
        if written != len_bytes {
            return Err(Error::new(format!("file has another length than it claims, cid={}", node.cid)));
        }
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let bytes = match &mut self.gzip {
            None => bytes,
            Some(gzip) => {
                gzip.write_all(&bytes).expect("writing to memory cannot fail");
                std::mem::take(gzip.get_mut()).into()
            }
        };
        if bytes.is_empty() { Ok(()) } else { self.output.send(Piece::Bytes(bytes)).await }
    }

    async fn finish(self) -> Result<()> {
        let Some(gzip) = self.gzip else { return Ok(()) };
        let rest = gzip.finish().expect("writing to memory cannot fail");
        self.output.send(Piece::Bytes(rest.into())).await
    }
}

/// The entries of a directory in order, each with what it is.
fn entries(session: &Session, directory: &Cid) -> BoxStream<'static, Result<Node>> {
    let ahead = session.clone();
    let entries = session.entries(directory).map_err(Error::from);
    entries.map_ok(move |entry| look(ahead.clone(), entry)).try_buffered(ENTRIES_AHEAD).boxed()
}

async fn look(session: Session, entry: Entry) -> Result<Node> {
    let resolved = session.resolve(&ContentPath::from_cid(entry.cid)).await?;
    let content = match resolved.kind {
        NodeKind::File { len_bytes } if len_bytes <= SMALL_FILE_BYTES => {
            let pieces: Vec<Bytes> = session.bytes(&entry.cid, 0..len_bytes).try_collect().await?;
            let content = match <[Bytes; 1]>::try_from(pieces) {
                Ok([content]) => content,
                Err(pieces) => pieces.concat().into(),
            };
            (content.len() as u64 == len_bytes).then_some(content)
        }
        _ => None,
    };
    Ok(Node { name: entry.name, cid: entry.cid, kind: resolved.kind, content })
}
