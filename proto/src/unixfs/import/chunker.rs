//! Where a file is cut into leaves.

mod buzhash;
mod rabin;

use std::fmt;

use self::rabin::Rabin;
use super::ImportError;
use crate::limits::MAX_CHUNK_BYTES;

/// Says where a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunker(Rule);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// After so many bytes.
    Fixed(usize),
    /// Where the content says so, by one hash or the other.
    Rabin(Rabin),
    Buzhash,
}

impl Chunker {
    /// 256 KiB, of [`super::Profile::UnixfsV0_2015`].
    pub(super) const KIB_256: Self = Self(Rule::Fixed(256 * 1024));
    /// 1 MiB, of [`super::Profile::UnixfsV1_2025`].
    pub(super) const MIB_1: Self = Self(Rule::Fixed(1024 * 1024));

    /// Chunks of that length, in bytes, the last one shorter.
    ///
    /// # Errors
    /// [`ImportError::ChunkLength`] unless it is between 1 and [`MAX_CHUNK_BYTES`].
    pub fn fixed(chunk_bytes: usize) -> Result<Self, ImportError> {
        check_len(chunk_bytes, 1)?;
        Ok(Self(Rule::Fixed(chunk_bytes)))
    }

    /// The chunker of that name: `size-` and a length in bytes, `default` for Kubo's 256 KiB, `buzhash`, or `rabin`, which may
    /// be followed by `-` and an average length, or by a shortest, an average and a longest one.
    ///
    /// # Errors
    /// [`ImportError::Chunker`] for another name, [`ImportError::ChunkLength`].
    ///
    /// # Differences
    /// Kubo takes averages below 48 and then never cuts. (`lengths_that_no_chunker_can_have_are_refused`)
    pub fn parse(name: &str) -> Result<Self, ImportError> {
        let unknown = || ImportError::Chunker { name: name.to_owned() };
        let number = |text: &str| {
            let digits = Some(text).filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(unknown)
        };
        // Source of the labels: boxo `chunker/parse.go`.
        let labelled = |text: &str, label| number(text.strip_prefix(label).unwrap_or(text));
        match name.split('-').collect::<Vec<_>>().as_slice() {
            ["default"] => Ok(Self::KIB_256),
            ["size", chunk_bytes] => Self::fixed(number(chunk_bytes)?),
            ["buzhash"] => Ok(Self(Rule::Buzhash)),
            ["rabin"] => Self::rabin_around(256 * 1024),
            ["rabin", average] => Self::rabin_around(number(average)?),
            ["rabin", min, average, max] => {
                Self::rabin(labelled(min, "min:")?, labelled(average, "avg:")?, labelled(max, "max:")?)
            }
            _ => Err(unknown()),
        }
    }

    fn rabin_around(average: usize) -> Result<Self, ImportError> {
        Self::rabin(average / 3, average, average.saturating_add(average / 2))
    }

    fn rabin(min: usize, average: usize, max: usize) -> Result<Self, ImportError> {
        check_len(min, Rabin::MIN_BYTES)?;
        check_len(max, Rabin::MIN_BYTES)?;
        if min >= average || average >= max {
            return Err(ImportError::Options("the lengths of rabin must go from short to long"));
        }
        Ok(Self(Rule::Rabin(Rabin { min, average, max })))
    }

    /// Length of the longest chunk, in bytes.
    pub fn max_chunk_bytes(self) -> usize {
        match self.0 {
            Rule::Fixed(chunk_bytes) => chunk_bytes,
            Rule::Rabin(rabin) => rabin.max,
            Rule::Buzhash => buzhash::MAX_BYTES,
        }
    }

    /// Length of every chunk but the last, in bytes; `None` where the content decides.
    pub fn fixed_chunk_bytes(self) -> Option<usize> {
        match self.0 {
            Rule::Fixed(chunk_bytes) => Some(chunk_bytes),
            Rule::Rabin(_) | Rule::Buzhash => None,
        }
    }

