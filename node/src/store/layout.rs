//! Keys and values of every column family, as pure functions. `docs/design/0002-store-layout.md` explains them.
//!
//! Numbers in keys are big endian, so that rows sort by them.

use cairn_proto::cid::{CBOR, Cid, JSON, LIBP2P_KEY, Multihash, RAW, Version};

/// Version of the layout that this program writes.
pub(crate) const FORMAT: u32 = 1;

/// Column families.
pub(crate) mod cf {
    pub(crate) const PAYLOAD: &str = "payload";
    pub(crate) const INDEX: &str = "index";
    pub(crate) const IDS: &str = "ids";
    pub(crate) const EDGES: &str = "edges";
    pub(crate) const PINS: &str = "pins";
    pub(crate) const NAMES: &str = "names";
    pub(crate) const RECORDS: &str = "records";
    pub(crate) const PROVIDE: &str = "provide";
    pub(crate) const FILES: &str = "files";
    pub(crate) const PINNING: &str = "pinning";
    pub(crate) const META: &str = "meta";
    pub(crate) const ALL: [&str; 11] =
        [PAYLOAD, INDEX, IDS, EDGES, PINS, NAMES, RECORDS, PROVIDE, FILES, PINNING, META];
}

/// Rows of `meta`.
pub(crate) mod meta {
    pub(crate) const FORMAT: &[u8] = b"format";
    pub(crate) const MARK: &[u8] = b"mark";
    pub(crate) const COUNTERS: &[u8] = b"counters";
    /// Id up to which a verification that was cut short has come.
    pub(crate) const VERIFIED: &[u8] = b"verified";
    /// Number of the last batch that went through the log.
    pub(crate) const COMMIT: &[u8] = b"commit";
    /// Followed by a work number: nodes whose edges go unless something else keeps them.
    pub(crate) const RELEASE: &[u8] = b"release/";
    /// Followed by a bucket number: payload bytes removed from it since it was last compacted.
    pub(crate) const GARBAGE: &[u8] = b"garbage/";
}

/// Number of a block in the order of arrival; 0 is no block.
pub(crate) type BlockId = u64;

/// The id that pins of identity CIDs stand under: they have no block.
pub(crate) const NO_BLOCK: BlockId = 0;

/// Ids that share one row of `garbage/`.
pub(crate) const BUCKET_IDS: u64 = 256;

const DAMAGED: u32 = 1 << 31;

/// Where a block is, from its row in `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: BlockId,
    pub(crate) len_bytes: u32,
    /// The payload was found damaged and set aside; the id is kept for the bytes to come back.
    pub(crate) damaged: bool,
}

impl Entry {
    pub(crate) fn new(id: BlockId, len_bytes: u32) -> Self {
        Self { id, len_bytes, damaged: false }
    }

    /// Value of the row in `index`: id ‖ length, with the top bit of the length set when damaged.
    pub(crate) fn encode(&self) -> [u8; 12] {
        let mut row = [0; 12];
        row[..8].copy_from_slice(&self.id.to_be_bytes());
        row[8..].copy_from_slice(&self.flagged_len().to_be_bytes());
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let (id, rest) = split_u64(row)?;
        let len = u32::from_be_bytes(rest.try_into().ok()?);
        Some(Self { id, len_bytes: len & !DAMAGED, damaged: len & DAMAGED != 0 })
    }

    /// Value of the row in `ids`: length ‖ multihash.
    pub(crate) fn encode_with(&self, multihash: &[u8]) -> Vec<u8> {
        [&self.flagged_len().to_be_bytes(), multihash].concat()
    }

    /// Reads a row of `ids`.
    pub(crate) fn decode_with<'row>(key: &[u8], row: &'row [u8]) -> Option<(Self, &'row [u8])> {
        let id = u64::from_be_bytes(key.try_into().ok()?);
        let (len, multihash) = row.split_first_chunk()?;
        let len = u32::from_be_bytes(*len);
        Some((Self { id, len_bytes: len & !DAMAGED, damaged: len & DAMAGED != 0 }, multihash))
    }

    fn flagged_len(&self) -> u32 {
        self.len_bytes | if self.damaged { DAMAGED } else { 0 }
    }
}

/// Key of a row in `payload`: id ‖ multihash.
pub(crate) fn payload_key(id: BlockId, multihash: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes(), multihash].concat()
}

/// Room for the key of an edge between nodes of the usual codecs, in bytes.
const EDGE_KEY_BYTES: usize = 2 * (8 + 2);

/// A block read under a codec. The same bytes may be a leaf to one DAG and a parent to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DagNode {
    pub(crate) id: BlockId,
    pub(crate) codec: u64,
}

