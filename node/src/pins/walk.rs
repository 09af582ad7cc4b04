//! The walk that pins: children first, so that whatever an edge points to has its own edges already.

use std::collections::HashSet;

use cairn_proto::cid::{Cid, IDENTITY};
use cairn_proto::limits::MAX_DAG_DEPTH;
use tokio_util::sync::CancellationToken;

use super::{Attached, Chunk, DagNode, Edge, Lease, NO_BLOCK, NewPin, PinKind, Store, release};
use crate::error::{Error, Kind, Result};
use crate::store::{GraphRequest, Request, WorkGuard, has_links, links_of};

/// Edges that are written together; most DAGs need one batch. In tests small DAGs need several.
const CHUNK_EDGES: usize = if cfg!(test) { 8 } else { 32_768 };
/// Links of the nodes from the root to where the walk is, that it keeps in memory.
const MAX_OPEN_LINKS: usize = 4 << 20;
/// Walks begun anew because an unpin took away what they stood on.
const MAX_RESTARTS: u32 = 64;

/// Pins what `cid` names.
pub(super) fn pin(
    store: &Store,
    cid: Cid,
    kind: PinKind,
    name: Option<String>,
    stop: &CancellationToken,
    progress: impl FnMut(u64, u64),
) -> Result<()> {
    let guard = store.shared().begin_work();
    let mut walk = Walk {
        store,
        lease: store.lease(),
        stop,
        progress,
        guard,
        stack: Vec::new(),
        open_links: 0,
        edges: Vec::new(),
        relied: Vec::new(),
        finished: HashSet::new(),
        opened: HashSet::new(),
        block_count: 0,
        block_bytes: 0,
    };
    let pinned = walk.pin(cid, kind, name);
    if pinned.is_err() && !walk.opened.is_empty() {
        walk.guard.close_nodes();
        release::run(store, walk.guard.work(), walk.opened.into_iter().collect())?;
    }
    pinned
}

struct Walk<'s, P> {
    store: &'s Store,
    /// Holds what the walk has claimed, even when the call that began it is gone.
    lease: Lease,
    stop: &'s CancellationToken,
    progress: P,
    guard: WorkGuard,
    /// From the root to where the walk is.
    stack: Vec<Frame>,
    open_links: usize,
    /// Not written yet.
    edges: Vec<Edge>,
    relied: Vec<DagNode>,
    /// Nodes whose edges are all in `edges` or written.
    finished: HashSet<DagNode>,
    /// Nodes that were on the stack when a chunk was written.
    opened: HashSet<DagNode>,
    block_count: u64,
    block_bytes: u64,
}

/// A node whose links are being looked at.
struct Frame {
    node: DagNode,
    version: cairn_proto::cid::Version,
    links: Vec<Link>,
    next: usize,
}

/// A link whose block is in the store.
struct Link {
    cid: Cid,
    node: DagNode,
    len_bytes: u32,
}

