//! Files on their way into a command: a flat stream of parts, wherever they come from.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use cairn_proto::unixfs::Attributes;
use cairn_proto::unixfs::import::Leaf;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, ReadBuf};

use crate::error::{Error, Result};

/// One step through a tree of files, parents before their children.
#[derive(Debug)]
pub enum Part {
    /// A directory.
    Directory {
        /// Path, its segments separated by slashes.
        path: String,
    },
    /// A symbolic link.
    Symlink {
        /// Path of the link.
        path: String,
        /// Where it points.
        target: String,
    },
    /// A file that is small enough to be here as a whole.
    Small {
        /// Path; empty for content without a name.
        path: String,
        /// All of its content.
        content: Bytes,
    },
    /// A file of one chunk that is hashed already. It does not travel.
    Leaf {
        /// Path; empty for content without a name.
        path: String,
        /// Its only block.
        leaf: Box<Leaf>,
    },
    /// A file of this computer, still to be read.
    Local {
        /// Path by which it is added.
        path: String,
        /// The open file, at its start.
        file: std::fs::File,
    },
    /// A file whose content follows as [`Part::Data`].
    Stream {
        /// Path; empty for content without a name.
        path: String,
    },
    /// The next content of the [`Part::Stream`] before.
    Data(Bytes),
    /// Mode and time of the part that follows, which is neither this nor data.
    Attributes(Attributes),
}

/// Parts in batches, so that many small files cost few wake-ups. It ends after the first error.
pub struct Files {
    batches: BoxStream<'static, Result<Vec<Part>>>,
    /// Parts taken from a batch and not yet used.
    ready: VecDeque<Part>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({} ready)", self.ready.len())
    }
}

impl Files {
    /// Files from a stream of batches.
    pub fn new(batches: impl Stream<Item = Result<Vec<Part>>> + Send + 'static) -> Self {
        Self { batches: batches.fuse().boxed(), ready: VecDeque::new() }
    }

    /// The next part that is neither data nor attributes; the data of a stream that nobody read is skipped.
    ///
    /// # Errors
    /// What the source says.
    pub async fn next(&mut self) -> Result<Option<Part>> {
        Ok(self.next_with_attributes().await?.map(|(part, _)| part))
    }

    /// As [`Self::next`], with what is known of mode and time.
    ///
    /// # Errors
    /// What the source says.
    pub async fn next_with_attributes(&mut self) -> Result<Option<(Part, Attributes)>> {
        let mut attributes = Attributes::default();
        loop {
            match self.next_part().await? {
                Some(Part::Data(_)) => {}
                Some(Part::Attributes(known)) => attributes = known,
                Some(part) => return Ok(Some((part, attributes))),
                None => return Ok(None),
            }
        }
    }

    /// The batches as they come, data included; what is left of a former one first.
    pub fn into_batches(self) -> impl Stream<Item = Result<Vec<Part>>> + Send {
        let ready = (!self.ready.is_empty()).then(|| Ok(Vec::from(self.ready)));
        futures::stream::iter(ready).chain(self.batches)
    }

    /// Reads the content of the [`Part::Stream`] that was returned last.
    pub fn content(&mut self) -> Content<'_> {
        Content { files: self, piece: Bytes::new() }
    }

    /// All content of a file that has at most `max` bytes.
    ///
    /// # Errors
    /// More bytes than that, or what the source says.
    pub async fn read_all(&mut self, part: Part, max: usize) -> Result<Bytes> {
        let too_large = || Error::client(format!("too large, max={max}"));
        let content = match part {
            Part::Small { content, .. } => content,
            Part::Local { file, .. } => {
                let read = tokio::task::spawn_blocking(move || {
                    let mut content = Vec::new();
                    io::Read::read_to_end(&mut io::Read::take(file, max as u64 + 1), &mut content)
                        .map(|_| content)
                });
                let read = read.await.map_err(|error| Error::new(error.to_string()))?;
                read.map_err(|error| Error::new(error.to_string()))?.into()
            }
            Part::Stream { .. } => {
                let mut content = Vec::new();
                while let Some(piece) = self.next_data().await? {
                    content.extend_from_slice(&piece);
                    if content.len() > max {
                        break;
                    }
                }
                content.into()
            }
            _ => return Err(Error::client("this is not a file")),
        };
        if content.len() > max { Err(too_large()) } else { Ok(content) }
    }

    /// The next data of the stream that was returned last; `None` at its end.
    async fn next_data(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await
    }

    async fn next_part(&mut self) -> Result<Option<Part>> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        Ok(self.ready.pop_front())
    }

    /// Waits until a part is ready or the source has ended.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.ready.is_empty() {
            match ready!(self.batches.poll_next_unpin(cx)) {
                Some(batch) => self.ready.extend(batch?),
                None => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        ready!(self.poll_ready(cx))?;
        Poll::Ready(Ok(match self.ready.pop_front() {
            Some(Part::Data(data)) => Some(data),
            Some(other) => {
                self.ready.push_front(other);
                None
            }
            None => None,
        }))
    }
}

