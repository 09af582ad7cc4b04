//! Questions to the DHTs that are under way, and who waits for their answers.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;

use cairn_proto::cid::Multihash;
use futures::stream::FuturesUnordered;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, GetProvidersOk, GetRecordOk, ProviderRecord, QueryId, QueryResult, RecordKey};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::dht::{Dht, Scope};
use crate::{Error, Kind};

/// Questions under way in both DHTs together; more wait in their channel.
pub(super) const MAX_QUERIES: usize = 32;

/// A peer that says it has the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Who.
    pub peer: PeerId,
    /// Where it was said to listen; may be empty.
    pub addrs: Vec<Multiaddr>,
}

/// A question to one DHT.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) scope: Scope,
    pub(crate) question: Question,
}

/// What to ask, and where the answer goes.
#[derive(Debug)]
pub(crate) enum Question {
    /// Who has this, until `limit` peers are found or `dropped` is cancelled.
    ///
    /// The channel has room for `limit` answers and closes after the last.
    Providers { key: Multihash, limit: usize, reply: mpsc::Sender<Provider>, dropped: CancellationToken },
    /// Answer from now on that we have this.
    Keep { key: Multihash, reply: oneshot::Sender<Result<(), Error>> },
    /// Where a peer listens; empty if nobody knows.
    FindPeer { peer: PeerId, reply: oneshot::Sender<Vec<Multiaddr>> },
    /// Look for ourselves and fill the routing table; the answer is whether anyone was there to ask.
    Bootstrap { reply: oneshot::Sender<bool> },
    /// What the closest peers keep under a key, until `limit` values are found or `dropped` is cancelled; as they come,
    /// unchecked.
    ///
    /// The channel has room for `limit` answers and closes after the last.
    GetValue { key: Vec<u8>, limit: usize, reply: mpsc::Sender<Vec<u8>>, dropped: CancellationToken },
    /// Give a value to the closest peers to keep; the answer is how many took it.
    PutValue { key: Vec<u8>, value: Vec<u8>, reply: oneshot::Sender<Result<u32, Error>> },
}

/// Name of a running query.
pub(super) type Id = (Scope, QueryId);

/// Resolves when whoever asked went away.
pub(super) type Watcher = Pin<Box<dyn Future<Output = Id> + Send>>;

/// The queries under way.
#[derive(Default)]
pub(super) struct Queries {
    running: HashMap<Id, Waiting>,
    /// Resolves to queries that nobody waits for any more.
    pub(super) watchers: FuturesUnordered<Watcher>,
}

enum Waiting {
    Providers { limit: usize, seen: HashSet<PeerId>, reply: mpsc::Sender<Provider> },
    FindPeer(PeerId, oneshot::Sender<Vec<Multiaddr>>),
    Bootstrap(oneshot::Sender<bool>),
    GetValue { left: usize, reply: mpsc::Sender<Vec<u8>> },
    PutValue(oneshot::Sender<Result<u32, Error>>),
}

impl Queries {
    pub(super) fn has_room(&self) -> bool {
        self.running.len() < MAX_QUERIES
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Asks the DHT. Without one the answer is at once that nothing was found.
    pub(super) fn start<R: RecordStore + Send + 'static>(&mut self, dht: Option<&mut Dht<R>>, query: Query) {
        let Some(dht) = dht else { return query.question.answer_without_dht() };
        let (id, waiting) = match query.question {
            Question::Providers { key, limit, reply, dropped } => {
                let id = (query.scope, dht.kad().get_providers(RecordKey::from(key)));
                self.watch(id, dropped);
                (id, Waiting::Providers { limit, seen: HashSet::new(), reply })
            }
            Question::Keep { key, reply } => {
                // Its addresses are put in when somebody asks.
                let record = ProviderRecord::new(RecordKey::from(key), dht.local(), Vec::new());
                let kept = dht.kad().store_mut().add_provider(record);
                let full =
                    |error| Error::new(Kind::Full, "no room for the provider record").with_cause(error);
                // The caller may have gone away.
                let _ = reply.send(kept.map_err(full));
                return;
            }
            Question::FindPeer { peer, reply } => {
                ((query.scope, dht.kad().get_closest_peers(peer)), Waiting::FindPeer(peer, reply))
            }
            Question::Bootstrap { reply } => match dht.kad().bootstrap() {
                Ok(id) => ((query.scope, id), Waiting::Bootstrap(reply)),
                Err(kad::NoKnownPeers()) => {
                    let _ = reply.send(false);
                    return;
                }
            },
            Question::GetValue { key, limit, reply, dropped } => {
                let id = (query.scope, dht.kad().get_record(RecordKey::from(key)));
                self.watch(id, dropped);
                (id, Waiting::GetValue { left: limit, reply })
            }
            Question::PutValue { key, value, reply } => {
                let record = kad::Record::new(key, value);
                match dht.kad().put_record(record, kad::Quorum::One) {
                    Ok(id) => ((query.scope, id), Waiting::PutValue(reply)),
                    Err(error) => {
                        let error =
                            Error::new(Kind::Invalid, "the record is not valid, or a better one is known")
                                .with_cause(error);
                        let _ = reply.send(Err(error));
                        return;
                    }
                }
            }
        };
        self.running.insert(id, waiting);
    }

