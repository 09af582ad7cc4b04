//! A symbolic link: its target, as text. Links are not followed, as in boxo.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::{IMMUTABLE, common, name_content, no_body, response, unmodified};
use crate::cache::Known;
use crate::error::Refusal;
use crate::headers::NOSNIFF;
use crate::request::ContentRequest;

pub(super) fn respond(request: &ContentRequest, known: &Known, target: &str) -> Result<Response, Refusal> {
    let mut headers = common(request, known, known.etag.clone(), IMMUTABLE);
    if let Some(unmodified) = unmodified(request, &headers)? {
        return Ok(unmodified);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("inode/symlink"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(target.len()));
    name_content(request, &mut headers, None, request.last_segment().unwrap_or("link"));
    let body = if request.head { no_body() } else { Body::from(target.to_owned()) };
    Ok(response(StatusCode::OK, headers, body))
}
