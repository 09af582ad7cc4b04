//! The `Range` header, for one range of bytes. Pure.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, header};

/// What part of a representation a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ranged {
    /// All of it: no range, one that is not understood, or one that `If-Range` calls off.
    Whole,
    /// These bytes, never empty.
    Part(Range<u64>),
    /// Nothing that exists.
    Unsatisfiable,
}

/// Reads `Range` and `If-Range` of a GET against a representation of `len_bytes` under `etag`, changed at `modified`.
///
/// Of several ranges the first one that exists is served, which RFC 9110 §15.3.7 allows. A range of an empty
/// representation is ignored, as in Go's `http.ServeContent`.
pub(crate) fn of(
    headers: &HeaderMap,
    etag: &HeaderValue,
    modified: Option<&HeaderValue>,
    len_bytes: u64,
) -> Ranged {
    let Some(value) = headers.get(header::RANGE) else { return Ranged::Whole };
    // RFC 9110 §13.1.5: the comparison is strong, so a weak tag never matches, and a date only if it is the same.
    let is_same =
        |wanted| (wanted == etag && !etag.as_bytes().starts_with(b"W/")) || Some(wanted) == modified;
    if headers.get(header::IF_RANGE).is_some_and(|wanted| !is_same(wanted)) {
        return Ranged::Whole;
    }
    let Some(list) = value.to_str().ok().and_then(byte_ranges) else { return Ranged::Whole };
    if len_bytes == 0 {
        return Ranged::Whole;
    }
    let mut seen = false;
    for spec in list.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        let Some(spec) = parse(spec) else { return Ranged::Whole };
        seen = true;
        if let Some(range) = spec.of(len_bytes) {
            return Ranged::Part(range);
        }
    }
    if seen { Ranged::Unsatisfiable } else { Ranged::Whole }
}

fn byte_ranges(value: &str) -> Option<&str> {
    let (unit, list) = value.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(list)
}

enum Spec {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

impl Spec {
    fn of(self, len_bytes: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first) => first..len_bytes,
            Self::Between(first, last) => first..last.saturating_add(1).min(len_bytes),
            Self::Last(count) => len_bytes.saturating_sub(count)..len_bytes,
        };
        (range.start < range.end).then_some(range)
    }
}

fn parse(spec: &str) -> Option<Spec> {
    let (first, last) = spec.split_once('-')?;
    Some(match (first.trim(), last.trim()) {
        ("", last) => Spec::Last(number(last)?),
        (first, "") => Spec::From(number(first)?),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            Spec::Between(first, last)
        }
    })
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranged(range: &str, len_bytes: u64) -> Ranged {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        of(&headers, &HeaderValue::from_static("\"tag\""), None, len_bytes)
    }

    #[test]
    fn ranges_of_rfc_9110_name_the_bytes_that_it_says() {
        // Source: RFC 9110 §14.1.2, for a representation of 10,000 bytes.
        assert_eq!(ranged("bytes=0-499", 10_000), Ranged::Part(0..500));
        assert_eq!(ranged("bytes=500-999", 10_000), Ranged::Part(500..1000));
        assert_eq!(ranged("bytes=-500", 10_000), Ranged::Part(9500..10_000));
        assert_eq!(ranged("bytes=9500-", 10_000), Ranged::Part(9500..10_000));
        assert_eq!(ranged("bytes=0-0,-1", 10_000), Ranged::Part(0..1));
        assert_eq!(ranged("bytes= 0-999, 4500-5499, -1000", 10_000), Ranged::Part(0..1000));
    }

    #[test]
    fn a_range_is_cut_to_what_exists() {
        assert_eq!(ranged("bytes=9-99999999999999999999999", 10), Ranged::Part(9..10));
        assert_eq!(ranged("bytes=-11", 10), Ranged::Part(0..10));
        assert_eq!(ranged("bytes=10-12, 2-3", 10), Ranged::Part(2..4));
    }

    #[test]
    fn a_range_past_the_end_is_unsatisfiable_but_not_of_an_empty_file() {
        assert_eq!(ranged("bytes=10-", 10), Ranged::Unsatisfiable);
        assert_eq!(ranged("bytes=-0", 10), Ranged::Unsatisfiable);
        assert_eq!(ranged("bytes=0-", 0), Ranged::Whole);
    }

    #[test]
    fn a_range_that_is_not_understood_is_ignored() {
        for text in ["lines=1-2", "bytes=5-4", "bytes=a-b", "bytes", "bytes=", "bytes=1", "bytes=+1-2"] {
            assert_eq!(ranged(text, 10), Ranged::Whole, "{text}");
        }
    }

    #[test]
    fn if_range_calls_the_range_off_unless_the_tag_is_the_same_and_strong() {
        let with = |if_range: &str, etag: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-1"));
            headers.insert(header::IF_RANGE, if_range.parse().unwrap());
            let modified = HeaderValue::from_static("Tue, 20 Oct 2026 07:28:00 GMT");
            of(&headers, &HeaderValue::from_static(etag), Some(&modified), 10)
        };
        assert_eq!(with("\"a\"", "\"a\""), Ranged::Part(0..2));
        assert_eq!(with("\"b\"", "\"a\""), Ranged::Whole);
        assert_eq!(with("W/\"a\"", "W/\"a\""), Ranged::Whole);
        assert_eq!(with("Tue, 20 Oct 2026 07:28:00 GMT", "\"a\""), Ranged::Part(0..2));
        assert_eq!(with("Wed, 21 Oct 2026 07:28:00 GMT", "\"a\""), Ranged::Whole);
    }
}
