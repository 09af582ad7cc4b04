//! The trickle layout: each node has leaves first, then subtrees that grow deeper, four of each depth.
//!
//! Source: boxo `ipld/unixfs/importer/trickle`.

use super::{ImportOptions, Part, parent};
use crate::block::{Block, BlockError};
use crate::unixfs::Attributes;

/// Subtrees of one depth before the next ones are deeper.
const SUBTREES_PER_DEPTH: usize = 4;

/// The nodes that are being filled, from the root down.
#[derive(Debug, Clone)]
pub(super) struct Trickle {
    open: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    children: Vec<Part>,
    subtree_count: usize,
    /// Subtrees that it may have; no bound for the root.
    max_subtree_count: usize,
}

impl Node {
    /// A subtree of that depth, 1 for leaves only.
    fn of_depth(depth: usize) -> Self {
        let max_subtree_count = (depth - 1) * SUBTREES_PER_DEPTH;
        Self { children: Vec::new(), subtree_count: 0, max_subtree_count }
    }
}

impl Default for Trickle {
    fn default() -> Self {
        let root = Node { children: Vec::new(), subtree_count: 0, max_subtree_count: usize::MAX };
        Self { open: vec![root] }
    }
}

impl Trickle {
    pub(super) fn push(
        &mut self,
        options: &ImportOptions,
        leaf: Part,
        blocks: &mut Vec<Block>,
    ) -> Result<(), BlockError> {
        loop {
            let last = self.open.last_mut().expect("the root stays open");
            if last.subtree_count == 0 && last.children.len() < options.max_file_links {
                last.children.push(leaf);
                return Ok(());
            }
            if last.subtree_count < last.max_subtree_count {
                let depth = last.subtree_count / SUBTREES_PER_DEPTH + 1;
                last.subtree_count += 1;
                self.open.push(Node::of_depth(depth));
            } else {
                self.close_last(options, blocks)?;
            }
        }
    }

    /// Ends the file and gives its root.
    pub(super) fn finish(
        mut self,
        options: &ImportOptions,
        attributes: Attributes,
        blocks: &mut Vec<Block>,
    ) -> Result<Part, BlockError> {
        while self.open.len() > 1 {
            self.close_last(options, blocks)?;
        }
        parent(options, &self.open[0].children, attributes, blocks)
    }

    /// Makes the node at the end, which is not the root, and hands it to the one above.
    fn close_last(&mut self, options: &ImportOptions, blocks: &mut Vec<Block>) -> Result<(), BlockError> {
        let node = self.open.pop().expect("a node below the root is open");
        let part = parent(options, &node.children, Attributes::default(), blocks)?;
        let above = self.open.last_mut().expect("the root stays open");
        above.children.push(part);
        Ok(())
    }
}
