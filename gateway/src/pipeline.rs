//! The way of a request, and what its steps share.

use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use cairn_proto::content::{Content, ContentError, NameRecord, PortStream, Session, SessionOptions, Target};
use cairn_proto::ipns::Name;
use cairn_proto::path::{ContentPath, Root};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use moka::sync::Cache as Moka;
use tokio::time::Instant;

use crate::body::{ContentBody, Limits};
use crate::cache::{Cache, Known};
use crate::caller::Caller;
use crate::error::{Failure, Refusal};
use crate::format;
use crate::headers;
use crate::host::{self, Site};
use crate::limits;
use crate::measure::{Asked, Measured};
use crate::metrics::Metrics;
use crate::places::{Place, Places};
use crate::rate::Buckets;
use crate::request::{self, ContentRequest, Lifetime, Wanted};
use crate::respond;
use crate::routing::{self, Question};
use crate::search::{self, Searches};
use crate::server::{Client, Encrypted};
use crate::settings::Settings;
use crate::tls::Tls;

/// Longest wait for the DNS to say whether a host is a site by itself; after that it is not.
const SITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a host that is no site is taken for none.
const NOT_SITE_TIME: Duration = Duration::from_secs(60);

/// Hosts that are known to be no sites.
const MAX_NOT_SITES: u64 = 10_000;

/// A gateway over some content. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    /// What requests from now on go by; those that run keep what they began with.
    current: RwLock<Arc<Shared>>,
    is_stopping: AtomicBool,
}

#[derive(Clone)]
struct Shared {
    content: Arc<dyn Content>,
    settings: Settings,
    /// The certificates that browsers find over HTTPS, where it is this program that speaks it.
    tls: Option<Tls>,
    cache: Cache,
    /// Domains that were no sites a moment ago, so that a host does not wait for the DNS with every request.
    not_sites: Moka<String, ()>,
    places: Places,
    rates: Option<Arc<Buckets>>,
    metrics: Arc<Metrics>,
    searches: Searches,
}

impl Gateway {
    /// A gateway; it does nothing before requests come.
    ///
    /// With `tls` browsers are sent to HTTPS for the domains that it has certificates for, without it for all of them, if
    /// the settings say so at all: then it is a proxy that has the certificates.
    pub fn new(content: Arc<dyn Content>, settings: Settings, tls: Option<Tls>) -> Self {
        let cache = Cache::new(settings.cache_bytes);
        let not_sites = Moka::builder().max_capacity(MAX_NOT_SITES).time_to_live(NOT_SITE_TIME).build();
        let (places, rates) = (Places::default(), rates(&settings));
        let (metrics, searches) = (Arc::default(), Searches::new());
        let shared = Shared { content, settings, tls, cache, not_sites, places, rates, metrics, searches };
        Self(Arc::new(Inner { current: RwLock::new(Arc::new(shared)), is_stopping: AtomicBool::new(false) }))
    }

    /// Goes by other settings from now on. Requests that run keep what they began with, though they count against a new
    /// [`Settings::max_requests`]; [`Settings::cache_bytes`] stays what it was.
    pub fn reload(&self, settings: Settings) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Shared::clone(&current);
        if settings.rate != next.settings.rate {
            next.rates = rates(&settings);
        }
        next.settings = settings;
        *current = Arc::new(next);
    }

    /// Says from now on that it is not ready, and answers requests as before: a load balancer looks elsewhere before
    /// connections end.
    pub fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }

    /// Whether one more request would be answered.
    pub(crate) fn has_room(&self) -> bool {
        let shared = self.shared();
        shared.places.has_room(shared.settings.max_requests)
    }

    /// Its counters.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared().metrics)
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything that the gateway answers, for [`serve_http`](crate::serve_http) and [`serve_https`](crate::serve_https).
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }
}

fn rates(settings: &Settings) -> Option<Arc<Buckets>> {
    settings.rate.map(|rate| Arc::new(Buckets::new(rate)))
}

