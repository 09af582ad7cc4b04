//! From files and directories to blocks, bit for bit as Kubo makes them.
//!
//! The caller cuts a file by its [`Chunker`], makes each [`leaf`] on any core, and feeds [`FileBuilder`] in
//! order, which puts nodes above them by one [`Layout`] or the other; [`DirectoryBuilder`] takes the roots that come out. Everything is pure: blocks are returned,
//! nothing is stored.
//!
//! Source: IPIP-499 (<https://specs.ipfs.tech/ipips/ipip-0499/>), boxo `ipld/unixfs/importer` and
//! `ipld/unixfs/io`.

mod balanced;
mod chunker;
mod directory;
mod file;
mod trickle;

use bytes::Bytes;

use super::{Attributes, Data, Kind, Mtime};
use crate::block::{Block, BlockError};
use crate::cid::{Cid, DAG_PB, HashFunction, RAW, Version};
use crate::codec::dag_pb::{self, PbNode, link_len, put_link, write_cid};
use crate::codec::wire::bytes_field_len;
use crate::limits::{MAX_CHUNK_BYTES, MAX_DIGEST_BYTES, MAX_HAMT_FANOUT, MIN_HAMT_FANOUT};

pub use chunker::Chunker;
pub use directory::DirectoryBuilder;
pub use file::FileBuilder;

/// Why something cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A chunker that does not exist here.
    #[error(
        "chunker not supported, name={name:?}; there are size-<bytes>, rabin, rabin-<min>-<average>-<max> and buzhash"
    )]
    Chunker {
        /// The name as given.
        name: String,
    },
    /// A chunk must hold something and fit in a block.
    #[error("chunk length not allowed, len_bytes={len_bytes} min={min} max={}", MAX_CHUNK_BYTES)]
    ChunkLength {
        /// Length asked for, in bytes.
        len_bytes: usize,
        /// Shortest that it may be, in bytes.
        min: usize,
    },
    /// Options that cannot be or do not go together.
    #[error("{0}")]
    Options(&'static str),
    /// A name that no directory can have.
    #[error("invalid name in a directory, name={name:?}")]
    Name {
        /// The name, with anything that is not UTF-8 replaced.
        name: String,
    },
    /// Names that a sharded directory cannot tell apart.
    #[error("two names with the same hash, names={names:?}")]
    HashCollision {
        /// The names, with anything that is not UTF-8 replaced.
        names: [String; 2],
    },
    /// A node that is not a valid block.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// A named set of [`ImportOptions`] that gives the same CIDs in every implementation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// `unixfs-v1-2025`: what is recommended now, and our default.
    #[default]
    UnixfsV1_2025,
    /// `unixfs-v0-2015`: what Kubo did by default for ten years.
    UnixfsV0_2015,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 2] = [Self::UnixfsV1_2025, Self::UnixfsV0_2015];

    /// Its name in IPIP-499.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnixfsV1_2025 => "unixfs-v1-2025",
            Self::UnixfsV0_2015 => "unixfs-v0-2015",
        }
    }

    /// The profile of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }
}

/// How the size of a directory is told before it is decided whether to shard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeEstimate {
    /// Names and binary CIDs only.
    Links,
    /// The block that the directory would be, to the byte.
    Block,
    /// None: only the number of entries counts.
    Disabled,
}

/// How the nodes above the leaves of a file are put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// All leaves at one depth: any place is found in the same number of steps.
    #[default]
    Balanced,
    /// Leaves at every depth, the first ones nearest to the root: what is read from its start comes soonest.
    Trickle,
}

impl Layout {
    /// The layout of that name: `balanced` or `trickle`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "balanced" => Some(Self::Balanced),
            "trickle" => Some(Self::Trickle),
            _ => None,
        }
    }
}

