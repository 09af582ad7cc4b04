//! Directories: one node, or above a threshold a trie of shards.

use super::{Built, ImportError, ImportOptions, SizeEstimate, put_message};
use crate::block::Block;
use crate::cid::Cid;
use crate::codec::dag_pb::{link_len, put_link};
use crate::codec::wire::bytes_field_len;
use crate::unixfs::hamt::{HASH_TYPE, bits_at, hash_name, index_len};
use crate::unixfs::{Attributes, Data, Kind};

/// Builds one directory from its entries, in whatever order they come.
///
/// The blocks are made once, at the end. Memory: until then, names and binary CIDs side by side and 40 bytes
/// an entry.
#[derive(Debug, Clone)]
pub struct DirectoryBuilder {
    options: ImportOptions,
    attributes: Attributes,
    entries: Vec<Entry>,
    /// Of each entry its name, then its binary CID.
    texts: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its name starts in the texts.
    start: usize,
    name_len: usize,
    cid_len: usize,
    tsize: u64,
    /// Hash of its name, once the directory is known to be sharded.
    hash: u64,
}

impl DirectoryBuilder {
    /// A builder of one directory. The options should have passed [`ImportOptions::check`].
    pub fn new(options: ImportOptions) -> Self {
        Self { options, attributes: Attributes::default(), entries: Vec::new(), texts: Vec::new() }
    }

    /// Gives the directory these attributes; of a sharded one its root has them.
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Adds an entry, or replaces the one of that name. `tsize` is the length of all blocks below it, in
    /// bytes.
    ///
    /// # Errors
    /// [`ImportError::Name`] for a name that is empty, `.` or `..`, or holds `/` or NUL.
    pub fn insert(&mut self, name: impl AsRef<[u8]>, cid: &Cid, tsize: u64) -> Result<(), ImportError> {
        let name = name.as_ref();
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(ImportError::Name { name: String::from_utf8_lossy(name).into_owned() });
        }
        let start = self.texts.len();
        self.texts.extend_from_slice(name);
        cid.write_bytes(&mut self.texts).expect("writing to memory does not fail");
        let cid_len = self.texts.len() - start - name.len();
        self.entries.push(Entry { start, name_len: name.len(), cid_len, tsize, hash: 0 });
        Ok(())
    }

    /// Ends the directory: in one node while its size is within the threshold, in shards above it.
    ///
    /// # Errors
    /// [`ImportError::Block`] for a directory too large for one block that may not be sharded,
    /// [`ImportError::HashCollision`] for a sharded one with names that hash alike.
    pub fn finish(mut self) -> Result<Built, ImportError> {
        self.sort_by_name();
        let mut blocks = Vec::new();
        let root = if self.needs_shards() {
            self.sort_by_hash();
            let shards = Shards { directory: &self, index_bits: self.options.hamt_fanout.trailing_zeros() };
            shards.build(&self.entries, 0, &mut blocks)?
        } else {
            self.plain(&mut blocks)?
        };
        Ok(Built { cid: root.cid, len_bytes: 0, tsize: root.tsize, blocks })
    }

    /// Sorts by name and keeps the last entry of each name.
    fn sort_by_name(&mut self) {
        let texts = &self.texts;
        self.entries.sort_by(|a, b| a.name(texts).cmp(b.name(texts)));
        self.entries.dedup_by(|later, kept| {
            let is_same = later.name(texts) == kept.name(texts);
            if is_same {
                *kept = *later;
            }
            is_same
        });
    }

    fn sort_by_hash(&mut self) {
        for entry in &mut self.entries {
            entry.hash = hash_name(entry.name(&self.texts));
        }
        self.entries.sort_unstable_by_key(|entry| entry.hash);
    }

    /// Source: boxo `ipld/unixfs/io/directory.go`, `needsToSwitchToHAMTDir`.
    fn needs_shards(&self) -> bool {
        let options = &self.options;
        if options.hamt_threshold_bytes == 0 {
            return false;
        }
        let size = match options.hamt_size_estimate {
            SizeEstimate::Links => self.entries.iter().map(|entry| entry.name_len + entry.cid_len).sum(),
            SizeEstimate::Block => self.plain_len(),
            SizeEstimate::Disabled => 0,
        };
        let has_too_many =
            options.max_directory_links > 0 && self.entries.len() > options.max_directory_links;
        size as u64 > options.hamt_threshold_bytes || has_too_many
    }

    /// Length of the node that holds every entry, in bytes.
    fn plain_len(&self) -> usize {
        let links_len: usize = self.entries.iter().map(|entry| entry.link_len(0)).sum();
        links_len + bytes_field_len(self.plain_message().encoded_len())
    }

    fn plain_message(&self) -> Data {
        let mut message = Data::new(Kind::Directory);
        message.set_attributes(self.attributes);
        message
    }

    fn plain(&self, blocks: &mut Vec<Block>) -> Result<Node, ImportError> {
        let mut node = Vec::with_capacity(self.plain_len());
        for entry in &self.entries {
            put_link(
                &mut node,
                entry.cid(&self.texts),
                Some([&[], entry.name(&self.texts)]),
                Some(entry.tsize),
            );
        }
        put_message(&mut node, &self.plain_message());
        self.add_node(node, self.entries.iter().map(|entry| entry.tsize).sum(), blocks)
    }

    fn add_node(&self, node: Vec<u8>, below: u64, blocks: &mut Vec<Block>) -> Result<Node, ImportError> {
        let block = self.options.node_block(node)?;
        let node = Node { cid: *block.cid(), tsize: block.data().len() as u64 + below };
        blocks.push(block);
        Ok(node)
    }
}

