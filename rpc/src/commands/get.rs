//! `get`: a file or a whole directory as an archive.

use std::io::Write as _;

use bytes::Bytes;
use cairn_proto::content::NodeKind;
use cairn_proto::path::{ContentPath, Root};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::command::{Binder, Command, Output, Piece};
use crate::context::Context;
use crate::error::{Error, Result};

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
        let gzip = self.compress.then(|| GzEncoder::new(Vec::new(), level));
        let mut sink = Sink { output, gzip };
        let mut pieces = match resolved.kind {
            NodeKind::File { len_bytes } if self.compress && !self.archive => {
                session.bytes(&resolved.cid, 0..len_bytes).boxed()
            }
            _ => session.tar(&name(&path, &context), &resolved).boxed(),
        };
        while let Some(piece) = pieces.try_next().await? {
            sink.write(piece).await?;
        }
        sink.finish().await
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

/// Where the bytes go, compressed or not.
struct Sink {
    output: Output<Piece>,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Sink {
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
