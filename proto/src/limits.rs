//! Every bound that a peer, a file or a request is held to, with its source.
//!
//! A limit stands here once; other code and docs link to it.

/// Largest block accepted, stored or sent, in bytes.
///
/// Source: <https://specs.ipfs.tech/bitswap-protocol/> (2 MiB).
pub const MAX_BLOCK_BYTES: usize = 2 * 1024 * 1024;

/// Largest Bitswap message accepted or sent, in bytes, length prefix excluded.
///
/// Source: <https://specs.ipfs.tech/bitswap-protocol/> (4 MiB for every message).
/// A peer that announces more is disconnected before its bytes are buffered.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Largest binary CID accepted in a wantlist, in bytes: four varints and a digest of [`MAX_DIGEST_BYTES`].
///
/// Source: boxo `bitswap/server/internal/decision/engine.go`.
pub const MAX_CID_BYTES: usize = 168;

/// Most entries, presences and blocks together in one Bitswap message.
///
/// A message of [`MAX_MESSAGE_BYTES`] full of ordinary CIDs has fewer; one of empty items would take 25 times its length
/// in memory.
pub const MAX_MESSAGE_ITEMS: usize = 100_000;

/// Blocks up to this length are sent in place of a HAVE, in bytes.
///
/// Source: boxo `bitswap/internal/defaults` (1,024).
pub const MAX_HAVE_REPLACED_BYTES: usize = 1024;

/// Wants kept for one peer; the ones of lowest priority go first.
///
/// Source: boxo `bitswap/internal/defaults` (1,024).
pub const MAX_WANTS_PER_PEER: usize = 1024;

/// Wants kept for one peer that is a Cairn node too.
///
/// What is on its way on a line of 1 Gbit/s and 100 ms is a thousand blocks of 12 KiB, and small files are smaller.
pub const MAX_WANTS_PER_KIN: usize = 8192;

/// Longest digest accepted, in bytes; also the longest content of an identity CID.
///
/// Source: boxo `verifcid`.
pub const MAX_DIGEST_BYTES: usize = 128;

/// Shortest digest accepted of a hash function, in bytes (identity excepted).
///
/// Source: boxo `verifcid`.
pub const MIN_DIGEST_BYTES: usize = 20;

/// Segments of a content path.
pub const MAX_PATH_SEGMENTS: usize = 256;

/// Length of a content path, in bytes.
pub const MAX_PATH_BYTES: usize = 16 * 1024;

/// Deepest DAG that a walk follows, in links from its root.
///
/// Source: boxo gateway, which cuts at the same depth for CAR and TAR.
pub const MAX_DAG_DEPTH: usize = 1024;

/// Most memory that a walk takes for links which it knows and has not followed, in bytes.
///
/// A walk down directories of the largest blocks, fifty deep, stays below it.
pub const MAX_FRONTIER_BYTES: usize = 256 * 1024 * 1024;

/// Deepest nesting of lists and maps in a DAG-CBOR block.
///
/// Source: go-ipld-prime 0.24 (1,024 by default; CVE-2026-42328).
pub const MAX_CBOR_DEPTH: usize = 1024;

/// Smallest fanout of a HAMT directory: its bitfield is whole bytes.
pub const MIN_HAMT_FANOUT: usize = 8;

/// Largest fanout of a HAMT directory. Source: boxo `ipld/unixfs/hamt`.
pub const MAX_HAMT_FANOUT: usize = 1024;

/// Largest CAR header, in bytes.
pub const MAX_CAR_HEADER_BYTES: usize = 1024 * 1024;

/// Longest pin name, in bytes. Source: Kubo 0.38.
pub const MAX_PIN_NAME_BYTES: usize = 255;

/// Largest fixed chunk, in bytes: a block less what its dag-pb wrapping may need.
///
/// Source: Kubo 0.40 (`2 MiB - 256`).
pub const MAX_CHUNK_BYTES: usize = MAX_BLOCK_BYTES - 256;

/// Largest IPNS record accepted, in bytes. Source: <https://specs.ipfs.tech/ipns/ipns-record/#record-size-limit>.
pub const MAX_IPNS_RECORD_BYTES: usize = 10 * 1024;
