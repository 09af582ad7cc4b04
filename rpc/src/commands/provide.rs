//! `provide stat`, `provide clear`, `provide once`.

use std::time::{Duration, SystemTime};

use cairn_node::provide::{self, Handle};
use cairn_node::swarm::Scope;
use cairn_proto::cid::Cid;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// A time that is none. Source: Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// CIDs that are queued in one step.
const QUEUE_STEP: usize = 1024;

async fn provider(context: &Context) -> Result<Handle> {
    let node = context.node().await?;
    if node.routing().is_none() {
        return Err(Error::offline());
    }
    let off = || Error::new("this node tells nobody what it has: see Provide.Enabled and Routing.Type");
    node.provide().cloned().ok_or_else(off)
}

/// Tells how the announcements go.
#[derive(Debug, Clone, Default)]
pub struct Stat {
    /// Of the local network's DHT, not of the public one.
    pub lan: bool,
}

/// How the announcements go. Source: Kubo `core/commands/provide.go` and go-libp2p-kad-dht `provider/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stats {
    /// Of the sweep.
    pub sweep: Sweep,
    /// Of what Kubo did before.
    #[serde(default)]
    pub legacy: (),
    /// As above.
    #[serde(default, rename = "FullRT")]
    pub full_rt: bool,
}

impl JsonEvent for Stats {}

/// How a sweep goes. Durations are in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are Kubo's; `Sweep` says where they are explained")]
pub struct Sweep {
    pub closed: bool,
    pub connectivity: Connectivity,
    pub queues: Queues,
    pub schedule: Schedule,
    pub timing: Timing,
    pub operations: Operations,
    pub network: Network,
}

/// Whether peers answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in Sweep")]
pub struct Connectivity {
    pub status: String,
    pub since: String,
}

/// What waits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in Sweep")]
pub struct Queues {
    pub pending_key_provides: u64,
}

/// What is told again and again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in Sweep")]
pub struct Schedule {
    pub keys: u64,
    /// Kubo knows all of them before; these are those of a turn, as far as the last ones tell.
    pub regions: u64,
    pub avg_prefix_length: f64,
    pub next_reprovide_at: String,
}

/// When.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in Sweep")]
pub struct Timing {
    pub uptime: u64,
    pub reprovides_interval: u64,
    pub cycle_start: String,
    pub current_time_offset: u64,
}

/// What was done, and is being done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in Sweep")]
pub struct Operations {
    pub ongoing: Ongoing,
    pub past: Past,
}

/// What is being done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in Sweep")]
pub struct Ongoing {
    pub region_reprovides: u64,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in Sweep")]
pub struct Past {
    pub records_provided: u64,
    pub keys_provided: u64,
    pub keys_failed: u64,
    pub reprovide_duration: u64,
    /// Not Kubo's: regions told since the start.
    pub regions_provided: u64,
}

/// The peers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in Sweep")]
pub struct Network {
    pub peers: u64,
    pub reachable: u64,
    pub avg_region_size: f64,
    pub avg_holders: f64,
    pub replication_factor: u64,
}

impl Command for Stat {
    const PATH: &'static str = "provide/stat";
    type Event = Stats;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("lan", "", &mut self.lan)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Stats>) -> Result<()> {
        let scope = if self.lan { Scope::Lan } else { Scope::Wan };
        let stat = provider(&context).await?.stat(scope);
        output.send(Stats { sweep: sweep(&stat), legacy: (), full_rt: false }).await
    }
}