    /// Length of the first chunk of `data`, in bytes. It must hold [`Self::max_chunk_bytes`], or all that is left of a file.
    pub fn cut(self, data: &[u8]) -> usize {
        match self.0 {
            Rule::Fixed(chunk_bytes) => data.len().min(chunk_bytes),
            Rule::Rabin(rabin) => rabin.cut(data),
            Rule::Buzhash => buzhash::cut(data),
        }
    }

    /// The chunks of a whole file.
    pub fn chunks(self, mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            let (chunk, rest) = data.split_at(self.cut(data));
            data = rest;
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

fn check_len(len_bytes: usize, min: usize) -> Result<(), ImportError> {
    if (min..=MAX_CHUNK_BYTES).contains(&len_bytes) {
        return Ok(());
    }
    Err(ImportError::ChunkLength { len_bytes, min })
}

impl fmt::Display for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rule::Fixed(chunk_bytes) => write!(f, "size-{chunk_bytes}"),
            Rule::Rabin(Rabin { min, average, max }) => write!(f, "rabin-{min}-{average}-{max}"),
            Rule::Buzhash => f.write_str("buzhash"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chunk_of_the_limit_passes_and_one_byte_more_fails() {
        let parse = |len: usize| Chunker::parse(&format!("size-{len}"));
        assert_eq!(parse(MAX_CHUNK_BYTES).unwrap().max_chunk_bytes(), MAX_CHUNK_BYTES);
        let too_long = MAX_CHUNK_BYTES + 1;
        assert_eq!(parse(too_long), Err(ImportError::ChunkLength { len_bytes: too_long, min: 1 }));
        assert_eq!(parse(1).unwrap().max_chunk_bytes(), 1);
        assert_eq!(parse(0), Err(ImportError::ChunkLength { len_bytes: 0, min: 1 }));
        assert!(Chunker::parse(&format!("rabin-16-17-{MAX_CHUNK_BYTES}")).is_ok());
        assert!(Chunker::parse(&format!("rabin-16-17-{too_long}")).is_err());
    }

    #[test]
    fn lengths_that_no_chunker_can_have_are_refused() {
        for name in
            ["rabin-0", "rabin-47", "rabin-15-32-64", "rabin-32-32-64", "rabin-16-64-64", "rabin-2000000"]
        {
            assert!(Chunker::parse(name).is_err(), "{name}");
        }
        assert!(Chunker::parse("rabin-48").is_ok());
    }

    #[test]
    fn other_names_are_refused_by_name() {
        for name in [
            "",
            "size",
            "size-",
            "size--1",
            "size-+1",
            "size-1k",
            "size-1-2",
            "rabin-1-2",
            "rabin-16-32-64-1",
            "rabin-x",
            "buzhash-1",
            "default-1",
            "adler",
            "size-99999999999999999999",
        ] {
            assert_eq!(Chunker::parse(name), Err(ImportError::Chunker { name: name.to_owned() }));
        }
    }

    #[test]
    fn a_chunker_prints_the_name_that_it_has() {
        for (name, printed) in [
            ("size-262144", "size-262144"),
            ("default", "size-262144"),
            ("buzhash", "buzhash"),
            ("rabin", "rabin-87381-262144-393216"),
            ("rabin-min:20-avg:32-max:64", "rabin-20-32-64"),
        ] {
            let chunker = Chunker::parse(name).unwrap();
            assert_eq!(chunker.to_string(), printed);
            assert_eq!(Chunker::parse(printed).unwrap(), chunker);
        }
    }

    proptest! {
        #[test]
        fn chunks_are_the_content_in_order_and_none_is_too_long(
            content in proptest::collection::vec(any::<u8>(), 0..3_000),
            name in proptest::sample::select(vec!["size-7", "rabin-16-32-64", "rabin-100-128-1000", "buzhash"]),
        ) {
            let chunker = Chunker::parse(name).unwrap();
            let chunks: Vec<_> = chunker.chunks(&content).collect();
            prop_assert_eq!(&chunks.concat(), &content);
            prop_assert!(chunks.iter().all(|chunk| (1..=chunker.max_chunk_bytes()).contains(&chunk.len())));
        }
    }
}
