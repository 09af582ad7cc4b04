//! Telling one DHT of some content at once.

use std::time::Duration;

use cairn_proto::cid::Multihash;
use cairn_proto::sweep::{Announcer, Call, Key};
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;
use tracing::debug;

use super::contacts::Contacts;
use crate::Result;
use crate::swarm::{self, Contact, Scope};

/// Wait for the slow ones once enough peers took a record.
const STRAGGLERS_TIMEOUT: Duration = Duration::from_secs(1);

/// How a call ended.
enum Done {
    Asked(Key, Result<Vec<Contact>>),
    Told(Key, Result<()>),
}

/// Tells the peers of a DHT closest to some content that this node has it; how many took the record.
///
/// # Cancellation
/// Cancel-safe: some peers have the record, some have not.
pub(super) async fn announce(swarm: &swarm::Handle, scope: Scope, content: Multihash) -> usize {
    let mut contacts = Contacts::of_table(swarm, scope).await;
    let local = Key::of(&swarm.local_peer_id().to_bytes());
    let mut announcer = Announcer::new(&content.to_bytes(), &local, contacts.keys());
    let target = announcer.target().to_vec();
    let mut calls: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
    let mut deadline: Option<Instant> = None;
    loop {
        while let Some(call) = announcer.next_call() {
            let (Call::Ask(key) | Call::Tell(key)) = call;
            let Some(contact) = contacts.get(&key) else { continue };
            let target = &target;
            calls.push(match call {
                Call::Ask(_) => {
                    async move { Done::Asked(key, swarm.find_node(scope, &contact, target).await) }.boxed()
                }
                Call::Tell(_) => async move {
                    let told = swarm.tell_provided(scope, &contact, std::iter::once(content)).await;
                    Done::Told(key, told)
                }
                .boxed(),
            });
        }
        if announcer.is_enough() {
            deadline.get_or_insert_with(|| Instant::now() + STRAGGLERS_TIMEOUT);
        }
        let done = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, calls.next()).await.ok().flatten(),
            None => calls.next().await,
        };
        match done {
            Some(Done::Asked(key, Ok(closer))) => announcer.on_answer(&key, &contacts.add(closer)),
            Some(Done::Asked(key, Err(error))) => {
                debug!(%error, "peer was not asked whom it knows");
                announcer.on_unanswered(&key);
            }
            Some(Done::Told(key, Ok(()))) => announcer.on_taken(&key),
            Some(Done::Told(key, Err(error))) => {
                debug!(%error, "peer took no record");
                announcer.on_refused(&key);
            }
            None => return announcer.taken_count(),
        }
    }
}
