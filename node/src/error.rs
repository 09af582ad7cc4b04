//! The node's error: its kind says what the caller can do.

use std::fmt;

use cairn_proto::content::{ContentError, ContentErrorKind};

/// What the caller of the node can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There is no such thing.
    NotFound,
    /// The content is not here and may not be fetched: go online.
    NotLocal,
    /// Nobody delivered in time: ask again.
    Timeout,
    /// Not now (in use, shutting down, overloaded): try later.
    Unavailable,
    /// The call itself is wrong: mend it.
    Invalid,
    /// An operator forbids this content.
    Blocked,
    /// The same, because the law forbids it.
    BlockedByLaw,
    /// No room: free some, or raise the quota.
    Full,
    /// Stored or received data is damaged: repair or refetch.
    Corrupt,
    /// The node or the part asked has stopped.
    Closed,
    /// A fault of ours: report it.
    Internal,
}

/// A failure: kind, words for a person, and the cause if there is one.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    kind: Kind,
    message: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of the node's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of that kind. The message is lowercase, without a full stop, facts last.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    /// The same with a cause, which is printed behind the message.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// [`Kind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// [`Kind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    /// [`Kind::Closed`]: the part named has stopped.
    pub fn closed(what: &str) -> Self {
        Self::new(Kind::Closed, format!("{what} has stopped"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

/// Errors of formats whose kind is always the same.
macro_rules! kind_of_error {
    ($kind:ident: $($error:ty),+ $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::new(Kind::$kind, error.to_string())
            }
        })+
    };
}

kind_of_error!(Invalid:
    cairn_proto::block::BlockError,
    cairn_proto::cid::CidError,
    cairn_proto::path::PathError,
    cairn_proto::unixfs::import::ImportError,
);
kind_of_error!(Corrupt:
    cairn_proto::car::CarError,
    cairn_proto::codec::DecodeError,
    cairn_proto::walk::WalkError,
);

impl From<cairn_proto::unixfs::read::ReadError> for Error {
    fn from(error: cairn_proto::unixfs::read::ReadError) -> Self {
        use cairn_proto::unixfs::read::ReadError;
        let kind = match error {
            ReadError::NotAFile { .. } => Kind::Invalid,
            _ => Kind::Corrupt,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<cairn_proto::unixfs::list::ListError> for Error {
    fn from(error: cairn_proto::unixfs::list::ListError) -> Self {
        use cairn_proto::unixfs::list::ListError;
        let kind = match error {
            ListError::NotADirectory { .. } => Kind::Invalid,
            _ => Kind::Corrupt,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<cairn_proto::resolve::ResolveError> for Error {
    fn from(error: cairn_proto::resolve::ResolveError) -> Self {
        use cairn_proto::resolve::ResolveError;
        let kind = match error {
            ResolveError::NotFound { .. } | ResolveError::NotADirectory { .. } => Kind::NotFound,
            ResolveError::Name { .. } | ResolveError::Codec { .. } => Kind::Invalid,
            ResolveError::Decode { .. } => Kind::Corrupt,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<cairn_proto::car::SelectError> for Error {
    fn from(error: cairn_proto::car::SelectError) -> Self {
        use cairn_proto::car::SelectError;
        match error {
            SelectError::Resolve(error) => error.into(),
            SelectError::Walk(error) => error.into(),
            SelectError::InsideBlock { .. } | SelectError::PathTooLarge { .. } => {
                Self::invalid(error.to_string())
            }
        }
    }
}

impl From<Error> for ContentError {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            Kind::NotFound => ContentErrorKind::NotFound,
            Kind::NotLocal => ContentErrorKind::NotLocal,
            Kind::Timeout => ContentErrorKind::Timeout,
            Kind::Invalid => ContentErrorKind::Invalid,
            Kind::Blocked => ContentErrorKind::Blocked,
            Kind::BlockedByLaw => ContentErrorKind::BlockedByLaw,
            Kind::Corrupt => ContentErrorKind::Corrupt,
            Kind::Unavailable | Kind::Closed | Kind::Full => ContentErrorKind::Unavailable,
            Kind::Internal => ContentErrorKind::Internal,
        };
        ContentError::new(kind, error.to_string())
    }
}
