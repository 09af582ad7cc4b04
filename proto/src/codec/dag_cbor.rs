//! DAG-CBOR: the links in a block, without building its value.
//!
//! One pass over the bytes with a stack of counters: no recursion, and nothing allocated from a declared
//! length.
//!
//! Source: <https://ipld.io/specs/codecs/dag-cbor/spec/>.

pub(super) mod value;

use super::DecodeError;
use crate::cid::{self, Cid};
use crate::limits::MAX_CBOR_DEPTH;

/// Why bytes are not DAG-CBOR.
pub(crate) type Reason = &'static str;

/// The CIDs that the value in `bytes` links to, in their order.
///
/// # Errors
/// [`DecodeError::Malformed`] for lengths that are not definite, keys that are not strings, tags other than
/// 42.
///
/// # Differences
/// The canonical form is not demanded. Kubo does not demand sorted keys either, but since go-ipld-prime 0.24
/// the shortest numbers and unique keys. Old blocks lack them, and what they link must be kept with them.
/// (`links_of_a_block_that_is_not_canonical_count`)
pub fn links(bytes: &[u8]) -> Result<Vec<Cid>, DecodeError> {
    let mut cids = Vec::new();
    scan(bytes, |cid| cids.push(cid))
        .map_err(|reason| DecodeError::Malformed { format: "dag-cbor", reason })?;
    Ok(cids)
}

/// Major types. Source: RFC 8949, section 3.1.
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const LIST: u8 = 4;
pub(crate) const MAP: u8 = 5;
pub(crate) const TAG: u8 = 6;
pub(crate) const SIMPLE: u8 = 7;

/// The only tag of DAG-CBOR: a CID.
pub(crate) const LINK_TAG: u64 = 42;

/// A list or map that is not at its end.
struct Open {
    /// Items still to come; a map counts keys and values.
    left: u64,
    is_map: bool,
}

fn scan(bytes: &[u8], mut on_link: impl FnMut(Cid)) -> Result<(), Reason> {
    let mut reader = Reader::new(bytes);
    let mut open: Vec<Open> = Vec::new();
    loop {
        let (major, value) = reader.head()?;
        if major != TEXT && open.last().is_some_and(|open| open.is_map && open.left.is_multiple_of(2)) {
            return Err("map key is not a string");
        }
        let children = match major {
            BYTES | TEXT => reader.take(value).map(|_| 0)?,
            LIST => value,
            MAP => value.checked_mul(2).ok_or("truncated")?,
            TAG if value == LINK_TAG => reader.link().map(&mut on_link).map(|()| 0)?,
            TAG => return Err("unknown tag"),
            _ => 0,
        };
        if matches!(major, LIST | MAP) && open.len() == MAX_CBOR_DEPTH {
            return Err("nested too deep");
        }
        if children > 0 {
            open.push(Open { left: children, is_map: major == MAP });
        } else if !close(&mut open) {
            break;
        }
    }
    if reader.is_empty() { Ok(()) } else { Err("bytes behind the value") }
}

/// Counts one whole item, and every list and map that it completes. False when nothing is left open.
fn close(open: &mut Vec<Open>) -> bool {
    while let Some(last) = open.last_mut() {
        last.left -= 1;
        if last.left > 0 {
            return true;
        }
        open.pop();
    }
    false
}

