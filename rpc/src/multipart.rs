//! Files as the body of a request: `multipart/form-data`, one part each, as Kubo and its clients send them.
//!
//! Source: go-ipfs-cmds and boxo `files` (`multifilereader.go`, `multipartfile.go`): names are paths in URL encoding, a
//! directory has the type `application/x-directory`, a link `application/symlink` and its target as content. The name of a
//! field may end in a query of `mode`, `mtime` and `mtime-nsecs`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_proto::unixfs::Attributes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use multer::{Field, Multipart};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::command::query;
use crate::error::{Error, Result};
use crate::files::{Files, Part, check_path};

mod attributes;

pub(crate) use attributes::from_go;

const DIRECTORY: &str = "application/x-directory";
/// What Kubo's own client calls a directory, beside [`DIRECTORY`].
const DIRECTORY_FORM: &str = "multipart/form-data";
const SYMLINK: &str = "application/symlink";
const FILE: &str = "application/octet-stream";

/// Longest target of a link, in bytes. Source: `PATH_MAX` of Linux.
const MAX_SYMLINK_BYTES: usize = 4096;

/// Content gathered before a batch is handed on, in bytes.
const BATCH_BYTES: usize = 1024 * 1024;

/// Parts gathered before a batch is handed on.
const BATCH_COUNT: usize = 256;

/// Bytes read from a local file at a time.
const READ_BYTES: usize = 256 * 1024;

/// Pieces of a local file that are read before they are sent.
const READS_AHEAD: usize = 2;

