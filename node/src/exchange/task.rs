//! The task that owns the asking side: chooses what to do next, then does it without waiting.
//!
//! Invariant: nothing here waits for a peer, a session, the store or the swarm. A peer whose writer is busy stays dirty
//! until the writer says that it is ready; a session's queue has room for all that it may want.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use cairn_proto::bitswap::PeerKey;
use cairn_proto::bitswap::client::{Client, Progress, Search, SessionId};
use cairn_proto::bitswap::message::{Presence, WantEntry};
use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, Multihash};
use futures::stream::{self, FuturesUnordered, StreamExt as _};
use libp2p::PeerId;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::http::GatewayUrl;
use super::ledger::Ledger;
use super::ports::{Blocks, Peers};
use super::reader::Reader;
use super::retrieval::{Asker, End, Retrieval, gateway_of};
use super::writer::{ANSWER_QUEUE, Answerer, ENTRIES_QUEUE, Writer};
use super::{Counters, MAX_PROVIDERS, PeerStat, Stat};
use crate::Error;
use crate::swarm::bitswap::{Change, KeepAlive, Link, Opener, Wire};
use crate::tasks::Tasks;

/// Actions done before peers are told, so that what belongs together goes in one message.
const MAX_ACTIONS: usize = 64;

/// Providers that were connected to, and blocks found in the store, that wait to be taken in.
pub(super) const NEWS_QUEUE: usize = 64;

/// What handles and sessions ask for.
#[derive(Debug)]
pub(super) enum Command {
    Open { session: SessionId, blocks: mpsc::Sender<Delivery> },
    Want { session: SessionId, cids: Vec<Cid> },
    Cancel { session: SessionId, cids: Vec<Cid> },
    Close { session: SessionId },
    AddProvider { session: SessionId, peer: PeerId },
    Progress { session: SessionId, reply: oneshot::Sender<Progress> },
    NewBlocks { cids: Vec<Cid> },
    Stat { reply: oneshot::Sender<Stat> },
    PeerStat { peer: PeerId, reply: oneshot::Sender<Option<PeerStat>> },
}

/// What a session hears of a block that it wants.
#[derive(Debug)]
pub(super) enum Delivery {
    /// The block, and the peer that sent it; nobody, when it was in the store.
    Block(Block, Option<PeerId>),
    /// Nobody is going to send it.
    Failed(Cid, Error),
}

/// What the tasks of a peer tell.
#[derive(Debug)]
pub(super) enum PeerEvent {
    /// Blocks came.
    Blocks(Vec<Block>),
    /// The peer has or has not.
    Presences(Vec<(Multihash, Presence)>),
    /// The writer can take another wantlist.
    Ready,
    /// What was sent last may not have arrived.
    Lost,
    /// The peer cannot be asked.
    Gone,
    /// The peer speaks an old version.
    KnowsNoPresences,
}

/// What tasks of the exchange itself found.
#[derive(Debug)]
pub(super) enum News {
    /// A provider is connected.
    Provider(SessionId, PeerId),
    /// A gateway is a provider.
    Gateway(SessionId, PeerId, GatewayUrl),
    /// A gateway is asked no more.
    GatewayEnded(PeerKey, GatewayUrl, End),
    /// Blocks that are wanted are in the store.
    Local(Vec<Block>),
}

enum Action {
    Command(Command),
    Peer(PeerKey, PeerEvent),
    Changes(Vec<Change>),
    News(News),
    Tick,
    Stop,
}

/// What the exchange shares with the tasks of its peers.
pub(super) struct Shared {
    pub(super) blocks: Arc<dyn Blocks>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) serves: bool,
    pub(super) counters: Arc<Counters>,
    pub(super) hashers: Arc<Semaphore>,
    pub(super) readers: Arc<Semaphore>,
    pub(super) tasks: Tasks,
}

/// What the exchange and a peer's reader tell each other without a message.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// Bytes read so far: the peer is alive while they grow.
    pub(super) received_bytes: AtomicU64,
    /// Whether the peer was asked for anything: blocks are not even hashed otherwise.
    pub(super) may_serve: AtomicBool,
}

