//! A page for people while content is looked for, in place of a window that stays white.
//!
//! The search goes on for a while after the page was sent, so that the next look finds more than this one did. Looks at one
//! path share one search.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::response::Response;
use cairn_proto::content::Session;
use moka::sync::Cache as Moka;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Failure, Refusal};
use crate::pipeline::Job;
use crate::request::ContentRequest;
use crate::respond;

/// How long a person waits for content before there is a page.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a search goes on without anybody who looks.
const KEEP: Duration = Duration::from_secs(60);
/// Searches that are remembered. Those that run are fewer: each is one of the requests at the same time.
const MAX_SEARCHES: u64 = 1024;

/// The searches that people wait for, by path. Clones share them.
#[derive(Clone)]
pub(crate) struct Searches(Moka<String, Arc<Search>>);

struct Search {
    /// For its progress.
    session: Arc<dyn Session>,
    over: CancellationToken,
    /// Why it was in vain.
    refusal: OnceLock<Refusal>,
}

/// Whether a page may stand in for content: a browser asks for what is to fill a window, and it may be fetched.
pub(crate) fn is_for_people(request: &ContentRequest) -> bool {
    let fills_window = request.headers.get("sec-fetch-dest").is_some_and(|dest| dest == "document");
    fills_window
        && !request.head
        && !request.local_only
        && !request.only_if_cached
        && !request.query.download
        && request.choice.format.is_none()
}

impl Searches {
    pub(crate) fn new() -> Self {
        Self(Moka::builder().max_capacity(MAX_SEARCHES).time_to_live(KEEP * 3 / 2).build())
    }

    /// Answers with content if it is there in time, else with a page that asks again by itself.
    ///
    /// # Cancellation
    /// A search that no page was sent for ends.
    pub(crate) async fn content(&self, mut job: Job) -> Result<Response, Refusal> {
        let path = job.request.path.to_string();
        if let Some(search) = self.0.get(&path) {
            if timeout(PATIENCE, search.over.cancelled()).await.is_err() {
                return Ok(respond::waiting(&path, search.session.progress()));
            }
            self.0.invalidate(&path);
            if let Some(refusal) = search.refusal.get() {
                return Err(refusal.clone());
            }
        }
        let session = job.session();
        let mut answer = AbortOnDropHandle::new(tokio::spawn(respond::content(job)));
        if let Ok(done) = timeout(PATIENCE, &mut answer).await {
            return done.unwrap_or_else(|error| {
                tracing::error!(%error, "a request panicked");
                Err(Refusal::new(Failure::Internal, "internal error"))
            });
        }
        let page = respond::waiting(&path, session.progress());
        let search = Arc::new(Search { session, over: CancellationToken::new(), refusal: OnceLock::new() });
        self.0.insert(path, Arc::clone(&search));
        // It ends by itself, and counts as one request until then.
        tokio::spawn(async move { search.follow(answer).await });
        Ok(page)
    }
}

impl Search {
    async fn follow(&self, answer: AbortOnDropHandle<Result<Response, Refusal>>) {
        if let Ok(Ok(Err(refusal))) = timeout(KEEP, answer).await {
            // The first to be told asks anew after that.
            let _ = self.refusal.set(refusal);
        }
        self.over.cancel();
    }
}
