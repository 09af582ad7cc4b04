//! Sharded directories: a trie over the hashes of names, one shard to a block.
//!
//! A shard has up to `fanout` children. Its bitfield says which of them there are; its links are those
//! children in order, each named by its index in hexadecimal, and an entry by its own name behind that.
//!
//! Source: <https://specs.ipfs.tech/unixfs/> and boxo `ipld/unixfs/hamt`.

use bytes::Bytes;

use super::Data;
use crate::cid::Cid;
use crate::codec::DecodeError;
use crate::codec::dag_pb::PbLink;
use crate::codec::wire::Reason;
use crate::limits::{MAX_HAMT_FANOUT, MIN_HAMT_FANOUT};

/// Multihash code of the only hash function that shards use: murmur3-x64-64.
pub const HASH_TYPE: u64 = 0x22;

/// Hash of a directory entry's name: the first 64 bits of murmur3 (x64, 128 bits, seed 0).
///
/// [`HashBits`] takes indexes from it, highest bits first.
pub fn hash_name(name: &[u8]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let (mut h1, mut h2) = (0_u64, 0_u64);
    let (blocks, tail) = name.as_chunks::<16>();
    for block in blocks {
        let (k1, k2) = halves(block);
        h1 = (h1 ^ mix1(k1)).rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2(k2)).rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    // A missing byte of the tail counts as zero, which mixes to zero.
    let mut last = [0; 16];
    last[..tail.len()].copy_from_slice(tail);
    let (k1, k2) = halves(&last);
    let len = name.len() as u64;
    h1 ^= mix1(k1) ^ len;
    h2 ^= mix2(k2) ^ len;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

fn halves(block: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*block);
    let low = u64::try_from(both & u128::from(u64::MAX)).expect("the high half was masked out");
    let high = u64::try_from(both >> 64).expect("64 bits are left");
    (low, high)
}

fn finish(mut h: u64) -> u64 {
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

/// The bits of a name's hash that the shards on the way down have not used yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashBits {
    hash: u64,
    used: u32,
}

impl HashBits {
    /// All bits of the hash of `name`.
    pub fn new(name: &[u8]) -> Self {
        Self { hash: hash_name(name), used: 0 }
    }

    /// Takes the next `count` bits, highest first; `None` when there are not so many.
    fn take(&mut self, count: u32) -> Option<usize> {
        let index = bits_at(self.hash, self.used, count)?;
        self.used += count;
        Some(index)
    }
}

/// The `count` bits of `hash` behind the highest `used`; `None` when there are not so many.
pub(super) fn bits_at(hash: u64, used: u32, count: u32) -> Option<usize> {
    if used + count > u64::BITS {
        return None;
    }
    usize::try_from(hash << used >> (u64::BITS - count)).ok()
}

/// One shard of a directory, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    fanout: usize,
    /// Bit `i` is the lowest but `i` of the number that these bytes are, highest byte first; leading zeros
    /// are left out.
    bitfield: Bytes,
    /// One link for each bit that is set, in order.
    links: Vec<PbLink>,
}

/// A child of a [`Shard`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Child<'a> {
    /// An entry of the directory.
    Entry {
        /// Name, without the index.
        name: Bytes,
        /// The link, whose own name has the index before the entry's.
        link: &'a PbLink,
    },
    /// A further shard.
    Shard(&'a Cid),
}

impl Shard {
    pub(super) fn new(message: &Data, links: Vec<PbLink>) -> Result<Self, Reason> {
        if message.hash_type != Some(HASH_TYPE) {
            return Err("hash function of a shard is not murmur3");
        }
        let fanout = message.fanout.and_then(|fanout| usize::try_from(fanout).ok()).unwrap_or(0);
        if !fanout.is_power_of_two() || !(MIN_HAMT_FANOUT..=MAX_HAMT_FANOUT).contains(&fanout) {
            return Err("fanout of a shard not allowed");
        }
        let bitfield = message.data.clone().unwrap_or_default();
        if bitfield.len() > fanout / 8 {
            return Err("bitfield of a shard is longer than its fanout");
        }
        let shard = Self { fanout, bitfield, links };
        if shard.indexes().count() != shard.links.len() {
            return Err("a shard needs one bit for each link");
        }
        for (index, link) in shard.indexes().zip(&shard.links) {
            if link.name().get(..shard.index_len()).and_then(parse_index) != Some(index) {
                return Err("link of a shard is not named by its index");
            }
        }
        Ok(shard)
    }

