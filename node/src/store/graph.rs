//! Edges and pins: the changes that the committer makes to them, and who asks for which.
//!
//! Invariant, between any two batches: a node that an edge or a recursive pin keeps has all its own edges. So a walk
//! that pins writes the edges of a node before anything points to it (children first), and a release takes the edges of
//! a node away only when nothing points to it any more, in one batch.
//! What is neither is written down in a row `release/` of `meta`: nodes that have edges and may be kept by nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_proto::cid::Cid;

use super::committer::{Committer, Reply};
use super::database::Batch;
use super::layout::{self, BlockId, DagNode, Edge, PinKind, cf, meta, numbered, pin_key};
use crate::error::{Error, Result};

/// A number for a walk or a release, and for its row in `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Work(pub(crate) u64);

/// Changes to edges and pins.
pub(crate) enum GraphRequest {
    Attach { chunk: Chunk, reply: Reply<Attached> },
    Unpin { id: BlockId, kind: PinKind, cid: Cid, work: Work, reply: Reply<()> },
    Release { step: ReleaseStep, reply: Reply<Vec<DagNode>> },
}

/// What a pinning walk wants written next.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) work: Work,
    pub(crate) edges: Vec<Edge>,
    /// Nodes that were kept already when the walk met them, so that it did not descend.
    pub(crate) relied: Vec<DagNode>,
    /// Nodes that may have edges now and that nothing keeps yet.
    pub(crate) open: Vec<DagNode>,
    /// The pin, with the last chunk.
    pub(crate) pin: Option<NewPin>,
}

/// A pin to be written.
#[derive(Debug, Clone)]
pub(crate) struct NewPin {
    pub(crate) id: BlockId,
    pub(crate) kind: PinKind,
    pub(crate) cid: Cid,
    pub(crate) name: Option<String>,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attached {
    Written,
    /// A node that the walk relied on is not kept any more: nothing was written, walk again.
    Lost,
}

/// Takes the edges of one node away if nothing keeps it.
#[derive(Debug)]
pub(crate) struct ReleaseStep {
    pub(crate) work: Work,
    pub(crate) node: DagNode,
    pub(crate) edges: Vec<Edge>,
    /// Nodes that are still to be looked at after this one.
    pub(crate) rest: Vec<DagNode>,
}

impl Committer {
    pub(crate) fn graph(&mut self, request: GraphRequest) {
        match request {
            GraphRequest::Attach { chunk, reply } => match self.attach(chunk) {
                Ok(Attached::Written) => self.answer_when_durable(reply, Attached::Written),
                other => drop(reply.send(other)),
            },
            GraphRequest::Unpin { id, kind, cid, work, reply } => {
                drop(reply.send(self.unpin(id, kind, &cid, work)))
            }
            GraphRequest::Release { step, reply } => drop(reply.send(self.release(step))),
        }
    }

    fn attach(&mut self, chunk: Chunk) -> Result<Attached> {
        // The blocks come before the edges that name them.
        self.write_group()?;
        let shared = Arc::clone(&self.shared);
        for node in &chunk.relied {
            if !shared.is_node_kept(*node)? {
                return Ok(Attached::Lost);
            }
        }
        let mut batch = shared.db.batch();
        for edge in &chunk.edges {
            batch.put(cf::EDGES, edge.key(), edge.value());
        }
        let release = numbered(meta::RELEASE, chunk.work.0);
        let mut pin_added = 0;
        match &chunk.pin {
            Some(pin) => {
                batch.delete(cf::META, release);
                pin_added = self.put_pin(&mut batch, pin)?;
            }
            None => batch.put(cf::META, release, DagNode::encode_list(chunk.open.iter().copied())),
        }
        shared.open_nodes(chunk.work, chunk.open);
        self.write(batch, |stat| stat.pin_count = stat.pin_count.wrapping_add_signed(pin_added))?;
        Ok(Attached::Written)
    }

    /// Adds the row of a pin to a batch, and returns by how much the number of pins changes.
    fn put_pin(&self, batch: &mut Batch<'_>, pin: &NewPin) -> Result<i64> {
        let db = &self.shared.db;
        let (recursive, direct) =
            (pin_key(pin.id, PinKind::Recursive, &pin.cid), pin_key(pin.id, PinKind::Direct, &pin.cid));
        let is_recursive = db.get(cf::PINS, &recursive)?.is_some();
        let is_direct = db.get(cf::PINS, &direct)?.is_some();
        let (key, exists) = match pin.kind {
            PinKind::Recursive => (recursive, is_recursive),
            PinKind::Direct if is_recursive => {
                return Err(Error::invalid(format!("already pinned recursively, cid={}", pin.cid)));
            }
            PinKind::Direct => (direct.clone(), is_direct),
        };
        if pin.name.is_some() || !exists {
            batch.put(cf::PINS, key, pin.name.as_deref().unwrap_or_default());
        }
        let replaced = pin.kind == PinKind::Recursive && is_direct;
        if replaced {
            batch.delete(cf::PINS, direct);
        }
        Ok(i64::from(!exists) - i64::from(replaced))
    }

    /// Takes a pin away. What it kept is released by whoever asked, or after a crash by [`crate::pins::Pins::recover`].
    fn unpin(&mut self, id: BlockId, kind: PinKind, cid: &Cid, work: Work) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let key = pin_key(id, kind, cid);
        if shared.db.get(cf::PINS, &key)?.is_none() {
            return Err(Error::not_found(format!("not pinned, cid={cid}")));
        }
        let mut batch = shared.db.batch();
        batch.delete(cf::PINS, key);
        if kind == PinKind::Recursive {
            let root = DagNode { id, codec: cid.codec() };
            batch.put(cf::META, numbered(meta::RELEASE, work.0), DagNode::encode_list([root]));
        }
        self.write(batch, |stat| stat.pin_count -= 1)?;
        shared.unpinned_count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the children that nothing keeps any more and that may have edges of their own.
    fn release(&mut self, step: ReleaseStep) -> Result<Vec<DagNode>> {
        let shared = Arc::clone(&self.shared);
        let mut batch = shared.db.batch();
        let mut orphans = Vec::new();
        if !shared.is_node_kept(step.node)? && !shared.is_open(step.node) {
            let gone: HashSet<_> = step.edges.iter().map(Edge::key).collect();
            for edge in &step.edges {
                batch.delete(cf::EDGES, edge.key());
                if layout::has_links(edge.child.codec) && !shared.is_node_kept_without(edge.child, &gone)? {
                    orphans.push(edge.child);
                }
            }
        }
        let key = numbered(meta::RELEASE, step.work.0);
        let left = step.rest.iter().chain(&orphans).copied();
        match DagNode::encode_list(left) {
            list if list.is_empty() => batch.delete(cf::META, key),
            list => batch.put(cf::META, key, list),
        }
        self.write(batch, |_| ())?;
        Ok(orphans)
    }
}