/// A connected peer, or a gateway.
struct Peer {
    id: PeerId,
    is_local: bool,
    entries: mpsc::Sender<Vec<WantEntry>>,
    /// Opens streams; a gateway has none.
    opener: Option<Opener>,
    /// Held while the peer owes us something.
    keep_alive: Option<KeepAlive>,
    signs: Arc<Signs>,
    seen_bytes: u64,
    /// Ends the peer's tasks.
    _stop: DropGuard,
}

/// An open session.
struct Session {
    blocks: mpsc::Sender<Delivery>,
    search: Option<JoinHandle<()>>,
    /// Peers that had blocks of it and left.
    lost: Vec<PeerId>,
}

/// Both ends: the one to give out, and our own.
type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// The owner of everything wanted.
pub(super) struct Task {
    shared: Shared,
    client: Client,
    peers: HashMap<PeerKey, Peer>,
    keys: HashMap<PeerId, PeerKey>,
    next_key: u64,
    sessions: HashMap<SessionId, Session>,
    wire: Wire,
    commands: mpsc::Receiver<Command>,
    events: Channel<(PeerKey, PeerEvent)>,
    news: Channel<News>,
    retrieval: Option<Retrieval>,
}

impl Task {
    pub(super) fn new(
        shared: Shared,
        wire: Wire,
        commands: mpsc::Receiver<Command>,
        retrieval: Option<Retrieval>,
    ) -> Self {
        Self {
            shared,
            client: Client::default(),
            peers: HashMap::new(),
            keys: HashMap::new(),
            next_key: 0,
            sessions: HashMap::new(),
            wire,
            commands,
            events: mpsc::channel(super::EVENT_QUEUE),
            news: mpsc::channel(NEWS_QUEUE),
            retrieval,
        }
    }

    /// Runs until the group stops.
    pub(super) async fn run(mut self) {
        loop {
            match self.select().await {
                Action::Stop => return,
                action => self.apply(action),
            }
            for _ in 1..MAX_ACTIONS {
                let Some(action) = self.select_now() else { break };
                self.apply(action);
            }
            self.flush();
        }
    }

    async fn select(&mut self) -> Action {
        let next_tick = self.client.next_tick();
        let tick = async {
            match next_tick {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.shared.tasks.stopping().cancelled() => Action::Stop,
            changes = self.wire.changes() => Action::Changes(changes),
            Some(command) = self.commands.recv() => Action::Command(command),
            Some((peer, event)) = self.events.1.recv() => Action::Peer(peer, event),
            Some(news) = self.news.1.recv() => Action::News(news),
            () = tick => Action::Tick,
        }
    }

    /// What can be done without waiting.
    fn select_now(&mut self) -> Option<Action> {
        let event = self.events.1.try_recv().ok().map(|(peer, event)| Action::Peer(peer, event));
        event.or_else(|| self.commands.try_recv().ok().map(Action::Command))
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Command(command) => self.on_command(command),
            Action::Peer(peer, event) => self.on_peer_event(peer, event),
            Action::Changes(changes) => changes.into_iter().for_each(|change| self.on_change(change)),
            Action::News(News::Provider(session, peer)) => self.on_provider(session, peer),
            Action::News(News::Gateway(session, peer, url)) => self.on_gateway(session, peer, url),
            Action::News(News::GatewayEnded(key, url, end)) => self.on_gateway_ended(key, &url, end),
            Action::News(News::Local(blocks)) => self.on_local_blocks(blocks),
            Action::Tick => self.on_tick(),
            Action::Stop => {}
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Open { session, blocks } => {
                self.sessions.insert(session, Session { blocks, search: None, lost: Vec::new() });
                self.client.open(session);
            }
            Command::Want { session, cids } => self.client.want(session, cids, now()),
            Command::Cancel { session, cids } => self.client.cancel(session, cids),
            Command::Close { session } => self.close(session),
            Command::AddProvider { session, peer } => self.add_provider(session, peer),
            // Whoever asked may be gone.
            Command::Progress { session, reply } => drop(reply.send(self.client.progress(session))),
            Command::NewBlocks { cids } => self.look_up(cids),
            Command::Stat { reply } => drop(reply.send(self.stat())),
            Command::PeerStat { peer, reply } => drop(reply.send(self.peer_stat(&peer))),
        }
    }