    /// Most children that the shard can have.
    pub fn fanout(&self) -> usize {
        self.fanout
    }

    /// Children, by index: the order in which the directory is listed.
    pub fn children(&self) -> impl ExactSizeIterator<Item = Child<'_>> {
        self.links.iter().map(|link| self.child(link))
    }

    /// The child on the way to the entry of that name, which may be the entry itself.
    ///
    /// Takes the bits that this shard uses from `bits`, which must be those of `name`, as the shards above
    /// left them. `Ok(None)` when the directory has no such entry.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] when the shards are deeper than the hash is long.
    pub fn find(&self, name: &[u8], bits: &mut HashBits) -> Result<Option<Child<'_>>, DecodeError> {
        let wanted =
            bits.take(self.fanout.trailing_zeros()).ok_or_else(|| super::malformed("shards too deep"))?;
        if !self.has(wanted) {
            return Ok(None);
        }
        let position = self.indexes().take_while(|&index| index < wanted).count();
        let child = self.child(&self.links[position]);
        let is_other = matches!(&child, Child::Entry { name: found, .. } if found != name);
        Ok((!is_other).then_some(child))
    }

    fn child<'a>(&'a self, link: &'a PbLink) -> Child<'a> {
        let full_name = link.name.clone().unwrap_or_default();
        let name = full_name.slice(self.index_len()..);
        if name.is_empty() { Child::Shard(&link.cid) } else { Child::Entry { name, link } }
    }

    fn has(&self, index: usize) -> bool {
        let byte = self.bitfield.iter().rev().nth(index / 8);
        byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// Indexes of the children, ascending.
    fn indexes(&self) -> impl Iterator<Item = usize> {
        let bytes = self.bitfield.iter().rev().enumerate();
        bytes.flat_map(|(at, byte)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit)
        })
    }

    fn index_len(&self) -> usize {
        index_len(self.fanout)
    }
}

/// Hexadecimal digits of an index in a shard of that fanout: those of the highest.
pub(super) fn index_len(fanout: usize) -> usize {
    (fanout.trailing_zeros() as usize).div_ceil(4)
}

