//! A whole tree as a tar archive, written while it is read.

use bytes::{Bytes, BytesMut};
use cairn_proto::cid::Cid;
use cairn_proto::content::{Entry, NodeKind, Resolved};
use cairn_proto::limits::MAX_PATH_SEGMENTS;
use cairn_proto::path::ContentPath;
use cairn_proto::tar::{self, Kind};
use cairn_proto::unixfs::Attributes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};

use super::Session;
use crate::{Error, Result};

/// Entries of a directory that are looked at ahead, so that many small files do not cost a round trip each.
const ENTRIES_AHEAD: usize = 32;

/// Longest file whose content is fetched ahead, in bytes: all that are ahead take 8 MiB.
const SMALL_FILE_BYTES: u64 = 256 * 1024;

/// Heads and small files are handed on together, in pieces of about this size, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// One entry, and its content if that is small.
struct Node {
    name: String,
    cid: Cid,
    kind: NodeKind,
    attributes: Attributes,
    content: Option<Bytes>,
}

impl Node {
    fn new(name: String, resolved: Resolved) -> Self {
        let Resolved { cid, kind, attributes, .. } = resolved;
        Self { name, cid, kind, attributes, content: None }
    }
}

/// A directory that is being written.
struct Level {
    path: String,
    entries: BoxStream<'static, Result<Node>>,
}

/// The content of a file that is being written.
struct Content {
    cid: Cid,
    pieces: BoxStream<'static, Result<Bytes>>,
    len_bytes: u64,
    left_bytes: u64,
}

struct Archive {
    session: Session,
    levels: Vec<Level>,
    content: Option<Content>,
    /// Written and not yet handed on.
    ready: BytesMut,
    has_ended: bool,
}

/// The pieces of an archive of what a path led to, its root called `name`. It ends after the first error.
pub(super) fn archive(
    session: Session,
    name: &str,
    root: &Resolved,
) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
    let mut archive =
        Archive { session, levels: Vec::new(), content: None, ready: BytesMut::new(), has_ended: false };
    let path = name.replace(['/', '\0'], "_");
    let begun = archive.write(path, Node::new(String::new(), root.clone()));
    let state = begun.map(|()| archive);
    stream::unfold(Some(state), |state| async move {
        match state? {
            Err(error) => Some((Err(error), None)),
            Ok(mut archive) => match archive.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(Ok(archive)))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            },
        }
    })
}

impl Archive {
    /// The next piece, `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.ready.len() < PIECE_BYTES {
            if let Some(content) = &mut self.content {
                match content.next().await? {
                    Some(piece) if self.ready.is_empty() => return Ok(Some(piece)),
                    Some(piece) => self.ready.extend_from_slice(&piece),
                    None => {
                        self.ready.extend_from_slice(&tar::padding(content.len_bytes));
                        self.content = None;
                    }
                }
                continue;
            }
            let Some(level) = self.levels.last_mut() else {
                if !self.has_ended {
                    self.has_ended = true;
                    self.ready.extend_from_slice(&tar::end());
                }
                break;
            };
            match level.entries.try_next().await? {
                None => drop(self.levels.pop()),
                Some(node) => {
                    let path = tar::place(&level.path, &node.name)
                        .map_err(|error| Error::corrupt(error.to_string()))?;
                    self.write(path, node)?;
                }
            }
        }
        let piece = self.ready.split().freeze();
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Writes the head of an entry and what is here of it; the rest follows.
    fn write(&mut self, path: String, node: Node) -> Result<()> {
        match node.kind {
            NodeKind::File { len_bytes } => {
                self.ready.extend_from_slice(&tar::head(&path, Kind::File(len_bytes), node.attributes));
                let pieces = match node.content {
                    Some(content) => stream::iter([Ok(content)]).boxed(),
                    None => self.session.bytes(&node.cid, 0..len_bytes).boxed(),
                };
                self.content = Some(Content { cid: node.cid, pieces, len_bytes, left_bytes: len_bytes });
            }
            NodeKind::Symlink { target } => {
                self.ready.extend_from_slice(&tar::head(&path, Kind::Symlink(&target), node.attributes));
            }
            NodeKind::Directory { .. } => {
                if self.levels.len() == MAX_PATH_SEGMENTS {
                    return Err(Error::invalid(format!("directories are too deep, max={MAX_PATH_SEGMENTS}")));
                }
                self.ready.extend_from_slice(&tar::head(&path, Kind::Directory, node.attributes));
                self.levels.push(Level { path, entries: entries(&self.session, &node.cid) });
            }
            NodeKind::Data { codec } => {
                let message = format!("this is not a file, path={path:?} codec=0x{codec:x}");
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }
}

impl Content {
    /// The next bytes of a file, which has exactly the length that it claims.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let wrong = |cid| Error::corrupt(format!("file has another length than it claims, cid={cid}"));
        match self.pieces.try_next().await? {
            Some(piece) => {
                let left = self.left_bytes.checked_sub(piece.len() as u64);
                self.left_bytes = left.ok_or_else(|| wrong(self.cid))?;
                Ok(Some(piece))
            }
            None if self.left_bytes > 0 => Err(wrong(self.cid)),
            None => Ok(None),
        }
    }
}

/// The entries of a directory in order, each with what it is.
fn entries(session: &Session, directory: &Cid) -> BoxStream<'static, Result<Node>> {
    let ahead = session.clone();
    let entries = session.entries(directory);
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
    Ok(Node { content, ..Node::new(entry.name, resolved) })
}
