//! One region: who its peers are, and giving each the records that belong to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cairn_proto::cid::Multihash;
use cairn_proto::sweep::{Explored, Explorer, Key, Prefix, REPLICATION, closest};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tracing::debug;

use crate::swarm::{self, Contact, Scope};

/// Peers that are given records at the same time. Source: Kubo `Provide.DHT.MaxProvideConnsPerWorker` (20).
const MAX_CONNECTIONS: usize = 20;

/// A region and its peers.
pub(super) struct Region {
    pub(super) prefix: Prefix,
    contacts: HashMap<Key, Arc<Contact>>,
    /// Those that did not fail.
    peers: HashSet<Key>,
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

/// Finds the peers of the region around some content; `None` when none answers.
///
/// # Cancellation
/// Cancel-safe: questions under way are dropped.
pub(super) async fn explore(swarm: &swarm::Handle, scope: Scope, content: &Multihash) -> Option<Region> {
    let tables = swarm.tables().await.ok()?;
    let known = tables.into_iter().filter(|table| table.protocol == swarm.dht_protocol(scope));
    let mut contacts = HashMap::new();
    add(&mut contacts, known.flat_map(|table| table.peers));
    let mut explorer = Explorer::new(&content.to_bytes(), contacts.keys().copied());
    let mut asking = FuturesUnordered::new();
    while !explorer.is_at_end() {
        while let Some(ask) = explorer.next_ask() {
            match contacts.get(&ask.peer).cloned() {
                Some(contact) => asking.push(async move {
                    let answer = swarm.find_node(scope, &contact, &ask.target).await;
                    (ask, answer)
                }),
                None => explorer.on_failure(ask.peer),
            }
        }
        let Some((ask, answer)) = asking.next().await else { break };
        match answer {
            Ok(closer) => {
                let keys: Vec<_> = closer.iter().map(|(peer, _)| Key::of(&peer.to_bytes())).collect();
                add(&mut contacts, closer);
                explorer.on_answer(&ask, &keys);
            }
            Err(error) => {
                debug!(%error, "peer of a region did not answer");
                explorer.on_failure(ask.peer);
            }
        }
    }
    let Explored { region, peers } = explorer.explored()?;
    contacts.retain(|key, _| peers.contains(key));
    let peers = contacts.keys().copied().collect();
    Some(Region { prefix: region, contacts, peers, reached: HashSet::new(), asked_count: 0 })
}

/// Adds contacts; what is known of a peer stays.
fn add(known: &mut HashMap<Key, Arc<Contact>>, contacts: impl IntoIterator<Item = Contact>) {
    for contact in contacts {
        known.entry(Key::of(&contact.0.to_bytes())).or_insert_with(|| Arc::new(contact));
    }
}

impl Region {
    /// Gives the records of these keys to the peers closest to each. For peers that fail, the next closest get them.
    ///
    /// # Cancellation
    /// Cancel-safe: some peers have the records, some have not.
    pub(super) async fn tell(
        &mut self,
        swarm: &swarm::Handle,
        scope: Scope,
        content: Vec<(Key, Multihash)>,
    ) -> Told {
        let content: Arc<[_]> = content.into();
        let mut taken = vec![0_u8; content.len()];
        let first = assign(&content, &self.peers, None);
        let before = self.peers.clone();
        self.push(swarm, scope, &content, first, &mut taken).await;
        if self.peers.len() < before.len() {
            let second = assign(&content, &self.peers, Some(&before));
            self.push(swarm, scope, &content, second, &mut taken).await;
        }
        let mut told = Told::default();
        for count in taken.into_iter().filter(|count| *count > 0) {
            told.key_count += 1;
            told.record_count += u64::from(count);
        }
        told
    }

    /// Peers that were given records, and those of them that took them.
    pub(super) fn reached(&self) -> (u64, u64) {
        (self.asked_count, self.reached.len() as u64)
    }

    async fn push(
        &mut self,
        swarm: &swarm::Handle,
        scope: Scope,
        content: &Arc<[(Key, Multihash)]>,
        assigned: HashMap<Key, Vec<u32>>,
        taken: &mut [u8],
    ) {
        let contacts = &self.contacts;
        let pushes = assigned.into_iter().filter_map(|(peer, numbers)| {
            let (contact, content) = (Arc::clone(contacts.get(&peer)?), Arc::clone(content));
            Some(async move {
                let records = numbers.iter().map(|number| content[*number as usize].1);
                let result = swarm.tell_provided(scope, &contact, records).await;
                (peer, numbers, result)
            })
        });
        let mut pushes = futures::stream::iter(pushes).buffer_unordered(MAX_CONNECTIONS);
        while let Some((peer, numbers, result)) = pushes.next().await {
            self.asked_count += u64::from(!self.reached.contains(&peer));
            match result {
                Ok(()) => {
                    self.reached.insert(peer);
                    numbers.iter().for_each(|number| taken[*number as usize] += 1);
                }
                Err(error) => {
                    debug!(%error, "peer of a region took no records");
                    self.peers.remove(&peer);
                }
            }
        }
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
