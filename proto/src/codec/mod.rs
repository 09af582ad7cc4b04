//! Codecs: what a block's bytes mean, and which blocks it links.
//!
//! Decoders allocate nothing from a declared length, bound their depth, and never panic.

pub mod dag_cbor;
pub mod dag_json;
pub mod dag_pb;
pub(crate) mod path;
mod value;
pub(crate) mod wire;

use bytes::Bytes;

use crate::block::Block;
use crate::cid::{CBOR, Cid, DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW};

pub use value::Value;

/// The codecs that blocks are read and written in, by their names in the multicodec table.
const NAMES: [(&str, u64); 6] = [
    ("raw", RAW),
    ("dag-pb", DAG_PB),
    ("dag-cbor", DAG_CBOR),
    ("dag-json", DAG_JSON),
    ("cbor", CBOR),
    ("json", JSON),
];

/// The codec of a name in the multicodec table; `None` for one that [`decode`] does not know.
pub fn from_name(name: &str) -> Option<u64> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, codec)| *codec)
}

/// Why the bytes of a block do not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Bytes that the format forbids. They match their hash, so asking again does not help.
    #[error("invalid {format}: {reason}")]
    Malformed {
        /// Name of the format.
        format: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Well-formed, but of a codec that UnixFS does not use.
    #[error("not UnixFS, codec=0x{codec:x}")]
    NotUnixfs {
        /// Codec of the CID.
        codec: u64,
    },
    /// Of a codec that is not understood.
    #[error("codec is not supported, codec=0x{codec:x}")]
    Codec {
        /// Codec of the CID.
        codec: u64,
    },
}

/// Why a value has no bytes under a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The format has no such kind of value.
    #[error("{format} cannot hold a {kind}")]
    Kind {
        /// Name of the format.
        format: &'static str,
        /// Kind of the value.
        kind: &'static str,
    },
    /// The format wants certain keys and kinds.
    #[error("not a {format} node: {reason}")]
    Shape {
        /// Name of the format.
        format: &'static str,
        /// What is wanted.
        reason: &'static str,
    },
    /// An integer beyond 64 bits.
    #[error("integer out of range, value={value}")]
    IntegerRange {
        /// The integer.
        value: i128,
    },
    /// A float that is infinite or not a number.
    #[error("a float must be finite")]
    NotFinite,
    /// Lists and maps nested deeper than [`crate::limits::MAX_CBOR_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
    /// A codec that is not understood.
    #[error("codec is not supported, codec=0x{codec:x}")]
    Codec {
        /// The codec.
        codec: u64,
    },
}

/// Links of a block, in the order in which they stand; a CID that stands twice is given twice.
///
/// Blocks of codecs without links, and of codecs that are not known, have none. The CIDs are well-formed but
/// not held against [`crate::cid::check`]: a node may link what nobody can fetch and still be read.
///
/// # Differences
/// Plain JSON has no links in Kubo either. Kubo refuses plain CBOR that has the tag of a link; here it is a leaf like any
/// other (test `nodes_have_the_same_cids_and_texts_in_both`).
///
/// # Errors
/// [`DecodeError::Malformed`] for bytes that are not of the block's codec.
pub fn links(block: &Block) -> Result<Vec<Cid>, DecodeError> {
    match block.cid().codec() {
        DAG_PB => dag_pb::links(block.data()),
        DAG_CBOR => dag_cbor::links(block.data()),
        DAG_JSON => dag_json::links(block.data()),
        _ => Ok(Vec::new()),
    }
}

/// Whether blocks of this codec can link others, as far as is known.
pub fn has_links(codec: u64) -> bool {
    matches!(codec, DAG_PB | DAG_CBOR | DAG_JSON)
}

/// Links of a block with their names, as [`links`]; the name is empty where the codec has none. Bytes of a name that are
/// not UTF-8 are replaced.
///
/// # Errors
/// As [`links`].
pub fn named_links(block: &Block) -> Result<Vec<(String, Cid)>, DecodeError> {
    if block.cid().codec() != DAG_PB {
        return Ok(links(block)?.into_iter().map(|cid| (String::new(), cid)).collect());
    }
    let node = dag_pb::PbNode::decode(block.data())?;
    Ok(node.links.iter().map(|link| (String::from_utf8_lossy(link.name()).into_owned(), link.cid)).collect())
}

