//! Which blocks a gateway puts into a CAR: those along a path, then what the scope says of its end.

use std::collections::VecDeque;
use std::ops::Range;

use crate::block::Block;
use crate::cid::{Cid, identity_content};
use crate::content::{CarSelection, DagScope, NodeKind, Resolved};
use crate::path::ContentPath;
use crate::resolve::{ResolveError, Resolver};
use crate::unixfs::hamt::Child;
use crate::unixfs::list::SHARD_BYTES;
use crate::unixfs::read::children_in;
use crate::unixfs::{self, Node};
use crate::walk::{
    Ahead, Key, Link, Machine, Order, Part, Step, Visited, Visitor, WalkError, WalkOptions, follow,
};

/// Why blocks cannot be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The path leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// What is below its end cannot be walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The path ends inside a block, which a CAR cannot say.
    #[error("path ends inside a block, cid={cid} remainder={remainder:?}")]
    InsideBlock {
        /// The block.
        cid: Cid,
        /// Segments that lead on inside it.
        remainder: Vec<String>,
    },
    /// The blocks along the path, which must wait until its end is known, take too much memory.
    #[error("blocks along the path take too much memory, len_bytes={len_bytes} max={}", MAX_PATH_BLOCK_BYTES)]
    PathTooLarge {
        /// Their length so far, in bytes.
        len_bytes: u64,
    },
}

/// Most memory for the blocks along a path, in bytes: those of thirty of the largest directories.
const MAX_PATH_BLOCK_BYTES: u64 = 64 * 1024 * 1024;

/// What goes into a CAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// The CID at the end of the path, for the header. Comes first, once.
    Root(Cid),
    /// A block, for a section.
    Block(Block),
}

/// Emits where a path ends, the blocks along it and, below its end, those that a scope selects: depth first, each once unless
/// duplicates are wanted.
///
/// Blocks that an identity CID holds are left out.
///
/// Source: <https://specs.ipfs.tech/http-gateways/trustless-gateway/>.
pub struct Selection {
    wanted: CarSelection,
    window_bytes: u64,
    resolver: Resolver,
    /// The blocks that the path came to. They go out when its end is known, and the last as the first of those below.
    path_blocks: VecDeque<Block>,
    path_bytes: u64,
    /// Where the path ends, until that is out.
    root: Option<Cid>,
    below: Option<Below>,
}

/// What the scope selects.
struct Below {
    walk: Ahead<Scoped>,
    /// In a walk that comes to blocks again: those that are out.
    emitted: Option<Visited>,
}

impl Selection {
    /// The blocks of `path` and, at its end, of `wanted`. `window_bytes` is [`WalkOptions::window_bytes`].
    pub fn new(path: &ContentPath, wanted: CarSelection, window_bytes: u64) -> Self {
        Self {
            wanted,
            window_bytes,
            resolver: Resolver::new(path),
            path_blocks: VecDeque::new(),
            path_bytes: 0,
            root: None,
            below: None,
        }
    }

