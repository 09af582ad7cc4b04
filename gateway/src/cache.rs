//! What is known of immutable paths, so that a request for one that was seen before needs no look-up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::content::{NodeKind, Resolved};
use cairn_proto::path::{ContentPath, Root};
use http::HeaderValue;
use moka::sync::Cache as Moka;

use crate::headers;

/// Longest file whose content is kept with its path, in bytes. Larger ones are worth a read of their block.
const MAX_SMALL_BYTES: u64 = 16 * 1024;

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
    /// All of a small file.
    content: OnceLock<Bytes>,
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
            content: OnceLock::new(),
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

    fn is_small(&self) -> bool {
        self.len_bytes().is_some_and(|len_bytes| len_bytes <= MAX_SMALL_BYTES)
    }

    pub(crate) fn media_type(&self) -> Option<HeaderValue> {
        self.media_type.get().cloned()
    }

    pub(crate) fn keep_media_type(&self, media_type: &HeaderValue) {
        self.media_type.get_or_init(|| media_type.clone());
    }

    pub(crate) fn content(&self) -> Option<Bytes> {
        self.content.get().cloned()
    }

    /// Keeps the content of a small file; of any other it does nothing.
    pub(crate) fn keep_content(&self, content: &Bytes) {
        if self.is_small() {
            // A copy: the bytes may be a slice of something much larger.
            self.content.get_or_init(|| Bytes::copy_from_slice(content));
        }
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
        let content = if self.is_small() { self.len_bytes().unwrap_or_default() } else { 0 };
        let cids = self.resolved.roots.len() * size_of::<cairn_proto::cid::Cid>() + self.roots.len();
        FIXED_BYTES + content + cids as u64
    }
}

/// A map from immutable paths to what is known of them, bounded by weight. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Cache(Moka<ContentPath, Arc<Known>>);

impl Cache {
    pub(crate) fn new(max_bytes: u64) -> Self {
        let weigh = |path: &ContentPath, known: &Arc<Known>| {
            let names: usize = path.segments().iter().map(|name| name.len() + size_of::<String>()).sum();
            u32::try_from(known.weight() + names as u64).unwrap_or(u32::MAX)
        };
        Self(Moka::builder().max_capacity(max_bytes).weigher(weigh).time_to_live(TIME_TO_LIVE).build())
    }

    pub(crate) fn get(&self, path: &ContentPath) -> Option<Arc<Known>> {
        self.0.get(path)
    }

    /// Keeps what is known, if the path is one that cannot change.
    pub(crate) fn insert(&self, path: ContentPath, known: &Arc<Known>) {
        if matches!(path.root(), Root::Ipfs(_)) {
            self.0.insert(path, Arc::clone(known));
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_proto::cid::{Cid, HashFunction, RAW};
    use cairn_proto::unixfs::Attributes;

    use super::*;

    fn file(number: u64, len_bytes: u64) -> (ContentPath, Arc<Known>) {
        let cid = Cid::new_v1(RAW, HashFunction::Sha2_256.multihash(&number.to_be_bytes()));
        let resolved = Resolved {
            cid,
            kind: NodeKind::File { len_bytes },
            roots: vec![cid],
            remainder: Vec::new(),
            attributes: Attributes::default(),
        };
        (ContentPath::from_cid(cid), Arc::new(Known::new(resolved)))
    }

    #[test]
    fn content_of_the_limit_is_kept_and_one_byte_more_is_not() {
        for (len_bytes, kept) in [(MAX_SMALL_BYTES, true), (MAX_SMALL_BYTES + 1, false)] {
            let (_, known) = file(0, len_bytes);
            known.keep_content(&Bytes::from(vec![0; usize::try_from(len_bytes).unwrap()]));
            assert_eq!(known.content().is_some(), kept, "{len_bytes}");
        }
    }

    #[test]
    fn the_weight_stays_within_its_bound_and_counts_content_before_it_is_there() {
        let cache = Cache::new(20 * MAX_SMALL_BYTES);
        for number in 0..1000 {
            let (path, known) = file(number, MAX_SMALL_BYTES);
            cache.insert(path, &known);
        }
        cache.0.run_pending_tasks();
        assert!(cache.0.weighted_size() <= 20 * MAX_SMALL_BYTES);
        assert!((1..20).contains(&cache.0.entry_count()), "{}", cache.0.entry_count());
    }

    #[test]
    fn names_that_may_change_are_not_kept() {
        let cache = Cache::new(1024 * 1024);
        let (_, known) = file(0, 1);
        let path = ContentPath::parse("/ipns/example.com").unwrap();
        cache.insert(path.clone(), &known);
        assert!(cache.get(&path).is_none());
    }
}
