//! A UnixFS tree as a tar archive.

use axum::response::Response;
use cairn_proto::content::DagScope;
use http::{HeaderValue, StatusCode, header};

use super::{IMMUTABLE, common, name_content, no_body, response, unmodified};
use crate::cache::Known;
use crate::error::Refusal;
use crate::format::Format;
use crate::headers::{self, Disposition, NO_RANGES, NOSNIFF};
use crate::limits;
use crate::pipeline::Job;

pub(super) async fn respond(mut job: Job, known: &Known) -> Result<Response, Refusal> {
    let cid = known.resolved.cid;
    limits::check_content(job.settings(), &known.resolved.kind, DagScope::All)?;
    // Weak: the same tree may be written in another way some day.
    let etag = headers::ascii(format!("W/\"{cid}.x-tar\""));
    let mut headers = common(&job.request, known, etag, IMMUTABLE);
    if let Some(unmodified) = unmodified(&job.request, &headers)? {
        return Ok(unmodified);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Format::Tar.media_type()));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::ACCEPT_RANGES, NO_RANGES);
    name_content(&job.request, &mut headers, Some(Disposition::Attachment), &format!("{cid}.tar"));
    if job.request.head {
        return Ok(response(StatusCode::OK, headers, no_body()));
    }
    let (first, rest) = job.start(|session| session.tar(&cid.to_string(), &known.resolved)).await?;
    Ok(response(StatusCode::OK, headers, job.into_body(first, rest, None)))
}