/// Everything that decides what CID some content gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// CID version of every block but raw leaves, which are always of version 1.
    pub cid_version: Version,
    /// Whether leaves hold content only, or wrapped in UnixFS.
    pub raw_leaves: bool,
    /// Hash function of every block.
    pub hash: HashFunction,
    /// Where files are cut.
    pub chunker: Chunker,
    /// How leaves become a file.
    pub layout: Layout,
    /// Blocks up to this length stand in their CIDs, in bytes; `None` for no block.
    pub inline_limit_bytes: Option<usize>,
    /// Children of a file's node, at most. In [`Layout::Trickle`] leaves of a node, at most.
    pub max_file_links: usize,
    /// Entries of a directory in one node, at most; 0 for no such bound.
    pub max_directory_links: usize,
    /// Children of a shard, at most.
    pub hamt_fanout: usize,
    /// A directory is sharded when its size is above this, in bytes; 0 to shard none.
    pub hamt_threshold_bytes: u64,
    /// What that size is.
    pub hamt_size_estimate: SizeEstimate,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self::from_profile(Profile::default())
    }
}

impl ImportOptions {
    /// The options of a profile.
    pub fn from_profile(profile: Profile) -> Self {
        let common = Self {
            cid_version: Version::V1,
            raw_leaves: true,
            hash: HashFunction::Sha2_256,
            chunker: Chunker::MIB_1,
            layout: Layout::Balanced,
            inline_limit_bytes: None,
            max_file_links: 1024,
            max_directory_links: 0,
            hamt_fanout: 256,
            hamt_threshold_bytes: 256 * 1024,
            hamt_size_estimate: SizeEstimate::Block,
        };
        match profile {
            Profile::UnixfsV1_2025 => common,
            Profile::UnixfsV0_2015 => Self {
                cid_version: Version::V0,
                raw_leaves: false,
                chunker: Chunker::KIB_256,
                max_file_links: 174,
                hamt_size_estimate: SizeEstimate::Links,
                ..common
            },
        }
    }

    /// These options with what a user asked for in place.
    ///
    /// A hash function other than SHA2-256 takes CIDs of version 1 with it, and whoever asks for a version
    /// gets the leaves that go with it, raw ones with 1 and wrapped ones with 0, unless `raw_leaves` says
    /// otherwise.
    ///
    /// # Errors
    /// [`ImportError::Options`] for version 0 with another hash function.
    pub fn with_cid_options(
        mut self,
        cid_version: Option<Version>,
        hash: Option<HashFunction>,
        raw_leaves: Option<bool>,
    ) -> Result<Self, ImportError> {
        self.hash = hash.unwrap_or(self.hash);
        let implied = (self.hash != HashFunction::Sha2_256).then_some(Version::V1);
        let asked = cid_version.or(implied.filter(|&version| version != self.cid_version));
        self.cid_version = asked.unwrap_or(self.cid_version);
        self.raw_leaves =
            raw_leaves.or(asked.map(|version| version == Version::V1)).unwrap_or(self.raw_leaves);
        self.check().map(|()| self)
    }

    /// Whether blocks can be made with these options.
    ///
    /// # Errors
    /// [`ImportError::Options`].
    pub fn check(&self) -> Result<(), ImportError> {
        if self.cid_version == Version::V0 && self.hash != HashFunction::Sha2_256 {
            return Err(ImportError::Options("CIDs of version 0 have SHA2-256 only; use version 1"));
        }
        if self.max_file_links < 2 {
            return Err(ImportError::Options("a file's node needs at least 2 links"));
        }
        if !self.hamt_fanout.is_power_of_two()
            || !(MIN_HAMT_FANOUT..=MAX_HAMT_FANOUT).contains(&self.hamt_fanout)
        {
            return Err(ImportError::Options(
                "the fanout of a directory must be a power of two from 8 to 1024",
            ));
        }
        if self.inline_limit_bytes.is_some_and(|limit| limit > MAX_DIGEST_BYTES) {
            return Err(ImportError::Options("a block in its CID has at most 128 bytes"));
        }
        Ok(())
    }

    /// The block of a dag-pb node, under these options.
    fn node_block(&self, node: Vec<u8>) -> Result<Block, BlockError> {
        self.block(self.cid_version, DAG_PB, node.into())
    }

    fn block(&self, version: Version, codec: u64, data: Bytes) -> Result<Block, BlockError> {
        match self.inline_limit_bytes {
            Some(limit) if data.len() <= limit => Block::identity(codec, &data),
            _ => Block::hash(version, codec, self.hash, data),
        }
    }
}

/// A leaf of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Block.
    pub block: Block,
    /// Length of its content, in bytes.
    pub len_bytes: u64,
}

