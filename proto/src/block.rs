//! A block: bytes together with the CID that they hash to.
//!
//! Invariant: there is no way to make a [`Block`] without hashing its bytes, so whoever holds one may trust it.

use bytes::Bytes;

use crate::cid::{Cid, CidError, HashFunction, IDENTITY, Multihash, SHA2_256, Version};
use crate::limits::MAX_BLOCK_BYTES;

/// Why bytes did not become a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// More than [`MAX_BLOCK_BYTES`].
    #[error("block too large, len_bytes={len_bytes} max={}", MAX_BLOCK_BYTES)]
    TooLarge {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// The bytes hash to something else.
    #[error("block does not match its CID, cid={cid}")]
    Mismatch {
        /// The CID that was promised.
        cid: Cid,
    },
    /// The CID is not one that can be checked.
    #[error(transparent)]
    Cid(#[from] CidError),
}

/// Bytes and the CID that they hash to. Cheap to clone: the bytes are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    data: Bytes,
}

impl Block {
    /// The block of `data` under a CID of that version, codec and hash function.
    ///
    /// # Errors
    /// [`BlockError::TooLarge`]. Version 0 is always dag-pb and SHA2-256; anything else with it is a fault of the caller
    /// and answered with [`BlockError::Cid`].
    pub fn hash(
        version: Version,
        codec: u64,
        function: HashFunction,
        data: Bytes,
    ) -> Result<Self, BlockError> {
        check_len(&data)?;
        let hash = function.multihash(&data);
        let cid = Cid::new(version, codec, hash).map_err(|error| CidError::Malformed(error.to_string()))?;
        Ok(Self { cid, data })
    }