impl DagNode {
    /// Prefix of the rows in `edges` that keep this node: id ‖ varint codec.
    pub(crate) fn edge_prefix(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(EDGE_KEY_BYTES);
        self.push(&mut key);
        key
    }

    fn push(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.id.to_be_bytes());
        push_varint(key, self.codec);
    }

    fn decode(row: &[u8]) -> Option<(Self, &[u8])> {
        let (id, rest) = split_u64(row)?;
        let (codec, rest) = unsigned_varint::decode::u64(rest).ok()?;
        Some((Self { id, codec }, rest))
    }

    /// Nodes one behind the other.
    pub(crate) fn encode_list(nodes: impl IntoIterator<Item = Self>) -> Vec<u8> {
        nodes.into_iter().flat_map(|node| node.edge_prefix()).collect()
    }

    pub(crate) fn decode_list(mut row: &[u8]) -> Option<Vec<Self>> {
        let mut nodes = Vec::new();
        while !row.is_empty() {
            let (node, rest) = Self::decode(row)?;
            nodes.push(node);
            row = rest;
        }
        Some(nodes)
    }
}

/// One link of a kept DAG: `parent` keeps `child`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    pub(crate) child: DagNode,
    pub(crate) parent: DagNode,
    /// Version of the CID by which the parent names the child; for listings only.
    pub(crate) child_version: Version,
}

impl Edge {
    /// Key of the row: child id ‖ varint child codec ‖ parent id ‖ varint parent codec.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = self.child.edge_prefix();
        self.parent.push(&mut key);
        key
    }

    /// Value of the row: nothing, or one zero byte for a child named by a CID of version 0.
    pub(crate) fn value(&self) -> &'static [u8] {
        if self.child_version == Version::V0 { &[0] } else { &[] }
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (child, rest) = DagNode::decode(key)?;
        let (parent, rest) = DagNode::decode(rest)?;
        let child_version = if value.is_empty() { Version::V1 } else { Version::V0 };
        rest.is_empty().then_some(Self { child, parent, child_version })
    }
}

/// How a pin holds its CID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PinKind {
    /// The whole DAG below it.
    Recursive,
    /// The one block.
    Direct,
}

impl PinKind {
    fn byte(self) -> u8 {
        match self {
            Self::Recursive => b'r',
            Self::Direct => b'd',
        }
    }
}

/// Key of a row in `pins`: id ‖ kind ‖ CID.
pub(crate) fn pin_key(id: BlockId, kind: PinKind, cid: &Cid) -> Vec<u8> {
    let mut key = pin_prefix(id, kind);
    key.extend_from_slice(&cid.to_bytes());
    key
}

/// Prefix of the pins of one kind on a block.
pub(crate) fn pin_prefix(id: BlockId, kind: PinKind) -> Vec<u8> {
    let mut key = id.to_be_bytes().to_vec();
    key.push(kind.byte());
    key
}

/// Reads a key of `pins`.
pub(crate) fn decode_pin_key(key: &[u8]) -> Option<(BlockId, PinKind, Cid)> {
    let (id, rest) = split_u64(key)?;
    let (kind, cid) = rest.split_first()?;
    let kind = match kind {
        b'r' => PinKind::Recursive,
        b'd' => PinKind::Direct,
        _ => return None,
    };
    Some((id, kind, Cid::try_from(cid).ok()?))
}

/// Totals that are kept current with every batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStat {
    /// Blocks.
    pub block_count: u64,
    /// Their contents together, in bytes.
    pub block_bytes: u64,
    /// Pins, recursive and direct.
    pub pin_count: u64,
}

impl StoreStat {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.block_count, self.block_bytes, self.pin_count].iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let (block_count, row) = split_u64(row)?;
        let (block_bytes, row) = split_u64(row)?;
        let (pin_count, row) = split_u64(row)?;
        row.is_empty().then_some(Self { block_count, block_bytes, pin_count })
    }
}

/// Whether blocks of that codec may have links. The others are leaves: they are kept, never walked.
pub(crate) fn has_links(codec: u64) -> bool {
    !matches!(codec, RAW | CBOR | JSON | LIBP2P_KEY)
}

/// Key of a row of `meta` that ends in a number.
pub(crate) fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

/// The number at the end of such a key.
pub(crate) fn number_of(prefix: &[u8], key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(prefix)?.try_into().ok()?))
}

/// A multihash from its bytes.
pub(crate) fn multihash(bytes: &[u8]) -> Option<Multihash> {
    Multihash::from_bytes(bytes).ok()
}

/// The number at the start of a key.
pub(crate) fn split_u64(row: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = row.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn push_varint(key: &mut Vec<u8>, number: u64) {
    key.extend_from_slice(unsigned_varint::encode::u64(number, &mut unsigned_varint::encode::u64_buffer()));
}
