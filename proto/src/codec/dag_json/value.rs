//! DAG-JSON and plain JSON as values.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Write as _};

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

/// The bytes of a value, as Kubo writes them. DAG-JSON has no space, and keys in the order of their bytes; plain JSON has a
/// line for each value, a tab for each level, and keys as they come.
///
/// # Errors
/// [`EncodeError`] for what the format cannot say.
pub(crate) fn encode(value: &Value, dialect: Dialect) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer { dialect, out: String::new(), depth: 0 };
    writer.value(value)?;
    if !dialect.is_dag && matches!(value, Value::List(_) | Value::Map(_)) {
        writer.out.push('\n');
    }
    Ok(writer.out.into_bytes())
}

struct Writer {
    dialect: Dialect,
    out: String,
    /// Lists and maps that are open.
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<(), EncodeError> {
        if self.depth > MAX_CBOR_DEPTH {
            return Err(EncodeError::TooDeep);
        }
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Value::Integer(value) => self.out.push_str(&value.to_string()),
            Value::Float(value) if value.is_finite() => self.out.push_str(&float(*value)),
            Value::Float(_) => return Err(EncodeError::NotFinite),
            Value::String(text) => self.text(text),
            Value::Bytes(bytes) if self.dialect.is_dag => {
                self.out.push_str(r#"{"/":{"bytes":""#);
                self.out.push_str(&Base::Base64.encode(bytes));
                self.out.push_str("\"}}");
            }
            Value::Link(cid) if self.dialect.is_dag => {
                self.out.push_str(r#"{"/":""#);
                self.out.push_str(&cid.to_string());
                self.out.push_str("\"}");
            }
            Value::Bytes(_) | Value::Link(_) => {
                return Err(EncodeError::Kind { format: self.dialect.name, kind: value.kind() });
            }
            Value::List(items) => self.enclosed(['[', ']'], items, Self::value)?,
            Value::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                if self.dialect.is_dag {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.enclosed(['{', '}'], &entries, |writer, (key, value)| {
                    writer.text(key);
                    writer.out.push_str(if writer.dialect.is_dag { ":" } else { ": " });
                    writer.value(value)
                })?;
            }
        }
        Ok(())
    }

    /// Items between two brackets.
    fn enclosed<T>(
        &mut self,
        [open, close]: [char; 2],
        items: &[T],
        write: impl Fn(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.out.push(open);
        self.depth += 1;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.new_line();
            write(self, item)?;
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.new_line();
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self) {
        if !self.dialect.is_dag {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n('\t', self.depth));
        }
    }

    /// A text in quotes. Go escapes two line ends of Unicode that JSON allows, and has no short forms of `\b` and `\f`.
    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\0'..' ' | '\u{2028}' | '\u{2029}' => {
                    // A `String` takes every write.
                    let _ = write!(self.out, "\\u{:04x}", u32::from(c));
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// A float, as JavaScript and Go write it. One without a fraction looks like an integer, and is read again as one.
///
/// # Differences
/// Not from Kubo, but from <https://ipld.io/specs/codecs/dag-json/spec/>, by which `1.0` should show that it is a float.
/// Neither Kubo nor `@ipld/dag-json` does so, and the CIDs that people have are theirs.
/// (`what_is_read_need_not_be_canonical_where_kubo_does_not_demand_it`)
fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return if text.contains("e-") { text } else { text.replace('e', "e+") };
    }
    value.to_string()
}
