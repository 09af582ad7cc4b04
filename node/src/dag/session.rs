//! Reading: one session serves one request, and its parts share what they learn of providers.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::car;
use cairn_proto::cid::{Cid, Multihash, RAW};
use cairn_proto::codec;
use cairn_proto::content::{CarSelection, Entry, Progress, Resolved, SessionOptions, Target};
use cairn_proto::ipns::{Name, Record};
use cairn_proto::path::ContentPath;
use cairn_proto::resolve::Resolver;
use cairn_proto::unixfs::list::Lister;
use cairn_proto::unixfs::read::FileReader;
use cairn_proto::walk::{Machine as _, Order, Step, Walk, WalkOptions};
use futures::{Stream, stream};

use super::driver::Driver;
use crate::blocks::{self, Blocks, Status};
use crate::names::{LookUp, Names};
use crate::{Error, Result};

/// Bytes that a walk over local blocks reads ahead: both cores hash while a third piece is written out.
const LOCAL_WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes that a walk over the network asks ahead: 1 Gbit/s at half a second of delay.
const NETWORK_WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes that the readers of one crowd ask ahead together, shared out as each stream begins.
const CROWD_WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// Least that a reader asks ahead, however many there are: about a block.
const MIN_WINDOW_BYTES: u64 = 1024 * 1024;

/// Blocks of a listing of links that are asked for ahead of their turn, at most; of the largest ones they take 64 MiB.
const AHEAD_BLOCKS: usize = 32;

/// Links that are looked at for such blocks.
const LOOK_AHEAD_LINKS: usize = 256;

/// The reads of one request. Streams that it gave live on without it; dropping them cancels their wants.
#[derive(Debug, Clone)]
pub struct Session {
    blocks: Blocks,
    names: Names,
    options: SessionOptions,
    status: Arc<Status>,
    /// One place among the others, however many clones of this session there are.
    crowd: Arc<Crowd>,
}

/// The sessions that share the memory for what is read ahead. Each holds one clone while it lives, and whoever makes them
/// one more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Arc<()>);

impl Crowd {
    /// What one more of its readers may ask ahead, of `full` bytes that it would without the others.
    fn share(&self, full: u64) -> u64 {
        let count = (Arc::strong_count(&self.0) as u64 - 1).max(1);
        (CROWD_WINDOW_BYTES / count).clamp(MIN_WINDOW_BYTES, full)
    }
}

/// A DAG that is in the store, and will be until this is dropped.
#[derive(Debug)]
pub struct Fetched {
    session: blocks::Session,
}

impl Fetched {
    /// Keeps the DAG from being collected.
    pub fn lease(&self) -> &crate::store::Lease {
        self.session.lease()
    }
}

/// One link of a DAG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Block that links.
    pub parent: Cid,
    /// Block that is linked to.
    pub child: Cid,
    /// Name of the link; empty where the codec has none.
    pub name: String,
    /// Links from the root, 1 for its own.
    pub depth: usize,
}

/// Sizes of one DAG.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DagStat {
    /// Distinct blocks.
    pub block_count: u64,
    /// Bytes of the distinct blocks.
    pub block_bytes: u64,
}

impl Session {
    pub(crate) fn new(blocks: Blocks, names: Names, options: SessionOptions) -> Self {
        Self::among(Crowd::default(), blocks, names, options)
    }

    /// A session that has to share what it reads ahead with others.
    pub(crate) fn among(crowd: Crowd, blocks: Blocks, names: Names, options: SessionOptions) -> Self {
        Self { blocks, names, options, status: Arc::default(), crowd: Arc::new(crowd) }
    }

    /// Where a path leads once the name that it starts at is resolved.
    ///
    /// # Errors
    /// As [`Names::resolve`].
    pub async fn target(&self, path: &ContentPath) -> Result<Target> {
        let denylists = self.blocks.denylists();
        denylists.check_path(path)?;
        let target = self.names.resolve(path, self.look_up()).await?;
        denylists.check_path(&target.path)?;
        Ok(target)
    }

