//! Putting a node together, bottom row first.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::blocks::{Blocks, Served};
use crate::denylists::Denylists;
use crate::exchange::http::{Addresses, Client, ClientOptions};
use crate::exchange::remote::Gateways;
use crate::names::{Dns, Names, Source};
use crate::node::{Inner, Network, Node};
use crate::pin_queue::PinQueue;
use crate::pins::Pins;
use crate::routing::delegated::Delegated;
use crate::routing::records::{Backing, RecordLimits, Records, WallClock};
use crate::settings::{DhtMode, Settings, SwarmSettings};
use crate::store::{Store, Table};
use crate::swarm::{Components, Transports, private};
use crate::tasks::Tasks;
use crate::{Error, Result, exchange, gc, provide, routing, swarm};

/// Longest time of one block's request to a gateway. Source: Kubo `core/node/bitswap.go` (30 s).
const RETRIEVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Folder of the store below the repo.
pub const STORE_DIR: &str = "store";

/// Opens a node's disk and, unless it is to stay offline, its network.
#[derive(Debug)]
pub struct Builder {
    settings: Settings,
    transports: Transports,
}

impl Builder {
    /// A node of these settings on real transports.
    pub fn new(settings: Settings) -> Self {
        Self { settings, transports: Transports::Real }
    }

    /// The same on other transports, for scenarios.
    #[must_use]
    pub fn transports(mut self, transports: Transports) -> Self {
        self.transports = transports;
        self
    }

    /// Opens the store, then the network.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`] for a repo or port that is in use, [`crate::Kind::Invalid`] for a repo of a newer format.
    pub async fn open(mut self) -> Result<Node> {
        if let Some(swarm) = &mut self.settings.swarm {
            private::join(swarm, &self.settings.repo)?;
        }
        let path = self.settings.repo.join(STORE_DIR);
        let (store_settings, folders) = (self.settings.store.clone(), self.settings.denylists.clone());
        let opening = move || {
            let (denylists, store) = (Denylists::open(folders)?, Store::open(&path, &store_settings)?);
            let pin_queue = PinQueue::open(store.rows(Table::Pinning))?;
            Ok::<_, Error>((denylists, store, pin_queue))
        };
        let (denylists, store, pin_queue) = tokio::task::spawn_blocking(opening)
            .await
            .map_err(|error| Error::internal("opening the store panicked").with_cause(error))??;
        let pins = Pins::new(store.clone());
        let groups = ["work", "exchange", "swarm"].map(Tasks::new);
        let gateways = self.settings.upstream.as_ref().map(Gateways::new).transpose()?;
        let network = match self.settings.swarm.clone() {
            Some(swarm) if gateways.is_none() => {
                let served = Served::new(store.clone(), denylists.clone());
                Some(self.start_network(&swarm, &store, served, &groups).await?)
            }
            _ => None,
        };
        let unfinished = pins.clone();
        groups[0].spawn("recover-pins", async move {
            if let Err(error) = unfinished.recover().await {
                tracing::warn!(%error, "what an earlier crash left of a pin was not released");
            }
        });
        groups[0].spawn("collect", gc::run(store.clone(), groups[0].stopping().clone()));
        groups[0].spawn("denylists", denylists.clone().watch(groups[0].stopping().clone()));
        let (exchange, source) = match (&network, gateways) {
            (Some(network), _) => (Some(network.exchange.clone()), Source::Routing(network.routing.clone())),
            (None, Some(gateways)) => {
                let served = Arc::new(Served::new(store.clone(), denylists.clone()));
                let exchange = exchange::remote::start(gateways.clone(), served, &groups[1]);
                (Some(exchange), Source::Gateways(gateways))
            }
            (None, None) => (None, Source::Nobody),
        };
        let dns = Dns::new(self.settings.dns.clone(), None);
        let clock: WallClock = Arc::new(SystemTime::now);
        let names = Names::new(store.rows(Table::Names), source, dns, clock, groups[0].clone());
        let blocks = Blocks::new(store, exchange, self.settings.block_timeout, denylists);
        let settings = self.settings;
        let node = Node::from_parts(Inner { settings, blocks, pins, pin_queue, names, network, groups });
        node.work_off_pin_queue();
        Ok(node)
    }

    async fn start_network(
        &self,
        settings: &SwarmSettings,
        store: &Store,
        served: Served,
        groups: &[Tasks; 3],
    ) -> Result<Network> {
        let [work_tasks, exchange_tasks, swarm_tasks] = groups;
        let identity = self.settings.identity.clone();
        let local = identity.public().to_peer_id();
        let clock: WallClock = Arc::new(SystemTime::now);
        // Who gives no blocks must not send others here for them.
        let tells =
            self.settings.provide.is_enabled && settings.bitswap_server && settings.dht != DhtMode::Off;
        let wanted = tells
            .then(|| provide::Wanted::new(store.clone(), served.clone(), self.settings.provide.strategy));
        let records = |prefix: &'static [u8]| {
            let clock = Arc::clone(&clock);
            let backing = Arc::new(store.rows(Table::Records));
            let records = Records::open(local, RecordLimits::default(), backing, prefix, clock, swarm_tasks);
            match wanted.clone() {
                Some(wanted) => records.with_own(Arc::new(wanted)),
                None => records,
            }
        };
        let (bitswap, wire) = swarm::bitswap::new();
        let tables: Arc<dyn Backing> = Arc::new(store.rows(Table::Records));
        let rows = Arc::clone(&tables);
        let saved = tokio::task::spawn_blocking(move || routing::saved::load(&*rows)).await;
        let components = Components {
            identity,
            saved: saved
                .map_err(|error| Error::internal("reading saved peers panicked").with_cause(error))?,
            wan_records: records(b"wan/"),
            lan_records: records(b"lan/"),
            bitswap: Some(bitswap),
            transports: self.transports,
        };
        let swarm = swarm::start(settings, components, swarm_tasks).await?;
        let stopping = work_tasks.stopping().clone();
        work_tasks.spawn("save peers", routing::saved::keep(swarm.clone(), tables, stopping));
        let delegated = Delegated::new(self.settings.routers.clone(), &settings.agent_version)?;
        let routing = routing::Handle::new(swarm.clone()).with_delegated(delegated);
        let peers = exchange::ports::Network { swarm: swarm.clone(), routing: routing.clone() };
        let retrieval = self.settings.retrieval.clone().map(|rules| {
            let options = ClientOptions {
                // Strangers named them.
                addresses: Addresses::Public,
                timeout: RETRIEVAL_TIMEOUT,
                roots: None,
                agent: settings.agent_version.clone(),
            };
            Client::new(options).map(|client| (client, rules))
        });
        let options =
            exchange::Options { serves: settings.bitswap_server, retrieval: retrieval.transpose()? };
        let (blocks, peers) = (Arc::new(served), Arc::new(peers));
        let exchange = exchange::start(wire, blocks, peers, options, exchange_tasks);
        let parts = wanted.map(|wanted| provide::Parts {
            rows: store.rows(Table::Provide),
            wanted,
            swarm: swarm.clone(),
            clock,
        });
        let start = |parts| provide::start(parts, self.settings.provide.interval, work_tasks);
        let provide = parts.map(start).transpose()?;
        Ok(Network { swarm, routing, exchange, provide })
    }
}
