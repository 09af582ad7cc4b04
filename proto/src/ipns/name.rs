//! Names: the multihash of a public key, in the three forms that people write it.

use std::fmt;
use std::str::FromStr;

use multibase::Base;

use crate::cid::{self, Cid, DAG_PB, IDENTITY, LIBP2P_KEY, Multihash, SHA2_256};

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an IPNS name: {reason}, name={text:?}")]
pub struct NameError {
    text: String,
    reason: &'static str,
}

/// A name. Written as a CID with the codec `libp2p-key` in base36, which fits into a label of the DNS.
///
/// Source: <https://specs.ipfs.tech/ipns/ipns-record/#ipns-name>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Multihash);

impl Name {
    /// Reads a peer ID in base58, or a CID whose codec is `libp2p-key`, or `dag-pb` as they were written long ago.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refuse = |reason| NameError { text: text.to_owned(), reason };
        if text.starts_with('1') || text.starts_with("Qm") {
            let bytes = Base::Base58Btc.decode(text).map_err(|_| refuse("not base58"))?;
            let hash = Multihash::from_bytes(&bytes).map_err(|_| refuse("not a multihash"))?;
            return Self::from_multihash(hash).ok_or_else(|| refuse("not the hash of a key"));
        }
        let cid = cid::decode_text(text).map_err(|_| refuse("neither a peer ID nor a CID"))?;
        Self::from_cid(&cid).ok_or_else(|| refuse("not the CID of a key"))
    }

    /// The name that a CID stands for.
    pub fn from_cid(cid: &Cid) -> Option<Self> {
        matches!(cid.codec(), LIBP2P_KEY | DAG_PB).then(|| Self::from_multihash(*cid.hash()))?
    }

    /// The name of a key with that multihash: SHA2-256, or the key itself if it is short.
    pub fn from_multihash(hash: Multihash) -> Option<Self> {
        let is_key = match hash.code() {
            IDENTITY => !hash.digest().is_empty(),
            SHA2_256 => hash.digest().len() == 32,
            _ => false,
        };
        is_key.then_some(Self(hash))
    }

    /// The multihash of the key, which is also a peer ID.
    pub fn multihash(&self) -> &Multihash {
        &self.0
    }

    /// The name as a CID.
    pub fn to_cid(&self) -> Cid {
        Cid::new_v1(LIBP2P_KEY, self.0)
    }

    /// The key under which routing keeps the record.
    pub fn routing_key(&self) -> Vec<u8> {
        [b"/ipns/", self.0.to_bytes().as_slice()].concat()
    }

    /// The name that a routing key is of.
    pub fn from_routing_key(key: &[u8]) -> Option<Self> {
        let hash = Multihash::from_bytes(key.strip_prefix(b"/ipns/")?).ok()?;
        Self::from_multihash(hash)
    }

    /// The name as a peer ID in base58.
    pub fn to_peer_id_text(&self) -> String {
        Base::Base58Btc.encode(self.0.to_bytes())
    }

    /// The key, protobuf encoded, of a name that holds it whole.
    pub(super) fn inlined_key(&self) -> Option<&[u8]> {
        (self.0.code() == IDENTITY).then(|| self.0.digest())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&multibase::encode(Base::Base36Lower, self.to_cid().to_bytes()))
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_is_the_same_name() {
        // Source: gateway-conformance, TestRedirectCanonicalIPNS.
        for (peer, name) in [
            (
                "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK",
                "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",
            ),
            (
                "QmcJM7PRfkSbcM5cf1QugM5R37TLRKyJGgBEhXjLTB8uA2",
                "k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger",
            ),
        ] {
            let parsed = Name::parse(peer).unwrap();
            assert_eq!(parsed.to_string(), name);
            assert_eq!(parsed.to_peer_id_text(), peer);
            assert_eq!(Name::parse(name), Ok(parsed));
            let old =
                multibase::encode(Base::Base36Lower, Cid::new_v1(DAG_PB, *parsed.multihash()).to_bytes());
            assert_eq!(Name::parse(&old), Ok(parsed));
            assert_eq!(Name::from_routing_key(&parsed.routing_key()), Some(parsed));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "example.com",
            "1",
            "12D3",
            "Qmx",
            // A CID, but not of a key.
            "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
            "bafkqaaa",
        ] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }
}
