//! The routing API: who has content, where a peer is, what the record of a name says. Reads only.
//!
//! Source: <https://specs.ipfs.tech/routing/http-routing-v1/>.

mod filter;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use cairn_proto::cid;
use cairn_proto::content::{ContentError, NameRecord, PortStream};
use cairn_proto::ipns::Name;
use cairn_proto::routing::{PeerRecord, Routing, RoutingOptions};
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::{Failure, Refusal};
use crate::format::{self, Format};
use crate::headers::{self, NOSNIFF, TEXT};
use crate::places::Place;
use crate::respond;
use filter::Filter;

/// Everything before what is asked for.
pub(crate) const PREFIX: &str = "/routing/v1/";

/// Peers in an answer that comes as a whole. Source: boxo `routing/http/server` (20); the specification allows 100.
const LIST_LIMIT: usize = 20;

/// Peers in an answer that comes one by one.
const STREAM_LIMIT: usize = 1000;

/// Longest search for an answer that comes as a whole: clients give up after 30 s.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NDJSON: &str = "application/x-ndjson";

/// Source: the specification, response headers: 5 minutes with results, 15 s without.
const FOUND: HeaderValue =
    HeaderValue::from_static("public, max-age=300, stale-while-revalidate=172800, stale-if-error=172800");
const NOT_FOUND: HeaderValue =
    HeaderValue::from_static("public, max-age=15, stale-while-revalidate=172800, stale-if-error=172800");

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The record of a name.
    Record(Name),
    /// Peers.
    Peers(Peers),
}

/// A search for peers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peers {
    wanted: Wanted,
    filter: Filter,
    /// One by one, as they are found.
    is_stream: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Providers(cid::Cid),
    Peer(Name),
}

impl Question {
    /// Reads a question from the path behind [`PREFIX`], the query of the URL and the headers.
    ///
    /// # Errors
    /// A path that is none, or a CID or name that is none.
    pub(crate) fn read(path: &str, query: Option<&str>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let invalid = |error: &dyn std::fmt::Display| Refusal::new(Failure::Invalid, error.to_string());
        let name = |text: &str| Name::parse(text).map_err(|error| invalid(&error));
        let wanted = match path.split_once('/') {
            Some(("providers", key)) => Wanted::Providers(cid::parse(key).map_err(|error| invalid(&error))?),
            Some(("peers", id)) => Wanted::Peer(name(id)?),
            Some(("ipns", key)) => return name(key).map(Self::Record),
            _ => {
                let message =
                    format!("no question of the routing API: {path:?}; there are providers, peers and ipns");
                return Err(Refusal::new(Failure::NoSuchUrl, message));
            }
        };
        let parameter = |wanted: &str| {
            let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.into_iter().find(|(name, _)| *name == wanted)?.1;
            Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
        };
        let (addrs, protocols) = (parameter("filter-addrs"), parameter("filter-protocols"));
        let filter = Filter::new(addrs.as_deref(), protocols.as_deref());
        let is_stream = format::accepts(headers, NDJSON);
        Ok(Self::Peers(Peers { wanted, filter, is_stream }))
    }
}

impl Peers {
    /// The content whose providers are asked for.
    pub(crate) fn content(&self) -> Option<&cid::Cid> {
        match &self.wanted {
            Wanted::Providers(cid) => Some(cid),
            Wanted::Peer(_) => None,
        }
    }

