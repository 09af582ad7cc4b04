//! The keyspace: 256 bits, in which distance is the exclusive or.

use crate::hash::HashFunction;

/// Tries of [`Prefix::preimage`]: prefixes of up to 18 bits are found all but surely.
const MAX_TRIES: u64 = 1 << 21;

/// A point of the keyspace: the SHA-256 of a peer ID or of the multihash of some content.
///
/// Source: <https://specs.ipfs.tech/routing/kad-dht/#kademlia-keyspace>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The lowest one.
    pub const FIRST: Self = Self([0; 32]);

    /// The point of a peer ID or multihash.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = HashFunction::Sha2_256.multihash(bytes);
        Self(hash.digest().try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// The point of these bits.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bits.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How far apart two points are.
    pub fn distance(&self, other: &Self) -> [u8; 32] {
        std::array::from_fn(|index| self.0[index] ^ other.0[index])
    }

    /// Leading bits that two points share.
    pub fn common_prefix_len(&self, other: &Self) -> u16 {
        let mut len = 0;
        for byte in self.distance(other) {
            len += u16::try_from(byte.leading_zeros()).unwrap_or(8);
            if byte != 0 {
                break;
            }
        }
        len
    }

    /// The next higher one; `None` behind the last.
    pub fn next(&self) -> Option<Self> {
        let mut bytes = self.0;
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return Some(Self(bytes));
            }
        }
        None
    }

    /// Its first 64 bits: how much of the keyspace lies before it.
    pub(super) fn position(&self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|index| self.0[index]))
    }
}

/// A part of the keyspace: all points whose first bits are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    first: Key,
    len: u16,
}

impl Prefix {
    /// The whole keyspace.
    pub const ALL: Self = Self { first: Key::FIRST, len: 0 };

    /// The points that share the first `len` bits of `key`.
    pub fn new(key: &Key, len: u16) -> Self {
        let len = len.min(256);
        let mut bytes = key.0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let kept_bits = usize::from(len).saturating_sub(8 * index).min(8);
            *byte &= !low_bits(8 - kept_bits);
        }
        Self { first: Key(bytes), len }
    }

    /// The keyspace in parts of equal size: as many as there are numbers of `bit_count` bits, in their order.
    pub fn parts(bit_count: u8) -> impl Iterator<Item = Self> {
        (0..1_u64 << bit_count).map(move |number| {
            let mut bytes = [0; 32];
            // The number stands in the first bits.
            bytes[..8].copy_from_slice(&number.rotate_right(bit_count.into()).to_be_bytes());
            Self { first: Key(bytes), len: bit_count.into() }
        })
    }

    /// Its lowest point.
    pub fn first(&self) -> Key {
        self.first
    }

    /// Its highest point.
    pub fn last(&self) -> Key {
        let mut bytes = self.first.0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let kept_bits = usize::from(self.len).saturating_sub(8 * index).min(8);
            *byte |= low_bits(8 - kept_bits);
        }
        Key(bytes)
    }

    /// How many bits are the same.
    pub fn bit_count(&self) -> u16 {
        self.len
    }

    /// Whether a point lies in it.
    pub fn contains(&self, key: &Key) -> bool {
        self.first.common_prefix_len(key) >= self.len
    }

    /// The other half of the part that is one bit shorter. The whole keyspace has none and is its own.
    pub(super) fn sibling(&self) -> Self {
        let Some(bit) = self.len.checked_sub(1).map(usize::from) else { return *self };
        let mut bytes = self.first.0;
        bytes[bit / 8] ^= 0x80 >> (bit % 8);
        Self { first: Key(bytes), len: self.len }
    }

    /// A multihash whose point lies in it, for asking peers what they know there: they are asked by the bytes before they
    /// are hashed. `None` for parts so small that none is found.
    pub(super) fn preimage(&self) -> Option<Vec<u8>> {
        // Peers expect a peer ID: the multihash of a SHA2-256.
        let mut bytes = [[0x12, 0x20].as_slice(), &[0; 32]].concat();
        (0..MAX_TRIES).find_map(|number| {
            bytes[26..].copy_from_slice(&u64::to_be_bytes(number));
            self.contains(&Key::of(&bytes)).then(|| bytes.clone())
        })
    }
}

/// A byte whose lowest bits are set.
fn low_bits(count: usize) -> u8 {
    (0..count).fold(0, |bits, _| bits << 1 | 1)
}

/// The `count` points of `among` that are closest to `target`, closest first.
pub fn closest(target: &Key, among: impl IntoIterator<Item = Key>, count: usize) -> Vec<Key> {
    let mut sorted: Vec<_> = among.into_iter().map(|key| (key.distance(target), key)).collect();
    if count < sorted.len() {
        sorted.select_nth_unstable(count);
        sorted.truncate(count);
    }
    sorted.sort_unstable();
    sorted.into_iter().map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_goes_from_its_lowest_to_its_highest_point() {
        let key = Key([0b1010_1010; 32]);
        for (len, first, last) in [(0, 0, 0xff), (3, 0b1010_0000, 0b1011_1111), (8, 0b1010_1010, 0b1010_1010)]
        {
            let prefix = Prefix::new(&key, len);
            assert_eq!((prefix.first().0[0], prefix.last().0[0]), (first, last), "{len}");
            assert_eq!((prefix.first().0[1], prefix.last().0[1]), (0, 0xff), "{len}");
            assert!(
                prefix.contains(&prefix.first()) && prefix.contains(&prefix.last()) && prefix.contains(&key)
            );
        }
        assert_eq!(Prefix::new(&key, 256).last(), key);
        assert_eq!(Prefix::new(&key, 3).sibling().first().0[0], 0b1000_0000);
        assert_eq!(Prefix::ALL.sibling(), Prefix::ALL);
    }

    #[test]
    fn parts_cover_the_keyspace_one_after_the_other() {
        assert_eq!(Prefix::parts(0).collect::<Vec<_>>(), [Prefix::ALL]);
        let parts: Vec<_> = Prefix::parts(3).collect();
        assert_eq!((parts.len(), parts[0].first(), parts[7].last().next()), (8, Key::FIRST, None));
        assert!(parts.windows(2).all(|pair| pair[0].last().next() == Some(pair[1].first())));
    }

    #[test]
    fn points_follow_each_other_to_the_end() {
        let mut bytes = [0; 32];
        bytes[31] = 0xff;
        let next = Key(bytes).next().unwrap();
        assert_eq!((next.0[30], next.0[31]), (1, 0));
        assert_eq!(Prefix::ALL.last().next(), None);
        assert_eq!(Key(bytes).common_prefix_len(&next), 247);
        assert_eq!(next.common_prefix_len(&next), 256);
    }

    #[test]
    fn a_preimage_leads_into_its_prefix() {
        for len in [0, 1, 7, 12, 16] {
            let prefix = Prefix::new(&Key::of(b"anything"), len);
            let bytes = prefix.preimage().unwrap();
            assert!(prefix.contains(&Key::of(&bytes)));
            assert!(crate::cid::Multihash::from_bytes(&bytes).is_ok());
        }
        assert_eq!(Prefix::new(&Key::of(b"anything"), 256).preimage(), None);
    }

    #[test]
    fn the_closest_come_first() {
        let points: Vec<_> = [1_u8, 2, 3, 8, 9].iter().map(|&byte| Key([byte; 32])).collect();
        let found = closest(&Key([9; 32]), points.iter().copied(), 3);
        assert_eq!(found.iter().map(|key| key.0[0]).collect::<Vec<_>>(), [9, 8, 1]);
        assert_eq!(closest(&Key([0; 32]), points, 9).len(), 5);
    }
}
