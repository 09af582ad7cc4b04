//! The media type of a file, by its name. Where the name says nothing, [`sniff`](crate::sniff) looks at the content.

use http::HeaderValue;

/// The media type that the extension of `name` stands for.
///
/// Text is said to be UTF-8, which it is; without that, browsers guess. HTML is not, so that a page's own `meta` element
/// counts (as boxo has it), nor XML, which declares its encoding itself.
pub(crate) fn by_name(name: &str) -> Option<HeaderValue> {
    let (stem, extension) = name.rsplit_once('.')?;
    if stem.is_empty() {
        return None;
    }
    let media_type = mime_guess::from_ext(extension).first_raw()?;
    // The table knows these by other names than browsers and the web's files want.
    let media_type = match (media_type, extension.to_ascii_lowercase().as_str()) {
        (_, "mjs" | "cjs") => "text/javascript",
        (_, "ts") => "video/mp2t",
        (_, "map") => "application/json",
        (known, _) => known,
    };
    Some(match media_type {
        "text/html" | "text/xml" => HeaderValue::from_static(media_type),
        "text/css" => HeaderValue::from_static("text/css; charset=utf-8"),
        "text/javascript" => HeaderValue::from_static("text/javascript; charset=utf-8"),
        "text/plain" => HeaderValue::from_static("text/plain; charset=utf-8"),
        text if text.starts_with("text/") => HeaderValue::try_from(format!("{text}; charset=utf-8")).ok()?,
        other => HeaderValue::from_static(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_website_is_made_of_has_the_types_that_browsers_want() {
        // Source: IANA media types; the WHATWG's JavaScript and module rules; charset as Go's mime package.
        for (name, expected) in [
            ("index.html", "text/html"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.min.JS", "text/javascript; charset=utf-8"),
            ("a.js.map", "application/json"),
            ("a.json", "application/json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml"),
            ("a.avif", "image/avif"),
            ("a.webp", "image/webp"),
            ("a.woff2", "font/woff2"),
            ("a.mp4", "video/mp4"),
            ("a.ts", "video/mp2t"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.xml", "text/xml"),
        ] {
            assert_eq!(by_name(name).as_ref().map(|value| value.to_str().unwrap()), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_name_that_says_nothing_has_no_type() {
        for name in ["README", "", "a.", "a.unheardof", ".html", "."] {
            assert_eq!(by_name(name), None, "{name}");
        }
    }
}
