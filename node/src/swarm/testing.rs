//! Nodes of a network of their own, for the tests of this crate.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};

use super::{Components, Handle, Table, Transports, start};
use crate::Error;
use crate::routing;
use crate::routing::records::{MemoryBacking, Own, RecordLimits, Records};
use crate::settings::addresses::{Announce, Networks};
use crate::settings::reach::ReachSettings;
use crate::settings::{BandwidthLimits, ConnectionSettings, DhtMode, SwarmSettings};
use crate::tasks::Tasks;

/// Longest wait for something that should happen soon.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A swarm with routing over it.
pub(crate) struct Node {
    pub(crate) swarm: Handle,
    pub(crate) routing: routing::Handle,
    pub(crate) tasks: Tasks,
}

/// Settings that touch nobody outside the test.
pub(crate) fn settings(listen: &[&str]) -> SwarmSettings {
    SwarmSettings {
        listen: listen.iter().map(|addr| addr.parse().unwrap()).collect(),
        announce: Announce::default(),
        refused: Networks::default(),
        bootstrap: Vec::new(),
        peering: Vec::new(),
        mdns: false,
        dht: DhtMode::Server,
        dht_protocol: "/cairn-test/kad/1.0.0".to_owned(),
        lan_dht_protocol: "/cairn-test/lan/kad/1.0.0".to_owned(),
        bitswap_server: false,
        connections: ConnectionSettings { max_count: 100, marks: None },
        bandwidth: BandwidthLimits::default(),
        agent_version: "cairn-test/1".to_owned(),
        private_network: None,
        must_be_private: false,
        reach: ReachSettings::NONE,
    }
}

impl Node {
    pub(crate) async fn start(settings: SwarmSettings) -> Self {
        Self::try_start(settings).await.unwrap()
    }

    pub(crate) async fn try_start(settings: SwarmSettings) -> Result<Self, Error> {
        Self::restart(settings, Vec::new()).await
    }

    /// A node that knows the routing tables of an earlier one.
    pub(crate) async fn restart(settings: SwarmSettings, saved: Vec<Table>) -> Result<Self, Error> {
        Self::build(settings, saved, None).await
    }

    /// A node in memory that provides something.
    pub(crate) async fn with_own(own: Arc<dyn Own>) -> Self {
        Self::build(settings(&["/memory/0"]), Vec::new(), Some(own)).await.unwrap()
    }

    async fn build(
        settings: SwarmSettings,
        saved: Vec<Table>,
        own: Option<Arc<dyn Own>>,
    ) -> Result<Self, Error> {
        let identity = Keypair::generate_ed25519();
        let is_memory = settings.listen.iter().any(|addr| addr.to_string().starts_with("/memory"));
        let transports = if is_memory { Transports::Memory } else { Transports::Real };
        let tasks = Tasks::new("swarm");
        let local = identity.public().to_peer_id();
        let clock: crate::routing::records::WallClock = Arc::new(SystemTime::now);
        let records = |prefix| {
            let backing = Arc::new(MemoryBacking::default());
            let records =
                Records::open(local, RecordLimits::default(), backing, prefix, Arc::clone(&clock), &tasks);
            match own.clone() {
                Some(own) => records.with_own(own),
                None => records,
            }
        };
        let components = Components {
            identity,
            saved,
            wan_records: records(b"w"),
            lan_records: records(b"l"),
            bitswap: None,
            transports,
        };
        let swarm = start(&settings, components, &tasks).await?;
        Ok(Self { routing: routing::Handle::new(swarm.clone()), swarm, tasks })
    }

    /// A node in memory.
    pub(crate) async fn in_memory() -> Self {
        Self::start(settings(&["/memory/0"])).await
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.swarm.local_peer_id()
    }

    pub(crate) fn addr(&self) -> Multiaddr {
        self.swarm.listen_addrs()[0].clone()
    }

    pub(crate) async fn connect(&self, other: &Self) {
        self.swarm.connect(other.peer(), other.swarm.listen_addrs()).await.unwrap();
    }
}

/// What `attempt` returns once it is something; fails the test after [`DEADLINE`].
pub(crate) async fn soon<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let tried = async {
        loop {
            if let Some(done) = attempt().await {
                return done;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, tried).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}
