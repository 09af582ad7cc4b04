//! Blocks of flatfs: one file each, named by the multihash in base32, in folders by a part of that name.
//!
//! Source: go-ds-flatfs. Which part it is does not matter to a reader.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, Multihash, RAW};
use cairn_proto::limits::MAX_BLOCK_BYTES;
use futures::{StreamExt as _, stream};
use multibase::Base;

use super::repo::KuboRepo;
use super::{Import, KuboEvent};
use crate::store::{Durability, Store};
use crate::{Error, Result};

/// Ending of a file that holds a block.
const EXTENSION: &str = "data";

/// Files that are read together: of the largest blocks 32 MiB.
const FILES_TOGETHER: usize = 16;

/// Groups of files that are read at the same time.
const GROUPS_AT_ONCE: usize = 3;

/// What a group of files held.
#[derive(Debug, Default)]
struct Group {
    blocks: Vec<Block>,
    /// Blocks that are in the store already.
    here_count: u64,
    bad: Vec<(String, String)>,
}

impl Import {
    pub(super) async fn blocks(&mut self, kubo: &KuboRepo) -> Result<()> {
        let root = kubo.blocks();
        let folders = blocking(move || list(&root, |path| path.is_dir())).await?;
        self.report.folder_count = folders.len() as u64;
        for folder in folders {
            self.folder(folder).await?;
            self.report.folders_done += 1;
            self.tell(KuboEvent::Progress(self.report)).await?;
        }
        self.target.store.sync().await
    }

    async fn folder(&mut self, folder: PathBuf) -> Result<()> {
        let is_block = |path: &Path| path.extension().is_some_and(|extension| extension == EXTENSION);
        let files = blocking(move || list(&folder, is_block)).await?;
        let groups: Vec<Vec<PathBuf>> = files.chunks(FILES_TOGETHER).map(<[_]>::to_vec).collect();
        let store = self.target.store.clone();
        let read = |files| {
            let store = store.clone();
            blocking(move || read_group(&store, files))
        };
        let mut groups = stream::iter(groups).map(read).buffered(GROUPS_AT_ONCE);
        while let Some(group) = groups.next().await {
            self.keep(group?).await?;
        }
        Ok(())
    }

    async fn keep(&mut self, group: Group) -> Result<()> {
        self.report.block_count += group.here_count;
        let mut blocks = Vec::with_capacity(group.blocks.len());
        for block in group.blocks {
            match self.target.denylists.check_block(block.cid()) {
                Ok(()) => blocks.push(block),
                Err(error) => self.bad_block(block.cid().to_string(), error.to_string()).await?,
            }
        }
        self.report.block_count += blocks.len() as u64;
        self.report.stored_bytes += blocks.iter().map(|block| block.data().len() as u64).sum::<u64>();
        self.target.store.put(blocks, Durability::Later, &self.lease).await?;
        for (file, reason) in group.bad {
            self.bad_block(file, reason).await?;
        }
        Ok(())
    }

    async fn bad_block(&mut self, file: String, reason: String) -> Result<()> {
        self.report.bad_block_count += 1;
        self.tell(KuboEvent::BadBlock { file, reason }).await
    }
}

/// Entries of a folder that fit, in the order of their names.
fn list(folder: &Path, fits: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()
    });
    let mut entries = entries.map_err(|error| unreadable(folder).with_cause(error))?;
    entries.retain(|path| fits(path));
    entries.sort_unstable();
    Ok(entries)
}

fn read_group(store: &Store, files: Vec<PathBuf>) -> Result<Group> {
    let mut group = Group::default();
    for path in files {
        let file = path.display().to_string();
        let Some(multihash) = path.file_stem().and_then(|stem| multihash_of(stem.to_str()?)) else {
            group.bad.push((file, "its name is no multihash".to_owned()));
            continue;
        };
        if store.has(&multihash)? {
            group.here_count += 1;
            continue;
        }
        match read(&path, multihash) {
            Ok(block) => group.blocks.push(block),
            Err(reason) => group.bad.push((file, reason)),
        }
    }
    Ok(group)
}

/// The block of a file, under the codec that says least: the store goes by multihash.
fn read(path: &Path, multihash: Multihash) -> Result<Block, String> {
    let len_bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if len_bytes > MAX_BLOCK_BYTES as u64 {
        return Err(format!("block too large, len_bytes={len_bytes} max={MAX_BLOCK_BYTES}"));
    }
    let data = fs::read(path).map_err(|error| error.to_string())?;
    Block::verify(Cid::new_v1(RAW, multihash), data.into()).map_err(|error| error.to_string())
}

fn multihash_of(name: &str) -> Option<Multihash> {
    Multihash::from_bytes(&Base::Base32Upper.decode(name).ok()?).ok()
}

fn unreadable(path: &Path) -> Error {
    Error::invalid(format!("cannot read {}", path.display()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("reading Kubo's blocks stopped").with_cause(error))?
}
