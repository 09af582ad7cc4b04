//! Who has what, and where peers are: both DHTs and the servers of the routing API asked as one.
//!
//! Must not know blocks: its keys are multihashes, and what stands behind them is nobody's business here.
//! Read [`Handle`] first; [`records`] is what this node keeps for others.

mod announce;
pub(crate) mod contacts;
pub mod delegated;
mod port;
pub mod records;
pub(crate) mod saved;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use cairn_proto::cid::Multihash;
use cairn_proto::ipns::Name;
use futures::{Stream, StreamExt as _, stream};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use delegated::Delegated;

pub use crate::swarm::Provider;
use crate::swarm::{self, Query, Question, Scope};
use crate::{Error, Kind};

/// Most providers that one search returns.
pub const MAX_PROVIDERS: usize = 1024;

const SCOPES: [Scope; 2] = [Scope::Lan, Scope::Wan];

/// Routing of one node. Clones share it.
#[derive(Debug, Clone)]
pub struct Handle {
    swarm: swarm::Handle,
    delegated: Option<Delegated>,
}

impl Handle {
    /// Routing through the DHTs of that swarm.
    pub fn new(swarm: swarm::Handle) -> Self {
        Self { swarm, delegated: None }
    }

    /// The same, and through servers of the routing API.
    #[must_use]
    pub(crate) fn with_delegated(mut self, delegated: Delegated) -> Self {
        self.delegated = Some(delegated);
        self
    }

