//! Names: where an IPNS key or a DNSLink domain leads.
//!
//! A record is valid until its end and fresh for its time to live. One that is valid but no longer fresh is used at once
//! while a newer one is looked for behind it, so that nobody waits for a search of the DHT twice.
//!
//! Must not know blocks or DAGs. Read [`Names::resolve`] first; [`dns`] asks the DNS, through [`resolvers`], [`held`] keeps records.

mod dns;
mod held;
mod resolvers;
#[cfg(test)]
pub(crate) mod tests;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cairn_proto::content::Target;
use cairn_proto::ipns::{Name, Record};
use cairn_proto::path::{ContentPath, Root};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;

use crate::exchange::remote::Gateways;
use crate::routing::{self, records::WallClock};
use crate::store::Rows;
use crate::tasks::Tasks;
use crate::{Error, Kind, Result};

pub use dns::{Dns, DnsSettings, NameMap};
use held::{Found, Held};
pub use resolvers::DohServer;

/// Longest chain of names that lead to names. Source: <https://specs.ipfs.tech/http-gateways/dnslink-gateway/> (32).
pub const MAX_NAME_STEPS: usize = 32;

/// Records that a search looks at before it takes the best of them. Source: Kubo `ipfs name resolve --dht-record-count`.
const QUORUM: usize = 16;

/// Longest search for a record.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Names that are looked for behind an answer at the same time.
const MAX_REFRESHES: usize = 16;

/// Names of one node. Clones share it.
#[derive(Debug, Clone)]
pub struct Names(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    held: Held,
    source: Source,
    dns: Dns,
    clock: Clock,
    tasks: Tasks,
    refreshing: Mutex<HashSet<Name>>,
}

struct Clock(WallClock);

/// Who is asked for the records of others.
#[derive(Debug, Clone)]
pub enum Source {
    /// Nobody: the node is offline.
    Nobody,
    /// The DHT.
    Routing(routing::Handle),
    /// Gateways in place of peers.
    Gateways(Gateways),
}

impl Source {
    fn is_offline(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// Records of a name, not verified.
    fn records(&self, name: &Name) -> BoxStream<'static, Bytes> {
        match self {
            Self::Nobody => stream::empty().boxed(),
            Self::Routing(routing) => routing.get_value(name.routing_key(), QUORUM).map(Bytes::from).boxed(),
            Self::Gateways(gateways) => gateways.records(*name),
        }
    }
}

/// How far a look-up may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookUp {
    /// Ask no peer. A node that is online asks the DNS all the same, as Kubo does: it tells where content is, not what.
    pub local_only: bool,
    /// Take one step only: the result may start at a name again.
    pub one_step: bool,
    /// Ask peers even if a fresh record is here.
    pub no_cache: bool,
}

impl Names {
    /// The names of a node: `rows` keep its records, `source` has those of others.
    pub fn new(rows: Rows, source: Source, dns: Dns, clock: WallClock, tasks: Tasks) -> Self {
        let held = Held::new(rows);
        let refreshing = Mutex::default();
        Self(Arc::new(Inner { held, source, dns, clock: Clock(clock), tasks, refreshing }))
    }