/// Content of one file as a reader.
#[derive(Debug)]
pub struct Content<'a> {
    files: &'a mut Files,
    piece: Bytes,
}

impl AsyncRead for Content<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.files.poll_data(cx)) {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let len = self.piece.len().min(buf.remaining());
        buf.put_slice(&self.piece[..len]);
        self.piece.advance(len);
        Poll::Ready(Ok(()))
    }
}

/// Refuses a path that could leave the tree that it belongs to.
///
/// # Errors
/// An absolute path, a segment `..`, `.` or empty, or a NUL byte.
pub fn check_path(path: &str) -> Result<()> {
    let refuse = |reason: &str| Err(Error::client(format!("invalid file name {path:?}: {reason}")));
    if path.is_empty() {
        return Ok(());
    }
    if path.starts_with('/') {
        return refuse("it is absolute");
    }
    if path.contains('\0') {
        return refuse("it holds a NUL byte");
    }
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return refuse("a segment is empty, '.' or '..'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn files(parts: Vec<Part>) -> Files {
        let batches: Vec<_> = parts.into_iter().map(|part| Ok(vec![part])).collect();
        Files::new(futures::stream::iter(batches))
    }

    fn stream(path: &str) -> Part {
        Part::Stream { path: path.to_owned() }
    }

    fn data(text: &'static str) -> Part {
        Part::Data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn content_ends_where_the_next_file_starts() {
        let mut files =
            files(vec![stream("a"), data("he"), data(""), data("llo"), stream("b"), stream("c"), data("!")]);
        let mut seen = Vec::new();
        while let Some(part) = files.next().await.unwrap() {
            let Part::Stream { path } = part else { panic!("{part:?}") };
            let mut text = String::new();
            files.content().read_to_string(&mut text).await.unwrap();
            seen.push((path, text));
        }
        let expected = [("a", "hello"), ("b", ""), ("c", "!")];
        assert_eq!(seen, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    }

    #[tokio::test]
    async fn content_that_nobody_reads_is_skipped() {
        let mut files = files(vec![stream("a"), data("x"), stream("b"), data("y")]);
        files.next().await.unwrap();
        assert!(matches!(files.next().await.unwrap(), Some(Part::Stream { path }) if path == "b"));
        assert!(files.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn read_all_has_its_bound() {
        let mut given = files(vec![stream("a"), data("1234")]);
        let part = given.next().await.unwrap().unwrap();
        assert_eq!(given.read_all(part, 4).await.unwrap().as_ref(), b"1234");
        let mut given = files(vec![stream("a"), data("123"), data("45")]);
        let part = given.next().await.unwrap().unwrap();
        assert!(given.read_all(part, 4).await.is_err());
    }

    #[test]
    fn paths_that_leave_their_tree_are_refused() {
        for path in ["/etc/passwd", "..", "a/../b", "a/..", "./a", "a//b", "a/", "a\0b"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        for path in ["", "a", "a/b", "..a/b..", "C:\\x", " "] {
            assert!(check_path(path).is_ok(), "{path:?}");
        }
    }
}
