//! Connections and streams whose bytes are counted, and wait when a limit says so.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use tokio::time::Sleep;

use super::bucket::Bucket;
use super::meter::Meter;
use super::sniff::{Found, Sniff};
use super::{PeerTraffic, Traffic, lock};

/// Most bytes that pass at once when there is a limit, so that streams take turns.
const MAX_PIECE_BYTES: usize = 16 * 1024;

/// A connection whose streams are counted.
pub(in crate::swarm) struct Metered {
    inner: StreamMuxerBox,
    traffic: Traffic,
    peer: Arc<PeerTraffic>,
}

impl Metered {
    pub(in crate::swarm) fn new(inner: StreamMuxerBox, peer: PeerId, traffic: &Traffic) -> Self {
        Self { inner, traffic: traffic.clone(), peer: traffic.peer(peer) }
    }

    fn stream(&self, inner: SubstreamBox, is_inbound: bool) -> Stream {
        Stream {
            inner,
            traffic: self.traffic.clone(),
            peer: Arc::clone(&self.peer),
            protocol: Protocol::Unknown { sniff: Sniff::default(), is_inbound, received: 0, sent: 0 },
            read_wait: None,
            write_wait: None,
        }
    }
}

impl StreamMuxer for Metered {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let this = self.get_mut();
        let stream = ready!(Pin::new(&mut this.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(this.stream(stream, true)))
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let this = self.get_mut();
        let stream = ready!(Pin::new(&mut this.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(this.stream(stream, false)))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.get_mut().inner).poll(cx)
    }
}

/// A stream whose bytes are counted.
pub(in crate::swarm) struct Stream {
    inner: SubstreamBox,
    traffic: Traffic,
    peer: Arc<PeerTraffic>,
    protocol: Protocol,
    read_wait: Option<Pin<Box<Sleep>>>,
    write_wait: Option<Pin<Box<Sleep>>>,
}

enum Protocol {
    /// Being agreed on; with the bytes that went until now.
    Unknown {
        sniff: Sniff,
        is_inbound: bool,
        received: usize,
        sent: usize,
    },
    Known {
        name: Arc<str>,
        meter: Arc<Meter>,
    },
    /// It will not be known.
    Never,
}

/// Waits until bytes may go.
fn poll_wait(bucket: &Bucket, wait: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        if let Some(sleep) = wait {
            ready!(sleep.as_mut().poll(cx));
            *wait = None;
        }
        match bucket.wait(Instant::now()) {
            Some(duration) => *wait = Some(Box::pin(tokio::time::sleep(duration))),
            None => return Poll::Ready(()),
        }
    }
}

impl Stream {
    fn on_received(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        self.traffic.0.down.take(bytes.len());
        self.traffic.0.all.received(bytes.len(), now);
        self.peer.meter.received(bytes.len(), now);
        match &mut self.protocol {
            Protocol::Known { meter, .. } => meter.received(bytes.len(), now),
            Protocol::Unknown { received, is_inbound, sniff, .. } => {
                *received += bytes.len();
                let found = if *is_inbound { Found::NotYet } else { sniff.look(bytes) };
                self.on_found(found);
            }
            Protocol::Never => {}
        }
    }

    fn on_sent(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        self.traffic.0.up.take(bytes.len());
        self.traffic.0.all.sent(bytes.len(), now);
        self.peer.meter.sent(bytes.len(), now);
        match &mut self.protocol {
            Protocol::Known { meter, .. } => meter.sent(bytes.len(), now),
            Protocol::Unknown { sent, is_inbound, sniff, .. } => {
                *sent += bytes.len();
                let found = if *is_inbound { sniff.look(bytes) } else { Found::NotYet };
                self.on_found(found);
            }
            Protocol::Never => {}
        }
    }

    fn on_found(&mut self, found: Found) {
        let Protocol::Unknown { received, sent, .. } = &self.protocol else { return };
        match found {
            Found::NotYet => {}
            Found::Never => self.protocol = Protocol::Never,
            Found::Protocol(name) => {
                let (name, meter) = self.traffic.protocol(&name);
                let now = Instant::now();
                meter.received(*received, now);
                meter.sent(*sent, now);
                *lock(&self.peer.streams).entry(Arc::clone(&name)).or_default() += 1;
                self.protocol = Protocol::Known { name, meter };
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Protocol::Known { name, .. } = &self.protocol else { return };
        let mut streams = lock(&self.peer.streams);
        if let Some(count) = streams.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                streams.remove(name);
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(poll_wait(&this.traffic.0.down, &mut this.read_wait, cx));
        let max =
            if this.traffic.0.down.is_limited() { buffer.len().min(MAX_PIECE_BYTES) } else { buffer.len() };
        let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer[..max]))?;
        this.on_received(&buffer[..read]);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(poll_wait(&this.traffic.0.up, &mut this.write_wait, cx));
        let max = if this.traffic.0.up.is_limited() { bytes.len().min(MAX_PIECE_BYTES) } else { bytes.len() };
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, &bytes[..max]))?;
        this.on_sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};

    use super::*;
    use crate::settings::BandwidthLimits;

    /// A stream whose side that accepts has said `said`.
    fn stream(limits: BandwidthLimits, said: &[u8]) -> (Stream, Traffic, PeerId) {
        let (traffic, peer) = (Traffic::new(limits), PeerId::random());
        let inner = SubstreamBox::new(Cursor::new(said.to_vec()));
        let stream = Stream {
            inner,
            traffic: traffic.clone(),
            peer: traffic.peer(peer),
            protocol: Protocol::Unknown { sniff: Sniff::default(), is_inbound: false, received: 0, sent: 0 },
            read_wait: None,
            write_wait: None,
        };
        (stream, traffic, peer)
    }

    #[tokio::test]
    async fn bytes_are_counted_for_the_protocol_that_was_agreed_on_while_the_stream_is_open() {
        let said = b"\x13/multistream/1.0.0\n\x03/x\nbody";
        let (mut stream, traffic, peer) = stream(BandwidthLimits::default(), said);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, said);
        assert_eq!(traffic.streams(&peer), ["/x"]);
        let len_bytes = said.len() as u64;
        assert_eq!(traffic.of_protocol("/x").unwrap().received_bytes, len_bytes);
        assert_eq!(traffic.of_peer(&peer).unwrap().received_bytes, len_bytes);
        assert_eq!(traffic.total().received_bytes, len_bytes);
        drop(stream);
        assert!(traffic.streams(&peer).is_empty());
    }

    #[tokio::test]
    async fn a_stream_waits_once_a_limit_is_used_up_in_that_direction_only() {
        let down = BandwidthLimits { down_bytes: Some(1), up_bytes: None };
        let (mut stream, traffic, _) = stream(down, b"hello");
        traffic.0.down.take(1_000_000);
        assert!(stream.read(&mut [0; 5]).now_or_never().is_none());
        assert!(stream.write(b"x").now_or_never().is_some());
    }

    #[tokio::test]
    async fn pieces_are_small_where_there_is_a_limit() {
        let up = BandwidthLimits { down_bytes: None, up_bytes: Some(1_000_000_000) };
        let (mut stream, ..) = stream(up, b"");
        assert_eq!(stream.write(&[0; 2 * MAX_PIECE_BYTES]).await.unwrap(), MAX_PIECE_BYTES);
    }
}
