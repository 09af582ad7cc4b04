//! UnixFS: files, directories and symbolic links as blocks.
//!
//! [`decode`] turns one block into a [`Node`] that keeps its promises: lengths add up, shards are
//! well-formed. It does not follow links; nothing here fetches.
//!
//! Source: <https://specs.ipfs.tech/unixfs/>.

mod data;
pub mod hamt;
pub mod import;
pub mod list;
pub mod read;

use bytes::Bytes;

use crate::block::Block;
use crate::cid::{Cid, DAG_PB, RAW};
use crate::codec::DecodeError;
use crate::codec::dag_pb::{PbLink, PbNode};
use crate::codec::wire::Reason;

pub use data::{Attributes, Data, Kind, Mtime};

/// What one block is to UnixFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A whole file, or a leaf of one, without any wrapping.
    Raw(Bytes),
    /// A file, or a part of one.
    File(File),
    /// A directory in one node: its entries are the links, by name.
    Directory(Vec<PbLink>),
    /// A shard of a directory.
    Hamt(hamt::Shard),
    /// A symbolic link, and where it points.
    Symlink(Bytes),
}

/// A file, or a part of one: content of its own, then that of its children in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Content that the node itself holds; it comes first.
    pub data: Bytes,
    /// Children, in order.
    pub children: Vec<FileChild>,
    /// Length of the node's own content and that of its children, in bytes.
    pub len_bytes: u64,
}

/// A part of a file that is in another block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChild {
    /// Its block.
    pub cid: Cid,
    /// Length of content that the parent claims for it, in bytes.
    pub len_bytes: u64,
    /// Size that the link claims for its blocks, in bytes.
    pub tsize: Option<u64>,
}

/// Reads a block as UnixFS. Content and names share the block's memory.
///
/// # Errors
/// [`DecodeError::NotUnixfs`] for a codec that is neither raw nor dag-pb, [`DecodeError::Malformed`] for a
/// node that contradicts itself.
///
/// # Differences
/// A file whose `filesize` is not the sum of its parts is refused; Kubo reads it and gets ranges wrong.
/// (`a_file_whose_lengths_do_not_add_up_is_refused`)
pub fn decode(block: &Block) -> Result<Node, DecodeError> {
    match block.cid().codec() {
        RAW => Ok(Node::Raw(block.data().clone())),
        DAG_PB => decode_node(PbNode::decode(block.data())?),
        codec => Err(DecodeError::NotUnixfs { codec }),
    }
}

fn decode_node(node: PbNode) -> Result<Node, DecodeError> {
    let Some(bytes) = node.data else {
        return Err(malformed("no type"));
    };
    let message = Data::decode(&bytes)?;
    match message.kind {
        Kind::Raw | Kind::File => file(message, node.links).map(Node::File),
        Kind::Directory => Ok(Node::Directory(node.links)),
        Kind::Symlink => Ok(Node::Symlink(message.data.unwrap_or_default())),
        Kind::HamtShard => hamt::Shard::new(&message, node.links).map(Node::Hamt),
        Kind::Metadata => Err("metadata nodes are not supported"),
    }
    .map_err(malformed)
}

fn file(message: Data, links: Vec<PbLink>) -> Result<File, Reason> {
    if message.blocksizes.len() != links.len() {
        return Err("a file needs one length for each link");
    }
    let data = message.data.unwrap_or_default();
    let mut len_bytes = data.len() as u64;
    for &child in &message.blocksizes {
        len_bytes = len_bytes.checked_add(child).ok_or("length of a file overflows")?;
    }
    if message.filesize.is_some_and(|filesize| filesize != len_bytes) {
        return Err("length of a file is not the sum of its parts");
    }
    let children = links
        .into_iter()
        .zip(message.blocksizes)
        .map(|(link, len_bytes)| FileChild { cid: link.cid, len_bytes, tsize: link.tsize })
        .collect();
    Ok(File { data, children, len_bytes })
}

