//! Walks: machines that read a DAG block by block, and say which blocks they need next.
//!
//! A [`Machine`] never waits and never fetches: its driver calls [`Machine::next`] and does what the [`Step`] says, with
//! blocks from a store, from peers or from a test. [`Walk`] is the plainest of them; `unixfs::read`, `unixfs::list`,
//! `resolve` and `car::select` have the same shape. The engine under most of them is `ahead`: read that first.

mod ahead;
mod frontier;
mod key;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod window;

use crate::block::Block;
use crate::cid::{Cid, DAG_PB, identity_content};
use crate::codec::dag_pb::PbNode;
use crate::codec::{self, DecodeError};
use crate::limits::{MAX_DAG_DEPTH, MAX_FRONTIER_BYTES};

pub(crate) use ahead::{Ahead, Link, Part, Visitor};
pub(crate) use key::{Key, Visited};

/// Window of a walk that is told no other, in bytes: what a line of 1 Gbit/s holds at a delay of half a second.
pub const DEFAULT_WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// Blocks that a walk asks for at a time when it is told no other number: what one peer keeps wants for.
pub const DEFAULT_MAX_WANTS: usize = crate::limits::MAX_WANTS_PER_KIN;

/// What the driver of a machine does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// Get these blocks, in any order but best in this one, and provide each; ask for the next step at once.
    ///
    /// No CID is in here twice, nor while it is on its way from an earlier step. Identity CIDs never are.
    Need(Vec<Cid>),
    /// Take this, and ask for the next step.
    Emit(T),
    /// Provide a block that was needed before asking for the next step.
    Pending,
    /// There is nothing left.
    Done,
}

/// A machine that reads a DAG.
pub trait Machine {
    /// What comes out.
    type Item;
    /// Why it can fail. A machine that has failed is of no further use.
    type Error: std::error::Error;

    /// What to do next.
    ///
    /// # Errors
    /// For blocks that are not what they must be, in the order in which they would have been emitted.
    fn next(&mut self) -> Result<Step<Self::Item>, Self::Error>;

    /// Takes a block that was needed, under a CID of either version. Blocks that nobody waits for are ignored.
    fn provide(&mut self, block: Block);
}

/// In which order a walk emits blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each block once, when it arrives. To fetch and to pin.
    ///
    /// The walk remembers every block that it asked for, in 38 to 76 bytes for each.
    Any,
    /// Depth first, in the order of the links. To read and to export.
    Dfs {
        /// Whether a block that is linked again is emitted again, with all below it. If not, the walk remembers every
        /// block that it emitted, in 38 to 76 bytes for each.
        duplicates: bool,
    },
}

/// How a walk asks and emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkOptions {
    /// Order of emission.
    pub order: Order,
    /// Blocks asked for and not emitted, in bytes; those that came early and wait for their turn count.
    ///
    /// The size of a block on its way is what its parent says, or a guess. Blocks that come larger than that are held up
    /// to twice the window, and beyond it asked for again when their turn comes.
    pub window_bytes: u64,
    /// Most blocks on their way. One more is asked for when it is the one that the emission waits for.
    pub max_wants: usize,
    /// Deepest block followed, in links from the root.
    pub max_depth: usize,
    /// Most memory for links that are known and not followed yet, in bytes.
    pub max_frontier_bytes: u64,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            order: Order::Dfs { duplicates: false },
            window_bytes: DEFAULT_WINDOW_BYTES,
            max_wants: DEFAULT_MAX_WANTS,
            max_depth: MAX_DAG_DEPTH,
            max_frontier_bytes: MAX_FRONTIER_BYTES as u64,
        }
    }
}

/// Why a walk cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// A block does not decode.
    #[error("block does not decode, cid={cid}: {source}")]
    Decode {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The DAG is deeper than the walk may follow.
    #[error("DAG too deep, cid={cid} max={max}")]
    TooDeep {
        /// The block whose links are too deep.
        cid: Cid,
        /// Links from the root, at most.
        max: usize,
    },
    /// The links known and not followed would take too much memory.
    #[error("DAG too wide, cid={cid} max_bytes={max_bytes}")]
    TooWide {
        /// The block whose links are too many.
        cid: Cid,
        /// Memory for links, at most.
        max_bytes: u64,
    },
}

/// All blocks of a DAG. Identity CIDs are followed but not emitted, since they are no blocks of their own.
pub struct Walk(Ahead<Blocks>);

impl Walk {
    /// A walk of everything under `root`, and the root itself.
    pub fn new(root: Cid, options: WalkOptions) -> Self {
        Self(Ahead::new(Blocks, &root, (), options))
    }

    /// Passes over a block that was needed: it is not to be had, or not wanted, and neither is what only it leads to.
    pub fn skip(&mut self, cid: &Cid) {
        self.0.skip(cid);
    }
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").finish_non_exhaustive()
    }
}

impl Machine for Walk {
    type Item = Block;
    type Error = WalkError;

    fn next(&mut self) -> Result<Step<Block>, WalkError> {
        Ok(self.0.next()?.map(|block| *block))
    }

    fn provide(&mut self, block: Block) {
        self.0.provide(&block);
    }
}

impl<T> Step<T> {
    /// The same step with another item.
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Self::Need(cids) => Step::Need(cids),
            Self::Emit(item) => Step::Emit(map(item)),
            Self::Pending => Step::Pending,
            Self::Done => Step::Done,
        }
    }
}

/// Emits every block, and follows every link.
struct Blocks;

impl Visitor for Blocks {
    // Boxed: the parts of a block are kept by the thousand, and nearly all are links.
    type Item = Box<Block>;
    type Tag = ();
    type Error = WalkError;

    fn visit(&self, block: &Block, (): &(), parts: &mut Vec<Part<Box<Block>, ()>>) -> Result<(), WalkError> {
        if identity_content(block.cid()).is_none() {
            parts.push(Part::Item(Box::new(block.clone())));
        }
        follow(block, |cid, below_bytes| parts.push(Part::Link(Link::new(cid, below_bytes, ()))))
    }
}

/// Calls `on_link` with every link of a block and, where it claims one, the size of all below.
pub(crate) fn follow(block: &Block, mut on_link: impl FnMut(&Cid, Option<u64>)) -> Result<(), WalkError> {
    let undecodable = |source| WalkError::Decode { cid: *block.cid(), source };
    if block.cid().codec() == DAG_PB {
        let node = PbNode::decode(block.data()).map_err(undecodable)?;
        node.links.iter().for_each(|link| on_link(&link.cid, link.tsize));
    } else {
        codec::links(block).map_err(undecodable)?.iter().for_each(|cid| on_link(cid, None));
    }
    Ok(())
}
