//! What peers are served: the store, less what the operator forbids.

use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, Multihash, RAW};

use crate::denylists::Denylists;
use crate::exchange::ports;
use crate::store::Store;

/// Blocks for the exchange to give.
#[derive(Debug, Clone)]
pub struct Served {
    store: Store,
    denylists: Denylists,
}

impl Served {
    /// The blocks of `store` that `denylists` do not forbid.
    pub fn new(store: Store, denylists: Denylists) -> Self {
        Self { store, denylists }
    }

    /// No rule depends on the codec of a CID.
    pub(crate) fn is_allowed(&self, hash: &Multihash) -> bool {
        self.denylists.check_block(&Cid::new_v1(RAW, *hash)).is_ok()
    }
}

impl ports::Blocks for Served {
    fn lengths(&self, blocks: &[Multihash]) -> Vec<Option<usize>> {
        let lengths = ports::Blocks::lengths(&self.store, blocks);
        let allowed = |(hash, length): (_, Option<usize>)| length.filter(|_| self.is_allowed(hash));
        blocks.iter().zip(lengths).map(allowed).collect()
    }

    fn read(&self, cids: &[Cid]) -> Vec<Option<Block>> {
        let blocks = ports::Blocks::read(&self.store, cids);
        let allowed = |block: &Block| self.denylists.check_block(block.cid()).is_ok();
        blocks.into_iter().map(|block| block.filter(allowed)).collect()
    }
}
