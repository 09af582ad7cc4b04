//! dag-pb, the protobuf form of Merkle-DAG nodes.
//!
//! Reading is exactly as strict as the specification: no unknown field, no field twice, links in one run
//! before or after the data. Writing gives the one canonical form: links, sorted by name, before data.
//!
//! Source: <https://ipld.io/specs/codecs/dag-pb/spec/>.

mod value;

use bytes::Bytes;

use super::DecodeError;
use super::wire::{
    BYTES, Reader, Reason, VARINT, bytes_field_len, put_bytes_field, put_bytes_header, put_varint_field,
    varint_field_len,
};
use crate::cid::{self, Cid};

const DATA: u32 = 1;
const LINKS: u32 = 2;
const HASH: u32 = 1;
const NAME: u32 = 2;
const TSIZE: u32 = 3;

/// A node: links and a payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PbNode {
    /// Links, as they stand in the bytes.
    pub links: Vec<PbLink>,
    /// Payload; absent is not the same as empty.
    pub data: Option<Bytes>,
}

/// A link of a [`PbNode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PbLink {
    /// What it links to. Well-formed, but not held against [`crate::cid::check`].
    pub cid: Cid,
    /// Name: UTF-8 by the specification, any bytes in practice.
    pub name: Option<Bytes>,
    /// Size that the link claims for everything below it, in bytes.
    pub tsize: Option<u64>,
}

impl PbLink {
    /// Name, empty when there is none.
    pub fn name(&self) -> &[u8] {
        self.name.as_deref().unwrap_or_default()
    }
}

impl PbNode {
    /// Reads a node. Names and payload share the memory of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`].
    ///
    /// # Differences
    /// A CID with bytes behind it is refused, as js does; go-codec-dagpb drops those bytes without a word.
    /// (`bytes_behind_a_cid_are_refused`)
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut links = Vec::new();
        let data = parse(bytes, |link| {
            links.push(PbLink {
                cid: link.cid,
                name: link.name.map(|name| bytes.slice_ref(name)),
                tsize: link.tsize,
            });
        })?;
        Ok(Self { links, data: data.map(|data| bytes.slice_ref(data)) })
    }

    /// The canonical bytes: links sorted by name, those of one name in their order, then the payload.
    pub fn encode(&self) -> Bytes {
        let mut links: Vec<&PbLink> = self.links.iter().collect();
        if !links.is_sorted_by_key(|link| link.name()) {
            links.sort_by_key(|link| link.name());
        }
        let data_len = self.data.as_ref().map_or(0, |data| bytes_field_len(data.len()));
        let len = links
            .iter()
            .map(|link| link_len(link.cid.encoded_len(), link.name_len(), link.tsize))
            .sum::<usize>();
        let mut out = Vec::with_capacity(len + data_len);
        let mut cid = Vec::new();
        for link in links {
            write_cid(&mut cid, &link.cid);
            put_link(&mut out, &cid, link.name.as_deref().map(|name| [name, &[]]), link.tsize);
        }
        if let Some(data) = &self.data {
            put_bytes_field(&mut out, DATA, data);
        }
        out.into()
    }
}

impl PbLink {
    fn name_len(&self) -> Option<usize> {
        self.name.as_ref().map(Bytes::len)
    }
}

/// The CIDs that the node in `bytes` links to, without building the node.
///
/// # Errors
/// As [`PbNode::decode`].
pub fn links(bytes: &[u8]) -> Result<Vec<Cid>, DecodeError> {
    let mut cids = Vec::new();
    parse(bytes, |link| cids.push(link.cid))?;
    Ok(cids)
}

/// Bytes that a link takes in a node, tag and length included.
pub(crate) fn link_len(cid_len: usize, name_len: Option<usize>, tsize: Option<u64>) -> usize {
    bytes_field_len(link_body_len(cid_len, name_len, tsize))
}

/// Appends a link; its name may come in two parts.
pub(crate) fn put_link(out: &mut Vec<u8>, cid: &[u8], name: Option<[&[u8]; 2]>, tsize: Option<u64>) {
    let name_len = name.map(|[head, tail]| head.len() + tail.len());
    put_bytes_header(out, LINKS, link_body_len(cid.len(), name_len, tsize));
    put_bytes_field(out, HASH, cid);
    if let Some([head, tail]) = name {
        put_bytes_header(out, NAME, head.len() + tail.len());
        out.extend_from_slice(head);
        out.extend_from_slice(tail);
    }
    if let Some(tsize) = tsize {
        put_varint_field(out, TSIZE, tsize);
    }
}

/// Appends tag and length of the payload, which comes last; its bytes follow.
pub(crate) fn put_data_header(out: &mut Vec<u8>, len: usize) {
    put_bytes_header(out, DATA, len);
}

/// Replaces `out` by the binary form of `cid`.
pub(crate) fn write_cid(out: &mut Vec<u8>, cid: &Cid) {
    out.clear();
    cid.write_bytes(out).expect("writing to memory does not fail");
}