    /// Lets go of a query once `dropped` is cancelled.
    fn watch(&mut self, id: Id, dropped: CancellationToken) {
        self.watchers.push(Box::pin(async move {
            dropped.cancelled_owned().await;
            id
        }));
    }

    /// Ends a query that nobody waits for.
    pub(super) fn cancel<R: RecordStore + Send + 'static>(&mut self, dht: Option<&mut Dht<R>>, id: Id) {
        if self.running.remove(&id).is_none() {
            return;
        }
        if let Some(mut query) = dht.and_then(|dht| dht.kad().query_mut(&id.1)) {
            query.finish();
        }
    }

    /// Hands on an answer of the DHT.
    pub(super) fn on_progress<R: RecordStore + Send + 'static>(
        &mut self,
        dht: &mut Dht<R>,
        id: Id,
        progress: Progress,
    ) {
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { key, providers })) =
            &progress.result
        {
            return self.on_providers(dht, id, key, providers);
        }
        if let QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) = progress.result {
            return self.on_value(dht, id, found.record.value);
        }
        if !progress.is_last {
            return;
        }
        match (self.running.remove(&id), progress.result) {
            (Some(Waiting::FindPeer(peer, reply)), QueryResult::GetClosestPeers(result)) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                let found = peers.into_iter().find(|found| found.peer_id == peer);
                let mut addrs = found.map_or_else(Vec::new, |found| found.addrs);
                if addrs.is_empty() {
                    // No answer names the addresses of a peer that was asked itself.
                    addrs = dht.addrs_of(peer);
                }
                addrs.retain(|addr| dht.rule().takes(addr));
                let _ = reply.send(addrs);
            }
            (Some(Waiting::Bootstrap(reply)), QueryResult::Bootstrap(result)) => {
                let _ = reply.send(result.is_ok());
            }
            (Some(Waiting::PutValue(reply)), QueryResult::PutRecord(result)) => {
                let told_count = match result {
                    Ok(_) => progress.stats.num_successes(),
                    Err(
                        kad::PutRecordError::QuorumFailed { success, .. }
                        | kad::PutRecordError::Timeout { success, .. },
                    ) => u32::try_from(success.len()).unwrap_or(u32::MAX),
                };
                let _ = reply.send(Ok(told_count));
            }
            // The last word on providers and values closes their channel; other results belong to queries of Kademlia itself.
            _ => {}
        }
    }

    fn on_value<R: RecordStore + Send + 'static>(&mut self, dht: &mut Dht<R>, id: Id, value: Vec<u8>) {
        let Some(Waiting::GetValue { left, reply }) = self.running.get_mut(&id) else { return };
        // There is room for all of them; a receiver that went away is seen by the watcher.
        let _ = reply.try_send(value);
        *left -= 1;
        if *left == 0 {
            self.cancel(Some(dht), id);
        }
    }

    fn on_providers<R: RecordStore + Send + 'static>(
        &mut self,
        dht: &mut Dht<R>,
        id: Id,
        key: &RecordKey,
        providers: &HashSet<PeerId>,
    ) {
        let Some(Waiting::Providers { limit, seen, reply }) = self.running.get_mut(&id) else { return };
        for &peer in providers {
            if seen.len() == *limit || !seen.insert(peer) {
                continue;
            }
            let mut addrs = dht.addrs_of(peer);
            if addrs.is_empty() {
                // From our own records, whose addresses no answer named.
                let own =
                    dht.kad().store_mut().providers(key).into_iter().find(|record| record.provider == peer);
                addrs = own.map_or_else(Vec::new, |record| record.addresses);
            }
            // There is room for `limit` of them; a receiver that went away is seen by the watcher.
            let _ = reply.try_send(Provider { peer, addrs });
        }
        if seen.len() == *limit {
            self.cancel(Some(dht), id);
        }
    }
}

/// An answer, or part of one.
pub(super) struct Progress {
    pub(super) result: QueryResult,
    pub(super) stats: kad::QueryStats,
    pub(super) is_last: bool,
}

impl Question {
    fn answer_without_dht(self) {
        match self {
            Self::Providers { .. } => {}
            Self::Keep { reply, .. } => drop(reply.send(Ok(()))),
            Self::FindPeer { reply, .. } => drop(reply.send(Vec::new())),
            Self::Bootstrap { reply } => drop(reply.send(false)),
            Self::GetValue { .. } => {}
            Self::PutValue { reply, .. } => drop(reply.send(Ok(0))),
        }
    }
}
