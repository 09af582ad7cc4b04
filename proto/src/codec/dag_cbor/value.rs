//! DAG-CBOR and plain CBOR as values.

use std::collections::HashSet;

use super::{BYTES, LINK_TAG, LIST, MAP, Reader, Reason, SIMPLE, TAG, TEXT};
use crate::codec::{DecodeError, EncodeError, Value};
use crate::limits::MAX_CBOR_DEPTH;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// Name of the format.
    pub(crate) name: &'static str,
    /// Tag 42 is a link; without links no tag is known.
    pub(crate) has_links: bool,
}

/// CBOR with links.
pub(crate) const DAG_CBOR: Dialect = Dialect { name: "dag-cbor", has_links: true };
/// CBOR without.
pub(crate) const PLAIN: Dialect = Dialect { name: "cbor", has_links: false };

/// The value that `bytes` hold, all of them.
///
/// Numbers and lengths must have their shortest form and keys must be different. The order of keys is kept and not held
/// against the canonical one.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub(crate) fn decode(bytes: &[u8], dialect: Dialect) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = read(&mut reader, dialect, 0);
    let value =
        value.and_then(|value| if reader.is_empty() { Ok(value) } else { Err("bytes behind the value") });
    value.map_err(|reason| DecodeError::Malformed { format: dialect.name, reason })
}

/// Reads one value. Recursion is bounded by [`MAX_CBOR_DEPTH`], memory by the bytes that are there.
fn read(reader: &mut Reader<'_>, dialect: Dialect, depth: usize) -> Result<Value, Reason> {
    let before = reader.remaining();
    let (major, argument) = reader.head()?;
    let head_len = before - reader.remaining();
    if major != SIMPLE && head_len != head(argument).len() {
        return Err("number is not in its shortest form");
    }
    if matches!(major, LIST | MAP) && depth == MAX_CBOR_DEPTH {
        return Err("nested too deep");
    }
    Ok(match major {
        UNSIGNED => Value::Integer(argument.into()),
        NEGATIVE => Value::Integer(-1 - i128::from(argument)),
        BYTES => Value::Bytes(reader.take(argument)?.to_vec()),
        TEXT => Value::String(text(reader, argument)?),
        LIST => {
            let mut items = Vec::new();
            for _ in 0..argument {
                items.push(read(reader, dialect, depth + 1)?);
            }
            Value::List(items)
        }
        MAP => read_map(reader, argument, dialect, depth)?,
        TAG if dialect.has_links && argument == LINK_TAG => Value::Link(reader.link()?),
        TAG => return Err("unknown tag"),
        _ => simple(argument, head_len)?,
    })
}

fn read_map(reader: &mut Reader<'_>, count: u64, dialect: Dialect, depth: usize) -> Result<Value, Reason> {
    let mut entries = Vec::new();
    let mut keys = HashSet::new();
    for _ in 0..count {
        let Value::String(key) = read(reader, dialect, depth + 1)? else {
            return Err("map key is not a string");
        };
        if !keys.insert(key.clone()) {
            return Err("map key stands twice");
        }
        entries.push((key, read(reader, dialect, depth + 1)?));
    }
    Ok(Value::Map(entries))
}

fn text(reader: &mut Reader<'_>, len: u64) -> Result<String, Reason> {
    let bytes = reader.take(len)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "text is not UTF-8")
}

/// False, true, null and floats; `head_len` tells the width of a float.
fn simple(argument: u64, head_len: usize) -> Result<Value, Reason> {
    match (head_len, argument) {
        (1, 20) => Ok(Value::Bool(false)),
        (1, 21) => Ok(Value::Bool(true)),
        (1, 22) => Ok(Value::Null),
        (9, bits) => match f64::from_bits(bits) {
            float if float.is_finite() => Ok(Value::Float(float)),
            _ => Err("float is not finite"),
        },
        (1, _) => Err("undefined is no value"),
        _ => Err("float is not 64 bits wide"),
    }
}

/// The bytes of a value: shortest numbers, and for DAG-CBOR keys by length, then by bytes.
///
/// # Errors
/// [`EncodeError`] for what the format cannot say.
pub(crate) fn encode(value: &Value, dialect: Dialect) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    write(value, dialect, &mut out, 0)?;
    Ok(out)
}

fn write(value: &Value, dialect: Dialect, out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
    if depth > MAX_CBOR_DEPTH {
        return Err(EncodeError::TooDeep);
    }
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(value) => out.push(0xf4 | u8::from(*value)),
        Value::Integer(value) => put_integer(out, *value)?,
        Value::Float(value) if value.is_finite() => {
            out.push(0xfb);
            out.extend_from_slice(&value.to_bits().to_be_bytes());
        }
        Value::Float(_) => return Err(EncodeError::NotFinite),
        Value::String(text) => put_string(out, TEXT, text.as_bytes()),
        Value::Bytes(bytes) => put_string(out, BYTES, bytes),
        Value::List(items) => {
            put_head(out, LIST, items.len() as u64);
            items.iter().try_for_each(|item| write(item, dialect, out, depth + 1))?;
        }
        Value::Map(entries) => {
            put_head(out, MAP, entries.len() as u64);
            let mut entries: Vec<_> = entries.iter().collect();
            // Kubo leaves the keys of plain CBOR as they come.
            if dialect.has_links {
                entries.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            }
            for (key, value) in entries {
                put_string(out, TEXT, key.as_bytes());
                write(value, dialect, out, depth + 1)?;
            }
        }
        Value::Link(cid) if dialect.has_links => {
            put_head(out, TAG, LINK_TAG);
            put_head(out, BYTES, cid.encoded_len() as u64 + 1);
            out.push(0);
            out.extend_from_slice(&cid.to_bytes());
        }
        Value::Link(_) => return Err(EncodeError::Kind { format: dialect.name, kind: "link" }),
    }
    Ok(())
}

fn put_integer(out: &mut Vec<u8>, value: i128) -> Result<(), EncodeError> {
    let (major, argument) = if value < 0 { (NEGATIVE, -1 - value) } else { (UNSIGNED, value) };
    let argument = u64::try_from(argument).map_err(|_| EncodeError::IntegerRange { value })?;
    put_head(out, major, argument);
    Ok(())
}

fn put_string(out: &mut Vec<u8>, major: u8, bytes: &[u8]) {
    put_head(out, major, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let at = out.len();
    out.extend_from_slice(head(argument).as_slice());
    out[at] |= major << 5;
}

/// The shortest head with that argument, of major type 0.
fn head(argument: u64) -> Head {
    let bytes = argument.to_be_bytes();
    let (info, width) = match argument {
        0..24 => (bytes[7], 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    let mut head = [0; 9];
    head[0] = info;
    head[1..=width].copy_from_slice(&bytes[8 - width..]);
    Head { bytes: head, len: 1 + width }
}

struct Head {
    bytes: [u8; 9],
    len: usize,
}

impl Head {
    fn len(&self) -> usize {
        self.len
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
