//! dag-pb nodes as values: a map of `Data` and `Links`.
//!
//! Source: <https://ipld.io/specs/codecs/dag-pb/spec/#logical-format>.

use bytes::Bytes;

use super::{PbLink, PbNode};
use crate::codec::{EncodeError, Value};

impl PbNode {
    /// The node as IPLD data, links before data as in the block. A name that is not UTF-8 is replaced where it is not.
    pub(crate) fn to_value(&self) -> Value {
        let key = |name: &str, value| (name.to_owned(), value);
        let links = self.links.iter().map(|link| {
            let mut entries = vec![key("Hash", Value::Link(link.cid))];
            if let Some(name) = &link.name {
                entries.push(key("Name", Value::String(String::from_utf8_lossy(name).into_owned())));
            }
            entries.extend(link.tsize.map(|tsize| key("Tsize", Value::Integer(tsize.into()))));
            Value::Map(entries)
        });
        let links = key("Links", Value::List(links.collect()));
        let data = self.data.as_ref().map(|data| key("Data", Value::Bytes(data.to_vec())));
        Value::Map(std::iter::once(links).chain(data).collect())
    }

    /// The node that a value stands for.
    ///
    /// # Errors
    /// [`EncodeError::Shape`] for a key that a node does not have, one that is missing, or a value of the wrong kind.
    pub(crate) fn from_value(value: &Value) -> Result<Self, EncodeError> {
        let mut node = Self::default();
        let Value::Map(entries) = value else { return Err(shape("a node is a map")) };
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("Data", Value::Bytes(data)) => node.data = Some(Bytes::copy_from_slice(data)),
                ("Links", Value::List(links)) => {
                    node.links = links.iter().map(PbLink::from_value).collect::<Result<_, _>>()?;
                }
                _ => return Err(shape("a node has Data, which is bytes, and Links, which is a list")),
            }
        }
        if value.get("Links").is_none() {
            return Err(shape("a node has Links, if only an empty list"));
        }
        Ok(node)
    }
}

impl PbLink {
    fn from_value(value: &Value) -> Result<Self, EncodeError> {
        let (mut cid, mut name, mut tsize) = (None, None, None);
        let Value::Map(entries) = value else { return Err(shape("a link is a map")) };
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("Hash", Value::Link(link)) => cid = Some(*link),
                ("Name", Value::String(text)) => name = Some(Bytes::copy_from_slice(text.as_bytes())),
                ("Tsize", Value::Integer(size)) => {
                    let size =
                        u64::try_from(*size).map_err(|_| EncodeError::IntegerRange { value: *size })?;
                    tsize = Some(size);
                }
                _ => return Err(shape("a link has Hash, a link, Name, a string, and Tsize, an integer")),
            }
        }
        let cid = cid.ok_or_else(|| shape("a link has a Hash"))?;
        Ok(Self { cid, name, tsize })
    }
}

fn shape(reason: &'static str) -> EncodeError {
    EncodeError::Shape { format: "dag-pb", reason }
}
