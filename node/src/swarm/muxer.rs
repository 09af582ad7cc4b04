//! Yamux that also takes the long frames of js-libp2p.
//!
//! A peer may fill its whole window with one data frame, and js-libp2p does. The `yamux` crate lets windows grow beyond
//! 1 MiB, but closes a connection over a frame above that. So long frames are cut into short ones on their way to it:
//! the same bytes on the same streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::yamux;

/// Body of the longest frame passed on, in bytes: the window that every stream starts with, and a quarter of what the
/// crate takes.
const MAX_BODY_BYTES: u32 = 256 * 1024;

/// Source: <https://github.com/hashicorp/yamux/blob/master/spec.md>.
const HEADER_BYTES: usize = 12;
const TYPE_DATA: u8 = 0;
const OPENING_FLAGS: u16 = 1 | 2; // SYN, ACK
const CLOSING_FLAGS: u16 = 4 | 8; // FIN, RST

/// Yamux behind a [`Cut`].
#[derive(Debug, Clone)]
pub(super) struct Muxer(yamux::Config);

impl Muxer {
    pub(super) fn new() -> Self {
        Self(yamux::Config::default())
    }
}

impl UpgradeInfo for Muxer {
    type Info = <yamux::Config as UpgradeInfo>::Info;
    type InfoIter = <yamux::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Muxer {
    type Output = yamux::Muxer<Cut<C>>;
    type Error = io::Error;
    type Future = <yamux::Config as InboundConnectionUpgrade<Cut<C>>>::Future;

    fn upgrade_inbound(self, connection: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(Cut::new(connection), info)
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Muxer {
    type Output = yamux::Muxer<Cut<C>>;
    type Error = io::Error;
    type Future = <yamux::Config as OutboundConnectionUpgrade<Cut<C>>>::Future;

    fn upgrade_outbound(self, connection: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(Cut::new(connection), info)
    }
}

/// A connection on whose reading side no data frame is longer than [`MAX_BODY_BYTES`].
#[derive(Debug)]
pub(super) struct Cut<C> {
    connection: C,
    /// Header of the frame that is being read, as it came.
    frame: Header,
    /// Bytes of its body that no header has been passed on for.
    rest_bytes: u32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// A header comes in.
    In { filled: usize },
    /// A header goes out.
    Out { header: Header, done: usize },
    /// A body passes.
    Body { left_bytes: u32 },
}

#[derive(Debug, Clone, Copy, Default)]
struct Header([u8; HEADER_BYTES]);

impl Header {
    /// Length of the body that follows, in bytes. Only data frames have one.
    fn body_bytes(self) -> u32 {
        let [_, kind, _, _, _, _, _, _, length @ ..] = self.0;
        if kind == TYPE_DATA { u32::from_be_bytes(length) } else { 0 }
    }

    /// The same with some of its flags only, and another length.
    fn part(mut self, flags: u16, body_bytes: u32) -> Self {
        let flags = u16::from_be_bytes([self.0[2], self.0[3]]) & flags;
        self.0[2..4].copy_from_slice(&flags.to_be_bytes());
        self.0[8..].copy_from_slice(&body_bytes.to_be_bytes());
        self
    }
}

impl<C> Cut<C> {
    fn new(connection: C) -> Self {
        Self { connection, frame: Header::default(), rest_bytes: 0, phase: Phase::In { filled: 0 } }
    }

    /// A whole header has come in.
    fn on_header(&mut self) {
        self.rest_bytes = self.frame.body_bytes();
        let header = if self.rest_bytes <= MAX_BODY_BYTES {
            self.rest_bytes = 0;
            self.frame
        } else {
            self.rest_bytes -= MAX_BODY_BYTES;
            self.frame.part(OPENING_FLAGS, MAX_BODY_BYTES)
        };
        self.phase = Phase::Out { header, done: 0 };
    }

    /// A part of a body has passed: the next part, or the next frame.
    fn on_body(&mut self) {
        self.phase = match self.rest_bytes {
            0 => Phase::In { filled: 0 },
            rest_bytes => {
                let body_bytes = rest_bytes.min(MAX_BODY_BYTES);
                self.rest_bytes -= body_bytes;
                let flags = if self.rest_bytes == 0 { CLOSING_FLAGS } else { 0 };
                Phase::Out { header: self.frame.part(flags, body_bytes), done: 0 }
            }
        };
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Cut<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            match this.phase {
                Phase::In { filled } => {
                    let connection = Pin::new(&mut this.connection);
                    let read = ready!(connection.poll_read(cx, &mut this.frame.0[filled..]))?;
                    match (read, filled) {
                        (0, 0) => return Poll::Ready(Ok(0)),
                        (0, _) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        _ if filled + read == HEADER_BYTES => this.on_header(),
                        _ => this.phase = Phase::In { filled: filled + read },
                    }
                }
                Phase::Out { header, done } => {
                    let read = buffer.len().min(HEADER_BYTES - done);
                    buffer[..read].copy_from_slice(&header.0[done..done + read]);
                    this.phase = match (done + read, header.body_bytes()) {
                        (HEADER_BYTES, 0) => Phase::In { filled: 0 },
                        (HEADER_BYTES, left_bytes) => Phase::Body { left_bytes },
                        (done, _) => Phase::Out { header, done },
                    };
                    return Poll::Ready(Ok(read));
                }
                Phase::Body { left_bytes } => {
                    let max = buffer.len().min(left_bytes as usize);
                    let connection = Pin::new(&mut this.connection);
                    let read = ready!(connection.poll_read(cx, &mut buffer[..max]))?;
                    match left_bytes - u32::try_from(read).expect("at most what is left") {
                        0 => this.on_body(),
                        left_bytes => this.phase = Phase::Body { left_bytes },
                    }
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Cut<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncReadExt as _;
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    /// Frames are written out here as the specification has them.
    fn frame(kind: u8, flags: u16, length: u32, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, kind];
        frame.extend(flags.to_be_bytes());
        frame.extend(7_u32.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend(body);
        frame
    }

    fn data(flags: u16, body: &[u8]) -> Vec<u8> {
        frame(0, flags, u32::try_from(body.len()).unwrap(), body)
    }

    fn read_through(frames: &[u8]) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        block_on(Cut::new(Cursor::new(frames)).read_to_end(&mut read)).map(|_| read)
    }

    #[test]
    fn a_frame_of_the_limit_passes_as_it_came_and_a_longer_one_in_parts() {
        let max = MAX_BODY_BYTES as usize;
        let body: Vec<_> = (0..2 * max + 5).map(|index| u8::try_from(index % 251).unwrap()).collect();
        for flags in [0, 1, 2, 4, 1 | 4, 8, 0x30] {
            let whole = data(flags, &body[..max]);
            assert_eq!(read_through(&whole).unwrap(), whole, "flags={flags}");
        }
        let parts = [data(1, &body[..max]), data(0, &body[max..2 * max]), data(4, &body[2 * max..])].concat();
        assert!(read_through(&data(1 | 4, &body)).unwrap() == parts);
        let parts = [data(2, &body[..max]), data(8, &body[max..=max])].concat();
        assert!(read_through(&data(2 | 8, &body[..=max])).unwrap() == parts);
    }

    #[test]
    fn the_length_of_other_frames_is_no_body() {
        let frames = [
            frame(1, 1, u32::MAX, &[]),
            frame(2, 1, 9, &[]),
            frame(3, 0, 2, &[]),
            data(0, b"end"),
            data(4, &[]),
        ];
        let frames = frames.concat();
        assert_eq!(read_through(&frames).unwrap(), frames);
    }

    #[test]
    fn frames_pass_whatever_the_size_of_the_reads() {
        let frames = [data(1, b"hello"), frame(1, 0, 10, &[]), data(4, b"!")].concat();
        for len_bytes in 1..20 {
            let mut cut = Cut::new(Cursor::new(&frames));
            let mut read = Vec::new();
            let mut buffer = vec![0; len_bytes];
            loop {
                match block_on(cut.read(&mut buffer)).unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&buffer[..count]),
                }
            }
            assert_eq!(read, frames, "len_bytes={len_bytes}");
        }
    }

    #[test]
    fn an_end_inside_a_header_is_an_error() {
        assert!(read_through(&data(0, b"x")[..5]).is_err());
        assert!(read_through(&[]).unwrap().is_empty());
    }
}
