//! Cutting a stream of bytes into the chunks of a file.

use std::io;

use bytes::{Bytes, BytesMut};
use cairn_proto::cid::HASHED_TOGETHER;
use cairn_proto::unixfs::import::Chunker;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes that are read before their content decides where they are cut, several chunks at once.
const READ_AHEAD_BYTES: usize = 4 * 1024 * 1024;

/// The chunks of what a reader gives.
#[derive(Debug)]
pub(super) struct Chunks<'a, R> {
    reader: &'a mut R,
    chunker: Chunker,
    /// Read and not yet cut.
    buffer: BytesMut,
    has_ended: bool,
}

impl<'a, R: AsyncRead + Unpin> Chunks<'a, R> {
    pub(super) fn new(reader: &'a mut R, chunker: Chunker) -> Self {
        Self { reader, chunker, buffer: BytesMut::new(), has_ended: false }
    }

    /// The next chunks, in order; none at the end.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Bytes>> {
        if let Some(chunk_bytes) = self.chunker.fixed_chunk_bytes() {
            self.fill(chunk_bytes * HASHED_TOGETHER).await?;
            let mut rest = self.buffer.split().freeze();
            let mut chunks = Vec::with_capacity(HASHED_TOGETHER);
            while !rest.is_empty() {
                chunks.push(rest.split_to(rest.len().min(chunk_bytes)));
            }
            return Ok(chunks);
        }
        self.fill(READ_AHEAD_BYTES.max(self.chunker.max_chunk_bytes())).await?;
        let (chunker, has_ended, mut buffer) =
            (self.chunker, self.has_ended, std::mem::take(&mut self.buffer));
        let cut = move || {
            let mut chunks = Vec::new();
            while !buffer.is_empty() && (has_ended || buffer.len() >= chunker.max_chunk_bytes()) {
                chunks.push(buffer.split_to(chunker.cut(&buffer)).freeze());
            }
            (chunks, buffer)
        };
        let (chunks, rest) = tokio::task::spawn_blocking(cut).await.map_err(io::Error::other)?;
        self.buffer = rest;
        Ok(chunks)
    }

    /// Reads until so much is here or the input ends.
    async fn fill(&mut self, want_bytes: usize) -> io::Result<()> {
        self.buffer.reserve(want_bytes.saturating_sub(self.buffer.len()));
        while self.buffer.len() < want_bytes && !self.has_ended {
            let mut rest = (&mut *self.reader).take((want_bytes - self.buffer.len()) as u64);
            self.has_ended = rest.read_buf(&mut self.buffer).await? == 0;
        }
        Ok(())
    }
}
