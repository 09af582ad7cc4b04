//! The node: one handle over store, pins, exchange, routing and swarm. Knows nothing of HTTP or flags.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::cid::Cid;
use cairn_proto::content::{Content, Progress, SessionOptions};
use cairn_proto::path::ContentPath;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, watch};

use crate::blocks::Blocks;
use crate::dag::{self, AddEvent, AddOptions, Adder, CarImport};
use crate::denylists::Denylists;
use crate::gc::GcReport;
use crate::kubo::{self, KuboEvent, KuboReport};
use crate::names::Names;
use crate::pin_queue::{self, PinQueue};
use crate::pins::{PinKind, Pins};
use crate::repair::{self, VerifyEvent, VerifyOptions, VerifyReport};
use crate::settings::Settings;
use crate::store::Store;
use crate::tasks::{Tasks, shutdown_in_order};
use crate::{Error, Kind, Result, exchange, gc, provide, routing, swarm};

/// Longest wait for the tasks of a node that stops.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Times that a pin is fetched, when blocks that it relied on go meanwhile.
const MAX_PIN_ATTEMPTS: u32 = 8;

/// Blocks that a pin walks before it tells of them.
const PROGRESS_STEP: u64 = 256;

/// A running node. Cheap to clone; [`Node::shutdown`] ends it for all clones.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) blocks: Blocks,
    pub(crate) pins: Pins,
    pub(crate) pin_queue: PinQueue,
    pub(crate) names: Names,
    pub(crate) network: Option<Network>,
    /// Groups of tasks in the order in which they stop: background work, exchange, swarm.
    pub(crate) groups: [Tasks; 3],
}

/// The parts of a node that is online.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) swarm: swarm::Handle,
    pub(crate) routing: routing::Handle,
    pub(crate) exchange: exchange::Handle,
    /// `None` for a node that tells nobody what it has.
    pub(crate) provide: Option<provide::Handle>,
}

impl Node {
    pub(crate) fn from_parts(inner: Inner) -> Self {
        Self::from_shared(Arc::new(inner))
    }

