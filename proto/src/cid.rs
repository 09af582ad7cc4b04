//! CIDs: which ones are accepted, and how one is made from bytes.
//!
//! A [`Cid`] holds digests of up to [`MAX_DIGEST_BYTES`], so that every identity CID that the network allows fits.

use crate::limits::{MAX_DIGEST_BYTES, MIN_DIGEST_BYTES};

pub use crate::hash::{HASHED_TOGETHER, HashFunction};
pub use cid::Version;

/// A content identifier with room for the longest digest.
pub type Cid = cid::CidGeneric<MAX_DIGEST_BYTES>;

/// A multihash with room for the longest digest.
pub type Multihash = multihash::Multihash<MAX_DIGEST_BYTES>;

/// Codec of raw bytes.
pub const RAW: u64 = 0x55;
/// Codec of the protobuf Merkle-DAG format.
pub const DAG_PB: u64 = 0x70;
/// Codec of DAG-CBOR.
pub const DAG_CBOR: u64 = 0x71;
/// Codec of DAG-JSON.
pub const DAG_JSON: u64 = 0x0129;
/// Codec of plain CBOR, which has no links.
pub const CBOR: u64 = 0x51;
/// Codec of plain JSON, which has no links.
pub const JSON: u64 = 0x0200;
/// Codec of IPNS names.
pub const LIBP2P_KEY: u64 = 0x72;

/// Multihash code of the identity function: the digest is the content.
pub const IDENTITY: u64 = 0x00;
/// Multihash code of SHA2-256.
pub const SHA2_256: u64 = 0x12;

/// Why a CID is not acceptable, whatever its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidError {
    /// The text or bytes are not a CID.
    #[error("invalid CID: {0}")]
    Malformed(String),
    /// The hash function is unknown, broken or not implemented.
    #[error("hash function not allowed, code=0x{code:x}")]
    HashFunction {
        /// Multihash code.
        code: u64,
    },
    /// The digest has a length that is not allowed.
    #[error("digest length not allowed, len_bytes={len_bytes} min={min} max={}", MAX_DIGEST_BYTES)]
    DigestLength {
        /// Length found, in bytes.
        len_bytes: usize,
        /// Least length for this function, in bytes.
        min: usize,
    },
}

/// Parses the text form of a CID (any version and base) and checks it against [`check`].
///
/// # Errors
/// [`CidError`] for text that is no CID or one that is not accepted.
pub fn parse(text: &str) -> Result<Cid, CidError> {
    let cid = decode_text(text)?;
    check(&cid).map(|()| cid)
}

/// Parses the binary form of a CID, with nothing behind it, and checks it against [`check`].
///
/// # Errors
/// [`CidError`] for bytes that are no CID or one that is not accepted.
pub fn parse_bytes(bytes: &[u8]) -> Result<Cid, CidError> {
    let cid = decode(bytes)?;
    check(&cid).map(|()| cid)
}

/// Reads the binary form of a CID, with nothing behind it, whatever its hash function.
///
/// For CIDs that stand in blocks, which may name what nobody can check; [`parse_bytes`] is for those that are asked for.
///
/// # Errors
/// [`CidError::Malformed`].
pub fn decode(bytes: &[u8]) -> Result<Cid, CidError> {
    read_whole(bytes).map_err(CidError::Malformed)
}

/// Reads the text form of a CID as [`decode`] reads the binary one.
///
/// # Errors
/// [`CidError::Malformed`].
pub fn decode_text(text: &str) -> Result<Cid, CidError> {
    let bytes = if Version::is_v0_str(text) {
        multibase::Base::Base58Btc.decode(text)
    } else {
        multibase::decode(text).map(|(_, bytes)| bytes)
    };
    let cid = bytes.map_err(|error| error.to_string()).and_then(|bytes| read_whole(&bytes));
    cid.map_err(|reason| CidError::Malformed(format!("{reason}, text={text:?}")))
}

fn read_whole(bytes: &[u8]) -> Result<Cid, String> {
    let mut rest = bytes;
    let cid = Cid::read_bytes(&mut rest).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("bytes behind the CID".to_owned());
    }
    Ok(cid)
}

/// Holds a CID against the hash functions and digest lengths that Cairn accepts.
///
/// Source: boxo `verifcid` (allow-list, digests of 20 to 128 bytes, identity of at most 128).
///
/// # Errors
/// [`CidError::HashFunction`] or [`CidError::DigestLength`].
pub fn check(cid: &Cid) -> Result<(), CidError> {
    let code = cid.hash().code();
    let len_bytes = cid.hash().digest().len();
    if code == IDENTITY {
        return Ok(());
    }
    HashFunction::from_code(code)?;
    if len_bytes < MIN_DIGEST_BYTES {
        return Err(CidError::DigestLength { len_bytes, min: MIN_DIGEST_BYTES });
    }
    Ok(())
}

/// The content of an identity CID, which needs no block.
pub fn identity_content(cid: &Cid) -> Option<&[u8]> {
    (cid.hash().code() == IDENTITY).then(|| cid.hash().digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_a_cid_are_refused_in_both_forms() {
        let cid = parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").unwrap();
        let mut bytes = cid.to_bytes();
        assert_eq!(parse_bytes(&bytes), Ok(cid));
        bytes.push(0);
        assert!(parse_bytes(&bytes).is_err());
        assert!(parse(&multibase::encode(multibase::Base::Base32Lower, &bytes)).is_err());
        assert!(parse(&format!("see /ipfs/{cid}")).is_err());
    }

    #[test]
    fn digest_lengths_are_held_to_their_bounds() {
        let sha2 = |len: usize| Cid::new_v1(RAW, Multihash::wrap(SHA2_256, &vec![7; len]).unwrap());
        assert!(check(&sha2(MIN_DIGEST_BYTES)).is_ok());
        assert!(check(&sha2(MIN_DIGEST_BYTES - 1)).is_err());
        let identity =
            |len: usize| Multihash::wrap(IDENTITY, &vec![7; len]).map(|hash| Cid::new_v1(RAW, hash));
        assert!(check(&identity(MAX_DIGEST_BYTES).unwrap()).is_ok());
        assert!(identity(MAX_DIGEST_BYTES + 1).is_err());
    }

    #[test]
    fn unknown_hash_functions_are_refused() {
        let murmur3 = Cid::new_v1(RAW, Multihash::wrap(0x22, &[7; 32]).unwrap());
        assert_eq!(check(&murmur3), Err(CidError::HashFunction { code: 0x22 }));
    }
}