/// Reads files from the body of a request.
pub(crate) fn decode<S, E>(body: S, boundary: String) -> Files
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let state = Some((Multipart::new(body, boundary), None));
    Files::new(futures::stream::unfold(state, |state| async move {
        let (mut multipart, mut field) = state?;
        match read_batch(&mut multipart, &mut field).await {
            Ok(batch) if batch.is_empty() => None,
            Ok(batch) => Some((Ok(batch), Some((multipart, field)))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// Reads parts until the batch is full; an empty one means the end. `field` is a file that goes on.
async fn read_batch(
    multipart: &mut Multipart<'static>,
    field: &mut Option<Field<'static>>,
) -> Result<Vec<Part>> {
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    while batch_bytes < BATCH_BYTES && batch.len() < BATCH_COUNT {
        if let Some(open) = field {
            match open.chunk().await.map_err(torn)? {
                Some(data) => {
                    batch_bytes += data.len();
                    batch.push(Part::Data(data));
                }
                None => *field = None,
            }
            continue;
        }
        let Some(next) = multipart.next_field().await.map_err(torn)? else { break };
        let path = next.file_name().map_or(Ok(String::new()), query::decode)?;
        check_path(&path)?;
        let attributes = next.name().map_or(Ok(Attributes::default()), attributes::decode)?;
        if !attributes.is_empty() {
            batch.push(Part::Attributes(attributes));
        }
        match next.content_type().map(|mime| mime.essence_str().to_owned()).as_deref() {
            Some(DIRECTORY | DIRECTORY_FORM) => batch.push(Part::Directory { path }),
            Some(SYMLINK) => {
                let target = read_target(next).await?;
                batch.push(Part::Symlink { path, target });
            }
            _ => {
                batch.push(Part::Stream { path });
                *field = Some(next);
            }
        }
    }
    Ok(batch)
}

async fn read_target(mut field: Field<'static>) -> Result<String> {
    let mut target = BytesMut::new();
    while let Some(piece) = field.chunk().await.map_err(torn)? {
        target.extend_from_slice(&piece);
        if target.len() > MAX_SYMLINK_BYTES {
            return Err(Error::client(format!("target of a link too long, max={MAX_SYMLINK_BYTES}")));
        }
    }
    String::from_utf8(target.into()).map_err(|_| Error::client("the target of a link is not UTF-8"))
}

fn torn(error: multer::Error) -> Error {
    Error::client(format!("the files of the request cannot be read: {error}"))
}

/// Writes files as the body of a request with this boundary.
pub(crate) fn encode(files: Files, boundary: &str) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
    let state = Some(Encoder {
        batches: files.into_batches().boxed(),
        boundary: boundary.to_owned(),
        first: true,
        attributes: Attributes::default(),
    });
    let pieces = futures::stream::unfold(state, |state| async move {
        let mut encoder = state?;
        match encoder.batches.next().await {
            Some(Ok(batch)) => Some((encoder.encode(batch), Some(encoder))),
            Some(Err(error)) => Some((vec![Piece::Error(error)], None)),
            None => Some((vec![Piece::Bytes(encoder.end())], None)),
        }
    });
    pieces.flat_map(futures::stream::iter).flat_map(|piece| match piece {
        Piece::Bytes(bytes) => futures::stream::once(async { Ok(bytes) }).boxed(),
        Piece::Error(error) => futures::stream::once(async { Err(error) }).boxed(),
        Piece::File(file, path, length) => read_file(file, path, length).boxed(),
    })
}

struct Encoder {
    batches: BoxStream<'static, Result<Vec<Part>>>,
    boundary: String,
    first: bool,
    /// Of the next part.
    attributes: Attributes,
}

enum Piece {
    Bytes(Bytes),
    File(std::fs::File, String, u64),
    Error(Error),
}

impl Encoder {
    /// The bytes of a batch: heads and small contents together, large contents as they are.
    fn encode(&mut self, batch: Vec<Part>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = BytesMut::new();
        for part in batch {
            match part {
                Part::Directory { path } => self.head(&mut text, &path, DIRECTORY),
                Part::Symlink { path, target } => {
                    self.head(&mut text, &path, SYMLINK);
                    text.extend_from_slice(target.as_bytes());
                }
                Part::Small { path, content } => {
                    self.head(&mut text, &path, FILE);
                    text.extend_from_slice(&content);
                }
                Part::Leaf { path, .. } => {
                    pieces.push(Piece::Error(Error::new(format!(
                        "a hashed file does not travel, path={path:?}"
                    ))));
                }
                Part::Stream { path } => self.head(&mut text, &path, FILE),
                Part::Attributes(attributes) => self.attributes = attributes,
                Part::Data(data) => {
                    pieces.push(Piece::Bytes(text.split().freeze()));
                    pieces.push(Piece::Bytes(data));
                }
                Part::Local { path, file } => {
                    self.head(&mut text, &path, FILE);
                    pieces.push(Piece::Bytes(text.split().freeze()));
                    pieces.push(match file.metadata() {
                        Ok(metadata) => Piece::File(file, path, metadata.len()),
                        Err(error) => Piece::Error(unreadable(&path, &error)),
                    });
                }
            }
        }
        pieces.push(Piece::Bytes(text.freeze()));
        pieces.retain(|piece| !matches!(piece, Piece::Bytes(bytes) if bytes.is_empty()));
        pieces
    }

    fn head(&mut self, text: &mut BytesMut, path: &str, mime: &str) {
        let lead = if std::mem::take(&mut self.first) { "" } else { "\r\n" };
        let name = utf8_percent_encode(path, NON_ALPHANUMERIC);
        let boundary = &self.boundary;
        let query = attributes::encode(std::mem::take(&mut self.attributes));
        let head = format!(
            "{lead}--{boundary}\r\nContent-Disposition: form-data; name=\"file{query}\"; filename=\"{name}\"\r\nContent-Type: {mime}\r\n\r\n"
        );
        text.extend_from_slice(head.as_bytes());
    }

    fn end(&self) -> Bytes {
        let lead = if self.first { "" } else { "\r\n" };
        format!("{lead}--{}--\r\n", self.boundary).into()
    }
}

/// The content of a local file, which must keep the length that it has now. One piece is read ahead.
fn read_file(file: std::fs::File, path: String, length: u64) -> impl Stream<Item = Result<Bytes>> + Send {
    let file = Arc::new(file);
    // One byte more than the length shows that it grew.
    let starts = (0..=length).step_by(READ_BYTES);
    let pieces = futures::stream::iter(starts).map(move |start| {
        let file = Arc::clone(&file);
        tokio::task::spawn_blocking(move || read_piece(&file, start, length))
    });
    pieces.buffered(READS_AHEAD).map(move |piece| match piece {
        Ok(Ok(Some(piece))) => Ok(piece),
        Ok(Ok(None)) => {
            Err(Error::new(format!("file changed while it was read, path={path:?} len_bytes={length}")))
        }
        Ok(Err(error)) => Err(unreadable(&path, &error)),
        Err(error) => Err(Error::new(error.to_string())),
    })
}

/// The piece that starts there. Nothing when the file has not, or no longer, this length.
fn read_piece(file: &std::fs::File, start: u64, length: u64) -> std::io::Result<Option<Bytes>> {
    let left = length - start;
    let is_last = left < READ_BYTES as u64;
    let wanted = usize::try_from(left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
    let mut piece = Vec::with_capacity(wanted + usize::from(is_last));
    while piece.len() < piece.capacity() {
        let offset = start + piece.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut piece), offset) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((piece.len() == wanted).then(|| piece.into()))
}

fn unreadable(path: &str, error: &std::io::Error) -> Error {
    Error::new(format!("cannot read {path:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use cairn_proto::unixfs::Mtime;
    use futures::TryStreamExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Reads everything back as lines of text.
    async fn list(mut files: Files) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        while let Some(part) = files.next().await? {
            lines.push(match part {
                Part::Directory { path } => format!("{path}/"),
                Part::Symlink { path, target } => format!("{path} -> {target}"),
                Part::Stream { path } => {
                    let mut text = String::new();
                    let read = files.content().read_to_string(&mut text).await;
                    read.map_err(|error| Error::new(error.to_string()))?;
                    format!("{path}: {text}")
                }
                other => panic!("{other:?}"),
            });
        }
        Ok(lines)
    }

    fn parse(body: &'static str) -> Files {
        let pieces: Vec<Result<_, std::io::Error>> =
            body.as_bytes().chunks(7).map(|piece| Ok(Bytes::from_static(piece))).collect();
        decode(futures::stream::iter(pieces), "b".to_owned())
    }

    #[tokio::test]
    async fn bodies_of_kubos_clients_are_read() {
        // Source: what `ipfs add -r` of Kubo 0.43 and the `curl -F` of its documentation send.
        let body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d\"\r\nContent-Type: application/x-directory\r\n\r\n\r\n\
            --b\r\nAbspath-Encoded: %2Fd%2Fx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d%2Fb+c%2Bd.txt\"\r\nContent-Type: application/octet-stream\r\n\r\nhello\r\n--not the end\r\n\
            --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d%2Flink\"\r\nContent-Type: application/symlink\r\n\r\n../x\r\n\
            --b\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\nnameless\r\n--b--\r\n";
        let lines = list(parse(body)).await.unwrap();
        assert_eq!(lines, ["d/", "d/b c+d.txt: hello\r\n--not the end", "d/link -> ../x", ": nameless"]);
    }

    #[tokio::test]
    async fn names_that_leave_their_tree_are_refused() {
        for name in ["..%2Fx", "%2Fetc%2Fpasswd", "a%2F..%2F..%2Fb", "a%00b"] {
            let body = format!(
                "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\nx\r\n--b--\r\n"
            );
            assert!(list(parse(body.leak())).await.is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_torn_body_is_an_error() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhalf of";
        assert!(list(parse(body)).await.is_err());
    }

    #[tokio::test]
    async fn what_is_encoded_is_decoded_to_the_same() {
        let mut local = tempfile::tempfile().unwrap();
        local.write_all(b"from disk").unwrap();
        io_rewind(&mut local);
        let parts = vec![
            Part::Directory { path: "d ü".to_owned() },
            Part::Small { path: "d ü/a+b%".to_owned(), content: Bytes::from_static(b"small") },
            Part::Symlink { path: "d ü/\"l\"".to_owned(), target: "a b".to_owned() },
            Part::Local { path: "d ü/disk".to_owned(), file: local },
            Part::Stream { path: "s".to_owned() },
            Part::Data(Bytes::from_static(b"str")),
            Part::Data(Bytes::from_static(b"eam")),
        ];
        let files = Files::new(futures::stream::iter([Ok(parts)]));
        let lines = list(decode(encode(files, "xyz"), "xyz".to_owned())).await.unwrap();
        assert_eq!(
            lines,
            ["d ü/", "d ü/a+b%: small", "d ü/\"l\" -> a b", "d ü/disk: from disk", "s: stream"]
        );
    }

    #[tokio::test]
    async fn attributes_travel_with_the_part_that_they_belong_to() {
        let attributes =
            |mode| Attributes { mode: Some(mode), mtime: Some(Mtime { seconds: -3, nanos: Some(5) }) };
        let parts = vec![
            Part::Attributes(attributes(0o1755)),
            Part::Directory { path: "d".to_owned() },
            Part::Stream { path: "d/a".to_owned() },
            Part::Data(Bytes::from_static(b"content")),
            Part::Attributes(attributes(0o4640)),
            Part::Small { path: "d/b".to_owned(), content: Bytes::from_static(b"small") },
        ];
        let files = Files::new(futures::stream::iter([Ok(parts)]));
        let mut files = decode(encode(files, "xyz"), "xyz".to_owned());
        let mut seen = Vec::new();
        while let Some((_, attributes)) = files.next_with_attributes().await.unwrap() {
            seen.push(attributes);
        }
        assert_eq!(seen, [attributes(0o1755), Attributes::default(), attributes(0o4640)]);
    }

    #[tokio::test]
    async fn no_files_are_no_files() {
        let files = Files::new(futures::stream::iter([]));
        let lines = list(decode(encode(files, "xyz"), "xyz".to_owned())).await.unwrap();
        assert!(lines.is_empty());
    }

    #[tokio::test]
    async fn a_file_that_changes_its_length_is_an_error() {
        for (length, expected) in [(4, true), (3, false), (5, false)] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"four").unwrap();
            io_rewind(&mut file);
            let read: Result<Vec<Bytes>> = read_file(file, "f".to_owned(), length).try_collect().await;
            assert_eq!(read.is_ok(), expected, "{length}");
        }
    }

    fn io_rewind(file: &mut std::fs::File) {
        std::io::Seek::rewind(file).unwrap();
    }
}
