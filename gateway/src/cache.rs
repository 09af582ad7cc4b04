//! What is known of immutable paths and blocks that were asked for, so that a request for what was seen before needs no
//! look-up, no read and no hash.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use cairn_proto::content::{NodeKind, Resolved};
use cairn_proto::path::{ContentPath, Root};
use http::HeaderValue;
use moka::sync::Cache as Moka;

use crate::headers;

/// The part of the memory that blocks get; paths get the rest.
const BLOCKS_SHARE: (u64, u64) = (3, 4);

/// How long an entry lives: content that was removed or forbidden is gone from here after that time.
const TIME_TO_LIVE: Duration = Duration::from_secs(300);

/// What is known of a path.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) resolved: Resolved,
    /// For [`headers::X_IPFS_ROOTS`].
    pub(crate) roots: HeaderValue,
    /// The entity tag of the content as a browser shows it.
    pub(crate) etag: HeaderValue,
    /// When a file was changed last, if it tells.
    pub(crate) modified: Option<HeaderValue>,
    /// The media type that its content shows, once somebody had to look.
    media_type: OnceLock<HeaderValue>,
    /// A directory is known to have no `index.html`.
    no_index: OnceLock<()>,
}

impl Known {
    pub(crate) fn new(resolved: Resolved) -> Self {
        Self {
            roots: headers::roots(&resolved.roots),
            etag: headers::etag(&resolved.cid, ""),
            modified: resolved.attributes.modified().and_then(headers::date),
            resolved,
            media_type: OnceLock::new(),
            no_index: OnceLock::new(),
        }
    }

    /// Length of a file, in bytes.
    pub(crate) fn len_bytes(&self) -> Option<u64> {
        match self.resolved.kind {
            NodeKind::File { len_bytes } => Some(len_bytes),
            _ => None,
        }
    }

    pub(crate) fn media_type(&self) -> Option<HeaderValue> {
        self.media_type.get().cloned()
    }

    pub(crate) fn keep_media_type(&self, media_type: &HeaderValue) {
        self.media_type.get_or_init(|| media_type.clone());
    }

    pub(crate) fn has_no_index(&self) -> bool {
        self.no_index.get().is_some()
    }

    pub(crate) fn keep_no_index(&self) {
        self.no_index.get_or_init(|| ());
    }

    /// Memory that this takes at most, in bytes, however much of it is known yet.
    fn weight(&self) -> u64 {
        const FIXED_BYTES: u64 = 512; // the struct, the tag, and moka's own node
        let cids = self.resolved.roots.len() * size_of::<Cid>() + self.roots.len();
        FIXED_BYTES + cids as u64
    }
}

/// What is known of immutable paths, and blocks by their CIDs, both bounded by weight. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    paths: Moka<ContentPath, Arc<Known>>,
    blocks: Moka<Cid, Block>,
}

impl Cache {
    pub(crate) fn new(max_bytes: u64) -> Self {
        let (share, of) = BLOCKS_SHARE;
        let blocks_bytes = max_bytes / of * share;
        let path_weight = |path: &ContentPath, known: &Arc<Known>| {
            let names: usize = path.segments().iter().map(|name| name.len() + size_of::<String>()).sum();
            u32::try_from(known.weight() + names as u64).unwrap_or(u32::MAX)
        };
        let block_weight = |_: &Cid, block: &Block| {
            const FIXED_BYTES: usize = 256; // the CID twice, and moka's own node
            u32::try_from(FIXED_BYTES + block.data().len()).unwrap_or(u32::MAX)
        };
        Self {
            paths: Moka::builder()
                .max_capacity(max_bytes - blocks_bytes)
                .weigher(path_weight)
                .time_to_live(TIME_TO_LIVE)
                .build(),
            blocks: Moka::builder()
                .max_capacity(blocks_bytes)
                .weigher(block_weight)
                .time_to_live(TIME_TO_LIVE)
                .build(),
        }
    }

    pub(crate) fn get(&self, path: &ContentPath) -> Option<Arc<Known>> {
        self.paths.get(path)
    }

    /// Keeps what is known, if the path is one that cannot change.
    pub(crate) fn insert(&self, path: ContentPath, known: &Arc<Known>) {
        if matches!(path.root(), Root::Ipfs(_)) {
            self.paths.insert(path, Arc::clone(known));
        }
    }

    pub(crate) fn block(&self, cid: &Cid) -> Option<Block> {
        self.blocks.get(cid)
    }

    /// Keeps a block, as long as others are not asked for more often.
    pub(crate) fn insert_block(&self, block: &Block) {
        // A copy: the bytes may be a slice of something much larger.
        self.blocks.insert(*block.cid(), block.detached());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cairn_proto::cid::{HashFunction, RAW, Version};
    use cairn_proto::unixfs::Attributes;

    use super::*;

    const MAX_BYTES: u64 = 1024 * 1024;

    fn file(number: u64) -> (ContentPath, Arc<Known>) {
        let cid = Cid::new_v1(RAW, HashFunction::Sha2_256.multihash(&number.to_be_bytes()));
        let resolved = Resolved {
            cid,
            kind: NodeKind::File { len_bytes: 1 },
            roots: vec![cid],
            remainder: Vec::new(),
            attributes: Attributes::default(),
        };
        (ContentPath::from_cid(cid), Arc::new(Known::new(resolved)))
    }

    #[test]
    fn paths_and_blocks_stay_within_their_bounds() {
        let cache = Cache::new(MAX_BYTES);
        for number in 0..4000 {
            let (path, known) = file(number);
            cache.insert(path, &known);
            let data = Bytes::from(vec![
                u8::try_from(number % 251).unwrap();
                1000 + usize::try_from(number).unwrap()
            ]);
            let block = Block::hash(Version::V1, RAW, HashFunction::Sha2_256, data).unwrap();
            cache.insert_block(&block);
        }
        cache.paths.run_pending_tasks();
        cache.blocks.run_pending_tasks();
        assert!(cache.paths.weighted_size() + cache.blocks.weighted_size() <= MAX_BYTES);
        assert!((1..2000).contains(&cache.paths.entry_count()), "{}", cache.paths.entry_count());
        assert!((1..1000).contains(&cache.blocks.entry_count()), "{}", cache.blocks.entry_count());
    }

    #[test]
    fn names_that_may_change_are_not_kept() {
        let cache = Cache::new(MAX_BYTES);
        let (_, known) = file(0);
        let path = ContentPath::parse("/ipns/example.com").unwrap();
        cache.insert(path.clone(), &known);
        assert!(cache.get(&path).is_none());
    }
}
