//! DAG-JSON: the links in a block, without building its value.
//!
//! A link is `{"/": "<CID>"}`. Nesting is bounded by the JSON library, at 128.
//!
//! Source: <https://ipld.io/specs/codecs/dag-json/spec/>.

pub(super) mod value;

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::DecodeError;
use crate::cid::{self, Cid};

/// The CIDs that the value in `bytes` links to, in their order.
///
/// # Errors
/// [`DecodeError::Malformed`].
///
/// # Differences
/// Kubo reads values that are nested 1,024 deep. (`depth_is_held_to_its_bound`)
pub fn links(bytes: &[u8]) -> Result<Vec<Cid>, DecodeError> {
    let mut cids = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    Value { cids: &mut cids, is_target: false }
        .deserialize(&mut json)
        .and_then(|_| json.end())
        .map_err(|error| malformed(&error))?;
    Ok(cids)
}

pub(super) fn malformed(error: &serde_json::Error) -> DecodeError {
    let reason = match error.classify() {
        Category::Eof => "truncated",
        // The only such error is that of a link below.
        Category::Data => "link is not a CID",
        Category::Syntax | Category::Io => "not JSON, or nested too deep",
    };
    DecodeError::Malformed { format: "dag-json", reason }
}

/// Walks one value and adds the links in it.
pub(super) struct Value<'a> {
    pub(super) cids: &'a mut Vec<Cid>,
    /// Whether the value stands behind a slash: then it gives its text, if it has one.
    pub(super) is_target: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        let mut target = None;
        let mut key_count = 0_u32;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            target = map.next_value_seed(Value { cids: self.cids, is_target: key == "/" })?;
            key_count += 1;
        }
        if let (Some(target), 1) = (target, key_count) {
            self.cids.push(cid::decode_text(&target).map_err(A::Error::custom)?);
        }
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<String>, A::Error> {
        while list.next_element_seed(Value { cids: self.cids, is_target: false })?.is_some() {}
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok(self.is_target.then(|| text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<String>, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CID: &str = "bafyreibjo4xmgaevkgud7mbifn3dzp4v4lyaui4yvqp3f2bqwtxcjrdqg4";
    const OLD: &str = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD";

    fn texts(json: &str) -> Result<Vec<String>, &'static str> {
        match links(json.as_bytes()) {
            Ok(cids) => Ok(cids.iter().map(Cid::to_string).collect()),
            Err(DecodeError::Malformed { reason, .. }) => Err(reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn links_are_found_at_every_depth_in_order() {
        let json = format!(
            r#"{{"a":[{{"/":"{CID}"}},{{"b":{{"/":"{OLD}"}}}},1.5,-1,null,true,"/"],"c":{{"\u002f":"{CID}"}}}}"#
        );
        assert_eq!(texts(&json).unwrap(), [CID, OLD, CID]);
        assert_eq!(texts(&format!(r#"{{"/":"{CID}"}}"#)).unwrap(), [CID]);
    }

    #[test]
    fn a_slash_is_a_link_only_when_alone_and_with_a_text() {
        for json in [
            format!(r#"{{"/":"{CID}","a":1}}"#),
            format!(r#"{{"a":1,"/":"{CID}"}}"#),
            r#"{"/":{"bytes":"AQID"}}"#.to_owned(),
            format!(r#"{{"a":"{CID}"}}"#),
            format!("\"{CID}\""),
            "{}".to_owned(),
            r#"{"/":1}"#.to_owned(),
        ] {
            assert_eq!(texts(&json), Ok(vec![]), "{json}");
        }
        assert_eq!(texts(&format!(r#"{{"/":[{{"/":"{CID}"}}]}}"#)).unwrap(), [CID]);
    }

    #[test]
    fn what_dag_json_forbids_is_refused() {
        for (json, why) in [
            ("", "truncated"),
            (r#"{"a":"#, "truncated"),
            ("[1,]", "not JSON, or nested too deep"),
            ("1 2", "not JSON, or nested too deep"),
            (r#"{"/":"Qm"}"#, "link is not a CID"),
            (r#"{"/":""}"#, "link is not a CID"),
        ] {
            assert_eq!(texts(json), Err(why), "{json}");
        }
    }

    // CVE-2026-42328: nesting that recurses until the stack ends.
    #[test]
    fn depth_is_held_to_its_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(texts(&nested(127)), Ok(vec![]));
        assert_eq!(texts(&nested(128)), Err("not JSON, or nested too deep"));
        assert!(texts(&"[".repeat(2 * 1024 * 1024)).is_err());
    }

    proptest! {
        #[test]
        fn random_text_never_panics(json in r#"([\[\]{}:,"/0-9a-z]|"/"|\{"/":")*"#) {
            let _ = links(json.as_bytes());
        }
    }
}
