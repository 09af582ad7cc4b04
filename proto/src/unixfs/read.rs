//! Reading files: a machine that gives a range of a file's bytes in order.
//!
//! It fetches the blocks of the range and the nodes above them, no others. Every node is held to the length that its
//! parent claims, so a file that contradicts itself is an error and never wrong bytes.

use std::ops::Range;

use bytes::Bytes;

use super::{File, Node, decode};
use crate::block::Block;
use crate::cid::Cid;
use crate::walk::{Ahead, Link, Machine, Order, Part, Step, Visitor, WalkError, WalkOptions};

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The DAG cannot be walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A block is something else than a file or a part of one.
    #[error("not a file but a {kind}, cid={cid}")]
    NotAFile {
        /// The block.
        cid: Cid,
        /// What it is.
        kind: &'static str,
    },
    /// A part of a file is not as long as its parent says.
    #[error("part of a file has the wrong length, cid={cid} len_bytes={len_bytes} expected={expected_bytes}")]
    Length {
        /// The part.
        cid: Cid,
        /// What it says itself, in bytes.
        len_bytes: u64,
        /// What its parent says, in bytes.
        expected_bytes: u64,
    },
}

/// Emits the bytes of a range of a file, in order, in pieces of at most a block. They share the blocks' memory.
pub struct FileReader(Ahead<Content>);

impl FileReader {
    /// A reader of the bytes `range` of the UnixFS file or raw block `root`.
    ///
    /// What of the range lies behind the end of the file is left out: `0..u64::MAX` is the whole file. The root is always
    /// fetched. `window_bytes` is [`WalkOptions::window_bytes`].
    pub fn new(root: Cid, range: Range<u64>, window_bytes: u64) -> Self {
        let options =
            WalkOptions { order: Order::Dfs { duplicates: true }, window_bytes, ..WalkOptions::default() };
        let place = Place { start: 0, len_bytes: None };
        Self(Ahead::new(Content { range }, &root, place, options))
    }
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader").finish_non_exhaustive()
    }
}

impl Machine for FileReader {
    type Item = Bytes;
    type Error = ReadError;

    fn next(&mut self) -> Result<Step<Bytes>, ReadError> {
        self.0.next()
    }

    fn provide(&mut self, block: Block) {
        self.0.provide(&block);
    }
}

/// Where in the file the content below a block lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    /// What the parent says; `None` for the root.
    len_bytes: Option<u64>,
}

struct Content {
    range: Range<u64>,
}

impl Visitor for Content {
    type Item = Bytes;
    type Tag = Place;
    type Error = ReadError;

    fn visit(
        &self,
        block: &Block,
        place: &Place,
        parts: &mut Vec<Part<Bytes, Place>>,
    ) -> Result<(), ReadError> {
        let cid = *block.cid();
        let file = match decode(block).map_err(|source| WalkError::Decode { cid, source })? {
            Node::Raw(data) => File { len_bytes: data.len() as u64, data, children: Vec::new() },
            Node::File(file) => file,
            Node::Directory(_) | Node::Hamt(_) => {
                return Err(ReadError::NotAFile { cid, kind: "directory" });
            }
            Node::Symlink(_) => return Err(ReadError::NotAFile { cid, kind: "symbolic link" }),
        };
        if let Some(expected_bytes) = place.len_bytes
            && expected_bytes != file.len_bytes
        {
            return Err(ReadError::Length { cid, len_bytes: file.len_bytes, expected_bytes });
        }
        if let Some(own) = overlap(&self.range, place.start, file.data.len() as u64) {
            parts.push(Part::Item(file.data.slice(own)));
        }
        parts.extend(children_in(&file, place.start, &self.range).map(|(start, cid, len_bytes)| {
            let place = Place { start, len_bytes: Some(len_bytes) };
            Part::Link(Link::new(cid, Some(len_bytes), place))
        }));
        Ok(())
    }
}

/// The children of a part of a file that have bytes in `range`: where they start, their CIDs and their lengths.
///
/// `start` is where the part itself starts.
pub(crate) fn children_in<'a>(
    file: &'a File,
    start: u64,
    range: &'a Range<u64>,
) -> impl Iterator<Item = (u64, &'a Cid, u64)> {
    let mut at = start.saturating_add(file.data.len() as u64);
    file.children.iter().filter_map(move |child| {
        let start = at;
        // A file may claim more than any number holds; the reader comes to an error before it gets there.
        at = at.saturating_add(child.len_bytes);
        let has_bytes = range.start.max(start) < range.end.min(at);
        has_bytes.then_some((start, &child.cid, child.len_bytes))
    })
}

