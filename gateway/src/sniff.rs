//! The media type of content, by its first bytes. Pure.
//!
//! Source: <https://mimesniff.spec.whatwg.org/>, as Go's `net/http.DetectContentType` reads it, with SVG, JSON,
//! WebAssembly, AVIF and a few formats of the field added.

use http::HeaderValue;

/// How much of a file is looked at, in bytes.
pub(crate) const SNIFF_BYTES: usize = 3072;

/// How much of it decides whether it is text, in bytes. Source: the specification, §5.2.
const TEXT_BYTES: usize = 512;

/// The media type of a file that starts with `start`; the file has no more bytes if `whole`.
pub(crate) fn media_type(start: &[u8], whole: bool) -> HeaderValue {
    let (start, whole) = cut(start, whole);
    HeaderValue::from_static(
        markup(start)
            .or_else(|| by_signature(start))
            .or_else(|| iso_media(start))
            .or_else(|| is_json_document(start, whole).then_some("application/json"))
            .unwrap_or_else(|| text_or_binary(&start[..start.len().min(TEXT_BYTES)])),
    )
}

/// Whether a file that starts with `start` is JSON, as far as that shows.
pub(crate) fn is_json(start: &[u8], whole: bool) -> bool {
    let (start, whole) = cut(start, whole);
    match serde_json::from_slice::<serde::de::IgnoredAny>(start) {
        Ok(_) => true,
        Err(error) => error.is_eof() && !whole && !start.trim_ascii().is_empty(),
    }
}

fn cut(start: &[u8], whole: bool) -> (&[u8], bool) {
    (&start[..start.len().min(SNIFF_BYTES)], whole && start.len() <= SNIFF_BYTES)
}

/// A bare number or word is JSON too, but nobody means that by a file without a name.
fn is_json_document(start: &[u8], whole: bool) -> bool {
    matches!(start.trim_ascii_start().first(), Some(b'{' | b'[')) && is_json(start, whole)
}

const HTML: &str = "text/html";

fn markup(start: &[u8]) -> Option<&'static str> {
    /// Tags that make a document HTML. Source: the specification, §7.1.
    const TAGS: [&[u8]; 17] = [
        b"<!DOCTYPE HTML",
        b"<HTML",
        b"<HEAD",
        b"<SCRIPT",
        b"<IFRAME",
        b"<H1",
        b"<DIV",
        b"<FONT",
        b"<TABLE",
        b"<A",
        b"<STYLE",
        b"<TITLE",
        b"<B",
        b"<BODY",
        b"<BR",
        b"<P",
        b"<!--",
    ];
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let has_tag = |tag: &[u8]| {
        let ends = |byte: Option<&u8>| tag == b"<!--" || matches!(byte, Some(b' ' | b'>'));
        text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag) && ends(text.get(tag.len()))
    };
    let is_svg = |text: &[u8]| text.windows(4).any(|window| window == b"<svg");
    if has_tag(b"<svg") || ((text.starts_with(b"<?xml") || text.starts_with(b"<!--")) && is_svg(text)) {
        return Some("image/svg+xml");
    }
    if TAGS.iter().any(|tag| has_tag(tag)) {
        return Some(HTML);
    }
    text.starts_with(b"<?xml").then_some("text/xml")
}

