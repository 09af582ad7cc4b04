//! Structured data as IPLD has it, whatever codec it stands in.
//!
//! Source: <https://ipld.io/docs/data-model/>.

use super::path::parse_index;
use crate::cid::Cid;

/// One value and all inside it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number, from -2^64 to 2^64 - 1.
    Integer(i128),
    /// A number that is finite.
    Float(f64),
    /// Text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    List(Vec<Value>),
    /// Values by their keys, each of which stands once, in the order in which they were read or made.
    Map(Vec<(String, Value)>),
    /// A link to another block.
    Link(Cid),
}

impl Value {
    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The value that a path leads to: through maps by key, through lists by index. A link is not followed.
    pub fn at<S: AsRef<str>>(&self, path: &[S]) -> Option<&Value> {
        path.iter().try_fold(self, |value, segment| match value {
            Self::List(items) => items.get(parse_index::<usize>(segment.as_ref())?),
            value => value.get(segment.as_ref()),
        })
    }

    /// What kind of value it is, in IPLD's word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Integer(_) => "integer",
            Self::Float(_) => "float",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Link(_) => "link",
        }
    }
}
