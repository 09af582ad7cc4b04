//! Where a file is cut into leaves.

use std::fmt;

use super::ImportError;
use crate::limits::MAX_CHUNK_BYTES;

/// Cuts a file into chunks of one length, the last one shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunker {
    chunk_bytes: usize,
}

impl Chunker {
    /// 256 KiB, of [`super::Profile::UnixfsV0_2015`].
    pub(super) const KIB_256: Self = Self { chunk_bytes: 256 * 1024 };
    /// 1 MiB, of [`super::Profile::UnixfsV1_2025`].
    pub(super) const MIB_1: Self = Self { chunk_bytes: 1024 * 1024 };

    /// Chunks of that length, in bytes.
    ///
    /// # Errors
    /// [`ImportError::ChunkLength`] unless it is between 1 and [`MAX_CHUNK_BYTES`].
    pub fn fixed(chunk_bytes: usize) -> Result<Self, ImportError> {
        if !(1..=MAX_CHUNK_BYTES).contains(&chunk_bytes) {
            return Err(ImportError::ChunkLength { len_bytes: chunk_bytes });
        }
        Ok(Self { chunk_bytes })
    }

    /// The chunker of that name: `size-` and a length in bytes, or `default` for Kubo's 256 KiB.
    ///
    /// # Errors
    /// [`ImportError::Chunker`] for another name, [`ImportError::ChunkLength`].
    pub fn parse(name: &str) -> Result<Self, ImportError> {
        if name == "default" {
            return Ok(Self::KIB_256);
        }
        let len = name.strip_prefix("size-").filter(|len| len.bytes().all(|digit| digit.is_ascii_digit()));
        let len = len.and_then(|len| len.parse().ok());
        Self::fixed(len.ok_or_else(|| ImportError::Chunker { name: name.to_owned() })?)
    }

    /// Length of every chunk but the last, in bytes.
    pub fn chunk_bytes(self) -> usize {
        self.chunk_bytes
    }
}

impl fmt::Display for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "size-{}", self.chunk_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_of_the_limit_passes_and_one_byte_more_fails() {
        let parse = |len: usize| Chunker::parse(&format!("size-{len}"));
        assert_eq!(parse(MAX_CHUNK_BYTES).unwrap().chunk_bytes(), MAX_CHUNK_BYTES);
        let too_long = MAX_CHUNK_BYTES + 1;
        assert_eq!(parse(too_long), Err(ImportError::ChunkLength { len_bytes: too_long }));
        assert_eq!(parse(1).unwrap().chunk_bytes(), 1);
        assert_eq!(parse(0), Err(ImportError::ChunkLength { len_bytes: 0 }));
    }

    #[test]
    fn other_names_are_refused_by_name() {
        for name in
            ["", "size-", "size--1", "size-+1", "size-1k", "rabin", "buzhash", "size-99999999999999999999"]
        {
            assert_eq!(Chunker::parse(name), Err(ImportError::Chunker { name: name.to_owned() }));
        }
    }

    #[test]
    fn a_chunker_prints_the_name_that_it_has() {
        for name in ["size-262144", "default"] {
            assert_eq!(Chunker::parse(name).unwrap().to_string(), "size-262144");
        }
    }
}