    /// Begins with the blocks at and below the end of the path.
    fn begin(&mut self, target: Resolved) -> Result<(), SelectError> {
        if !target.remainder.is_empty() {
            return Err(SelectError::InsideBlock { cid: target.cid, remainder: target.remainder });
        }
        let (scoped, comes_again) = Scoped::new(self.wanted.scope, &target.kind);
        let duplicates = comes_again || self.wanted.duplicates;
        let options = WalkOptions {
            order: Order::Dfs { duplicates },
            window_bytes: self.window_bytes,
            ..WalkOptions::default()
        };
        let mut walk = Ahead::new(scoped, &target.cid, Place::Root, options);
        // Not so for structured data, which the path does not read, nor for a block within its CID.
        if self.path_blocks.back().is_some_and(|block| *block.cid() == target.cid)
            && let Some(block) = self.path_blocks.pop_back()
        {
            // The first thing that a walk needs is its root, alone.
            walk.next()?;
            walk.provide(&block);
        }
        self.root = Some(target.cid);
        let emitted = (comes_again && !self.wanted.duplicates).then(Visited::default);
        self.below = Some(Below { walk, emitted });
        Ok(())
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selection").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Machine for Selection {
    type Item = Selected;
    type Error = SelectError;

    fn next(&mut self) -> Result<Step<Selected>, SelectError> {
        loop {
            if let Some(below) = &mut self.below {
                if let Some(root) = self.root.take() {
                    return Ok(Step::Emit(Selected::Root(root)));
                }
                return match self.path_blocks.pop_front() {
                    Some(block) => Ok(Step::Emit(Selected::Block(block))),
                    None => Ok(below.next()?.map(Selected::Block)),
                };
            }
            if self.path_bytes > MAX_PATH_BLOCK_BYTES {
                return Err(SelectError::PathTooLarge { len_bytes: self.path_bytes });
            }
            match self.resolver.next()? {
                Step::Emit(target) => self.begin(target)?,
                Step::Need(cids) => return Ok(Step::Need(cids)),
                Step::Pending => return Ok(Step::Pending),
                Step::Done => return Ok(Step::Done),
            }
        }
    }

    fn provide(&mut self, block: Block) {
        if let Some(below) = &mut self.below {
            below.walk.provide(&block);
        } else if let Some(block) = self.resolver.accept(block) {
            self.path_bytes += block.data().len() as u64;
            self.path_blocks.push_back(block);
        }
    }
}

impl Below {
    fn next(&mut self) -> Result<Step<Block>, SelectError> {
        loop {
            let step = self.walk.next()?.map(|block| *block);
            if let (Step::Emit(block), Some(emitted)) = (&step, &mut self.emitted)
                && !emitted.insert(&Key::of(block.cid()))
            {
                continue;
            }
            return Ok(step);
        }
    }
}

/// What is followed below the end of the path.
enum Scoped {
    Block,
    /// The shards of a directory, or the parts of a file that have bytes in a range.
    Entity(Range<u64>),
    All,
}

impl Scoped {
    /// What a scope is for a target, and whether its walk must come to a block again.
    ///
    /// It must where a range cuts through the file: of a node that stands twice, each place may need other children.
    fn new(scope: DagScope, kind: &NodeKind) -> (Self, bool) {
        match (scope, kind) {
            (DagScope::Block, _) => (Self::Block, false),
            (DagScope::All, _) => (Self::All, false),
            (DagScope::Entity { from, to }, NodeKind::File { len_bytes }) => {
                let range = absolute(from, to, *len_bytes);
                let is_whole = range == (0..*len_bytes);
                (Self::Entity(range), !is_whole)
            }
            (DagScope::Entity { .. }, _) => (Self::Entity(0..u64::MAX), false),
        }
    }
}

/// The bytes of a file that a request names: both ends count from its end when negative, and the last is inclusive.
fn absolute(from: i64, to: Option<i64>, len_bytes: u64) -> Range<u64> {
    let start = match from {
        ..0 => len_bytes.saturating_sub(from.unsigned_abs()),
        _ => from.unsigned_abs(),
    };
    let end = match to {
        None => len_bytes,
        Some(to @ ..0) => (len_bytes + 1).saturating_sub(to.unsigned_abs()),
        Some(to) => (to.unsigned_abs() + 1).min(len_bytes),
    };
    start..end.max(start)
}

/// What a block is to those above it.
#[derive(Debug, Clone, Copy)]
enum Place {
    Root,
    /// Of a file, from this byte.
    Part {
        start: u64,
    },
    Other,
}

impl Visitor for Scoped {
    type Item = Box<Block>;
    type Tag = Place;
    type Error = SelectError;

