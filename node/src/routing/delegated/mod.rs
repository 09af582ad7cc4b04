//! Servers of the routing API that are asked beside the DHTs.
//!
//! Their answers join those of the DHTs as they come; one that is slow, wrong or without end costs nobody's time but its
//! own. They are asked for reading only.
//!
//! Source: <https://specs.ipfs.tech/routing/http-routing-v1/>.

mod records;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::cid::{Cid, LIBP2P_KEY, Multihash, RAW};
use cairn_proto::ipns::Name;
use cairn_proto::limits::MAX_IPNS_RECORD_BYTES;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderValue, Method, StatusCode, header};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

use crate::swarm::Provider;
use crate::web::{self, Addresses, Client};
use crate::{Error, Result};
use records::{Form, Reader};

/// Server that knows what large storage providers have. It answers for providers only.
///
/// Source: boxo `autoconf/fallbacks.go`.
const INDEXER: &str = "https://cid.contact";
/// Server that asks the public DHT and the indexer, for nodes without a DHT. Source: as above.
const PUBLIC_SERVER: &str = "https://delegated-ipfs.dev";

/// Longest time of one answer. Source: boxo `routing/http` (30 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the next piece of an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server is left alone after it failed.
const REST: Duration = Duration::from_secs(60);
/// Questions to one server at a time; more wait for their turn.
const MAX_QUESTIONS: usize = 32;

const PEERS: HeaderValue = HeaderValue::from_static("application/x-ndjson, application/json;q=0.5");
const RECORD: HeaderValue = HeaderValue::from_static("application/vnd.ipfs.ipns-record");

/// A server of the routing API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterUrl {
    /// Without what every URL of the API begins with.
    url: String,
    /// It knows peers and names, too.
    knows_all: bool,
}

impl FromStr for RouterUrl {
    type Err = String;

    /// Source of the forms: boxo `routing/http/client` (the base of the API, or all of its prefix).
    fn from_str(text: &str) -> Result<Self, String> {
        let url = text.trim_end_matches('/');
        let url = url.strip_suffix("/routing/v1").unwrap_or(url).trim_end_matches('/');
        let refuse = || format!("not the URL of a router, want https://host, got {text:?}");
        let uri: http::Uri = url.parse().map_err(|_| refuse())?;
        let is_whole = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
            && !url.contains(['@', '#']);
        if is_whole { Ok(Self { url: url.to_owned(), knows_all: url != INDEXER }) } else { Err(refuse()) }
    }
}

impl fmt::Display for RouterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl RouterUrl {
    /// What the word `auto` stands for.
    pub fn automatic(has_dht: bool) -> Self {
        let (url, knows_all) = if has_dht { (INDEXER, false) } else { (PUBLIC_SERVER, true) };
        Self { url: url.to_owned(), knows_all }
    }
}

/// Servers of the routing API. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Delegated {
    routers: Arc<[Router]>,
    client: Arc<Client>,
}

#[derive(Debug)]
struct Router {
    url: RouterUrl,
    questions: Arc<Semaphore>,
    /// Until when it is left alone.
    resting: Mutex<Option<Instant>>,
}

impl Delegated {
    /// # Errors
    /// [`crate::Kind::Invalid`] for an agent that is no header.
    pub(crate) fn new(routers: Vec<RouterUrl>, agent: &str) -> Result<Self> {
        let options = web::Options {
            // The operator named them: a router in one's own network is one's own business.
            addresses: Addresses::Any,
            roots: None,
            agent: agent.to_owned(),
        };
        let router = |url| Router {
            url,
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            resting: Mutex::new(None),
        };
        Ok(Self {
            routers: routers.into_iter().map(router).collect(),
            client: Arc::new(Client::new(options)?),
        })
    }

