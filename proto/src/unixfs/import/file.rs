//! The balanced layout: a tree that is filled from the left, all leaves at one depth.

use bytes::Bytes;

use super::{Built, ImportError, ImportOptions, LeafRef, leaf, put_message};
use crate::block::{Block, BlockError};
use crate::codec::dag_pb::{link_len, put_link, write_cid};
use crate::codec::wire::bytes_field_len;
use crate::unixfs::{Data, Kind};

/// Builds the nodes above the leaves of one file, which come in order.
///
/// Memory: [`ImportOptions::max_file_links`] references for each level of the tree.
#[derive(Debug, Clone)]
pub struct FileBuilder {
    options: ImportOptions,
    /// Children that wait for their parent, leaves first; no level is ever full.
    levels: Vec<Vec<LeafRef>>,
}

impl FileBuilder {
    /// A builder of one file. The options should have passed [`ImportOptions::check`].
    pub fn new(options: ImportOptions) -> Self {
        Self { options, levels: Vec::new() }
    }

    /// Takes the next leaf; returns the nodes that it completes, children first.
    ///
    /// # Errors
    /// [`BlockError::TooLarge`] when so many links do not fit in a block.
    pub fn push(&mut self, leaf: LeafRef) -> Result<Vec<Block>, BlockError> {
        // A node of one link would need a parent of one link, and so on.
        let width = self.options.max_file_links.max(2);
        let mut blocks = Vec::new();
        let mut child = leaf;
        for depth in 0.. {
            if self.levels.len() == depth {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[depth];
            level.push(child);
            if level.len() < width {
                break;
            }
            child = parent(&self.options, level, &mut blocks)?;
            level.clear();
        }
        Ok(blocks)
    }

    /// Ends the file. Without any leaf it is the empty file, which is one empty leaf.
    ///
    /// # Errors
    /// [`ImportError::Block`].
    pub fn finish(self) -> Result<Built, ImportError> {
        let mut blocks = Vec::new();
        let top = self.levels.len().saturating_sub(1);
        let mut last: Option<LeafRef> = None;
        for (depth, mut level) in self.levels.into_iter().enumerate() {
            level.extend(last);
            last = match level[..] {
                [] => None,
                // Only the root goes without a parent: all leaves stay at one depth.
                [root] if depth == top => Some(root),
                _ => Some(parent(&self.options, &level, &mut blocks)?),
            };
        }
        let root = match last {
            Some(root) => root,
            None => {
                let empty = leaf(&self.options, Bytes::new())?;
                let root = empty.to_ref();
                blocks.push(empty.block);
                root
            }
        };
        Ok(Built { cid: root.cid, len_bytes: root.len_bytes, tsize: root.tsize, blocks })
    }
}

/// Makes the node above `children`.
fn parent(
    options: &ImportOptions,
    children: &[LeafRef],
    blocks: &mut Vec<Block>,
) -> Result<LeafRef, BlockError> {
    let mut message = Data::new(Kind::File);
    message.blocksizes = children.iter().map(|child| child.len_bytes).collect();
    let len_bytes = message.blocksizes.iter().sum();
    message.filesize = Some(len_bytes);
    let links_len: usize =
        children.iter().map(|child| link_len(child.cid.encoded_len(), Some(0), Some(child.tsize))).sum();
    let mut node = Vec::with_capacity(links_len + bytes_field_len(message.encoded_len()));
    let mut cid = Vec::new();
    for child in children {
        write_cid(&mut cid, &child.cid);
        put_link(&mut node, &cid, Some([&[], &[]]), Some(child.tsize));
    }
    put_message(&mut node, &message);
    let block = options.node_block(node)?;
    let tsize = block.data().len() as u64 + children.iter().map(|child| child.tsize).sum::<u64>();
    let cid = *block.cid();
    blocks.push(block);
    Ok(LeafRef { cid, len_bytes, tsize })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cid::{Cid, Multihash, RAW};
    use crate::unixfs::{Node, decode};

    fn leaf_ref(cid_of: u8) -> LeafRef {
        let cid = Cid::new_v1(RAW, Multihash::wrap(0, &[cid_of]).unwrap());
        LeafRef { cid, len_bytes: 10, tsize: 10 }
    }

    #[test]
    fn nodes_come_out_as_soon_as_they_are_full_and_children_first() {
        let mut builder = FileBuilder::new(ImportOptions { max_file_links: 2, ..ImportOptions::default() });
        let counts: Vec<_> = (0..8).map(|index| builder.push(leaf_ref(index)).unwrap().len()).collect();
        assert_eq!(counts, [0, 1, 0, 2, 0, 1, 0, 3]);
        let built = builder.finish().unwrap();
        assert_eq!((built.len_bytes, built.blocks.len()), (80, 0));
    }

    #[test]
    fn a_tree_reads_back_as_its_leaves_in_order() {
        for leaf_count in 1..=40_u8 {
            let mut builder =
                FileBuilder::new(ImportOptions { max_file_links: 3, ..ImportOptions::default() });
            let mut blocks: Vec<Block> =
                (0..leaf_count).flat_map(|index| builder.push(leaf_ref(index)).unwrap()).collect();
            let built = builder.finish().unwrap();
            blocks.extend(built.blocks);
            assert_eq!(built.len_bytes, u64::from(leaf_count) * 10);
            let node_bytes: usize = blocks.iter().map(|block| block.data().len()).sum();
            assert_eq!(built.tsize, built.len_bytes + node_bytes as u64);

            let mut leaves = Vec::new();
            let mut pending = vec![built.cid];
            while let Some(cid) = pending.pop() {
                match blocks.iter().find(|block| *block.cid() == cid) {
                    Some(block) => {
                        let Ok(Node::File(file)) = decode(block) else { panic!("not a file") };
                        pending.extend(file.children.iter().rev().map(|child| child.cid));
                    }
                    None => leaves.push(cid),
                }
            }
            assert_eq!(leaves, (0..leaf_count).map(|index| leaf_ref(index).cid).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_node_too_large_for_a_block_is_an_error() {
        // 15 bytes for each child are 3 MB.
        let options = ImportOptions { max_file_links: 200_000, ..ImportOptions::default() };
        let mut builder = FileBuilder::new(options);
        for _ in 1..200_000 {
            assert_eq!(builder.push(leaf_ref(0)), Ok(vec![]));
        }
        assert!(matches!(builder.push(leaf_ref(0)), Err(BlockError::TooLarge { .. })));
    }
}
