//! A file: whole or a range of it.

use std::sync::Arc;

use axum::response::Response;
use bytes::{Bytes, BytesMut};
use cairn_proto::limits::MAX_BLOCK_BYTES;
use cairn_proto::unixfs::{self, Node};
use http::{HeaderMap, HeaderValue, header};

use super::{IMMUTABLE, Part, common, name_content, no_body, response, unmodified};
use crate::cache::Known;
use crate::error::{Failure, Refusal};
use crate::format::Format;
use crate::headers::{self, NOSNIFF};
use crate::pipeline::Job;
use crate::{limits, media, sniff};

/// The file at the end of the path.
pub(super) async fn respond(job: Job, file: Arc<Known>) -> Result<Response, Refusal> {
    let headers = common(&job.request, &file, file.etag.clone(), IMMUTABLE);
    let name = job.request.last_segment().map(str::to_owned);
    serve(job, &file, headers, name.as_deref()).await
}

/// `index.html` of the directory at the end of the path, under the tag of the directory.
pub(super) async fn index(job: Job, directory: &Known, file: Arc<Known>) -> Result<Response, Refusal> {
    let headers = common(&job.request, directory, directory.etag.clone(), IMMUTABLE);
    serve(job, &file, headers, Some("index.html")).await
}

/// A file that was asked for as JSON. 99 in 100 requests that name a format in their URL are this.
pub(super) async fn json(mut job: Job, file: Arc<Known>) -> Result<Response, Refusal> {
    let start = start_of(&mut job, &file).await?;
    if sniff::is_json(&start, start.len() as u64 == len_of(&file)) {
        let etag = headers::etag(&file.resolved.cid, ".json");
        let headers = common(&job.request, &file, etag, IMMUTABLE);
        let media_type = HeaderValue::from_static(Format::Json.media_type());
        return serve_as(job, &file, headers, Some(media_type)).await;
    }
    if job.request.choice.by_accept {
        return super::as_browsers_see_it(job, file).await;
    }
    Err(Refusal::new(Failure::NotAcceptable, format!("the content of {} is not JSON", file.resolved.cid)))
}

fn len_of(file: &Known) -> u64 {
    file.len_bytes().expect("only files are served as files")
}

/// Serves a file under the media type of its name, if it has one.
async fn serve(
    job: Job,
    file: &Known,
    mut headers: HeaderMap,
    name: Option<&str>,
) -> Result<Response, Refusal> {
    let of_name = job.request.query.filename.as_deref().or(name).and_then(media::by_name);
    let media_type = of_name.or_else(|| file.media_type());
    match name {
        Some(name) => name_content(&job.request, &mut headers, None, name),
        None => name_content(&job.request, &mut headers, None, &file.resolved.cid.to_string()),
    }
    serve_as(job, file, headers, media_type).await
}

/// Serves a file under `media_type`, or under the one that its content shows.
async fn serve_as(
    mut job: Job,
    file: &Known,
    mut headers: HeaderMap,
    media_type: Option<HeaderValue>,
) -> Result<Response, Refusal> {
    headers.extend(file.modified.clone().map(|modified| (header::LAST_MODIFIED, modified)));
    if let Some(unmodified) = unmodified(&job.request, &headers)? {
        return Ok(unmodified);
    }
    let is_range = job.request.headers.contains_key(header::RANGE);
    limits::check_file(job.settings(), len_of(file), is_range)?;
    let part = Part::choose(&job.request, &mut headers, len_of(file))?;
    if job.request.head {
        let media_type = match media_type {
            Some(media_type) => media_type,
            None => look(&mut job, file).await?,
        };
        insert_media_type(&mut headers, media_type);
        return Ok(response(part.status, headers, no_body()));
    }
    if let Some(content) = in_memory(&mut job, file).await? {
        insert_media_type(&mut headers, media_type.unwrap_or_else(|| shown(file, &content)));
        return Ok(part.of(&content, &job.request, headers));
    }
    stream(job, file, headers, part, media_type).await
}