fn sweep(stat: &provide::Stat) -> Sweep {
    let counters = &stat.counters;
    let at = |seconds: Option<u64>| {
        seconds
            .map_or_else(|| NO_TIME.to_owned(), |s| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(s)))
    };
    let started_s = stat.started_s;
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let has_swept = counters.regions_total > 0;
    Sweep {
        closed: false,
        connectivity: Connectivity {
            status: if stat.is_online { "online" } else { "disconnected" }.to_owned(),
            since: stat.since.map_or_else(|| NO_TIME.to_owned(), rfc3339),
        },
        queues: Queues { pending_key_provides: stat.fresh_count },
        schedule: Schedule {
            keys: stat.scheduled_count,
            regions: if has_swept { regions(counters.mean_prefix_bits()) } else { 0 },
            avg_prefix_length: counters.mean_prefix_bits(),
            next_reprovide_at: at(stat.next_s),
        },
        timing: Timing {
            uptime: nanoseconds(stat.uptime),
            reprovides_interval: nanoseconds(stat.interval),
            cycle_start: at(started_s),
            current_time_offset: started_s
                .map_or(0, |started_s| nanoseconds(Duration::from_secs(now_s.saturating_sub(started_s)))),
        },
        operations: Operations {
            ongoing: Ongoing { region_reprovides: stat.busy_count },
            past: Past {
                records_provided: counters.records_total,
                keys_provided: counters.keys_total,
                keys_failed: counters.keys_failed_total,
                reprovide_duration: nanoseconds(counters.busy)
                    .checked_div(counters.regions_total)
                    .unwrap_or(0),
                regions_provided: counters.regions_total,
            },
        },
        network: Network {
            peers: counters.peers_total,
            reachable: counters.peers_reached_total,
            avg_region_size: counters.mean_region_peers(),
            avg_holders: counters.mean_holders(),
            replication_factor: stat.replication as u64,
        },
    }
}

/// Regions of the keyspace whose prefixes have so many bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for show, and at least one")]
fn regions(prefix_bits: f64) -> u64 {
    prefix_bits.exp2().round() as u64
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Forgets what was to be told soon.
#[derive(Debug, Clone, Default)]
pub struct Clear;

/// How many CIDs were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cleared(pub u64);

impl JsonEvent for Cleared {}

impl Command for Clear {
    const PATH: &'static str = "provide/clear";
    type Event = Cleared;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        // What a client does with the answer; sent by Kubo's.
        let mut quiet = false;
        binder.option("quiet", "q", &mut quiet)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Cleared>) -> Result<()> {
        let cleared_count = provider(&context).await?.clear().await?;
        output.send(Cleared(cleared_count)).await
    }
}

/// Tells of some content soon, once, whatever the strategy says.
#[derive(Debug, Clone, Default)]
pub struct Once {
    /// CIDs.
    pub keys: Vec<String>,
    /// And everything below them.
    pub recursive: bool,
}

/// A CID that will be told soon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Queued {
    /// The CID.
    pub queued: String,
}

impl JsonEvent for Queued {}

impl Command for Once {
    const PATH: &'static str = "provide/once";
    type Event = Queued;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("cid", 1, &mut self.keys)?;
        binder.option("recursive", "r", &mut self.recursive)
    }

    async fn run(self, context: Context, output: Output<Queued>) -> Result<()> {
        let provider = provider(&context).await?;
        let store = context.node().await?.store().clone();
        let roots =
            self.keys.iter().map(|text| cairn_proto::cid::parse(text)).collect::<Result<Vec<_>, _>>()?;
        for root in roots {
            let (store, hash) = (store.clone(), *root.hash());
            let has = tokio::task::spawn_blocking(move || store.has(&hash)).await;
            if !has.map_err(|error| Error::new(format!("looking up a block stopped: {error}")))?? {
                return Err(Error::new(format!("block {root} not found locally, cannot provide")));
            }
            queue(&provider, &context, &output, vec![root]).await?;
            if self.recursive {
                let mut local = context.clone();
                local.options.offline = true;
                let session = local.session().await?;
                let links = session.references(&root, None, true);
                let mut chunks = std::pin::pin!(links.map_ok(|link| link.child).try_chunks(QUEUE_STEP));
                while let Some(children) = chunks.try_next().await.map_err(|error| error.1)? {
                    queue(&provider, &context, &output, children).await?;
                }
            }
        }
        Ok(())
    }
}

async fn queue(provider: &Handle, context: &Context, output: &Output<Queued>, cids: Vec<Cid>) -> Result<()> {
    provider.once(cids.iter().map(|cid| *cid.hash()).collect()).await?;
    for cid in cids {
        output.send(Queued { queued: context.text(&cid) }).await?;
    }
    Ok(())
}
