//! Resolving paths: a machine that follows a content path from its root, name by name, to what it leads to.
//!
//! It fetches the blocks on the way and, of a sharded directory, only the shards on the way. Names are looked up in UnixFS
//! directories, in the links of other dag-pb nodes, and in DAG-CBOR and DAG-JSON. Symbolic links on the way are not followed.
//!
//! Source: <https://specs.ipfs.tech/http-gateways/path-gateway/>.

use crate::block::Block;
use crate::cid::{Cid, DAG_CBOR, DAG_JSON, DAG_PB, RAW};
use crate::codec::DecodeError;
use crate::codec::dag_pb::{PbLink, PbNode};
use crate::codec::path::{Found, find_in_cbor, find_in_json};
use crate::content::{NodeKind, Resolved};
use crate::path::{ContentPath, Root};
use crate::unixfs::hamt::{Child, HashBits, Shard};
use crate::unixfs::{self, Attributes, Data, Node};
use crate::walk::{Machine, Step};

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The path starts at a name, which must be resolved to a CID before.
    #[error("names are not resolved here, name={name:?}")]
    Name {
        /// The name.
        name: String,
    },
    /// A directory or map has no such name.
    #[error("no link named {segment:?} under {parent}")]
    NotFound {
        /// The name.
        segment: String,
        /// What it was looked up in; for a sharded directory, its root.
        parent: Cid,
    },
    /// The path goes on behind something that has no names.
    #[error("cannot look up {segment:?}: {cid} is a {kind}")]
    NotADirectory {
        /// The name that was to be looked up.
        segment: String,
        /// What it was to be looked up in.
        cid: Cid,
        /// What that is.
        kind: &'static str,
    },
    /// The path goes on in a block whose codec is not understood.
    #[error("cannot look up {segment:?}: codec 0x{codec:x} is not supported, cid={cid}")]
    Codec {
        /// The name that was to be looked up.
        segment: String,
        /// The block.
        cid: Cid,
        /// Its codec.
        codec: u64,
    },
    /// A block on the way does not decode.
    #[error("block does not decode, cid={cid}: {source}")]
    Decode {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// Emits what a path leads to, once.
#[derive(Debug)]
pub struct Resolver {
    segments: Vec<String>,
    /// Segments that are behind.
    used_count: usize,
    /// The CIDs so far: the root and one for each of those segments.
    roots: Vec<Cid>,
    /// The block to be read next.
    at: Cid,
    /// Mode and time of the last UnixFS node that was read.
    attributes: Attributes,
    /// Inside a sharded directory: what the shards above left of the hash of the name.
    shard: Option<HashBits>,
    state: State,
}

#[derive(Debug)]
enum State {
    Ask,
    Waiting,
    Ended(Box<Result<Resolved, ResolveError>>),
    Done,
}

impl Resolver {
    /// A resolver of `path`.
    ///
    /// A path that starts at a name fails at the first step.
    pub fn new(path: &ContentPath) -> Self {
        let (at, state) = match path.root() {
            Root::Ipfs(cid) => (*cid, State::Ask),
            Root::Ipns(name) => {
                (Cid::default(), State::Ended(Box::new(Err(ResolveError::Name { name: name.clone() }))))
            }
        };
        Self {
            segments: path.segments().to_vec(),
            used_count: 0,
            roots: vec![at],
            at,
            attributes: Attributes::default(),
            shard: None,
            state,
        }
    }

    /// Reads a block that the path waits for, and gives it back under the CID that the path has for it.
    ///
    /// Any other block is ignored.
    pub(crate) fn accept(&mut self, block: Block) -> Option<Block> {
        if !matches!(self.state, State::Waiting) || block.cid().codec() != self.at.codec() {
            return None;
        }
        let block = block.with_cid(self.at)?;
        self.read(&block);
        Some(block)
    }

    fn rest(&self) -> &[String] {
        &self.segments[self.used_count..]
    }

    /// Reads the block that the path has come to, and goes on from there.
    fn read(&mut self, block: &Block) {
        let next = match (self.at.codec(), self.rest().first()) {
            (DAG_PB, _) => self.read_dag_pb(block),
            (RAW, _) => self.end_or_refuse("file", NodeKind::File { len_bytes: block.data().len() as u64 }),
            (DAG_CBOR, _) => self.read_data(find_in_cbor(block.data(), self.rest())),
            (DAG_JSON, _) => self.read_data(find_in_json(block.data(), self.rest())),
            (codec, segment) => Err(ResolveError::Codec {
                segment: segment.cloned().unwrap_or_default(),
                cid: self.at,
                codec,
            }),
        };
        self.go(next);
    }

    fn go(&mut self, next: Result<Next, ResolveError>) {
        let end = match next {
            Ok(Next::Block) => {
                self.state = State::Ask;
                return;
            }
            Ok(Next::End(kind, remainder)) => Ok(Resolved {
                cid: self.at,
                kind,
                roots: std::mem::take(&mut self.roots),
                remainder,
                attributes: self.attributes,
            }),
            Err(error) => Err(error),
        };
        self.state = State::Ended(Box::new(end));
    }

    fn read_dag_pb(&mut self, block: &Block) -> Result<Next, ResolveError> {
        let node = PbNode::decode(block.data()).map_err(|source| self.undecodable(source))?;
        let message = node.data.as_ref().and_then(|data| Data::decode(data).ok());
        self.attributes = message.as_ref().map(Data::attributes).unwrap_or_default();
        if message.is_none() && self.shard.is_none() {
            return match self.rest().first() {
                Some(_) => self.look_up(&node.links),
                None => Ok(Next::End(NodeKind::Data { codec: DAG_PB }, Vec::new())),
            };
        }
        let own_bytes = block.data().len() as u64;
        let cumulative_bytes =
            node.links.iter().fold(own_bytes, |sum, link| sum.saturating_add(link.tsize.unwrap_or(0)));
        match unixfs::decode(block).map_err(|source| self.undecodable(source))? {
            Node::Hamt(shard) => self.look_up_in_shard(&shard, cumulative_bytes),
            _ if self.shard.is_some() => {
                let reason = "a shard has no shard below it";
                Err(self.undecodable(DecodeError::Malformed { format: "UnixFS", reason }))
            }
            Node::Directory(_) if self.rest().is_empty() => {
                Ok(Next::End(NodeKind::Directory { cumulative_bytes }, Vec::new()))
            }
            Node::Directory(links) => self.look_up(&links),
            Node::File(file) => self.end_or_refuse("file", NodeKind::File { len_bytes: file.len_bytes }),
            Node::Raw(data) => self.end_or_refuse("file", NodeKind::File { len_bytes: data.len() as u64 }),
            Node::Symlink(target) => {
                let target = String::from_utf8_lossy(&target).into_owned();
                self.end_or_refuse("symbolic link", NodeKind::Symlink { target })
            }
        }
    }

    /// The first link of the name that comes next.
    fn look_up(&mut self, links: &[PbLink]) -> Result<Next, ResolveError> {
        let name = self.rest()[0].as_bytes();
        match links.iter().find(|link| link.name() == name) {
            Some(link) => Ok(self.follow(link.cid)),
            None => Err(self.not_found()),
        }
    }

    fn look_up_in_shard(&mut self, shard: &Shard, cumulative_bytes: u64) -> Result<Next, ResolveError> {
        let Some(name) = self.rest().first().map(String::as_bytes) else {
            return Ok(Next::End(NodeKind::Directory { cumulative_bytes }, Vec::new()));
        };
        let mut bits = self.shard.unwrap_or_else(|| HashBits::new(name));
        match shard.find(name, &mut bits).map_err(|source| self.undecodable(source))? {
            None => Err(self.not_found()),
            Some(Child::Entry { link, .. }) => Ok(self.follow(link.cid)),
            Some(Child::Shard(cid)) => {
                self.shard = Some(bits);
                self.at = *cid;
                Ok(Next::Block)
            }
        }
    }

    fn read_data(&mut self, found: Result<Found, DecodeError>) -> Result<Next, ResolveError> {
        match found.map_err(|source| self.undecodable(source))? {
            Found::Link { cid, used_count } => {
                // The segments before the last one led to values in this block.
                self.roots.extend(std::iter::repeat_n(self.at, used_count.saturating_sub(1)));
                self.roots.extend((used_count > 0).then_some(cid));
                self.used_count += used_count;
                self.at = cid;
                Ok(Next::Block)
            }
            Found::Inside => {
                let remainder = self.rest().to_vec();
                Ok(Next::End(NodeKind::Data { codec: self.at.codec() }, remainder))
            }
            Found::Missing { index } => {
                let segment = self.rest()[index].clone();
                Err(ResolveError::NotFound { segment, parent: self.at })
            }
            Found::Scalar { index } => {
                let segment = self.rest()[index].clone();
                Err(ResolveError::NotADirectory { segment, cid: self.at, kind: "block with a plain value" })
            }
        }
    }

    /// Goes to what the next segment links.
    fn follow(&mut self, cid: Cid) -> Next {
        self.attributes = Attributes::default();
        self.used_count += 1;
        self.roots.push(cid);
        self.at = cid;
        self.shard = None;
        Next::Block
    }

    fn end_or_refuse(&self, what: &'static str, kind: NodeKind) -> Result<Next, ResolveError> {
        match self.rest().first() {
            None => Ok(Next::End(kind, Vec::new())),
            Some(segment) => {
                Err(ResolveError::NotADirectory { segment: segment.clone(), cid: self.at, kind: what })
            }
        }
    }

    fn not_found(&self) -> ResolveError {
        let segment = self.rest().first().cloned().unwrap_or_default();
        let parent = self.roots.last().copied().unwrap_or(self.at);
        ResolveError::NotFound { segment, parent }
    }

    fn undecodable(&self, source: DecodeError) -> ResolveError {
        ResolveError::Decode { cid: self.at, source }
    }
}

/// Where a block leads.
enum Next {
    /// To another one, which is `at`.
    Block,
    /// Nowhere: the path ends here, with these segments left inside the block.
    End(NodeKind, Vec<String>),
}

impl Machine for Resolver {
    type Item = Resolved;
    type Error = ResolveError;

    fn next(&mut self) -> Result<Step<Resolved>, ResolveError> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Ask if self.rest().is_empty() && !matches!(self.at.codec(), RAW | DAG_PB) => {
                    // The CID alone tells what it is.
                    let kind = NodeKind::Data { codec: self.at.codec() };
                    self.go(Ok(Next::End(kind, Vec::new())));
                }
                State::Ask => match Block::from_identity(self.at) {
                    Some(block) => self.read(&block),
                    None => {
                        self.state = State::Waiting;
                        return Ok(Step::Need(vec![self.at]));
                    }
                },
                State::Waiting => {
                    self.state = State::Waiting;
                    return Ok(Step::Pending);
                }
                State::Ended(end) => return end.map(Step::Emit),
                State::Done => return Ok(Step::Done),
            }
        }
    }

    fn provide(&mut self, block: Block) {
        self.accept(block);
    }
}

#[cfg(test)]
mod tests;
