//! The read-only port through which the gateway sees content, wherever it comes from.
//!
//! One [`Session`] serves one HTTP request: resolving and reading share its providers, and dropping it and the streams
//! it gave cancels everything that it still waits for. There is no method that writes.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_core::Stream;

use crate::block::Block;
use crate::cid::Cid;
use crate::ipns::Name;
use crate::path::ContentPath;
use crate::routing::Routing;
use crate::unixfs::Attributes;

/// A future that a port returns.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ContentError>> + Send + 'a>>;

/// A stream that a port returns. It ends after the first error.
pub type PortStream<T> = Pin<Box<dyn Stream<Item = Result<T, ContentError>> + Send>>;

/// What the caller of a port can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentErrorKind {
    /// A path segment is missing: the content has no such name, and never will.
    NotFound,
    /// The content is not here and may not be fetched.
    NotLocal,
    /// Nobody delivered in time; asking again may help.
    Timeout,
    /// The caller asked for something that cannot be: mend the call.
    Invalid,
    /// An operator forbids this content.
    Blocked,
    /// The same, because the law forbids it.
    BlockedByLaw,
    /// Bytes that do not hash to their CID, or a block that does not decode.
    Corrupt,
    /// Shutting down or overloaded; asking again later may help.
    Unavailable,
    /// A fault of ours.
    Internal,
}

/// A failure of a port: what to do, and words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ContentError {
    /// What the caller can do.
    pub kind: ContentErrorKind,
    /// For a person; names the path or CID.
    pub message: String,
}

impl ContentError {
    /// A failure of that kind.
    pub fn new(kind: ContentErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// How one request may get its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Only what is in the store; a miss is [`ContentErrorKind::NotLocal`] at once.
    pub local_only: bool,
    /// Longest wait for any single block, `None` for the default of the port.
    pub block_timeout: Option<Duration>,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The CID at the end of the path.
    pub cid: Cid,
    /// What its block is.
    pub kind: NodeKind,
    /// The root and then one CID per segment; inner shards of a HAMT directory are left out.
    pub roots: Vec<Cid>,
    /// Segments that lead on inside the block at the end, whose value is not a link; empty for every UnixFS path.
    pub remainder: Vec<String>,
    /// Mode and time of what is there, where it says so.
    pub attributes: Attributes,
}

/// Where a path leads once its names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A path that starts at a CID.
    pub path: ContentPath,
    /// How long this may be taken for the latest answer; `None` where nothing says so.
    pub fresh_for: Option<Duration>,
}

/// A record of an IPNS name, checked and valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRecord {
    /// The record as it travels.
    pub bytes: Bytes,
    /// When it stops to be valid.
    pub expires: SystemTime,
    /// How long it may be taken for the latest one.
    pub fresh_for: Duration,
}

/// What a block is to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A UnixFS file or a raw block.
    File {
        /// Content length, in bytes.
        len_bytes: u64,
    },
    /// A UnixFS directory, sharded or not.
    Directory {
        /// Size that the node claims for everything below it, in bytes.
        cumulative_bytes: u64,
    },
    /// A UnixFS symbolic link.
    Symlink {
        /// Where it points; any bytes that are UTF-8.
        target: String,
    },
    /// A block of a codec that is not UnixFS.
    Data {
        /// Codec of its CID.
        codec: u64,
    },
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name, unescaped.
    pub name: String,
    /// What it links to.
    pub cid: Cid,
    /// Size that the link claims for everything below it, in bytes.
    pub cumulative_bytes: u64,
}

/// Which blocks of a DAG a CAR holds besides those along the path.
///
/// Source: <https://specs.ipfs.tech/http-gateways/trustless-gateway/>.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DagScope {
    /// The block at the end of the path.
    Block,
    /// All of a file (or the range of it), or what lists a directory.
    Entity {
        /// First byte, from the end when negative.
        from: i64,
        /// Last byte, inclusive, from the end when negative; `None` for the end.
        to: Option<i64>,
    },
    /// Everything below.
    #[default]
    All,
}

/// What goes into a CAR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CarSelection {
    /// Which blocks follow those along the path.
    pub scope: DagScope,
    /// A block goes in as often as the DAG comes to it, so that a reader need not remember any.
    pub duplicates: bool,
}

impl From<DagScope> for CarSelection {
    fn from(scope: DagScope) -> Self {
        Self { scope, duplicates: false }
    }
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Peers asked for blocks.
    pub peers_asked_count: u64,
    /// Providers found by routing.
    pub providers_found_count: u64,
    /// Blocks received from peers.
    pub blocks_received_count: u64,
}

/// Content, read-only.
pub trait Content: Send + Sync + 'static {
    /// Opens a session. Does no work yet.
    fn session(&self, options: SessionOptions) -> Arc<dyn Session>;

    /// Who has what; `None` where nobody can be asked.
    fn routing(&self) -> Option<Arc<dyn Routing>> {
        None
    }

    /// Whether a path may be served, apart from what lies along it. To be asked before an answer from memory too: what is
    /// forbidden changes.
    ///
    /// # Errors
    /// [`ContentErrorKind::Blocked`] or [`ContentErrorKind::BlockedByLaw`].
    fn check(&self, path: &ContentPath) -> Result<(), ContentError>;
}

/// The content side of one request. All results are cancelled when dropped.
pub trait Session: Send + Sync + 'static {
    /// Follows the name that a path starts at, and the names that it leads to. A path that starts at a CID is its own target.
    ///
    /// No record of the name is [`ContentErrorKind::NotFound`], or [`ContentErrorKind::NotLocal`] where nobody was asked.
    fn name<'a>(&'a self, path: &'a ContentPath) -> PortFuture<'a, Target>;

    /// The record of an IPNS name.
    fn record<'a>(&'a self, name: &'a Name) -> PortFuture<'a, NameRecord>;

    /// Follows a path that starts at a CID to its end. Does the least work that tells what is there.
    fn resolve<'a>(&'a self, path: &'a ContentPath) -> PortFuture<'a, Resolved>;

    /// The bytes `range` of a UnixFS file or raw block, in order. Fetches no block outside the range but inner nodes.
    fn bytes(&self, file: &Cid, range: Range<u64>) -> PortStream<Bytes>;

    /// The names in a directory, sharded or not, without touching its children.
    fn entries(&self, directory: &Cid) -> PortStream<Entry>;

    /// One block.
    fn block<'a>(&'a self, cid: &'a Cid) -> PortFuture<'a, Block>;

    /// A CARv1 of what lies along `path` and, below its end, what `selection` says; depth first.
    fn car(&self, path: &ContentPath, selection: CarSelection) -> PortStream<Bytes>;

    /// A tar archive of the UnixFS tree at the end of a path, its root called `name`.
    fn tar(&self, name: &str, root: &Resolved) -> PortStream<Bytes>;

    /// Counters for a page that waits.
    fn progress(&self) -> Progress;
}
