//! The record of an IPNS name, for whoever wants to check it.

use axum::body::Body;
use axum::response::Response;
use cairn_proto::ipns::Name;
use cairn_proto::path::Root;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{describe, name_content, no_body, response, unmodified};
use crate::error::{Failure, Refusal};
use crate::format::Format;
use crate::headers::{self, Disposition, NOSNIFF};
use crate::pipeline::Job;

/// The record of the name that the path is.
pub(super) async fn respond(mut job: Job) -> Result<Response, Refusal> {
    let name = match job.request.path.root() {
        Root::Ipns(name) if job.request.path.segments().is_empty() => Name::parse(name).ok(),
        _ => None,
    };
    let Some(name) = name else {
        let message = format!("only an IPNS key without a path has a record, not {}", job.request.path);
        return Err(Refusal::new(Failure::Invalid, message));
    };
    let record = job.record(&name).await?;
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(header::ETAG, headers::ascii(format!("\"{}\"", headers::fingerprint(&record.bytes))));
    headers.insert(header::CACHE_CONTROL, headers::fresh_for(record.fresh_for));
    describe(&job.request, &mut headers);
    if let Some(unmodified) = unmodified(&job.request, &headers)? {
        return Ok(unmodified);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Format::IpnsRecord.media_type()));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(record.bytes.len()));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    name_content(&job.request, &mut headers, Some(Disposition::Attachment), &format!("{name}.ipns-record"));
    let body = if job.request.head { no_body() } else { Body::from(record.bytes) };
    Ok(response(StatusCode::OK, headers, body))
}
