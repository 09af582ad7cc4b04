//! Header texts of responses. Pure.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_proto::cid::{Cid, HashFunction};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The content path of the request. Source: path-gateway specification, §3.2.
pub(crate) const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
/// The CIDs from the root to the end of the path.
pub(crate) const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// How long the head of a response took. Source: <https://www.w3.org/TR/server-timing/>.
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Methods that are answered.
pub(crate) const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Content under a CID never changes. Source: path-gateway specification, §3.2.1.2.
pub(crate) const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=29030400, immutable");
/// Pages that this gateway makes change with its version. Source: the same.
pub(crate) const GENERATED: HeaderValue =
    HeaderValue::from_static("public, max-age=604800, stale-while-revalidate=2678400");

pub(crate) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
pub(crate) const BYTES: HeaderValue = HeaderValue::from_static("bytes");
pub(crate) const NO_RANGES: HeaderValue = HeaderValue::from_static("none");
pub(crate) const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Lets pages of other origins read every response. Source: gateway.md §1.12, the lists of boxo.
pub(crate) fn allow_every_origin(headers: &mut HeaderMap) {
    const ALLOWED: HeaderValue =
        HeaderValue::from_static("Content-Type, Range, User-Agent, X-Requested-With");
    const EXPOSED: HeaderValue = HeaderValue::from_static(
        "Content-Length, Content-Range, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, X-Stream-Output",
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Puts `own` in the place of headers of the same names.
pub(crate) fn replace(headers: &mut HeaderMap, own: &HeaderMap) {
    for name in own.keys() {
        headers.remove(name);
        for value in own.get_all(name) {
            headers.append(name, value.clone());
        }
    }
}

/// A value from text that holds only visible ASCII and spaces.
pub(crate) fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("the text is visible ASCII")
}

/// What changes is kept only as long as it may be taken for the latest.
pub(crate) fn fresh_for(time: Duration) -> HeaderValue {
    ascii(format!("public, max-age={}", time.as_secs()))
}

/// The entity tag of a CID, with what tells representations apart behind it.
pub(crate) fn etag(cid: &Cid, suffix: &str) -> HeaderValue {
    ascii(format!("\"{cid}{suffix}\""))
}

/// A moment as `Last-Modified` has it; `None` for the start of 1970, which stands for no time, and for what no date can tell.
///
/// Source: Go `net/http`, `isZeroTime`, which Kubo's gateway uses.
pub(crate) fn date(time: SystemTime) -> Option<HeaderValue> {
    /// The last second of the year 9999.
    const MAX_SECONDS: u64 = 253_402_300_799;
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    (1..=MAX_SECONDS)
        .contains(&seconds)
        .then(|| ascii(httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))))
}

/// CIDs for [`X_IPFS_ROOTS`].
pub(crate) fn roots(cids: &[Cid]) -> HeaderValue {
    ascii(cids.iter().map(Cid::to_string).collect::<Vec<_>>().join(","))
}

/// Whether `If-None-Match` holds `etag`, by the weak comparison of RFC 9110 §8.8.3.2.
pub(crate) fn is_unmodified(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let wanted = opaque(etag.as_bytes());
    request.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        value == b"*" || tags(value).any(|(tag, _)| tag == wanted)
    })
}

/// Whether content that was changed at `modified` is older than `If-Modified-Since`, which counts only where no tag was
/// sent (RFC 9110 §13.1.3).
pub(crate) fn is_unchanged_since(request: &HeaderMap, modified: &HeaderValue) -> bool {
    let since = request.get(header::IF_MODIFIED_SINCE).and_then(moment);
    !request.contains_key(header::IF_NONE_MATCH)
        && since.is_some_and(|since| moment(modified).is_some_and(|modified| modified <= since))
}

/// Whether a request is only for another state of the content than the one under `etag`, changed at `modified`: by
/// `If-Match`, whose comparison is strong, or where that was not sent by `If-Unmodified-Since` (RFC 9110 §13.1.1, §13.1.4).
pub(crate) fn is_unwanted(request: &HeaderMap, etag: &HeaderValue, modified: Option<&HeaderValue>) -> bool {
    if !request.contains_key(header::IF_MATCH) {
        let [limit, modified] =
            [request.get(header::IF_UNMODIFIED_SINCE), modified].map(|value| value.and_then(moment));
        return limit.zip(modified).is_some_and(|(limit, modified)| modified > limit);
    }
    let etag = etag.as_bytes();
    let is_same = |(tag, is_weak): (&[u8], bool)| !is_weak && tag == etag;
    !request.get_all(header::IF_MATCH).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        value == b"*" || tags(value).any(is_same)
    })
}

fn moment(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The quoted parts of a list of entity tags, and whether each is weak; commas may stand inside the quotes.
fn tags(list: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| *byte == b'"')?;
        let len = rest[start + 1..].iter().position(|byte| *byte == b'"')? + 2;
        let tag = (&rest[start..start + len], rest[..start].ends_with(b"W/"));
        rest = &rest[start + len..];
        Some(tag)
    })
}

/// Whether a browser shows content or saves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    Inline,
    Attachment,
}

