//! The golden CIDs of both profiles.
//!
//! Source: Kubo 0.43, test/cli/cid_profiles_test.go; its inputs are a ChaCha20 keystream under the SHA2-256
//! of a seed.

use multihash_derive::MultihashDigest as _;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use super::*;

struct Golden {
    profile: Profile,
    chunk_seed: &'static str,
    file_seed: &'static str,
    directory_seed: &'static str,
    hello: &'static str,
    one_chunk: &'static str,
    chunk_and_a_byte: &'static str,
    full_width: &'static str,
    width_and_a_byte: &'static str,
    /// Entries, length of their names, length of the last one's name, CID: at the threshold and over it.
    directories: [(usize, usize, usize, &'static str); 2],
    empty_directory: &'static str,
    /// Source: `ipfs add` of an empty file, in both versions.
    empty_file: &'static str,
}

const V0: Golden = Golden {
    profile: Profile::UnixfsV0_2015,
    chunk_seed: "chunk-v0-seed",
    file_seed: "v0-seed",
    directory_seed: "hamt-unixfs-v0-2015",
    hello: "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD",
    one_chunk: "QmWmRj3dFDZdb6ABvbmKhEL6TmPbAfBZ1t5BxsEyJrcZhE",
    chunk_and_a_byte: "QmYyLxtzZyW22zpoVAtKANLRHpDjZtNeDjQdJrcQNWoRkJ",
    full_width: "QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2",
    width_and_a_byte: "QmV81WL765sC8DXsRhE5fJv2rwhS4icHRaf3J9Zk5FdRnW",
    directories: [
        (4096, 30, 30, "QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN"),
        (4033, 31, 31, "QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP"),
    ],
    empty_directory: "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
    empty_file: "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
};

const V1: Golden = Golden {
    profile: Profile::UnixfsV1_2025,
    chunk_seed: "chunk-v1-seed",
    file_seed: "v1-2025-seed",
    directory_seed: "hamt-unixfs-v1-2025",
    hello: "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
    one_chunk: "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta",
    chunk_and_a_byte: "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64",
    full_width: "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm",
    width_and_a_byte: "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe",
    directories: [
        (4766, 11, 21, "bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4"),
        (4766, 11, 22, "bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu"),
    ],
    empty_directory: "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
    empty_file: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
};

/// The keystream of a seed, from an offset that is a multiple of 64 bytes.
fn keystream(seed: &str, offset: u64) -> ChaCha20Rng {
    let key = HashFunction::Sha2_256.digest(seed.as_bytes());
    let mut stream = ChaCha20Rng::from_seed(key.digest().try_into().unwrap());
    stream.set_word_pos(u128::from(offset / 4));
    stream
}

/// Leaves made before they are handed on together.
const LEAVES_AT_ONCE: u64 = 32;

/// A file of the first `len` bytes of a keystream, its leaves made on two threads and forgotten.
fn file(options: &ImportOptions, seed: &str, len: u64) -> FileBuilder {
    let mut builder = FileBuilder::new(options.clone());
    let chunk_len = options.chunker.max_chunk_bytes() as u64;
    let count = len.div_ceil(chunk_len);
    let make = |index: u64| {
        let offset = index * chunk_len;
        let mut chunk = vec![0; usize::try_from(chunk_len.min(len - offset)).unwrap()];
        keystream(seed, offset).fill_bytes(&mut chunk);
        leaf(options, chunk.into()).unwrap()
    };
    for start in (0..count).step_by(usize::try_from(LEAVES_AT_ONCE).unwrap()) {
        let end = count.min(start + LEAVES_AT_ONCE);
        let middle = start.midpoint(end);
        let leaves = std::thread::scope(|scope| {
            let first = scope.spawn(|| (start..middle).map(make).collect::<Vec<_>>());
            let second: Vec<_> = (middle..end).map(make).collect();
            [first.join().unwrap(), second]
        });
        for leaf in leaves.into_iter().flatten() {
            builder.push(leaf).unwrap();
        }
    }
    builder
}

fn cid(builder: FileBuilder) -> String {
    builder.finish().unwrap().cid.to_string()
}

fn check_files(golden: &Golden) {
    let options = ImportOptions::from_profile(golden.profile);
    let chunk = options.chunker.max_chunk_bytes() as u64;
    let mut hello = FileBuilder::new(options.clone());
    hello.push(leaf(&options, Bytes::from_static(b"hello world")).unwrap()).unwrap();
    assert_eq!(cid(hello), golden.hello);
    assert_eq!(cid(file(&options, golden.chunk_seed, chunk)), golden.one_chunk);
    assert_eq!(cid(file(&options, golden.chunk_seed, chunk + 1)), golden.chunk_and_a_byte);
    assert_eq!(cid(FileBuilder::new(options.clone())), golden.empty_file);
    let full_bytes = chunk * options.max_file_links as u64;
    let mut full = file(&options, golden.file_seed, full_bytes);
    assert_eq!(cid(full.clone()), golden.full_width);
    let mut byte = vec![0];
    keystream(golden.file_seed, full_bytes).fill_bytes(&mut byte);
    full.push(leaf(&options, byte.into()).unwrap()).unwrap();
    assert_eq!(cid(full), golden.width_and_a_byte);
}

fn check_directories(golden: &Golden) {
    const ALPHABET: &[u8; 39] = b"abcdefghijklmnopqrstuvwxyz01234567890-_";
    let options = ImportOptions::from_profile(golden.profile);
    assert_eq!(
        DirectoryBuilder::new(options.clone()).finish().unwrap().cid.to_string(),
        golden.empty_directory
    );
    let file = leaf(&options, Bytes::from_static(b"x")).unwrap();
    for (count, name_len, last_name_len, cid) in golden.directories {
        // Drawn at once: the generator drops the rest of a word at the end of each draw.
        let mut stream = vec![0; count * name_len + last_name_len];
        keystream(golden.directory_seed, 0).fill_bytes(&mut stream);
        let mut letters = stream.iter().map(|&byte| ALPHABET[usize::from(byte) % ALPHABET.len()]);
        let mut builder = DirectoryBuilder::new(options.clone());
        for index in 0..count {
            let len = if index + 1 == count { last_name_len } else { name_len };
            let name: Vec<u8> = letters.by_ref().take(len).collect();
            builder.insert(&name, file.block.cid(), file.tsize()).unwrap();
        }
        assert_eq!(builder.finish().unwrap().cid.to_string(), cid);
    }
}

#[test]
fn files_of_v0_2015_have_kubos_cids() {
    check_files(&V0);
}

#[test]
fn files_of_v1_2025_have_kubos_cids() {
    check_files(&V1);
}

#[test]
fn directories_of_v0_2015_have_kubos_cids() {
    check_directories(&V0);
}

#[test]
fn directories_of_v1_2025_have_kubos_cids() {
    check_directories(&V1);
}
