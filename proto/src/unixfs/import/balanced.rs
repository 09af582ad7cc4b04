//! The balanced layout: a tree that is filled from the left, all leaves at one depth.

use super::{ImportOptions, Part, parent};
use crate::block::{Block, BlockError};
use crate::unixfs::Attributes;

/// Children that wait for their parent, leaves first. A level gets its parent when the next child comes, since the last
/// parent is the root, and only it has attributes.
#[derive(Debug, Clone, Default)]
pub(super) struct Balanced {
    levels: Vec<Vec<Part>>,
}

impl Balanced {
    /// Whether no leaf has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    pub(super) fn push(
        &mut self,
        options: &ImportOptions,
        leaf: Part,
        blocks: &mut Vec<Block>,
    ) -> Result<(), BlockError> {
        self.add(options, 0, leaf, blocks)
    }

    /// Ends the file and gives its root; `None` without any leaf. A root that is a leaf comes as it is.
    pub(super) fn finish(
        mut self,
        options: &ImportOptions,
        attributes: Attributes,
        blocks: &mut Vec<Block>,
    ) -> Result<Option<Part>, BlockError> {
        let mut depth = 0;
        while depth + 1 < self.levels.len() {
            let level = std::mem::take(&mut self.levels[depth]);
            depth += 1;
            // It may be full, and then the tree grows by a level.
            let node = parent(options, &level, Attributes::default(), blocks)?;
            self.add(options, depth, node, blocks)?;
        }
        match self.levels.pop().as_deref() {
            None => Ok(None),
            Some([root]) => Ok(Some(*root)),
            Some(children) => parent(options, children, attributes, blocks).map(Some),
        }
    }

    fn add(
        &mut self,
        options: &ImportOptions,
        from_depth: usize,
        child: Part,
        blocks: &mut Vec<Block>,
    ) -> Result<(), BlockError> {
        // A node of one link would need a parent of one link, and so on.
        let width = options.max_file_links.max(2);
        let mut child = child;
        for depth in from_depth.. {
            if self.levels.len() == depth {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[depth];
            if level.len() < width {
                level.push(child);
                break;
            }
            let node = parent(options, level, Attributes::default(), blocks)?;
            level.clear();
            level.push(std::mem::replace(&mut child, node));
        }
        Ok(())
    }
}
