//! CAR archives: CARv1 out, also as the payload of a CARv2 without an index; both in, every block verified.
//!
//! Source: <https://ipld.io/specs/transport/car/>. Nothing is allocated from a declared length before its bytes are here,
//! but for one section of at most [`MAX_SECTION_BYTES`].

mod reader;
mod select;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::block::{Block, BlockError};
use crate::cid::{Cid, CidError};
use crate::limits::{MAX_BLOCK_BYTES, MAX_CAR_HEADER_BYTES, MAX_CID_BYTES};

pub use reader::Reader;
pub use select::{SelectError, Selected, Selection};

/// Largest section accepted, in bytes: a CID and a block.
pub const MAX_SECTION_BYTES: usize = MAX_BLOCK_BYTES + MAX_CID_BYTES;

/// Why an archive cannot be read on. Blocks before `offset` were whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarError {
    /// The archive does not begin as one.
    #[error("not a CAR: {reason}")]
    Header {
        /// What is wrong.
        reason: String,
    },
    /// A header that announces more than [`MAX_CAR_HEADER_BYTES`].
    #[error("CAR header too large, len_bytes={len_bytes} max={}", MAX_CAR_HEADER_BYTES)]
    HeaderTooLarge {
        /// Length announced, in bytes.
        len_bytes: u64,
    },
    /// A section of length zero, or one that announces more than [`MAX_SECTION_BYTES`].
    #[error(
        "CAR section of a forbidden length, offset={offset} len_bytes={len_bytes} max={}",
        MAX_SECTION_BYTES
    )]
    SectionLength {
        /// Where the section starts, in bytes from the start of the archive.
        offset: u64,
        /// Length announced, in bytes.
        len_bytes: u64,
    },
    /// A section that goes on behind the end of a CARv2's payload.
    #[error("CAR section beyond the end of the payload, offset={offset}")]
    Overrun {
        /// Where the section starts, in bytes from the start of the archive.
        offset: u64,
    },
    /// A section that does not begin with an acceptable CID.
    #[error("CAR section without an acceptable CID, offset={offset}: {source}")]
    Cid {
        /// Where the section starts, in bytes from the start of the archive.
        offset: u64,
        /// What is wrong with it.
        source: CidError,
    },
    /// A block that does not hash to its CID.
    #[error("CAR section with a false block, offset={offset}: {source}")]
    Block {
        /// Where the section starts, in bytes from the start of the archive.
        offset: u64,
        /// What is wrong with it.
        source: BlockError,
    },
    /// The archive ends in the middle.
    #[error("CAR is cut off, the last whole block ends at offset={offset}")]
    Torn {
        /// Where the last whole section ends, in bytes from the start of the archive.
        offset: u64,
    },
}

/// The header of a CARv1 with these roots.
pub fn header(roots: &[Cid]) -> Bytes {
    // Canonical DAG-CBOR of {"roots": [tag 42 …], "version": 1}.
    let mut body = BytesMut::new();
    body.put_slice(b"\xa2\x65roots");
    put_cbor_head(&mut body, 0x80, roots.len());
    for root in roots {
        let cid = root.to_bytes();
        body.put_slice(b"\xd8\x2a");
        put_cbor_head(&mut body, 0x40, cid.len() + 1);
        body.put_u8(0);
        body.put_slice(&cid);
    }
    body.put_slice(b"\x67version\x01");
    let mut header = varint(body.len() as u64);
    header.unsplit(body);
    header.freeze()
}

/// A CARv1 header with the version 2 and nothing else, which begins every CARv2.
const V2_PRAGMA: &[u8] = b"\x0a\xa1gversion\x02";

/// The rest of a CARv2 header: characteristics, then offset and size of the payload and offset of the index.
const V2_HEADER_BYTES: usize = 40;

/// What stands before a CARv1 of that length to make it a CARv2. It has no index, which readers make themselves.
pub fn v2_header(payload_bytes: u64) -> Bytes {
    let len = V2_PRAGMA.len() + V2_HEADER_BYTES;
    let mut header = BytesMut::with_capacity(len);
    header.put_slice(V2_PRAGMA);
    header.put_bytes(0, 16);
    header.put_u64_le(len as u64);
    header.put_u64_le(payload_bytes);
    // No index.
    header.put_u64_le(0);
    header.freeze()
}

/// What stands before a block's data in its section: the length of the section and the CID.
pub fn section_head(block: &Block) -> Bytes {
    let cid = block.cid().to_bytes();
    let mut head = varint((cid.len() + block.data().len()) as u64);
    head.put_slice(&cid);
    head.freeze()
}

/// Bytes that a block takes in an archive.
pub fn section_len(block: &Block) -> u64 {
    (section_head(block).len() + block.data().len()) as u64
}

fn varint(value: u64) -> BytesMut {
    BytesMut::from(unsigned_varint::encode::u64(value, &mut unsigned_varint::encode::u64_buffer()))
}

/// Writes the head of a CBOR array (`0x80`) or byte string (`0x40`).
fn put_cbor_head(out: &mut BytesMut, major: u8, count: usize) {
    match count {
        0..=23 => out.put_u8(major | u8::try_from(count).expect("at most 23")),
        24..=0xff => {
            out.put_u8(major | 24);
            out.put_u8(u8::try_from(count).expect("at most 255"));
        }
        0x100..=0xffff => {
            out.put_u8(major | 25);
            out.put_u16(u16::try_from(count).expect("at most 65,535"));
        }
        _ => {
            out.put_u8(major | 27);
            out.put_u64(count as u64);
        }
    }
}

#[cfg(test)]
mod tests;