/// The response of a file of several blocks.
async fn stream(
    mut job: Job,
    file: &Known,
    mut headers: HeaderMap,
    part: Part,
    media_type: Option<HeaderValue>,
) -> Result<Response, Refusal> {
    let cid = file.resolved.cid;
    let media_type = match media_type {
        // A range must be answerable when the blocks outside of it are missing.
        None if part.range.start > 0 => Some(look(&mut job, file).await.unwrap_or(UNKNOWN)),
        media_type => media_type,
    };
    let len_bytes = part.range.end - part.range.start;
    let range = part.range.clone();
    let (first, rest) = job.start(|session| session.bytes(&cid, range)).await?;
    let Some(first) = first else {
        return Err(Refusal::new(Failure::Broken, format!("{cid} has no content where it claims to")));
    };
    insert_media_type(&mut headers, media_type.unwrap_or_else(|| shown(file, &first)));
    Ok(response(part.status, headers, job.into_body(Some(first), rest, Some(len_bytes))))
}

/// All of a file that is known to be small.
pub(super) async fn content(job: &mut Job, file: &Known) -> Result<Bytes, Refusal> {
    if let Some(content) = in_memory(job, file).await? {
        return Ok(content);
    }
    let cid = file.resolved.cid;
    let len_bytes = len_of(file);
    let (first, mut rest) = job.start(|session| session.bytes(&cid, 0..len_bytes)).await?;
    let mut content = BytesMut::from(first.unwrap_or_default());
    while let Some(piece) = job.next(&mut rest).await? {
        content.extend_from_slice(&piece);
    }
    Ok(content.freeze())
}

/// All of a file of one block: no stream is needed for it, and its bytes are not copied. `None` for a larger one.
async fn in_memory(job: &mut Job, file: &Known) -> Result<Option<Bytes>, Refusal> {
    let len_bytes = len_of(file);
    if len_bytes == 0 {
        return Ok(Some(Bytes::new()));
    }
    let cid = file.resolved.cid;
    if len_bytes > MAX_BLOCK_BYTES as u64 {
        return Ok(None);
    }
    let content = match unixfs::decode(&job.block(&cid).await?) {
        Ok(Node::Raw(content)) => content,
        Ok(Node::File(node)) if node.children.is_empty() => node.data,
        Ok(Node::File(_)) => return Ok(None),
        Ok(_) | Err(_) => {
            return Err(Refusal::new(Failure::Broken, format!("{cid} is not the file that it seemed to be")));
        }
    };
    if content.len() as u64 != len_bytes {
        return Err(Refusal::new(Failure::Broken, format!("{cid} is not as long as it claims")));
    }
    Ok(Some(content))
}

const UNKNOWN: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The media type that the content shows, after a look at its start.
async fn look(job: &mut Job, file: &Known) -> Result<HeaderValue, Refusal> {
    let start = start_of(job, file).await?;
    Ok(shown(file, &start))
}

fn shown(file: &Known, start: &[u8]) -> HeaderValue {
    let media_type = sniff::media_type(start, start.len() as u64 == len_of(file));
    file.keep_media_type(&media_type);
    media_type
}

async fn start_of(job: &mut Job, file: &Known) -> Result<Bytes, Refusal> {
    if let Some(content) = in_memory(job, file).await? {
        return Ok(content);
    }
    let cid = file.resolved.cid;
    let end = len_of(file).min(sniff::SNIFF_BYTES as u64);
    let (first, _) = job.start(|session| session.bytes(&cid, 0..end)).await?;
    Ok(first.unwrap_or_default())
}

fn insert_media_type(headers: &mut HeaderMap, media_type: HeaderValue) {
    if media_type == UNKNOWN {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    }
    headers.insert(header::CONTENT_TYPE, media_type);
}
