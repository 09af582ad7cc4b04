//! CAR: export of a selection, import with every block verified.

use bytes::{Bytes, BytesMut};
use cairn_proto::block::Block;
use cairn_proto::car;
use cairn_proto::cid::{self, Cid};
use cairn_proto::walk::{Machine, Step, Walk};
use futures::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::driver::Driver;
use crate::blocks;
use crate::denylists::Denylists;
use crate::pins::{PinKind, Pins};
use crate::store::{Durability, Lease, Store};
use crate::{Error, Kind, Result};

/// Bytes read from a CAR at a time: so many that there are several blocks to be hashed together.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Blocks of a CAR handed to the store together, in bytes.
const WRITE_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The pieces of a CARv1 with the blocks that `driver` emits. The root in its header is where the path ends.
pub(super) fn export<M>(driver: Driver<M>) -> impl Stream<Item = Result<Bytes>> + Send
where
    M: Machine<Item = car::Selected> + Send,
    M::Error: Into<Error>,
{
    driver.into_stream().flat_map(|selected| {
        let pieces = match selected {
            Ok(car::Selected::Root(cid)) => vec![Ok(car::header(&[cid]))],
            Ok(car::Selected::Block(block)) => {
                vec![Ok(car::section_head(&block)), Ok(block.into_data())]
            }
            Err(error) => vec![Err(error)],
        };
        stream::iter(pieces)
    })
}

/// The pieces of a CARv1 with what is here of the DAG that `walk` goes through. What is missing or damaged is left out, with
/// all that only it leads to; only the root must be here.
pub(super) fn export_local(
    root: Cid,
    walk: Walk,
    blocks: blocks::Session,
) -> impl Stream<Item = Result<Bytes>> + Send {
    let partial = Partial { root, walk, blocks, has_begun: false };
    stream::unfold(Some(partial), |partial| async move {
        let mut partial = partial?;
        match partial.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(partial))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

struct Partial {
    root: Cid,
    walk: Walk,
    blocks: blocks::Session,
    has_begun: bool,
}

impl Partial {
    /// The header, then one section after the other.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if !self.has_begun {
            self.blocks.get(&self.root).await?;
            self.has_begun = true;
            return Ok(Some(car::header(&[self.root])));
        }
        loop {
            match self.walk.next()? {
                Step::Need(cids) => {
                    for cid in cids {
                        match self.blocks.get(&cid).await {
                            Ok(block) => self.walk.provide(block),
                            Err(error) if is_not_here(&error) => self.walk.skip(&cid),
                            Err(error) => return Err(error),
                        }
                    }
                }
                // What a CID carries in itself needs no section.
                Step::Emit(block) if cid::identity_content(block.cid()).is_some() => {}
                Step::Emit(block) => {
                    let mut section = BytesMut::from(car::section_head(&block));
                    section.extend_from_slice(block.data());
                    return Ok(Some(section.freeze()));
                }
                Step::Pending => return Err(Error::internal("a walk waits for blocks that it has")),
                Step::Done => return Ok(None),
            }
        }
    }
}

fn is_not_here(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotLocal | Kind::NotFound | Kind::Corrupt)
}

/// What an import reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportEvent {
    /// Blocks and bytes stored so far.
    Progress {
        /// Blocks.
        block_count: u64,
        /// Their bytes.
        block_bytes: u64,
    },
    /// A root of the header: pinned, or why not.
    Root {
        /// Root.
        cid: Cid,
        /// Why it was not pinned; empty when it was or was not to be.
        pin_error: String,
    },
}

/// An import under way; [`CarImport::next`] until it is done.
#[derive(Debug)]
pub struct CarImport<R> {
    store: Store,
    pins: Pins,
    denylists: Denylists,
    lease: Lease,
    input: R,
    reader: car::Reader,
    state: State,
    pin_roots: bool,
    block_count: u64,
    block_bytes: u64,
}

#[derive(Debug)]
enum State {
    Reading,
    Roots(std::vec::IntoIter<Cid>),
}

impl<R: AsyncRead + Unpin + Send> CarImport<R> {
    pub(crate) fn new(store: Store, pins: Pins, denylists: Denylists, input: R, pin_roots: bool) -> Self {
        let lease = store.lease();
        let reader = car::Reader::new();
        Self {
            store,
            pins,
            denylists,
            lease,
            input,
            reader,
            state: State::Reading,
            pin_roots,
            block_count: 0,
            block_bytes: 0,
        }
    }

    /// The next event, `None` when everything is durable and every root was reported.
    ///
    /// # Errors
    /// [`crate::Kind::Corrupt`] for a torn or false CAR, with the offset, [`crate::Kind::Blocked`] or
    /// [`crate::Kind::BlockedByLaw`] for a block that is forbidden; every whole block before it is stored, as cache.
    pub async fn next(&mut self) -> Result<Option<ImportEvent>> {
        match &mut self.state {
            State::Reading => self.read().await.map(Some),
            State::Roots(roots) => match roots.next() {
                Some(cid) => Ok(Some(self.root(cid).await)),
                None => Ok(None),
            },
        }
    }

    /// Blocks and bytes so far.
    pub fn stat(&self) -> (u64, u64) {
        (self.block_count, self.block_bytes)
    }

    async fn read(&mut self) -> Result<ImportEvent> {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        let ended = loop {
            match self.fill(&mut batch, &mut batch_bytes).await {
                Ok(false) if batch_bytes < WRITE_BATCH_BYTES => {}
                Ok(ended) => break ended,
                Err(error) => {
                    // What was whole before it is kept.
                    self.put(batch, batch_bytes).await?;
                    self.store.sync().await?;
                    return Err(self.told(error));
                }
            }
        };
        self.put(batch, batch_bytes).await?;
        if ended {
            self.store.sync().await?;
            self.state = State::Roots(self.reader.roots().to_vec().into_iter());
        }
        Ok(ImportEvent::Progress { block_count: self.block_count, block_bytes: self.block_bytes })
    }

    /// Takes the blocks of the next piece; says whether it was the last.
    async fn fill(&mut self, batch: &mut Vec<Block>, batch_bytes: &mut usize) -> Result<bool> {
        let mut piece = BytesMut::with_capacity(READ_BYTES);
        let read = self.input.read_buf(&mut piece).await;
        let ended = read.map_err(|error| Error::invalid("cannot read the CAR").with_cause(error))? == 0;
        self.reader.push(&piece);
        let mut blocks = Vec::new();
        let taken = self.reader.take(&mut blocks);
        for block in blocks {
            self.denylists.check_block(block.cid())?;
            *batch_bytes += block.data().len();
            batch.push(block);
        }
        taken?;
        if ended {
            self.reader.finish()?;
        }
        Ok(ended)
    }

    /// A failure, with what was stored before it.
    fn told(&self, error: Error) -> Error {
        let kept = format!("{error}; stored before it, block_count={}", self.block_count);
        Error::new(error.kind(), kept)
    }

    async fn put(&mut self, batch: Vec<Block>, batch_bytes: usize) -> Result<()> {
        self.block_count += batch.len() as u64;
        self.block_bytes += batch_bytes as u64;
        self.store.put(batch, Durability::Later, &self.lease).await
    }

    async fn root(&mut self, cid: Cid) -> ImportEvent {
        let mut pin_error = String::new();
        if self.pin_roots
            && let Err(error) = self.pins.pin(cid, PinKind::Recursive, None, &self.lease, |_, _| ()).await
        {
            pin_error = error.to_string();
        }
        ImportEvent::Root { cid, pin_error }
    }
}
