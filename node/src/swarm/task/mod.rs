//! The task that owns the swarm: it chooses an action, and a plain function does it.

mod events;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::kad::store::RecordStore;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::address;
use super::behaviour::{Behaviour, Event};
use super::book::Book;
use super::dial::{self, Dials};
use super::keeper::Keeper;
use super::nat::findings::Findings;
use super::nat::relays::Relays;
use super::peers::Peers;
use super::query::{Id, Queries, Query};
use super::traffic::Traffic;
use super::{Command, Counters, Local, Peering, Table};
use crate::settings::addresses::Announce;
use crate::settings::reach::Reachability;
use crate::settings::{DhtMode, SwarmSettings};
use crate::{Error, Kind};

/// Longest wait for listeners to name their addresses.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait at the end for peers to be told that connections close.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// Addresses of one peer tried by one attempt to connect.
const MAX_DIAL_ADDRS: usize = 32;

/// Ends of the channels that the task serves.
pub(super) struct Queues {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) queries: mpsc::Receiver<Query>,
    pub(super) local: watch::Sender<Local>,
    pub(super) reachability: watch::Sender<Reachability>,
}

pub(super) struct Task<R: RecordStore + Send + 'static> {
    swarm: Swarm<Behaviour<R>>,
    queues: Queues,
    stopping: CancellationToken,
    announce: Announce,
    dht_mode: DhtMode,
    findings: Findings,
    relays: Relays,
    traffic: Traffic,
    peers: Peers,
    book: Book,
    keeper: Keeper,
    dials: Dials,
    running: Queries,
    counters: Counters,
}

enum Action {
    Stop,
    Swarm(SwarmEvent<Event>),
    Command(Command),
    Query(Query),
    /// Nobody waits for that query any more.
    Dropped(Id),
    /// Dials are due.
    Dial,
}