/// Reads items one by one.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Major type and argument of the next item.
    pub(crate) fn head(&mut self) -> Result<(u8, u64), Reason> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => {
                self.take(1 << (info - 24))?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
            }
            31 => return Err("indefinite length"),
            _ => return Err("reserved head"),
        };
        // False, true, null and undefined, then the three widths of floats.
        if major == SIMPLE && !matches!(info, 20..=23 | 25..=27) {
            return Err("unknown simple value");
        }
        Ok((major, argument))
    }

    /// The bytes that a link tag stands before: a zero, for the identity multibase, and a CID.
    pub(crate) fn link(&mut self) -> Result<Cid, Reason> {
        let (major, len) = self.head()?;
        if major != BYTES {
            return Err("link is not bytes");
        }
        let cid = self.take(len)?.strip_prefix(&[0]).ok_or("link without its zero byte")?;
        cid::decode(cid).map_err(|_| "link is not a CID")
    }

    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8], Reason> {
        let len = usize::try_from(len).map_err(|_| "truncated")?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or("truncated")?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_ipld_dagcbor::from_slice;

    use super::*;

    const CID: &str = "bafyreibjo4xmgaevkgud7mbifn3dzp4v4lyaui4yvqp3f2bqwtxcjrdqg4";

    fn link_bytes(cid: &Cid) -> Vec<u8> {
        let mut bytes = vec![0xd8, 0x2a, 0x58, u8::try_from(cid.encoded_len() + 1).unwrap(), 0];
        bytes.extend(cid.to_bytes());
        bytes
    }

    fn reason(bytes: &[u8]) -> Reason {
        match links(bytes) {
            Err(DecodeError::Malformed { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn links_are_found_at_every_depth_in_order() {
        let a = crate::cid::parse(CID).unwrap();
        let b = Cid::new_v1(0x55, *a.hash());
        // {"a": [link a, {"b": link b}, h'00', 1.5], "c": link a}
        let mut bytes = vec![0xa2, 0x61, b'a', 0x84];
        bytes.extend(link_bytes(&a));
        bytes.extend([0xa1, 0x61, b'b']);
        bytes.extend(link_bytes(&b));
        bytes.extend([0x41, 0x00, 0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0x61, b'c']);
        bytes.extend(link_bytes(&a));
        assert_eq!(links(&bytes), Ok(vec![a, b, a]));
    }

    #[test]
    fn a_link_may_carry_the_longest_digest() {
        let hash = crate::cid::Multihash::wrap(0, &[7; crate::limits::MAX_DIGEST_BYTES]).unwrap();
        let cid = Cid::new_v1(0x55, hash);
        assert_eq!(links(&link_bytes(&cid)), Ok(vec![cid]));
    }

    // CVE-2026-35480: less than 100 bytes that declare more than 9 GB.
    #[test]
    fn declared_lengths_allocate_nothing() {
        for head in [0x5b_u8, 0x7b, 0x9b, 0xbb] {
            for argument in [[0x7f, 0xff], [0xff, 0xff], [0x00, 0x00]] {
                let mut bytes = vec![head, argument[0], argument[1]];
                bytes.extend([0xff; 6]);
                assert_eq!(reason(&bytes), "truncated");
            }
        }
        let nested = [0x9b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff].repeat(10);
        assert_eq!(reason(&nested), "truncated");
    }

    // CVE-2026-42328: nesting that recurses until the stack ends.
    #[test]
    fn depth_is_held_to_its_bound() {
        let nested = |depth: usize, list: u8| {
            let mut bytes = vec![list; depth];
            bytes.push(0xf6);
            bytes
        };
        assert_eq!(links(&nested(MAX_CBOR_DEPTH, 0x81)), Ok(Vec::new()));
        assert_eq!(reason(&nested(MAX_CBOR_DEPTH + 1, 0x81)), "nested too deep");
        assert_eq!(reason(&[0x81].repeat(2 * 1024 * 1024)), "nested too deep");
        let mut empty_inside = vec![0x81; MAX_CBOR_DEPTH];
        empty_inside.push(0x80);
        assert_eq!(reason(&empty_inside), "nested too deep");
    }

    #[test]
    fn what_dag_cbor_forbids_is_refused() {
        for (bytes, why) in [
            (&[][..], "truncated"),
            (&[0x00, 0x00], "bytes behind the value"),
            (&[0x9f, 0xff], "indefinite length"),
            (&[0x1c], "reserved head"),
            (&[0xa1, 0x01, 0x02], "map key is not a string"),
            (&[0xc1, 0x00], "unknown tag"),
            (&[0xd8, 0x2a, 0x61, b'a'], "link is not bytes"),
            (&[0xd8, 0x2a, 0x41, 0x01], "link without its zero byte"),
            (&[0xd8, 0x2a, 0x42, 0x00, 0x01], "link is not a CID"),
            (&[0xe0], "unknown simple value"),
            (&[0xf8, 0x20], "unknown simple value"),
        ] {
            assert_eq!(reason(bytes), why, "{bytes:x?}");
        }
    }

    #[test]
    fn links_of_a_block_that_is_not_canonical_count() {
        let cid = crate::cid::parse(CID).unwrap();
        let mut bytes = vec![0xb8, 0x02, 0x62, b'b', b'b', 0x18, 0x01, 0x61, b'a'];
        bytes.extend(link_bytes(&cid));
        assert_eq!(links(&bytes), Ok(vec![cid]));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let ours = links(&bytes);
            // Whatever the strict library reads, we read too.
            if from_slice::<ipld_core::ipld::Ipld>(&bytes).is_ok() {
                prop_assert!(ours.is_ok());
            }
        }

        #[test]
        fn links_are_those_that_the_library_finds(value in ipld(4)) {
            let bytes = serde_ipld_dagcbor::to_vec(&value).unwrap();
            let mut expected = Vec::new();
            value.references(&mut expected);
            let found = links(&bytes).unwrap();
            prop_assert_eq!(
                found.iter().map(Cid::to_bytes).collect::<Vec<_>>(),
                expected.iter().map(|cid| cid.to_bytes()).collect::<Vec<_>>()
            );
        }
    }

    fn ipld(depth: u32) -> impl Strategy<Value = ipld_core::ipld::Ipld> {
        use ipld_core::ipld::Ipld;
        let link = any::<[u8; 32]>().prop_map(|digest| {
            let hash = ipld_core::cid::multihash::Multihash::wrap(0x12, &digest).unwrap();
            Ipld::Link(ipld_core::cid::Cid::new_v1(0x71, hash))
        });
        let leaf = prop_oneof![
            Just(Ipld::Null),
            any::<bool>().prop_map(Ipld::Bool),
            any::<i64>().prop_map(|value| Ipld::Integer(i128::from(value))),
            "[a-z]{0,30}".prop_map(Ipld::String),
            proptest::collection::vec(any::<u8>(), 0..30).prop_map(Ipld::Bytes),
            link,
        ];
        leaf.prop_recursive(depth, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Ipld::List),
                proptest::collection::btree_map("[a-z]{2}", inner, 0..8).prop_map(Ipld::Map),
            ]
        })
    }
}