impl Leaf {
    /// What a parent needs to know of it.
    fn to_part(&self) -> Part {
        Part { cid: *self.block.cid(), len_bytes: self.len_bytes, tsize: self.tsize() }
    }

    /// Length of its block, in bytes.
    pub fn tsize(&self) -> u64 {
        self.block.data().len() as u64
    }

    /// The same leaf as a whole file, which can have attributes.
    fn with_attributes(self, options: &ImportOptions, attributes: Attributes) -> Result<Self, BlockError> {
        let payload = PbNode::decode(self.block.data()).ok().and_then(|node| node.data);
        let message = payload.and_then(|payload| Data::decode(&payload).ok());
        match message {
            Some(mut message) if self.block.cid().codec() == DAG_PB => {
                message.set_attributes(attributes);
                Ok(Self { block: options.node_block(bare_node(&message))?, ..self })
            }
            // A raw block has no room for them.
            _ => Ok(self),
        }
    }
}

/// What a parent needs to know of a part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    cid: Cid,
    /// Length of the content below it, in bytes.
    len_bytes: u64,
    /// Length of its block and of all below it, in bytes.
    tsize: u64,
}

/// A file or directory that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Root.
    pub cid: Cid,
    /// Length of a file's content, in bytes; 0 for a directory.
    pub len_bytes: u64,
    /// Length of the root's block and of all below it, in bytes: what a link to it says.
    pub tsize: u64,
    /// Blocks that were not returned before, children first.
    pub blocks: Vec<Block>,
}

/// The leaf that holds `chunk`. Raw leaves share its memory.
///
/// # Errors
/// [`BlockError::TooLarge`], or [`BlockError::Cid`] for options that fail [`ImportOptions::check`].
pub fn leaf(options: &ImportOptions, chunk: Bytes) -> Result<Leaf, BlockError> {
    let len_bytes = chunk.len() as u64;
    let (version, codec) = leaf_format(options);
    Ok(Leaf { block: options.block(version, codec, leaf_data(options, chunk))?, len_bytes })
}

/// The leaves of several chunks, as [`leaf`] makes each; faster than one by one, see [`HashFunction::multihashes`].
///
/// # Errors
/// As [`leaf`].
pub fn leaves(options: &ImportOptions, chunks: Vec<Bytes>) -> Result<Vec<Leaf>, BlockError> {
    if options.inline_limit_bytes.is_some() {
        return chunks.into_iter().map(|chunk| leaf(options, chunk)).collect();
    }
    let lens: Vec<_> = chunks.iter().map(|chunk| chunk.len() as u64).collect();
    let (version, codec) = leaf_format(options);
    let data = chunks.into_iter().map(|chunk| leaf_data(options, chunk)).collect();
    let blocks = Block::hash_all(version, codec, options.hash, data)?;
    Ok(blocks.into_iter().zip(lens).map(|(block, len_bytes)| Leaf { block, len_bytes }).collect())
}

/// Version and codec of leaves.
fn leaf_format(options: &ImportOptions) -> (Version, u64) {
    if options.raw_leaves { (Version::V1, RAW) } else { (options.cid_version, DAG_PB) }
}

/// The bytes of the leaf that holds `chunk`.
fn leaf_data(options: &ImportOptions, chunk: Bytes) -> Bytes {
    if options.raw_leaves {
        return chunk;
    }
    let mut message = Data::new(match options.layout {
        Layout::Balanced => Kind::File,
        Layout::Trickle => Kind::Raw,
    });
    message.filesize = Some(chunk.len() as u64);
    message.data = (!chunk.is_empty()).then_some(chunk);
    bare_node(&message).into()
}

/// The block of a symbolic link to `target`. What a link to it says as its size is the block's length.
///
/// # Errors
/// As [`leaf`].
pub fn symlink(
    options: &ImportOptions,
    target: impl Into<Bytes>,
    mtime: Option<Mtime>,
) -> Result<Block, BlockError> {
    let mut message = Data::new(Kind::Symlink);
    message.data = Some(target.into());
    message.mtime = mtime;
    options.node_block(bare_node(&message))
}