/// `Content-Disposition` with a name in plain ASCII and, where that lost something, in UTF-8 (RFC 6266).
pub(crate) fn disposition(kind: Disposition, name: &str) -> HeaderValue {
    /// Everything but the `attr-char` of RFC 5987.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'!')
        .remove(b'#')
        .remove(b'$')
        .remove(b'&')
        .remove(b'+')
        .remove(b'-')
        .remove(b'.')
        .remove(b'^')
        .remove(b'_')
        .remove(b'`')
        .remove(b'|')
        .remove(b'~');
    let kind = match kind {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    let plain: String = name
        .chars()
        .map(|c| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '/') { c } else { '_' })
        .collect();
    if plain == name {
        return ascii(format!("{kind}; filename=\"{plain}\""));
    }
    ascii(format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, ESCAPED)))
}

/// The first 16 hex digits of the SHA2-256 of some bytes: a name for them that is the same everywhere.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    HashFunction::Sha2_256.multihash(bytes).digest()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a page of this gateway may load: its own style sheet, nothing else.
pub(crate) static PAGE_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = HashFunction::Sha2_256.multihash(crate::pages::STYLE.as_bytes());
    let hash = multibase::Base::Base64Pad.encode(digest.digest());
    ascii(format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; frame-ancestors 'self'"
    ))
});

/// The headers that every page of this gateway has.
pub(crate) fn page(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HTML);
    headers.insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_none_match(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_matching_tag_is_found_anywhere_in_the_list_weak_or_strong() {
        // Source: gateway-conformance, TestGatewayCache.
        let etag = HeaderValue::from_static("\"bafy\"");
        for value in ["\"bafy\"", "\"a\", \"b,c\", \"bafy\"", "W/\"bafy\"", "*", "\"x\",W/\"bafy\""] {
            assert!(is_unmodified(&if_none_match(value), &etag), "{value}");
        }
        for value in ["\"baf\"", "bafy", "\"a\",\"b\"", "", "\"bafy"] {
            assert!(!is_unmodified(&if_none_match(value), &etag), "{value}");
        }
        assert!(is_unmodified(&if_none_match("\"x.car.1\""), &HeaderValue::from_static("W/\"x.car.1\"")));
    }

    #[test]
    fn a_request_for_another_state_is_known_by_its_tag_or_else_by_its_date() {
        let date = |second| HeaderValue::try_from(format!("Sun, 06 Nov 1994 08:49:{second} GMT")).unwrap();
        let of = |name, value| HeaderMap::from_iter([(name, value)]);
        let etag = HeaderValue::from_static("\"bafy\"");
        // Source: RFC 9110 §13.1.1 and §8.8.3.2: a weak tag is never the same.
        for (value, unwanted) in [
            ("\"bafy\"", false),
            ("\"a,b\", \"bafy\"", false),
            ("*", false),
            ("W/\"bafy\"", true),
            ("\"other\"", true),
            ("bafy", true),
        ] {
            let request = of(header::IF_MATCH, HeaderValue::from_static(value));
            assert_eq!(is_unwanted(&request, &etag, None), unwanted, "{value}");
        }
        let weak = HeaderValue::from_static("W/\"bafy\"");
        assert!(is_unwanted(&of(header::IF_MATCH, weak.clone()), &weak, None));
        // Source: RFC 9110 §13.1.4: what has no date, or none that can be read, decides nothing.
        let modified = date(37);
        for (limit, unwanted) in [(date(36), true), (date(37), false), (HeaderValue::from_static("?"), false)]
        {
            let mut request = of(header::IF_UNMODIFIED_SINCE, limit.clone());
            assert_eq!(is_unwanted(&request, &etag, Some(&modified)), unwanted, "{limit:?}");
            assert!(!is_unwanted(&request, &etag, None));
            request.insert(header::IF_MATCH, etag.clone());
            assert!(!is_unwanted(&request, &etag, Some(&modified)), "the tag counts");
        }
    }

    #[test]
    fn names_of_files_have_a_plain_and_an_exact_form() {
        let inline = |name| disposition(Disposition::Inline, name);
        assert_eq!(inline("a b.txt"), "inline; filename=\"a b.txt\"");
        // Source: RFC 6266 §5 and RFC 5987 §3.2.2.
        assert_eq!(inline("€ rates"), "inline; filename=\"_ rates\"; filename*=UTF-8''%E2%82%AC%20rates");
        assert_eq!(inline("a\"b\r\n\\"), "inline; filename=\"a_b___\"; filename*=UTF-8''a%22b%0D%0A%5C");
    }

    #[test]
    fn every_listed_value_of_the_cross_origin_headers_is_there() {
        // Source: gateway-conformance, TestCors.
        let mut headers = HeaderMap::new();
        allow_every_origin(&mut headers);
        let has = |name: HeaderName, values: &[&str]| {
            let list: Vec<_> = headers[name].to_str().unwrap().split(", ").collect();
            values.iter().all(|value| list.contains(value))
        };
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(has(header::ACCESS_CONTROL_ALLOW_METHODS, &["GET", "HEAD", "OPTIONS"]));
        assert!(has(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            &["Content-Type", "Range", "User-Agent", "X-Requested-With"]
        ));
        let exposed = [
            "Content-Range",
            "Content-Length",
            "X-Ipfs-Path",
            "X-Ipfs-Roots",
            "X-Chunked-Output",
            "X-Stream-Output",
        ];
        assert!(has(header::ACCESS_CONTROL_EXPOSE_HEADERS, &exposed));
    }
}