impl<R: RecordStore + Send + 'static> Task<R> {
    pub(super) fn new(
        swarm: Swarm<Behaviour<R>>,
        settings: &SwarmSettings,
        queues: Queues,
        traffic: Traffic,
        stopping: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        let named_relays = settings.reach.relays.as_deref().unwrap_or_default();
        let mut task = Self {
            swarm,
            queues,
            stopping,
            announce: settings.announce.clone(),
            dht_mode: settings.dht,
            findings: Findings::new(settings.reach.forced, &settings.announce.apply(Vec::new())),
            relays: Relays::new(named_relays, now),
            traffic,
            peers: Peers::default(),
            book: Book::default(),
            keeper: Keeper::new(&settings.peering, &settings.bootstrap, now),
            dials: Dials::default(),
            running: Queries::default(),
            counters: Counters::default(),
        };
        task.apply_reachability(task.findings.reachability());
        task
    }

    /// Fills the routing tables with what an earlier run saved, and starts from a few of those peers.
    pub(super) fn restore(&mut self, saved: Vec<Table>) {
        for table in saved {
            let mut dhts = self.swarm.behaviour_mut().dhts();
            let Some(dht) = dhts.find(|dht| dht.protocol() == table.protocol) else { continue };
            for (peer, addrs) in &table.peers {
                dht.learn(peer, addrs);
            }
            let known = dht.table().peers;
            drop(dhts);
            self.keeper.start_from(known, Instant::now());
        }
    }

    /// Starts the listeners and waits until each has an address.
    pub(super) async fn listen(&mut self, addrs: &[Multiaddr]) -> Result<(), Error> {
        let mut starting = HashSet::new();
        let mut failed = None;
        for addr in addrs {
            match self.swarm.listen_on(addr.clone()) {
                Ok(id) => drop(starting.insert(id)),
                Err(error) => {
                    let explained = dial::explain_listen(addr, &error);
                    let is_in_use =
                        matches!(&error, libp2p::TransportError::Other(error) if dial::is_in_use(error));
                    if is_in_use {
                        return Err(explained);
                    }
                    // A machine without IPv6, say, still serves its other addresses.
                    warn!(%addr, error = %explained, "address left out");
                    failed = Some(explained);
                }
            }
        }
        if let (true, Some(error)) = (starting.is_empty(), failed) {
            return Err(error);
        }
        let all_started = async {
            while !starting.is_empty() {
                let event = self.swarm.select_next_some().await;
                match &event {
                    SwarmEvent::NewListenAddr { listener_id, .. }
                    | SwarmEvent::ListenerClosed { listener_id, .. } => drop(starting.remove(listener_id)),
                    _ => {}
                }
                self.on_swarm_event(event);
            }
        };
        // An interface that comes up later is reported when it does.
        if tokio::time::timeout(LISTEN_TIMEOUT, all_started).await.is_err() {
            warn!("some addresses to listen on have no interface yet");
        }
        self.refresh_addresses();
        Ok(())
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.select().await {
                Action::Stop => break,
                action => self.apply(action),
            }
        }
        self.say_goodbye().await;
    }

    async fn select(&mut self) -> Action {
        let wake = self.keeper.next_wake().into_iter().chain(self.relays.next_wake()).min();
        let dial_is_due = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => Action::Stop,
            event = self.swarm.select_next_some() => Action::Swarm(event),
            Some(command) = self.queues.commands.recv() => Action::Command(command),
            Some(query) = self.queues.queries.recv(), if self.running.has_room() => Action::Query(query),
            Some(id) = self.running.watchers.next() => Action::Dropped(id),
            () = dial_is_due => Action::Dial,
        }
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Stop => {}
            Action::Swarm(event) => self.on_swarm_event(event),
            Action::Command(command) => self.on_command(command),
            Action::Query(query) => self.on_query(query),
            Action::Dropped(id) => self.running.cancel(self.swarm.behaviour_mut().dht(id.0), id),
            Action::Dial => self.dial_due(),
        }
    }

    /// Closes every connection, so that peers need not find out by a timeout.
    async fn say_goodbye(mut self) {
        for peer in self.peers.ids().collect::<Vec<_>>() {
            // It may have closed just now.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let all_closed = async {
            while self.peers.len() > 0 {
                if let SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } =
                    self.swarm.select_next_some().await
                {
                    self.peers.on_closed(&peer_id, connection_id);
                }
            }
        };
        if tokio::time::timeout(GOODBYE_TIMEOUT, all_closed).await.is_err() {
            debug!(peer_count = self.peers.len(), "connections closed without a goodbye");
        }
    }

    fn on_command(&mut self, command: Command) {
        // Whoever asked may have gone away; then an answer is not missed.
        match command {
            Command::Connect { peer, addrs, reply } => self.on_connect(peer, addrs, reply),
            Command::Disconnect { peer, reply } => drop(reply.send(self.on_disconnect(peer))),
            Command::Peers { reply } => drop(reply.send(self.peers.list())),
            Command::KnownAddrs { reply } => drop(reply.send(self.known_addrs())),
            Command::Counters { reply } => drop(reply.send(self.counters())),
            Command::Tables { reply } => {
                drop(reply.send(self.swarm.behaviour_mut().dhts().map(|dht| dht.table()).collect()));
            }
            Command::Peering(command) => self.on_peering(command),
            Command::Ping { peer, reply } => self.on_ping_asked(peer, reply),
        }
    }

    /// Keeps idle connections of a peer no longer, unless there is another reason to.
    fn let_go(&mut self, peer: PeerId) {
        if !self.keeper.keeps(&peer) && !self.relays.is_used(&peer) {
            self.swarm.behaviour_mut().keep(peer, false);
        }
    }

    fn on_ping_asked(&mut self, peer: PeerId, reply: oneshot::Sender<Result<Duration, Error>>) {
        if self.peers.is_connected(&peer) {
            self.swarm.behaviour_mut().ping(peer, reply);
        } else {
            drop(reply.send(Err(Error::not_found(format!("not connected to peer, peer={peer}")))));
        }
    }

    fn on_peering(&mut self, command: Peering) {
        match command {
            Peering::Add { peer, addrs, reply } => {
                let addrs = addrs.into_iter().map(address::without_peer).collect();
                let added = self.keeper.add(peer, addrs, Instant::now());
                if added.is_ok() {
                    self.swarm.behaviour_mut().keep(peer, true);
                }
                drop(reply.send(added));
            }
            Peering::Remove { peer, reply } => {
                self.keeper.remove(&peer);
                self.let_go(peer);
                let _ = reply.send(());
            }
            Peering::List { reply } => drop(reply.send(self.keeper.peering())),
        }
    }

    fn on_query(&mut self, query: Query) {
        self.counters.queries_total += 1;
        let dht = self.swarm.behaviour_mut().dht(query.scope);
        self.running.start(dht, query);
    }

    fn on_connect(&mut self, peer: PeerId, addrs: Vec<Multiaddr>, reply: oneshot::Sender<Result<(), Error>>) {
        if self.peers.is_connected(&peer) {
            return drop(reply.send(Ok(())));
        }
        if peer == *self.swarm.local_peer_id() {
            return drop(reply.send(Err(Error::invalid(format!("that is this node itself, peer={peer}")))));
        }
        if !self.dials.has_room() {
            let error =
                Error::new(Kind::Unavailable, format!("too many connections being opened, peer={peer}"));
            return drop(reply.send(Err(error)));
        }
        let dial = self.dial_opts(peer, addrs);
        self.dials.wait(dial.connection_id(), peer, reply);
        self.dial(dial);
    }

    fn on_disconnect(&mut self, peer: PeerId) -> Result<(), Error> {
        let message = || format!("not connected to peer, peer={peer}");
        self.swarm.disconnect_peer_id(peer).map_err(|()| Error::not_found(message()))
    }

    fn known_addrs(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.book.iter().map(|(peer, addrs)| (*peer, addrs.clone())).collect()
    }

    fn counters(&self) -> Counters {
        let (inbound_open_count, outbound_open_count) = self.peers.connection_counts();
        Counters {
            inbound_open_count,
            outbound_open_count,
            peers_connected_count: self.peers.len(),
            queries_running_count: self.running.len(),
            ..self.counters
        }
    }

    /// An attempt at the given addresses, or, without any, at all that are known of the peer.
    fn dial_opts(&mut self, peer: PeerId, mut addrs: Vec<Multiaddr>) -> DialOpts {
        if addrs.is_empty() {
            addrs.extend_from_slice(self.book.get(&peer));
            for dht in self.swarm.behaviour_mut().dhts() {
                addrs.append(&mut dht.addrs_of(peer));
            }
        }
        // One address with and without the peer ID would be dialled twice.
        let mut addrs: Vec<_> = addrs.into_iter().map(address::without_peer).collect();
        addrs.sort_unstable();
        addrs.dedup();
        addrs.truncate(MAX_DIAL_ADDRS);
        DialOpts::peer_id(peer).condition(PeerCondition::Disconnected).addresses(addrs).build()
    }

    fn dial(&mut self, dial: DialOpts) {
        let id = dial.connection_id();
        if let Err(error) = self.swarm.dial(dial) {
            self.counters.outbound_failed_total += 1;
            self.dials.on_failed(id, &error);
        }
    }

    fn dial_due(&mut self) {
        let peers = &self.peers;
        let due = self.keeper.due(Instant::now(), peers.len(), |peer| peers.is_connected(peer));
        for (peer, addrs) in due {
            debug!(%peer, "dialling a peer of the configuration");
            let dial = self.dial_opts(peer, addrs);
            self.dial(dial);
        }
        while let Some((relay, addr)) = self.relays.due(Instant::now()) {
            debug!(%relay, %addr, "asking a relay to be reached through it");
            let addr = addr.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
            match self.swarm.listen_on(addr) {
                Ok(id) => {
                    self.relays.on_started(id, relay);
                    self.swarm.behaviour_mut().keep(relay, true);
                }
                Err(error) => debug!(%relay, %error, "not reached through a relay"),
            }
        }
    }
}
