//! A request before any content is touched: which path, which representation, and how links to it look. Pure.

use std::time::Duration;

use cairn_proto::cid;
use cairn_proto::ipns::Name;
use cairn_proto::path::{ContentPath, PathError, Root};
use http::{HeaderMap, Method, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::caller::Caller;
use crate::error::{Failure, Refusal};
use crate::format::{self, Choice, Format};
use crate::host::{self, Site};
use crate::policy::{Fetch, Policy};
use crate::settings::Settings;

/// Bytes of a name that are escaped in a URL path. What stays is what Go's `url.URL.EscapedPath` leaves.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// What is to be done for a request.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Say which methods and headers are allowed.
    Preflight,
    /// The page at the root of a gateway.
    Front,
    /// Go there instead, for ever.
    Moved(String),
    /// Go there instead, this time.
    Found(String),
    /// Content.
    Content(Box<ContentRequest>),
}

/// A request for content.
#[derive(Debug)]
pub(crate) struct ContentRequest {
    /// What is asked for.
    pub(crate) path: ContentPath,
    /// The name at its root, should the first reading of it lead nowhere.
    pub(crate) other_name: Option<String>,
    /// How long the response may be kept, as far as a name decides.
    pub(crate) lifetime: Lifetime,
    /// The path as the client wrote it, for `X-Ipfs-Path`.
    pub(crate) path_text: String,
    /// Where the links of a page lead.
    pub(crate) mount: Mount,
    /// HEAD instead of GET.
    pub(crate) head: bool,
    /// The URL ends with a slash.
    pub(crate) slash: bool,
    /// The client forbids a look-up beyond the store.
    pub(crate) only_if_cached: bool,
    /// The settings forbid it.
    pub(crate) local_only: bool,
    /// Which representation.
    pub(crate) choice: Choice,
    /// Parameters of the URL.
    pub(crate) query: Query,
    /// The query of the URL as written, for redirects.
    pub(crate) raw_query: Option<String>,
    /// The headers, for conditions and ranges.
    pub(crate) headers: HeaderMap,
}

/// Where content lies in the URLs of this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Under `/ipfs/{cid}`.
    Path,
    /// At the root of its own host.
    Host {
        /// Host and port of the gateway above.
        gateway: String,
    },
    /// At the root of a domain that a DNSLink leads from.
    Site {
        /// Host and port.
        host: String,
    },
}

/// How long a response may be kept, as far as the name at the root of its path decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// There is no name.
    Immutable,
    /// For that long.
    FreshFor(Duration),
    /// Nothing says how long.
    Unknown,
}

/// A path and the other reading of the name at its root.
struct Place {
    path: ContentPath,
    other_name: Option<String>,
    path_text: String,
    mount: Mount,
}

/// Whether peers may not be asked for a client.
pub(crate) fn is_local_only(policy: &Policy, caller: &Caller) -> bool {
    match policy.fetch {
        Fetch::Always => false,
        Fetch::Never => true,
        Fetch::Loopback => !(host::is_loopback(&caller.authority) && caller.client.is_none_or(host::is_near)),
    }
}

/// The domain that a request was sent to, if it may be a site by itself: the DNS knows.
pub(crate) fn possible_site<'a>(method: &Method, caller: &'a Caller, settings: &Settings) -> Option<&'a str> {
    let is_read = method == Method::GET || method == Method::HEAD;
    let policy = host::policy(&caller.authority, &settings.hosts);
    if !is_read
        || !policy.dnslink
        || !matches!(host::site(&caller.authority, &settings.hosts), Ok(Site::Path))
    {
        return None;
    }
    host::domain(&caller.authority)
}

