//! Blocks from trustless gateways alone: an exchange without peers, whose sessions ask the gateways that the operator named.
//!
//! One task owns what is wanted. Sessions take turns, so that a large file holds up nobody, and a bounded number of requests
//! is under way for all of them together. A block that no gateway has fails at once: nobody else is going to have it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::bitswap::client::{Progress, SessionId};
use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use cairn_proto::ipns::Name;
use futures::future::{AbortHandle, Abortable, Aborted};
use futures::stream::{BoxStream, FuturesUnordered, StreamExt as _};
use futures::{FutureExt as _, future::BoxFuture, stream};
use http::StatusCode;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::http::{Addresses, Client, ClientOptions, FetchError, GatewayUrl};
use super::task::{Command, Delivery};
use super::{COMMAND_QUEUE, Counters, Handle, Ledger, ports};
use crate::settings::UpstreamSettings;
use crate::tasks::Tasks;
use crate::{Error, Kind, Result};

/// Requests under way at the same time. With blocks of 1 MiB this is the window of a session over the network.
const MAX_REQUESTS: usize = 64;

/// Times that every gateway is asked for a block, where one of them may have it.
const MAX_ROUNDS: u32 = 3;

/// Wait before the next round, unless a gateway wants another one, and the longest that one may want.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
const MAX_ROUND_PAUSE: Duration = Duration::from_secs(10);

/// The gateways that are asked, in their order. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Gateways(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    urls: Vec<GatewayUrl>,
}

impl Gateways {
    /// The gateways of some settings; nothing is asked yet.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new(settings: &UpstreamSettings) -> Result<Self> {
        let client = Client::new(ClientOptions {
            // The operator may mean a machine of the same network.
            addresses: Addresses::Any,
            timeout: settings.timeout,
            roots: settings.roots.clone(),
            agent: settings.agent.clone(),
        })?;
        Ok(Self(Arc::new(Inner { client, urls: settings.gateways.clone() })))
    }

    /// One block, from the first gateway that has it.
    ///
    /// # Errors
    /// [`Kind::NotLocal`], [`Kind::Blocked`], [`Kind::BlockedByLaw`] or [`Kind::Timeout`] as the gateways say,
    /// [`Kind::Unavailable`] where they say nothing of use.
    pub(super) async fn block(&self, cid: &Cid) -> Result<Block> {
        let mut round = 0;
        loop {
            round += 1;
            let (mut refusal, mut pause, mut may_have) = (None, ROUND_PAUSE, false);
            for url in &self.0.urls {
                let error = match self.0.client.block(url, cid).await {
                    Ok(block) => return Ok(block),
                    Err(error) => error,
                };
                debug!(%cid, gateway = %url, %error, "block not had");
                may_have |= !matches!(error, FetchError::Missing(_));
                if let FetchError::Busy { retry_after: Some(wait), .. } = error {
                    pause = pause.max(wait.min(MAX_ROUND_PAUSE));
                }
                refusal = Some(refused(cid, url, error));
            }
            match refusal {
                Some(refusal) if !may_have || round == MAX_ROUNDS => return Err(refusal),
                Some(_) => tokio::time::sleep(pause).await,
                None => return Err(Error::new(Kind::NotLocal, format!("no gateway is named, cid={cid}"))),
            }
        }
    }

    /// Records of a name as the gateways have them, not verified.
    pub fn records(&self, name: Name) -> BoxStream<'static, Bytes> {
        let gateways = self.clone();
        let urls = stream::iter(0..self.0.urls.len());
        let records = urls.filter_map(move |index| {
            let Gateways(inner) = gateways.clone();
            async move {
                let url = &inner.urls[index];
                let record = inner.client.record(url, &name).await;
                record.inspect_err(|error| debug!(%name, gateway = %url, %error, "record not had")).ok()
            }
        });
        records.boxed()
    }
}

fn refused(cid: &Cid, gateway: &GatewayUrl, error: FetchError) -> Error {
    let kind = match &error {
        FetchError::Missing(StatusCode::GONE) => Kind::Blocked,
        FetchError::Missing(StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS) => Kind::BlockedByLaw,
        FetchError::Missing(StatusCode::GATEWAY_TIMEOUT) | FetchError::Timeout(_) => Kind::Timeout,
        FetchError::Missing(_) => Kind::NotLocal,
        FetchError::Corrupt => Kind::Corrupt,
        FetchError::Busy { .. } | FetchError::Refused | FetchError::Failed(_) => Kind::Unavailable,
    };
    Error::new(kind, format!("no gateway gave a block, cid={cid} gateway={gateway}")).with_cause(error)
}

/// Starts an exchange that asks `gateways`, and nobody else.
pub(crate) fn start(gateways: Gateways, blocks: Arc<dyn ports::Blocks>, tasks: &Tasks) -> Handle {
    let (commands_tx, commands) = mpsc::channel(COMMAND_QUEUE);
    let task = Task {
        gateways,
        sessions: HashMap::new(),
        turns: VecDeque::new(),
        wants: HashMap::new(),
        requests: FuturesUnordered::new(),
        commands,
        counters: Counters::default(),
        stopping: tasks.stopping().clone(),
    };
    tasks.spawn("remote exchange", task.run());
    Handle { commands: commands_tx, ledger: Arc::new(Ledger::new(blocks)), next_session: Arc::default() }
}

