//! Listing directories: a machine that gives the entries of one, sharded or not.
//!
//! It fetches the directory's own blocks and none of its children.

use super::hamt::Child;
use super::{Node, decode};
use crate::block::Block;
use crate::cid::Cid;
use crate::codec::dag_pb::PbLink;
use crate::content::Entry;
use crate::limits::MIN_HAMT_FANOUT;
use crate::walk::{Ahead, Link, Machine, Order, Part, Step, Visitor, WalkError, WalkOptions};

/// Window of a listing, in bytes: all blocks of a directory with a quarter of a million entries.
const LIST_WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// What a shard is taken for before it is here, in bytes: 256 entries with names of 60 bytes.
pub(crate) const SHARD_BYTES: u64 = 32 * 1024;

/// Shards above one another, at most: each uses 3 bits or more of a hash of 64.
const MAX_SHARD_DEPTH: usize = (u64::BITS / MIN_HAMT_FANOUT.trailing_zeros()) as usize;

/// Why a directory cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The DAG cannot be walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A block is something else than a directory, or than a shard of the one above it.
    #[error("not a directory but a {kind}, cid={cid}")]
    NotADirectory {
        /// The block.
        cid: Cid,
        /// What it is.
        kind: &'static str,
    },
}

/// Emits the entries of a directory: those of a plain one as they stand, those of a sharded one depth first by index.
///
/// Both are the order of Kubo's listing. Names that are not UTF-8 come with the replacement character.
pub struct Lister(Ahead<Entries>);

impl Lister {
    /// A listing of `directory`.
    pub fn new(directory: Cid) -> Self {
        let options = WalkOptions {
            // Names have one hash, so no shard of a sound directory stands twice.
            order: Order::Dfs { duplicates: false },
            window_bytes: LIST_WINDOW_BYTES,
            max_depth: MAX_SHARD_DEPTH - 1,
            ..WalkOptions::default()
        };
        Self(Ahead::new(Entries, &directory, Place::Root, options))
    }
}

impl std::fmt::Debug for Lister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lister").finish_non_exhaustive()
    }
}

impl Machine for Lister {
    type Item = Entry;
    type Error = ListError;

    fn next(&mut self) -> Result<Step<Entry>, ListError> {
        Ok(self.0.next()?.map(|entry| *entry))
    }

    fn provide(&mut self, block: Block) {
        self.0.provide(&block);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Shard,
}

struct Entries;

impl Visitor for Entries {
    type Item = Box<Entry>;
    type Tag = Place;
    type Error = ListError;

