//! What a command says when it fails, in Kubo's form.

use serde::{Deserialize, Serialize};

/// Result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to act. Source of the numbers: go-ipfs-cmds `error.go`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", from = "u8")]
pub enum Code {
    /// The node could not do it.
    Normal,
    /// The call is wrong.
    Client,
}

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        match code {
            Code::Normal => 0,
            Code::Client => 1,
        }
    }
}

impl From<u8> for Code {
    fn from(number: u8) -> Self {
        if number == 1 { Self::Client } else { Self::Normal }
    }
}

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "PascalCase")]
#[error("{message}")]
pub struct Error {
    /// For a person.
    pub message: String,
    /// Who has to act.
    pub code: Code,
    #[serde(rename = "Type", default)]
    kind: ErrorType,
}

/// The word that stands in every error of the RPC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum ErrorType {
    #[default]
    #[serde(rename = "error")]
    Error,
}

impl Error {
    /// An error with a code.
    pub fn with_code(code: Code, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, kind: ErrorType::Error }
    }

    /// The node could not do it.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code(Code::Normal, message)
    }

    /// The call is wrong.
    pub fn client(message: impl Into<String>) -> Self {
        Self::with_code(Code::Client, message)
    }

    /// The command needs the network and has none.
    pub fn offline() -> Self {
        // Kubo's words begin the same; programs look for them.
        Self::new("this action must be run in online mode, try running 'cairn daemon' first")
    }
}

impl Error {
    /// Whether the content may exist, but not in the store, and nobody may be asked for it.
    pub fn is_not_local(&self) -> bool {
        self.message.contains(NOT_LOCAL)
    }
}

/// What the node says of a block that it lacks and may not fetch. The kind of an error does not travel, its words do.
const NOT_LOCAL: &str = "not in the local store";

impl From<cairn_node::Error> for Error {
    fn from(error: cairn_node::Error) -> Self {
        match error.kind() {
            cairn_node::Kind::Invalid => Self::client(error.to_string()),
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<cairn_proto::path::PathError> for Error {
    fn from(error: cairn_proto::path::PathError) -> Self {
        Self::client(error.to_string())
    }
}

impl From<cairn_proto::cid::CidError> for Error {
    fn from(error: cairn_proto::cid::CidError) -> Self {
        Self::client(error.to_string())
    }
}
