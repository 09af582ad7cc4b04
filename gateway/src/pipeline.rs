//! The way of a request, and what its steps share.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use cairn_proto::content::{Content, ContentError, PortStream, Session, SessionOptions};
use cairn_proto::path::ContentPath;
use http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::body::ContentBody;
use crate::cache::{Cache, Known};
use crate::error::{Failure, Refusal};
use crate::format;
use crate::headers;
use crate::request::{self, ContentRequest, Scheme, Wanted};
use crate::respond;
use crate::server::Encrypted;
use crate::settings::Settings;

/// A gateway over some content. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

struct Shared {
    content: Arc<dyn Content>,
    settings: Settings,
    cache: Cache,
    permits: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway; it does nothing before requests come.
    pub fn new(content: Arc<dyn Content>, settings: Settings) -> Self {
        let cache = Cache::new(settings.cache_bytes);
        let permits = Arc::new(Semaphore::new(settings.max_requests.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared { content, settings, cache, permits }))
    }

    /// Everything that the gateway answers, for [`serve_http`](crate::serve_http) and [`serve_https`](crate::serve_https).
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    async fn answer(&self, parts: Parts) -> Result<Response, Refusal> {
        let Ok(permit) = Arc::clone(&self.0.permits).try_acquire_owned() else {
            return Err(Refusal::new(Failure::Overloaded, "too many requests at the same time"));
        };
        let scheme = Scheme(if parts.extensions.get::<Encrypted>().is_some() { "https" } else { "http" });
        match request::read(&parts.method, &parts.uri, parts.headers, scheme, &self.0.settings)? {
            Wanted::Preflight => Ok(respond::preflight()),
            Wanted::Front => Ok(respond::front()),
            Wanted::Moved(location) => respond::moved(&location),
            Wanted::Content(request) => {
                respond::content(Job::new(Arc::clone(&self.0), request, permit)).await
            }
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

async fn handle(State(gateway): State<Gateway>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let (started, method, uri) = (Instant::now(), parts.method.clone(), parts.uri.clone());
    let wants_html = format::accepts_html(&parts.headers);
    let mut response = match gateway.answer(parts).await {
        Ok(response) => response,
        Err(refusal) => respond::refusal(&refusal, wants_html),
    };
    headers::allow_every_origin(response.headers_mut());
    let elapsed_ms = started.elapsed().as_millis();
    tracing::debug!(%method, path = uri.path(), status = response.status().as_u16(), elapsed_ms, "request");
    response
}

/// One request for content on its way to a response: its session, its deadline and its place among the others.
pub(crate) struct Job {
    pub(crate) request: Box<ContentRequest>,
    shared: Arc<Shared>,
    /// Opened by the first step that needs content: an answer from what is known needs none.
    session: Option<Opened>,
    permit: OwnedSemaphorePermit,
}

#[derive(Clone)]
struct Opened {
    session: Arc<dyn Session>,
    /// When the first byte has to be there.
    deadline: Instant,
}

impl Job {
    fn new(shared: Arc<Shared>, request: Box<ContentRequest>, permit: OwnedSemaphorePermit) -> Self {
        Self { request, shared, session: None, permit }
    }

    fn open(&mut self) -> Opened {
        let request = &self.request;
        let patience = self.shared.settings.first_byte_timeout;
        let content = &self.shared.content;
        let opened = self.session.get_or_insert_with(|| Opened {
            session: content.session(SessionOptions {
                local_only: request.only_if_cached || request.local_only,
                block_timeout: Some(patience),
            }),
            deadline: Instant::now() + patience,
        });
        opened.clone()
    }

    /// What the path of the request leads to. `fresh` asks the content even when it is known, for a response that
    /// needs every block along the path.
    pub(crate) async fn resolve(&mut self, fresh: bool) -> Result<Arc<Known>, Refusal> {
        if let Some(known) = self.known(&self.request.path).filter(|_| !fresh) {
            return Ok(known);
        }
        let path = self.request.path.clone();
        self.resolve_now(path).await
    }

    /// What `index.html` in the directory of the request is; `None` if there is no such name.
    pub(crate) async fn resolve_index(&mut self, directory: &Known) -> Result<Option<Arc<Known>>, Refusal> {
        if directory.has_no_index() {
            return Ok(None);
        }
        // A path too long to have an index has none.
        let Ok(path) = self.request.path.join("index.html") else { return Ok(None) };
        if let Some(known) = self.known(&path) {
            return Ok(Some(known));
        }
        match self.resolve_now(path).await {
            Ok(known) => Ok(Some(known)),
            Err(refusal) if refusal.failure == Failure::NoSuchName => {
                directory.keep_no_index();
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn known(&self, path: &ContentPath) -> Option<Arc<Known>> {
        // What is known need not be in the store any more, and `only-if-cached` asks just that.
        if self.request.only_if_cached {
            return None;
        }
        self.shared.cache.get(path)
    }

    async fn resolve_now(&mut self, path: ContentPath) -> Result<Arc<Known>, Refusal> {
        let opened = self.open();
        let resolved = self.within(&opened, opened.session.resolve(&path)).await?;
        let known = Arc::new(Known::new(resolved));
        self.shared.cache.insert(path, &known);
        Ok(known)
    }

    /// One block.
    pub(crate) async fn block(&mut self, cid: &Cid) -> Result<Block, Refusal> {
        if let Some(block) = Block::from_identity(*cid) {
            return Ok(block);
        }
        let opened = self.open();
        self.within(&opened, opened.session.block(cid)).await
    }

    /// Starts a stream of the session that `start` asks for and reads its first item, `None` if it has none.
    pub(crate) async fn start<T>(
        &mut self,
        start: impl FnOnce(&dyn Session) -> PortStream<T>,
    ) -> Result<(Option<T>, PortStream<T>), Refusal> {
        let opened = self.open();
        let mut stream = start(&*opened.session);
        let first = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx));
        let first = self.within(&opened, async { first.await.transpose() }).await?;
        Ok((first, stream))
    }

    /// Holds a step to the deadline of the first byte.
    async fn within<T>(
        &self,
        opened: &Opened,
        step: impl Future<Output = Result<T, ContentError>>,
    ) -> Result<T, Refusal> {
        match tokio::time::timeout_at(opened.deadline, step).await {
            Ok(result) => result.map_err(|error| Refusal::from_content(error, self.request.only_if_cached)),
            Err(_) => {
                let seconds = self.shared.settings.first_byte_timeout.as_secs();
                Err(Refusal::timeout(&self.request.path.to_string(), seconds, opened.session.progress()))
            }
        }
    }

    /// The body of a stream whose first chunk is here. Its end is an error unless `len_bytes` came.
    pub(crate) fn into_body(
        mut self,
        first: Option<Bytes>,
        rest: PortStream<Bytes>,
        len_bytes: Option<u64>,
    ) -> Body {
        let session = self.open().session;
        let patience: Duration = self.shared.settings.chunk_timeout;
        Body::new(ContentBody::new(first, rest, len_bytes, patience, session, self.permit))
    }
}
