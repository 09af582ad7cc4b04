use super::*;
use crate::cid::{RAW, Version as CidVersion};
use crate::limits::MAX_BLOCK_BYTES;

fn block(text: &[u8]) -> Block {
    Block::hash(CidVersion::V1, RAW, HashFunction::Sha2_256, Bytes::copy_from_slice(text)).unwrap()
}

/// The message behind its length prefix.
fn wire(message: &Outgoing, version: Version) -> Bytes {
    let mut bytes = Bytes::from(message.encode(version).concat());
    let announced = decode_varint(&mut bytes).unwrap();
    assert_eq!(announced, bytes.len() as u64, "the prefix announces what follows");
    bytes
}

// `block 'hello world' | want-block of it, priority 1`, built by hand from the schema in the specification.
const CID_HEX: &str = "01551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

#[test]
fn a_want_has_the_bytes_that_the_schema_gives() {
    let cid = *block(b"hello world").cid();
    let want = WantEntry::Want { cid, priority: 1, kind: WantKind::Have, send_dont_have: true };
    let bytes = wire(&Outgoing { entries: vec![want], ..Outgoing::default() }, Version::V1_2);
    // wantlist (1), entry (1): block (1), priority (2) = 1, wantType (4) = 1, sendDontHave (5) = true.
    assert_eq!(hex(&bytes), format!("0a2e0a2c0a24{CID_HEX}100120012801"));
}

#[test]
fn a_block_has_the_bytes_that_the_schema_gives() {
    let message = Outgoing { blocks: vec![block(b"hello world")], ..Outgoing::default() };
    // An empty wantlist, payload (3): prefix (1) = version 1, raw, sha2-256, 32 bytes; data (2).
    let text = hex(b"hello world");
    assert_eq!(hex(&wire(&message, Version::V1_1)), format!("0a001a130a0401551220120b{text}"));
    assert_eq!(hex(&wire(&message, Version::V1_0)), format!("0a00120b{text}"));
}

#[test]
fn what_is_sent_is_what_arrives() {
    let (large, small) = (block(&vec![7; SHARE_MIN_BYTES]), block(b"small"));
    let want = |kind| WantEntry::Want { cid: *small.cid(), priority: -3, kind, send_dont_have: false };
    let sent = Outgoing {
        entries: vec![want(WantKind::Have), want(WantKind::Block), WantEntry::Cancel(*large.cid())],
        full: true,
        blocks: vec![small.clone(), large.clone(), small.clone()],
        presences: vec![(*small.cid(), Presence::Have), (*large.cid(), Presence::DontHave)],
        pending_bytes: 1 << 20,
    };
    let mut received = Message::decode(wire(&sent, Version::V1_2)).unwrap();
    assert!(received.is_full_wantlist());
    assert_eq!(received.entries().collect::<Vec<_>>(), sent.entries);
    assert_eq!(received.presences().collect::<Vec<_>>(), sent.presences);
    let blocks: Vec<_> =
        received.take_payloads().into_iter().map(|payload| payload.hash().unwrap()).collect();
    assert_eq!(blocks, sent.blocks);
}

#[test]
fn large_payloads_are_shared_on_both_ends() {
    let block = block(&vec![7; SHARE_MIN_BYTES]);
    let frames = Outgoing { blocks: vec![block.clone()], ..Outgoing::default() }.encode(Version::V1_2);
    assert!(frames.iter().any(|frame| frame.as_ptr() == block.data().as_ptr()));

    let bytes = wire(&Outgoing { blocks: vec![block], ..Outgoing::default() }, Version::V1_2);
    let range = bytes.as_ptr_range();
    let payload = Message::decode(bytes).unwrap().take_payloads().remove(0);
    assert!(range.contains(&payload.data.as_ptr()));
}

#[test]
fn a_small_payload_does_not_keep_a_large_message_in_memory() {
    let blocks = vec![block(b"small"), block(&vec![7; 100_000])];
    let bytes = wire(&Outgoing { blocks, ..Outgoing::default() }, Version::V1_2);
    let range = bytes.as_ptr_range();
    let payloads = Message::decode(bytes).unwrap().take_payloads();
    assert!(!range.contains(&payloads[0].data.as_ptr()));
    assert!(range.contains(&payloads[1].data.as_ptr()));
}

#[test]
fn old_peers_get_no_presences_and_no_wants_for_them() {
    let cid = *block(b"x").cid();
    let want = |kind| WantEntry::Want { cid, priority: 1, kind, send_dont_have: true };
    let sent = Outgoing {
        entries: vec![want(WantKind::Have), want(WantKind::Block)],
        presences: vec![(cid, Presence::Have)],
        pending_bytes: 5,
        ..Outgoing::default()
    };
    for version in [Version::V1_0, Version::V1_1] {
        let received = Message::decode(wire(&sent, version)).unwrap();
        let expected = WantEntry::Want { cid, priority: 1, kind: WantKind::Block, send_dont_have: false };
        assert_eq!(received.entries().collect::<Vec<_>>(), [expected]);
        assert_eq!(received.presences().count(), 0);
        assert_eq!(received.inner.pending_bytes, 0);
    }
}

