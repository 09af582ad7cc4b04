//! Codecs: what a block's bytes mean, and which blocks it links.
//!
//! Decoders allocate nothing from a declared length, bound their depth, and never panic.

pub mod dag_cbor;
pub mod dag_json;
pub mod dag_pb;
pub(crate) mod path;
pub(crate) mod wire;

use crate::block::Block;
use crate::cid::{Cid, DAG_CBOR, DAG_JSON, DAG_PB};

/// Why the bytes of a block do not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Bytes that the format forbids. They match their hash, so asking again does not help.
    #[error("invalid {format}: {reason}")]
    Malformed {
        /// Name of the format.
        format: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Well-formed, but of a codec that UnixFS does not use.
    #[error("not UnixFS, codec=0x{codec:x}")]
    NotUnixfs {
        /// Codec of the CID.
        codec: u64,
    },
}

/// Links of a block, in the order in which they stand; a CID that stands twice is given twice.
///
/// Blocks of codecs without links, and of codecs that are not known, have none. The CIDs are well-formed but
/// not held against [`crate::cid::check`]: a node may link what nobody can fetch and still be read.
///
/// # Errors
/// [`DecodeError::Malformed`] for bytes that are not of the block's codec.
pub fn links(block: &Block) -> Result<Vec<Cid>, DecodeError> {
    match block.cid().codec() {
        DAG_PB => dag_pb::links(block.data()),
        DAG_CBOR => dag_cbor::links(block.data()),
        DAG_JSON => dag_json::links(block.data()),
        _ => Ok(Vec::new()),
    }
}

/// Whether blocks of this codec can link others, as far as is known.
pub fn has_links(codec: u64) -> bool {
    matches!(codec, DAG_PB | DAG_CBOR | DAG_JSON)
}

/// Links of a block with their names, as [`links`]; the name is empty where the codec has none. Bytes of a name that are
/// not UTF-8 are replaced.
///
/// # Errors
/// As [`links`].
pub fn named_links(block: &Block) -> Result<Vec<(String, Cid)>, DecodeError> {
    if block.cid().codec() != DAG_PB {
        return Ok(links(block)?.into_iter().map(|cid| (String::new(), cid)).collect());
    }
    let node = dag_pb::PbNode::decode(block.data())?;
    Ok(node.links.iter().map(|link| (String::from_utf8_lossy(link.name()).into_owned(), link.cid)).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cid::{HashFunction, Version, parse};

    fn block(codec: u64, data: &[u8]) -> Block {
        Block::hash(Version::V1, codec, HashFunction::Sha2_256, Bytes::copy_from_slice(data)).unwrap()
    }

    #[test]
    fn codecs_without_links_have_none_whatever_their_bytes() {
        for codec in [crate::cid::RAW, crate::cid::CBOR, crate::cid::JSON, 0x78] {
            assert_eq!(links(&block(codec, b"\xff\xff")), Ok(Vec::new()));
        }
        assert!(links(&block(DAG_PB, b"\xff\xff")).is_err());
        assert!(links(&block(DAG_CBOR, b"\xff\xff")).is_err());
        assert!(links(&block(DAG_JSON, b"\xff\xff")).is_err());
    }

    #[test]
    fn links_come_in_their_order_with_repetitions() {
        let a = parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").unwrap();
        let b = parse("Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD").unwrap();
        let link = |cid| dag_pb::PbLink { cid, name: None, tsize: None };
        let node = dag_pb::PbNode { links: [b, a, b].map(link).to_vec(), data: None };
        assert_eq!(links(&block(DAG_PB, &node.encode())), Ok(vec![b, a, b]));
    }
}
