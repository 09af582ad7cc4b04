//! Failures, and the one table that gives each its status, its words and its headers.

use cairn_proto::content::{ContentError, ContentErrorKind, Progress};
use http::{HeaderValue, StatusCode};

/// Why a request gets no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    /// What happened, for the person or program that asked. Names the path or CID.
    pub(crate) message: String,
}

/// The kinds of failure; each is one row of [`Failure::row`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request cannot be understood.
    Invalid,
    /// A URL that no content can have.
    NoSuchUrl,
    /// The content has no such name.
    NoSuchName,
    /// A name that leads nowhere.
    NoSuchSite,
    /// Content that is not in the store and may not be fetched.
    NotFound,
    /// Not GET, HEAD or OPTIONS.
    Method,
    /// The content cannot be had in this format.
    NotAcceptable,
    /// Content that is forbidden here.
    Blocked,
    /// The same, because the law forbids it.
    BlockedByLaw,
    /// `only-if-cached`, and it is not.
    NotCached,
    /// A path past its bounds.
    TooLong,
    /// A range outside of the content.
    Range {
        /// Length of the content, in bytes.
        len_bytes: u64,
    },
    /// The request is for another state of the content.
    Precondition,
    /// `index.html` is there and is not a file.
    IndexNotFile,
    /// More requests at the same time than allowed.
    Overloaded,
    /// More requests of one client than allowed.
    TooOften {
        /// Seconds until the next one is.
        retry_secs: u64,
    },
    /// Content above a size limit of the operator.
    TooLarge,
    /// A range of a file above the size up to which ranges are served.
    NoRanges,
    /// The content cannot be traversed or read.
    Broken,
    /// A part of the gateway that is not there.
    Unsupported,
    /// A fault of ours.
    Internal,
    /// Not ready, or no longer.
    Unavailable,
    /// Nobody delivered in time.
    Timeout,
}

/// What a failure looks like.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) status: StatusCode,
    /// Headline of its page.
    pub(crate) title: &'static str,
    /// What to do about it.
    pub(crate) advice: &'static str,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<HeaderValue>,
    pub(crate) cache_control: HeaderValue,
}

/// Never kept: the next request may fare better.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Kept for a while: an immutable path stays as it is, but software and blocklists change.
const SHORT: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// A size does not change, and limits seldom do. Source: boxo `gateway`, `cacheControlSizeLimit`.
const SIZE: HeaderValue = HeaderValue::from_static("public, max-age=604800, stale-while-revalidate=2678400");
/// Source: boxo `gateway` (60 s for 429); the same for content that may turn up.
const RETRY: Option<HeaderValue> = Some(HeaderValue::from_static("60"));

impl Failure {
    /// The table.
    pub(crate) fn row(self) -> Row {
        let (status, title, advice, retry_after, cache_control) = match self {
            Self::Invalid => (
                StatusCode::BAD_REQUEST,
                "This address does not work",
                "Check the CID and the path for a missing or extra character.",
                None,
                NO_STORE,
            ),
            Self::NoSuchUrl => (
                StatusCode::NOT_FOUND,
                "Nothing at this address",
                "Content is under /ipfs/, followed by its CID.",
                None,
                NO_STORE,
            ),
            Self::NoSuchName => (
                StatusCode::NOT_FOUND,
                "No such file or folder",
                "Go up one folder, or ask whoever gave you this link for the right one.",
                None,
                SHORT,
            ),
            // Source: gateway.md §1.1: 500 where a name cannot be resolved.
            Self::NoSuchSite => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "This name leads nowhere",
                "Check the name for a missing or extra character. If it is yours, publish it again: names expire.",
                None,
                NO_STORE,
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "Not here",
                "This gateway serves only what its own node holds. Ask for it at a gateway or node that fetches.",
                None,
                NO_STORE,
            ),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "Read only", "Use GET or HEAD.", None, NO_STORE),
            Self::NotAcceptable => (
                StatusCode::NOT_ACCEPTABLE,
                "Not available in this format",
                "Fetch it with ?format=raw or ?format=car and convert it on your side.",
                None,
                NO_STORE,
            ),
            Self::Blocked => (
                StatusCode::GONE,
                "Blocked here",
                "The operator of this gateway does not serve this content.",
                None,
                SHORT,
            ),
            Self::BlockedByLaw => (
                StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
                "Not available for legal reasons",
                "The operator of this gateway may not serve this content.",
                None,
                SHORT,
            ),
            Self::NotCached => (
                StatusCode::PRECONDITION_FAILED,
                "Not cached",
                "Ask without Cache-Control: only-if-cached to have it fetched.",
                None,
                NO_STORE,
            ),
            Self::TooLong => {
                (StatusCode::URI_TOO_LONG, "Path too long", "Use a shorter path.", None, NO_STORE)
            }
            Self::Range { .. } => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                "No such range",
                "Content-Range says how long the content is.",
                None,
                NO_STORE,
            ),
            Self::Precondition => (
                StatusCode::PRECONDITION_FAILED,
                "Not that version",
                "Ask without If-Match and If-Unmodified-Since for the version that is here.",
                None,
                NO_STORE,
            ),
            Self::IndexNotFile => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "This site has no front page",
                "Its index.html is not a file; open one of its pages by name.",
                None,
                NO_STORE,
            ),
            Self::Overloaded => {
                (StatusCode::TOO_MANY_REQUESTS, "Too busy", "Try again in a minute.", RETRY, NO_STORE)
            }
            Self::TooOften { retry_secs } => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests",
                "Ask less often, or run a node of your own.",
                Some(HeaderValue::from(retry_secs)),
                NO_STORE,
            ),
            Self::TooLarge => (
                StatusCode::GONE,
                "Too large for this gateway",
                "Fetch it with a node of your own, or block by block with ?format=raw.",
                None,
                SIZE,
            ),
            Self::NoRanges => (
                StatusCode::NOT_IMPLEMENTED,
                "No ranges of a file this large",
                "Fetch all of it, or block by block with ?format=raw.",
                None,
                SHORT,
            ),
            Self::Broken => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "This content is broken",
                "It was made or stored wrongly; whoever published it can publish it anew.",
                None,
                NO_STORE,
            ),
            Self::Unsupported => (
                StatusCode::NOT_IMPLEMENTED,
                "Not supported",
                "Use an address under /ipfs/ instead.",
                None,
                NO_STORE,
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "A fault of this gateway",
                "Its operator finds the reason in the log.",
                None,
                NO_STORE,
            ),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "Not ready", "Try again in a minute.", RETRY, NO_STORE)
            }
            Self::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "Nobody delivered this in time",
                "Try again: peers that have it may be found meanwhile. If it is yours, check that a node that has it is online.",
                RETRY,
                NO_STORE,
            ),
        };
        Row { status, title, advice, retry_after, cache_control }
    }
}