/// Reads a request. `site` is the domain that it was sent to if that is a site by itself.
pub(crate) fn read(
    method: &Method,
    uri: &Uri,
    headers: HeaderMap,
    caller: &Caller,
    site: Option<&str>,
    settings: &Settings,
) -> Result<Wanted, Refusal> {
    if method == Method::OPTIONS {
        return Ok(Wanted::Preflight);
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::new(
            Failure::Method,
            format!("method {method} is not allowed: this gateway only reads"),
        ));
    }
    let Caller { scheme, authority, .. } = caller;
    let policy = host::policy(authority, &settings.hosts);
    let query = Query::parse(uri.query())?;
    let place = match host::site(authority, &settings.hosts)? {
        _ if site.is_some() => of_site(site.unwrap_or_default(), uri, authority)?,
        Site::Content { root, label, gateway } => {
            let canonical = host::label(&root)?;
            if canonical != label {
                return Ok(Wanted::Moved(format!(
                    "{scheme}://{canonical}.ipfs.{gateway}{uri}",
                    uri = path_and_query(uri)
                )));
            }
            Place {
                path: content_path(Root::Ipfs(root), uri.path().split('/'))?,
                other_name: None,
                path_text: format!("/ipfs/{label}{}", uri.path()),
                mount: Mount::Host { gateway: gateway.to_owned() },
            }
        }
        Site::Name { label, gateway } => {
            if let Ok(name) = Name::parse(label)
                && name.to_string() != label
            {
                let uri = path_and_query(uri);
                return Ok(Wanted::Moved(format!("{scheme}://{name}.ipns.{gateway}{uri}")));
            }
            let (name, other_name) = readings(label);
            Place {
                path: content_path(Root::Ipns(name), uri.path().split('/'))?,
                other_name,
                path_text: format!("/ipns/{label}{}", uri.path()),
                mount: Mount::Host { gateway: gateway.to_owned() },
            }
        }
        site @ (Site::Gateway | Site::Path) => {
            if uri.path() == "/" {
                return Ok(Wanted::Front);
            }
            let path = match under_path(uri.path(), &query)? {
                Below::Content(path) => path,
                Below::Elsewhere(location) => return Ok(Wanted::Moved(location)),
            };
            if site == Site::Gateway {
                check_namespace(&path, policy)?;
                return to_origin(&path, uri, caller).map(Wanted::Moved);
            }
            refuse_wide_worker(&path, &headers)?;
            if let Some(location) = to_canonical_name(&path, uri) {
                return Ok(Wanted::Found(location));
            }
            let (path, other_name) = with_readings(path)?;
            Place { path, other_name, path_text: uri.path().to_owned(), mount: Mount::Path }
        }
    };
    let Place { path, other_name, path_text, mount } = place;
    if !matches!(mount, Mount::Site { .. }) {
        check_namespace(&path, policy)?;
    }
    let choice = format::choose(&query, &headers)?;
    if !policy.deserialized && !choice.format.is_some_and(Format::is_trustless) {
        let message = "this host serves only what a client can verify: format=raw, car or ipns-record";
        return Err(Refusal::new(Failure::NotAcceptable, message));
    }
    let local_only = is_local_only(policy, caller);
    Ok(Wanted::Content(Box::new(ContentRequest {
        lifetime: Lifetime::Immutable,
        path,
        other_name,
        path_text,
        mount,
        head: method == Method::HEAD,
        slash: uri.path().ends_with('/'),
        only_if_cached: headers
            .get_all(header::CACHE_CONTROL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value.split(',').any(|directive| directive.trim().eq_ignore_ascii_case("only-if-cached"))
            }),
        local_only,
        choice,
        query,
        raw_query: uri.query().map(str::to_owned),
        headers,
    })))
}

enum Below {
    Content(ContentPath),
    Elsewhere(String),
}

/// Reads the path of a gateway's own host.
fn under_path(path: &str, query: &Query) -> Result<Below, Refusal> {
    let mut segments = path.split('/').skip(1).peekable();
    let namespace = segments.next().unwrap_or_default();
    if namespace != "ipfs" && namespace != "ipns" {
        return Err(Refusal::new(Failure::NoSuchUrl, format!("nothing at {path:?}")));
    }
    if let (Some(uri), true) = (&query.uri, segments.clone().all(str::is_empty)) {
        return Ok(Below::Elsewhere(from_reference(uri)?));
    }
    if let Some(location) = without_superfluous_prefix(path) {
        return Ok(Below::Elsewhere(location));
    }
    while segments.next_if(|segment| segment.is_empty()).is_some() {}
    let root = segments.next().ok_or_else(|| invalid_path(path, "the CID or name is missing"))?;
    if namespace == "ipns" {
        let name = percent_decode_str(root).decode_utf8();
        let name = name.map_err(|_| invalid_path(path, "the name is not UTF-8 after decoding"))?;
        return content_path(Root::Ipns(name.into_owned()), segments).map(Below::Content);
    }
    let root = cid::parse(root).map_err(|error| invalid_path(path, &error.to_string()))?;
    content_path(Root::Ipfs(root), segments).map(Below::Content)
}