    /// Follows the name that a path starts at, and the names that it leads to. A path that starts at a CID is its own
    /// target.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a name without a record, [`Kind::NotLocal`] for one that is not here, [`Kind::Timeout`],
    /// [`Kind::Corrupt`] for a record that leads nowhere, [`Kind::Invalid`] for a text that is no name and for more than
    /// [`MAX_NAME_STEPS`].
    ///
    /// # Cancellation
    /// Safe: the search ends.
    pub async fn resolve(&self, path: &ContentPath, options: LookUp) -> Result<Target> {
        let mut target = Target { path: path.clone(), fresh_for: None };
        for _ in 0..MAX_NAME_STEPS {
            let Root::Ipns(name) = target.path.root() else { return Ok(target) };
            let step = self.step(name, options).await?;
            let segments = step.path.segments().iter().chain(target.path.segments());
            target = Target {
                path: ContentPath::new(step.path.root().clone(), segments)?,
                fresh_for: match (target.fresh_for, step.fresh_for) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                },
            };
            if options.one_step {
                return Ok(target);
            }
        }
        match target.path.root() {
            Root::Ipfs(_) => Ok(target),
            Root::Ipns(_) => Err(Error::invalid(format!("too many names lead to names, path={path}"))),
        }
    }

    /// The valid record of a name that holds.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    ///
    /// # Cancellation
    /// Safe: the search ends.
    pub async fn record(&self, name: &Name, options: LookUp) -> Result<Record> {
        let known = self.known(name).await?;
        let may_search = !self.0.source.is_offline() && !options.local_only;
        match known {
            Some(found) if !may_search || (found.is_fresh() && !options.no_cache) => Ok(found.record),
            Some(found) if !options.no_cache => {
                self.refresh(*name);
                Ok(found.record)
            }
            known if may_search => self.search(name, known.map(|found| found.record)).await,
            _ => Err(Error::new(Kind::NotLocal, format!("no record of this name is here, name={name}"))),
        }
    }

    /// How long a record may be taken for the latest from now on; nothing for one that has expired.
    pub fn fresh_for(&self, record: &Record) -> Duration {
        record.fresh_for(self.0.clock.now()).unwrap_or_default()
    }

    /// Keeps a record of a name unless a better one is here, and tells the DHT unless this node is offline. Returns
    /// whether anybody was told.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for bytes that are no valid record of the name or an older one; what the store and routing say.
    pub async fn put(&self, name: &Name, bytes: Bytes, tell: bool) -> Result<bool> {
        let record = Record::verify(name, bytes).map_err(|error| Error::invalid(error.to_string()))?;
        if record.fresh_for(self.0.clock.now()).is_none() {
            return Err(Error::invalid(format!("IPNS record has expired, name={name}")));
        }
        if let Some(found) = self.known(name).await?
            && found.record.order(&record) == Ordering::Greater
        {
            return Err(Error::invalid(format!("a newer IPNS record is here, name={name}")));
        }
        self.0.held.put(name, &record).await?;
        match (&self.0.source, tell) {
            (Source::Routing(routing), true) => {
                routing.put_value(name.routing_key(), record.bytes().to_vec()).await.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    async fn step(&self, text: &str, options: LookUp) -> Result<Target> {
        let Ok(name) = Name::parse(text) else {
            return self.0.dns.look_up(text, self.0.source.is_offline()).await;
        };
        let record = self.record(&name, options).await?;
        let path = record.path().map_err(|error| Error::corrupt(format!("{error}, name={name}")))?;
        Ok(Target { path, fresh_for: record.fresh_for(self.0.clock.now()) })
    }

    /// The better one of what is kept and what was found lately, if it is still valid.
    async fn known(&self, name: &Name) -> Result<Option<Found>> {
        let now = self.0.clock.now();
        let found = self.0.held.found(name);
        let kept = self.0.held.get(name).await?.map(Found::stale);
        let valid = [found, kept].into_iter().flatten().filter(|found| found.record.fresh_for(now).is_some());
        Ok(valid.max_by(|a, b| a.record.order(&b.record).then_with(|| a.is_fresh().cmp(&b.is_fresh()))))
    }

    /// Asks others for a record that is better than `known`.
    async fn search(&self, name: &Name, known: Option<Record>) -> Result<Record> {
        let now = self.0.clock.now();
        let mut best = known;
        let mut refused = None;
        let records = self.0.source.records(name);
        let mut records = std::pin::pin!(records.take_until(tokio::time::sleep(SEARCH_TIMEOUT)));
        while let Some(record) = records.next().await {
            match Record::verify(name, record) {
                Ok(record) if record.fresh_for(now).is_none() => {}
                Ok(record) => {
                    if best.as_ref().is_none_or(|best| record.order(best) == Ordering::Greater) {
                        best = Some(record);
                    }
                }
                Err(error) => refused = Some(error),
            }
        }
        match (best, refused) {
            (Some(record), _) => {
                self.0.held.keep_found(name, &record);
                Ok(record)
            }
            (None, Some(error)) => Err(Error::corrupt(error.to_string())),
            (None, None) => Err(not_found(name)),
        }
    }

    /// Searches behind an answer that was given already.
    fn refresh(&self, name: Name) {
        {
            let mut refreshing = self.0.refreshing();
            if refreshing.len() == MAX_REFRESHES || !refreshing.insert(name) {
                return;
            }
        }
        let names = self.clone();
        self.0.tasks.spawn("refresh-name", async move {
            let known = names.known(&name).await.ok().flatten().map(|found| found.record);
            tokio::select! {
                () = names.0.tasks.stopping().cancelled() => {}
                searched = names.search(&name, known) => if let Err(error) = searched {
                    tracing::debug!(%name, %error, "name was not refreshed");
                }
            }
            names.0.refreshing().remove(&name);
        });
    }
}

impl Inner {
    fn refreshing(&self) -> std::sync::MutexGuard<'_, HashSet<Name>> {
        // The set is whole after every statement that holds the lock.
        self.refreshing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Found {
    /// A record that nobody said anything of lately.
    fn stale(record: Record) -> Self {
        Self { record, fresh_until: None }
    }

    fn is_fresh(&self) -> bool {
        self.fresh_until.is_some_and(|until| Instant::now() < until)
    }
}

fn not_found(name: &Name) -> Error {
    Error::not_found(format!("could not resolve name: no record found, name={name}"))
}