/// The part of `len_bytes` bytes at `start` that lies in `range`, counted from `start`.
fn overlap(range: &Range<u64>, start: u64, len_bytes: u64) -> Option<Range<usize>> {
    let from = range.start.saturating_sub(start);
    let to = range.end.saturating_sub(start).min(len_bytes);
    if from >= to {
        return None;
    }
    let index = |at: u64| usize::try_from(at).expect("a block fits in memory");
    Some(index(from)..index(to))
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::super::{Data, Kind};
    use super::*;
    use crate::cid::{DAG_PB, RAW};
    use crate::codec::dag_pb::{PbLink, PbNode};
    use crate::unixfs::import::{Chunker, FileBuilder, ImportOptions, Profile, leaf, symlink};
    use crate::walk::DEFAULT_WINDOW_BYTES;
    use crate::walk::testing::{Peers, block, identity, node, raw, with_seeds};

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(1)
    }

    /// A part of a file with content of its own and children of the lengths that are claimed for them.
    fn file(data: &[u8], children: &[(Cid, u64)]) -> Block {
        let mut message = Data::new(Kind::File);
        message.data = Some(Bytes::copy_from_slice(data));
        message.blocksizes = children.iter().map(|(_, len_bytes)| *len_bytes).collect();
        let links = children.iter().map(|(cid, _)| PbLink { cid: *cid, name: None, tsize: None });
        let node = PbNode { links: links.collect(), data: Some(message.encode().into()) };
        block(DAG_PB, node.encode())
    }

    /// A file as the importer makes it.
    fn import(peers: &mut Peers, options: ImportOptions, content: &[u8]) -> Cid {
        let mut builder = FileBuilder::new(options.clone());
        for chunk in options.chunker.chunks(content) {
            let leaf = leaf(&options, Bytes::copy_from_slice(chunk)).unwrap();
            peers.add_all(builder.push(leaf).unwrap());
        }
        let built = builder.finish().unwrap();
        peers.add_all(built.blocks);
        built.cid
    }

    /// A random tree with content at every level and parts that repeat: its root and its content.
    fn random_file(peers: &mut Peers, rng: &mut ChaCha8Rng) -> (Cid, Vec<u8>) {
        let mut parts: Vec<(Cid, Vec<u8>)> = Vec::new();
        for _ in 0..rng.random_range(1..8) {
            let data: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
            let leaf = if rng.random() { raw(data.clone()) } else { file(&data, &[]) };
            let is_inline = leaf.data().len() <= 128 && rng.random();
            let cid = if is_inline { identity(leaf.cid().codec(), leaf.data()) } else { peers.add(leaf) };
            parts.push((cid, data));
        }
        for _ in 0..rng.random_range(0..8) {
            let own: Vec<u8> = (0..rng.random_range(0..20)).map(|_| rng.random()).collect();
            let chosen: Vec<_> = (0..rng.random_range(0..6))
                .map(|_| parts[rng.random_range(parts.len().saturating_sub(6)..parts.len())].clone())
                .collect();
            let children: Vec<_> = chosen.iter().map(|(cid, data)| (*cid, data.len() as u64)).collect();
            let content =
                chosen.iter().fold(own.clone(), |content, (_, data)| [content, data.clone()].concat());
            parts.push((peers.add(file(&own, &children)), content));
        }
        parts.pop().unwrap()
    }

    fn read(peers: &mut Peers, root: Cid, range: Range<u64>, window: u64) -> Result<Vec<u8>, ReadError> {
        Ok(peers.run(&mut FileReader::new(root, range, window))?.concat())
    }

    fn part_of(content: &[u8], range: &Range<u64>) -> Vec<u8> {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        content.get(index(range.start)..index(range.end)).unwrap_or_default().to_vec()
    }

    #[test]
    fn a_file_that_links_the_same_leaf_many_times_is_read_to_its_end() {
        with_seeds(0..50, |mut rng| {
            let mut peers = Peers::new(rng.clone());
            let content = [vec![0; 5000], vec![1; 30], vec![0; 3470]].concat();
            for profile in [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015] {
                let options = ImportOptions {
                    chunker: Chunker::fixed(100).unwrap(),
                    max_file_links: 5,
                    ..ImportOptions::from_profile(profile)
                };
                let root = import(&mut peers, options, &content);
                let window_bytes = rng.random_range(0..10_000);
                assert_eq!(read(&mut peers, root, 0..u64::MAX, window_bytes).unwrap(), content);
            }
        });
    }

    #[test]
    fn any_range_of_any_file_is_what_a_slice_of_its_content_is() {
        with_seeds(0..400, |mut rng| {
            let mut peers = Peers::new(rng.clone());
            let (root, content) = random_file(&mut peers, &mut rng);
            let most = content.len() as u64 + 10;
            for _ in 0..5 {
                let range = rng.random_range(0..most)..rng.random_range(0..most);
                let window_bytes = rng.random_range(0..5000);
                let read = read(&mut peers, root, range.clone(), window_bytes).unwrap();
                assert_eq!(read, part_of(&content, &range), "{range:?}");
            }
        });
    }

    #[test]
    fn a_range_touches_its_own_blocks_and_the_nodes_above_them() {
        let mut peers = Peers::new(rng());
        let content: Vec<u8> = (0..=255).collect();
        let options = ImportOptions {
            chunker: Chunker::fixed(4).unwrap(),
            max_file_links: 4,
            ..ImportOptions::default()
        };
        // 64 leaves under 16 + 4 + 1 nodes.
        let root = import(&mut peers, options, &content);
        for (range, block_count) in
            [(0..4, 4), (3..5, 5), (100..101, 4), (63..65, 7), (250..999, 5), (256..300, 1), (9..9, 1)]
        {
            let read = read(&mut peers, root, range.clone(), DEFAULT_WINDOW_BYTES).unwrap();
            assert_eq!(read, part_of(&content, &range));
            assert_eq!(peers.asked.len(), block_count, "{range:?}");
        }
    }

    #[test]
    fn raw_blocks_inline_files_and_empty_ones_are_files() {
        let mut peers = Peers::new(rng());
        let one = peers.add(raw("hello world"));
        let wrapped = peers.add(file(b"hello world", &[]));
        for root in [one, wrapped, identity(RAW, b"hello world")] {
            assert_eq!(read(&mut peers, root, 6..u64::MAX, 1).unwrap(), b"world");
        }
        let empty = peers.add(raw(""));
        assert_eq!(read(&mut peers, empty, 0..u64::MAX, 1).unwrap(), b"");
    }

    #[test]
    fn a_part_that_is_not_as_long_as_claimed_is_an_error_before_its_bytes() {
        let mut peers = Peers::new(rng());
        let first = peers.add(raw("good"));
        for (claimed, real) in [(3, "long"), (5, "short"), (1 << 62, "huge")] {
            let second = peers.add(raw(if claimed == 5 { "shor" } else { real }));
            let root = peers.add(file(b"", &[(first, 4), (second, claimed)]));
            let mut content = Vec::new();
            let mut reader = FileReader::new(root, 0..u64::MAX, DEFAULT_WINDOW_BYTES);
            let error = peers.run_with(&mut reader, |_, bytes: Bytes| content.extend(bytes)).unwrap_err();
            assert_eq!(
                error,
                ReadError::Length { cid: second, len_bytes: 4, expected_bytes: claimed },
                "{real}"
            );
            assert_eq!(content, b"good");
            // What lies before the fault can be read.
            assert_eq!(read(&mut peers, root, 0..4, 1).unwrap(), b"good");
        }
    }

    #[test]
    fn what_is_not_a_file_is_refused_at_the_root_and_below() {
        let mut peers = Peers::new(rng());
        let mut message = Data::new(Kind::Directory);
        message.data = None;
        let directory = PbNode { links: Vec::new(), data: Some(message.encode().into()) };
        let directory = peers.add(block(DAG_PB, directory.encode()));
        let link = peers.add(symlink(&ImportOptions::default(), "target", None).unwrap());
        for (cid, kind) in [(directory, "directory"), (link, "symbolic link")] {
            let above = peers.add(file(b"", &[(cid, 7)]));
            for root in [cid, above] {
                let error = read(&mut peers, root, 0..9, 1).unwrap_err();
                assert_eq!(error, ReadError::NotAFile { cid, kind });
            }
        }
        let bare = peers.add(node(&[]));
        let cbor = peers.add(block(crate::cid::DAG_CBOR, vec![0xf6]));
        for root in [bare, cbor] {
            assert!(matches!(
                read(&mut peers, root, 0..9, 1),
                Err(ReadError::Walk(WalkError::Decode { cid, .. })) if cid == root
            ));
        }
    }

    #[test]
    fn a_file_that_claims_more_than_there_is_costs_nothing() {
        let mut peers = Peers::new(rng());
        let tiny = peers.add(raw("x"));
        let mut claimed = u64::MAX / 4;
        let mut root = peers.add(file(b"", &[(tiny, claimed), (tiny, claimed), (tiny, claimed)]));
        claimed *= 3;
        for _ in 0..10 {
            root = peers.add(file(b"", &[(root, claimed)]));
        }
        let error = read(&mut peers, root, claimed - 1..claimed, DEFAULT_WINDOW_BYTES).unwrap_err();
        assert!(matches!(error, ReadError::Length { len_bytes: 1, .. }));
        assert_eq!(peers.asked.len(), 12);
    }
}