impl Refusal {
    pub(crate) fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self { failure, message: message.into() }
    }

    /// What a failure of the port means to the client. `only_if_cached`: the client forbade to look any further.
    pub(crate) fn from_content(error: ContentError, only_if_cached: bool) -> Self {
        let failure = match error.kind {
            ContentErrorKind::NotLocal if only_if_cached => Failure::NotCached,
            ContentErrorKind::NotLocal => Failure::NotFound,
            ContentErrorKind::NotFound => Failure::NoSuchName,
            ContentErrorKind::Timeout => Failure::Timeout,
            ContentErrorKind::Invalid => Failure::Invalid,
            ContentErrorKind::Blocked => Failure::Blocked,
            ContentErrorKind::BlockedByLaw => Failure::BlockedByLaw,
            ContentErrorKind::Corrupt => Failure::Broken,
            ContentErrorKind::Unavailable => Failure::Unavailable,
            ContentErrorKind::Internal => {
                tracing::error!(%error, "content failed");
                return Self::new(Failure::Internal, "internal error");
            }
        };
        Self::new(failure, error.message)
    }

    /// What a failure to resolve a name means to the client.
    pub(crate) fn from_name(error: ContentError, only_if_cached: bool) -> Self {
        match error.kind {
            ContentErrorKind::NotLocal if only_if_cached => Self::from_content(error, true),
            ContentErrorKind::NotFound | ContentErrorKind::NotLocal | ContentErrorKind::Corrupt => {
                Self::new(Failure::NoSuchSite, error.message)
            }
            _ => Self::from_content(error, only_if_cached),
        }
    }

    /// Nothing came within the time for the first byte.
    pub(crate) fn timeout(path: &str, seconds: u64, progress: Progress) -> Self {
        let Progress { peers_asked_count: asked, providers_found_count: found, .. } = progress;
        let who = match (asked, found) {
            (0, 0) => "found nobody who has it".to_owned(),
            _ => format!("found {found} providers and asked {asked} peers"),
        };
        Self::new(Failure::Timeout, format!("no content of {path} within {seconds} s: {who}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_port_has_the_status_of_the_specification() {
        // Source: gateway.md §1.1, status codes.
        let status = |kind, only_if_cached| {
            Refusal::from_content(ContentError::new(kind, ""), only_if_cached).failure.row().status.as_u16()
        };
        for (kind, expected) in [
            (ContentErrorKind::NotFound, 404),
            (ContentErrorKind::NotLocal, 404),
            (ContentErrorKind::Timeout, 504),
            (ContentErrorKind::Invalid, 400),
            (ContentErrorKind::Blocked, 410),
            (ContentErrorKind::BlockedByLaw, 451),
            (ContentErrorKind::Corrupt, 500),
            (ContentErrorKind::Unavailable, 503),
            (ContentErrorKind::Internal, 500),
        ] {
            assert_eq!(status(kind, false), expected, "{kind:?}");
        }
        assert_eq!(status(ContentErrorKind::NotLocal, true), 412);
        assert_eq!(status(ContentErrorKind::NotFound, true), 404);
    }

    #[test]
    fn the_words_of_an_internal_fault_stay_inside() {
        let refusal =
            Refusal::from_content(ContentError::new(ContentErrorKind::Internal, "/secret/path"), false);
        assert!(!refusal.message.contains("secret"));
    }
}
