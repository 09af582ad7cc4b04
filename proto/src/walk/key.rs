//! CIDs as a walk keeps them: many of them, so in little memory.

use std::collections::{HashMap, HashSet};

use crate::cid::{CBOR, Cid, IDENTITY, JSON, Multihash, RAW, Version};

/// Codec and multihash: what a block is known by while it is walked.
///
/// Both versions of a CID are one key. The codec belongs to it, since the same bytes have links under one codec and none
/// under another. Takes 48 bytes for a digest of 32 bytes, a third of a [`Cid`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A digest of 32 bytes, which nearly every block has.
    Short {
        kind: Kind,
        digest: [u8; 32],
    },
    Long(Box<(u64, Multihash)>),
}

/// Codec and hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    codec: u32,
    function: u32,
}

impl Key {
    pub(crate) fn of(cid: &Cid) -> Self {
        let hash = cid.hash();
        match (u32::try_from(cid.codec()), u32::try_from(hash.code()), hash.digest().try_into()) {
            (Ok(codec), Ok(function), Ok(digest)) => Self::Short { kind: Kind { codec, function }, digest },
            _ => Self::Long(Box::new((cid.codec(), *hash))),
        }
    }

    /// The CID of that version; the version must be one that the key was made from.
    pub(crate) fn cid(&self, version: Version) -> Cid {
        let hash = match self {
            Self::Short { kind, digest } => Multihash::wrap(kind.function.into(), digest),
            Self::Long(long) => Ok(long.1),
        };
        let hash = hash.expect("a digest of 32 bytes fits");
        Cid::new(version, self.codec(), hash).expect("a CID of that version was there before")
    }

    pub(crate) fn is_identity(&self) -> bool {
        match self {
            Self::Short { kind, .. } => u64::from(kind.function) == IDENTITY,
            Self::Long(long) => long.1.code() == IDENTITY,
        }
    }

    /// False for the codecs whose blocks have no links, whatever their bytes.
    pub(crate) fn may_link(&self) -> bool {
        !matches!(self.codec(), RAW | JSON | CBOR)
    }

    fn codec(&self) -> u64 {
        match self {
            Self::Short { kind, .. } => kind.codec.into(),
            Self::Long(long) => long.0,
        }
    }
}

/// The blocks that a walk has seen.
///
/// Takes 38 to 76 bytes a block with a digest of 32 bytes: the digest and one byte of a hash table that is between half
/// and seven eighths full.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    short: HashMap<Kind, HashSet<[u8; 32]>>,
    long: HashSet<Key>,
}

impl Visited {
    /// Adds a block; false when it was there.
    pub(crate) fn insert(&mut self, key: &Key) -> bool {
        match key {
            Key::Short { kind, digest } => self.short.entry(*kind).or_default().insert(*digest),
            Key::Long(_) => self.long.insert(key.clone()),
        }
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        match key {
            Key::Short { kind, digest } => self.short.get(kind).is_some_and(|set| set.contains(digest)),
            Key::Long(_) => self.long.contains(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cid::{DAG_CBOR, DAG_PB, parse};

    #[test]
    fn a_key_gives_back_the_cid_that_it_was_made_from() {
        let v0 = parse("Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD").unwrap();
        let v1 = parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").unwrap();
        let long = Cid::new_v1(DAG_CBOR, Multihash::wrap(IDENTITY, &[7; 128]).unwrap());
        for cid in [v0, v1, long] {
            assert_eq!(Key::of(&cid).cid(cid.version()), cid);
        }
        assert!(Key::of(&long).is_identity() && !Key::of(&v0).is_identity());
    }

    #[test]
    fn versions_share_a_key_and_codecs_do_not() {
        let v0 = parse("Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD").unwrap();
        let mut visited = Visited::default();
        assert!(visited.insert(&Key::of(&v0)));
        assert!(visited.contains(&Key::of(&Cid::new_v1(DAG_PB, *v0.hash()))));
        assert!(!visited.contains(&Key::of(&Cid::new_v1(RAW, *v0.hash()))));
    }

    #[test]
    fn a_key_is_a_third_of_a_cid() {
        assert!(size_of::<Key>() <= 48 && size_of::<Cid>() >= 3 * 48);
    }
}
