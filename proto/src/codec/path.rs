//! Paths inside blocks of structured data: which link a path comes to, without building the value.
//!
//! Maps are followed by key and lists by index; a link is where the path leaves the block.
//!
//! Source: <https://specs.ipfs.tech/http-gateways/path-gateway/>, and <https://ipld.io/docs/data-model/pathing/>.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::DecodeError;
use super::dag_cbor::{BYTES, LINK_TAG, LIST, MAP, Reader, Reason, TAG, TEXT};
use super::dag_json;
use crate::cid::{self, Cid};

/// Where a path comes to in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// To a link, after so many segments.
    Link { cid: Cid, used_count: usize },
    /// To its end, at a value that is no link.
    Inside,
    /// To a map or list that has nothing under this segment.
    Missing { index: usize },
    /// To a value that has nothing inside it, before this segment.
    Scalar { index: usize },
}

/// Follows `segments` in a DAG-CBOR block.
///
/// # Errors
/// [`DecodeError::Malformed`] for bytes on the way that are not DAG-CBOR.
pub(crate) fn find_in_cbor(bytes: &[u8], segments: &[String]) -> Result<Found, DecodeError> {
    find(bytes, segments).map_err(|reason| DecodeError::Malformed { format: "dag-cbor", reason })
}

fn find(bytes: &[u8], segments: &[String]) -> Result<Found, Reason> {
    let mut reader = Reader::new(bytes);
    for (index, segment) in segments.iter().enumerate() {
        let (major, value) = reader.head()?;
        let is_there = match major {
            TAG if value == LINK_TAG => {
                return Ok(Found::Link { cid: reader.link()?, used_count: index });
            }
            MAP => seek_key(&mut reader, value, segment)?,
            LIST => seek_index(&mut reader, value, segment)?,
            _ => return Ok(Found::Scalar { index }),
        };
        if !is_there {
            return Ok(Found::Missing { index });
        }
    }
    match reader.head()? {
        (TAG, LINK_TAG) => Ok(Found::Link { cid: reader.link()?, used_count: segments.len() }),
        _ => Ok(Found::Inside),
    }
}

/// Goes to the value of a key in a map of `count` entries.
fn seek_key(reader: &mut Reader<'_>, count: u64, wanted: &str) -> Result<bool, Reason> {
    for _ in 0..count {
        let (TEXT, len) = reader.head()? else { return Err("map key is not a string") };
        if reader.take(len)? == wanted.as_bytes() {
            return Ok(true);
        }
        skip(reader)?;
    }
    Ok(false)
}

/// Goes to an item in a list of `count` items.
fn seek_index(reader: &mut Reader<'_>, count: u64, wanted: &str) -> Result<bool, Reason> {
    let Some(wanted) = parse_index::<u64>(wanted).filter(|&wanted| wanted < count) else { return Ok(false) };
    for _ in 0..wanted {
        skip(reader)?;
    }
    Ok(true)
}

/// An index in decimal, in its shortest form.
pub(super) fn parse_index<N: std::str::FromStr>(text: &str) -> Option<N> {
    let is_shortest = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| is_shortest)
}

/// Goes past one item and all inside it. Every step takes a byte or more, whatever the lengths declare.
fn skip(reader: &mut Reader<'_>) -> Result<(), Reason> {
    let mut left_count = 1_u64;
    while left_count > 0 {
        left_count -= 1;
        let (major, value) = reader.head()?;
        let inside_count = match major {
            BYTES | TEXT => reader.take(value).map(|_| 0)?,
            LIST => value,
            MAP => value.checked_mul(2).ok_or("truncated")?,
            TAG => 1,
            _ => 0,
        };
        left_count = left_count.checked_add(inside_count).ok_or("truncated")?;
    }
    Ok(())
}

/// Follows `segments` in a DAG-JSON block.
///
/// # Errors
/// [`DecodeError::Malformed`] for bytes that are not DAG-JSON.
pub(crate) fn find_in_json(bytes: &[u8], segments: &[String]) -> Result<Found, DecodeError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let found = Follow { segments, index: 0 }.deserialize(&mut json);
    found.and_then(|found| json.end().map(|()| found)).map_err(|error| dag_json::malformed(&error))
}

/// A value of DAG-JSON, and the segments that lead on from it.
struct Follow<'a> {
    segments: &'a [String],
    index: usize,
}

