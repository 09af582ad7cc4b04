//! A directory: its `index.html` in place, else a listing made from the directory alone.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use axum::response::Response;
use bytes::Bytes;
use cairn_proto::content::{ContentError, Entry, PortStream};
use futures_core::Stream;
use http::StatusCode;

use super::{common, file, moved, no_body, response, unmodified};
use crate::cache::Known;
use crate::error::{Failure, Refusal};
use crate::headers::{self, GENERATED};
use crate::pages::{self, Listing};
use crate::pipeline::Job;

/// Rows are sent in pieces of about this size, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// Changes with the page, so that a browser does not keep the look of an older version.
static TEMPLATE: LazyLock<String> = LazyLock::new(|| headers::fingerprint(pages::LISTING_SOURCE.as_bytes()));

pub(super) async fn respond(mut job: Job, directory: Arc<Known>) -> Result<Response, Refusal> {
    let request = &job.request;
    // Go's tools ask for `?go-get=1` without a slash and follow no redirect.
    if !request.slash && !request.query.go_get {
        let query = request.raw_query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
        return moved(&format!("{}/{query}", request.base_url()));
    }
    match job.resolve_index(&directory).await? {
        Some(index) if index.len_bytes().is_some() => file::index(job, &directory, index).await,
        Some(_) => Err(Refusal::new(Failure::IndexNotFile, "index.html is not a file")),
        None => list(job, &directory).await,
    }
}

async fn list(mut job: Job, directory: &Known) -> Result<Response, Refusal> {
    let cid = directory.resolved.cid;
    let etag = headers::ascii(format!("\"DirIndex-{}_CID-{cid}\"", *TEMPLATE));
    let mut headers = common(&job.request, directory, etag, GENERATED);
    if let Some(unmodified) = unmodified(&job.request, &headers)? {
        return Ok(unmodified);
    }
    headers::page(&mut headers);
    if job.request.head {
        return Ok(response(StatusCode::OK, headers, no_body()));
    }
    let page = Listing::new(&job.request, directory);
    let max_rows = job.settings().max_rows;
    let (first, rest) =
        job.start(|session| Box::pin(Rows::new(page, session.entries(&cid), max_rows))).await?;
    Ok(response(StatusCode::OK, headers, job.into_body(first, rest, None)))
}

/// The page as a stream: its head with the first entries that are there, then the others as they come.
struct Rows {
    page: Listing,
    entries: PortStream<Entry>,
    piece: String,
    /// Rows that may still be written.
    rows_left: u64,
    state: State,
}

enum State {
    /// Nothing is written before an entry or the end shows that the directory can be read.
    Head,
    Rows,
    Done,
}

impl Rows {
    fn new(page: Listing, entries: PortStream<Entry>, max_rows: u64) -> Self {
        Self { page, entries, piece: String::new(), rows_left: max_rows, state: State::Head }
    }

    fn begin(&mut self) {
        if matches!(self.state, State::Head) {
            self.page.write_head(&mut self.piece);
            self.state = State::Rows;
        }
    }
}

impl Stream for Rows {
    type Item = Result<Bytes, ContentError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if matches!(this.state, State::Done) {
            return Poll::Ready(None);
        }
        while this.piece.len() < PIECE_BYTES {
            let entry = match this.entries.as_mut().poll_next(cx) {
                Poll::Pending if !this.piece.is_empty() => break,
                entry => ready!(entry),
            };
            match entry.transpose() {
                Err(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(error)));
                }
                Ok(Some(entry)) if this.rows_left > 0 => {
                    this.rows_left -= 1;
                    this.begin();
                    this.page.write_row(&mut this.piece, &entry);
                }
                Ok(end) => {
                    this.begin();
                    this.page.write_foot(&mut this.piece, end.is_none());
                    this.state = State::Done;
                    break;
                }
            }
        }
        Poll::Ready(Some(Ok(Bytes::from(std::mem::take(&mut this.piece)))))
    }
}