impl<P: FnMut(u64, u64)> Walk<'_, P> {
    fn pin(&mut self, cid: Cid, kind: PinKind, name: Option<String>) -> Result<()> {
        for _ in 0..MAX_RESTARTS {
            let root = self.root(cid)?;
            if kind == PinKind::Recursive && has_links(root.codec) && root.id != NO_BLOCK {
                self.visit(root, cid)?;
                if !self.walk()? {
                    self.begin_anew();
                    continue;
                }
            }
            let pin = NewPin { id: root.id, kind, cid, name: name.clone() };
            if self.write(Some(pin))? == Attached::Written {
                return Ok(());
            }
            self.begin_anew();
        }
        Err(Error::new(Kind::Unavailable, format!("pins below changed all the time: try again, cid={cid}")))
    }

    fn root(&mut self, cid: Cid) -> Result<DagNode> {
        if cid.hash().code() == IDENTITY {
            if !links_of(&cid, None)?.is_empty() {
                return Err(Error::invalid(format!(
                    "an identity CID with links cannot be pinned, cid={cid}"
                )));
            }
            return Ok(DagNode { id: NO_BLOCK, codec: cid.codec() });
        }
        let claim = self.store.shared().claim(&[*cid.hash()], self.lease.number())?.pop().flatten();
        let (id, len_bytes) = claim.ok_or_else(|| missing(&cid))?;
        self.count(len_bytes);
        Ok(DagNode { id, codec: cid.codec() })
    }

    /// Walks until the stack is empty. `false` when it must begin anew.
    fn walk(&mut self) -> Result<bool> {
        while let Some(frame) = self.stack.last_mut() {
            let parent = frame.node;
            let Some(link) = frame.links.get(frame.next) else {
                self.leave();
                continue;
            };
            frame.next += 1;
            let (child, cid, len_bytes) = (link.node, link.cid, link.len_bytes);
            if !has_links(child.codec) || self.finished.contains(&child) {
                self.count(len_bytes);
                self.edges.push(Edge { child, parent, child_version: cid.version() });
            } else {
                self.count(len_bytes);
                if !self.visit(child, cid)? {
                    self.edges.push(Edge { child, parent, child_version: cid.version() });
                }
            }
            if self.edges.len() >= CHUNK_EDGES && self.write(None)? == Attached::Lost {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes into a node, unless it is kept already; says whether it did.
    fn visit(&mut self, node: DagNode, cid: Cid) -> Result<bool> {
        if self.stop.is_cancelled() {
            return Err(Error::closed("the call that pins"));
        }
        if self.store.shared().is_node_kept(node)? {
            self.relied.push(node);
            return Ok(false);
        }
        let links = self.links(&cid)?;
        self.open_links += links.len();
        if self.stack.len() > MAX_DAG_DEPTH || self.open_links > MAX_OPEN_LINKS {
            return Err(Error::invalid(format!(
                "DAG is too deep to pin, max_depth={MAX_DAG_DEPTH} cid={cid}"
            )));
        }
        self.stack.push(Frame { node, version: cid.version(), links, next: 0 });
        Ok(true)
    }

    /// The node on top has all its edges: now its parent's may point to it.
    fn leave(&mut self) {
        let Some(frame) = self.stack.pop() else { return };
        self.open_links -= frame.links.len();
        self.finished.insert(frame.node);
        if let Some(parent) = self.stack.last() {
            self.edges.push(Edge { child: frame.node, parent: parent.node, child_version: frame.version });
        }
    }

    fn links(&self, cid: &Cid) -> Result<Vec<Link>> {
        let block = self.store.get(cid)?.ok_or_else(|| missing(cid))?;
        let cids = links_of(cid, Some(&block))?;
        let hashes: Vec<_> = cids.iter().map(|cid| *cid.hash()).collect();
        let claims = self.store.shared().claim(&hashes, self.lease.number())?;
        let mut seen = HashSet::with_capacity(cids.len());
        let mut links = Vec::with_capacity(cids.len());
        for (cid, claim) in cids.into_iter().zip(claims) {
            let (id, len_bytes) = claim.ok_or_else(|| missing(&cid))?;
            let node = DagNode { id, codec: cid.codec() };
            if seen.insert(node) {
                links.push(Link { cid, node, len_bytes });
            }
        }
        Ok(links)
    }

    fn write(&mut self, pin: Option<NewPin>) -> Result<Attached> {
        let open: Vec<_> = self.stack.iter().map(|frame| frame.node).collect();
        self.opened.extend(&open);
        let open = if pin.is_some() { Vec::new() } else { self.opened.iter().copied().collect() };
        let chunk = Chunk {
            work: self.guard.work(),
            edges: std::mem::take(&mut self.edges),
            relied: std::mem::take(&mut self.relied),
            open,
            pin,
        };
        self.finished.clear();
        self.store.ask_blocking(|reply| Request::Graph(GraphRequest::Attach { chunk, reply }))
    }

    fn begin_anew(&mut self) {
        self.stack.clear();
        self.open_links = 0;
        self.edges.clear();
        self.relied.clear();
        self.finished.clear();
        (self.block_count, self.block_bytes) = (0, 0);
    }

    fn count(&mut self, len_bytes: u32) {
        self.block_count += 1;
        self.block_bytes += u64::from(len_bytes);
        (self.progress)(self.block_count, self.block_bytes);
    }
}

fn missing(cid: &Cid) -> Error {
    Error::not_found(format!("block is not in the local store, cid={cid}"))
}