    /// The blocks of several data, as [`Self::hash`] makes each; faster than one by one, see [`HashFunction::multihashes`].
    ///
    /// # Errors
    /// As [`Self::hash`], for the first that is too large.
    pub fn hash_all(
        version: Version,
        codec: u64,
        function: HashFunction,
        data: Vec<Bytes>,
    ) -> Result<Vec<Self>, BlockError> {
        data.iter().try_for_each(check_len)?;
        let hashes = function.multihashes(&data.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        let block = |(hash, data)| {
            let cid =
                Cid::new(version, codec, hash).map_err(|error| CidError::Malformed(error.to_string()))?;
            Ok(Self { cid, data })
        };
        hashes.into_iter().zip(data).map(block).collect()
    }

    /// The block of `data` if it hashes to `cid`.
    ///
    /// # Errors
    /// [`BlockError::Mismatch`] for other bytes, [`BlockError::TooLarge`], [`BlockError::Cid`] for an unknown function.
    pub fn verify(cid: Cid, data: Bytes) -> Result<Self, BlockError> {
        check_len(&data)?;
        crate::cid::check(&cid)?;
        match cid.hash().code() {
            IDENTITY if cid.hash().digest() == data => Ok(Self { cid, data }),
            IDENTITY => Err(BlockError::Mismatch { cid }),
            code => {
                let hash = HashFunction::from_code(code)?.multihash(&data);
                Self::matching(cid, &hash, data)
            }
        }
    }

    /// Several blocks, each as [`Self::verify`] answers; faster than one by one, see [`HashFunction::multihashes`].
    pub fn verify_all(blocks: Vec<(Cid, Bytes)>) -> Vec<Result<Self, BlockError>> {
        let is_usual = |cid: &Cid, data: &Bytes| {
            cid.hash().code() == SHA2_256 && check_len(data).is_ok() && crate::cid::check(cid).is_ok()
        };
        let usual: Vec<_> =
            blocks.iter().filter(|(cid, data)| is_usual(cid, data)).map(|(_, data)| data.as_ref()).collect();
        let mut hashes = HashFunction::Sha2_256.multihashes(&usual).into_iter();
        let verify = |(cid, data): (Cid, Bytes)| match is_usual(&cid, &data) {
            true => Self::matching(cid, &hashes.next().expect("each has its hash"), data),
            false => Self::verify(cid, data),
        };
        blocks.into_iter().map(verify).collect()
    }

    /// The block of `data` that hashes to `hash`, if that is what `cid` says, whose digest may be cut short.
    fn matching(cid: Cid, hash: &Multihash, data: Bytes) -> Result<Self, BlockError> {
        let len = u8::try_from(cid.hash().digest().len()).expect("a digest has at most 128 bytes");
        if hash.truncate(len) == *cid.hash() {
            Ok(Self { cid, data })
        } else {
            Err(BlockError::Mismatch { cid })
        }
    }

    /// The block of `data` under a CID of version 1 that carries it in itself.
    ///
    /// # Errors
    /// [`BlockError::Cid`] for more than [`crate::limits::MAX_DIGEST_BYTES`].
    pub fn identity(codec: u64, data: &[u8]) -> Result<Self, BlockError> {
        let hash = Multihash::wrap(IDENTITY, data).map_err(|error| CidError::Malformed(error.to_string()))?;
        Ok(Self { cid: Cid::new_v1(codec, hash), data: Bytes::copy_from_slice(data) })
    }

    /// The block that an identity CID carries in itself.
    pub fn from_identity(cid: Cid) -> Option<Self> {
        let data = Bytes::copy_from_slice(crate::cid::identity_content(&cid)?);
        Some(Self { cid, data })
    }

    /// The same bytes under another version or codec of the same multihash.
    pub fn with_cid(self, cid: Cid) -> Option<Self> {
        (cid.hash() == self.cid.hash()).then_some(Self { cid, data: self.data })
    }

    /// The same block with memory of its own: [`Self::data`] may share a larger piece, which stays as long as it does.
    pub fn detached(&self) -> Self {
        Self { cid: self.cid, data: Bytes::copy_from_slice(&self.data) }
    }

    /// CID.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// Multihash of the CID: what a block is stored and provided by.
    pub fn multihash(&self) -> &Multihash {
        self.cid.hash()
    }

    /// Content.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Takes the content.
    pub fn into_data(self) -> Bytes {
        self.data
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({}, {} bytes)", self.cid, self.data.len())
    }
}

fn check_len(data: &Bytes) -> Result<(), BlockError> {
    if data.len() > MAX_BLOCK_BYTES {
        return Err(BlockError::TooLarge { len_bytes: data.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cid::{DAG_PB, RAW, parse};

    // Source of the CID: `ipfs add --cid-version=1` of the text, also in IPIP-499.
    const HELLO: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    #[test]
    fn hash_gives_the_cid_that_kubo_gives() {
        let data = Bytes::from_static(b"hello world");
        let block = Block::hash(Version::V1, RAW, HashFunction::Sha2_256, data).unwrap();
        assert_eq!(block.cid().to_string(), HELLO);
    }

    #[test]
    fn verify_refuses_other_bytes() {
        let cid = parse(HELLO).unwrap();
        assert!(Block::verify(cid, Bytes::from_static(b"hello world")).is_ok());
        let error = Block::verify(cid, Bytes::from_static(b"hello World")).unwrap_err();
        assert_eq!(error, BlockError::Mismatch { cid });
    }

    #[test]
    fn blocks_verified_together_each_get_their_own_answer() {
        let cid = parse(HELLO).unwrap();
        let sha1 = Cid::new_v1(RAW, HashFunction::Sha1.multihash(b"hello world"));
        let unknown = Cid::new_v1(RAW, Multihash::wrap(0x1000, &[0; 32]).unwrap());
        let identity = Cid::new_v1(RAW, Multihash::wrap(IDENTITY, b"abc").unwrap());
        let short = Cid::new_v1(RAW, cid.hash().truncate(20));
        let asked: Vec<_> = [cid, sha1, cid, unknown, identity, short, cid]
            .into_iter()
            .zip(["hello world", "hello world", "hello World", "", "abc", "hello world", "hello world"])
            .map(|(cid, data)| (cid, Bytes::from_static(data.as_bytes())))
            .collect();
        let alone: Vec<_> = asked.iter().map(|(cid, data)| Block::verify(*cid, data.clone())).collect();
        assert_eq!(
            alone.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, true, false, false, true, true, true]
        );
        assert_eq!(Block::verify_all(asked), alone);
    }

    #[test]
    fn a_block_of_the_limit_passes_and_one_byte_more_fails() {
        let block = |len| Block::hash(Version::V1, RAW, HashFunction::Sha2_256, Bytes::from(vec![0; len]));
        assert!(block(MAX_BLOCK_BYTES).is_ok());
        assert_eq!(block(MAX_BLOCK_BYTES + 1), Err(BlockError::TooLarge { len_bytes: MAX_BLOCK_BYTES + 1 }));
    }

    #[test]
    fn identity_cids_are_checked_against_their_own_digest() {
        let cid = Cid::new_v1(RAW, Multihash::wrap(IDENTITY, b"abc").unwrap());
        assert!(Block::verify(cid, Bytes::from_static(b"abc")).is_ok());
        assert!(Block::verify(cid, Bytes::from_static(b"abd")).is_err());
        assert_eq!(Block::from_identity(cid).unwrap().data().as_ref(), b"abc");
    }

    #[test]
    fn version_0_is_dag_pb_with_sha2_256_only() {
        let data = Bytes::from_static(b"x");
        assert!(Block::hash(Version::V0, DAG_PB, HashFunction::Sha2_256, data.clone()).is_ok());
        assert!(Block::hash(Version::V0, RAW, HashFunction::Sha2_256, data).is_err());
    }
}
