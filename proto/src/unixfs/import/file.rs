//! Files: nodes above leaves that come in order.

use bytes::Bytes;

use super::balanced::Balanced;
use super::trickle::Trickle;
use super::{Built, ImportError, ImportOptions, Layout, Leaf, leaf};
use crate::block::{Block, BlockError};
use crate::unixfs::Attributes;

/// Builds the DAG of one file from its leaves, which come in order.
///
/// Memory: [`ImportOptions::max_file_links`] references for each level of the tree.
#[derive(Debug, Clone)]
pub struct FileBuilder {
    options: ImportOptions,
    attributes: Attributes,
    /// The first leaf, while it may turn out to be the root and so have the attributes.
    first: Option<Leaf>,
    tree: Tree,
}

#[derive(Debug, Clone)]
enum Tree {
    Balanced(Balanced),
    Trickle(Trickle),
}

impl FileBuilder {
    /// A builder of one file. The options should have passed [`ImportOptions::check`].
    pub fn new(options: ImportOptions) -> Self {
        let tree = match options.layout {
            Layout::Balanced => Tree::Balanced(Balanced::default()),
            Layout::Trickle => Tree::Trickle(Trickle::default()),
        };
        Self { options, attributes: Attributes::default(), first: None, tree }
    }

    /// Gives the root these attributes. To be called before the first leaf; a root that is a raw block has none.
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Takes the next leaf; returns the blocks that are ready, children first: most often that leaf, and any nodes that are
    /// full.
    ///
    /// # Errors
    /// [`BlockError::TooLarge`] when so many links do not fit in a block.
    pub fn push(&mut self, leaf: Leaf) -> Result<Vec<Block>, BlockError> {
        let may_be_root = match &self.tree {
            Tree::Balanced(tree) => tree.is_empty() && self.first.is_none(),
            Tree::Trickle(_) => false,
        };
        if may_be_root && !self.attributes.is_empty() {
            self.first = Some(leaf);
            return Ok(Vec::new());
        }
        let mut blocks = Vec::new();
        for leaf in self.first.take().into_iter().chain([leaf]) {
            self.add(leaf, &mut blocks)?;
        }
        Ok(blocks)
    }

    fn add(&mut self, leaf: Leaf, blocks: &mut Vec<Block>) -> Result<(), BlockError> {
        let part = leaf.to_part();
        match &mut self.tree {
            // Here the empty file is a node without leaves.
            Tree::Trickle(_) if part.len_bytes == 0 => return Ok(()),
            Tree::Trickle(tree) => tree.push(&self.options, part, blocks)?,
            Tree::Balanced(tree) => tree.push(&self.options, part, blocks)?,
        }
        blocks.push(leaf.block);
        Ok(())
    }

    /// Ends the file. Without any leaf it is the empty file.
    ///
    /// # Errors
    /// [`ImportError::Block`].
    pub fn finish(mut self) -> Result<Built, ImportError> {
        let mut blocks = Vec::new();
        if let Some(only) = self.first.take() {
            let only = only.with_attributes(&self.options, self.attributes)?;
            self.add(only, &mut blocks)?;
        }
        let root = match self.tree {
            Tree::Trickle(tree) => Some(tree.finish(&self.options, self.attributes, &mut blocks)?),
            Tree::Balanced(tree) => tree.finish(&self.options, self.attributes, &mut blocks)?,
        };
        let root = match root {
            Some(root) => root,
            None => {
                let empty = leaf(&self.options, Bytes::new())?;
                let empty = empty.with_attributes(&self.options, self.attributes)?;
                let root = empty.to_part();
                blocks.push(empty.block);
                root
            }
        };
        Ok(Built { cid: root.cid, len_bytes: root.len_bytes, tsize: root.tsize, blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cid::Cid;
    use crate::unixfs::{Node, decode};

    fn narrow(max_file_links: usize) -> ImportOptions {
        ImportOptions { max_file_links, ..ImportOptions::default() }
    }

    /// Ten bytes that no other leaf has.
    fn leaf_of(options: &ImportOptions, index: u32) -> Leaf {
        leaf(options, format!("{index:010}").into()).unwrap()
    }

    #[test]
    fn nodes_come_out_once_another_leaf_comes() {
        let options = narrow(2);
        let mut builder = FileBuilder::new(options.clone());
        let counts: Vec<_> =
            (0..8).map(|index| builder.push(leaf_of(&options, index)).unwrap().len()).collect();
        // Each leaf, and the nodes that are full before it.
        assert_eq!(counts, [1, 1, 2, 1, 2, 1, 3, 1]);
        let built = builder.finish().unwrap();
        assert_eq!((built.len_bytes, built.blocks.len()), (80, 3));
    }

    #[test]
    fn a_tree_reads_back_as_its_leaves_in_order() {
        for (leaf_count, layout) in
            (1..=120_u32).flat_map(|count| [(count, Layout::Balanced), (count, Layout::Trickle)])
        {
            let options = ImportOptions { layout, ..narrow(3) };
            let mut builder = FileBuilder::new(options.clone());
            let mut blocks: Vec<Block> =
                (0..leaf_count).flat_map(|index| builder.push(leaf_of(&options, index)).unwrap()).collect();
            let built = builder.finish().unwrap();
            blocks.extend(built.blocks);
            assert_eq!(built.len_bytes, u64::from(leaf_count) * 10);
            let all_bytes: usize = blocks.iter().map(|block| block.data().len()).sum();
            assert_eq!(built.tsize, all_bytes as u64);

            let mut leaves = Vec::new();
            let mut pending = vec![built.cid];
            while let Some(cid) = pending.pop() {
                let block = blocks.iter().find(|block| *block.cid() == cid).unwrap();
                match decode(block) {
                    Ok(Node::File(file)) => pending.extend(file.children.iter().rev().map(|child| child.cid)),
                    Ok(Node::Raw(_)) => leaves.push(cid),
                    other => panic!("{other:?}"),
                }
            }
            let expected: Vec<Cid> =
                (0..leaf_count).map(|index| *leaf_of(&options, index).block.cid()).collect();
            assert_eq!(leaves, expected, "{layout:?} {leaf_count}");
        }
    }

    #[test]
    fn a_node_too_large_for_a_block_is_an_error() {
        // 43 bytes for each child are 2.2 MB.
        let options = narrow(50_000);
        let mut builder = FileBuilder::new(options.clone());
        let leaf = leaf_of(&options, 0);
        for _ in 0..50_000 {
            assert_eq!(builder.push(leaf.clone()).unwrap().len(), 1);
        }
        assert!(matches!(builder.push(leaf), Err(BlockError::TooLarge { .. })));
    }
}
