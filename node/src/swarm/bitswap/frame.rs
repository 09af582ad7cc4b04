//! Messages on a stream: a varint of the length, then the message. Each stream carries messages one way only.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::limits::MAX_MESSAGE_BYTES;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Longest time without a single byte inside a message, in either direction, before its stream is given up.
///
/// Source: boxo `bitswap/network/bsnet` (10 s to 2 min for a whole message, by its size).
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes read or written before the progress is reported.
const STEP_BYTES: usize = 256 * 1024;

/// Bytes of the longest length prefix: [`MAX_MESSAGE_BYTES`] has 23 bits.
const MAX_PREFIX_BYTES: usize = 4;

/// Why a stream is given up.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced more than [`MAX_MESSAGE_BYTES`], or a prefix that is no length.
    #[error("message too large or prefix malformed, max={}", MAX_MESSAGE_BYTES)]
    TooLarge,
    /// The stream failed or ended inside a message.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the next length prefix, in bytes of the message that follows. `None` at the end of the stream.
///
/// Waits without limit for the first byte.
///
/// # Errors
/// [`FrameError::TooLarge`] before anything is buffered.
///
/// # Cancellation
/// Not cancel-safe: drop the stream with it.
pub async fn read_len(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<usize>, FrameError> {
    let mut len_bytes = 0;
    for index in 0..MAX_PREFIX_BYTES {
        let mut byte = [0];
        let read = stream.read(&mut byte);
        let read = if index == 0 { read.await? } else { in_time(read).await? };
        match (read, index) {
            (0, 0) => return Ok(None),
            (0, _) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => {}
        }
        len_bytes |= usize::from(byte[0] & 0x7f) << (7 * index);
        if byte[0] & 0x80 == 0 {
            return if len_bytes > MAX_MESSAGE_BYTES {
                Err(FrameError::TooLarge)
            } else {
                Ok(Some(len_bytes))
            };
        }
    }
    Err(FrameError::TooLarge)
}

/// Reads a message of that length, and reports bytes as they come.
///
/// # Errors
/// [`FrameError::Io`] also when no byte comes for [`STALL_TIMEOUT`].
///
/// # Cancellation
/// Not cancel-safe: drop the stream with it.
pub async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    len_bytes: usize,
    mut on_progress: impl FnMut(usize),
) -> Result<Bytes, FrameError> {
    // Zeroed by the system when first touched: a length announced and never sent costs no memory.
    let mut message = vec![0; len_bytes];
    let mut filled = 0;
    while filled < len_bytes {
        let end = len_bytes.min(filled + STEP_BYTES);
        let read = in_time(stream.read(&mut message[filled..end])).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        filled += read;
        on_progress(read);
    }
    Ok(message.into())
}

/// Writes the buffers of one message, prefix included, and flushes.
///
/// # Errors
/// [`FrameError::Io`] also when no byte is taken for [`STALL_TIMEOUT`].
///
/// # Cancellation
/// Not cancel-safe: drop the stream with it.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frames: &[Bytes]) -> Result<(), FrameError> {
    for frame in frames {
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let written = in_time(stream.write(&rest[..rest.len().min(STEP_BYTES)])).await?;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            rest = &rest[written..];
        }
    }
    Ok(in_time(stream.flush()).await?)
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STALL_TIMEOUT, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    fn prefix(len_bytes: usize) -> Vec<u8> {
        let mut buffer = bytes::BytesMut::new();
        prost::encoding::encode_varint(len_bytes as u64, &mut buffer);
        buffer.to_vec()
    }

    #[tokio::test]
    async fn a_message_of_the_limit_passes_and_a_longer_one_is_refused_unread() {
        for (len_bytes, accepted) in [(0, true), (MAX_MESSAGE_BYTES, true), (MAX_MESSAGE_BYTES + 1, false)] {
            let mut stream = Cursor::new(prefix(len_bytes));
            match read_len(&mut stream).await {
                Ok(len) => assert_eq!((len, accepted), (Some(len_bytes), true)),
                Err(error) => assert!(!accepted && matches!(error, FrameError::TooLarge)),
            }
        }
        let mut endless = Cursor::new(vec![0xff; 10]);
        assert!(matches!(read_len(&mut endless).await, Err(FrameError::TooLarge)));
        assert_eq!(endless.position(), MAX_PREFIX_BYTES as u64);
    }

    #[tokio::test]
    async fn an_end_between_messages_is_the_end_and_inside_one_an_error() {
        assert_eq!(read_len(&mut Cursor::new(vec![])).await.unwrap(), None);
        assert!(read_len(&mut Cursor::new(vec![0x80])).await.is_err());
        assert!(read_body(&mut Cursor::new(vec![1, 2]), 3, |_| ()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let body = Bytes::from(vec![7; STEP_BYTES + 1]);
        let mut stream = Cursor::new(Vec::new());
        write(&mut stream, &[prefix(body.len()).into(), body.clone()]).await.unwrap();
        stream.set_position(0);
        let len_bytes = read_len(&mut stream).await.unwrap().unwrap();
        let mut progress = 0;
        assert_eq!(read_body(&mut stream, len_bytes, |read| progress += read).await.unwrap(), body);
        assert_eq!(progress, body.len());
        assert_eq!(read_len(&mut stream).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_inside_a_message_is_given_up() {
        let (mut near, far) = tokio::io::duplex(16);
        use tokio_util::compat::TokioAsyncReadCompatExt as _;
        tokio::io::AsyncWriteExt::write_all(&mut near, &[1, 2]).await.unwrap();
        let error = read_body(&mut far.compat(), 3, |_| ()).await.unwrap_err();
        assert!(matches!(error, FrameError::Io(error) if error.kind() == io::ErrorKind::TimedOut));
    }
}
