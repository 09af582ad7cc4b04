//! Taking over the repo of a Kubo node: blocks, pins, the root of its files, keys and identity.
//!
//! Invariant: nothing in Kubo's repo is written, and what is taken over is checked as if a stranger sent it. An import may be
//! cut short and begun again: what is here already is passed over.
//!
//! Source: Kubo 0.43, whose repos have version 18; `docs/datastores.md`, `core/node/core.go`.

mod blocks;
mod datastore;
mod keys;
mod overlay;
mod repo;

use std::path::Path;

use cairn_proto::cid::Cid;
use tokio::sync::mpsc;

use crate::denylists::Denylists;
use crate::pins::{Pin, PinKind, Pins};
use crate::store::{Lease, Store};
use crate::{Error, Result};

use datastore::Found;
use repo::KuboRepo;

/// Pins that are read ahead of the one that is being made.
const PIN_QUEUE: usize = 64;

/// Where an import puts what it finds.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) store: Store,
    pub(crate) pins: Pins,
    pub(crate) denylists: Denylists,
}

/// What an import reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KuboEvent {
    /// How far the blocks are.
    Progress(KuboReport),
    /// A block that was not taken over.
    BadBlock {
        /// Its file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// A pin that was not taken over.
    BadPin {
        /// CID.
        cid: Cid,
        /// Why not.
        reason: String,
    },
    /// The root of Kubo's files, which is pinned as long as this node has no files of its own.
    Files {
        /// CID.
        cid: Cid,
        /// Name of the pin.
        name: String,
    },
    /// A key that was copied.
    Key {
        /// Name of the key.
        name: String,
        /// Peer ID that it stands for.
        peer_id: String,
    },
    /// A key that was not copied.
    BadKey {
        /// Its file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The identity in Kubo's configuration.
    Identity {
        /// Peer ID.
        peer_id: String,
    },
}

/// What an import brought so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KuboReport {
    /// Folders of blocks that are done, of [`Self::folder_count`].
    pub folders_done: u64,
    /// Folders of blocks.
    pub folder_count: u64,
    /// Blocks that were stored or were here already.
    pub block_count: u64,
    /// Bytes of those that were stored.
    pub stored_bytes: u64,
    /// Blocks that were not taken over.
    pub bad_block_count: u64,
    /// Pins that were made.
    pub pin_count: u64,
    /// Pins that were not.
    pub bad_pin_count: u64,
    /// Keys that were copied or were here already.
    pub key_count: u64,
    /// Keys that were not.
    pub bad_key_count: u64,
}

/// Name of the pin that keeps the root of Kubo's files.
pub const FILES_PIN_NAME: &str = "kubo-files";

/// Takes over what `path` holds; keys go to `repo`. The events must be read while it runs.
///
/// # Errors
/// [`crate::Kind::Invalid`] when there is no such repo, or one of another version or with other datastores;
/// [`crate::Kind::Unavailable`] when Kubo runs; what the store says. Single blocks, pins and keys that are bad are no error.
///
/// # Cancellation
/// Safe: what was stored stays as cache, the pins that were made stay, and the next import goes on.
pub(crate) async fn import(
    target: Target,
    path: &Path,
    repo: &Path,
    events: mpsc::Sender<KuboEvent>,
) -> Result<KuboReport> {
    let kubo = KuboRepo::open(path)?;
    // Blocks stay until their pins are made.
    let lease = target.store.lease();
    let mut import = Import { target, lease, events, report: KuboReport::default() };
    import.blocks(&kubo).await?;
    import.pins(&kubo).await?;
    import.keys(&kubo, repo).await?;
    import.tell(KuboEvent::Identity { peer_id: kubo.peer_id().to_owned() }).await?;
    Ok(import.report)
}

struct Import {
    target: Target,
    lease: Lease,
    events: mpsc::Sender<KuboEvent>,
    report: KuboReport,
}

impl Import {
    async fn tell(&self, event: KuboEvent) -> Result<()> {
        self.events.send(event).await.map_err(|_| Error::closed("whoever asked for the import"))
    }

    async fn pins(&mut self, kubo: &KuboRepo) -> Result<()> {
        let (sender, mut found) = mpsc::channel(PIN_QUEUE);
        let folder = kubo.datastore();
        let reading = tokio::task::spawn_blocking(move || datastore::read(folder, &sender));
        while let Some(found) = found.recv().await {
            match found {
                Found::Pin(pin) => {
                    self.pin(pin).await?;
                }
                Found::Bad { key, reason } => {
                    self.report.bad_pin_count += 1;
                    tracing::warn!(key, reason, "a pin of Kubo cannot be read");
                }
                Found::Files(cid) => {
                    let name = FILES_PIN_NAME.to_owned();
                    let pin = Pin { cid, kind: PinKind::Recursive, name: Some(name.clone()) };
                    if self.pin(pin).await? {
                        self.tell(KuboEvent::Files { cid, name }).await?;
                    }
                }
            }
        }
        reading.await.map_err(|error| Error::corrupt("Kubo's datastore cannot be read").with_cause(error))?
    }

    async fn pin(&mut self, pin: Pin) -> Result<bool> {
        let Pin { cid, kind, name } = pin;
        match self.target.pins.pin(cid, kind, name, &self.lease, |_, _| ()).await {
            Ok(()) => {
                self.report.pin_count += 1;
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    crate::Kind::NotFound | crate::Kind::Invalid | crate::Kind::Corrupt
                ) =>
            {
                self.report.bad_pin_count += 1;
                self.tell(KuboEvent::BadPin { cid, reason: error.to_string() }).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn keys(&mut self, kubo: &KuboRepo, repo: &Path) -> Result<()> {
        let (from, to) = (kubo.keystore(), repo.join(keys::FOLDER));
        let copied = tokio::task::spawn_blocking(move || keys::copy(&from, &to)).await;
        let copied = copied.map_err(|error| Error::internal("copying keys stopped").with_cause(error))??;
        for event in copied {
            match event {
                KuboEvent::Key { .. } => self.report.key_count += 1,
                _ => self.report.bad_key_count += 1,
            }
            self.tell(event).await?;
        }
        Ok(())
    }
}
