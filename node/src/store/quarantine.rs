//! Blocks whose bytes on disk are not what their multihash says: set aside, never served.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, Multihash, RAW};

use super::Shared;
use super::committer::Committer;
use super::layout::{Entry, cf, payload_key};
use crate::error::{Kind, Result};

/// Folder of the bytes that were set aside, in the store's.
pub(crate) const FOLDER: &str = "quarantine";

/// Moves the payload of a damaged block into the folder and marks its row, so that it counts as absent.
///
/// The id stays its own, so edges hold when the bytes come back. A failure leaves the block as it is: the next read
/// finds it again.
pub(crate) fn set_aside(committer: &mut Committer, multihash: &Multihash) {
    let shared = Arc::clone(&committer.shared);
    match try_set_aside(committer, multihash) {
        Ok(true) => {
            shared.damaged_count.fetch_add(1, Ordering::Relaxed);
            let cid = Cid::new_v1(RAW, *multihash);
            tracing::warn!(%cid, "stored block is damaged, set aside");
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "damaged block could not be set aside"),
    }
}

fn try_set_aside(committer: &mut Committer, multihash: &Multihash) -> Result<bool> {
    committer.write_group()?;
    let shared = Arc::clone(&committer.shared);
    let key = multihash.to_bytes();
    let Some(entry) = shared.entries(&[&key])?.pop().flatten().filter(|entry| !entry.damaged) else {
        return Ok(false);
    };
    match shared.read_payload(&entry, &key) {
        Ok(Some(bytes)) => {
            if Block::verify(Cid::new_v1(RAW, *multihash), bytes.clone()).is_ok() {
                return Ok(false);
            }
            keep_copy(&shared, &key, &bytes)?;
        }
        Ok(None) => {}
        // Its file cannot be read: the copy says no more than that there was damage.
        Err(error) if error.kind() == Kind::Corrupt => keep_copy(&shared, &key, &[])?,
        Err(error) => return Err(error),
    }
    let damaged = Entry { damaged: true, ..entry };
    let mut batch = shared.db.batch();
    batch.delete(cf::PAYLOAD, payload_key(entry.id, &key));
    batch.put(cf::INDEX, &key, damaged.encode());
    batch.put(cf::IDS, entry.id.to_be_bytes(), damaged.encode_with(&key));
    committer.write(batch, |stat| {
        stat.block_count -= 1;
        stat.block_bytes -= u64::from(entry.len_bytes);
    })?;
    Ok(true)
}

fn keep_copy(shared: &Shared, multihash: &[u8], bytes: &[u8]) -> Result<()> {
    let folder = shared.dir.join(FOLDER);
    let name: String = multihash.iter().map(|byte| format!("{byte:02x}")).collect();
    write_file(&folder, &name, bytes)
        .map_err(|error| crate::error::Error::internal("damaged block could not be copied").with_cause(error))
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    // A rename alone may not survive a crash.
    File::open(folder)?.sync_all()
}