impl Entry {
    fn name<'a>(&self, texts: &'a [u8]) -> &'a [u8] {
        &texts[self.start..self.start + self.name_len]
    }

    fn cid<'a>(&self, texts: &'a [u8]) -> &'a [u8] {
        let start = self.start + self.name_len;
        &texts[start..start + self.cid_len]
    }

    /// Length of its link with so many digits before the name, in bytes.
    fn link_len(&self, index_len: usize) -> usize {
        link_len(self.cid_len, Some(index_len + self.name_len), Some(self.tsize))
    }
}

/// A node that was made.
struct Node {
    cid: Cid,
    tsize: u64,
}

/// What stands under one index of a shard.
enum Slot<'a> {
    Entry(&'a Entry),
    Shard(Node),
}

/// Makes the shards of a directory whose entries are sorted by hash, so that those of one shard lie side by
/// side.
struct Shards<'a> {
    directory: &'a DirectoryBuilder,
    /// Bits of the hash that one shard uses.
    index_bits: u32,
}

impl Shards<'_> {
    /// Makes the shard of `entries`, whose hashes agree in their highest `used_bits`, after those below it.
    ///
    /// It calls itself for the shards below, at most once for each `index_bits` of a hash.
    fn build(&self, entries: &[Entry], used_bits: u32, blocks: &mut Vec<Block>) -> Result<Node, ImportError> {
        let index = |entry: &Entry| bits_at(entry.hash, used_bits, self.index_bits);
        let mut slots = Vec::new();
        for group in entries.chunk_by(|a, b| index(a) == index(b)) {
            let Some(at) = index(&group[0]) else {
                return Err(self.collision(group));
            };
            let slot = match group {
                [entry] => Slot::Entry(entry),
                _ => Slot::Shard(self.build(group, used_bits + self.index_bits, blocks)?),
            };
            slots.push((at, slot));
        }
        let attributes = if used_bits == 0 { self.directory.attributes } else { Attributes::default() };
        self.shard(&slots, attributes, blocks)
    }

    /// Makes one shard. Its slots are in the order of their indexes, which is that of the names of the links.
    fn shard(
        &self,
        slots: &[(usize, Slot<'_>)],
        attributes: Attributes,
        blocks: &mut Vec<Block>,
    ) -> Result<Node, ImportError> {
        let fanout = self.directory.options.hamt_fanout;
        let texts = &self.directory.texts;
        let index_len = index_len(fanout);
        let mut message = Data::new(Kind::HamtShard);
        message.data = bitfield(fanout, slots.iter().map(|(index, _)| *index)).map(Into::into);
        message.hash_type = Some(HASH_TYPE);
        message.fanout = Some(fanout as u64);
        message.set_attributes(attributes);

        let links_len: usize = slots.iter().map(|(_, slot)| slot.link_len(index_len)).sum();
        let mut node = Vec::with_capacity(links_len + bytes_field_len(message.encoded_len()));
        for (index, slot) in slots {
            let digits = format!("{index:0index_len$X}");
            let put = |node: &mut Vec<u8>, cid: &[u8], name: &[u8], tsize| {
                put_link(node, cid, Some([digits.as_bytes(), name]), Some(tsize));
            };
            match slot {
                Slot::Entry(entry) => put(&mut node, entry.cid(texts), entry.name(texts), entry.tsize),
                Slot::Shard(shard) => put(&mut node, &shard.cid.to_bytes(), &[], shard.tsize),
            }
        }
        put_message(&mut node, &message);
        self.directory.add_node(node, slots.iter().map(|(_, slot)| slot.tsize()).sum(), blocks)
    }

    fn collision(&self, entries: &[Entry]) -> ImportError {
        let name = |entry: &Entry| String::from_utf8_lossy(entry.name(&self.directory.texts)).into_owned();
        ImportError::HashCollision { names: [name(&entries[0]), name(&entries[1])] }
    }
}

impl Slot<'_> {
    fn tsize(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.tsize,
            Self::Shard(shard) => shard.tsize,
        }
    }

    fn link_len(&self, index_len: usize) -> usize {
        match self {
            Self::Entry(entry) => entry.link_len(index_len),
            Self::Shard(shard) => link_len(shard.cid.encoded_len(), Some(index_len), Some(shard.tsize)),
        }
    }
}

