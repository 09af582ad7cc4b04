//! The page that shows a block of linked data. Pure; its template is in `templates/`.

use std::fmt::Write as _;

use askama::Template;
use cairn_proto::cid::Cid;
use cairn_proto::codec::Value;

use crate::pages;
use crate::request::{ContentRequest, Mount};

/// All that the look of the page depends on.
pub(crate) const SOURCE: &str = concat!(
    include_str!("../templates/head.html"),
    include_str!("../templates/style.css"),
    include_str!("../templates/preview.html"),
);

/// Deepest lists and maps that are shown.
const MAX_DEPTH: usize = 32;

/// Bytes of a byte string that are shown.
const MAX_SHOWN_BYTES: usize = 64;

/// A block of linked data on its way to a page.
pub(crate) struct Preview {
    cid: String,
    format: &'static str,
    size: String,
    /// URL under which any CID is found.
    gateway: String,
    /// URL of the block as it is.
    url: String,
    value: Result<Value, String>,
}

#[derive(Template)]
#[template(path = "preview.html")]
struct Page<'a> {
    title: &'a str,
    preview: &'a Preview,
    value: &'a str,
    problem: &'a str,
}

impl Preview {
    /// The page of the block `cid`, which holds `value` or cannot be shown for the reason given.
    pub(crate) fn new(
        request: &ContentRequest,
        cid: &Cid,
        format: &'static str,
        len_bytes: u64,
        value: Result<Value, String>,
    ) -> Self {
        let gateway = match &request.mount {
            Mount::Host { gateway } => format!("//{gateway}/ipfs/"),
            Mount::Path | Mount::Site { .. } => "/ipfs/".to_owned(),
        };
        let url = format!("{}/", request.base_url());
        Self { cid: cid.to_string(), format, size: pages::human(len_bytes), gateway, url, value }
    }

    /// The page.
    pub(crate) fn page(&self) -> String {
        let mut html = String::new();
        let problem = match &self.value {
            Ok(value) => {
                self.write(value, &mut html, 0);
                ""
            }
            Err(problem) => problem,
        };
        let mut page = String::new();
        let title = format!("{} block {}", self.format, self.cid);
        pages::write(&Page { title: &title, preview: self, value: &html, problem }, &mut page);
        page
    }

    /// Writes a value as lists within lists.
    fn write(&self, value: &Value, html: &mut String, depth: usize) {
        // Writing to a string cannot fail.
        let _ = match value {
            Value::List(_) | Value::Map(_) if depth == MAX_DEPTH => write!(html, "…"),
            Value::List(items) if items.is_empty() => write!(html, "[]"),
            Value::Map(entries) if entries.is_empty() => write!(html, "{{}}"),
            Value::List(items) => {
                html.push_str("<ol start=\"0\">");
                for item in items {
                    html.push_str("<li>");
                    self.write(item, html, depth + 1);
                    html.push_str("</li>");
                }
                write!(html, "</ol>")
            }
            Value::Map(entries) => {
                html.push_str("<dl>");
                for (key, value) in entries {
                    let _ = write!(html, "<dt>{}</dt><dd>", Escaped(key));
                    self.write(value, html, depth + 1);
                    html.push_str("</dd>");
                }
                write!(html, "</dl>")
            }
            Value::Link(cid) => {
                let gateway = Escaped(&self.gateway);
                write!(html, "<a class=\"ipfs-hash\" translate=\"no\" href=\"{gateway}{cid}\">{cid}</a>")
            }
            Value::Null => write!(html, "null"),
            Value::Bool(value) => write!(html, "{value}"),
            Value::Integer(value) => write!(html, "{value}"),
            Value::Float(value) => write!(html, "{value}"),
            Value::String(text) => write!(html, "“{}”", Escaped(text)),
            Value::Bytes(bytes) => {
                html.push_str("<code>");
                for byte in bytes.iter().take(MAX_SHOWN_BYTES) {
                    let _ = write!(html, "{byte:02x}");
                }
                let more = if bytes.len() > MAX_SHOWN_BYTES { "…" } else { "" };
                write!(html, "{more}</code> ({})", pages::human(bytes.len() as u64))
            }
        };
    }
}

/// Text that holds no markup.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}
