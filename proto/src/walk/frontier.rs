//! What a walk knows but has not asked for yet.
//!
//! A [`Frame`] holds the parts of one block. Of every frame two positions are kept, the first leaf and the first inner
//! node that nobody asked for; the frames that have one stand in the order of the walk, so that the next of either class
//! is found without a search.

use std::collections::BTreeSet;

use super::key::Key;
use crate::block::Block;
use crate::cid::{Cid, Version};
use crate::limits::MAX_BLOCK_BYTES;

/// Largest size of a DAG that is taken for a single block, though its codec has links, in bytes.
///
/// Files of the old profile have leaves of 256 KiB and a wrapping; a larger one of dag-pb is seldom a leaf.
const MAX_LEAF_BYTES: u64 = 257 * 1024;

/// What blocks are taken for whose size nobody told, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guess {
    /// A block of which nothing is known.
    pub(super) unknown_bytes: u64,
    /// An inner node, of which the size of all below it is known.
    pub(super) inner_bytes: u64,
}

impl Guess {
    /// The usual chunk of a file, which is more than most inner nodes have.
    pub(super) const FIRST: Self = Self { unknown_bytes: 256 * 1024, inner_bytes: 256 * 1024 };
}

/// Way from the root to a part: one index for each block. Its order is the order of the walk.
pub(super) type Path = Vec<u32>;

/// One thing that stands in a block.
#[derive(Debug)]
pub(crate) enum Part<I, T> {
    /// To be emitted.
    Item(I),
    /// To be walked.
    Link(Link<T>),
    /// An item that was emitted.
    Taken,
}

impl<I, T> Part<I, T> {
    pub(super) fn is_link(&self) -> bool {
        matches!(self, Self::Link(_))
    }

    pub(super) fn take_item(&mut self) -> Option<I> {
        if self.is_link() {
            return None;
        }
        match std::mem::replace(self, Self::Taken) {
            Self::Item(item) => Some(item),
            Self::Link(_) | Self::Taken => None,
        }
    }
}

/// A link, and what the block that holds it knows of the one below.
#[derive(Debug, Clone)]
pub(crate) struct Link<T> {
    pub(super) key: Key,
    version: Version,
    /// Size claimed for the block and all below it, in bytes.
    below_bytes: Option<u64>,
    pub(super) tag: T,
}

/// What a block is taken for before it is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It brings content.
    Leaf,
    /// It brings more links.
    Inner,
}

impl<T> Link<T> {
    pub(crate) fn new(cid: &Cid, below_bytes: Option<u64>, tag: T) -> Self {
        Self { key: Key::of(cid), version: cid.version(), below_bytes, tag }
    }

    pub(super) fn cid(&self) -> Cid {
        self.key.cid(self.version)
    }

    /// The block under the CID that this link has for it.
    pub(super) fn address(&self, block: &Block) -> Block {
        if block.cid().version() == self.version {
            return block.clone();
        }
        block.clone().with_cid(self.cid()).expect("a key has one multihash")
    }

    pub(super) fn class(&self) -> Class {
        let is_small = self.below_bytes.is_some_and(|below_bytes| below_bytes <= MAX_LEAF_BYTES);
        if is_small || !self.key.may_link() || self.key.is_identity() { Class::Leaf } else { Class::Inner }
    }

    /// Length of the block, in bytes, as far as one can tell. Exact for raw leaves of an honest parent.
    pub(super) fn block_bytes(&self, guess: Guess) -> u64 {
        match (self.below_bytes, self.class()) {
            (None, _) => guess.unknown_bytes,
            (Some(below_bytes), Class::Leaf) => below_bytes.min(MAX_BLOCK_BYTES as u64),
            (Some(below_bytes), Class::Inner) => below_bytes.min(guess.inner_bytes),
        }
    }

    /// Content that the block may lead to, in bytes.
    pub(super) fn promised_bytes(&self) -> u64 {
        match self.class() {
            Class::Leaf => 0,
            Class::Inner => self.below_bytes.unwrap_or(Guess::FIRST.unknown_bytes),
        }
    }