impl Follow<'_> {
    fn next(&self) -> Self {
        Self { segments: self.segments, index: self.index + 1 }
    }

    fn scalar<E>(self) -> Result<Found, E> {
        let index = self.index;
        Ok(if index == self.segments.len() { Found::Inside } else { Found::Scalar { index } })
    }

    /// What a map or list is that has nothing under the next segment.
    fn missing(&self) -> Found {
        let index = self.index;
        if index == self.segments.len() { Found::Inside } else { Found::Missing { index } }
    }
}

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Follow<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let (mut found, mut target) = (None, None);
        let mut key_count = 0_u32;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            key_count += 1;
            if key == "/" {
                target = map.next_value_seed(dag_json::Value { cids: &mut Vec::new(), is_target: true })?;
            } else if self.segments.get(self.index).is_some_and(|segment| *segment == key) {
                found = Some(map.next_value_seed(self.next())?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if let (Some(target), 1) = (target, key_count) {
            let cid = cid::decode_text(&target).map_err(A::Error::custom)?;
            return Ok(Found::Link { cid, used_count: self.index });
        }
        Ok(found.unwrap_or_else(|| self.missing()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        let wanted = self.segments.get(self.index).and_then(|segment| parse_index::<u64>(segment));
        let mut found = None;
        for at in 0.. {
            if Some(at) == wanted {
                found = list.next_element_seed(self.next())?;
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found.unwrap_or_else(|| self.missing()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        self.scalar()
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        self.scalar()
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        self.scalar()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        self.scalar()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        self.scalar()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        self.scalar()
    }
}

#[cfg(test)]
mod tests {
    use ipld_core::ipld;
    use proptest::prelude::*;
    use serde_ipld_dagcbor::to_vec;

    use super::*;
    use crate::cid::parse;

    const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    /// What a path comes to in a value that is written in both codecs.
    fn found(path: &str) -> Found {
        let link = ipld_core::cid::Cid::try_from(CID).unwrap();
        let value = ipld!({
            "a": { "b": [1, "two", { "c": link }], "": 0 },
            "far": link,
            "text": "x",
            "list": [null, true, 1.5, -7],
        });
        let json = format!(
            r#"{{"a":{{"b":[1,"two",{{"c":{{"/":"{CID}"}}}}],"":0}},"far":{{"/":"{CID}"}},"text":"x","list":[null,true,1.5,-7]}}"#
        );
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        let found = find_in_cbor(&to_vec(&value).unwrap(), &segments).unwrap();
        assert_eq!(find_in_json(json.as_bytes(), &segments), Ok(found.clone()));
        found
    }

    #[test]
    fn keys_and_indexes_lead_to_links_and_values() {
        let link = |used_count| Found::Link { cid: parse(CID).unwrap(), used_count };
        assert_eq!(found("far"), link(1));
        assert_eq!(found("far/on/and/on"), link(1));
        assert_eq!(found("a/b/2/c"), link(4));
        assert_eq!(found("a/b/2/c/0"), link(4));
        assert_eq!(found("a/b"), Found::Inside);
        assert_eq!(found("a/b/1"), Found::Inside);
        assert_eq!(found("list/3"), Found::Inside);
        assert_eq!(found("b"), Found::Missing { index: 0 });
        assert_eq!(found("a/b/3"), Found::Missing { index: 2 });
        assert_eq!(found("text/x"), Found::Scalar { index: 1 });
        assert_eq!(found("a/b/0/x"), Found::Scalar { index: 3 });
    }

    #[test]
    fn an_index_has_one_form() {
        for index in ["02", "+2", "-1", " 2", "2.0", "c", "", "99999999999999999999"] {
            assert_eq!(found(&format!("a/b/{index}")), Found::Missing { index: 2 }, "{index}");
        }
    }

    #[test]
    fn a_block_that_is_a_link_leads_on_before_any_segment() {
        let link = ipld_core::cid::Cid::try_from(CID).unwrap();
        let bytes = to_vec(&ipld!(link)).unwrap();
        let on = Found::Link { cid: parse(CID).unwrap(), used_count: 0 };
        assert_eq!(find_in_cbor(&bytes, &["x".to_owned()]).as_ref(), Ok(&on));
        let json = format!(r#"{{"/":"{CID}"}}"#);
        assert_eq!(find_in_json(json.as_bytes(), &["x".to_owned()]), Ok(on));
    }

    #[test]
    fn a_slash_is_a_link_only_alone_and_with_text() {
        let a = ["a".to_owned()];
        for (json, found) in [
            (r#"{"/":{"bytes":"AA"}}"#, Found::Missing { index: 0 }),
            (r#"{"/":"x","b":1}"#, Found::Missing { index: 0 }),
            (r#"{"/":"x","a":1}"#, Found::Inside),
        ] {
            assert_eq!(find_in_json(json.as_bytes(), &a), Ok(found), "{json}");
        }
        for json in [r#"{"/":"x"}"#, r#"{"a":1}x"#, r#"{"a":"#, r#"{"a":[1,}"#] {
            assert!(find_in_json(json.as_bytes(), &a).is_err(), "{json}");
        }
    }

    #[test]
    fn lengths_that_are_only_declared_cost_nothing() {
        let huge = [0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let list = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(find_in_cbor(&huge, &["x".to_owned()]).is_err());
        assert!(find_in_cbor(&list, &["7".to_owned()]).is_err());
        let nested = [&[0xa1, 0x61, b'a'], &list.repeat(1000)[..]].concat();
        assert!(find_in_cbor(&nested, &["b".to_owned()]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = find_in_cbor(&bytes, &["a".to_owned(), "0".to_owned()]);
            let _ = find_in_json(&bytes, &["a".to_owned(), "0".to_owned()]);
        }
    }
}
