//! The hash functions that blocks may be addressed by.
//!
//! Source: boxo `verifcid` (allow-list) and the multicodec table.

mod pairs;

use multihash_derive::MultihashDigest as _;

use crate::cid::CidError;

/// Messages that are best given together to [`HashFunction::multihashes`].
pub const HASHED_TOGETHER: usize = 2;

/// A hash function that blocks may be addressed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, multihash_derive::MultihashDigest)]
#[mh(alloc_size = 128)]
#[allow(missing_docs, reason = "the variants are the names of the multicodec table")]
pub enum HashFunction {
    #[mh(code = 0x11, hasher = multihash_codetable::Sha1)]
    Sha1,
    #[mh(code = 0x12, hasher = multihash_codetable::Sha2_256)]
    Sha2_256,
    #[mh(code = 0x13, hasher = multihash_codetable::Sha2_512)]
    Sha2_512,
    #[mh(code = 0x14, hasher = multihash_codetable::Sha3_512)]
    Sha3_512,
    #[mh(code = 0x15, hasher = multihash_codetable::Sha3_384)]
    Sha3_384,
    #[mh(code = 0x16, hasher = multihash_codetable::Sha3_256)]
    Sha3_256,
    #[mh(code = 0x17, hasher = multihash_codetable::Sha3_224)]
    Sha3_224,
    #[mh(code = 0x1a, hasher = multihash_codetable::Keccak224)]
    Keccak224,
    #[mh(code = 0x1b, hasher = multihash_codetable::Keccak256)]
    Keccak256,
    #[mh(code = 0x1c, hasher = multihash_codetable::Keccak384)]
    Keccak384,
    #[mh(code = 0x1d, hasher = multihash_codetable::Keccak512)]
    Keccak512,
    #[mh(code = 0x1e, hasher = multihash_codetable::Blake3_256)]
    Blake3,
    #[mh(code = 0xb220, hasher = multihash_codetable::Blake2b256)]
    Blake2b256,
    #[mh(code = 0xb240, hasher = multihash_codetable::Blake2b512)]
    Blake2b512,
    #[mh(code = 0xb260, hasher = multihash_codetable::Blake2s256)]
    Blake2s256,
}

/// Names of the multicodec table for the functions above.
const HASH_NAMES: [(&str, HashFunction); 15] = [
    ("sha1", HashFunction::Sha1),
    ("sha2-256", HashFunction::Sha2_256),
    ("sha2-512", HashFunction::Sha2_512),
    ("sha3-512", HashFunction::Sha3_512),
    ("sha3-384", HashFunction::Sha3_384),
    ("sha3-256", HashFunction::Sha3_256),
    ("sha3-224", HashFunction::Sha3_224),
    ("keccak-224", HashFunction::Keccak224),
    ("keccak-256", HashFunction::Keccak256),
    ("keccak-384", HashFunction::Keccak384),
    ("keccak-512", HashFunction::Keccak512),
    ("blake3", HashFunction::Blake3),
    ("blake2b-256", HashFunction::Blake2b256),
    ("blake2b-512", HashFunction::Blake2b512),
    ("blake2s-256", HashFunction::Blake2s256),
];

impl HashFunction {
    /// The function of a multihash code.
    ///
    /// # Errors
    /// [`CidError::HashFunction`] for one that is unknown, broken or not implemented.
    pub fn from_code(code: u64) -> Result<Self, CidError> {
        Self::try_from(code).map_err(|_| CidError::HashFunction { code })
    }

    /// The function of a name in the multicodec table, as `sha2-256`.
    pub fn from_name(name: &str) -> Option<Self> {
        HASH_NAMES.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// Name in the multicodec table.
    pub fn name(self) -> &'static str {
        HASH_NAMES
            .iter()
            .find(|(_, function)| *function == self)
            .map(|(name, _)| *name)
            .expect("every variant has a row")
    }

    /// Multihash code.
    pub fn code(self) -> u64 {
        self.into()
    }

    /// Multihash of `data`.
    pub fn multihash(self, data: &[u8]) -> crate::cid::Multihash {
        self.digest(data)
    }

    /// Multihashes of several messages, in their order. Most processors hash two by SHA2-256 in hardly more time than one.
    pub fn multihashes(self, messages: &[&[u8]]) -> Vec<crate::cid::Multihash> {
        let together = |messages: &[&[u8]]| match (self, messages) {
            (Self::Sha2_256, [one, other]) => pairs::digests([one, other]),
            _ => None,
        };
        let mut multihashes = Vec::with_capacity(messages.len());
        for messages in messages.chunks(HASHED_TOGETHER) {
            match together(messages) {
                Some(digests) => multihashes.extend(digests.map(|digest| {
                    crate::cid::Multihash::wrap(self.code(), &digest).expect("a digest of 32 bytes fits")
                })),
                None => multihashes.extend(messages.iter().map(|message| self.multihash(message))),
            }
        }
        multihashes
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, RngCore as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn every_hash_function_has_one_name() {
        let mut names: Vec<_> = HASH_NAMES.iter().map(|(name, function)| (function.code(), *name)).collect();
        names.sort_unstable();
        names.dedup_by_key(|(code, _)| *code);
        assert_eq!(names.len(), HASH_NAMES.len());
        assert!(names.iter().all(|(code, name)| HashFunction::from_code(*code).unwrap().name() == *name));
    }

    #[test]
    fn messages_hashed_together_have_the_digests_that_they_have_alone() {
        for seed in 0..500 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let messages: Vec<Vec<u8>> = (0..random.random_range(0..4))
                .map(|_| {
                    // Around the borders of one and two blocks, and beyond.
                    let mut message = vec![0; random.random_range(0..300)];
                    random.fill_bytes(&mut message);
                    message
                })
                .collect();
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            for function in [HashFunction::Sha2_256, HashFunction::Blake3] {
                let alone: Vec<_> = messages.iter().map(|message| function.multihash(message)).collect();
                assert_eq!(function.multihashes(&messages), alone, "seed {seed}");
            }
        }
    }
}
