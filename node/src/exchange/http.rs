//! Single blocks over HTTP, from trustless gateways.
//!
//! Nothing that a gateway says is believed: a block is what hashes to its CID. No redirect is followed, an answer is bounded
//! in time and length, and a host that anybody may have named is asked at public addresses only.
//!
//! Source: <https://specs.ipfs.tech/http-gateways/trustless-gateway/>.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use cairn_proto::ipns::Name;
use cairn_proto::limits::{MAX_BLOCK_BYTES, MAX_IPNS_RECORD_BYTES};
use futures::stream::{self, Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tokio::time::Instant;

use super::HASH_INLINE_BYTES;
use crate::Result;
use crate::web;

pub use crate::web::Addresses;

/// Times the longest wait that a whole answer may take: a line may be slow, but not without end.
const MAX_WAITS: u32 = 20;

/// MIME type of a block.
const BLOCK: HeaderValue = HeaderValue::from_static("application/vnd.ipld.raw");

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

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// How a [`Client`] asks.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Which addresses are asked.
    pub addresses: Addresses,
    /// Longest wait for an answer to begin, its connection included, and then for each piece of it.
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
    /// Nothing came for so long, or the whole took many times as long.
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
#[derive(Debug, Clone)]
pub struct Client {
    web: web::Client,
    timeout: Duration,
}

impl Client {
    /// A client; it connects when it is asked for something.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for a file of roots that cannot be used, and for an agent that is no header.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let ClientOptions { addresses, timeout, roots, agent } = options;
        Ok(Self { web: web::Client::new(web::Options { addresses, roots, agent })?, timeout })
    }

    /// One block, verified.
    ///
    /// # Errors
    /// [`FetchError`].
    ///
    /// # Cancellation
    /// Safe: the request is given up.
    pub async fn block(&self, gateway: &GatewayUrl, cid: &Cid) -> Result<Block, FetchError> {
        self.block_in_pieces(gateway, cid, |_| ()).await
    }

    /// As [`Self::block`]; `on_piece` is told the length of each piece as it comes.
    pub(super) async fn block_in_pieces(
        &self,
        gateway: &GatewayUrl,
        cid: &Cid,
        on_piece: impl FnMut(usize),
    ) -> Result<Block, FetchError> {
        let url = format!("{gateway}/ipfs/{cid}?format=raw");
        let bytes = self.get(url, BLOCK, MAX_BLOCK_BYTES, on_piece).await?;
        let (cid, len_bytes) = (*cid, bytes.len());
        let verify = move || Block::verify(cid, bytes).map_err(|_| FetchError::Corrupt);
        if len_bytes <= HASH_INLINE_BYTES {
            return verify();
        }
        tokio::task::spawn_blocking(verify).await.map_err(|error| FetchError::Failed(error.to_string()))?
    }

    /// Whether the gateway has a block: [`FetchError::Missing`] when it has not.
    ///
    /// # Errors
    /// [`FetchError`].
    ///
    /// # Cancellation
    /// Safe: the request is given up.
    pub async fn has(&self, gateway: &GatewayUrl, cid: &Cid) -> Result<(), FetchError> {
        let url = format!("{gateway}/ipfs/{cid}?format=raw");
        let asking = self.web.ask(Method::HEAD, &url, BLOCK);
        let answer = tokio::time::timeout(self.timeout, asking)
            .await
            .map_err(|_| FetchError::Timeout(self.timeout))??;
        match answer.status {
            StatusCode::OK => Ok(()),
            status => Err(refusal(status, &answer.headers)),
        }
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
        self.get(url, TYPE, MAX_IPNS_RECORD_BYTES, |_| ()).await
    }

    async fn get(
        &self,
        url: String,
        accept: HeaderValue,
        max_bytes: usize,
        on_piece: impl FnMut(usize),
    ) -> Result<Bytes, FetchError> {
        let asking = self.web.ask(Method::GET, &url, accept);
        let timeout = |_| FetchError::Timeout(self.timeout);
        let answer = tokio::time::timeout(self.timeout, asking).await.map_err(timeout)??;
        if answer.status != StatusCode::OK {
            return Err(refusal(answer.status, &answer.headers));
        }
        let pieces = stream::unfold(answer.body, |mut body| async move { Some((body.next().await?, body)) });
        gather(pieces, self.timeout, max_bytes, on_piece).await
    }
}

/// Puts an answer together. Between two pieces may be `patience`.
async fn gather<E: fmt::Display>(
    pieces: impl Stream<Item = Result<Bytes, E>>,
    patience: Duration,
    max_bytes: usize,
    mut on_piece: impl FnMut(usize),
) -> Result<Bytes, FetchError> {
    let (mut pieces, mut bytes) = (std::pin::pin!(pieces), BytesMut::new());
    let end = Instant::now() + patience * MAX_WAITS;
    loop {
        let wait = end.min(Instant::now() + patience);
        let piece = tokio::time::timeout_at(wait, pieces.next()).await;
        match piece.map_err(|_| FetchError::Timeout(patience))? {
            None => return Ok(bytes.freeze()),
            Some(Err(error)) => return Err(FetchError::Failed(error.to_string())),
            Some(Ok(piece)) => {
                on_piece(piece.len());
                bytes.extend_from_slice(&piece);
            }
        }
        if bytes.len() > max_bytes {
            return Err(FetchError::Failed(format!("the answer is too long, max={max_bytes}")));
        }
    }
}

impl From<web::AskError> for FetchError {
    fn from(error: web::AskError) -> Self {
        match error {
            web::AskError::Refused => Self::Refused,
            other => Self::Failed(other.to_string()),
        }
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

#[cfg(test)]
pub(crate) mod tests;