type Request = Abortable<BoxFuture<'static, Ended>>;

/// A block that was asked for, or why it is not had.
type Ended = Box<(Cid, Result<Block>)>;

struct Task {
    gateways: Gateways,
    sessions: HashMap<SessionId, Session>,
    /// Sessions that may have something to ask for.
    turns: VecDeque<SessionId>,
    /// What is asked for.
    wants: HashMap<Cid, Want>,
    requests: FuturesUnordered<Request>,
    commands: mpsc::Receiver<Command>,
    counters: Counters,
    stopping: CancellationToken,
}

struct Session {
    blocks: mpsc::Sender<Delivery>,
    /// Wanted and not asked for yet.
    queue: VecDeque<Cid>,
}

/// A request under way, and who waits for it.
struct Want {
    sessions: Vec<SessionId>,
    request: AbortHandle,
}

enum Action {
    Command(Command),
    Ended(Result<Ended, Aborted>),
    Stop,
}

impl Task {
    async fn run(mut self) {
        loop {
            match self.select().await {
                Action::Stop => return,
                Action::Command(command) => self.on_command(command),
                Action::Ended(Ok(ended)) => self.on_ended(*ended),
                Action::Ended(Err(Aborted)) => {}
            }
            self.ask();
        }
    }

    async fn select(&mut self) -> Action {
        tokio::select! {
            () = self.stopping.cancelled() => Action::Stop,
            Some(command) = self.commands.recv() => Action::Command(command),
            Some(ended) = self.requests.next(), if !self.requests.is_empty() => Action::Ended(ended),
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Open { session, blocks } => {
                self.sessions.insert(session, Session { blocks, queue: VecDeque::new() });
            }
            Command::Want { session, cids } => self.want(session, cids),
            Command::Cancel { session, cids } => self.cancel(session, &cids),
            Command::Close { session } => self.close(session),
            // Whoever asked may be gone.
            Command::Progress { session, reply } => drop(reply.send(self.progress(session))),
            Command::Stat { reply } => {
                let wantlist: Vec<_> = self.wants.keys().copied().collect();
                let progress = Progress { want_count: wantlist.len(), ..Progress::default() };
                drop(reply.send(self.counters.stat(wantlist, Vec::new(), progress)));
            }
            Command::PeerStat { reply, .. } => drop(reply.send(None)),
            // There are no peers, and what came into the store meanwhile is asked for in vain at most.
            Command::AddProvider { .. } | Command::NewBlocks { .. } => {}
        }
    }

    fn want(&mut self, session: SessionId, cids: Vec<Cid>) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        if state.queue.is_empty() && !cids.is_empty() {
            self.turns.push_back(session);
        }
        state.queue.extend(cids);
    }

    fn cancel(&mut self, session: SessionId, cids: &[Cid]) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.queue.retain(|cid| !cids.contains(cid));
        }
        for cid in cids {
            self.leave(session, cid);
        }
    }

    fn close(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        let asked: Vec<_> = self.wants.keys().copied().collect();
        asked.iter().for_each(|cid| self.leave(session, cid));
    }

    /// Gives up a request that nobody else waits for.
    fn leave(&mut self, session: SessionId, cid: &Cid) {
        let Some(want) = self.wants.get_mut(cid) else { return };
        want.sessions.retain(|waiting| *waiting != session);
        if want.sessions.is_empty() {
            want.request.abort();
            self.wants.remove(cid);
        }
    }

    fn progress(&self, session: SessionId) -> Progress {
        let queued_count = self.sessions.get(&session).map_or(0, |state| state.queue.len());
        let asked_count = self.wants.values().filter(|want| want.sessions.contains(&session)).count();
        let gateway_count = self.gateways.0.urls.len();
        Progress {
            want_count: queued_count + asked_count,
            peers_asked: gateway_count,
            provider_count: gateway_count,
        }
    }

    /// Fills the requests, session by session.
    fn ask(&mut self) {
        while self.wants.len() < MAX_REQUESTS
            && let Some(session) = self.turns.pop_front()
        {
            let Some(state) = self.sessions.get_mut(&session) else { continue };
            let Some(cid) = state.queue.pop_front() else { continue };
            if !state.queue.is_empty() {
                self.turns.push_back(session);
            }
            if let Some(want) = self.wants.get_mut(&cid) {
                want.sessions.push(session);
                continue;
            }
            let gateways = self.gateways.clone();
            let request = async move { Box::new((cid, gateways.block(&cid).await)) }.boxed();
            let (request, handle) = futures::future::abortable(request);
            self.requests.push(request);
            self.wants.insert(cid, Want { sessions: vec![session], request: handle });
        }
    }

    fn on_ended(&mut self, (cid, result): (Cid, Result<Block>)) {
        let Some(want) = self.wants.remove(&cid) else { return };
        if let Ok(block) = &result {
            self.counters.on_received(None, 1, block.data().len());
        }
        for session in want.sessions {
            let delivery = match &result {
                Ok(block) => Delivery::Block(block.clone(), None),
                Err(error) => Delivery::Failed(cid, Error::new(error.kind(), error.to_string())),
            };
            let Some(state) = self.sessions.get(&session) else { continue };
            // A queue has room for all that its session may want.
            if state.blocks.try_send(delivery).is_err() {
                self.close(session);
            }
        }
    }
}

#[cfg(test)]
mod tests;