    pub(crate) fn from_shared(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Fetches what is to be pinned in the background; without a network it waits for the next start with one.
    pub(crate) fn work_off_pin_queue(&self) {
        if self.inner.network.is_some() {
            let (queue, work) = (self.inner.pin_queue.clone(), &self.inner.groups[0]);
            let stopping = work.stopping().clone();
            work.spawn("pin-queue", pin_queue::run(queue, Arc::downgrade(&self.inner), stopping));
        }
    }

    /// What the node was built from.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Blocks on disk.
    pub fn store(&self) -> &Store {
        self.inner.blocks.store()
    }

    /// What is neither served nor taken in.
    pub fn denylists(&self) -> &Denylists {
        self.inner.blocks.denylists()
    }

    /// What is kept.
    pub fn pins(&self) -> &Pins {
        &self.inner.pins
    }

    /// What is to be kept once it is fetched.
    pub fn pin_queue(&self) -> &PinQueue {
        &self.inner.pin_queue
    }

    /// Where names lead.
    pub fn names(&self) -> &Names {
        &self.inner.names
    }

    /// Connections; `None` for a node that is offline.
    pub fn swarm(&self) -> Option<&swarm::Handle> {
        self.inner.network.as_ref().map(|network| &network.swarm)
    }

    /// Providers and peers; `None` for a node that is offline.
    pub fn routing(&self) -> Option<&routing::Handle> {
        self.inner.network.as_ref().map(|network| &network.routing)
    }

    /// Blocks of peers; `None` for a node that is offline.
    pub fn exchange(&self) -> Option<&exchange::Handle> {
        self.inner.network.as_ref().map(|network| &network.exchange)
    }

    /// Announcements; `None` for a node that is offline or tells nobody what it has.
    pub fn provide(&self) -> Option<&provide::Handle> {
        self.inner.network.as_ref().and_then(|network| network.provide.as_ref())
    }

    /// Starts an add. The events must be read while it runs.
    pub fn add(&self, options: AddOptions) -> (Adder, mpsc::Receiver<AddEvent>) {
        let target = dag::Target {
            store: self.store().clone(),
            pins: self.inner.pins.clone(),
            exchange: self.exchange().cloned(),
            denylists: self.inner.blocks.denylists().clone(),
        };
        Adder::new(target, options)
    }

    /// Opens a session: the reads of one request.
    pub fn session(&self, options: SessionOptions) -> dag::Session {
        dag::Session::new(self.inner.blocks.clone(), self.inner.names.clone(), options)
    }

    /// This node's content as the gateway's port.
    pub fn content(&self) -> Arc<dyn Content> {
        let Inner { blocks, names, .. } = &*self.inner;
        Arc::new(dag::NodeContent::new(blocks.clone(), names.clone(), self.routing().cloned()))
    }

    /// Fetches what is missing below `path` and pins it; durable on return. `on_progress` is told blocks and bytes.
    ///
    /// # Errors
    /// Those of resolving and fetching; [`crate::Kind::Invalid`] for a name that is too long.
    ///
    /// # Cancellation
    /// Safe: nothing is pinned, and blocks that arrived are cache.
    pub async fn pin_add(
        &self,
        path: &ContentPath,
        kind: PinKind,
        name: Option<String>,
        options: SessionOptions,
        mut on_progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Cid> {
        self.pin_with(path, kind, name, options, |blocks, bytes, _| on_progress(blocks, bytes)).await
    }

    /// As [`Self::pin_add`]; `on_progress` is told of the network too.
    pub(crate) async fn pin_with(
        &self,
        path: &ContentPath,
        kind: PinKind,
        name: Option<String>,
        options: SessionOptions,
        mut on_progress: impl FnMut(u64, u64, Progress) + Send,
    ) -> Result<Cid> {
        let session = self.session(options);
        let mut on_progress = |blocks, bytes| on_progress(blocks, bytes, session.progress());
        let cid = session.resolve(path).await?.cid;
        // What is all here is walked once, by the pin. A fetch looks at more: at what is forbidden, and below what is kept.
        let mut fetches =
            kind == PinKind::Direct || !self.denylists().is_empty() || self.has_damage().await?;
        for _ in 0..=MAX_PIN_ATTEMPTS {
            let pinned = if fetches {
                let fetched = match kind {
                    PinKind::Recursive => session.fetch_dag(&cid, &mut on_progress).await?,
                    PinKind::Direct => session.fetch_block(&cid).await?,
                };
                self.inner.pins.pin(cid, kind, name.clone(), fetched.lease(), |_, _| ()).await
            } else {
                self.pin_at_once(cid, name.clone(), &mut on_progress).await
            };
            match pinned {
                // Or what another pin kept when a fetch passed over it was unpinned and collected meanwhile.
                Err(error) if error.kind() == Kind::NotFound => fetches = true,
                pinned => {
                    pinned?;
                    self.announce(cid);
                    return Ok(cid);
                }
            }
        }
        Err(Error::new(Kind::Unavailable, format!("blocks below went all the time: try again, cid={cid}")))
    }

    /// Pins a DAG that may be here; [`Kind::NotFound`] if not all of it is.
    async fn pin_at_once(
        &self,
        cid: Cid,
        name: Option<String>,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<()> {
        let (tell, mut told) = watch::channel((0, 0));
        let progress = move |block_count: u64, block_bytes| {
            if block_count.is_multiple_of(PROGRESS_STEP) {
                tell.send_replace((block_count, block_bytes));
            }
        };
        let lease = self.store().lease();
        let mut pinned = pin!(self.inner.pins.pin(cid, PinKind::Recursive, name, &lease, progress));
        loop {
            tokio::select! {
                pinned = &mut pinned => return pinned,
                Ok(()) = told.changed() => {
                    let (block_count, block_bytes) = *told.borrow_and_update();
                    on_progress(block_count, block_bytes);
                }
            }
        }
    }

    async fn has_damage(&self) -> Result<bool> {
        let store = self.store().clone();
        let found = tokio::task::spawn_blocking(move || store.has_damage()).await;
        found.map_err(|error| Error::internal("a look-up in the store panicked").with_cause(error))
    }

    /// Pins a DAG in place of another one, under the same name; costs what they differ by. The old pin goes if `unpin`
    /// says so.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when `from` is not pinned recursively; otherwise as [`Self::pin_add`].
    ///
    /// # Cancellation
    /// Safe: either the old pin is there, or both are, or the new one.
    pub async fn pin_update(
        &self,
        from: Cid,
        to: &ContentPath,
        unpin: bool,
        options: SessionOptions,
    ) -> Result<Cid> {
        let pins = self.inner.pins.clone();
        let old = tokio::task::spawn_blocking(move || pins.get(&from)).await;
        let old = old.map_err(|error| Error::internal("looking up a pin stopped").with_cause(error))??;
        let Some(old) = old.filter(|pin| pin.kind == PinKind::Recursive) else {
            return Err(Error::invalid(format!("not pinned recursively, cid={from}")));
        };
        let to = self.pin_add(to, PinKind::Recursive, old.name, options, |_, _| ()).await?;
        if unpin && to != from {
            self.inner.pins.unpin(from, PinKind::Recursive).await?;
        }
        Ok(to)
    }

    /// Imports a CAR; its roots are pinned if asked, once every block is durable.
    pub fn import_car<R: AsyncRead + Unpin + Send>(&self, reader: R, pin_roots: bool) -> CarImport<R> {
        let Inner { blocks, pins, .. } = &*self.inner;
        CarImport::new(blocks.store().clone(), pins.clone(), blocks.denylists().clone(), reader, pin_roots)
    }

    /// Takes over the blocks, pins and keys of a Kubo repo that is not in use. The events must be read while it runs.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a repo of another version or with other datastores, [`Kind::Unavailable`] when Kubo runs on it,
    /// what the store says.
    ///
    /// # Cancellation
    /// Safe: the next import goes on.
    pub async fn import_kubo(&self, path: &Path, events: mpsc::Sender<KuboEvent>) -> Result<KuboReport> {
        let (store, pins) = (self.store().clone(), self.inner.pins.clone());
        let target = kubo::Target { store, pins, denylists: self.denylists().clone() };
        kubo::import(target, path, &self.inner.settings.repo, events).await
    }

    /// Removes blocks that nothing keeps.
    ///
    /// # Errors
    /// What the store says; nothing that is kept is ever removed.
    pub async fn collect(&self, on_removed: impl FnMut(Cid) + Send) -> Result<GcReport> {
        gc::collect(self.store(), on_removed).await
    }

    /// Hashes every block again; with [`VerifyOptions::heal`] fetches the damaged ones from peers.
    ///
    /// # Errors
    /// What the store says; [`crate::Kind::Closed`] when nobody hears the events. A damaged block is no error.
    ///
    /// # Cancellation
    /// Safe: the next one goes on from there.
    pub async fn verify(
        &self,
        options: VerifyOptions,
        events: mpsc::Sender<VerifyEvent>,
    ) -> Result<VerifyReport> {
        repair::verify(&self.inner.blocks, options, events).await
    }

    /// Tells the network, in the background, that this node has a root, unless it tells nobody what it has.
    pub fn announce(&self, cid: Cid) {
        let (Some(routing), Some(_)) = (self.routing().cloned(), self.provide()) else { return };
        if self.inner.blocks.denylists().check_block(&cid).is_err() {
            return;
        }
        self.inner.groups[0].spawn("announce", async move {
            if let Err(error) = routing.provide(*cid.hash()).await {
                tracing::debug!(%cid, %error, "root was not announced");
            }
        });
    }

    /// Stops in order: network, tasks, then the store, the tasks within [`SHUTDOWN_TIMEOUT`].
    ///
    /// # Errors
    /// What the store says when it is flushed.
    pub async fn shutdown(&self) -> Result<()> {
        if let Err(overdue) = shutdown_in_order(&self.inner.groups, SHUTDOWN_TIMEOUT).await {
            tracing::warn!(%overdue, "shutdown went on without them");
        }
        self.store().close().await
    }
}