fn by_signature(start: &[u8]) -> Option<&'static str> {
    /// Where a signature stands, the signature, and what it means.
    const SIGNATURES: &[(usize, &[u8], &str)] = &[
        (0, b"%PDF-", "application/pdf"),
        (0, b"%!PS-Adobe-", "application/postscript"),
        (0, b"\xfe\xff", "text/plain; charset=utf-16be"),
        (0, b"\xff\xfe", "text/plain; charset=utf-16le"),
        (0, b"\x00\x00\x01\x00", "image/x-icon"),
        (0, b"BM", "image/bmp"),
        (0, b"GIF87a", "image/gif"),
        (0, b"GIF89a", "image/gif"),
        (0, b"\x89PNG\r\n\x1a\n", "image/png"),
        (0, b"\xff\xd8\xff", "image/jpeg"),
        (8, b"WEBPVP", "image/webp"),
        (8, b"AIFF", "audio/aiff"),
        (8, b"AVI ", "video/avi"),
        (8, b"WAVE", "audio/wave"),
        (0, b"ID3", "audio/mpeg"),
        (0, b"\xff\xfb", "audio/mpeg"),
        (0, b"fLaC", "audio/flac"),
        (0, b"OggS\x00", "application/ogg"),
        (0, b"MThd\x00\x00\x00\x06", "audio/midi"),
        (0, b"\x1a\x45\xdf\xa3", "video/webm"),
        (0, b"\x00asm", "application/wasm"),
        (0, b"\x1f\x8b\x08", "application/x-gzip"),
        (0, b"PK\x03\x04", "application/zip"),
        (0, b"Rar!\x1a\x07", "application/x-rar-compressed"),
        (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
        (0, b"wOFF", "font/woff"),
        (0, b"wOF2", "font/woff2"),
        (0, b"OTTO", "font/otf"),
        (0, b"\x00\x01\x00\x00", "font/ttf"),
        (257, b"ustar", "application/x-tar"),
    ];
    /// Containers whose kind stands behind their length.
    const RIFF: &[&str] = &["image/webp", "video/avi", "audio/wave"];
    SIGNATURES
        .iter()
        .find(|(at, signature, media_type)| {
            start.get(*at..).is_some_and(|rest| rest.starts_with(signature))
                && (!RIFF.contains(media_type) || start.starts_with(b"RIFF"))
                && (*media_type != "audio/aiff" || start.starts_with(b"FORM"))
        })
        .map(|(.., media_type)| *media_type)
}

/// MP4 and its family: a box `ftyp` that names its brands.
fn iso_media(start: &[u8]) -> Option<&'static str> {
    let brand = start.get(4..12)?.strip_prefix(b"ftyp")?;
    Some(match brand {
        b"avif" | b"avis" => "image/avif",
        b"heic" | b"heix" => "image/heic",
        b"qt  " => "video/quicktime",
        b"M4A " => "audio/mp4",
        _ => "video/mp4",
    })
}

fn text_or_binary(start: &[u8]) -> &'static str {
    // Source: the specification, §3, "binary data byte".
    let is_binary = |byte: &u8| matches!(byte, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if start.iter().any(is_binary) { "application/octet-stream" } else { "text/plain; charset=utf-8" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_starts_have_the_types_that_the_specification_gives_them() {
        // Source: mimesniff.spec.whatwg.org §6 and §7, and the tests of Go's net/http.
        for (start, expected) in [
            (&b""[..], "text/plain; charset=utf-8"),
            (b"Hello\nworld", "text/plain; charset=utf-8"),
            ("grüße".as_bytes(), "text/plain; charset=utf-8"),
            (b"\x01\x02\x03", "application/octet-stream"),
            (b"  \n<!doctype html><p>", "text/html"),
            (b"<HtMl><bOdY>", "text/html"),
            (b"<!-- x --><p>", "text/html"),
            (b"<a", "text/plain; charset=utf-8"),
            (b"<abbr>", "text/plain; charset=utf-8"),
            (b"<?xml version=\"1.0\"?><feed/>", "text/xml"),
            (b"<?xml version=\"1.0\"?><svg xmlns=\"\"/>", "image/svg+xml"),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\">", "image/svg+xml"),
            (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wave"),
            (b"xxxx\x24\0\0\0WAVEfmt ", "application/octet-stream"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "image/avif"),
            (b"%PDF-1.7", "application/pdf"),
            (b"\x00asm\x01\0\0\0", "application/wasm"),
            (b"wOF2\0\x01\0\0", "font/woff2"),
            (b"\xef\xbb\xbfhi", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(media_type(start, true), expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn json_is_known_by_being_json() {
        // Source: gateway-conformance, TestGatewayJsonCbor (a file of JSON bytes without a name).
        assert_eq!(media_type(b" {\"hello\": [1, 2]}\n", true), "application/json");
        assert_eq!(media_type(b"{not json}", true), "text/plain; charset=utf-8");
        assert_eq!(media_type(b"{\"cut\": ", true), "text/plain; charset=utf-8");
        assert_eq!(media_type(b"{\"cut\": ", false), "application/json");
        assert_eq!(media_type(b"12", true), "text/plain; charset=utf-8");
        assert!(
            is_json(b"12", true) && is_json(b"\"a\"", true) && !is_json(b"a", true) && !is_json(b"", true)
        );
    }
}