/// The bits of these indexes as a number, highest byte first, without leading zeros; `None` for no bits.
fn bitfield(fanout: usize, indexes: impl Iterator<Item = usize>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; fanout / 8];
    for index in indexes {
        bytes[fanout / 8 - 1 - index / 8] |= 1 << (index % 8);
    }
    let start = bytes.iter().position(|&byte| byte != 0)?;
    Some(bytes.split_off(start))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::cid::{Multihash, RAW};
    use crate::unixfs::hamt::{Child, HashBits};
    use crate::unixfs::{Node as Read, decode};

    fn cid_of(value: u64) -> Cid {
        Cid::new_v1(RAW, Multihash::wrap(0, &value.to_be_bytes()).unwrap())
    }

    fn sharded(hamt_fanout: usize) -> ImportOptions {
        ImportOptions { hamt_fanout, max_directory_links: 1, ..ImportOptions::default() }
    }

    fn build<'a>(
        options: &ImportOptions,
        entries: impl IntoIterator<Item = (&'a Vec<u8>, &'a u64)>,
    ) -> Built {
        let mut builder = DirectoryBuilder::new(options.clone());
        entries.into_iter().for_each(|(name, value)| builder.insert(name, &cid_of(*value), *value).unwrap());
        builder.finish().unwrap()
    }

    /// Looks a name up from the root, as a resolver does.
    fn find(built: &Built, name: &[u8]) -> Option<Cid> {
        let mut bits = HashBits::new(name);
        let mut at = built.cid;
        loop {
            let block = built.blocks.iter().find(|block| *block.cid() == at).unwrap();
            let Ok(Read::Hamt(shard)) = decode(block) else { panic!("not a shard") };
            match shard.find(name, &mut bits).unwrap()? {
                Child::Entry { link, .. } => return Some(link.cid),
                Child::Shard(cid) => at = *cid,
            }
        }
    }

    #[test]
    fn names_that_a_directory_cannot_have_are_refused() {
        let mut builder = DirectoryBuilder::new(ImportOptions::default());
        for name in ["", ".", "..", "a/b", "/", "a\0b"] {
            let error = ImportError::Name { name: name.to_owned() };
            assert_eq!(builder.insert(name, &cid_of(1), 1), Err(error));
        }
        for name in [&b"..."[..], b".a", b"\xff\xfe", "ä".as_bytes(), b"a b\n"] {
            assert_eq!(builder.insert(name, &cid_of(1), 1), Ok(()));
        }
    }

    #[test]
    fn entries_are_sorted_by_name_and_the_last_of_a_name_stays() {
        let mut builder = DirectoryBuilder::new(ImportOptions::default());
        for (name, value) in [("b", 1), ("a", 2), ("ab", 3), ("b", 4), ("B", 5)] {
            builder.insert(name, &cid_of(value), value).unwrap();
        }
        let built = builder.finish().unwrap();
        let Ok(Read::Directory(links)) = decode(&built.blocks[0]) else { panic!("not a directory") };
        let entries: Vec<_> = links.iter().map(|link| (link.name(), link.cid)).collect();
        let expected = [("B", 5), ("a", 2), ("ab", 3), ("b", 4)];
        assert_eq!(entries, expected.map(|(name, value)| (name.as_bytes(), cid_of(value))));
        assert_eq!(built.tsize, built.blocks[0].data().len() as u64 + 5 + 2 + 3 + 4);
    }

    #[test]
    fn a_directory_is_sharded_above_its_threshold_only() {
        // One entry: name and CID have 4 + 12 bytes; its block 4 for the type, and 2 + (2 + 12) + (2 + 4) + 2
        // for the link.
        let entries = BTreeMap::from([(b"name".to_vec(), 1)]);
        for (estimate, size) in [(SizeEstimate::Links, 16), (SizeEstimate::Block, 28)] {
            let is_sharded = |hamt_threshold_bytes| {
                let options = ImportOptions {
                    hamt_threshold_bytes,
                    hamt_size_estimate: estimate,
                    ..ImportOptions::default()
                };
                let built = build(&options, &entries);
                matches!(decode(&built.blocks[0]), Ok(Read::Hamt(_)))
            };
            assert!(!is_sharded(size), "{estimate:?}");
            assert!(is_sharded(size - 1), "{estimate:?}");
            assert!(!is_sharded(0), "{estimate:?}");
        }
    }

    #[test]
    fn without_an_estimate_only_the_number_of_entries_counts() {
        let entries: BTreeMap<_, _> =
            (0..20_u64).map(|value| (value.to_string().into_bytes(), value)).collect();
        let is_sharded = |max_directory_links, hamt_threshold_bytes| {
            let options = ImportOptions {
                max_directory_links,
                hamt_threshold_bytes,
                hamt_size_estimate: SizeEstimate::Disabled,
                ..ImportOptions::default()
            };
            matches!(decode(build(&options, &entries).blocks.last().unwrap()), Ok(Read::Hamt(_)))
        };
        assert!(!is_sharded(0, 1));
        assert!(!is_sharded(20, 1));
        assert!(is_sharded(19, 1));
        assert!(!is_sharded(19, 0));
    }

    #[test]
    fn a_directory_too_large_for_a_block_is_an_error_unless_it_may_be_sharded() {
        let name = vec![b'x'; crate::limits::MAX_BLOCK_BYTES];
        let mut builder =
            DirectoryBuilder::new(ImportOptions { hamt_threshold_bytes: 0, ..ImportOptions::default() });
        builder.insert(&name, &cid_of(1), 1).unwrap();
        assert!(matches!(builder.finish(), Err(ImportError::Block(_))));
    }

    /// A name that hashes as any name that starts with `start` and goes on with `like`.
    ///
    /// One block of murmur3 is a bijection of its state for each 16 bytes, so the second block can undo the
    /// first.
    fn colliding(start: [u8; 16], like: [[u8; 16]; 2]) -> Vec<u8> {
        const C1: u64 = 0x87c3_7b91_1142_53d5;
        const C2: u64 = 0x4cf5_ad43_2745_937f;
        let inverse =
            |odd: u64| (0..6).fold(odd, |x, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x))));
        let half = |block: [u8; 16], at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
        let step = |(h1, h2): (u64, u64), block: [u8; 16]| {
            let k1 = half(block, 0).wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
            let k2 = half(block, 8).wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
            let h1 = (h1 ^ k1).rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
            (h1, (h2 ^ k2).rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5))
        };
        let (t1, t2) = like.into_iter().fold((0, 0), step);
        let (h1, h2) = step((0, 0), start);
        let k1 = t1.wrapping_sub(0x52dc_e729).wrapping_mul(inverse(5)).wrapping_sub(h2).rotate_right(27) ^ h1;
        let k2 = t2.wrapping_sub(0x3849_5ab5).wrapping_mul(inverse(5)).wrapping_sub(t1).rotate_right(31) ^ h2;
        let k1 = k1.wrapping_mul(inverse(C2)).rotate_right(31).wrapping_mul(inverse(C1));
        let k2 = k2.wrapping_mul(inverse(C1)).rotate_right(33).wrapping_mul(inverse(C2));
        [&start[..], &k1.to_le_bytes(), &k2.to_le_bytes()].concat()
    }

    #[test]
    fn names_that_hash_alike_cannot_be_sharded_but_listed() {
        let like = [[b'a'; 16], [b'b'; 16]];
        let mut names = (b'c'..=b'z').map(|letter| colliding([letter; 16], like));
        let other = names.find(|name| !name.iter().any(|byte| matches!(byte, b'/' | 0))).unwrap();
        let name = like.concat();
        assert_ne!(name, other);
        assert_eq!(hash_name(&name), hash_name(&other));
        for fanout in [8, 256, 1024] {
            let mut builder = DirectoryBuilder::new(sharded(fanout));
            builder.insert(&name, &cid_of(1), 1).unwrap();
            builder.insert(&other, &cid_of(2), 1).unwrap();
            assert!(matches!(builder.finish(), Err(ImportError::HashCollision { .. })));
        }
        assert_eq!(
            build(&ImportOptions::default(), &BTreeMap::from([(name, 1), (other, 2)])).blocks.len(),
            1
        );
    }

    proptest! {
        #[test]
        fn every_name_is_found_again_and_no_other(
            names in proptest::collection::btree_map("[a-z]{1,40}", 0..1_u64 << 44, 2..300),
            absent in "[A-Z]{1,20}",
            fanout in proptest::sample::select(&[8_usize, 64, 1024][..]),
        ) {
            let entries: BTreeMap<Vec<u8>, u64> =
                names.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            let built = build(&sharded(fanout), &entries);
            for (name, value) in &entries {
                prop_assert_eq!(find(&built, name), Some(cid_of(*value)));
            }
            prop_assert_eq!(find(&built, absent.as_bytes()), None);
            let block_bytes: u64 = built.blocks.iter().map(|block| block.data().len() as u64).sum();
            prop_assert_eq!(built.tsize, block_bytes + entries.values().sum::<u64>());
            prop_assert_eq!(built, build(&sharded(fanout), entries.iter().rev()));
        }
    }
}
