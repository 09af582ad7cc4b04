//! Reading edges and pins: what is kept, by what, and the listings.

use std::collections::HashSet;
use std::sync::Arc;

use cairn_proto::cid::{Cid, Multihash};

use super::layout::{self, BlockId, DagNode, Edge, PinKind, cf, pin_key, pin_prefix};
use super::lease::LeaseNumber;
use super::{Shared, Store, bad_row, rows};
use crate::error::Result;

/// Recursive pins on one block that are looked at (one for each codec and version of its CID, so few).
const MAX_PINS_OF_BLOCK: usize = 256;

/// A row of `pins`.
#[derive(Debug, Clone)]
pub(crate) struct StoredPin {
    pub(crate) id: BlockId,
    pub(crate) kind: PinKind,
    pub(crate) cid: Cid,
    pub(crate) name: Option<String>,
}

impl Store {
    /// All pins, in the order of their blocks; see [`Store::blocks`] for what a listing promises.
    pub(crate) fn stored_pins(&self) -> impl Iterator<Item = Result<StoredPin>> + Send + use<> {
        rows::paged(Arc::clone(self.shared()), cf::PINS, Vec::new()).map(|row| {
            let (key, name) = row?;
            stored_pin(&key, &name)
        })
    }

    /// Which of these nodes are kept with all that is below them. Blocks its thread.
    pub(crate) fn are_kept(&self, cids: &[Cid]) -> Result<Vec<bool>> {
        let shared = self.shared();
        let ids = shared.ids_of(&cids.iter().map(|cid| *cid.hash()).collect::<Vec<_>>())?;
        let kept = |(cid, id): (&Cid, Option<BlockId>)| match id {
            Some(id) => shared.is_node_kept(DagNode { id, codec: cid.codec() }),
            None => Ok(false),
        };
        cids.iter().zip(ids).map(kept).collect()
    }

    /// All edges, those to the same node one behind the other.
    pub(crate) fn edges(&self) -> impl Iterator<Item = Result<Edge>> + Send + use<> {
        rows::paged(Arc::clone(self.shared()), cf::EDGES, Vec::new()).map(|row| {
            let (key, value) = row?;
            Edge::decode(&key, &value).ok_or_else(bad_row)
        })
    }
}

impl Shared {
    /// Whether a pin or an edge keeps a block.
    pub(crate) fn is_kept(&self, id: BlockId) -> Result<bool> {
        Ok(self.db.has_prefix(cf::EDGES, &id.to_be_bytes())? || self.is_pinned(id)?)
    }

    /// Whether there is a pin on a block itself.
    pub(crate) fn is_pinned(&self, id: BlockId) -> Result<bool> {
        self.db.has_prefix(cf::PINS, &id.to_be_bytes())
    }

    /// Whether a recursive pin or an edge keeps a node, and so all that is below it.
    pub(crate) fn is_node_kept(&self, node: DagNode) -> Result<bool> {
        Ok(self.db.has_prefix(cf::EDGES, &node.edge_prefix())? || self.recursive_pin(node)?.is_some())
    }

    /// The same as if some edges were gone already.
    pub(crate) fn is_node_kept_without(&self, node: DagNode, gone: &HashSet<Vec<u8>>) -> Result<bool> {
        let mut rows = self.db.rows_with(cf::EDGES, &node.edge_prefix());
        while let Some((key, _)) = rows.next()? {
            if !gone.contains(key) {
                return Ok(true);
            }
        }
        Ok(self.recursive_pin(node)?.is_some())
    }

    /// CID of a recursive pin on a node.
    pub(crate) fn recursive_pin(&self, node: DagNode) -> Result<Option<Cid>> {
        let prefix = pin_prefix(node.id, PinKind::Recursive);
        let rows = self.db.page(cf::PINS, &prefix, None, MAX_PINS_OF_BLOCK)?;
        let cids = rows.iter().filter_map(|(key, _)| layout::decode_pin_key(key)).map(|(_, _, cid)| cid);
        Ok(cids.into_iter().find(|cid| cid.codec() == node.codec))
    }

    /// Name of a pin, `None` when there is no such pin.
    pub(crate) fn pin_name(&self, id: BlockId, kind: PinKind, cid: &Cid) -> Result<Option<Option<String>>> {
        self.db.get(cf::PINS, &pin_key(id, kind, cid))?.map(|name| pin_name(&name)).transpose()
    }

    /// Nodes that keep a node by an edge.
    pub(crate) fn parents(&self, node: DagNode) -> Result<Vec<DagNode>> {
        let mut parents = Vec::new();
        let mut rows = self.db.rows_with(cf::EDGES, &node.edge_prefix());
        while let Some((key, value)) = rows.next()? {
            parents.push(Edge::decode(key, value).ok_or_else(bad_row)?.parent);
        }
        Ok(parents)
    }

    /// Id of a block, damaged or not.
    pub(crate) fn id_of(&self, multihash: &Multihash) -> Result<Option<BlockId>> {
        Ok(self.ids_of(&[*multihash])?.pop().flatten())
    }

    /// Ids of blocks, damaged or not.
    pub(crate) fn ids_of(&self, multihashes: &[Multihash]) -> Result<Vec<Option<BlockId>>> {
        let keys: Vec<_> = multihashes.iter().map(Multihash::to_bytes).collect();
        let pending: Vec<_> = keys.iter().map(|key| self.pending.get(key).map(|row| row.id)).collect();
        let entries = self.entries(&keys)?.into_iter().map(|entry| entry.map(|entry| entry.id));
        Ok(pending.into_iter().zip(entries).map(|(pending, stored)| pending.or(stored)).collect())
    }

    /// Puts blocks under a lease by id.
    pub(crate) fn hold(&self, lease: LeaseNumber, ids: impl IntoIterator<Item = BlockId>) {
        self.leases.touch(lease, ids);
    }
}

/// Reads a row of `pins`.
pub(super) fn stored_pin(key: &[u8], name: &[u8]) -> Result<StoredPin> {
    let (id, kind, cid) = layout::decode_pin_key(key).ok_or_else(bad_row)?;
    Ok(StoredPin { id, kind, cid, name: pin_name(name)? })
}

fn pin_name(row: &[u8]) -> Result<Option<String>> {
    let name = String::from_utf8(row.to_vec()).map_err(|_| bad_row())?;
    Ok(Some(name).filter(|name| !name.is_empty()))
}
