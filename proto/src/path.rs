//! Content paths: `/ipfs/{cid}/…`, `/ipns/{name}/…`, their URI forms, and a bare CID.

use std::fmt;

use crate::cid::{Cid, CidError};
use crate::limits::{MAX_PATH_BYTES, MAX_PATH_SEGMENTS};

/// Why a text is not a content path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Neither `/ipfs/`, `/ipns/`, one of their URIs nor a CID.
    #[error("invalid path {path:?}: {reason}")]
    Malformed {
        /// The text as given.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Longer than [`MAX_PATH_BYTES`].
    #[error("path too long, len_bytes={len_bytes} max={}", MAX_PATH_BYTES)]
    TooLong {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// More than [`MAX_PATH_SEGMENTS`].
    #[error("path too deep, segment_count={segment_count} max={}", MAX_PATH_SEGMENTS)]
    TooDeep {
        /// Segments found.
        segment_count: usize,
    },
}

/// Where a path starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Root {
    /// Immutable content.
    Ipfs(Cid),
    /// A name that must be resolved first: a key or a DNSLink domain.
    Ipns(String),
}

/// A root and the names below it. Segments are decoded and never empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentPath {
    root: Root,
    segments: Vec<String>,
}

impl ContentPath {
    /// The path of a CID itself.
    pub fn from_cid(cid: Cid) -> Self {
        Self { root: Root::Ipfs(cid), segments: Vec::new() }
    }

    /// A path from its parts, as a gateway has them after decoding.
    ///
    /// # Errors
    /// [`PathError`] for segments out of bounds, or one that is `..` or holds a NUL byte. Empty segments and `.` are dropped.
    pub fn new<S: Into<String>>(
        root: Root,
        segments: impl IntoIterator<Item = S>,
    ) -> Result<Self, PathError> {
        let mut kept = Vec::new();
        let mut len_bytes = 0;
        for segment in segments {
            let segment: String = segment.into();
            if segment.is_empty() || segment == "." {
                continue;
            }
            if segment == ".." || segment.contains('\0') {
                return Err(malformed(&segment, "a segment may not be '..' or hold NUL"));
            }
            len_bytes += segment.len() + 1;
            kept.push(segment);
        }
        if kept.len() > MAX_PATH_SEGMENTS {
            return Err(PathError::TooDeep { segment_count: kept.len() });
        }
        if len_bytes > MAX_PATH_BYTES {
            return Err(PathError::TooLong { len_bytes });
        }
        Ok(Self { root, segments: kept })
    }

    /// Parses `/ipfs/{cid}[/…]`, `/ipns/{name}[/…]`, `ipfs://…`, `ipns://…` or a bare CID with an optional path.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong { len_bytes: text.len() });
        }
        let (namespace, rest) = split_namespace(text);
        let mut parts = rest.split('/');
        let first = parts.next().unwrap_or_default();
        if first.is_empty() {
            return Err(malformed(text, "the CID or name is missing"));
        }
        let root = match namespace {
            Namespace::Ipns => Root::Ipns(first.to_owned()),
            Namespace::Ipfs => Root::Ipfs(
                crate::cid::parse(first).map_err(|error: CidError| malformed(text, &error.to_string()))?,
            ),
        };
        Self::new(root, parts)
    }

    /// Where the path starts.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Names below the root.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The same root with `name` appended.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        Self::new(self.root.clone(), self.segments.iter().map(String::as_str).chain([name]))
    }
}

impl fmt::Display for ContentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Ipfs(cid) => write!(f, "/ipfs/{cid}")?,
            Root::Ipns(name) => write!(f, "/ipns/{name}")?,
        }
        self.segments.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

impl std::str::FromStr for ContentPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

enum Namespace {
    Ipfs,
    Ipns,
}

fn split_namespace(text: &str) -> (Namespace, &str) {
    for (prefix, namespace) in [
        ("/ipfs/", Namespace::Ipfs),
        ("ipfs://", Namespace::Ipfs),
        ("/ipns/", Namespace::Ipns),
        ("ipns://", Namespace::Ipns),
    ] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return (namespace, rest);
        }
    }
    (Namespace::Ipfs, text)
}

fn malformed(path: &str, reason: &str) -> PathError {
    PathError::Malformed { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    #[test]
    fn every_form_of_a_path_is_the_same_path() {
        for text in [
            format!("/ipfs/{CID}/a/b"),
            format!("ipfs://{CID}/a/b"),
            format!("{CID}/a//b/"),
            format!("{CID}/./a/b"),
        ] {
            assert_eq!(ContentPath::parse(&text).unwrap().to_string(), format!("/ipfs/{CID}/a/b"), "{text}");
        }
    }

    #[test]
    fn a_path_never_leaves_its_root() {
        assert!(ContentPath::parse(&format!("/ipfs/{CID}/../x")).is_err());
        assert!(ContentPath::parse(&format!("/ipfs/{CID}/a\0b")).is_err());
    }

    #[test]
    fn bounds_of_a_path_hold() {
        let deep = |count: usize| ContentPath::parse(&format!("{CID}{}", "/a".repeat(count)));
        assert!(deep(MAX_PATH_SEGMENTS).is_ok());
        assert_eq!(
            deep(MAX_PATH_SEGMENTS + 1),
            Err(PathError::TooDeep { segment_count: MAX_PATH_SEGMENTS + 1 })
        );
        assert!(matches!(
            ContentPath::parse(&"x".repeat(MAX_PATH_BYTES + 1)),
            Err(PathError::TooLong { .. })
        ));
    }

    #[test]
    fn names_are_kept_for_a_resolver() {
        let path = ContentPath::parse("/ipns/docs.ipfs.tech/install").unwrap();
        assert_eq!(path.root(), &Root::Ipns("docs.ipfs.tech".to_owned()));
        assert_eq!(path.segments(), ["install"]);
        assert!(ContentPath::parse("/ipfs/").is_err());
        assert!(ContentPath::parse("not a cid").is_err());
    }
}
