//! One region: who its peers are, and giving each the records that belong to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cairn_proto::cid::Multihash;
use cairn_proto::sweep::{Explored, Explorer, Key, Prefix, REPLICATION, closest};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Semaphore;
use tracing::debug;

use super::blocking;
use crate::routing::contacts::Contacts;
use crate::swarm::{self, Contact, Scope};
use crate::{Error, Result};

/// Peers of one region that are given records at the same time. Source: Kubo `Provide.DHT.MaxProvideConnsPerWorker` (20).
const MAX_CONNECTIONS: usize = 20;

/// Asks peers of one DHT, and gives them records. Clones share the turns.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    swarm: swarm::Handle,
    scope: Scope,
    /// One for each peer that is asked or given records right now, in both DHTs together.
    turns: Arc<Semaphore>,
}

impl Caller {
    pub(super) fn new(swarm: swarm::Handle, scope: Scope, turns: Arc<Semaphore>) -> Self {
        Self { swarm, scope, turns }
    }

    /// Whether there is anybody to ask.
    pub(super) async fn has_peers(&self) -> bool {
        Contacts::of_table(&self.swarm, self.scope).await.keys().next().is_some()
    }

    async fn find_node(&self, contact: &Contact, target: &[u8]) -> Result<Vec<Contact>> {
        let _turn = self.turns.acquire().await.map_err(|_| Error::closed("the sweep"))?;
        self.swarm.find_node(self.scope, contact, target).await
    }

    async fn tell(&self, contact: &Contact, keys: impl Iterator<Item = Multihash> + Send) -> Result<()> {
        let _turn = self.turns.acquire().await.map_err(|_| Error::closed("the sweep"))?;
        self.swarm.tell_provided(self.scope, contact, keys).await
    }

    /// Finds the peers of the region around some content; `None` when none answers.
    ///
    /// # Cancellation
    /// Cancel-safe: questions under way are dropped.
    pub(super) async fn explore(&self, content: &Multihash) -> Option<Region> {
        let mut contacts = Contacts::of_table(&self.swarm, self.scope).await;
        let mut explorer = Explorer::new(&content.to_bytes(), contacts.keys());
        let mut asking = FuturesUnordered::new();
        while !explorer.is_at_end() {
            while let Some(ask) = explorer.next_ask() {
                match contacts.get(&ask.peer) {
                    Some(contact) => asking.push(async move {
                        let answer = self.find_node(&contact, &ask.target).await;
                        (ask, answer)
                    }),
                    None => explorer.on_failure(ask.peer),
                }
            }
            let Some((ask, answer)) = asking.next().await else { break };
            match answer {
                Ok(closer) => explorer.on_answer(&ask, &contacts.add(closer)),
                Err(error) => {
                    debug!(%error, "peer of a region did not answer");
                    explorer.on_failure(ask.peer);
                }
            }
        }
        let Explored { region, peers } = explorer.explored()?;
        let peers: Arc<HashSet<_>> = Arc::new(peers.into_iter().collect());
        contacts.retain(|key| peers.contains(key));
        Some(Region { prefix: region, contacts, peers, reached: HashSet::new(), asked_count: 0 })
    }
}

/// A region and its peers.
pub(super) struct Region {
    pub(super) prefix: Prefix,
    contacts: Contacts,
    /// Those that did not fail.
    peers: Arc<HashSet<Key>>,
    /// Those that took records.
    reached: HashSet<Key>,
    asked_count: u64,
}

/// What came of giving some records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Keys that at least one peer took.
    pub(super) key_count: u64,
    /// Records that peers took.
    pub(super) record_count: u64,
}

impl Region {
    /// Gives the records of these keys to the peers closest to each. For peers that fail, the next closest get them.
    ///
    /// # Cancellation
    /// Cancel-safe: some peers have the records, some have not.
    pub(super) async fn tell(&mut self, caller: &Caller, content: Vec<(Key, Multihash)>) -> Result<Told> {
        let content: Arc<[_]> = content.into();
        let mut taken = vec![0_u8; content.len()];
        let before = Arc::clone(&self.peers);
        self.push(caller, &content, None, &mut taken).await?;
        if self.peers.len() < before.len() {
            self.push(caller, &content, Some(before), &mut taken).await?;
        }
        let mut told = Told::default();
        for count in taken.into_iter().filter(|count| *count > 0) {
            told.key_count += 1;
            told.record_count += u64::from(count);
        }
        Ok(told)
    }

