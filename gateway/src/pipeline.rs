//! The way of a request, and what its steps share.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

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

use crate::body::{ContentBody, Limits};
use crate::cache::{Cache, Known};
use crate::caller::Caller;
use crate::error::{Failure, Refusal};
use crate::format;
use crate::headers;
use crate::host;
use crate::rate::Buckets;
use crate::request::{self, ContentRequest, Wanted};
use crate::respond;
use crate::server::{Client, Encrypted};
use crate::settings::Settings;

/// A gateway over some content. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

struct Shared {
    content: Arc<dyn Content>,
    settings: Settings,
    cache: Cache,
    permits: Arc<Semaphore>,
    rates: Option<Buckets>,
}

impl Gateway {
    /// A gateway; it does nothing before requests come.
    pub fn new(content: Arc<dyn Content>, settings: Settings) -> Self {
        let cache = Cache::new(settings.cache_bytes);
        let permits = Arc::new(Semaphore::new(settings.max_requests.min(Semaphore::MAX_PERMITS)));
        let rates = settings.rate.map(Buckets::new);
        Self(Arc::new(Shared { content, settings, cache, permits, rates }))
    }

    /// Everything that the gateway answers, for [`serve_http`](crate::serve_http) and [`serve_https`](crate::serve_https).
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    async fn answer(&self, parts: Parts, caller: &Caller) -> Result<Response, Refusal> {
        self.0.admit(caller.client)?;
        let Ok(permit) = Arc::clone(&self.0.permits).try_acquire_owned() else {
            return Err(Refusal::new(Failure::Overloaded, "too many requests at the same time"));
        };
        match request::read(&parts.method, &parts.uri, parts.headers, caller, &self.0.settings)? {
            Wanted::Preflight => Ok(respond::preflight()),
            Wanted::Front => Ok(respond::front()),
            Wanted::Moved(location) => respond::moved(&location),
            Wanted::Content(request) => {
                self.0.check(&request.path)?;
                respond::content(Job::new(Arc::clone(&self.0), request, permit)).await
            }
        }
    }
}

impl Shared {
    /// Who sent a request.
    fn caller(&self, parts: &Parts) -> Result<Caller, Refusal> {
        let peer = parts.extensions.get::<Client>().map(|client| client.0);
        let encrypted = parts.extensions.get::<Encrypted>().is_some();
        Caller::of(peer, encrypted, &parts.uri, &parts.headers, &self.settings.trusted_proxies)
    }

    /// Counts a request of a client.
    fn admit(&self, client: Option<IpAddr>) -> Result<(), Refusal> {
        let (Some(rates), Some(address)) = (&self.rates, client) else { return Ok(()) };
        if address.to_canonical().is_loopback() {
            return Ok(());
        }
        rates.take(address).map_err(|wait| {
            let retry_secs = wait.as_secs() + 1;
            Refusal::new(
                Failure::TooOften { retry_secs },
                format!("too many requests, try again in {retry_secs} s"),
            )
        })
    }

    fn check(&self, path: &ContentPath) -> Result<(), Refusal> {
        self.content.check(path).map_err(|error| Refusal::from_content(error, false))
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
    let caller = gateway.0.caller(&parts);
    let answer = match &caller {
        Ok(caller) => gateway.answer(parts, caller).await,
        Err(refusal) => Err(refusal.clone()),
    };
    let mut response = answer.unwrap_or_else(|refusal| respond::refusal(&refusal, wants_html));
    headers::allow_every_origin(response.headers_mut());
    let authority = caller.as_ref().map_or("", |caller| &caller.authority);
    headers::replace(response.headers_mut(), &host::policy(authority, &gateway.0.settings.hosts).headers);
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
    started: Instant,
}

#[derive(Clone)]
struct Opened {
    session: Arc<dyn Session>,
    /// When the first byte has to be there.
    deadline: Instant,
}

impl Job {
    fn new(shared: Arc<Shared>, request: Box<ContentRequest>, permit: OwnedSemaphorePermit) -> Self {
        Self { request, shared, session: None, permit, started: Instant::now() }
    }

    /// What the operator has decided.
    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
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
        if let (Some(known), false) = (self.known(&self.request.path)?, fresh) {
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
        if let Some(known) = self.known(&path)? {
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

    /// What is known of a path, unless any of it was forbidden since.
    fn known(&self, path: &ContentPath) -> Result<Option<Arc<Known>>, Refusal> {
        // What is known need not be in the store any more, and `only-if-cached` asks just that.
        if self.request.only_if_cached {
            return Ok(None);
        }
        let known = self.shared.cache.get(path);
        for cid in known.iter().flat_map(|known| &known.resolved.roots) {
            self.shared.check(&ContentPath::from_cid(*cid))?;
        }
        Ok(known)
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
        let Settings { chunk_timeout, request_timeout, .. } = self.shared.settings;
        let limits = Limits { chunk_timeout, started: self.started, request_timeout };
        Body::new(ContentBody::new(first, rest, len_bytes, limits, session, self.permit))
    }
}
