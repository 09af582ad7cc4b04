//! A path that a site does not have, when its `_redirects` says what to do.

use std::sync::Arc;

use axum::response::Response;
use cairn_proto::path::ContentPath;
use http::{StatusCode, header};
use percent_encoding::percent_decode_str;

use super::file;
use crate::cache::Known;
use crate::error::{Failure, Refusal};
use crate::pipeline::Job;
use crate::redirects::{self, Action, Rules};

/// Answers a request whose path leads to nothing, as `missing` says, by the rules of the site if it has any.
pub(super) async fn respond(mut job: Job, missing: Refusal) -> Result<Response, Refusal> {
    let Some(rules) = rules(&mut job).await? else { return Err(missing) };
    let Some(action) = rules.find(job.request.path.segments(), job.request.raw_query.as_deref()) else {
        return Err(missing);
    };
    if action.status.is_redirection() {
        return super::redirect(action.status, &action.to);
    }
    let known = rewrite(&mut job, &action).await?;
    if action.status == StatusCode::OK {
        return super::as_browsers_see_it(job, known).await;
    }
    if known.len_bytes().is_none() {
        return Err(missing);
    }
    // The page of an error is served whole, whatever part or state of the missing page was wanted.
    for name in [
        header::RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ] {
        job.request.headers.remove(name);
    }
    let mut response = file::respond(job, known).await?;
    *response.status_mut() = action.status;
    Ok(response)
}

/// The rules of the site, if it has any.
async fn rules(job: &mut Job) -> Result<Option<Rules>, Refusal> {
    let file = match job.resolve_in_site(&[redirects::FILE_NAME.to_owned()]).await {
        Ok(file) => file,
        Err(refusal) if refusal.failure == Failure::NoSuchName => return Ok(None),
        Err(refusal) => return Err(refusal),
    };
    let broken = |message| Refusal::new(Failure::Broken, message);
    match file.len_bytes() {
        None => return Ok(None),
        Some(len_bytes) if len_bytes > redirects::MAX_BYTES => return Err(broken(redirects::too_large())),
        Some(_) => {}
    }
    let content = file::content(job, &file).await?;
    Rules::parse(&content).map(Some).map_err(broken)
}

/// Puts the target of a rule in the place of what was asked for.
async fn rewrite(job: &mut Job, action: &Action) -> Result<Arc<Known>, Refusal> {
    let path = action.to.split('?').next().unwrap_or_default();
    let segments =
        path.split('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned());
    let path = ContentPath::new(job.request.path.root().clone(), segments)
        .map_err(|error| Refusal::new(Failure::Broken, error.to_string()))?;
    let known = job.resolve_in_site(path.segments()).await?;
    job.request.slash = action.to.ends_with('/') || path.segments().is_empty();
    job.request.path = path;
    Ok(known)
}
