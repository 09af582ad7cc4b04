//! What is not content: the front page and refusals.

use axum::body::Body;
use axum::response::Response;
use cairn_proto::content::Progress;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::response;
use crate::error::{Failure, Refusal};
use crate::headers::{self, METHODS, NOSNIFF, TEXT};
use crate::pages;

/// The page at the root of a gateway.
pub(crate) fn front() -> Response {
    let mut headers = HeaderMap::new();
    headers::page(&mut headers);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response(StatusCode::OK, headers, Body::from(pages::front()))
}

/// The page that stands in for content while it is looked for. The browser asks again by itself.
pub(crate) fn waiting(path: &str, progress: Progress) -> Response {
    /// Source: <https://html.spec.whatwg.org/multipage/document-lifecycle.html#shared-declarative-refresh-steps>.
    const REFRESH: HeaderName = HeaderName::from_static("refresh");
    let mut headers = HeaderMap::new();
    headers::page(&mut headers);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFRESH, HeaderValue::from_static("2"));
    response(StatusCode::ACCEPTED, headers, Body::from(pages::waiting(path, progress)))
}

/// A refusal: a page for people, a line of text for programs.
pub(crate) fn refusal(refusal: &Refusal, wants_html: bool) -> Response {
    let row = refusal.failure.row();
    let mut headers = HeaderMap::new();
    let body = if wants_html {
        headers::page(&mut headers);
        pages::refusal(&row, &refusal.message)
    } else {
        headers.insert(header::CONTENT_TYPE, TEXT);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        format!("{}\n", refusal.message)
    };
    headers.insert(header::CACHE_CONTROL, row.cache_control);
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Some(seconds) = row.retry_after {
        headers.insert(header::RETRY_AFTER, seconds);
    }
    match refusal.failure {
        Failure::Method => {
            headers.insert(header::ALLOW, METHODS);
        }
        Failure::Range { len_bytes } => {
            headers.insert(header::CONTENT_RANGE, headers::ascii(format!("bytes */{len_bytes}")));
        }
        _ => {}
    }
    response(row.status, headers, Body::from(body))
}