    pub(super) fn has_known_size(&self) -> bool {
        self.below_bytes.is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FrameId(usize);

/// The parts of one block, and how far the walk is with them.
#[derive(Debug)]
struct Frame<I, T> {
    path: Path,
    parts: Vec<Part<I, T>>,
    /// The part to be emitted next.
    at: usize,
    next_leaf: usize,
    next_inner: usize,
}

impl<I, T> Frame<I, T> {
    /// First link of that class at `from` or behind it.
    fn seek(&self, class: Class, from: usize) -> usize {
        let is_wanted = |part: &Part<I, T>| matches!(part, Part::Link(link) if link.class() == class);
        self.parts[from..].iter().position(is_wanted).map_or(self.parts.len(), |offset| from + offset)
    }

    fn next(&self, class: Class) -> usize {
        match class {
            Class::Leaf => self.next_leaf,
            Class::Inner => self.next_inner,
        }
    }

    fn link(&self, index: usize) -> &Link<T> {
        match &self.parts[index] {
            Part::Link(link) => link,
            Part::Item(_) | Part::Taken => panic!("a position asked for must be a link, index={index}"),
        }
    }

    fn memory_bytes(&self) -> u64 {
        parts_bytes(&self.parts)
    }
}

/// Memory that the parts of a block take, in bytes.
pub(super) fn parts_bytes<I, T>(parts: &Vec<Part<I, T>>) -> u64 {
    (parts.capacity() * size_of::<Part<I, T>>()) as u64
}

/// The part of a frame that the walk has come to.
pub(super) enum Front<I> {
    Item(I),
    Link { index: usize, is_asked: bool },
    End,
}

/// All frames of a walk.
#[derive(Debug)]
pub(super) struct Frontier<I, T> {
    frames: Vec<Option<Frame<I, T>>>,
    free: Vec<FrameId>,
    /// Frames with a leaf that nobody asked for.
    leaves: BTreeSet<(Path, FrameId)>,
    /// Frames with an inner node that nobody asked for.
    inners: BTreeSet<(Path, FrameId)>,
    /// Leaves that nobody asked for.
    leaf_count: usize,
    leaf_bytes: u64,
    memory_bytes: u64,
}

impl<I, T> Frontier<I, T> {
    pub(super) fn new() -> Self {
        Self {
            frames: Vec::new(),
            free: Vec::new(),
            leaves: BTreeSet::new(),
            inners: BTreeSet::new(),
            leaf_count: 0,
            leaf_bytes: 0,
            memory_bytes: 0,
        }
    }

    /// Leaves that nobody asked for.
    pub(super) fn leaf_count(&self) -> usize {
        self.leaf_count
    }

    /// Their content, in bytes.
    pub(super) fn leaf_bytes(&self) -> u64 {
        self.leaf_bytes
    }

    /// Memory of all frames, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// True when there is nothing that nobody asked for.
    pub(super) fn is_asked_for(&self) -> bool {
        self.leaves.is_empty() && self.inners.is_empty()
    }

    pub(super) fn add(&mut self, path: Path, parts: Vec<Part<I, T>>) -> FrameId {
        let mut frame = Frame { path, parts, at: 0, next_leaf: 0, next_inner: 0 };
        frame.next_leaf = frame.seek(Class::Leaf, 0);
        frame.next_inner = frame.seek(Class::Inner, 0);
        for part in &frame.parts {
            if let Part::Link(link) = part
                && link.class() == Class::Leaf
            {
                self.leaf_count += 1;
                self.leaf_bytes += link.block_bytes(Guess::FIRST);
            }
        }
        self.memory_bytes += frame.memory_bytes();
        let id = self.free.pop().unwrap_or_else(|| {
            self.frames.push(None);
            FrameId(self.frames.len() - 1)
        });
        self.frames[id.0] = Some(frame);
        self.enlist(id);
        id
    }

    /// Lets go of a frame all of whose links were asked for.
    pub(super) fn remove(&mut self, id: FrameId) {
        let frame = self.frames[id.0].take().expect("a frame is removed once");
        debug_assert!(frame.next_leaf == frame.parts.len() && frame.next_inner == frame.parts.len());
        self.memory_bytes -= frame.memory_bytes();
        self.free.push(id);
    }

    /// Gives a frame another place in the order of the walk.
    pub(super) fn place(&mut self, id: FrameId, path: Path) {
        if self.frame(id).path == path {
            return;
        }
        for class in [Class::Leaf, Class::Inner] {
            self.delist(id, class);
        }
        self.frame_mut(id).path = path;
        self.enlist(id);
    }

    /// First link of that class in the order of the walk that nobody asked for.
    pub(super) fn first(&self, class: Class) -> Option<(FrameId, usize)> {
        let listed = match class {
            Class::Leaf => self.leaves.first(),
            Class::Inner => self.inners.first(),
        };
        listed.map(|(_, id)| (*id, self.frame(*id).next(class)))
    }

    /// Counts the next link of that class in a frame as asked for. True when it was the last of both classes.
    pub(super) fn advance(&mut self, id: FrameId, class: Class) -> bool {
        let frame = self.frame_mut(id);
        let index = frame.next(class);
        let next = frame.seek(class, index + 1);
        let is_last = next == frame.parts.len();
        let bytes = frame.link(index).block_bytes(Guess::FIRST);
        match class {
            Class::Leaf => {
                frame.next_leaf = next;
                self.leaf_count -= 1;
                self.leaf_bytes -= bytes;
            }
            Class::Inner => frame.next_inner = next,
        }
        if is_last {
            self.delist(id, class);
        }
        let frame = self.frame(id);
        frame.next_leaf == frame.parts.len() && frame.next_inner == frame.parts.len()
    }

    pub(super) fn link(&self, id: FrameId, index: usize) -> &Link<T> {
        self.frame(id).link(index)
    }

    /// Way to a part, for the frame of the block that it links.
    pub(super) fn path(&self, id: FrameId, index: usize) -> Path {
        let parent = &self.frame(id).path;
        let mut path = Vec::with_capacity(parent.len() + 1);
        path.extend_from_slice(parent);
        path.push(u32::try_from(index).expect("a block has fewer parts than bytes"));
        path
    }

    /// What the walk has come to in a frame; an item is taken and passed.
    pub(super) fn front(&mut self, id: FrameId) -> Front<I> {
        let frame = self.frame_mut(id);
        loop {
            let index = frame.at;
            let Some(part) = frame.parts.get_mut(index) else { return Front::End };
            if let Part::Link(link) = part {
                let class = link.class();
                return Front::Link { index, is_asked: index < frame.next(class) };
            }
            let item = part.take_item();
            frame.at += 1;
            if let Some(item) = item {
                return Front::Item(item);
            }
        }
    }

    /// The link that the walk has come to in a frame, if it is one that nobody asked for.
    pub(super) fn front_unasked(&self, id: FrameId) -> Option<(usize, Class)> {
        let frame = self.frame(id);
        let Part::Link(link) = frame.parts.get(frame.at)? else { return None };
        let class = link.class();
        (frame.at >= frame.next(class)).then_some((frame.at, class))
    }

    /// Goes past the link that the walk has come to.
    pub(super) fn pass(&mut self, id: FrameId) {
        self.frame_mut(id).at += 1;
    }

    fn enlist(&mut self, id: FrameId) {
        let frame = self.frame(id);
        let (len, path) = (frame.parts.len(), frame.path.clone());
        let (has_leaf, has_inner) = (frame.next_leaf < len, frame.next_inner < len);
        if has_leaf {
            self.leaves.insert((path.clone(), id));
        }
        if has_inner {
            self.inners.insert((path, id));
        }
    }

    fn delist(&mut self, id: FrameId, class: Class) {
        let entry = (self.frame(id).path.clone(), id);
        match class {
            Class::Leaf => self.leaves.remove(&entry),
            Class::Inner => self.inners.remove(&entry),
        };
    }

    fn frame(&self, id: FrameId) -> &Frame<I, T> {
        self.frames[id.0].as_ref().expect("a frame id is held as long as its frame")
    }

    fn frame_mut(&mut self, id: FrameId) -> &mut Frame<I, T> {
        self.frames[id.0].as_mut().expect("a frame id is held as long as its frame")
    }
}