impl Shared {
    async fn answer(self: &Arc<Self>, parts: Parts, caller: &Caller) -> Result<Response, Refusal> {
        self.admit(caller.client)?;
        if let Some(location) = self.with_tls(&parts, caller) {
            return respond::moved(&location);
        }
        let Some(place) = self.places.take(self.settings.max_requests) else {
            return Err(Refusal::new(Failure::Overloaded, "too many requests at the same time"));
        };
        let site = self.site(&parts.method, caller).await;
        if let (None, Some(question)) = (&site, self.question(&parts, caller)?) {
            let is_head = parts.method == Method::HEAD;
            return self.tell(question, caller, is_head, place).await;
        }
        let domain = site.as_ref().map(|(domain, _)| domain.as_str());
        match request::read(&parts.method, &parts.uri, parts.headers, caller, domain, &self.settings)? {
            Wanted::Preflight => Ok(respond::preflight()),
            Wanted::Front => Ok(respond::front()),
            Wanted::Moved(location) => respond::moved(&location),
            Wanted::Found(location) => respond::redirect(StatusCode::FOUND, &location),
            Wanted::Content(request) => {
                self.check(&request.path)?;
                let mut job = Job::new(Arc::clone(self), request, place);
                if let Some((_, target)) = site {
                    job.arrive(target);
                }
                if search::is_for_people(&job.request) {
                    return self.searches.content(job).await;
                }
                respond::content(job).await
            }
        }
    }

    /// Who sent a request.
    fn caller(&self, parts: &Parts) -> Result<Caller, Refusal> {
        let peer = parts.extensions.get::<Client>().map(|client| client.0);
        let encrypted = parts.extensions.get::<Encrypted>().is_some();
        Caller::of(peer, encrypted, &parts.uri, &parts.headers, &self.settings.trusted_proxies)
    }

    /// Where a request is to be sent again, with TLS.
    fn with_tls(&self, parts: &Parts, caller: &Caller) -> Option<String> {
        let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
        if !(self.settings.redirect_to_https && is_read && caller.scheme == "http") {
            return None;
        }
        let domain = host::domain(&caller.authority)?;
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        // A site whose owner pointed a domain here may have no certificate, and works without one.
        let is_covered = self.tls.as_ref().is_none_or(|tls| tls.covers(domain));
        is_covered.then(|| format!("https://{domain}{path}"))
    }

