//! The pages that this gateway makes: listings, refusals and the front page. Pure; templates are in `templates/`.
//!
//! Pages hold no script and load nothing, so that their policy can forbid both.

use askama::Template;
use cairn_proto::content::{Entry, Progress};
use cairn_proto::path::Root;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::cache::Known;
use crate::error::Row as Table;
use crate::request::{ContentRequest, Mount, escape};

/// The style sheet in every page; [`headers::PAGE_POLICY`](crate::headers::PAGE_POLICY) holds its hash.
pub(crate) const STYLE: &str = include_str!("../templates/style.css");

/// All that the look of a listing depends on.
pub(crate) const LISTING_SOURCE: &str = concat!(
    include_str!("../templates/head.html"),
    include_str!("../templates/style.css"),
    include_str!("../templates/listing_head.html"),
    include_str!("../templates/listing_row.html"),
    include_str!("../templates/listing_foot.html"),
);

/// A listing in three parts. The conformance suite looks for the phrase "Index of" and for anchors of this very form.
pub(crate) struct Listing {
    /// URL under which the entries hang, without a slash at its end.
    base: String,
    /// What the rows' CIDs are linked to.
    explorer: Explorer,
    /// `ipfs` or `ipns`.
    namespace: &'static str,
    path: String,
    crumbs: Vec<Crumb>,
    cid: String,
    has_parent: bool,
    entry_count: u64,
    cumulative_bytes: u64,
}

/// Where any CID is found.
enum Explorer {
    /// Under this URL.
    Gateway(String),
    /// Somewhere else: a site by itself has no place for other content.
    Elsewhere,
}

/// Where CIDs are explained, for sites that cannot serve them. The conformance suite wants this very place.
const CID_EXPLORER: &str = "https://cid.ipfs.tech/#";

struct Crumb {
    url: String,
    name: String,
}

impl Listing {
    pub(crate) fn new(request: &ContentRequest, directory: &Known) -> Self {
        let (namespace, root) = match request.path.root() {
            Root::Ipfs(cid) => ("ipfs", cid.to_string()),
            Root::Ipns(name) => ("ipns", name.clone()),
        };
        let gateway = match &request.mount {
            Mount::Path | Mount::Site { .. } => String::new(),
            Mount::Host { gateway } => format!("//{gateway}"),
        };
        let (mut url, root_url) = match &request.mount {
            Mount::Site { host } => (format!("//{host}"), format!("//{host}/")),
            _ => {
                let url = format!("{gateway}/{namespace}/{}", escape(&root));
                (url.clone(), url)
            }
        };
        let mut crumbs = vec![Crumb { url: root_url, name: root }];
        for name in request.path.segments() {
            url = format!("{url}/{}", escape(name));
            crumbs.push(Crumb { url: url.clone(), name: name.clone() });
        }
        Self {
            base: request.base_url(),
            explorer: match &request.mount {
                Mount::Site { .. } => Explorer::Elsewhere,
                _ => Explorer::Gateway(format!("{gateway}/ipfs/")),
            },
            namespace,
            path: request.path.to_string(),
            has_parent: crumbs.len() > 1,
            crumbs,
            cid: directory.resolved.cid.to_string(),
            entry_count: 0,
            cumulative_bytes: 0,
        }
    }

    pub(crate) fn write_head(&self, page: &mut String) {
        write(&ListingHead { listing: self, title: &format!("Index of {}", self.path) }, page);
    }

    pub(crate) fn write_row(&mut self, page: &mut String, entry: &Entry) {
        /// What may stand in the value of a parameter.
        const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
        self.entry_count += 1;
        self.cumulative_bytes = self.cumulative_bytes.saturating_add(entry.cumulative_bytes);
        let escaped = escape(&entry.name);
        let cid = entry.cid.to_string();
        let row = ListingRow {
            url: &format!("{}/{escaped}", self.base),
            name: &entry.name,
            cid_url: &match &self.explorer {
                // Escaped twice, as boxo has it and the conformance suite wants it.
                Explorer::Gateway(url) => {
                    format!("{url}{cid}?filename={}", utf8_percent_encode(&escaped, ESCAPED))
                }
                Explorer::Elsewhere => format!("{CID_EXPLORER}{cid}"),
            },
            is_elsewhere: matches!(self.explorer, Explorer::Elsewhere),
            cid: &short(&cid),
            size: &human(entry.cumulative_bytes),
        };
        write(&row, page);
    }