/// An index in upper-case hexadecimal, as links are named by it.
fn parse_index(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0, |index, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some(index << 4 | usize::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Kind;
    use super::*;
    use crate::cid::{Multihash, RAW};

    fn link(name: &str) -> PbLink {
        let cid = Cid::new_v1(RAW, Multihash::wrap(0, name.as_bytes()).unwrap());
        PbLink { cid, name: Some(Bytes::copy_from_slice(name.as_bytes())), tsize: None }
    }

    fn shard(fanout: u64, bitfield: &[u8], names: &[&str]) -> Result<Shard, Reason> {
        let mut message = Data::new(Kind::HamtShard);
        message.data = Some(Bytes::copy_from_slice(bitfield));
        message.hash_type = Some(HASH_TYPE);
        message.fanout = Some(fanout);
        Shard::new(&message, names.iter().copied().map(link).collect())
    }

    #[test]
    fn names_hash_as_the_published_vectors_say() {
        // Source: murmur_test.go of github.com/spaolacci/murmur3, the hash that boxo uses (seed 0, first
        // half).
        for (name, hash) in [
            ("", 0),
            ("hello", 0xcbd8_a7b3_41bd_9b02),
            ("hello, world", 0x342f_ac62_3a5e_bc8e),
            ("19 Jan 2038 at 3:14:07 AM", 0xb89e_5988_b737_affc),
            ("The quick brown fox jumps over the lazy dog.", 0xcd99_481f_9ee9_02c9),
        ] {
            assert_eq!(hash_name(name.as_bytes()), hash, "{name}");
        }
    }

    #[test]
    fn indexes_take_the_highest_bits_first() {
        let mut bits = HashBits { hash: 0xcbd8_a7b3_41bd_9b02, used: 0 };
        assert_eq!([8, 8, 3, 5].map(|count| bits.take(count)), [0xcb, 0xd8, 0b101, 0b00111].map(Some));
        assert_eq!(bits.take(40), Some(0xb3_41bd_9b02));
        assert_eq!(bits.take(1), None);
    }

    #[test]
    fn a_name_is_found_by_its_index() {
        // "hello" has the index 0xcb, and the next shard would use 0xd8.
        let mut bitfield = [0; 26];
        bitfield[0] = 1 << (0xcb % 8);
        bitfield[25] = 1;
        let entry = shard(256, &bitfield, &["00a", "CBhello"]).unwrap();
        let find = |shard: &Shard, name: &str| {
            shard.find(name.as_bytes(), &mut HashBits::new(name.as_bytes())).unwrap().is_some()
        };
        assert!(find(&entry, "hello"));
        assert!(!find(&entry, "hello, world"));
        let other = shard(256, &bitfield, &["00a", "CBhellO"]).unwrap();
        assert!(!find(&other, "hello"));
        let inner = shard(256, &bitfield, &["00a", "CB"]).unwrap();
        let mut bits = HashBits::new(b"hello");
        assert_eq!(inner.find(b"hello", &mut bits), Ok(Some(Child::Shard(&link("CB").cid))));
        assert_eq!(bits.take(8), Some(0xd8));
        let names: Vec<_> = entry.children().collect();
        assert!(matches!(&names[1], Child::Entry { name, .. } if name == "hello"));
    }

    #[test]
    fn shards_deeper_than_the_hash_are_refused() {
        let root = shard(256, &[1], &["00"]).unwrap();
        let mut bits = HashBits { hash: 0, used: 0 };
        for _ in 0..8 {
            assert!(matches!(root.find(b"", &mut bits), Ok(Some(Child::Shard(_)))));
        }
        assert_eq!(root.find(b"", &mut bits), Err(super::super::malformed("shards too deep")));
    }

    // CVE-2023-23625, CVE-2023-23631: a fanout that panics or takes gigabytes.
    #[test]
    fn fanout_is_a_power_of_two_within_bounds() {
        for fanout in [8, 16, 256, 1024] {
            assert!(shard(fanout, &[], &[]).is_ok(), "{fanout}");
        }
        for fanout in [0, 1, 4, 9, 24, 255, 257, 2048, 1 << 40, u64::MAX] {
            assert_eq!(shard(fanout, &[], &[]), Err("fanout of a shard not allowed"), "{fanout}");
        }
    }

    // CVE-2023-23626: a bitfield longer than the fanout.
    #[test]
    fn a_bitfield_is_as_long_as_its_fanout_at_most_and_counts_the_links() {
        assert!(shard(8, &[0x81], &["0a", "7b"]).is_ok());
        assert_eq!(shard(8, &[0, 0x81], &["0a", "7b"]), Err("bitfield of a shard is longer than its fanout"));
        assert_eq!(shard(8, &[0x81], &["0a"]), Err("a shard needs one bit for each link"));
        assert_eq!(shard(8, &[0x81], &["0a", "6b"]), Err("link of a shard is not named by its index"));
        assert_eq!(shard(256, &[0x04, 0, 0], &["12a"]).unwrap().indexes().collect::<Vec<_>>(), [0x12]);
        for name in ["", "1", "1.", "12"] {
            assert_eq!(shard(256, &[1], &[name]), Err("link of a shard is not named by its index"), "{name}");
        }
        assert_eq!(shard(256, &[4, 0], &["0aname"]), Err("link of a shard is not named by its index"));
    }

    #[test]
    fn other_hash_functions_are_refused() {
        let mut message = Data::new(Kind::HamtShard);
        message.fanout = Some(256);
        assert_eq!(Shard::new(&message, vec![]), Err("hash function of a shard is not murmur3"));
        message.hash_type = Some(0x12);
        assert_eq!(Shard::new(&message, vec![]), Err("hash function of a shard is not murmur3"));
    }

    proptest! {
        #[test]
        fn every_bitfield_is_read_the_same_by_position_and_by_index(
            bytes in proptest::collection::vec(any::<u8>(), 0..=32),
        ) {
            // The bytes as one number, digit by digit from its end.
            let digits = bytes.iter().rev().flat_map(|byte| (0..8).map(move |bit| byte & (1 << bit) != 0));
            let set = digits.enumerate().filter(|(_, is_set)| *is_set);
            let names: Vec<String> = set.map(|(index, _)| format!("{index:02X}x")).collect();
            let shard = shard(256, &bytes, &names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            for index in 0..256 {
                prop_assert_eq!(shard.has(index), names.contains(&format!("{index:02X}x")));
            }
        }
    }
}