    fn visit(
        &self,
        block: &Block,
        place: &Place,
        parts: &mut Vec<Part<Box<Entry>, Place>>,
    ) -> Result<(), ListError> {
        let cid = *block.cid();
        let kind = match decode(block).map_err(|source| WalkError::Decode { cid, source })? {
            Node::Directory(links) if *place == Place::Root => {
                parts.extend(links.iter().map(|link| entry(link.name(), link)));
                return Ok(());
            }
            Node::Hamt(shard) => {
                parts.extend(shard.children().map(|child| match child {
                    Child::Entry { name, link } => entry(&name, link),
                    Child::Shard(cid) => Part::Link(Link::new(cid, Some(SHARD_BYTES), Place::Shard)),
                }));
                return Ok(());
            }
            Node::Directory(_) => "directory within a shard",
            Node::Raw(_) | Node::File(_) => "file",
            Node::Symlink(_) => "symbolic link",
        };
        Err(ListError::NotADirectory { cid, kind })
    }
}

fn entry(name: &[u8], link: &PbLink) -> Part<Box<Entry>, Place> {
    Part::Item(Box::new(Entry {
        name: String::from_utf8_lossy(name).into_owned(),
        cid: link.cid,
        cumulative_bytes: link.tsize.unwrap_or(0),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::Rng as _;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;
    use crate::cid::DAG_PB;
    use crate::codec::dag_pb::PbNode;
    use crate::unixfs::import::{DirectoryBuilder, ImportOptions};
    use crate::unixfs::{Data, Kind};
    use crate::walk::testing::{Peers, block, raw, with_seeds};

    fn directory(peers: &mut Peers, options: ImportOptions, names: &[String]) -> Cid {
        let mut builder = DirectoryBuilder::new(options);
        for name in names {
            let file = raw(name.clone());
            builder.insert(name, file.cid(), name.len() as u64).unwrap();
        }
        let built = builder.finish().unwrap();
        peers.add_all(built.blocks);
        built.cid
    }

    fn sharded(hamt_fanout: usize) -> ImportOptions {
        ImportOptions { hamt_fanout, hamt_threshold_bytes: 1, ..ImportOptions::default() }
    }

    fn shard(fanout: u64, bitfield: &[u8], links: Vec<PbLink>) -> Block {
        let mut message = Data::new(Kind::HamtShard);
        message.data = Some(bitfield.to_vec().into());
        message.hash_type = Some(crate::unixfs::hamt::HASH_TYPE);
        message.fanout = Some(fanout);
        block(DAG_PB, PbNode { links, data: Some(message.encode().into()) }.encode())
    }

    fn link(name: &[u8], cid: Cid) -> PbLink {
        PbLink { cid, name: Some(name.to_vec().into()), tsize: None }
    }

    #[test]
    fn a_plain_directory_is_listed_as_it_stands_from_its_own_block() {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let names = ["a.txt", "b", "sub"].map(str::to_owned);
        let root = directory(&mut peers, ImportOptions::default(), &names);
        let entries = peers.run(&mut Lister::new(root)).unwrap();
        let expected = names.map(|name| Entry {
            cid: *raw(name.clone()).cid(),
            cumulative_bytes: name.len() as u64,
            name,
        });
        assert_eq!(entries, expected);
        assert_eq!(peers.asked, [root]);
    }

    #[test]
    fn a_sharded_directory_is_listed_whole_by_the_hashes_of_its_names() {
        with_seeds(0..40, |mut rng| {
            let mut peers = Peers::new(rng.clone());
            let count = rng.random_range(1..2000);
            let names: Vec<String> = (0..count).map(|at| format!("file-{at}.txt")).collect();
            let fanout = 1 << rng.random_range(3..=10);
            let root = directory(&mut peers, sharded(fanout), &names);
            let entries = peers.run(&mut Lister::new(root)).unwrap();
            // Depth first by index is the order of the hashes, whose highest bits come first.
            let by_hash: BTreeMap<u64, &String> =
                names.iter().map(|name| (crate::unixfs::hamt::hash_name(name.as_bytes()), name)).collect();
            assert!(entries.iter().map(|entry| &entry.name).eq(by_hash.values().copied()));
            assert!(entries.iter().all(|entry| entry.cid == *raw(entry.name.clone()).cid()));
        });
    }

    #[test]
    fn shards_are_fetched_ahead_level_by_level() {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let names: Vec<String> = (0..4000).map(|at| format!("file-{at}.txt")).collect();
        let root = directory(&mut peers, sharded(256), &names);
        assert_eq!(peers.run(&mut Lister::new(root)).unwrap().len(), 4000);
        assert!(peers.most_count >= 200, "{}", peers.most_count);
    }

    #[test]
    fn what_is_not_a_directory_is_refused() {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let file = peers.add(raw("x"));
        let plain = directory(&mut peers, ImportOptions::default(), &[]);
        for (cid, kind) in [(file, "file"), (plain, "directory within a shard")] {
            let above = peers.add(shard(8, &[1], vec![link(b"0", cid)]));
            let error = peers.run(&mut Lister::new(above)).unwrap_err();
            assert_eq!(error, ListError::NotADirectory { cid, kind });
        }
        let error = peers.run(&mut Lister::new(file)).unwrap_err();
        assert_eq!(error, ListError::NotADirectory { cid: file, kind: "file" });
    }

    #[test]
    fn shards_are_no_deeper_than_the_hash_is_long() {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let mut root = peers.add(shard(8, &[1], vec![link(b"0name", *raw("x").cid())]));
        let mut roots = vec![root];
        for _ in 0..MAX_SHARD_DEPTH {
            root = peers.add(shard(8, &[1], vec![link(b"0", root)]));
            roots.push(root);
        }
        assert_eq!(peers.run(&mut Lister::new(roots[MAX_SHARD_DEPTH - 1])).unwrap().len(), 1);
        let error = peers.run(&mut Lister::new(root)).unwrap_err();
        assert!(matches!(error, ListError::Walk(WalkError::TooDeep { .. })));
    }

    #[test]
    fn names_that_are_not_utf_8_are_listed_with_a_replacement() {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let message = Data::new(Kind::Directory).encode();
        let node = PbNode { links: vec![link(b"a\xff", *raw("x").cid())], data: Some(message.into()) };
        let root = peers.add(block(DAG_PB, node.encode()));
        assert_eq!(peers.run(&mut Lister::new(root)).unwrap()[0].name, "a\u{fffd}");
    }
}