/// The value that a block of `codec` holds. `raw` is bytes, `dag-pb` a map of `Data` and `Links`.
///
/// Bytes that have another meaning under another codec are not guessed: what a codec forbids is an error. CBOR must have
/// its numbers in their shortest form and may have its keys in any order; JSON may have space.
///
/// # Errors
/// [`DecodeError::Malformed`], and [`DecodeError::Codec`] for a codec that is none of raw, dag-pb, dag-cbor, dag-json,
/// cbor, json.
pub fn decode(codec: u64, bytes: &Bytes) -> Result<Value, DecodeError> {
    match codec {
        RAW => Ok(Value::Bytes(bytes.to_vec())),
        DAG_PB => dag_pb::PbNode::decode(bytes).map(|node| node.to_value()),
        DAG_CBOR => dag_cbor::value::decode(bytes, dag_cbor::value::DAG_CBOR),
        CBOR => dag_cbor::value::decode(bytes, dag_cbor::value::PLAIN),
        DAG_JSON => dag_json::value::decode(bytes, dag_json::value::DAG_JSON),
        JSON => dag_json::value::decode(bytes, dag_json::value::PLAIN),
        codec => Err(DecodeError::Codec { codec }),
    }
}

/// The bytes of a value under `codec`: the canonical ones where the codec has such, otherwise those that Kubo writes.
///
/// # Errors
/// [`EncodeError`] for a value that the codec cannot say, and for a codec that [`decode`] does not know.
pub fn encode(codec: u64, value: &Value) -> Result<Bytes, EncodeError> {
    match (codec, value) {
        (RAW, Value::Bytes(bytes)) => Ok(Bytes::copy_from_slice(bytes)),
        (RAW, value) => Err(EncodeError::Kind { format: "raw", kind: value.kind() }),
        (DAG_PB, value) => dag_pb::PbNode::from_value(value).map(|node| node.encode()),
        (DAG_CBOR, value) => dag_cbor::value::encode(value, dag_cbor::value::DAG_CBOR).map(Bytes::from),
        (CBOR, value) => dag_cbor::value::encode(value, dag_cbor::value::PLAIN).map(Bytes::from),
        (DAG_JSON, value) => dag_json::value::encode(value, dag_json::value::DAG_JSON).map(Bytes::from),
        (JSON, value) => dag_json::value::encode(value, dag_json::value::PLAIN).map(Bytes::from),
        (codec, _) => Err(EncodeError::Codec { codec }),
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::cid::{HashFunction, Version, parse};

    fn block(codec: u64, data: &[u8]) -> Block {
        Block::hash(Version::V1, codec, HashFunction::Sha2_256, Bytes::copy_from_slice(data)).unwrap()
    }

    #[test]
    fn codecs_without_links_have_none_whatever_their_bytes() {
        for codec in [crate::cid::RAW, crate::cid::CBOR, crate::cid::JSON, 0x78] {
            assert_eq!(links(&block(codec, b"\xff\xff")), Ok(Vec::new()));
        }
        assert!(links(&block(DAG_PB, b"\xff\xff")).is_err());
        assert!(links(&block(DAG_CBOR, b"\xff\xff")).is_err());
        assert!(links(&block(DAG_JSON, b"\xff\xff")).is_err());
    }

    #[test]
    fn links_come_in_their_order_with_repetitions() {
        let a = parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").unwrap();
        let b = parse("Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD").unwrap();
        let link = |cid| dag_pb::PbLink { cid, name: None, tsize: None };
        let node = dag_pb::PbNode { links: [b, a, b].map(link).to_vec(), data: None };
        assert_eq!(links(&block(DAG_PB, &node.encode())), Ok(vec![b, a, b]));
    }

    fn hex(text: &str) -> Bytes {
        multibase::Base::Base16Lower.decode(text).unwrap().into()
    }

    /// What bytes of one codec are in another.
    fn convert(from: u64, bytes: &[u8], to: u64) -> Bytes {
        encode(to, &decode(from, &Bytes::copy_from_slice(bytes)).unwrap()).unwrap()
    }

    #[test]
    fn values_survive_the_way_from_one_codec_to_the_other_and_back() {
        // Source: `ipfs dag put` and `ipfs block get` of Kubo 0.43.
        for (json, cbor) in [
            ("null", "f6"),
            ("true", "f5"),
            ("0", "00"),
            ("23", "17"),
            ("24", "1818"),
            ("65536", "1a00010000"),
            ("-1", "20"),
            ("-500", "3901f3"),
            ("0.1", "fb3fb999999999999a"),
            ("1e+21", "fb444b1ae4d6e2ef50"),
            ("1.5e+300", "fb7e41eb2d66005835"),
            ("1e-7", "fb3e7ad7f29abcaf48"),
            (r#""é<>&""#, "65c3a93c3e26"),
            (r#"{"/":{"bytes":"AQ"}}"#, "4101"),
            (r#"{"/":"bafkqaaa"}"#, "d82a450001550000"),
            (r#"[1,[],{}]"#, "830180a0"),
            (r#"{"aa":1,"b":2}"#, "a261620262616101"),
            (r#"{"/":1}"#, "a1612f01"),
            (r#"{"/":{"bytes":"AQ","x":1}}"#, "a1612fa2617801656279746573624151"),
        ] {
            let cbor = hex(cbor);
            assert_eq!(convert(DAG_JSON, json.as_bytes(), DAG_CBOR), cbor, "{json}");
            assert_eq!(convert(DAG_CBOR, &cbor, DAG_JSON), json.as_bytes(), "{json}");
        }
    }

    #[test]
    fn what_is_read_need_not_be_canonical_where_kubo_does_not_demand_it() {
        // Source: the same.
        let json = |text: &str| convert(DAG_JSON, text.as_bytes(), DAG_JSON);
        assert_eq!(json(r#" { "b" : 1 , "a" : 2 } "#), r#"{"a":2,"b":1}"#);
        assert_eq!(json(r#"{"/":{"bytes":"AQ=="}}"#), r#"{"/":{"bytes":"AQ"}}"#);
        assert_eq!(convert(DAG_CBOR, &hex("a26162016161f6"), DAG_JSON), r#"{"a":null,"b":1}"#);
        assert_eq!(json("1.0"), "1");
        assert_eq!(json("-0.0"), "-0");
        assert_eq!(
            json(r#""\"\\\/\b\f\n\r\t\u007f\u2028\ud83d\ude00""#),
            "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\t\u{7f}\\u2028😀\""
        );
    }

    #[test]
    fn plain_formats_keep_the_order_of_keys_and_plain_json_has_lines() {
        // Source: `ipfs dag put --store-codec` and `ipfs block get` of Kubo 0.43.
        let value = br#"{"b":[1,{"c":null},[],{}],"a":1.5,"g":1.0}"#;
        let lines = "{\n\t\"b\": [\n\t\t1,\n\t\t{\n\t\t\t\"c\": null\n\t\t},\n\t\t[],\n\t\t{}\n\t],\n\t\"a\": 1.5,\n\t\"g\": 1\n}\n";
        assert_eq!(convert(DAG_JSON, value, JSON), lines);
        assert_eq!(convert(DAG_JSON, b"[]", JSON), "[]\n");
        assert_eq!(convert(DAG_JSON, br#""x""#, JSON), r#""x""#);
        assert_eq!(convert(DAG_JSON, br#"{"f":1,"aa":2,"b":3}"#, CBOR), hex("a361660162616102616203"));
        let node = br#"{"Data":{"/":{"bytes":""}},"Links":[]}"#;
        let bytes = convert(DAG_JSON, node, DAG_PB);
        let Value::Map(entries) = decode(DAG_PB, &bytes).unwrap() else { panic!("a node is a map") };
        assert_eq!(entries[0].0, "Links");
    }

    #[test]
    fn what_a_codec_forbids_is_refused() {
        for (codec, bytes) in [
            // Numbers and lengths that are longer than they must be, floats of other widths or without a value,
            // undefined, other tags, keys twice or of another kind, text that is not UTF-8, more bytes, fewer bytes.
            (DAG_CBOR, "1801"),
            (DAG_CBOR, "5801"),
            (DAG_CBOR, "1a00000001"),
            (DAG_CBOR, "980101"),
            (DAG_CBOR, "d9002a450001550000"),
            (DAG_CBOR, "f93c00"),
            (DAG_CBOR, "fa3f800000"),
            (DAG_CBOR, "fb7ff8000000000000"),
            (DAG_CBOR, "fb7ff0000000000000"),
            (DAG_CBOR, "f7"),
            (DAG_CBOR, "c100"),
            (DAG_CBOR, "a26161016161f6"),
            (DAG_CBOR, "a10102"),
            (DAG_CBOR, "61ff"),
            (DAG_CBOR, "0000"),
            (DAG_CBOR, ""),
            (DAG_CBOR, "9fff"),
            (CBOR, "d82a450001550000"),
        ] {
            assert!(decode(codec, &hex(bytes)).is_err(), "{bytes}");
        }
        for text in [r#"{"a":1,"a":2}"#, r#"{"/":"x"}"#, r#"{"/":{"bytes":"!"}}"#, "[1,]", "1 2", "", "NaN"] {
            assert!(decode(DAG_JSON, &Bytes::copy_from_slice(text.as_bytes())).is_err(), "{text}");
        }
    }

    #[test]
    fn plain_formats_hold_no_links_and_plain_json_no_bytes() {
        let (link, bytes) = (hex("d82a450001550000"), hex("4101"));
        let link = decode(DAG_CBOR, &link).unwrap();
        let bytes = decode(DAG_CBOR, &bytes).unwrap();
        assert_eq!(encode(CBOR, &link), Err(EncodeError::Kind { format: "cbor", kind: "link" }));
        assert_eq!(encode(JSON, &link), Err(EncodeError::Kind { format: "json", kind: "link" }));
        assert_eq!(encode(JSON, &bytes), Err(EncodeError::Kind { format: "json", kind: "bytes" }));
        assert_eq!(encode(CBOR, &bytes), Ok(hex("4101")));
        // A slash is a key like any other there.
        assert_eq!(
            convert(JSON, br#"{"/":"bafkqaaa"}"#, DAG_CBOR),
            hex("a1612f6862 61666b71616161".replace(' ', "").as_str())
        );
    }

    #[test]
    fn a_node_of_dag_pb_is_data_and_links() {
        // Source: `ipfs dag put --store-codec dag-pb` of Kubo 0.43.
        let json =
            br#"{"Data":{"/":{"bytes":"AQ"}},"Links":[{"Hash":{"/":"bafkqaaa"},"Name":"x","Tsize":3}]}"#;
        let node = convert(DAG_JSON, json, DAG_PB);
        assert_eq!(node, hex("120b0a040155000012017818030a0101"));
        assert_eq!(convert(DAG_PB, &node, DAG_JSON), &json[..]);
        for refused in ["{}", "[]", r#"{"Links":[{}]}"#, r#"{"Links":[],"x":1}"#, r#"{"Data":1,"Links":[]}"#]
        {
            let value = decode(DAG_JSON, &Bytes::from_static(refused.as_bytes())).unwrap();
            assert!(matches!(encode(DAG_PB, &value), Err(EncodeError::Shape { .. })), "{refused}");
        }
    }

    #[test]
    fn nesting_is_held_to_its_bound_both_ways() {
        use crate::limits::MAX_CBOR_DEPTH;
        let nested = |depth| Bytes::from([vec![0x81; depth], vec![0xf6]].concat());
        let deepest = decode(DAG_CBOR, &nested(MAX_CBOR_DEPTH)).unwrap();
        assert_eq!(encode(DAG_CBOR, &deepest), Ok(nested(MAX_CBOR_DEPTH)));
        assert!(decode(DAG_CBOR, &nested(MAX_CBOR_DEPTH + 1)).is_err());
        assert_eq!(encode(DAG_CBOR, &Value::List(vec![deepest])), Err(EncodeError::TooDeep));
    }
}