    /// The record of a name, and how long it may be taken for the latest.
    ///
    /// # Errors
    /// As [`Names::record`].
    pub async fn record(&self, name: &Name) -> Result<(Record, Duration)> {
        let record = self.names.record(name, self.look_up()).await?;
        let fresh_for = self.names.fresh_for(&record);
        Ok((record, fresh_for))
    }

    fn look_up(&self) -> LookUp {
        LookUp { local_only: self.options.local_only, ..LookUp::default() }
    }

    /// Follows a path to its end, through the name that it starts at.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] for a missing segment or block, [`crate::Kind::Timeout`], [`crate::Kind::Corrupt`];
    /// [`crate::Kind::Blocked`] or [`crate::Kind::BlockedByLaw`] for a path that is forbidden.
    pub async fn resolve(&self, path: &ContentPath) -> Result<Resolved> {
        let target = self.target(path).await?;
        let mut driver = Driver::new(Resolver::new(&target.path), self.open());
        let resolved = driver.next().await?;
        resolved.ok_or_else(|| Error::internal("a resolver ended without an answer"))
    }

    /// One block.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn get(&self, cid: &Cid) -> Result<Block> {
        let mut blocks = self.open();
        let block = blocks.get(cid).await?;
        blocks.finish().await?;
        Ok(block)
    }

    /// Bytes `range` of a file or raw block, in order.
    pub fn bytes(&self, file: &Cid, range: Range<u64>) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        Driver::new(FileReader::new(*file, range, self.window_bytes()), self.open()).into_stream()
    }

    /// Names in a directory, without touching its children.
    pub fn entries(&self, directory: &Cid) -> impl Stream<Item = Result<Entry>> + Send + use<> {
        Driver::new(Lister::new(*directory), self.open()).into_stream()
    }

    /// A CARv1 of the blocks along `path` and of those that `selection` says below its end; pieces of it, in order.
    pub fn car(
        &self,
        path: &ContentPath,
        selection: CarSelection,
    ) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        let selection = car::Selection::new(path, selection, self.window_bytes());
        super::car::export(Driver::new(selection, self.open()))
    }

    /// A CARv1 of what is in the store of a DAG, its root at least; pieces of it, in order. To be asked of a session that is
    /// [`SessionOptions::local_only`].
    pub fn local_car(&self, root: &Cid) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        let (walk, blocks) = self.walk(root, Order::Dfs { duplicates: false }).into_parts();
        super::car::export_local(*root, walk, blocks)
    }

    /// A tar archive of the UnixFS tree that a path led to, its root called `name`; pieces of it, in order.
    pub fn tar(&self, name: &str, root: &Resolved) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        super::archive::archive(self.clone(), name, root)
    }

    /// Brings what is missing of a DAG into the store: what a pin keeps is not walked, unless damaged blocks were set aside.
    /// `on_progress` is told distinct
    /// blocks and their bytes so far.
    ///
    /// # Errors
    /// As [`Self::resolve`]; what the store says.
    pub async fn fetch_dag(
        &self,
        root: &Cid,
        mut on_progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Fetched> {
        let (mut walk, mut session) = self.walk(root, Order::Any).into_parts();
        let may_lack = session.may_lack_what_is_kept().await?;
        let mut stat = DagStat::default();
        loop {
            match walk.next()? {
                Step::Need(cids) => {
                    // Leaves that are here need not be read.
                    let (leaves, nodes): (Vec<_>, Vec<_>) =
                        cids.into_iter().partition(|cid| cid.codec() == RAW);
                    let kept = match may_lack {
                        true => vec![false; nodes.len()],
                        false => session.are_kept(&nodes).await?,
                    };
                    let (kept, nodes): (Vec<_>, Vec<_>) =
                        nodes.into_iter().zip(kept).partition(|(_, kept)| *kept);
                    kept.iter().for_each(|(cid, _)| walk.skip(cid));
                    session.request(nodes.into_iter().map(|(cid, _)| cid).collect());
                    let held = session.hold(&leaves).await?;
                    let (here, missing): (Vec<_>, Vec<_>) =
                        leaves.iter().zip(held).partition(|(_, len)| len.is_some());
                    session.request(missing.into_iter().map(|(cid, _)| *cid).collect());
                    for (cid, len_bytes) in here {
                        walk.skip(cid);
                        stat.add(len_bytes.unwrap_or_default());
                    }
                    on_progress(stat.block_count, stat.block_bytes);
                }
                Step::Emit(block) => {
                    stat.add(block.data().len() as u64);
                    on_progress(stat.block_count, stat.block_bytes);
                }
                Step::Pending => session.next().await?.into_iter().for_each(|block| walk.provide(block)),
                Step::Done => break,
            }
        }
        session.finish().await?;
        Ok(Fetched { session })
    }

    /// Brings one block into the store.
    ///
    /// # Errors
    /// As [`Self::fetch_dag`].
    pub async fn fetch_block(&self, cid: &Cid) -> Result<Fetched> {
        let mut session = self.open();
        session.get(cid).await?;
        session.finish().await?;
        Ok(Fetched { session })
    }

    /// Counts the distinct blocks below a root.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn stat(&self, root: &Cid) -> Result<DagStat> {
        let mut driver = self.walk(root, Order::Any);
        let mut stat = DagStat::default();
        while let Some(block) = driver.next().await? {
            stat.add(block.data().len() as u64);
        }
        Ok(stat)
    }

    /// The distinct blocks below a root, in any order.
    pub fn blocks(&self, root: &Cid) -> impl Stream<Item = Result<Block>> + Send + use<> {
        self.walk(root, Order::Any).into_stream()
    }

    /// The links below a root, depth first, as `refs` lists them: `max_depth` levels, all of them for `None`; with `unique`
    /// each child once.
    pub fn references(
        &self,
        root: &Cid,
        max_depth: Option<usize>,
        unique: bool,
    ) -> impl Stream<Item = Result<Reference>> + Send + use<> {
        let state = References {
            blocks: self.open(),
            ahead: HashMap::new(),
            stack: vec![Pending::Visit(*root, 0)],
            seen: HashSet::new(),
            max_depth: max_depth.unwrap_or(usize::MAX),
            unique,
        };
        stream::unfold(Some(state), |state| async move {
            let mut state = state?;
            match state.next().await {
                Ok(Some(reference)) => Some((Ok(reference), Some(state))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Counters of the network side of this session.
    pub fn progress(&self) -> Progress {
        self.status.progress()
    }

    fn walk(&self, root: &Cid, order: Order) -> Driver<Walk> {
        let options = WalkOptions { window_bytes: self.window_bytes(), order, ..WalkOptions::default() };
        Driver::new(Walk::new(*root, options), self.open())
    }

    fn open(&self) -> blocks::Session {
        self.blocks.session(self.options.local_only, self.options.block_timeout, &self.status)
    }

    fn window_bytes(&self) -> u64 {
        self.crowd.share(if self.options.local_only { LOCAL_WINDOW_BYTES } else { NETWORK_WINDOW_BYTES })
    }
}

impl DagStat {
    fn add(&mut self, len_bytes: u64) {
        self.block_count += 1;
        self.block_bytes += len_bytes;
    }
}

/// A walk that remembers names, which [`Walk`] does not.
#[derive(Debug)]
struct References {
    blocks: blocks::Session,
    /// Blocks that were asked for ahead of their turn, and those of them that are here.
    ahead: HashMap<Multihash, Option<Block>>,
    stack: Vec<Pending>,
    seen: HashSet<Multihash>,
    max_depth: usize,
    unique: bool,
}

#[derive(Debug)]
enum Pending {
    /// Load the block at this depth and list its links.
    Visit(Cid, usize),
    /// Report the link, then visit its child.
    Report(Reference),
}

impl References {
    async fn next(&mut self) -> Result<Option<Reference>> {
        while let Some(pending) = self.stack.pop() {
            match pending {
                Pending::Visit(cid, depth) => self.visit(cid, depth).await?,
                Pending::Report(reference) => {
                    let first = self.seen.insert(*reference.child.hash());
                    if self.unique && !first {
                        continue;
                    }
                    if reference.depth < self.max_depth && (first || !self.unique) {
                        self.stack.push(Pending::Visit(reference.child, reference.depth));
                    }
                    return Ok(Some(reference));
                }
            }
        }
        self.blocks.finish().await?;
        Ok(None)
    }

    async fn visit(&mut self, cid: Cid, depth: usize) -> Result<()> {
        if depth >= cairn_proto::limits::MAX_DAG_DEPTH {
            return Err(Error::invalid(format!("DAG is too deep, cid={cid} depth={depth}")));
        }
        if !codec::has_links(cid.codec()) {
            return Ok(());
        }
        let block = self.take(cid).await?;
        let links = codec::named_links(&block)?;
        self.stack.extend(
            links.into_iter().rev().map(|(name, child)| {
                Pending::Report(Reference { parent: cid, child, name, depth: depth + 1 })
            }),
        );
        self.ask_ahead();
        Ok(())
    }

    /// The block whose turn it is.
    async fn take(&mut self, cid: Cid) -> Result<Block> {
        if let Some(block) = Block::from_identity(cid) {
            return Ok(block);
        }
        if !self.ahead.contains_key(cid.hash()) {
            self.ahead.insert(*cid.hash(), None);
            self.blocks.request(vec![cid]);
        }
        loop {
            if let Some(block) = self.ahead.get_mut(cid.hash()).and_then(Option::take) {
                self.ahead.remove(cid.hash());
                return block.with_cid(cid).ok_or_else(|| Error::internal("a block came under another hash"));
            }
            for block in self.blocks.next().await? {
                self.ahead.insert(*block.multihash(), Some(block));
            }
        }
    }

    /// Asks for the blocks whose turn comes next, as far as the stack tells.
    fn ask_ahead(&mut self) {
        let Self { stack, ahead, seen, max_depth, unique, .. } = self;
        let mut wanted = Vec::new();
        for pending in stack.iter().rev().take(LOOK_AHEAD_LINKS) {
            let Pending::Report(Reference { child, depth, .. }) = pending else { continue };
            let is_visited = *depth < *max_depth
                && codec::has_links(child.codec())
                && !(*unique && seen.contains(child.hash()));
            let is_asked =
                ahead.contains_key(child.hash()) || cairn_proto::cid::identity_content(child).is_some();
            if is_visited && !is_asked && ahead.len() < AHEAD_BLOCKS {
                ahead.insert(*child.hash(), None);
                wanted.push(*child);
            }
        }
        if !wanted.is_empty() {
            self.blocks.request(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_what_they_read_ahead_and_have_it_back_when_others_are_gone() {
        let crowd = Crowd::default();
        let reader = crowd.clone();
        assert_eq!(reader.share(NETWORK_WINDOW_BYTES), NETWORK_WINDOW_BYTES, "alone it has all");
        let others = vec![crowd.clone(); 7];
        assert_eq!(crowd.share(NETWORK_WINDOW_BYTES), NETWORK_WINDOW_BYTES / 8);
        assert_eq!(crowd.share(1 << 20), 1 << 20, "no more than it would without them");
        let many = vec![crowd.clone(); 10_000];
        assert_eq!(crowd.share(NETWORK_WINDOW_BYTES), MIN_WINDOW_BYTES);
        drop((others, many));
        assert_eq!(crowd.share(LOCAL_WINDOW_BYTES), LOCAL_WINDOW_BYTES);
    }
}