/// Joins a root and the escaped segments of a URL.
fn content_path<'a>(root: Root, segments: impl Iterator<Item = &'a str>) -> Result<ContentPath, Refusal> {
    let segments = segments
        .map(|segment| {
            let decoded = percent_decode_str(segment).decode_utf8();
            decoded.map_err(|_| invalid_path(segment, "a name is not UTF-8 after decoding"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    ContentPath::new(root, segments).map_err(|error| match error {
        PathError::TooLong { .. } | PathError::TooDeep { .. } => {
            Refusal::new(Failure::TooLong, error.to_string())
        }
        PathError::Malformed { .. } => Refusal::new(Failure::Invalid, error.to_string()),
    })
}

fn invalid_path(path: &str, reason: &str) -> Refusal {
    // The conformance suite looks for the path in this phrase, in the case that the client used.
    Refusal::new(Failure::Invalid, format!("invalid path {path:?}: {reason}"))
}

/// The content of a domain that is a site by itself.
fn of_site(domain: &str, uri: &Uri, authority: &str) -> Result<Place, Refusal> {
    Ok(Place {
        path: content_path(Root::Ipns(domain.to_owned()), uri.path().split('/'))?,
        other_name: None,
        path_text: format!("/ipns/{domain}{}", uri.path()),
        mount: Mount::Site { host: authority.to_owned() },
    })
}

/// The ways to read a name that is no key, the likelier one first: a domain that was inlined, and as it is written.
fn readings(name: &str) -> (String, Option<String>) {
    match host::inlined_domain(name).filter(|_| Name::parse(name).is_err()) {
        Some(domain) => (domain, Some(name.to_owned())),
        None => (name.to_owned(), None),
    }
}

fn with_readings(path: ContentPath) -> Result<(ContentPath, Option<String>), Refusal> {
    let Root::Ipns(name) = path.root() else { return Ok((path, None)) };
    match readings(name) {
        (_, None) => Ok((path, None)),
        (name, other) => Ok((rooted(Root::Ipns(name), path.segments())?, other)),
    }
}

/// A path of that root.
pub(crate) fn rooted(root: Root, segments: &[String]) -> Result<ContentPath, Refusal> {
    ContentPath::new(root, segments).map_err(|error| Refusal::new(Failure::TooLong, error.to_string()))
}

/// Where a key that is not written in base36 has its own path.
///
/// Source: <https://specs.ipfs.tech/http-gateways/path-gateway/>, and gateway-conformance, TestRedirectCanonicalIPNS.
fn to_canonical_name(path: &ContentPath, uri: &Uri) -> Option<String> {
    let Root::Ipns(text) = path.root() else { return None };
    let name = Name::parse(text).ok().filter(|name| name.to_string() != *text)?;
    let rest = segments_url(path.segments());
    let slash = if uri.path().ends_with('/') { "/" } else { "" };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("/ipns/{name}{rest}{slash}{query}"))
}

/// Whether a host serves the namespace of a path.
fn check_namespace(path: &ContentPath, policy: &Policy) -> Result<(), Refusal> {
    let (is_served, namespace) = match path.root() {
        Root::Ipfs(_) => (policy.ipfs, "/ipfs"),
        Root::Ipns(_) => (policy.ipns, "/ipns"),
    };
    if is_served {
        return Ok(());
    }
    Err(Refusal::new(Failure::NoSuchUrl, format!("this host does not serve {namespace}")))
}

/// Where the path of a gateway's own host has its own origin.
fn to_origin(path: &ContentPath, uri: &Uri, caller: &Caller) -> Result<String, Refusal> {
    let (label, namespace) = match path.root() {
        Root::Ipfs(root) => (host::label(root)?, "ipfs"),
        Root::Ipns(name) => (host::name_label(name)?, "ipns"),
    };
    let rest = segments_url(path.segments());
    let slash = if uri.path().ends_with('/') || rest.is_empty() { "/" } else { "" };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let Caller { scheme, authority, .. } = caller;
    Ok(format!("{scheme}://{label}.{namespace}.{authority}{rest}{slash}{query}"))
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

/// `/ipfs/ipfs/{cid}` and the like, without what is too much.
fn without_superfluous_prefix(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/ipfs/").or_else(|| path.strip_prefix("/ipns/"))?;
    let rest = rest.trim_start_matches('/');
    let doubled = rest.starts_with("ipfs/") || rest.starts_with("ipns/");
    (doubled && ContentPath::parse(&format!("/{rest}")).is_ok()).then(|| format!("/{rest}"))
}

/// A worker registered for `/ipfs/{cid}` would control every content of this host.
///
/// Source: <https://specs.ipfs.tech/http-gateways/path-gateway/#service-worker-request-header>.
fn refuse_wide_worker(path: &ContentPath, headers: &HeaderMap) -> Result<(), Refusal> {
    let is_worker =
        headers.get("service-worker").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"script"));
    if is_worker && path.segments().is_empty() {
        let message = "registering a service worker is not allowed for this scope: it would control all content of this gateway";
        return Err(Refusal::new(Failure::Invalid, message));
    }
    Ok(())
}

/// The content path that a CID, a path, an `ipfs://` URI or a link to any gateway means.
fn from_reference(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    let of_link = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme)).map(|link| {
        let (host, path) = link.split_once('/').unwrap_or((link, ""));
        let label =
            host.split_once(".ipfs.").map(|(label, _)| label).filter(|label| cid::parse(label).is_ok());
        label.map_or_else(|| format!("/{path}"), |label| format!("/ipfs/{label}/{path}"))
    });
    let text = of_link.as_deref().unwrap_or(text);
    let (text, query) = text.split_once('?').map_or((text, None), |(text, query)| (text, Some(query)));
    let slash = if text.ends_with('/') { "/" } else { "" };
    let parsed = percent_decode_str(text).decode_utf8().ok().map(|text| ContentPath::parse(&text));
    let Some(Ok(path)) = parsed else {
        return Err(invalid_path(text, "want a CID, /ipfs/…, ipfs://… or a link to a gateway"));
    };
    let root = match path.root() {
        Root::Ipfs(cid) => format!("/ipfs/{cid}"),
        Root::Ipns(name) => format!("/ipns/{}", utf8_percent_encode(name, ESCAPED)),
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{root}{}{slash}{query}", segments_url(path.segments())))
}

/// `/a/b` for the segments of a path, escaped; empty for none.
pub(crate) fn segments_url(segments: &[String]) -> String {
    let mut url = String::new();
    for segment in segments {
        url.push('/');
        url.extend(utf8_percent_encode(segment, ESCAPED));
    }
    url
}

/// One name, escaped for a URL path.
pub(crate) fn escape(name: &str) -> String {
    utf8_percent_encode(name, ESCAPED).to_string()
}

impl ContentRequest {
    /// The URL of the content's own place, escaped and without a slash at its end: where its entries hang.
    pub(crate) fn base_url(&self) -> String {
        let segments = segments_url(self.path.segments());
        match (&self.mount, self.path.root()) {
            (Mount::Path, Root::Ipfs(root)) => format!("/ipfs/{root}{segments}"),
            (Mount::Path, Root::Ipns(name)) => format!("/ipns/{}{segments}", escape(name)),
            (Mount::Host { .. } | Mount::Site { .. }, _) => segments,
        }
    }

    /// The URL of this request with its format named in it.
    pub(crate) fn url_with_format(&self, format: Format) -> String {
        let place = match (&self.mount, self.slash) {
            (Mount::Host { .. } | Mount::Site { .. }, _) if self.path.segments().is_empty() => "/".to_owned(),
            (_, true) => self.base_url() + "/",
            (_, false) => self.base_url(),
        };
        let query = self.raw_query.as_deref().map(|query| format!("&{query}")).unwrap_or_default();
        format!("{place}?format={}{query}", format.name())
    }

    /// Name at the end of the path, if there is one.
    pub(crate) fn last_segment(&self) -> Option<&str> {
        self.path.segments().last().map(String::as_str)
    }
}

/// The parameters of a URL that mean something here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) format: Option<String>,
    pub(crate) filename: Option<String>,
    pub(crate) download: bool,
    pub(crate) dag_scope: Option<String>,
    pub(crate) entity_bytes: Option<String>,
    pub(crate) car_version: Option<String>,
    pub(crate) car_order: Option<String>,
    pub(crate) car_dups: Option<String>,
    pub(crate) uri: Option<String>,
    pub(crate) go_get: bool,
}

impl Query {
    /// Reads the query of a URL. The first of several equal names counts; unknown names are left alone.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let field = match name {
                "format" => &mut parsed.format,
                "filename" => &mut parsed.filename,
                "dag-scope" => &mut parsed.dag_scope,
                "entity-bytes" => &mut parsed.entity_bytes,
                "car-version" => &mut parsed.car_version,
                "car-order" => &mut parsed.car_order,
                "car-dups" => &mut parsed.car_dups,
                "uri" => &mut parsed.uri,
                "download" => {
                    parsed.download = value == "true";
                    continue;
                }
                "go-get" => {
                    parsed.go_get = value == "1";
                    continue;
                }
                _ => continue,
            };
            if field.is_none() {
                *field = Some(decode(value)?);
            }
        }
        Ok(parsed)
    }
}

fn decode(value: &str) -> Result<String, Refusal> {
    let spaced = value.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| Refusal::new(Failure::Invalid, "a parameter of the URL is not UTF-8"))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