#[test]
fn a_block_without_prefix_has_a_cid_of_version_0() {
    let message = Outgoing { blocks: vec![block(b"hello world")], ..Outgoing::default() };
    let mut received = Message::decode(wire(&message, Version::V1_0)).unwrap();
    let block = received.take_payloads().remove(0).hash().unwrap();
    assert_eq!((block.cid().version(), block.cid().codec()), (CidVersion::V0, DAG_PB));
}

#[test]
fn a_digest_cut_short_by_the_prefix_is_honoured() {
    let whole = block(b"hello world");
    let cut = Cid::new_v1(RAW, whole.multihash().truncate(20));
    let cut = Block::verify(cut, whole.data().clone()).unwrap();
    let message = Outgoing { blocks: vec![cut.clone()], ..Outgoing::default() };
    let mut received = Message::decode(wire(&message, Version::V1_2)).unwrap();
    assert_eq!(received.take_payloads().remove(0).hash().unwrap(), cut);
}

#[test]
fn blocks_of_the_limit_pass_and_larger_ones_are_refused() {
    let payload = |len| Payload { prefix: Prefix::V0, data: Bytes::from(vec![0; len]) };
    assert!(payload(MAX_BLOCK_BYTES).hash().is_ok());
    assert!(payload(MAX_BLOCK_BYTES + 1).hash().is_err());
}

#[test]
fn messages_of_the_limit_pass_and_longer_ones_are_refused() {
    // An unknown field of that length is skipped.
    let message = |len: usize| {
        let mut bytes = BytesMut::new();
        encode_key(15, WireType::LengthDelimited, &mut bytes);
        encode_varint((len - 5) as u64, &mut bytes);
        assert_eq!(bytes.len(), 5);
        bytes.resize(len, 0);
        Message::decode(bytes.freeze())
    };
    assert!(message(MAX_MESSAGE_BYTES).is_ok());
    let len_bytes = MAX_MESSAGE_BYTES + 1;
    assert_eq!(message(len_bytes).unwrap_err(), MessageError::TooLarge { len_bytes });
}

#[test]
fn messages_with_the_most_items_pass_and_one_more_is_refused() {
    let presences = |count: usize| Message::decode(Bytes::from([0x22, 0x00].repeat(count)));
    assert!(presences(MAX_MESSAGE_ITEMS).is_ok());
    assert_eq!(presences(MAX_MESSAGE_ITEMS + 1).unwrap_err(), MessageError::TooManyItems);

    let entries = |count: usize| {
        let wantlist = Wantlist { entries: vec![Entry::default(); count], full: false };
        let message = pb::Message { wantlist: Some(wantlist), ..pb::Message::default() };
        Message::decode(message.encode_to_vec().into())
    };
    assert!(entries(MAX_MESSAGE_ITEMS).is_ok());
    assert_eq!(entries(MAX_MESSAGE_ITEMS + 1).unwrap_err(), MessageError::TooManyItems);
}

#[test]
fn unacceptable_cids_are_passed_over() {
    let good = *block(b"x").cid();
    let identity = Cid::new_v1(RAW, cid::Multihash::wrap(IDENTITY, b"abc").unwrap());
    let mut long = good.to_bytes();
    long.resize(MAX_CID_BYTES + 1, 0);
    let entries = [vec![], vec![1, 2, 3], long, identity.to_bytes(), good.to_bytes()]
        .map(|bytes| Entry { block: bytes.into(), ..Entry::default() });
    let wantlist = Wantlist { entries: entries.to_vec(), full: false };
    let message = pb::Message { wantlist: Some(wantlist), ..pb::Message::default() };
    let received = Message::decode(message.encode_to_vec().into()).unwrap();
    let cids: Vec<_> = received
        .entries()
        .map(|entry| match entry {
            WantEntry::Want { cid, .. } | WantEntry::Cancel(cid) => cid,
        })
        .collect();
    assert_eq!(cids, [good]);
}

#[test]
fn a_message_without_a_wantlist_is_no_error() {
    let received = Message::decode(Bytes::new()).unwrap();
    assert_eq!(received.entries().count(), 0);
    assert!(!received.has_entries() && !received.has_payloads());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(0u8.., 0..300)) {
        if let Ok(mut message) = Message::decode(Bytes::from(bytes)) {
            message.entries().for_each(drop);
            message.presences().for_each(drop);
            for payload in message.take_payloads() {
                let _ = payload.hash();
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