    /// Answers with what the search finds. `public_only`: whoever asks is elsewhere.
    pub(crate) async fn respond(
        self,
        routing: &dyn Routing,
        public_only: bool,
        is_head: bool,
        place: Place,
    ) -> Result<Response, Refusal> {
        let limit = if self.is_stream { STREAM_LIMIT } else { LIST_LIMIT };
        let options = RoutingOptions { limit, public_only };
        let records = match &self.wanted {
            Wanted::Providers(cid) => routing.providers(cid, options),
            Wanted::Peer(name) => routing.peer(name.multihash(), options),
        };
        let mut found = Found { records, filter: self.filter };
        if !self.is_stream {
            let list = found.list().await?;
            let cache_control = if list.is_empty() { NOT_FOUND } else { FOUND };
            let body = match self.wanted {
                Wanted::Providers(_) => serde_json::to_vec(&serde_json::json!({ "Providers": list })),
                Wanted::Peer(_) => serde_json::to_vec(&serde_json::json!({ "Peers": list })),
            };
            return Ok(answer(JSON, cache_control, body.expect("a record has a JSON form"), is_head));
        }
        let media_type = HeaderValue::from_static(NDJSON);
        if is_head {
            return Ok(answer(media_type, FOUND, Vec::new(), true));
        }
        let mut response = answer(media_type, FOUND, Vec::new(), false);
        *response.body_mut() = Body::from_stream(Lines { found, _place: place });
        Ok(response)
    }
}

/// Answers with the record of a name, or says in words that there is none: clients tell by the type (IPIP-513).
pub(crate) fn record(found: Option<NameRecord>, is_head: bool) -> Response {
    let Some(record) = found else {
        return answer(TEXT, NOT_FOUND, b"no record of this name was found\n".to_vec(), is_head);
    };
    let media_type = HeaderValue::from_static(Format::IpnsRecord.media_type());
    let seconds = record.fresh_for.as_secs();
    let cache_control =
        headers::ascii(format!("public, max-age={seconds}, stale-while-revalidate={seconds}"));
    let etag = headers::ascii(format!("\"{}\"", headers::fingerprint(&record.bytes)));
    let mut response = answer(media_type, cache_control, record.bytes.to_vec(), is_head);
    response.headers_mut().insert(header::ETAG, etag);
    response
}

fn answer(media_type: HeaderValue, cache_control: HeaderValue, body: Vec<u8>, is_head: bool) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, cache_control);
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    let body = if is_head { respond::no_body() } else { Body::from(body) };
    respond::response(StatusCode::OK, headers, body)
}

/// A peer in the form of the API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Peer {
    schema: &'static str,
    #[serde(rename = "ID")]
    id: String,
    addrs: Vec<String>,
    protocols: Vec<String>,
}

impl From<PeerRecord> for Peer {
    fn from(PeerRecord { id, addrs, protocols }: PeerRecord) -> Self {
        Self { schema: "peer", id, addrs, protocols }
    }
}

/// The peers that a search finds and the client wants.
struct Found {
    records: PortStream<PeerRecord>,
    filter: Filter,
}

impl Found {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Peer, ContentError>>> {
        loop {
            match ready!(self.records.as_mut().poll_next(cx)) {
                Some(Ok(record)) => {
                    if let Some(record) = self.filter.apply(record) {
                        return Poll::Ready(Some(Ok(record.into())));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// All of them, or those that were found in time.
    async fn list(&mut self) -> Result<Vec<Peer>, Refusal> {
        let mut list = Vec::new();
        let deadline = tokio::time::Instant::now() + LIST_TIMEOUT;
        while list.len() < LIST_LIMIT {
            let next = std::future::poll_fn(|cx| self.poll(cx));
            match tokio::time::timeout_at(deadline, next).await {
                Ok(Some(Ok(peer))) => list.push(peer),
                Ok(Some(Err(error))) if list.is_empty() => return Err(Refusal::from_content(error, false)),
                _ => break,
            }
        }
        Ok(list)
    }
}

/// Found peers, each a line as soon as it is there.
struct Lines {
    found: Found,
    /// What is counted as one request until the last line.
    _place: Place,
}

impl Stream for Lines {
    type Item = Result<Bytes, ContentError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.found.poll(cx));
        Poll::Ready(next.map(|peer| {
            let mut line = serde_json::to_vec(&peer?).expect("a record has a JSON form");
            line.push(b'\n');
            Ok(line.into())
        }))
    }
}