    /// Providers of some content, as each server names them.
    ///
    /// # Cancellation
    /// Dropping a stream ends its question.
    pub(crate) fn providers(&self, key: &Multihash, limit: usize) -> Vec<BoxStream<'static, Provider>> {
        let path = format!("providers/{}", Cid::new_v1(RAW, *key));
        (0..self.routers.len()).map(|index| self.peers_of(index, &path, limit)).collect()
    }

    /// Addresses of a peer, as each server that knows peers names them.
    ///
    /// # Cancellation
    /// As [`Self::providers`].
    pub(crate) fn peer(&self, peer: PeerId) -> Vec<BoxStream<'static, Vec<Multiaddr>>> {
        let Ok(hash) = Multihash::from_bytes(&peer.to_bytes()) else { return Vec::new() };
        let path = format!("peers/{}", Cid::new_v1(LIBP2P_KEY, hash));
        let answers = self.all_knowing().map(|index| {
            let found = self.peers_of(index, &path, 1);
            found.filter(move |found| std::future::ready(found.peer == peer)).map(|found| found.addrs).boxed()
        });
        answers.collect()
    }

    /// Records of a name, unchecked, as each server that knows names gives them.
    ///
    /// # Cancellation
    /// As [`Self::providers`].
    pub(crate) fn records(&self, name: &Name) -> Vec<BoxStream<'static, Vec<u8>>> {
        let path = format!("ipns/{}", name.to_cid());
        let answers = self.all_knowing().map(|index| {
            let (this, path) = (self.clone(), path.clone());
            stream::once(async move { this.record(index, &path).await })
                .filter_map(std::future::ready)
                .boxed()
        });
        answers.collect()
    }

    fn all_knowing(&self) -> impl Iterator<Item = usize> {
        self.routers.iter().enumerate().filter(|(_, router)| router.url.knows_all).map(|(index, _)| index)
    }

    async fn record(&self, index: usize, path: &str) -> Option<Vec<u8>> {
        let router = &self.routers[index];
        let answer = async {
            let _turn = router.questions.acquire().await.ok()?;
            let answer = self.ask(router, path, RECORD).await?;
            let is_record = answer.headers.get(header::CONTENT_TYPE) == Some(&RECORD);
            let mut body = answer.body;
            let mut record = Vec::new();
            while let Some(piece) = body.next().await {
                record.extend_from_slice(&piece.ok()?);
                if record.len() > MAX_IPNS_RECORD_BYTES {
                    return None;
                }
            }
            // A server without a record says so in words.
            is_record.then_some(record)
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok().flatten()
    }

    fn peers_of(&self, index: usize, path: &str, limit: usize) -> BoxStream<'static, Provider> {
        let (this, path) = (self.clone(), path.to_owned());
        let found = stream::once(async move {
            let end = Instant::now() + ANSWER_TIMEOUT;
            let router = &this.routers[index];
            let asking = async {
                let turn = Arc::clone(&router.questions).acquire_owned().await.ok()?;
                Some((turn, this.ask(router, &path, PEERS).await?))
            };
            let (turn, answer) = tokio::time::timeout_at(end, asking).await.ok().flatten()?;
            let media_type = answer.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
            let reader = Reader::new(Form::of(media_type)?);
            let reading =
                Reading { body: Some(answer.body), reader: Some(reader), found: VecDeque::new(), end };
            Some(stream::unfold((reading, turn), |(mut reading, turn)| async move {
                Some((reading.next().await?, (reading, turn)))
            }))
        });
        found.filter_map(std::future::ready).flatten().take(limit).boxed()
    }

    /// The answer of a server that has one.
    async fn ask(&self, router: &Router, path: &str, accept: HeaderValue) -> Option<web::Answer> {
        if router.is_resting() {
            return None;
        }
        let url = format!("{}/routing/v1/{path}", router.url);
        let asked = tokio::time::timeout(STALL_TIMEOUT, self.client.ask(Method::GET, &url, accept)).await;
        let (failed, why) = match asked {
            Ok(Ok(answer)) if answer.status == StatusCode::OK => return Some(answer),
            Ok(Ok(answer)) => {
                let status = answer.status;
                let is_fault = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                (is_fault, Error::not_found(format!("status={status}")))
            }
            Ok(Err(error)) => (true, Error::internal(error.to_string())),
            Err(_) => (true, Error::internal("no answer in time")),
        };
        debug!(%url, %why, "a router gave nothing");
        if failed {
            router.rest();
        }
        None
    }
}

impl Router {
    fn is_resting(&self) -> bool {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
    }
}

/// An answer that is being read.
struct Reading {
    /// `None` at its end.
    body: Option<web::Body>,
    reader: Option<Reader>,
    found: VecDeque<Provider>,
    end: Instant,
}

impl Reading {
    async fn next(&mut self) -> Option<Provider> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            let body = self.body.as_mut()?;
            let wait = self.end.min(Instant::now() + STALL_TIMEOUT);
            let piece = tokio::time::timeout_at(wait, body.next()).await;
            let reader = self.reader.as_mut()?;
            match piece {
                Ok(Some(Ok(piece))) => match reader.push(&piece) {
                    Ok(found) => self.found.extend(found),
                    Err(error) => {
                        debug!(%error, "an answer of a router is cut");
                        self.body = None;
                    }
                },
                Ok(None) => {
                    self.body = None;
                    self.found.extend(self.reader.take()?.finish());
                }
                Ok(Some(Err(_))) | Err(_) => self.body = None,
            }
        }
    }
}
