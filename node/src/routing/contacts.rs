//! Peers of one DHT that can be asked, by their points in its keyspace.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_proto::sweep::Key;

use crate::swarm::{self, Contact, Scope};

/// Peers and where they may listen.
#[derive(Debug, Default)]
pub(crate) struct Contacts(HashMap<Key, Arc<Contact>>);

impl Contacts {
    /// Those of the routing table; none when the node takes no part or has stopped.
    pub(crate) async fn of_table(swarm: &swarm::Handle, scope: Scope) -> Self {
        let mut contacts = Self::default();
        for table in swarm.tables().await.unwrap_or_default() {
            if table.protocol == swarm.dht_protocol(scope) {
                contacts.add(table.peers);
            }
        }
        contacts
    }

    /// Adds peers, and returns the points of all of them. What is known of a peer stays.
    pub(crate) fn add(&mut self, contacts: impl IntoIterator<Item = Contact>) -> Vec<Key> {
        let add = |contact: Contact| {
            let key = Key::of(&contact.0.to_bytes());
            self.0.entry(key).or_insert_with(|| Arc::new(contact));
            key
        };
        contacts.into_iter().map(add).collect()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Contact>> {
        self.0.get(key).cloned()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.0.keys().copied()
    }

    /// Forgets all but some.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&Key) -> bool) {
        self.0.retain(|key, _| is_kept(key));
    }
}
