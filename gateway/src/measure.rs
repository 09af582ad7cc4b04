//! A response body that is counted and written to the access log when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use crate::caller::Caller;
use crate::metrics::Metrics;

/// What the log says of a request besides its response.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) caller: Option<Caller>,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) started: Instant,
}

/// A body, and what is known of its response.
pub(crate) struct Measured {
    body: Body,
    asked: Asked,
    status: StatusCode,
    metrics: Arc<Metrics>,
    sent_bytes: u64,
    /// The end came, and it was no error.
    is_complete: bool,
}

impl Measured {
    pub(crate) fn new(body: Body, asked: Asked, status: StatusCode, metrics: Arc<Metrics>) -> Self {
        let is_complete = body.is_end_stream();
        Self { body, asked, status, metrics, sent_bytes: 0, is_complete }
    }
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.sent_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.is_complete = self.body.is_end_stream();
            }
            Some(Err(_)) => {}
            None => self.is_complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // Nobody reads the body of an answer to a HEAD.
        let is_cut = !self.is_complete && self.asked.method != Method::HEAD;
        self.metrics.on_end(self.sent_bytes, is_cut);
        let Asked { caller, method, uri, started } = &self.asked;
        tracing::info!(
            target: "access",
            client = caller.as_ref().and_then(|caller| caller.client).map(tracing::field::display),
            host = caller.as_ref().map_or("", |caller| caller.authority.as_str()),
            %method,
            path = uri.path(),
            status = self.status.as_u16(),
            sent_bytes = self.sent_bytes,
            elapsed_ms = started.elapsed().as_millis(),
            is_cut,
        );
    }
}
