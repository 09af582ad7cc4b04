//! A queued pin as it lies on disk: the key is its path, the value is JSON, which may get more fields.

use cairn_proto::path::ContentPath;
use serde::{Deserialize, Serialize};

use crate::pins::PinKind;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    is_recursive: bool,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) failure_count: u32,
    #[serde(default)]
    pub(super) last_error: Option<String>,
    /// It cannot succeed.
    #[serde(default)]
    pub(super) is_final: bool,
}

impl Row {
    pub(super) fn new(kind: PinKind, name: Option<String>) -> Self {
        let is_recursive = kind == PinKind::Recursive;
        Self { is_recursive, name, failure_count: 0, last_error: None, is_final: false }
    }

    pub(super) fn kind(&self) -> PinKind {
        if self.is_recursive { PinKind::Recursive } else { PinKind::Direct }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a row has a JSON form")
    }

    /// The path and the row, if both can be read.
    pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<(ContentPath, Self)> {
        let path = ContentPath::parse(std::str::from_utf8(key).ok()?).ok()?;
        Some((path, serde_json::from_slice(value).ok()?))
    }
}