    fn on_peer_event(&mut self, peer: PeerKey, event: PeerEvent) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        match event {
            PeerEvent::Blocks(blocks) => self.on_blocks(peer, blocks),
            PeerEvent::Presences(presences) => {
                let now = now();
                for (hash, presence) in presences {
                    self.client.on_presence(peer, &hash, presence, now);
                }
            }
            PeerEvent::Ready => self.client.mark_dirty(peer),
            PeerEvent::Lost => {
                let sessions = self.client.disconnect(peer, now());
                self.client.connect(peer, self.peers[&peer].is_local, now());
                sessions.into_iter().for_each(|session| self.client.add_provider(session, peer, now()));
            }
            PeerEvent::Gone => drop(self.client.disconnect(peer, now())),
            PeerEvent::KnowsNoPresences => self.client.knows_no_presences(peer, now()),
        }
    }

    fn on_blocks(&mut self, peer: PeerKey, blocks: Vec<Block>) {
        let now = now();
        let from = self.peers.get(&peer).map(|state| state.id);
        for block in blocks {
            let len_bytes = block.data().len();
            let receivers = self.client.on_block(peer, block.multihash(), len_bytes, now);
            if receivers.is_empty() {
                self.shared.counters.on_dup(1, len_bytes);
            }
            self.deliver(block, from, receivers);
        }
        self.settle(peer);
    }

    /// Lets go of a connection over which nothing is awaited any more.
    fn settle(&mut self, peer: PeerKey) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !self.client.needs(peer) {
            state.keep_alive = None;
        }
        state.signs.may_serve.store(self.client.may_serve(peer), Ordering::Relaxed);
    }

    fn on_local_blocks(&mut self, blocks: Vec<Block>) {
        for block in blocks {
            let receivers = self.client.on_local_block(block.multihash());
            self.deliver(block, None, receivers);
        }
    }

    fn deliver(&mut self, block: Block, from: Option<PeerId>, receivers: Vec<(SessionId, Cid)>) {
        for (session, cid) in receivers {
            let (Some(state), Some(block)) = (self.sessions.get(&session), block.clone().with_cid(cid))
            else {
                continue;
            };
            match state.blocks.try_send(Delivery::Block(block, from)) {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => self.close(session),
                Err(TrySendError::Full(_)) => {
                    warn!(session = session.0, %cid, "block dropped, session is full")
                }
            }
        }
    }

    fn close(&mut self, session: SessionId) {
        self.client.close(session);
        if let Some(search) = self.sessions.remove(&session).and_then(|state| state.search) {
            search.abort();
        }
    }

    fn on_tick(&mut self) {
        let now = now();
        for (peer, state) in &mut self.peers {
            let received_bytes = state.signs.received_bytes.load(Ordering::Relaxed);
            let new_bytes = received_bytes - std::mem::replace(&mut state.seen_bytes, received_bytes);
            if state.opener.as_ref().is_some_and(Opener::is_kin) {
                self.client.is_kin(*peer);
            }
            if new_bytes > 0 {
                self.client.on_bytes(*peer, usize::try_from(new_bytes).unwrap_or(usize::MAX), now);
            }
        }
        self.client.tick(now);
        let peers: Vec<_> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.settle(peer));
        let is_closed = |state: &Session| state.blocks.is_closed();
        let closed: Vec<_> =
            self.sessions.iter().filter(|(_, state)| is_closed(state)).map(|(id, _)| *id).collect();
        closed.into_iter().for_each(|session| self.close(session));
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Connected(link) => self.connect(link),
            Change::Disconnected(peer) => {
                let Some(key) = self.keys.remove(&peer) else { return };
                self.peers.remove(&key);
                self.shared.ledger.disconnect(key);
                self.shared.counters.peers().remove(&key);
                for session in self.client.disconnect(key, now()) {
                    self.remember(session, peer);
                }
            }
        }
    }

    /// Keeps in mind that a peer which left had a session's blocks: it is the first to be reached for them again.
    fn remember(&mut self, session: SessionId, peer: PeerId) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        if !state.lost.contains(&peer) && state.lost.len() < MAX_PROVIDERS {
            state.lost.push(peer);
        }
    }

    /// Starts the tasks of a peer.
    fn connect(&mut self, link: Link) {
        let (id, is_local, key) = (link.peer(), link.is_local(), PeerKey(self.next_key));
        self.next_key += 1;
        let (inbound, opener) = link.split();
        let (entries_tx, entries) = mpsc::channel(ENTRIES_QUEUE);
        let (stop, signs) = (CancellationToken::new(), Arc::<Signs>::default());
        let Shared { tasks, counters, serves, .. } = &self.shared;
        counters.peers().insert(key, PeerStat::default());
        let events = &self.events.0;

        let mut answers = None;
        if *serves {
            let (answers_tx, answers_rx) = mpsc::channel(ANSWER_QUEUE);
            answers = Some(answers_rx);
            let answerer = Answerer {
                peer: key,
                ledger: Arc::clone(&self.shared.ledger),
                blocks: Arc::clone(&self.shared.blocks),
                work: self.shared.ledger.connect(key),
                opener: opener.clone(),
                readers: Arc::clone(&self.shared.readers),
                answers: answers_tx,
            };
            tasks.spawn("answer peer", stop.clone().run_until_cancelled_owned(answerer.run()));
        }
        let writer = Writer {
            peer: key,
            opener: opener.clone(),
            entries,
            answers,
            events: events.clone(),
            counters: Arc::clone(counters),
        };
        tasks.spawn("write to peer", stop.clone().run_until_cancelled_owned(writer.run()));
        let reader = Reader {
            peer: key,
            inbound,
            events: events.clone(),
            ledger: serves.then(|| Arc::clone(&self.shared.ledger)),
            counters: Arc::clone(counters),
            hashers: Arc::clone(&self.shared.hashers),
            signs: Arc::clone(&signs),
            opener: opener.clone(),
        };
        tasks.spawn("read from peer", stop.clone().run_until_cancelled_owned(reader.run()));

        let peer = Peer {
            id,
            is_local,
            entries: entries_tx,
            opener: Some(opener),
            keep_alive: None,
            signs,
            seen_bytes: 0,
            _stop: stop.drop_guard(),
        };
        self.peers.insert(key, peer);
        self.keys.insert(id, key);
        self.client.connect(key, is_local, now());
    }

    /// Tells peers what they are to be told, and starts searches.
    fn flush(&mut self) {
        while let Some(key) = self.client.next_dirty() {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            // A busy writer says when it is ready; one that is gone will not be asked again.
            let Ok(room) = peer.entries.try_reserve() else { continue };
            let entries = self.client.take_entries(key, now());
            if !entries.is_empty() {
                if let Some(opener) = &peer.opener {
                    peer.keep_alive.get_or_insert_with(|| opener.keep_alive());
                }
                peer.signs.may_serve.store(true, Ordering::Relaxed);
                room.send(entries);
            }
        }
        for search in self.client.take_searches() {
            self.search(search);
        }
    }

    /// Looks for providers and connects to them.
    fn search(&mut self, Search { session, cid }: Search) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        if state.search.as_ref().is_some_and(|search| !search.is_finished()) {
            return;
        }
        debug!(session = session.0, %cid, "providers are searched");
        let (peers, news) = (Arc::clone(&self.shared.peers), self.news.0.clone());
        let lost = std::mem::take(&mut state.lost).into_iter().map(|peer| (peer, Vec::new()));
        let search = self.shared.tasks.spawn("search providers", async move {
            let mut found = stream::iter(lost).chain(peers.find(*cid.hash(), MAX_PROVIDERS));
            let mut dials = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some((peer, addrs)) = found.next() => dials.push(reach(&*peers, session, peer, addrs, &news)),
                    Some(()) = dials.next() => {}
                    else => return,
                }
            }
        });
        state.search = Some(search);
    }

    fn add_provider(&mut self, session: SessionId, peer: PeerId) {
        if let Some(key) = self.keys.get(&peer) {
            return self.client.add_provider(session, *key, now());
        }
        let (peers, news) = (Arc::clone(&self.shared.peers), self.news.0.clone());
        self.shared.tasks.spawn("reach provider", async move {
            reach(&*peers, session, peer, Vec::new(), &news).await;
        });
    }

    fn on_provider(&mut self, session: SessionId, peer: PeerId) {
        // The connection may be newer than what was heard of it.
        let changes = self.wire.try_changes();
        changes.into_iter().for_each(|change| self.on_change(change));
        if let Some(key) = self.keys.get(&peer) {
            self.client.add_provider(session, *key, now());
        }
    }

    /// Asks a gateway for a session's blocks, if gateways are asked.
    fn on_gateway(&mut self, session: SessionId, peer: PeerId, gateway: GatewayUrl) {
        let Some(retrieval) = &mut self.retrieval else { return };
        let key = match retrieval.key(&gateway) {
            Some(key) => key,
            None if !retrieval.may_ask(&gateway) => return,
            None => self.connect_gateway(peer, gateway),
        };
        self.client.add_provider(session, key, now());
    }

    /// Starts the task of a gateway.
    fn connect_gateway(&mut self, id: PeerId, gateway: GatewayUrl) -> PeerKey {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let (entries, entries_rx) = mpsc::channel(ENTRIES_QUEUE);
        let (stop, signs) = (CancellationToken::new(), Arc::<Signs>::default());
        if let Some(retrieval) = &mut self.retrieval {
            retrieval.insert(gateway.clone(), key);
            let asker = Asker {
                peer: key,
                gateway: gateway.clone(),
                client: retrieval.client.clone(),
                entries: entries_rx,
                events: self.events.0.clone(),
                counters: Arc::clone(&self.shared.counters),
                signs: Arc::clone(&signs),
            };
            let (news, stopping) = (self.news.0.clone(), stop.clone());
            self.shared.tasks.spawn("ask gateway", async move {
                if let Some(end) = stopping.run_until_cancelled_owned(asker.run()).await {
                    // Closed only when the exchange stops.
                    let _ = news.send(News::GatewayEnded(key, gateway, end)).await;
                }
            });
        }
        let _stop = stop.drop_guard();
        let peer = Peer {
            id,
            is_local: false,
            entries,
            opener: None,
            keep_alive: None,
            signs,
            seen_bytes: 0,
            _stop,
        };
        self.peers.insert(key, peer);
        self.client.connect(key, false, now());
        key
    }

    fn on_gateway_ended(&mut self, key: PeerKey, gateway: &GatewayUrl, end: End) {
        debug!(%gateway, ?end, "gateway is asked no more");
        self.peers.remove(&key);
        self.client.disconnect(key, now());
        if let Some(retrieval) = &mut self.retrieval {
            retrieval.remove(gateway, end);
        }
    }

    /// Reads blocks that came into the store and that sessions wait for.
    fn look_up(&mut self, mut cids: Vec<Cid>) {
        cids.retain(|cid| self.client.wants(cid.hash()));
        if cids.is_empty() {
            return;
        }
        let (blocks, news) = (Arc::clone(&self.shared.blocks), self.news.0.clone());
        self.shared.tasks.spawn_blocking("read new blocks", move || {
            let found = blocks.read(&cids).into_iter().flatten().collect();
            // Closed only when the exchange stops.
            let _ = news.blocking_send(News::Local(found));
        });
    }

    fn peer_stat(&self, peer: &PeerId) -> Option<PeerStat> {
        let key = *self.keys.get(peer)?;
        let stat = self.shared.counters.peers().get(&key).cloned().unwrap_or_default();
        Some(PeerStat { wantlist: self.shared.ledger.wantlist(key), ..stat })
    }

    fn stat(&self) -> Stat {
        let wantlist = self.client.wantlist().collect();
        let peers = self.peers.values().map(|peer| peer.id).collect();
        let mut progress = Progress::default();
        for session in self.sessions.keys() {
            let Progress { want_count, peers_asked, provider_count } = self.client.progress(*session);
            progress.want_count += want_count;
            progress.peers_asked += peers_asked;
            progress.provider_count += provider_count;
        }
        self.shared.counters.stat(wantlist, peers, progress)
    }
}

/// Connects to a provider, and tells of it and of the gateway that it is.
async fn reach(
    peers: &dyn Peers,
    session: SessionId,
    peer: PeerId,
    addrs: Vec<libp2p::Multiaddr>,
    news: &mpsc::Sender<News>,
) {
    if let Some(gateway) = addrs.iter().find_map(gateway_of) {
        // Closed only when the exchange stops.
        let _ = news.send(News::Gateway(session, peer, gateway)).await;
        if addrs.iter().all(|addr| gateway_of(addr).is_some()) {
            return;
        }
    }
    match peers.connect(peer, addrs).await {
        // Closed only when the exchange stops.
        Ok(()) => drop(news.send(News::Provider(session, peer)).await),
        Err(error) => debug!(%peer, %error, "provider not reached"),
    }
}

/// Now, in virtual time too.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