    /// Headers that depend on who asks and how, whatever the answer is.
    fn finish(&self, caller: Option<&Caller>, response: &mut HeaderMap) {
        headers::allow_every_origin(response);
        let authority = caller.map_or("", |caller| &caller.authority);
        if let (Some(age), Some(Caller { scheme: "https", .. }), Some(_)) =
            (self.settings.hsts, caller, host::domain(authority))
        {
            let value = headers::ascii(format!("max-age={}", age.as_secs()));
            response.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
        headers::replace(response, &host::policy(authority, &self.settings.hosts).headers);
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

    /// The domain that a request was sent to and where its DNSLink leads, if it has one.
    async fn site(&self, method: &Method, caller: &Caller) -> Option<(String, Target)> {
        let domain = request::possible_site(method, caller, &self.settings)?;
        if self.not_sites.contains_key(domain) {
            return None;
        }
        let path = ContentPath::new(Root::Ipns(domain.to_owned()), [] as [&str; 0]).ok()?;
        let session = self.content.session(SessionOptions { local_only: true, block_timeout: None });
        match tokio::time::timeout(SITE_TIMEOUT, session.name(&path)).await {
            Ok(Ok(target)) => Some((domain.to_owned(), target)),
            _ => {
                self.not_sites.insert(domain.to_owned(), ());
                None
            }
        }
    }

    /// The question of the routing API that a request asks, if it does.
    fn question(&self, parts: &Parts, caller: &Caller) -> Result<Option<Question>, Refusal> {
        let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
        let Some(path) = parts.uri.path().strip_prefix(routing::PREFIX) else { return Ok(None) };
        let is_gateway =
            matches!(host::site(&caller.authority, &self.settings.hosts), Ok(Site::Gateway | Site::Path));
        if !(is_read && is_gateway && self.settings.routing) {
            return Ok(None);
        }
        Question::read(path, parts.uri.query(), &parts.headers).map(Some)
    }

    /// Answers a question of the routing API.
    async fn tell(
        &self,
        question: Question,
        caller: &Caller,
        is_head: bool,
        place: Place,
    ) -> Result<Response, Refusal> {
        let policy = host::policy(&caller.authority, &self.settings.hosts);
        let local_only = request::is_local_only(policy, caller);
        match (question, self.content.routing()) {
            (Question::Record(name), _) => {
                let session = self.content.session(SessionOptions { local_only, block_timeout: None });
                let record = tokio::time::timeout(self.settings.first_byte_timeout, session.record(&name));
                Ok(routing::record(record.await.ok().and_then(Result::ok), is_head))
            }
            (Question::Peers(peers), Some(source)) if !local_only => {
                if let Some(cid) = peers.content() {
                    self.check(&ContentPath::from_cid(*cid))?;
                }
                let public_only = !caller.client.is_none_or(host::is_near);
                peers.respond(&*source, public_only, is_head, place).await
            }
            (Question::Peers(_), _) => {
                let message = "this gateway asks no peers for visitors of this host";
                Err(Refusal::new(Failure::NoSuchUrl, message))
            }
        }
    }

    fn check(&self, path: &ContentPath) -> Result<(), Refusal> {
        self.content.check(path).map_err(|error| Refusal::from_content(error, false))
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("settings", &self.shared().settings).finish_non_exhaustive()
    }
}

async fn handle(State(gateway): State<Gateway>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let (started, method, uri) = (Instant::now(), parts.method.clone(), parts.uri.clone());
    let shared = gateway.shared();
    let metrics = Arc::clone(&shared.metrics);
    metrics.on_start();
    let wants_html = format::accepts_html(&parts.headers);
    let caller = shared.caller(&parts);
    let mut asked = Asked { caller: None, method, uri, started };
    // A client that goes away ends this function at its next wait.
    let mut waiting = Waiting(Some(Arc::clone(&metrics)));
    let answer = match &caller {
        Ok(caller) => shared.answer(parts, caller).await,
        Err(refusal) => Err(refusal.clone()),
    };
    waiting.0 = None;
    let mut response = answer.unwrap_or_else(|refusal| respond::refusal(&refusal, wants_html));
    shared.finish(caller.as_ref().ok(), response.headers_mut());
    let wait = started.elapsed();
    metrics.on_head(response.status(), wait);
    let timing = headers::ascii(format!("wait;dur={:.1}", wait.as_secs_f64() * 1000.0));
    response.headers_mut().insert(headers::SERVER_TIMING, timing);
    asked.caller = caller.ok();
    let status = response.status();
    response.map(|body| Body::new(Measured::new(body, asked, status, metrics)))
}

/// A request that has no response yet; dropping it says that it never gets one.
struct Waiting(Option<Arc<Metrics>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(metrics) = &self.0 {
            metrics.on_end(0, true);
        }
    }
}

/// One request for content on its way to a response: its session, its deadline and its place among the others.
pub(crate) struct Job {
    pub(crate) request: Box<ContentRequest>,
    shared: Arc<Shared>,
    /// Opened by the first step that needs content: an answer from what is known needs none.
    session: Option<Opened>,
    /// Where the name at the root of the path leads, once that is known.
    site: Option<ContentPath>,
    place: Place,
    started: Instant,
}

#[derive(Clone)]
struct Opened {
    session: Arc<dyn Session>,
    /// When the first byte has to be there.
    deadline: Instant,
}

impl Job {
    fn new(shared: Arc<Shared>, request: Box<ContentRequest>, place: Place) -> Self {
        Self { request, shared, session: None, site: None, place, started: Instant::now() }
    }

    /// What the operator has decided.
    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// The content side of the request.
    pub(crate) fn session(&mut self) -> Arc<dyn Session> {
        self.open().session
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
        let path = self.target().await?;
        if let (Some(known), false) = (self.known(&path)?, fresh) {
            return Ok(known);
        }
        self.resolve_now(path).await
    }

    /// What other segments lead to, from where the path of the request starts.
    pub(crate) async fn resolve_in_site(&mut self, segments: &[String]) -> Result<Arc<Known>, Refusal> {
        let path = below(&self.site().await?, segments)?;
        if let Some(known) = self.known(&path)? {
            return Ok(known);
        }
        self.resolve_now(path).await
    }

    /// The path of the request from a CID on, its name resolved.
    pub(crate) async fn target(&mut self) -> Result<ContentPath, Refusal> {
        let site = self.site().await?;
        below(&site, self.request.path.segments())
    }

    /// Where the root of the path leads: to itself, if it is a CID.
    async fn site(&mut self) -> Result<ContentPath, Refusal> {
        if let Some(site) = &self.site {
            return Ok(site.clone());
        }
        let root = request::rooted(self.request.path.root().clone(), &[])?;
        let Root::Ipns(_) = root.root() else { return Ok(self.site.insert(root).clone()) };
        let mut found = self.look_up(&root).await;
        if let (Err(Refusal { failure: Failure::NoSuchSite | Failure::Invalid, .. }), Some(other)) =
            (&found, self.request.other_name.take())
        {
            let other = request::rooted(Root::Ipns(other), &[])?;
            found = match self.look_up(&other).await {
                Ok(target) => Ok(target),
                // The first reading is the likelier one, and so are its words.
                Err(_) => found,
            };
        }
        Ok(self.arrive(found?))
    }

