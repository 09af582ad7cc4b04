//! A block as it is: raw, or under the name of its codec.

use axum::response::Response;
use http::{HeaderValue, header};

use super::{IMMUTABLE, Part, common, name_content, unmodified};
use crate::cache::Known;
use crate::error::Refusal;
use crate::format::Format;
use crate::headers::{self, Disposition, NOSNIFF};
use crate::pipeline::Job;

/// The block at the end of the path, whatever it holds.
pub(super) async fn raw(job: Job, known: &Known) -> Result<Response, Refusal> {
    respond(job, known, Format::Raw, Disposition::Attachment, "bin").await
}

/// The block at the end of the path, whose codec is one that `format` stands for.
pub(super) async fn of_codec(job: Job, known: &Known, format: Format) -> Result<Response, Refusal> {
    // Source: path-gateway specification, Content-Disposition: browsers show JSON and save CBOR.
    let (disposition, extension) = match format {
        Format::Json | Format::DagJson => (Disposition::Inline, "json"),
        _ => (Disposition::Attachment, "cbor"),
    };
    respond(job, known, format, disposition, extension).await
}

async fn respond(
    mut job: Job,
    known: &Known,
    format: Format,
    disposition: Disposition,
    extension: &str,
) -> Result<Response, Refusal> {
    let cid = known.resolved.cid;
    let etag = headers::etag(&cid, &format!(".{}", format.name()));
    let mut headers = common(&job.request, known, etag, IMMUTABLE);
    if let Some(unmodified) = unmodified(&job.request, &headers)? {
        return Ok(unmodified);
    }
    let content = job.block(&cid).await?.into_data();
    let part = Part::choose(&job.request, &mut headers, content.len() as u64)?;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    name_content(&job.request, &mut headers, Some(disposition), &format!("{cid}.{extension}"));
    Ok(part.of(&content, &job.request, headers))
}
