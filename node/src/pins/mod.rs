//! Pins: which DAGs stay, and why a block does.
//!
//! Invariant: when a recursive pin is there, so is an edge for every link below it. Knows CIDs and links, nothing of
//! files or paths. The rows and their rules are in `docs/design/0002-store-layout.md`.

mod release;
#[cfg(test)]
mod tests;
mod verify;
mod walk;

use std::collections::HashSet;

use cairn_proto::cid::{Cid, DAG_PB, IDENTITY, Multihash, SHA2_256, Version};
use cairn_proto::limits::MAX_PIN_NAME_BYTES;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::store::{Attached, Chunk, DagNode, Edge, Lease, NO_BLOCK, NewPin, Store, StoredPin};

pub use crate::store::PinKind;
pub use verify::PinCheck;

/// The pins of a store. Clones share it.
#[derive(Debug, Clone)]
pub struct Pins {
    store: Store,
}

/// A pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// What is pinned.
    pub cid: Cid,
    /// The DAG or the one block.
    pub kind: PinKind,
    /// Name that a person gave it.
    pub name: Option<String>,
}

/// Which pins a listing shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinFilter {
    /// Only of this kind.
    pub kind: Option<PinKind>,
    /// Only with this in the name.
    pub name_part: Option<String>,
}

impl Pins {
    /// The pins of that store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Pins a DAG or a block that is in the store; durable on return. Only what nothing keeps yet is walked.
    ///
    /// `lease` is the one under which the blocks were stored: they have to stay until the walk has met them.
    /// `progress` is told how many blocks are held by the walk so far, and their bytes. A name of `None` leaves the name
    /// of an existing pin as it is. A recursive pin replaces a direct one.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] names the first block that is missing. [`crate::Kind::Invalid`] for a name that is too
    /// long, a block that does not decode, a DAG that is too deep, and for a direct pin where there is a recursive one.
    ///
    /// # Cancellation
    /// Dropped, the walk stops soon; what it wrote is released by the next [`Self::recover`]. The pin may exist if its
    /// last batch was under way.
    pub async fn pin(
        &self,
        cid: Cid,
        kind: PinKind,
        name: Option<String>,
        _lease: &Lease,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<()> {
        if name.as_ref().is_some_and(|name| name.len() > MAX_PIN_NAME_BYTES) {
            return Err(Error::invalid(format!("pin name too long, max={MAX_PIN_NAME_BYTES}")));
        }
        let store = self.store.clone();
        let stop = CancellationToken::new();
        let _stop_when_dropped = stop.clone().drop_guard();
        let walk = move || walk::pin(&store, cid, kind, name, &stop, progress);
        tokio::task::spawn_blocking(walk).await.map_err(panicked)?
    }

    /// Takes a pin away and releases what only it kept: its cost is what it releases. Durable on return.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when there is no such pin; what the store says.
    ///
    /// # Cancellation
    /// Dropped once it began, the pin is gone and the next [`Self::recover`] releases the rest.
    pub async fn unpin(&self, cid: Cid, kind: PinKind) -> Result<()> {
        let store = self.store.clone();
        let work = move || release::unpin(&store, &cid, kind);
        tokio::task::spawn_blocking(work).await.map_err(panicked)?
    }

    /// Finishes what a crash or a dropped call left: releases nodes that no pin reached. A collection begins with it.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancellation
    /// Dropped, it goes on in the background.
    pub async fn recover(&self) -> Result<()> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || release::recover(&store)).await.map_err(panicked)?
    }

    /// The pin on a CID, the recursive one first. Blocks its thread.
    ///
    /// # Errors
    /// What the store says.
    pub fn get(&self, cid: &Cid) -> Result<Option<Pin>> {
        let Some(id) = self.id_of(cid.hash())? else { return Ok(None) };
        for kind in [PinKind::Recursive, PinKind::Direct] {
            if let Some(name) = self.store.shared().pin_name(id, kind, cid)? {
                return Ok(Some(Pin { cid: *cid, kind, name }));
            }
        }
        Ok(None)
    }

    /// Pins in the order in which their roots arrived. Blocks its thread; memory is one page.
    ///
    /// It holds no snapshot: a pin that is there all the time is listed once, one that comes or goes may be.
    pub fn list(&self, filter: PinFilter) -> impl Iterator<Item = Result<Pin>> + Send + use<> {
        let fits = move |pin: &Pin| {
            filter.kind.is_none_or(|kind| kind == pin.kind)
                && filter
                    .name_part
                    .as_ref()
                    .is_none_or(|part| pin.name.as_ref().is_some_and(|n| n.contains(part)))
        };
        let pins = self.store.stored_pins().map(|pin| {
            let StoredPin { cid, kind, name, .. } = pin?;
            Ok(Pin { cid, kind, name })
        });
        pins.filter(move |pin| pin.as_ref().map_or(true, &fits))
    }

    /// CIDs that only recursive pins above them keep, each once. Blocks its thread; memory is one page.
    pub fn list_indirect(&self) -> impl Iterator<Item = Result<Cid>> + Send + use<> {
        let pins = self.clone();
        let mut last: Option<DagNode> = None;
        let first_edges = self.store.edges().filter(move |edge| match edge {
            Ok(edge) => last.replace(edge.child) != Some(edge.child),
            Err(_) => true,
        });
        first_edges.filter_map(move |edge| edge.and_then(|edge| pins.indirect_cid(&edge)).transpose())
    }

    /// Root of a recursive pin that keeps a CID from above, `None` when there is none. Climbs; blocks its thread.
    ///
    /// # Errors
    /// What the store says.
    pub fn indirect(&self, cid: &Cid) -> Result<Option<Cid>> {
        let Some(id) = self.id_of(cid.hash())? else { return Ok(None) };
        let shared = self.store.shared();
        let mut seen = HashSet::new();
        let mut climb = shared.parents(DagNode { id, codec: cid.codec() })?;
        while let Some(node) = climb.pop() {
            if let Some(root) = shared.recursive_pin(node)? {
                return Ok(Some(root));
            }
            if seen.insert(node) {
                climb.extend(shared.parents(node)?);
            }
        }
        Ok(None)
    }

    fn id_of(&self, multihash: &Multihash) -> Result<Option<u64>> {
        match multihash.code() {
            IDENTITY => Ok(Some(NO_BLOCK)),
            _ => self.store.shared().id_of(multihash),
        }
    }

    fn indirect_cid(&self, edge: &Edge) -> Result<Option<Cid>> {
        let shared = self.store.shared();
        if shared.is_pinned(edge.child.id)? {
            return Ok(None);
        }
        Ok(shared
            .multihash_of(edge.child.id)?
            .map(|hash| node_cid(edge.child.codec, edge.child_version, hash)))
    }
}

/// CID of a node under the version by which it was linked.
fn node_cid(codec: u64, version: Version, multihash: Multihash) -> Cid {
    let is_v0 = version == Version::V0 && codec == DAG_PB && multihash.code() == SHA2_256;
    if is_v0 && let Ok(cid) = Cid::new_v0(multihash) {
        return cid;
    }
    Cid::new_v1(codec, multihash)
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::internal("work on pins stopped").with_cause(error)
}
