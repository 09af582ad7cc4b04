//! Asking servers of the web: connections, TLS, and which hosts may be asked at all.
//!
//! No redirect is followed: a server that may be asked must not choose another. A host that anybody may have named is asked
//! at public addresses only, as they are after its name was looked up. Whoever asks bounds the answer in time and length.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tower::Service;

use crate::swarm::is_public_ip;
use crate::{Error, Result};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to one server that are kept while nothing is asked, and how long.
const MAX_IDLE_CONNECTIONS: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(60);
/// Most bytes of an answer's headers.
const MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Which addresses a host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Public ones: the host was named by a stranger, who could mean a machine behind our firewall.
    Public,
    /// Any: the host was named by the operator.
    Any,
}

impl Addresses {
    fn allow(self, address: IpAddr) -> bool {
        self == Self::Any || is_public_ip(address)
    }
}

/// How a [`Client`] asks.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Which addresses are asked.
    pub(crate) addresses: Addresses,
    /// PEM file of the roots to trust, in place of those of this computer.
    pub(crate) roots: Option<PathBuf>,
    /// What servers are told of who asks.
    pub(crate) agent: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("not a URL, url={0:?}")]
    NotAUrl(String),
    /// The host has no address that may be asked.
    #[error("the host has no public address")]
    Refused,
    /// The server cannot be reached, or does not speak HTTP.
    #[error("the server cannot be reached: {0}")]
    Failed(String),
}

/// An answer, of which the body is still to come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Body(Incoming);

impl Body {
    /// The next piece, `None` at the end.
    ///
    /// # Cancellation
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.0.frame().await? {
                // Trailers mean nothing here.
                Ok(frame) => {
                    if let Ok(piece) = frame.into_data() {
                        return Some(Ok(piece));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A client of servers of the web. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Pool<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
    addresses: Addresses,
    agent: HeaderValue,
}

impl Client {
    /// A client; it connects when it is asked for something.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for a file of roots that cannot be used, and for an agent that is no header.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let mut connector = HttpConnector::new_with_resolver(Resolver(options.addresses));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(options.roots.as_deref())?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(connector);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .http1_max_buf_size(MAX_HEADER_BYTES as usize)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_adaptive_window(true)
            .build(connector);
        let agent = HeaderValue::from_str(&options.agent)
            .map_err(|error| Error::invalid(format!("not an agent: {error}")))?;
        Ok(Self { pool, addresses: options.addresses, agent })
    }

    /// Asks for a URL.
    ///
    /// # Errors
    /// [`AskError`].
    ///
    /// # Cancellation
    /// Safe: the request is given up.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &str,
        accept: HeaderValue,
    ) -> Result<Answer, AskError> {
        let uri: Uri = url.parse().map_err(|_| AskError::NotAUrl(url.to_owned()))?;
        // The resolver is not asked for what is an address already.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.parse().is_ok_and(|address| !self.addresses.allow(address)) {
            return Err(AskError::Refused);
        }
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, self.agent.clone())
            .body(Empty::new())
            .map_err(|_| AskError::NotAUrl(url.to_owned()))?;
        let (head, body) = self.pool.request(request).await.map_err(|error| why(&error))?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: Body(body) })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn why(error: &hyper_util::client::legacy::Error) -> AskError {
    // The outermost error says no more than that there is one.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<NotPublic>() {
        Some(_) => AskError::Refused,
        None => AskError::Failed(cause.to_string()),
    }
}

fn tls(roots: Option<&Path>) -> Result<ClientConfig> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(path) => {
            let unusable = |error: &dyn std::fmt::Display| {
                Error::invalid(format!(
                    "no certificates to trust can be read from {}: {error}",
                    path.display()
                ))
            };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(&error))?;
                trusted.add(certificate).map_err(|error| unusable(&error))?;
            }
            if trusted.is_empty() {
                return Err(unusable(&"there are none in it"));
            }
        }
        None => {
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("no version of TLS can be spoken").with_cause(error))?
        .with_root_certificates(trusted)
        .with_no_client_auth())
}

/// Looks names up, and leaves out what may not be asked: a name that is public today may be private tomorrow.
#[derive(Debug, Clone, Copy)]
struct Resolver(Addresses);

/// A name that leads to no address that may be asked.
#[derive(Debug, thiserror::Error)]
#[error("the host has no public address")]
struct NotPublic;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (usable, others): (Vec<_>, Vec<_>) = found.partition(|address| addresses.allow(address.ip()));
            match usable.is_empty() && !others.is_empty() {
                true => Err(NotPublic.into()),
                false => Ok(usable.into_iter()),
            }
        })
    }
}