    /// Peers that were given records, and those of them that took them.
    pub(super) fn reached(&self) -> (u64, u64) {
        (self.asked_count, self.reached.len() as u64)
    }

    /// Gives each peer what belongs to it, less what it was given when the peers were `before`.
    async fn push(
        &mut self,
        caller: &Caller,
        content: &Arc<[(Key, Multihash)]>,
        before: Option<Arc<HashSet<Key>>>,
        taken: &mut [u8],
    ) -> Result<()> {
        let (keys, peers) = (Arc::clone(content), Arc::clone(&self.peers));
        // Thousands of keys, each against every peer: no work for a thread that has connections to serve.
        let assigned = blocking(move || Ok(assign(&keys, &peers, before.as_deref()))).await?;
        let pushes = assigned.into_iter().filter_map(|(peer, numbers)| {
            let (contact, content) = (self.contacts.get(&peer)?, Arc::clone(content));
            Some(async move {
                let records = numbers.iter().map(|number| content[*number as usize].1);
                let result = caller.tell(&contact, records).await;
                (peer, numbers, result)
            })
        });
        let mut pushes = futures::stream::iter(pushes).buffer_unordered(MAX_CONNECTIONS);
        let mut failed = HashSet::new();
        while let Some((peer, numbers, result)) = pushes.next().await {
            self.asked_count += u64::from(!self.reached.contains(&peer));
            match result {
                Ok(()) => {
                    self.reached.insert(peer);
                    numbers.iter().for_each(|number| taken[*number as usize] += 1);
                }
                Err(error) => {
                    debug!(%error, "peer of a region took no records");
                    failed.insert(peer);
                }
            }
        }
        drop(pushes);
        if !failed.is_empty() {
            self.peers = Arc::new(self.peers.difference(&failed).copied().collect());
        }
        Ok(())
    }
}

/// Which records each peer is given: those that it is closest to, less those that it was given when the peers were `before`.
fn assign(
    content: &[(Key, Multihash)],
    peers: &HashSet<Key>,
    before: Option<&HashSet<Key>>,
) -> HashMap<Key, Vec<u32>> {
    let mut assigned: HashMap<Key, Vec<u32>> = HashMap::new();
    for (number, (key, _)) in (0..).zip(content) {
        let given = before.map_or_else(Vec::new, |before| closest(key, before.iter().copied(), REPLICATION));
        for peer in closest(key, peers.iter().copied(), REPLICATION) {
            if !given.contains(&peer) {
                assigned.entry(peer).or_default().push(number);
            }
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_peers_that_failed_go_to_the_next_closest() {
        let key = |number: u8| Key::of(&[number]);
        let hash = |number: u8| Multihash::wrap(0x12, &[number; 32]).unwrap();
        let content: Vec<_> = (0..50).map(|number| (key(number), hash(number))).collect();
        let before: HashSet<_> = (100..130).map(key).collect();
        let left: HashSet<_> = (102..130).map(key).collect();
        let (first, second) = (assign(&content, &before, None), assign(&content, &left, Some(&before)));
        for (number, (key, _)) in (0..).zip(&content) {
            let has = |assigned: &HashMap<Key, Vec<u32>>, peer: &Key| {
                assigned.get(peer).is_some_and(|numbers| numbers.contains(&number))
            };
            let given: HashSet<_> =
                left.iter().filter(|peer| has(&first, peer) || has(&second, peer)).copied().collect();
            let right: HashSet<_> = closest(key, left.iter().copied(), REPLICATION).into_iter().collect();
            assert_eq!(given, right);
            assert!(left.iter().all(|peer| !(has(&first, peer) && has(&second, peer))), "twice");
        }
    }
}
