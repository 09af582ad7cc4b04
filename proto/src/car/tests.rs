use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cid::{HashFunction, RAW, Version, parse};
use crate::walk::testing::{Peers, identity, with_seeds};
use crate::walk::{Walk, WalkOptions};

// "hello world" as `ipfs add --cid-version=1` stores it.
const HELLO: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

/// `ipfs dag export` of the block above, from Kubo 0.43, in hexadecimal.
const HELLO_CAR: &str = "3aa265726f6f747381d82a58250001551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9\
    6776657273696f6e012f01551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde968656c6c6f20776f726c64";

fn hello_car() -> Vec<u8> {
    let digits: Vec<u8> = HELLO_CAR.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn raw(data: &[u8]) -> Block {
    Block::hash(Version::V1, RAW, HashFunction::Sha2_256, Bytes::copy_from_slice(data)).unwrap()
}

fn write(roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut car = header(roots).to_vec();
    for block in blocks {
        car.extend_from_slice(&section_head(block));
        car.extend_from_slice(block.data());
    }
    car
}

fn read(car: &[u8], piece_len: usize) -> Result<(Vec<Cid>, Vec<Block>), CarError> {
    let mut reader = Reader::new();
    let mut blocks = Vec::new();
    for piece in car.chunks(piece_len.max(1)) {
        reader.push(piece);
        while let Some(block) = reader.next()? {
            blocks.push(block);
        }
    }
    reader.finish()?;
    Ok((reader.roots().to_vec(), blocks))
}

/// The archive inside a CARv2, with padding before and an index behind.
fn wrap_v2(v1: &[u8]) -> Vec<u8> {
    let mut car = b"\x0a\xa1gversion\x02".to_vec();
    car.extend_from_slice(&[0; 16]);
    for field in [51 + 7, v1.len() as u64, 51 + 7 + v1.len() as u64] {
        car.extend_from_slice(&field.to_le_bytes());
    }
    car.extend_from_slice(&[0; 7]);
    car.extend_from_slice(v1);
    car.extend_from_slice(b"\x80\x08 an index that is not read");
    car
}

#[test]
fn an_archive_is_the_one_that_kubo_writes() {
    assert_eq!(write(&[parse(HELLO).unwrap()], &[raw(b"hello world")]), hello_car());
}

#[test]
fn an_archive_of_kubo_is_read_in_pieces_of_any_size() {
    for piece_len in [1, 2, 7, 1000] {
        let (roots, blocks) = read(&hello_car(), piece_len).unwrap();
        assert_eq!(roots, [parse(HELLO).unwrap()]);
        assert_eq!(blocks, [raw(b"hello world")]);
    }
}

#[test]
fn a_carv2_is_read_again_and_has_no_index() {
    let payload = hello_car();
    let car = [v2_header(payload.len() as u64).as_ref(), &payload].concat();
    // Source of the fields: <https://ipld.io/specs/transport/car/carv2/>.
    assert_eq!(car[..11], *b"\x0a\xa1gversion\x02");
    assert_eq!((car[11..27].iter().max(), car[27], car[43..51].iter().max()), (Some(&0), 51, Some(&0)));
    assert_eq!(read(&car, 13).unwrap().1, [raw(b"hello world")]);
}

#[test]
fn the_payload_of_a_carv2_is_read_and_its_index_is_not() {
    for piece_len in [1, 13, 10_000] {
        let (_, blocks) = read(&wrap_v2(&hello_car()), piece_len).unwrap();
        assert_eq!(blocks, [raw(b"hello world")]);
    }
}

#[test]
fn a_torn_archive_gives_its_whole_blocks_and_says_where_it_broke() {
    let (first, second) = (raw(b"first"), raw(b"second"));
    let car = write(&[*first.cid()], &[first.clone(), second.clone()]);
    let whole = (car.len() as u64) - section_len(&second);
    let mut reader = Reader::new();
    reader.push(&car[..car.len() - 1]);
    assert_eq!(reader.next(), Ok(Some(first)));
    assert_eq!(reader.next(), Ok(None));
    assert_eq!(reader.finish(), Err(CarError::Torn { offset: whole }));
}

#[test]
fn a_false_block_is_refused() {
    let mut car = hello_car();
    *car.last_mut().unwrap() ^= 1;
    assert!(matches!(read(&car, 1000), Err(CarError::Block { offset: 59, .. })));
}

#[test]
fn lengths_are_held_to_their_bounds_before_their_bytes_come() {
    let section = |len: u64| {
        let mut car = header(&[]).to_vec();
        car.extend_from_slice(&varint(len));
        read(&car, 1000)
    };
    assert!(matches!(section(0), Err(CarError::SectionLength { len_bytes: 0, .. })));
    assert!(matches!(section(MAX_SECTION_BYTES as u64), Err(CarError::Torn { .. })));
    assert!(matches!(section(MAX_SECTION_BYTES as u64 + 1), Err(CarError::SectionLength { .. })));
    let head = |len: u64| read(&varint(len), 1000);
    assert!(matches!(head(MAX_CAR_HEADER_BYTES as u64), Err(CarError::Header { .. })));
    assert!(matches!(head(MAX_CAR_HEADER_BYTES as u64 + 1), Err(CarError::HeaderTooLarge { .. })));
}

#[test]
fn headers_of_many_roots_are_read_back() {
    for count in [0, 1, 23, 24, 255, 256, 300] {
        let roots: Vec<Cid> = (0..count).map(|number: u32| *raw(&number.to_be_bytes()).cid()).collect();
        assert_eq!(read(&header(&roots), 1000).unwrap().0, roots, "{count}");
    }
}

// Source: Kubo 0.43, `ipfs dag export` of a directory that it added with CID version 1: "a.txt" and "sub/copy.txt" hold
// "hello world", "z.txt" holds "x".
const SITE: &str = "3aa265726f6f747381d82a582500017012203e487a1bb34862e4ba4a4d321cabe8c28bfff3f3f6ec52a44ce00c9c0fb6b5df6776657273696f6e01b901017012203e487a1bb34862e4ba4a4d321cabe8c28bfff3f3f6ec52a44ce00c9c0fb6b5df122f0a2401551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde91205612e747874180b122d0a24017012202f09604b6561dad1dbf1aaf10c2975bd1471e49d8229f5e20763ffd042b549d112037375621843122f0a24015512202d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a488112057a2e74787418010a0208012f01551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde968656c6c6f20776f726c645c017012202f09604b6561dad1dbf1aaf10c2975bd1471e49d8229f5e20763ffd042b549d112320a2401551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde91208636f70792e747874180b0a02080125015512202d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a488178";
const SITE_ROOT: &str = "bafybeib6jb5bxm2imlslussngiokx2gcrp77h47w5rjkithabsoa7nvv34";
const SITE_BLOCKS: [&str; 4] = [
    SITE_ROOT,
    "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
    "bafybeibpbfqewzlb3li5x4nk6egcs5n5cry6jhmcfh26eb3d77iefnkj2e",
    "bafkreibnoelefnzgwbcacyt4vh52ymxvzbjq7mmqhtcnwarfq4lzegsiqe",
];
/// Where the sections of that file end, its header first.
const SITE_ENDS: [u64; 5] = [59, 246, 294, 387, 425];

fn site() -> Vec<u8> {
    multibase::Base::Base16Lower.decode(SITE).unwrap()
}

/// A CARv2 whose payload says that it has so many bytes.
fn v2_of(payload: &[u8], payload_len: u64) -> Vec<u8> {
    let mut car = b"\x0a\xa1gversion\x02".to_vec();
    car.extend_from_slice(&[0; 16]);
    for field in [51, payload_len, 0] {
        car.extend_from_slice(&field.to_le_bytes());
    }
    car.extend_from_slice(payload);
    car
}

#[test]
fn a_directory_that_kubo_wrote_is_read_and_written_the_same() {
    for piece_len in 1..=site().len() {
        let (roots, blocks) = read(&site(), piece_len).unwrap();
        assert_eq!(roots, [parse(SITE_ROOT).unwrap()]);
        assert!(blocks.iter().map(|block| block.cid().to_string()).eq(SITE_BLOCKS));
        assert_eq!(write(&roots, &blocks), site());
    }
}

#[test]
fn a_walk_of_the_same_blocks_gives_kubos_order() {
    let (roots, blocks) = read(&site(), 100).unwrap();
    with_seeds(0..5, |rng| {
        let mut peers = Peers::new(rng);
        peers.add_all(blocks.clone());
        assert_eq!(peers.run(&mut Walk::new(roots[0], WalkOptions::default())).unwrap(), blocks);
    });
}

#[test]
fn an_archive_may_end_behind_any_section_and_nowhere_else() {
    for len in 0..=site().len() {
        let read = read(&site()[..len], 7).map(|(_, blocks)| blocks.len());
        match SITE_ENDS.iter().rposition(|&end| end <= len as u64) {
            None => assert!(matches!(read, Err(CarError::Header { .. })), "{len}"),
            Some(count) if SITE_ENDS[count] == len as u64 => assert_eq!(read, Ok(count)),
            Some(count) => assert_eq!(read, Err(CarError::Torn { offset: SITE_ENDS[count] }), "{len}"),
        }
    }
}

#[test]
fn nothing_is_read_beyond_the_payload_of_a_carv2() {
    for piece_len in [1, 1000] {
        let whole = read(&v2_of(&site(), 425), piece_len).unwrap();
        assert_eq!(whole.1.len(), 4);
        assert_eq!(read(&v2_of(&site(), 424), piece_len), Err(CarError::Overrun { offset: 51 + 387 }));
        assert_eq!(read(&v2_of(&site(), 388), piece_len), Err(CarError::Overrun { offset: 51 + 387 }));
        assert_eq!(read(&v2_of(&site(), 387), piece_len).unwrap().1.len(), 3);
        assert_eq!(read(&v2_of(&site(), 58), piece_len), Err(CarError::Overrun { offset: 51 }));
        assert_eq!(read(&v2_of(&site(), 426), piece_len), Err(CarError::Torn { offset: 51 + 425 }));
        assert!(read(&v2_of(&v2_of(&site(), 425), 476), piece_len).is_err());
    }
}

#[test]
fn headers_that_break_a_rule_are_refused() {
    let prefixed = |body: &[u8]| [&[u8::try_from(body.len()).unwrap()], body].concat();
    let version = |number: u8| [&[0xa2, 0x65][..], b"roots", &[0x80, 0x67], b"version", &[number]].concat();
    for body in [
        version(0),
        version(2),
        [&[0xa1, 0x65][..], b"roots", &[0x80]].concat(),
        [&[0xa1, 0x67][..], b"version", &[1]].concat(),
        [&[0xa3, 0x65][..], b"roots", &[0x80, 0x67], b"version", &[1, 0x61, b'x', 1]].concat(),
        [&[0xa2, 0x65][..], b"roots", &[0x81, 0x01, 0x67], b"version", &[1]].concat(),
        [&[0xa2, 0x65][..], b"roots", &[0x9b, 0xff, 0, 0, 0, 0, 0, 0, 0, 0x67], b"version", &[1]].concat(),
        [version(1), vec![0]].concat(),
        vec![0x80],
        vec![0xff],
    ] {
        assert!(matches!(read(&prefixed(&body), 99), Err(CarError::Header { .. })), "{body:x?}");
    }
    assert_eq!(read(&prefixed(&version(1)), 99), Ok((Vec::new(), Vec::new())));
}

#[test]
fn roots_of_every_sort_are_written_and_read() {
    let v0 = parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn").unwrap();
    let roots = [v0, identity(RAW, &[7; 128]), parse(HELLO).unwrap()];
    assert_eq!(read(&header(&roots), 99).unwrap().0, roots);
}

#[test]
fn a_block_of_the_limit_goes_through() {
    let block = raw(&vec![7; MAX_BLOCK_BYTES]);
    let (_, blocks) = read(&write(&[], std::slice::from_ref(&block)), 100_000).unwrap();
    assert_eq!(blocks, [block]);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..59) {
        let _ = read(&bytes, 11);
        let mut car = hello_car();
        car.splice(at.., bytes);
        let _ = read(&car, 17);
    }
}