    /// Takes note of where the name at the root of the path leads.
    pub(crate) fn arrive(&mut self, target: Target) -> ContentPath {
        self.request.lifetime = target.fresh_for.map_or(Lifetime::Unknown, Lifetime::FreshFor);
        self.site.insert(target.path).clone()
    }

    async fn look_up(&mut self, name: &ContentPath) -> Result<Target, Refusal> {
        let opened = self.open();
        let only_if_cached = self.request.only_if_cached;
        let refuse = |error| Refusal::from_name(error, only_if_cached);
        self.within(&opened, opened.session.name(name), refuse).await
    }

    /// The record of a name.
    pub(crate) async fn record(&mut self, name: &Name) -> Result<NameRecord, Refusal> {
        let opened = self.open();
        let only_if_cached = self.request.only_if_cached;
        let refuse = |error| Refusal::from_name(error, only_if_cached);
        self.within(&opened, opened.session.record(name), refuse).await
    }

    /// What `index.html` in the directory of the request is; `None` if there is no such name.
    pub(crate) async fn resolve_index(&mut self, directory: &Known) -> Result<Option<Arc<Known>>, Refusal> {
        if directory.has_no_index() {
            return Ok(None);
        }
        // A path too long to have an index has none.
        let Ok(path) = self.target().await?.join("index.html") else { return Ok(None) };
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
        let resolved = self.content(&opened, opened.session.resolve(&path)).await?;
        let known = Arc::new(Known::new(resolved));
        self.shared.cache.insert(path, &known);
        Ok(known)
    }

    /// One block.
    pub(crate) async fn block(&mut self, cid: &Cid) -> Result<Block, Refusal> {
        if let Some(block) = Block::from_identity(*cid) {
            return Ok(block);
        }
        // As for paths: what is known need not be in the store any more, and may be forbidden since.
        if let (Some(block), false) = (self.shared.cache.block(cid), self.request.only_if_cached) {
            self.shared.check(&ContentPath::from_cid(*cid))?;
            return Ok(block);
        }
        let opened = self.open();
        let block = self.content(&opened, opened.session.block(cid)).await?;
        self.shared.cache.insert_block(&block);
        Ok(block)
    }

    /// Starts a stream of the session that `start` asks for and reads its first item, `None` if it has none.
    pub(crate) async fn start<T>(
        &mut self,
        start: impl FnOnce(&dyn Session) -> PortStream<T>,
    ) -> Result<(Option<T>, PortStream<T>), Refusal> {
        let opened = self.open();
        let mut stream = start(&*opened.session);
        let first = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx));
        let first = self.content(&opened, async { first.await.transpose() }).await?;
        Ok((first, stream))
    }

    /// The next item of a stream that [`Self::start`] gave, `None` at its end.
    pub(crate) async fn next<T>(&mut self, stream: &mut PortStream<T>) -> Result<Option<T>, Refusal> {
        let opened = self.open();
        let next = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx));
        self.content(&opened, async { next.await.transpose() }).await
    }

    /// Holds a step towards content to the deadline of the first byte.
    async fn content<T>(
        &self,
        opened: &Opened,
        step: impl Future<Output = Result<T, ContentError>>,
    ) -> Result<T, Refusal> {
        let refuse = |error| Refusal::from_content(error, self.request.only_if_cached);
        self.within(opened, step, refuse).await
    }

    /// Holds a step to the deadline of the first byte.
    async fn within<T>(
        &self,
        opened: &Opened,
        step: impl Future<Output = Result<T, ContentError>>,
        refuse: impl FnOnce(ContentError) -> Refusal,
    ) -> Result<T, Refusal> {
        match tokio::time::timeout_at(opened.deadline, step).await {
            Ok(result) => result.map_err(refuse),
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
        let max_bytes = limits::max_archive_bytes(&self.shared.settings);
        let limits = Limits { chunk_timeout, started: self.started, request_timeout, max_bytes };
        Body::new(ContentBody::new(first, rest, len_bytes, limits, session, self.place))
    }
}

/// A path further down.
fn below(path: &ContentPath, segments: &[String]) -> Result<ContentPath, Refusal> {
    let segments = path.segments().iter().chain(segments);
    ContentPath::new(path.root().clone(), segments)
        .map_err(|error| Refusal::new(Failure::TooLong, error.to_string()))
}
