//! DAG-JSON and plain JSON as values.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use multibase::Base;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::cid;
use crate::codec::{DecodeError, EncodeError, Value};
use crate::limits::MAX_CBOR_DEPTH;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// Name of the format.
    pub(crate) name: &'static str,
    /// A map of the one key `/` is a link or bytes.
    pub(crate) is_dag: bool,
}

/// JSON with links and bytes.
pub(crate) const DAG_JSON: Dialect = Dialect { name: "dag-json", is_dag: true };
/// JSON without.
pub(crate) const PLAIN: Dialect = Dialect { name: "json", is_dag: false };

/// The value that `text` holds, all of it. Space between tokens and any order of keys are accepted.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub(crate) fn decode(text: &[u8], dialect: Dialect) -> Result<Value, DecodeError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Seed(dialect).deserialize(&mut json);
    value.and_then(|value| json.end().map(|()| value)).map_err(|error| {
        let reason = match error.classify() {
            serde_json::error::Category::Eof => "truncated",
            serde_json::error::Category::Data => "a link, bytes, key or number is not as it must be",
            _ => "not JSON, or nested too deep",
        };
        DecodeError::Malformed { format: dialect.name, reason }
    })
}

#[derive(Clone, Copy)]
struct Seed(Dialect);

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom("map key stands twice"));
            }
            entries.push((key.into_owned(), map.next_value_seed(self)?));
        }
        if self.0.is_dag { special(entries).map_err(A::Error::custom) } else { Ok(Value::Map(entries)) }
    }
}

/// A map, or the link or bytes that it stands for.
fn special(entries: Vec<(String, Value)>) -> Result<Value, String> {
    let [(slash, inside)] = entries.as_slice() else { return Ok(Value::Map(entries)) };
    if slash != "/" {
        return Ok(Value::Map(entries));
    }
    match inside {
        Value::String(text) => cid::decode_text(text).map(Value::Link).map_err(|error| error.to_string()),
        Value::Map(inside) => match inside.as_slice() {
            [(key, Value::String(text))] if key == "bytes" => bytes(text).map(Value::Bytes),
            _ => Ok(Value::Map(entries)),
        },
        _ => Ok(Value::Map(entries)),
    }
}

/// Base64 without padding; padding is accepted, as Kubo does.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    Base::Base64.decode(text.trim_end_matches('=')).map_err(|error| error.to_string())
}

/// The bytes of a value: no space, and keys in the order of their bytes.
///
/// # Errors
/// [`EncodeError`] for what the format cannot say.
pub(crate) fn encode(value: &Value, dialect: Dialect) -> Result<Vec<u8>, EncodeError> {
    let mut out = String::new();
    write(value, dialect, &mut out, 0)?;
    Ok(out.into_bytes())
}

fn write(value: &Value, dialect: Dialect, out: &mut String, depth: usize) -> Result<(), EncodeError> {
    if depth > MAX_CBOR_DEPTH {
        return Err(EncodeError::TooDeep);
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Integer(value) => out.push_str(&value.to_string()),
        Value::Float(value) if value.is_finite() => out.push_str(&float(*value)),
        Value::Float(_) => return Err(EncodeError::NotFinite),
        Value::String(text) => write_text(text, out),
        Value::Bytes(bytes) if dialect.is_dag => {
            out.push_str(r#"{"/":{"bytes":""#);
            out.push_str(&Base::Base64.encode(bytes));
            out.push_str("\"}}");
        }
        Value::Link(cid) if dialect.is_dag => {
            out.push_str(r#"{"/":""#);
            out.push_str(&cid.to_string());
            out.push_str("\"}");
        }
        Value::Bytes(_) | Value::Link(_) => {
            return Err(EncodeError::Kind { format: dialect.name, kind: value.kind() });
        }
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, dialect, out, depth + 1)?;
            }
            out.push(']');
        }
        Value::Map(entries) => write_map(entries, dialect, out, depth)?,
    }
    Ok(())
}

fn write_map(
    entries: &[(String, Value)],
    dialect: Dialect,
    out: &mut String,
    depth: usize,
) -> Result<(), EncodeError> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    out.push('{');
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(key, out);
        out.push(':');
        write(value, dialect, out, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).expect("a text has a JSON form"));
}

/// A float, as JavaScript and Go write it but for one thing: it always shows that it is one, `1.0` and not `1`.
///
/// Source: <https://ipld.io/specs/codecs/dag-json/spec/#float>.
fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return if text.contains("e-") { text } else { text.replace('e', "e+") };
    }
    let text = value.to_string();
    if text.contains('.') { text } else { text + ".0" }
}
