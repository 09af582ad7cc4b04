//! `cat`.

use cairn_node::dag::Session;
use cairn_proto::cid::Cid;
use cairn_proto::content::NodeKind;
use cairn_proto::path::ContentPath;
use futures::TryStreamExt as _;

use crate::command::{Binder, Command, Output, Piece};
use crate::context::Context;
use crate::error::{Error, Result};

/// Gives the content of files, one behind the other.
#[derive(Debug, Clone, Default)]
pub struct Cat {
    /// Paths of the files.
    pub paths: Vec<String>,
    /// Bytes to leave out at the start.
    pub offset: u64,
    /// Most bytes to give.
    pub length: Option<u64>,
}

impl Command for Cat {
    const PATH: &'static str = "cat";
    const CONTENT_TYPE: &'static str = "text/plain";
    type Event = Piece;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("ipfs-path", 1, &mut self.paths)?;
        binder.option("offset", "o", &mut self.offset)?;
        binder.option("length", "l", &mut self.length)
    }

    async fn run(self, context: Context, output: Output<Piece>) -> Result<()> {
        let session = context.session().await?;
        let mut parts = Vec::new();
        let (mut skip, mut left) = (self.offset, self.length.unwrap_or(u64::MAX));
        for path in &self.paths {
            let (cid, len_bytes) = file(&session, path).await?;
            let from = skip.min(len_bytes);
            let to = len_bytes.min(from.saturating_add(left));
            skip -= from;
            left -= to - from;
            parts.push((cid, from..to));
        }
        output.send(Piece::Length(parts.iter().map(|(_, range)| range.end - range.start).sum())).await?;
        for (cid, range) in parts.into_iter().filter(|(_, range)| !range.is_empty()) {
            let mut pieces = std::pin::pin!(session.bytes(&cid, range));
            while let Some(piece) = pieces.try_next().await? {
                output.send(Piece::Bytes(piece)).await?;
            }
        }
        Ok(())
    }
}

async fn file(session: &Session, path: &str) -> Result<(Cid, u64)> {
    let resolved = session.resolve(&ContentPath::parse(path)?).await?;
    match resolved.kind {
        NodeKind::File { len_bytes } => Ok((resolved.cid, len_bytes)),
        NodeKind::Directory { .. } => Err(Error::new("this dag node is a directory")),
        NodeKind::Symlink { target } => {
            Err(Error::new(format!("this is a symbolic link, path={path} target={target:?}")))
        }
        NodeKind::Data { codec } => {
            Err(Error::new(format!("this is not a file, path={path} codec=0x{codec:x}")))
        }
    }
}