fn link_body_len(cid_len: usize, name_len: Option<usize>, tsize: Option<u64>) -> usize {
    bytes_field_len(cid_len) + name_len.map_or(0, bytes_field_len) + tsize.map_or(0, varint_field_len)
}

struct RawLink<'a> {
    cid: Cid,
    name: Option<&'a [u8]>,
    tsize: Option<u64>,
}

/// Where a reader is with respect to the run of links.
#[derive(PartialEq)]
enum Run {
    Before,
    Inside,
    After,
}

fn parse<'a>(bytes: &'a [u8], on_link: impl FnMut(RawLink<'a>)) -> Result<Option<&'a [u8]>, DecodeError> {
    parse_node(bytes, on_link).map_err(|reason| DecodeError::Malformed { format: "dag-pb", reason })
}

fn parse_node<'a>(bytes: &'a [u8], mut on_link: impl FnMut(RawLink<'a>)) -> Result<Option<&'a [u8]>, Reason> {
    let mut reader = Reader::new(bytes);
    let mut data = None;
    let mut run = Run::Before;
    while !reader.is_empty() {
        let (field, wire_type) = reader.tag()?;
        if wire_type != BYTES {
            return Err("wire type not allowed in a node");
        }
        match field {
            DATA if data.is_some() => return Err("data twice"),
            DATA => {
                data = Some(reader.bytes()?);
                if run == Run::Inside {
                    run = Run::After;
                }
            }
            LINKS if run == Run::After => return Err("links on both sides of the data"),
            LINKS => {
                on_link(parse_link(reader.bytes()?)?);
                run = Run::Inside;
            }
            _ => return Err("unknown field in a node"),
        }
    }
    Ok(data)
}

fn parse_link(bytes: &[u8]) -> Result<RawLink<'_>, Reason> {
    let mut reader = Reader::new(bytes);
    let (mut cid, mut name, mut tsize) = (None, None, None);
    let mut last = 0;
    while !reader.is_empty() {
        let (field, wire_type) = reader.tag()?;
        // The fields are numbered in the order in which they must stand, each at most once.
        if field <= last {
            return Err("field of a link out of order");
        }
        match (field, wire_type) {
            (HASH, BYTES) => {
                cid = Some(cid::decode(reader.bytes()?).map_err(|_| "hash of a link is not a CID")?)
            }
            (NAME, BYTES) => name = Some(reader.bytes()?),
            (TSIZE, VARINT) => tsize = Some(reader.varint()?),
            (HASH..=TSIZE, _) => return Err("wire type not allowed in a link"),
            _ => return Err("unknown field in a link"),
        }
        last = field;
    }
    let cid = cid.ok_or("link without a hash")?;
    Ok(RawLink { cid, name, tsize })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cid::{Multihash, parse as parse_cid};

    // Source: test/compat_test.go and basics_test.go of go-codec-dagpb 1.7, shared with js-dag-pb.
    const CID: &[u8] = &[1, 85, 0, 5, 0, 1, 2, 3, 4];
    const WITH_DATA: &str = concat!(
        "12240a2212207521fe19c374a97759226dc5c0c8e674e73950e81b211f7dd3b6b30883a08a510a09736f6d652064",
        "617461",
    );
    const NAMED: &str = concat!(
        "12340a2212208ab7a6c5e74737878ac73863cb76739d15d4666de44e5756bf55a2f9e9ab5f431209736f6d65206c",
        "696e6b1880c2d72f12370a2212208ab7a6c5e74737878ac73863cb76739d15d4666de44e5756bf55a2f9e9ab5f44",
        "120f736f6d65206f74686572206c696e6b18080a09736f6d652064617461",
    );

    fn hex(text: &str) -> Bytes {
        multibase::Base::Base16Lower.decode(text).unwrap().into()
    }

    fn link(name: Option<&'static str>, tsize: Option<u64>) -> PbLink {
        let cid = crate::cid::decode(CID).unwrap();
        PbLink { cid, name: name.map(|name| Bytes::from_static(name.as_bytes())), tsize }
    }

    fn reason(text: &str) -> Reason {
        match PbNode::decode(&hex(text)) {
            Err(DecodeError::Malformed { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_have_the_bytes_that_go_and_js_give_them() {
        let data = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
        let with_link = |name, tsize| PbNode { links: vec![link(name, tsize)], data: None };
        for (node, text) in [
            (PbNode::default(), ""),
            (PbNode { links: vec![], data: data(b"") }, "0a00"),
            (PbNode { links: vec![], data: data(&[0, 1, 2, 3, 4]) }, "0a050001020304"),
            (with_link(None, None), "120b0a09015500050001020304"),
            (with_link(Some(""), None), "120d0a090155000500010203041200"),
            (with_link(Some("some name"), None), "12160a090155000500010203041209736f6d65206e616d65"),
            (with_link(None, Some(0)), "120d0a090155000500010203041800"),
            (with_link(None, Some(9_007_199_254_740_991)), "12140a0901550005000102030418ffffffffffffff0f"),
        ] {
            assert_eq!(node.encode(), hex(text));
            assert_eq!(PbNode::decode(&hex(text)).as_ref(), Ok(&node));
        }
        let node = PbNode::decode(&hex(WITH_DATA)).unwrap();
        assert_eq!(node.links[0].cid, parse_cid("QmWDtUQj38YLW8v3q4A6LwPn4vYKEbuKWpgSm6bjKW6Xfe").unwrap());
        assert_eq!(node.data.as_deref(), Some(b"some data".as_slice()));
    }

    #[test]
    fn links_are_written_in_the_order_of_their_names_and_those_of_one_name_in_their_own() {
        let mut node = PbNode::decode(&hex(NAMED)).unwrap();
        node.links.reverse();
        assert_eq!(node.encode(), hex(NAMED));
        let same = [3, 1, 2].map(|tsize| link(Some("same"), Some(tsize)));
        let node = PbNode { links: [&same[..], &[link(None, None)]].concat(), data: None };
        let written = PbNode::decode(&node.encode()).unwrap();
        assert_eq!(written.links, [&[link(None, None)], &same[..]].concat());
    }

    #[test]
    fn data_may_come_first_but_not_between_links() {
        let link = "12240a221220cf92fdefcdc34cac009c8b05eb662be0618db9de55ecd42785e9ec6712f8df65";
        let data = "0a0408021806";
        let first = PbNode::decode(&hex(&format!("{data}{link}{link}"))).unwrap();
        assert_eq!(first, PbNode::decode(&hex(&format!("{link}{link}{data}"))).unwrap());
        assert_eq!(first.links.len(), 2);
        assert_eq!(reason(&format!("{link}{data}{link}")), "links on both sides of the data");
        assert_eq!(reason(&format!("{data}{data}")), "data twice");
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for (text, why) in [
            ("0a0500010203", "truncated"),
            ("1200", "link without a hash"),
            ("12000a050001020304", "link without a hash"),
            ("12020a00", "hash of a link is not a CID"),
            ("120b0a090155000500010203", "truncated"),
            ("12021200", "link without a hash"),
            ("12021800", "link without a hash"),
            ("120d12000a09015500050001020304", "field of a link out of order"),
            ("120d18000a09015500050001020304", "field of a link out of order"),
            ("120f0a0901550005000102030418001200", "field of a link out of order"),
            ("120f0a0901550005000102030412001200", "field of a link out of order"),
            ("120d0a090155000500010203041000", "wire type not allowed in a link"),
            ("120d0a090155000500010203042000", "unknown field in a link"),
            ("0800", "wire type not allowed in a node"),
            ("1a00", "unknown field in a node"),
            ("0200", "field number out of range"),
            // GHSA-mcq2-w56r-5w2w: malformed nodes that made decoders panic.
            ("0affffffffffffffffff01", "truncated"),
            ("12ffffffff0f", "truncated"),
            ("0affffffffffffffffff02", "number overflows 64 bits"),
        ] {
            assert_eq!(reason(text), why, "{text}");
        }
    }

    #[test]
    fn bytes_behind_a_cid_are_refused() {
        assert_eq!(reason("120c0a0a01550005000102030400"), "hash of a link is not a CID");
    }

    #[test]
    fn names_and_data_share_the_memory_of_the_input() {
        let bytes = hex(NAMED);
        let node = PbNode::decode(&bytes).unwrap();
        let range = bytes.as_ptr_range();
        assert!(range.contains(&node.links[1].name().as_ptr()));
        assert!(range.contains(&node.data.unwrap().as_ptr()));
    }

    fn any_link() -> impl Strategy<Value = PbLink> {
        let cid = (any::<bool>(), any::<[u8; 32]>()).prop_map(|(old, digest)| {
            let hash = Multihash::wrap(0x12, &digest).unwrap();
            if old { Cid::new_v0(hash).unwrap() } else { Cid::new_v1(0x55, hash) }
        });
        let name = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
        (cid, name, any::<Option<u64>>()).prop_map(|(cid, name, tsize)| PbLink {
            cid,
            name: name.map(Bytes::from),
            tsize,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_written_the_same(
            mut links in proptest::collection::vec(any_link(), 0..20),
            data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        ) {
            links.sort_by(|a, b| a.name().cmp(b.name()));
            let node = PbNode { links, data: data.map(Bytes::from) };
            let bytes = node.encode();
            let read = PbNode::decode(&bytes);
            prop_assert_eq!(read.as_ref(), Ok(&node));
            let cids: Vec<_> = node.links.iter().map(|link| link.cid).collect();
            prop_assert_eq!(super::links(&bytes), Ok(cids));
            prop_assert_eq!(node.encode(), bytes);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PbNode::decode(&bytes.into());
        }

        #[test]
        fn a_damaged_node_never_panics(at in 0..112_usize, to in any::<u8>(), cut in 0..112_usize) {
            let mut bytes = hex(NAMED).to_vec();
            bytes[at] = to;
            let _ = PbNode::decode(&bytes.clone().into());
            bytes.truncate(cut);
            let _ = PbNode::decode(&bytes.into());
        }
    }
}