    /// Peers that say they have the content, each once, as they are named; at most `limit`, and never more than
    /// [`MAX_PROVIDERS`]. Ends when all are found; ends early without a word when the swarm stops.
    ///
    /// # Cancellation
    /// Dropping the stream ends the search.
    pub fn find_providers(
        &self,
        key: Multihash,
        limit: usize,
    ) -> impl Stream<Item = Provider> + Send + 'static + use<> {
        let limit = limit.min(MAX_PROVIDERS);
        let search = CancellationToken::new();
        let guard = search.clone().drop_guard();
        let found = SCOPES.map(|scope| self.ask_providers(scope, key, limit, search.clone()).boxed());
        let others = self.delegated.iter().flat_map(|delegated| delegated.providers(&key, limit));
        let found: Vec<_> = found.into_iter().chain(others).collect();
        let (mut seen, swarm) = (HashSet::new(), self.swarm.clone());
        stream::select_all(found)
            .filter(move |provider| {
                let _search_lives = &guard;
                std::future::ready(seen.insert(provider.peer))
            })
            .map(move |provider| match provider.addrs.is_empty() && provider.peer == swarm.local_peer_id() {
                // Our own records name none.
                true => Provider { addrs: swarm.external_addrs(), ..provider },
                false => provider,
            })
            .take(limit)
    }

    /// Tells the peers closest to the content that this node has it, in both DHTs, and answers for it from now on.
    /// Announcing again before the record expires is up to the caller.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when no peer took the record, [`Kind::Full`], [`Kind::Closed`].
    ///
    /// # Cancellation
    /// Cancel-safe: some peers have the record then, some have not.
    pub async fn provide(&self, key: Multihash) -> Result<(), Error> {
        let told = SCOPES.map(|scope| async move {
            self.ask(scope, |reply| Question::Keep { key, reply }).await??;
            Ok::<_, Error>(announce::announce(&self.swarm, scope, key).await)
        });
        let told = futures::future::join_all(told).await;
        if told.iter().any(|told| matches!(told, Ok(1..))) {
            return Ok(());
        }
        told.into_iter().collect::<Result<Vec<_>, _>>()?;
        Err(Error::new(Kind::Unavailable, "not announced: no peer of the DHT took the record"))
    }

    /// What peers and servers keep under a key, as it comes and unchecked; at most `limit` values of each DHT.
    ///
    /// # Cancellation
    /// Dropping the stream ends the search.
    pub fn get_value(
        &self,
        key: Vec<u8>,
        limit: usize,
    ) -> impl Stream<Item = Vec<u8>> + Send + 'static + use<> {
        let search = CancellationToken::new();
        let guard = search.clone().drop_guard();
        let limit = limit.max(1);
        let found = SCOPES.map(|scope| {
            let (swarm, key, dropped) = (self.swarm.clone(), key.clone(), search.clone());
            stream::once(async move {
                let (reply, found) = mpsc::channel(limit);
                let question = Question::GetValue { key, limit, reply, dropped };
                // A swarm that has stopped drops the sender, which ends the stream.
                let _ = swarm.query(Query { scope, question }).await;
                ReceiverStream::new(found)
            })
            .flatten()
            .boxed()
        });
        let name = Name::from_routing_key(&key);
        let others = self.delegated.iter().zip(name).flat_map(|(delegated, name)| delegated.records(&name));
        let found: Vec<_> = found.into_iter().chain(others).collect();
        stream::select_all(found).inspect(move |_| {
            let _search_lives = &guard;
        })
    }

    /// Gives a value to the peers closest to its key to keep, in both DHTs.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when nobody took it, [`Kind::Closed`].
    ///
    /// # Cancellation
    /// Cancel-safe: what is under way goes on.
    pub async fn put_value(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
        let [lan, wan] = SCOPES.map(|scope| {
            let (key, value) = (key.clone(), value.clone());
            self.ask(scope, |reply| Question::PutValue { key, value, reply })
        });
        let (lan, wan) = futures::join!(lan, wan);
        match flatten(lan)? + flatten(wan)? {
            0 => Err(Error::new(Kind::Unavailable, "no peer of the DHT took the record")),
            _ => Ok(()),
        }
    }

    /// Where a peer listens, as whoever knows it first says.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when nobody knows, [`Kind::Closed`].
    ///
    /// # Cancellation
    /// Cancel-safe: the search goes on to its end.
    pub async fn find_peer(&self, peer: PeerId) -> Result<Vec<Multiaddr>, Error> {
        let asked = SCOPES.map(|scope| {
            let routing = self.clone();
            let answer = async move { routing.ask(scope, |reply| Question::FindPeer { peer, reply }).await };
            stream::once(answer).boxed()
        });
        let others = self.delegated.iter().flat_map(|delegated| delegated.peer(peer));
        let answers = asked.into_iter().chain(others.map(|found| found.map(Ok).boxed()));
        let mut answers = stream::select_all(answers);
        while let Some(addrs) = answers.next().await {
            let mut addrs = addrs?;
            if !addrs.is_empty() {
                addrs.sort_unstable();
                addrs.dedup();
                return Ok(addrs);
            }
        }
        Err(Error::not_found(format!("no address found of peer, peer={peer}")))
    }

    /// Looks for this node itself and so fills the routing tables.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when there was nobody to ask, [`Kind::Closed`].
    pub async fn bootstrap(&self) -> Result<(), Error> {
        let [lan, wan] = SCOPES.map(|scope| self.ask(scope, |reply| Question::Bootstrap { reply }));
        let (lan, wan) = futures::join!(lan, wan);
        if lan? | wan? { Ok(()) } else { Err(Error::new(Kind::Unavailable, "no peer of the DHT is known")) }
    }

    /// Providers that one DHT names. Asks when first polled, so that a search of many keys waits for its turn.
    fn ask_providers(
        &self,
        scope: Scope,
        key: Multihash,
        limit: usize,
        dropped: CancellationToken,
    ) -> impl Stream<Item = Provider> + Send + 'static + use<> {
        let swarm = self.swarm.clone();
        stream::once(async move {
            let (reply, found) = mpsc::channel(limit.max(1));
            let question = Question::Providers { key, limit, reply, dropped };
            // A swarm that has stopped drops the sender, which ends the stream.
            let _ = swarm.query(Query { scope, question }).await;
            ReceiverStream::new(found)
        })
        .flatten()
    }

    async fn ask<T>(
        &self,
        scope: Scope,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.swarm.query(Query { scope, question: question(reply) }).await?;
        answer.await.map_err(|_| Error::closed("the swarm"))
    }
}

fn flatten(answer: Result<Result<u32, Error>, Error>) -> Result<u32, Error> {
    answer.and_then(|told| told)
}
