//! A block of structured data as a page to look at.

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use cairn_proto::codec;
use http::StatusCode;

use super::{common, no_body, response, unmodified};
use crate::cache::Known;
use crate::error::Refusal;
use crate::format::Format;
use crate::headers::{self, GENERATED};
use crate::pipeline::Job;
use crate::preview::{self, Preview};

/// Changes with the page, so that a browser does not keep the look of an older version.
static TEMPLATE: LazyLock<String> = LazyLock::new(|| headers::fingerprint(preview::SOURCE.as_bytes()));

/// Largest block that is shown, in bytes: a page is many times as long.
const MAX_SHOWN_BYTES: usize = 128 * 1024;

/// The block at the end of the path, whose codec is named `format`.
pub(super) async fn respond(mut job: Job, known: &Known, format: Format) -> Result<Response, Refusal> {
    let cid = known.resolved.cid;
    let etag = headers::ascii(format!("\"DagIndex-{}_CID-{cid}\"", *TEMPLATE));
    let mut headers = common(&job.request, known, etag, GENERATED);
    if let Some(unmodified) = unmodified(&job.request, &headers)? {
        return Ok(unmodified);
    }
    headers::page(&mut headers);
    if job.request.head {
        return Ok(response(StatusCode::OK, headers, no_body()));
    }
    let data = job.block(&cid).await?.into_data();
    let value = if data.len() > MAX_SHOWN_BYTES {
        Err("This block is too large to be shown.".to_owned())
    } else {
        codec::decode(cid.codec(), &data).map_err(|error| error.to_string())
    };
    let page = Preview::new(&job.request, &cid, format.name(), data.len() as u64, value).page();
    Ok(response(StatusCode::OK, headers, Body::from(page)))
}
