//! From a request for content to its response: one file per kind.

mod block;
mod car;
mod directory;
mod file;
mod page;
mod preview;
mod record;
mod redirects;
mod symlink;
mod tar;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use cairn_proto::content::NodeKind;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::cache::Known;
use crate::error::{Failure, Refusal};
use crate::format::{self, Choice, Format};
use crate::headers::{self, Disposition, IMMUTABLE, METHODS};
use crate::pipeline::Job;
use crate::range::{self, Ranged};
use crate::request::{ContentRequest, Lifetime, Mount};

pub(crate) use page::{front, refusal, waiting};

/// Answers a request for content.
pub(crate) async fn content(mut job: Job) -> Result<Response, Refusal> {
    if job.request.choice.format == Some(Format::IpnsRecord) {
        return record::respond(job).await;
    }
    let known = match job.resolve(false).await {
        Ok(known) => known,
        Err(missing) if may_redirect(&job.request, &missing) => {
            return redirects::respond(job, missing).await;
        }
        Err(refusal) => return Err(refusal),
    };
    if !known.resolved.remainder.is_empty() {
        let inside = known.resolved.remainder.join("/");
        let message = format!(
            "{inside:?} lies inside the block {}, which is served as a whole only",
            known.resolved.cid
        );
        return Err(Refusal::new(Failure::Unsupported, message));
    }
    match (job.request.choice.format, &known.resolved.kind) {
        (Some(Format::Raw), _) => block::raw(job, &known).await,
        (Some(Format::Car), _) => car::respond(job, &known).await,
        (Some(Format::Tar), kind) if !matches!(kind, NodeKind::Data { .. }) => {
            tar::respond(job, &known).await
        }
        (Some(format), NodeKind::Data { codec }) if format.fits(*codec) => {
            block::of_codec(job, &known, format).await
        }
        (Some(format), NodeKind::Data { .. }) => Err(not_acceptable(format, &known)),
        (Some(Format::Json), NodeKind::File { .. }) => file::json(job, known).await,
        // Programs send `Accept: application/json, */*` for anything, so only the URL is held against the content.
        (Some(format), _) if !(job.request.choice.by_accept && format.is_plain()) => {
            Err(not_acceptable(format, &known))
        }
        _ => as_browsers_see_it(job, known).await,
    }
}

/// Whether the site may have a rule for a path that it does not have. Rules need an origin of their own, for they can say
/// what any path of it is.
fn may_redirect(request: &ContentRequest, refusal: &Refusal) -> bool {
    let wants_page = request.choice.format.is_none_or(|format| request.choice.by_accept && format.is_plain());
    refusal.failure == Failure::NoSuchName && request.mount != Mount::Path && wants_page
}

/// Answers as if no format had been asked for.
async fn as_browsers_see_it(mut job: Job, known: Arc<Known>) -> Result<Response, Refusal> {
    job.request.choice = Choice::default();
    match &known.resolved.kind {
        NodeKind::File { .. } => file::respond(job, known).await,
        NodeKind::Directory { .. } => directory::respond(job, known).await,
        NodeKind::Symlink { target } => symlink::respond(&job.request, &known, target),
        NodeKind::Data { codec } => match Format::of_codec(*codec) {
            Some(format) if wants_preview(&job.request, format) => {
                preview::respond(job, &known, format).await
            }
            Some(format) => block::of_codec(job, &known, format).await,
            None => block::raw(job, &known).await,
        },
    }
}

/// Whether a person wants to look at a block of linked data.
fn wants_preview(request: &ContentRequest, format: Format) -> bool {
    let is_linked = matches!(format, Format::DagJson | Format::DagCbor);
    is_linked && !request.query.download && format::accepts_html(&request.headers)
}

fn not_acceptable(format: Format, known: &Known) -> Refusal {
    let message = match format {
        Format::Tar => format!("{} is no file or folder, so it cannot be a TAR archive", known.resolved.cid),
        _ => format!("{} is not {}, and blocks are not converted", known.resolved.cid, format.name()),
    };
    Refusal::new(Failure::NotAcceptable, message)
}

/// What may be asked, for a page of another origin that asks first.
pub(crate) fn preflight() -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::ALLOW, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response(StatusCode::NO_CONTENT, headers, no_body())
}

/// Sends the client elsewhere, for ever.
pub(crate) fn moved(location: &str) -> Result<Response, Refusal> {
    redirect(StatusCode::MOVED_PERMANENTLY, location)
}

/// Sends the client elsewhere.
pub(crate) fn redirect(status: StatusCode, location: &str) -> Result<Response, Refusal> {
    let value = HeaderValue::try_from(location)
        .map_err(|_| Refusal::new(Failure::Invalid, "the address to go to is not a URL"))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, value);
    headers.insert(header::CONTENT_TYPE, headers::TEXT);
    Ok(response(status, headers, Body::from(format!("go to {location}\n"))))
}