    fn visit(
        &self,
        block: &Block,
        place: &Place,
        parts: &mut Vec<Part<Box<Block>, Place>>,
    ) -> Result<(), SelectError> {
        if identity_content(block.cid()).is_none() {
            parts.push(Part::Item(Box::new(block.clone())));
        }
        let mut link = |cid: &Cid, below_bytes, place| {
            parts.push(Part::Link(Link::new(cid, below_bytes, place)));
        };
        match self {
            Self::Block => {}
            Self::All => follow(block, |cid, below_bytes| link(cid, below_bytes, Place::Other))?,
            Self::Entity(range) => match (unixfs::decode(block), place) {
                // A target that is not UnixFS is its one block.
                (Err(_), Place::Root) => {}
                (Err(source), _) => return Err(WalkError::Decode { cid: *block.cid(), source }.into()),
                (Ok(Node::File(file)), place) => {
                    let start = if let Place::Part { start } = place { *start } else { 0 };
                    for (start, cid, len_bytes) in children_in(&file, start, range) {
                        link(cid, Some(len_bytes), Place::Part { start });
                    }
                }
                (Ok(Node::Hamt(shard)), _) => {
                    for child in shard.children() {
                        if let Child::Shard(cid) = child {
                            link(cid, Some(SHARD_BYTES), Place::Other);
                        }
                    }
                }
                (Ok(Node::Raw(_) | Node::Directory(_) | Node::Symlink(_)), _) => {}
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rand::Rng as _;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;
    use crate::cid::{DAG_CBOR, DAG_PB, RAW};
    use crate::codec::dag_pb::{PbLink, PbNode};
    use crate::limits::MAX_BLOCK_BYTES;
    use crate::path::Root;
    use crate::unixfs::import::{DirectoryBuilder, ImportOptions};
    use crate::unixfs::{Data, Kind};
    use crate::walk::testing::{Peers, block, identity, node, raw, with_seeds};

    const ENTITY: DagScope = DagScope::Entity { from: 0, to: None };

    fn peers() -> Peers {
        Peers::new(ChaCha8Rng::seed_from_u64(1))
    }

    fn select(peers: &mut Peers, root: Cid, path: &[&str], scope: DagScope) -> Result<Vec<Cid>, SelectError> {
        let path = ContentPath::new(Root::Ipfs(root), path.iter().copied()).unwrap();
        let mut selected = peers.run(&mut Selection::new(&path, scope.into(), 1 << 20))?.into_iter();
        assert!(matches!(selected.next(), Some(Selected::Root(_))));
        let blocks: Vec<Block> = selected
            .map(|selected| match selected {
                Selected::Block(block) => block,
                Selected::Root(_) => panic!("there is one root"),
            })
            .collect();
        // Nothing is fetched that does not go out.
        let asked: std::collections::HashSet<_> = peers.asked.iter().collect();
        assert_eq!(asked.len(), blocks.len());
        Ok(blocks.iter().map(|block| *block.cid()).collect())
    }

    fn file(children: &[(Cid, u64)]) -> Block {
        let mut message = Data::new(Kind::File);
        message.blocksizes = children.iter().map(|(_, len_bytes)| *len_bytes).collect();
        let links = children.iter().map(|(cid, len)| PbLink { cid: *cid, name: None, tsize: Some(*len) });
        let data = Some(Bytes::from(message.encode()));
        block(DAG_PB, PbNode { links: links.collect(), data }.encode())
    }

    fn directory(peers: &mut Peers, options: ImportOptions, entries: &[(&str, Cid)]) -> Cid {
        let mut builder = DirectoryBuilder::new(options);
        for (name, cid) in entries {
            builder.insert(name, cid, 10).unwrap();
        }
        let built = builder.finish().unwrap();
        peers.add_all(built.blocks);
        built.cid
    }

    #[test]
    fn the_blocks_of_the_path_come_first_and_then_what_the_scope_says() {
        let mut peers = peers();
        let leaves = ["1", "22", "333"].map(|text| (peers.add(raw(text)), text.len() as u64));
        let parts = peers.add(file(&leaves));
        let other = peers.add(raw("other"));
        let sub = directory(&mut peers, ImportOptions::default(), &[("file", parts), ("other", other)]);
        let root = directory(&mut peers, ImportOptions::default(), &[("a", other), ("sub", sub)]);
        let [one, two, three] = leaves.map(|(cid, _)| cid);
        for (path, scope, expected) in [
            (&["sub", "file"][..], DagScope::All, vec![root, sub, parts, one, two, three]),
            (&["sub", "file"], ENTITY, vec![root, sub, parts, one, two, three]),
            (&["sub", "file"], DagScope::Block, vec![root, sub, parts]),
            (&["sub"], DagScope::All, vec![root, sub, parts, one, two, three, other]),
            (&["sub"], ENTITY, vec![root, sub]),
            (&["sub"], DagScope::Block, vec![root, sub]),
            (&[], DagScope::All, vec![root, other, sub, parts, one, two, three]),
            (&[], DagScope::Block, vec![root]),
        ] {
            assert_eq!(select(&mut peers, root, path, scope), Ok(expected), "{path:?} {scope:?}");
        }
    }

    #[test]
    fn a_range_takes_the_leaves_that_it_touches() {
        let mut peers = peers();
        let leaves: Vec<_> = (0..10_u8).map(|at| (peers.add(raw(vec![at; 10])), 10)).collect();
        let root = peers.add(file(&leaves));
        for (from, to, touched) in [
            (0, None, 0..10),
            (0, Some(9), 0..1),
            (9, Some(10), 0..2),
            (5, Some(5), 0..1),
            (-10, None, 9..10),
            (-11, Some(-11), 8..9),
            (-1000, Some(0), 0..1),
            (95, Some(1000), 9..10),
            (20, Some(-60), 2..5),
            // Outside of the file, or empty: the root alone.
            (100, None, 0..0),
            (30, Some(20), 0..0),
            (0, Some(-101), 0..0),
            (i64::MIN, Some(i64::MIN), 0..0),
            (i64::MAX, Some(i64::MAX), 0..0),
        ] {
            let scope = DagScope::Entity { from, to };
            let expected: Vec<Cid> =
                [root].into_iter().chain(leaves[touched].iter().map(|(cid, _)| *cid)).collect();
            assert_eq!(select(&mut peers, root, &[], scope), Ok(expected), "{from} {to:?}");
        }
    }

    #[test]
    fn a_range_through_a_file_of_repeated_parts_has_every_block_that_it_needs_once() {
        let mut peers = peers();
        let leaves: Vec<_> = (0..4_u8).map(|at| (peers.add(raw(vec![at; 10])), 10)).collect();
        let half = peers.add(file(&leaves));
        let root = peers.add(file(&[(half, 40), (half, 40), (half, 40)]));
        let [a, b, c, d] = [0, 1, 2, 3].map(|at: usize| leaves[at].0);
        // From the last quarter of the first half to the first of the second.
        let scope = DagScope::Entity { from: 30, to: Some(49) };
        assert_eq!(select(&mut peers, root, &[], scope), Ok(vec![root, half, d, a]));
        let scope = DagScope::Entity { from: 35, to: Some(85) };
        assert_eq!(select(&mut peers, root, &[], scope), Ok(vec![root, half, d, a, b, c]));
        assert_eq!(select(&mut peers, root, &[], ENTITY), Ok(vec![root, half, a, b, c, d]));
    }

    #[test]
    fn with_duplicates_a_block_comes_as_often_as_the_dag_comes_to_it() {
        let mut peers = peers();
        let leaves = ["1", "22"].map(|text| (peers.add(raw(text)), text.len() as u64));
        let parts = peers.add(file(&leaves));
        let inline = identity(RAW, b"inline");
        let entries = [("a", parts), ("b", parts), ("c", inline), ("d", leaves[0].0)];
        let root = directory(&mut peers, ImportOptions::default(), &entries);
        let path = ContentPath::from_cid(root);
        let selection = CarSelection { scope: DagScope::All, duplicates: true };
        let selected = peers.run(&mut Selection::new(&path, selection, 1 << 20)).unwrap();
        let cids: Vec<_> = selected
            .iter()
            .filter_map(|selected| match selected {
                Selected::Block(block) => Some(*block.cid()),
                Selected::Root(_) => None,
            })
            .collect();
        let [one, two] = leaves.map(|(cid, _)| cid);
        assert_eq!(cids, [root, parts, one, two, parts, one, two, one]);
    }

    #[test]
    fn a_sharded_directory_as_an_entity_is_all_its_shards_and_none_of_its_files() {
        let mut peers = peers();
        let names: Vec<String> = (0..300).map(|at| format!("file-{at}")).collect();
        let files: Vec<Cid> = names.iter().map(|name| peers.add(raw(name.clone()))).collect();
        let entries: Vec<_> = names.iter().map(String::as_str).zip(files.iter().copied()).collect();
        let options = ImportOptions { hamt_fanout: 16, hamt_threshold_bytes: 1, ..ImportOptions::default() };
        let root = directory(&mut peers, options, &entries);
        let entity = select(&mut peers, root, &[], ENTITY).unwrap();
        let all = select(&mut peers, root, &[], DagScope::All).unwrap();
        assert!(entity.iter().all(|cid| cid.codec() == DAG_PB));
        assert!(all.iter().filter(|cid| cid.codec() == DAG_PB).eq(&entity));
        assert_eq!(all.len(), entity.len() + 300);
        // By name: the shards on the way and the file.
        let one = select(&mut peers, root, &["file-7"], ENTITY).unwrap();
        assert!(one.len() >= 2 && one.len() <= 6 && one.last() == Some(&files[7]));
    }

    #[test]
    fn what_is_not_unixfs_is_one_block_as_an_entity_and_all_below_otherwise() {
        let mut peers = peers();
        let leaf = peers.add(raw("x"));
        let mut bytes = vec![0x81, 0xd8, 0x2a, 0x58, 37, 0];
        bytes.extend(leaf.to_bytes());
        let cbor = peers.add(block(DAG_CBOR, bytes));
        let bare = peers.add(node(&[("a", leaf, None)]));
        for target in [cbor, bare] {
            let root = peers.add(node(&[("to", target, None)]));
            assert_eq!(select(&mut peers, root, &["to"], ENTITY), Ok(vec![root, target]));
            assert_eq!(select(&mut peers, root, &["to"], DagScope::All), Ok(vec![root, target, leaf]));
        }
        assert_eq!(select(&mut peers, cbor, &["0"], ENTITY), Ok(vec![cbor, leaf]));
    }

    #[test]
    fn identity_cids_are_never_blocks() {
        let mut peers = peers();
        let inline = identity(RAW, b"inline");
        let leaf = peers.add(raw("x"));
        let root = peers.add(node(&[("in", inline, None), ("out", leaf, None)]));
        assert_eq!(select(&mut peers, root, &["in"], DagScope::All), Ok(vec![root]));
        assert_eq!(select(&mut peers, root, &[], DagScope::All), Ok(vec![root, leaf]));
        assert_eq!(select(&mut peers, inline, &[], DagScope::All), Ok(vec![]));
    }

    #[test]
    fn the_end_of_the_path_is_told_before_any_block() {
        let mut peers = peers();
        let leaf = peers.add(raw("x"));
        let root = peers.add(node(&[("a", leaf, None)]));
        let path = ContentPath::new(Root::Ipfs(root), ["a"]).unwrap();
        let selected = peers.run(&mut Selection::new(&path, DagScope::All.into(), 1)).unwrap();
        let blocks = [root, leaf].map(|cid| Selected::Block(peers.get(&cid)));
        assert_eq!(selected[0], Selected::Root(leaf));
        assert_eq!(selected[1..], blocks);
    }

    #[test]
    fn blocks_along_a_path_are_held_up_to_their_bound() {
        // Nodes just under the largest block, each of which links the next.
        let data = Some(Bytes::from(vec![0; MAX_BLOCK_BYTES - 100]));
        let depth = MAX_PATH_BLOCK_BYTES / MAX_BLOCK_BYTES as u64;
        let mut peers = peers();
        let mut root = peers.add(raw("x"));
        let mut roots = vec![root];
        for _ in 0..=depth {
            let links = vec![PbLink { cid: root, name: Some("a".into()), tsize: None }];
            root = peers.add(block(DAG_PB, PbNode { links, data: data.clone() }.encode()));
            roots.push(root);
        }
        let mut select = |steps: usize| select(&mut peers, roots[steps], &vec!["a"; steps], DagScope::All);
        assert_eq!(select(32).map(|blocks| blocks.len()), Ok(33));
        assert!(matches!(select(33), Err(SelectError::PathTooLarge { .. })));
    }

    #[test]
    fn paths_that_lead_nowhere_or_inside_a_block_are_errors() {
        let mut peers = peers();
        let root = peers.add(node(&[]));
        assert!(matches!(
            select(&mut peers, root, &["no"], DagScope::All),
            Err(SelectError::Resolve(ResolveError::NotFound { .. }))
        ));
        let cbor = peers.add(block(DAG_CBOR, vec![0x81, 0xf6]));
        let error = select(&mut peers, cbor, &["0"], DagScope::All).unwrap_err();
        assert_eq!(error, SelectError::InsideBlock { cid: cbor, remainder: vec!["0".to_owned()] });
    }

    #[test]
    fn every_range_of_a_random_file_has_the_leaves_that_a_model_finds() {
        with_seeds(0..200, |mut rng| {
            let mut peers = Peers::new(rng.clone());
            let leaves: Vec<_> = (0..rng.random_range(1..30))
                .map(|_| {
                    let len = rng.random_range(1..5_u64);
                    let byte = rng.random_range(0..3_u8);
                    (peers.add(raw(vec![byte; usize::try_from(len).unwrap()])), len)
                })
                .collect();
            let root = peers.add(file(&leaves));
            let len: i64 = leaves.iter().map(|(_, len)| i64::try_from(*len).unwrap()).sum();
            let from = rng.random_range(0..len);
            let to = rng.random_range(from..len + 3);
            let (mut at, mut expected) = (0, vec![root]);
            for (cid, len) in &leaves {
                let end = at + i64::try_from(*len).unwrap();
                if at <= to && end > from && !expected.contains(cid) {
                    expected.push(*cid);
                }
                at = end;
            }
            let scope = DagScope::Entity { from, to: Some(to) };
            assert_eq!(select(&mut peers, root, &[], scope), Ok(expected));
        });
    }
}