    /// `is_whole`: every entry has a row.
    pub(crate) fn write_foot(&self, page: &mut String, is_whole: bool) {
        let entries = match self.entry_count {
            count if !is_whole => {
                format!("The first {count} entries; there are more, and all are in the CAR")
            }
            0 => "This directory is empty".to_owned(),
            1 => "1 entry".to_owned(),
            count => format!("{count} entries"),
        };
        write(&ListingFoot { listing: self, entries: &entries, size: &human(self.cumulative_bytes) }, page);
    }
}

#[derive(Template)]
#[template(path = "listing_head.html")]
struct ListingHead<'a> {
    listing: &'a Listing,
    title: &'a str,
}

#[derive(Template)]
#[template(path = "listing_row.html")]
struct ListingRow<'a> {
    url: &'a str,
    name: &'a str,
    cid_url: &'a str,
    is_elsewhere: bool,
    cid: &'a str,
    size: &'a str,
}

#[derive(Template)]
#[template(path = "listing_foot.html")]
struct ListingFoot<'a> {
    listing: &'a Listing,
    entries: &'a str,
    size: &'a str,
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    title: &'a str,
    status: u16,
    reason: &'a str,
    message: &'a str,
    advice: &'a str,
}

#[derive(Template)]
#[template(path = "front.html")]
struct FrontPage<'a> {
    title: &'a str,
}

#[derive(Template)]
#[template(path = "waiting.html")]
struct WaitingPage<'a> {
    title: &'a str,
    path: &'a str,
    found: &'a str,
}

/// The page that people see while content is looked for.
pub(crate) fn waiting(path: &str, progress: Progress) -> String {
    let mut page = String::new();
    let Progress { peers_asked_count: asked, providers_found_count: found, .. } = progress;
    let found = format!("So far: asked {asked} peers, found {found} that say they have it.");
    write(&WaitingPage { title: "Looking for content", path, found: &found }, &mut page);
    page
}

/// The page of a refusal.
pub(crate) fn refusal(row: &Table, message: &str) -> String {
    let mut page = String::new();
    let (status, reason) = (row.status.as_u16(), row.status.canonical_reason().unwrap_or_default());
    write(&RefusalPage { title: row.title, status, reason, message, advice: row.advice }, &mut page);
    page
}

/// The page at the root of a gateway.
pub(crate) fn front() -> String {
    let mut page = String::new();
    write(&FrontPage { title: "Cairn gateway" }, &mut page);
    page
}

pub(crate) fn write(template: &impl Template, page: &mut String) {
    template.render_into(page).expect("writing to a string cannot fail");
}

/// Start and end of a CID, enough to tell two apart.
fn short(cid: &str) -> String {
    match (cid.get(..6), cid.get(cid.len().saturating_sub(6)..)) {
        (Some(start), Some(end)) if cid.len() > 16 => format!("{start}…{end}"),
        _ => cid.to_owned(),
    }
}

/// A size for people, with binary units.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths, in integers: 1,024 EiB do not occur in 64 bits.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10 * 1024 {
        tenths /= 1024;
        unit += 1;
    }
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{} {}", tenths / 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_like_a_person_would_say_them() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 * 1024, "10 KiB"),
            (1024 * 1024 - 1, "1023 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(human(bytes), expected);
        }
    }

    #[test]
    fn markup_in_words_of_others_is_escaped() {
        let page = refusal(&crate::error::Failure::Invalid.row(), "<script>\"'&");
        assert!(!page.contains("<script>") && page.contains("&#60;script&#62;"), "{page}");
    }

    #[test]
    fn pages_hold_no_script_and_name_no_other_host() {
        for page in [front(), refusal(&crate::error::Failure::Timeout.row(), "x")] {
            assert!(!page.contains("<script") && !page.contains("onclick") && !page.contains("src=\"http"));
        }
    }
}