fn malformed(reason: Reason) -> DecodeError {
    DecodeError::Malformed { format: "UnixFS", reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cid::{DAG_CBOR, HashFunction, Multihash, Version};

    fn block(codec: u64, data: impl Into<Bytes>) -> Block {
        Block::hash(Version::V1, codec, HashFunction::Sha2_256, data.into()).unwrap()
    }

    fn node(message: Data, link_count: usize) -> Result<Node, DecodeError> {
        let cid = Cid::new_v1(RAW, Multihash::wrap(0, b"").unwrap());
        let links = vec![PbLink { cid, name: Some(Bytes::new()), tsize: Some(7) }; link_count];
        decode(&block(DAG_PB, PbNode { links, data: Some(message.encode().into()) }.encode()))
    }

    fn file(data: &'static [u8], filesize: Option<u64>, blocksizes: &[u64]) -> Data {
        let mut message = Data::new(Kind::File);
        message.data = Some(Bytes::from_static(data));
        message.filesize = filesize;
        message.blocksizes = blocksizes.to_vec();
        message
    }

    #[test]
    fn blocks_that_kubo_wrote_are_what_they_were() {
        // Source: `ipfs block get` of a file, a directory and a symlink that Kubo made.
        let hello = b"\x0a\x11\x08\x02\x12\x0bhello world\x18\x0b";
        let Ok(Node::File(file)) = decode(&block(DAG_PB, &hello[..])) else { panic!("not a file") };
        assert_eq!((file.data.as_ref(), file.len_bytes, file.children.len()), (&b"hello world"[..], 11, 0));
        assert_eq!(decode(&block(DAG_PB, &b"\x0a\x02\x08\x01"[..])), Ok(Node::Directory(vec![])));
        let link = decode(&block(DAG_PB, &b"\x0a\x07\x08\x04\x12\x03foo"[..]));
        assert_eq!(link, Ok(Node::Symlink(Bytes::from_static(b"foo"))));
        assert_eq!(decode(&block(RAW, &b"\x0a\x02"[..])), Ok(Node::Raw(Bytes::from_static(b"\x0a\x02"))));
    }

    #[test]
    fn a_file_has_its_own_content_and_its_childrens() {
        let Ok(Node::File(read)) = node(file(b"abc", Some(13), &[4, 6]), 2) else { panic!("not a file") };
        assert_eq!((read.data.as_ref(), read.len_bytes), (&b"abc"[..], 13));
        assert_eq!(read.children.iter().map(|child| child.len_bytes).collect::<Vec<_>>(), [4, 6]);
        let Ok(Node::File(read)) = node(file(b"abc", None, &[4]), 1) else { panic!("not a file") };
        assert_eq!(read.len_bytes, 7);
    }

    #[test]
    fn a_file_whose_lengths_do_not_add_up_is_refused() {
        assert_eq!(
            node(file(b"abc", Some(12), &[4, 6]), 2),
            Err(malformed("length of a file is not the sum of its parts"))
        );
        assert_eq!(
            node(file(b"", Some(4), &[4]), 2),
            Err(malformed("a file needs one length for each link"))
        );
        assert_eq!(
            node(file(b"", Some(4), &[4]), 0),
            Err(malformed("a file needs one length for each link"))
        );
        assert_eq!(node(file(b"a", None, &[u64::MAX]), 1), Err(malformed("length of a file overflows")));
    }

    #[test]
    fn what_is_not_unixfs_is_refused() {
        assert_eq!(decode(&block(DAG_CBOR, &b"\xf6"[..])), Err(DecodeError::NotUnixfs { codec: DAG_CBOR }));
        for (bytes, why) in [
            (&b""[..], "no type"),
            (b"\x0a\x00", "no type"),
            (b"\x0a\x02\x08\x06", "unknown type"),
            (b"\x0a\x02\x08\x03", "metadata nodes are not supported"),
            (b"\x0a\x03\x08\x02\x12", "truncated"),
            (b"\x0a\x03\x08\x02\x0b", "wire type not allowed"),
            (b"\x0a\x04\x08\x02\x42\x00", "time without seconds"),
            (b"\x0a\x06\x08\x05\x28\x22\x30\x07", "fanout of a shard not allowed"),
        ] {
            assert_eq!(decode(&block(DAG_PB, bytes)), Err(malformed(why)), "{bytes:x?}");
        }
    }

    #[test]
    fn packed_lengths_and_unknown_fields_are_read_as_proto2_says() {
        let bytes =
            Bytes::from_static(b"\x08\x02\x22\x03\x01\x80\x01\x20\x05\x4d....\x49........\x50\x01\x5a\x01x");
        assert_eq!(Data::decode(&bytes).unwrap().blocksizes, [1, 128, 5]);
    }

    fn any_message() -> impl Strategy<Value = Data> {
        const KINDS: [Kind; 6] =
            [Kind::Raw, Kind::Directory, Kind::File, Kind::Metadata, Kind::Symlink, Kind::HamtShard];
        let numbers =
            (any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u32>>());
        let mtime = proptest::option::of((any::<i64>(), any::<Option<u32>>()));
        let data = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
        let sizes = proptest::collection::vec(any::<u64>(), 0..10);
        (proptest::sample::select(&KINDS[..]), data, numbers, sizes, mtime).prop_map(
            |(kind, data, (filesize, hash_type, fanout, mode), blocksizes, mtime)| Data {
                kind,
                data: data.map(Bytes::from),
                filesize,
                blocksizes,
                hash_type,
                fanout,
                mode,
                mtime: mtime.map(|(seconds, nanos)| Mtime { seconds, nanos }),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_written_the_same(message in any_message()) {
            let bytes = Bytes::from(message.encode());
            prop_assert_eq!(bytes.len(), message.encoded_len());
            let read = Data::decode(&bytes).unwrap();
            prop_assert_eq!(&read, &message);
            prop_assert_eq!(read.encode(), bytes);
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            kind in 0..6_u8,
        ) {
            let message = [&[0x08, kind][..], &bytes].concat();
            let _ = decode(&block(DAG_PB, PbNode { links: vec![], data: Some(message.into()) }.encode()));
            let _ = decode(&block(DAG_PB, bytes));
        }
    }
}
