//! A new store from what still hashes right in a damaged one.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use tokio::sync::mpsc;

use crate::error::{Error, Kind, Result};
use crate::pins::Pins;
use crate::settings::StoreSettings;
use crate::store::{Durability, Store, StoreStat, StoredPin, Table, Wreck};

/// Blocks that are put together.
const BATCH_BYTES: usize = 4 << 20;
/// Batches that wait for the new store.
const BATCH_QUEUE: usize = 2;
/// Folder of the new store while it is filled, beside the damaged one.
const FRESH: &str = "store.new";

/// What a salvage brought.
#[derive(Debug, Clone)]
pub struct SalvageReport {
    /// What is in the new store.
    pub stat: StoreStat,
    /// Pins whose DAGs are not whole any more. What is left of them is in the new store, as cache.
    pub lost_pins: Vec<LostPin>,
    /// Where the damaged store is now.
    pub damaged: PathBuf,
}

/// A pin that could not be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPin {
    /// What was pinned.
    pub cid: Cid,
    /// Its name.
    pub name: Option<String>,
    /// What is missing.
    pub reason: String,
}

/// Makes a new store in place of the one in `dir`, from every block of it that hashes right, the pins whose DAGs are
/// whole, and the other rows that can be read. Keeps the damaged one under another name, so it takes its room twice.
///
/// # Errors
/// [`Kind::Unavailable`] when a process has the store open, [`Kind::NotFound`] when there is none, [`Kind::Full`]. The
/// store is as it was then.
///
/// # Cancellation
/// Dropped, the store is as it was; the next salvage begins anew.
pub async fn salvage(dir: &Path, settings: &StoreSettings) -> Result<SalvageReport> {
    let fresh_dir = dir.with_file_name(FRESH);
    let (old, new, opening) = (dir.to_path_buf(), fresh_dir.clone(), settings.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let wreck = Wreck::open(&old, &opening)?;
        if new.exists() {
            fs::remove_dir_all(&new).map_err(|error| unusable(&new, error))?;
        }
        Ok::<_, Error>((wreck, Store::open(&new, &opening)?))
    });
    let (wreck, store) = opened.await.map_err(panicked)??;
    let lease = store.lease();

    let (batches, mut queue) = mpsc::channel(BATCH_QUEUE);
    let reading = tokio::task::spawn_blocking(move || read_blocks(wreck, &batches));
    while let Some(blocks) = queue.recv().await {
        store.put(blocks, Durability::Later, &lease).await?;
    }
    let wreck = reading.await.map_err(panicked)??;
    store.sync().await?;

    let rows = store.clone();
    let copying = tokio::task::spawn_blocking(move || {
        for table in Table::ALL {
            let to = rows.rows(table);
            wreck.rows(table, |page| {
                to.write(
                    page.into_iter().map(|(key, value)| (key.into_vec(), Some(value.into_vec()))).collect(),
                )
            })?;
        }
        let pins = wreck.pins()?;
        wreck.close()?;
        Ok::<_, Error>(pins)
    });
    let pins = copying.await.map_err(panicked)??;

    let mut lost_pins = Vec::new();
    let kept = Pins::new(store.clone());
    for StoredPin { cid, kind, name, .. } in pins {
        match kept.pin(cid, kind, name.clone(), &lease, |_, _| ()).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {
                lost_pins.push(LostPin { cid, name, reason: error.to_string() });
            }
            Err(error) => return Err(error),
        }
    }
    let stat = store.stat();
    store.close().await?;
    drop((kept, lease, store));
    let damaged = swap(dir, &fresh_dir)?;
    Ok(SalvageReport { stat, lost_pins, damaged })
}

fn read_blocks(mut wreck: Wreck, batches: &mpsc::Sender<Vec<Block>>) -> Result<Wreck> {
    let gone = |_| Error::closed("the salvage");
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    wreck.blocks(|block| {
        batch_bytes += block.data().len();
        batch.push(block);
        if batch_bytes < BATCH_BYTES {
            return Ok(());
        }
        batch_bytes = 0;
        batches.blocking_send(std::mem::take(&mut batch)).map_err(gone)
    })?;
    batches.blocking_send(batch).map_err(gone)?;
    Ok(wreck)
}

/// Puts the new store in the place of the damaged one, and returns where that is now.
fn swap(dir: &Path, fresh: &Path) -> Result<PathBuf> {
    let mut names = (1..).map(|n| dir.with_file_name(format!("store.damaged-{n}")));
    let damaged = names.find(|path| !path.exists()).expect("some number is free");
    fs::rename(dir, &damaged).map_err(|error| unusable(dir, error))?;
    fs::rename(fresh, dir).map_err(|error| unusable(fresh, error))?;
    let parent = dir.parent().unwrap_or(dir);
    // fsync the folder: renames alone may not survive a crash.
    fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| unusable(parent, error))?;
    Ok(damaged)
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot use {}", path.display())).with_cause(error)
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::internal("salvage stopped").with_cause(error)
}
