//! A response body that streams content and ends in an error unless all of it came.
//!
//! Invariant: hyper turns the error into an aborted HTTP/1.1 connection or a reset HTTP/2 stream, so that no client takes
//! a part for the whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::content::{ContentError, PortStream, Session};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::patience::Patience;
use crate::places::Place;

/// Why a body was cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("no content for {0:?}")]
    Stalled(Duration),
    #[error("content ended before its length, missing_bytes={missing_bytes}")]
    Short { missing_bytes: u64 },
    #[error("content is longer than its length, surplus_bytes={surplus_bytes}")]
    Long { surplus_bytes: u64 },
    #[error("content is larger than what may be served, max={max}")]
    TooLarge { max: u64 },
    #[error("the response takes longer than {0:?}")]
    Late(Duration),
}

/// The body. Dropping it cancels the session behind it.
pub(crate) struct ContentBody {
    /// The chunk that was read before the status was sent.
    first: Option<Bytes>,
    rest: PortStream<Bytes>,
    /// Bytes still to come, `first` included, where the length is known.
    remaining: Option<u64>,
    /// Bytes that came.
    passed_bytes: u64,
    patience: Patience,
    limits: Limits,
    /// What is counted as one request until the body is done.
    _place: Place,
    /// Kept so that its providers stay with the stream.
    _session: Arc<dyn Session>,
}

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Longest wait for more content.
    pub(crate) chunk_timeout: Duration,
    /// When the request began.
    pub(crate) started: Instant,
    /// Longest time since then.
    pub(crate) request_timeout: Duration,
    /// Most bytes of a body whose length is not known.
    pub(crate) max_bytes: Option<u64>,
}

impl ContentBody {
    pub(crate) fn new(
        first: Option<Bytes>,
        rest: PortStream<Bytes>,
        len_bytes: Option<u64>,
        limits: Limits,
        session: Arc<dyn Session>,
        place: Place,
    ) -> Self {
        Self {
            first,
            rest,
            remaining: len_bytes,
            passed_bytes: 0,
            patience: Patience::new(limits.chunk_timeout),
            limits,
            _place: place,
            _session: session,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(self.count(first)));
        }
        let Poll::Ready(item) = self.rest.as_mut().poll_next(cx) else {
            ready!(self.patience.poll_spent(cx));
            return Poll::Ready(Some(Err(Cut::Stalled(self.patience.limit()))));
        };
        self.patience.renew();
        // No timer is needed: while nothing comes patience ends it, and while nothing is taken the socket does.
        if self.limits.started.elapsed() > self.limits.request_timeout {
            return Poll::Ready(Some(Err(Cut::Late(self.limits.request_timeout))));
        }
        Poll::Ready(match item {
            Some(Ok(chunk)) => Some(self.count(chunk)),
            Some(Err(error)) => Some(Err(error.into())),
            None => {
                self.remaining.filter(|left| *left > 0).map(|missing_bytes| Err(Cut::Short { missing_bytes }))
            }
        })
    }

    fn count(&mut self, chunk: Bytes) -> Result<Bytes, Cut> {
        let len_bytes = chunk.len() as u64;
        self.passed_bytes += len_bytes;
        match (self.remaining, self.limits.max_bytes) {
            (Some(remaining), _) if len_bytes > remaining => {
                return Err(Cut::Long { surplus_bytes: len_bytes - remaining });
            }
            (Some(remaining), _) => self.remaining = Some(remaining - len_bytes),
            (None, Some(max)) if self.passed_bytes > max => return Err(Cut::TooLarge { max }),
            (None, _) => {}
        }
        Ok(chunk)
    }
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        if this.remaining == Some(0) {
            return Poll::Ready(None);
        }
        let chunk = ready!(this.poll_chunk(cx));
        if let Some(Err(cut)) = &chunk {
            tracing::debug!(%cut, "response cut");
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