/// The headers that all content has, whether it is sent or known to be unmodified.
fn common(
    request: &ContentRequest,
    known: &Known,
    etag: HeaderValue,
    cache_control: HeaderValue,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(24);
    headers.insert(header::ETAG, etag);
    match request.lifetime {
        Lifetime::Immutable => drop(headers.insert(header::CACHE_CONTROL, cache_control)),
        Lifetime::FreshFor(time) => drop(headers.insert(header::CACHE_CONTROL, headers::fresh_for(time))),
        Lifetime::Unknown => {}
    }
    headers.insert(headers::X_IPFS_ROOTS, known.roots.clone());
    describe(request, &mut headers);
    headers
}

/// The headers that follow from the request alone.
fn describe(request: &ContentRequest, headers: &mut HeaderMap) {
    if let Ok(path) = HeaderValue::from_str(&request.path_text) {
        headers.insert(headers::X_IPFS_PATH, path);
    }
    if request.query.format.is_none() {
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    }
    if let (Some(format), true) = (request.choice.format, request.choice.by_accept) {
        // Shared caches that know nothing of Vary must not mix formats.
        let location = request.url_with_format(format);
        headers.extend(HeaderValue::try_from(location).ok().map(|value| (header::CONTENT_LOCATION, value)));
    }
}

/// 304, if the client has what `headers` would bring; an error, if it wants only something else. In the order of RFC 9110 §13.2.2.
fn unmodified(request: &ContentRequest, headers: &HeaderMap) -> Result<Option<Response>, Refusal> {
    let Some(etag) = headers.get(header::ETAG) else { return Ok(None) };
    let modified = headers.get(header::LAST_MODIFIED);
    if headers::is_unwanted(&request.headers, etag, modified) {
        let message = format!("{} is {} by now", request.path_text, String::from_utf8_lossy(etag.as_bytes()));
        return Err(Refusal::new(Failure::Precondition, message));
    }
    let is_known = headers::is_unmodified(&request.headers, etag)
        || modified.is_some_and(|modified| headers::is_unchanged_since(&request.headers, modified));
    Ok(is_known.then(|| {
        let mut headers = headers.clone();
        // The tag says it better. Source: RFC 9110 §15.4.5.
        headers.remove(header::LAST_MODIFIED);
        response(StatusCode::NOT_MODIFIED, headers, no_body())
    }))
}

/// No body, and no claim about the length of one: axum would say 0 of [`Body::empty`], and in a 304 or in the answer to a
/// HEAD that is the length of what was not sent.
pub(crate) fn no_body() -> Body {
    struct Nothing;

    impl http_body::Body for Nothing {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            Poll::Ready(None)
        }
    }

    Body::new(Nothing)
}

pub(crate) fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Names the content if the URL does, or if it is to be saved; `fallback` is its name if the URL has none.
fn name_content(
    request: &ContentRequest,
    headers: &mut HeaderMap,
    kind: Option<Disposition>,
    fallback: &str,
) {
    let kind = if request.query.download { Some(Disposition::Attachment) } else { kind };
    let (kind, name) = match (kind, &request.query.filename) {
        (kind, Some(name)) => (kind.unwrap_or(Disposition::Inline), name.as_str()),
        (Some(kind), None) => (kind, fallback),
        (None, None) => return,
    };
    headers.insert(header::CONTENT_DISPOSITION, headers::disposition(kind, name));
}

/// The part of a representation that the request asks for. Only a GET has ranges (RFC 9110 §14.2).
struct Part {
    status: StatusCode,
    range: std::ops::Range<u64>,
}

impl Part {
    /// Reads the range and says in `headers` what will come.
    fn choose(request: &ContentRequest, headers: &mut HeaderMap, len_bytes: u64) -> Result<Self, Refusal> {
        headers.insert(header::ACCEPT_RANGES, headers::BYTES);
        let ranged = match headers.get(header::ETAG) {
            Some(etag) if !request.head => {
                range::of(&request.headers, etag, headers.get(header::LAST_MODIFIED), len_bytes)
            }
            _ => Ranged::Whole,
        };
        let part = match ranged {
            Ranged::Whole => Self { status: StatusCode::OK, range: 0..len_bytes },
            Ranged::Part(range) => {
                let content_range = format!("bytes {}-{}/{len_bytes}", range.start, range.end - 1);
                headers.insert(header::CONTENT_RANGE, headers::ascii(content_range));
                Self { status: StatusCode::PARTIAL_CONTENT, range }
            }
            Ranged::Unsatisfiable => {
                let message = format!("the range lies outside of the content, len_bytes={len_bytes}");
                return Err(Refusal::new(Failure::Range { len_bytes }, message));
            }
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.range.end - part.range.start));
        Ok(part)
    }

    /// The response of content that is all in memory.
    fn of(self, content: &Bytes, request: &ContentRequest, headers: HeaderMap) -> Response {
        let body = if request.head { no_body() } else { Body::from(self.slice(content)) };
        response(self.status, headers, body)
    }

    fn slice(&self, content: &Bytes) -> Bytes {
        let index = |at: u64| usize::try_from(at).expect("content in memory has a length that fits");
        content.slice(index(self.range.start)..index(self.range.end))
    }
}
