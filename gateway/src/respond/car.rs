//! A CAR of what lies along the path and below its end.

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::{IMMUTABLE, common, name_content, no_body, response, unmodified};
use crate::cache::Known;
use crate::error::Refusal;
use crate::format::CarOptions;
use crate::headers::{self, Disposition, NO_RANGES, NOSNIFF};
use crate::limits;
use crate::pipeline::Job;

pub(super) async fn respond(mut job: Job, known: &Known) -> Result<Response, Refusal> {
    let request = &job.request;
    let options = CarOptions::choose(&request.query, &request.headers)?;
    limits::check_content(job.settings(), &known.resolved.kind, options.0.scope)?;
    let cid = known.resolved.cid;
    // Weak: the same blocks may come in another order some day.
    let variant = format!("{} {:?} {}", request.path, options.0.scope, options.content_type());
    let variant = headers::fingerprint(variant.as_bytes());
    let etag = headers::ascii(format!("W/\"{cid}.car.{variant}\""));
    let mut headers = common(request, known, etag, IMMUTABLE);
    if let Some(unmodified) = unmodified(request, &headers)? {
        return Ok(unmodified);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(options.content_type()));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::ACCEPT_RANGES, NO_RANGES);
    name_content(request, &mut headers, Some(Disposition::Attachment), &format!("{cid}.car"));
    if request.head {
        return Ok(response(StatusCode::OK, headers, no_body()));
    }
    // The header of a CAR comes before any block: without this, a missing root would show only after the status.
    job.resolve(true).await?;
    let path = job.target().await?;
    let (first, rest) = job.start(|session| session.car(&path, options.0)).await?;
    Ok(response(StatusCode::OK, headers, job.into_body(first, rest, None)))
}
