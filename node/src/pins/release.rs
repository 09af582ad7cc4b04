//! Releases nodes that nothing keeps any more: takes their edges away, then those of the children that lost their last.

use cairn_proto::cid::Cid;

use super::{DagNode, Edge, IDENTITY, NO_BLOCK, PinKind, Store, node_cid};
use crate::error::{Error, Kind, Result};
use crate::store::{GraphRequest, ReleaseStep, Request, Work, has_links, links_of};

/// Takes a pin away, then releases what only it kept.
pub(super) fn unpin(store: &Store, cid: &Cid, kind: PinKind) -> Result<()> {
    let not_pinned = || Error::not_found(format!("not pinned, cid={cid}"));
    let id = match cid.hash().code() {
        IDENTITY => NO_BLOCK,
        _ => store.shared().id_of(cid.hash())?.ok_or_else(not_pinned)?,
    };
    let guard = store.shared().begin_work();
    let (cid, work) = (*cid, guard.work());
    store.ask_blocking(|reply| Request::Graph(GraphRequest::Unpin { id, kind, cid, work, reply }))?;
    match kind {
        PinKind::Recursive => run(store, work, vec![DagNode { id, codec: cid.codec() }]),
        PinKind::Direct => store.ask_blocking(|reply| Request::Sync { reply }),
    }
}

/// Finishes what nobody is at.
pub(super) fn recover(store: &Store) -> Result<()> {
    for (work, nodes) in store.shared().abandoned_work()? {
        if let Some(_guard) = store.shared().resume_work(work) {
            run(store, work, nodes)?;
        }
    }
    Ok(())
}

/// Releases nodes and all that hangs on them alone; durable on return.
pub(super) fn run(store: &Store, work: Work, mut nodes: Vec<DagNode>) -> Result<()> {
    let lease = store.lease();
    // Last in, first out: the list stays as short as the DAG is deep times wide.
    store.shared().hold(lease.number(), nodes.iter().map(|node| node.id));
    while let Some(node) = nodes.pop() {
        let edges = edges_of(store, node)?;
        // A collection must not take a child before its own edges are gone.
        store.shared().hold(lease.number(), edges.iter().map(|edge| edge.child.id));
        let step = ReleaseStep { work, node, edges, rest: nodes.clone() };
        let orphans = store.ask_blocking(|reply| Request::Graph(GraphRequest::Release { step, reply }))?;
        nodes.extend(orphans);
    }
    store.ask_blocking(|reply| Request::Sync { reply })
}

/// The edges that a node has if it was walked: from its links, or if it cannot be read, from all edges there are.
fn edges_of(store: &Store, parent: DagNode) -> Result<Vec<Edge>> {
    if !has_links(parent.codec) || parent.id == NO_BLOCK {
        return Ok(Vec::new());
    }
    match linked(store, parent) {
        Ok(Some(edges)) => Ok(edges),
        Ok(None) => {
            store.edges().filter(|edge| edge.as_ref().map_or(true, |edge| edge.parent == parent)).collect()
        }
        // What does not decode was never walked.
        Err(error) if error.kind() == Kind::Invalid => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn linked(store: &Store, parent: DagNode) -> Result<Option<Vec<Edge>>> {
    let shared = store.shared();
    let Some(multihash) = shared.multihash_of(parent.id)? else { return Ok(None) };
    let cid = node_cid(parent.codec, cairn_proto::cid::Version::V1, multihash);
    let Some(block) = store.get(&cid)? else { return Ok(None) };
    let links = links_of(&cid, Some(&block))?;
    let ids = shared.ids_of(&links.iter().map(|link| *link.hash()).collect::<Vec<_>>())?;
    let edge = |(link, id): (Cid, Option<u64>)| {
        let child = DagNode { id: id?, codec: link.codec() };
        Some(Edge { child, parent, child_version: link.version() })
    };
    let mut edges: Vec<_> = links.into_iter().zip(ids).filter_map(edge).collect();
    edges.sort_unstable_by_key(Edge::key);
    edges.dedup_by_key(|edge| edge.key());
    Ok(Some(edges))
}
