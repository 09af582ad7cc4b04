//! Single blocks over HTTP, from trustless gateways.
//!
//! Nothing that a gateway says is believed: a block is what hashes to its CID. No redirect is followed, an answer is bounded
//! in time and length, and a host that anybody may have named is asked at public addresses only.
//!
//! Source: <https://specs.ipfs.tech/http-gateways/trustless-gateway/>.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use cairn_proto::ipns::Name;
use cairn_proto::limits::{MAX_BLOCK_BYTES, MAX_IPNS_RECORD_BYTES};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name as HostName;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tower::Service;

use super::HASH_INLINE_BYTES;
use crate::swarm::is_public_ip;
use crate::{Error, Result};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to one gateway that are kept while nothing is asked, and how long.
const MAX_IDLE_CONNECTIONS: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Most bytes of an answer's headers.
const MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Where a gateway is: `https://host`, with a port and a path if need be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayUrl {
    /// Without the slash at its end.
    url: String,
    host: String,
}

impl GatewayUrl {
    /// Its host in lower case, without a port; an address of IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for GatewayUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("not the URL of a gateway, want https://host, got {text:?}");
        let uri: Uri = text.parse().map_err(|_| refuse())?;
        let (Some(scheme @ ("http" | "https")), Some(authority), None) =
            (uri.scheme_str(), uri.authority(), uri.query())
        else {
            return Err(refuse());
        };
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(refuse());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Self { url: format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')), host })
    }
}

impl std::fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}

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
pub struct ClientOptions {
    /// Which addresses are asked.
    pub addresses: Addresses,
    /// Longest time of one request, its connection included.
    pub timeout: Duration,
    /// PEM file of the roots to trust, in place of those of this computer.
    pub roots: Option<PathBuf>,
    /// What gateways are told of who asks.
    pub agent: String,
}

/// Why a gateway gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The gateway does not have it, or does not serve it.
    #[error("not to be had there, status={0}")]
    Missing(StatusCode),
    /// The gateway has too much to do.
    #[error("the gateway is busy, status={status}")]
    Busy {
        /// Its status.
        status: StatusCode,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No whole answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The host has no address that may be asked.
    #[error("the host has no public address")]
    Refused,
    /// The gateway cannot be reached, or does not answer as one.
    #[error("{0}")]
    Failed(String),
    /// The bytes are not those of the CID.
    #[error("what came is not the block that was asked for")]
    Corrupt,
}

/// A client of trustless gateways. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
    addresses: Addresses,
    timeout: Duration,
    agent: HeaderValue,
}

impl Client {
    /// A client; it connects when it is asked for something.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for a file of roots that cannot be used, and for an agent that is no header.
    pub fn new(options: ClientOptions) -> Result<Self> {
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
        Ok(Self { pool, addresses: options.addresses, timeout: options.timeout, agent })
    }

    /// One block, verified.
    ///
    /// # Errors
    /// [`FetchError`].
    ///
    /// # Cancellation
    /// Safe: the request is given up.
    pub async fn block(&self, gateway: &GatewayUrl, cid: &Cid) -> Result<Block, FetchError> {
        const TYPE: HeaderValue = HeaderValue::from_static("application/vnd.ipld.raw");
        let bytes = self.get(format!("{gateway}/ipfs/{cid}?format=raw"), TYPE, MAX_BLOCK_BYTES).await?;
        let (cid, len_bytes) = (*cid, bytes.len());
        let verify = move || Block::verify(cid, bytes).map_err(|_| FetchError::Corrupt);
        if len_bytes <= HASH_INLINE_BYTES {
            return verify();
        }
        tokio::task::spawn_blocking(verify).await.map_err(|error| FetchError::Failed(error.to_string()))?
    }

    /// The record of an IPNS name, not verified.
    ///
    /// # Errors
    /// [`FetchError`].
    ///
    /// # Cancellation
    /// Safe: the request is given up.
    pub async fn record(&self, gateway: &GatewayUrl, name: &Name) -> Result<Bytes, FetchError> {
        const TYPE: HeaderValue = HeaderValue::from_static("application/vnd.ipfs.ipns-record");
        let url = format!("{gateway}/ipns/{name}?format=ipns-record");
        self.get(url, TYPE, MAX_IPNS_RECORD_BYTES).await
    }

    async fn get(&self, url: String, accept: HeaderValue, max_bytes: usize) -> Result<Bytes, FetchError> {
        let uri: Uri = url.parse().map_err(|error| FetchError::Failed(format!("not a URL: {error}")))?;
        // The resolver is not asked for what is an address already.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.parse().is_ok_and(|address| !self.addresses.allow(address)) {
            return Err(FetchError::Refused);
        }
        let request = Request::get(uri)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, self.agent.clone())
            .body(Empty::new())
            .map_err(|error| FetchError::Failed(error.to_string()))?;
        let exchange = async {
            let response = self.pool.request(request).await.map_err(unreachable)?;
            let (head, body) = response.into_parts();
            if head.status != StatusCode::OK {
                return Err(refusal(head.status, &head.headers));
            }
            let body = Limited::new(body, max_bytes).collect().await;
            Ok(body.map_err(|error| FetchError::Failed(error.to_string()))?.to_bytes())
        };
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(Err(FetchError::Timeout(self.timeout)))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap) -> FetchError {
    match status {
        StatusCode::NOT_FOUND
        | StatusCode::PRECONDITION_FAILED
        | StatusCode::GONE
        | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS
        | StatusCode::GATEWAY_TIMEOUT => FetchError::Missing(status),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let seconds =
                headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            FetchError::Busy { status, retry_after: seconds.map(Duration::from_secs) }
        }
        _ => FetchError::Failed(format!("the gateway answered with status={status}")),
    }
}

fn unreachable(error: hyper_util::client::legacy::Error) -> FetchError {
    // The outermost error says no more than that there is one.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<NotPublic>() {
        Some(_) => FetchError::Refused,
        None => FetchError::Failed(format!("the gateway cannot be reached: {cause}")),
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

impl Service<HostName> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: HostName) -> Self::Future {
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

#[cfg(test)]
pub(crate) mod tests;