/// Makes the node above `children`.
fn parent(
    options: &ImportOptions,
    children: &[Part],
    attributes: Attributes,
    blocks: &mut Vec<Block>,
) -> Result<Part, BlockError> {
    let mut message = Data::new(Kind::File);
    message.blocksizes = children.iter().map(|child| child.len_bytes).collect();
    let len_bytes = message.blocksizes.iter().sum();
    message.filesize = Some(len_bytes);
    message.set_attributes(attributes);
    let links_len: usize =
        children.iter().map(|child| link_len(child.cid.encoded_len(), Some(0), Some(child.tsize))).sum();
    let mut node = Vec::with_capacity(links_len + bytes_field_len(message.encoded_len()));
    let mut cid = Vec::new();
    for child in children {
        write_cid(&mut cid, &child.cid);
        put_link(&mut node, &cid, Some([&[], &[]]), Some(child.tsize));
    }
    put_message(&mut node, &message);
    let block = options.node_block(node)?;
    let tsize = block.data().len() as u64 + children.iter().map(|child| child.tsize).sum::<u64>();
    let cid = *block.cid();
    blocks.push(block);
    Ok(Part { cid, len_bytes, tsize })
}

/// A node without links.
fn bare_node(message: &Data) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes_field_len(message.encoded_len()));
    put_message(&mut out, message);
    out
}

/// Appends `message` as the payload of a node.
fn put_message(out: &mut Vec<u8>, message: &Data) {
    dag_pb::put_data_header(out, message.encoded_len());
    message.put(out);
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod kubo;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_leaf_shares_the_memory_of_its_chunk() {
        let chunk = Bytes::from(vec![7; 1000]);
        let leaf = leaf(&ImportOptions::default(), chunk.clone()).unwrap();
        assert_eq!(leaf.block.data().as_ptr(), chunk.as_ptr());
        assert_eq!((leaf.len_bytes, leaf.tsize()), (1000, 1000));
    }

    #[test]
    fn leaves_made_together_are_those_made_alone() {
        let chunks = [Bytes::from(vec![1; 5000]), Bytes::new(), Bytes::from(vec![2; 10])];
        for profile in Profile::ALL {
            for inline_limit_bytes in [None, Some(32)] {
                let options = ImportOptions { inline_limit_bytes, ..ImportOptions::from_profile(profile) };
                let alone: Vec<_> =
                    chunks.iter().map(|chunk| leaf(&options, chunk.clone()).unwrap()).collect();
                assert_eq!(leaves(&options, chunks.to_vec()), Ok(alone));
            }
        }
    }

    #[test]
    fn a_wrapped_leaf_of_the_longest_chunk_fits_in_a_block() {
        let options = ImportOptions::from_profile(Profile::UnixfsV0_2015);
        assert!(leaf(&options, vec![0; MAX_CHUNK_BYTES].into()).is_ok());
        let too_long = leaf(&options, vec![0; crate::limits::MAX_BLOCK_BYTES].into());
        assert!(matches!(too_long, Err(BlockError::TooLarge { .. })));
    }

    #[test]
    fn profiles_have_the_names_of_the_specification() {
        for profile in Profile::ALL {
            assert_eq!(Profile::from_name(profile.name()), Some(profile));
            assert_eq!(ImportOptions::from_profile(profile).check(), Ok(()));
        }
        assert_eq!(Profile::from_name("unixfs-v1-2025"), Some(Profile::UnixfsV1_2025));
        assert_eq!(Profile::from_name("test"), None);
    }

    #[test]
    fn options_out_of_bounds_are_refused() {
        let with = |change: fn(&mut ImportOptions)| {
            let mut options = ImportOptions::default();
            change(&mut options);
            options.check().is_ok()
        };
        assert!(with(|options| options.max_file_links = 2));
        assert!(!with(|options| options.max_file_links = 1));
        assert!(with(|options| options.hamt_fanout = MIN_HAMT_FANOUT));
        assert!(!with(|options| options.hamt_fanout = MIN_HAMT_FANOUT / 2));
        assert!(with(|options| options.hamt_fanout = MAX_HAMT_FANOUT));
        assert!(!with(|options| options.hamt_fanout = MAX_HAMT_FANOUT * 2));
        assert!(!with(|options| options.hamt_fanout = 255));
        assert!(with(|options| options.inline_limit_bytes = Some(MAX_DIGEST_BYTES)));
        assert!(!with(|options| options.inline_limit_bytes = Some(MAX_DIGEST_BYTES + 1)));
    }
}
