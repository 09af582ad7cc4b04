//! Who may call: no page of a browser but from allowed origins, no name that DNS could point here, POST only.
//!
//! Source: Kubo's rules in go-ipfs-cmds `http/handler.go` and `reforigin_test.go`; the check of `Host` is ours.
//!
//! # Differences
//! Kubo answers whatever name it is called by. Here an unknown name is refused, since DNS rebinding makes a page's own
//! origin of it (`a_name_that_dns_could_point_here_is_refused`).

use axum::extract::Request;
use axum::response::Response;
use cairn_node::settings::config::http::RpcSettings;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, AUTHORIZATION, HOST, HeaderMap,
    HeaderName, HeaderValue, ORIGIN, REFERER, SERVER, USER_AGENT, VARY,
};
use http::uri::Authority;
use http::{Method, StatusCode, Uri};

use super::metrics;
use super::respond::text;

/// IPFS Companion, the extension that Kubo lets in too. Source: Kubo `core/corehttp/commands.go`.
const EXTENSIONS: [&str; 2] = [
    "chrome-extension://nibjojkomfdiaoajekhjakgkdhaomnch",
    "chrome-extension://hjoieblefckbooibpepigmacodalfndh",
];

/// The one command that needs no authorization. Source: Kubo `core/corehttp/commands.go`.
const OPEN_PATH: &str = "/api/v0/version";

/// Headers of answers that a page may read.
const EXPOSED: &str = "X-Stream-Output, X-Chunked-Output, X-Content-Length";

/// What to do with a request.
pub(super) enum Verdict {
    /// Serve it; the origin, if any, may read the answer.
    Pass {
        /// The page that asks.
        origin: Option<HeaderValue>,
    },
    /// It is answered already.
    Answer(Box<Response>),
}

/// Decides about a request.
pub(super) fn check(settings: &RpcSettings, request: &Request) -> Verdict {
    let headers = request.headers();
    let origin = headers.get(ORIGIN);
    let is_read = request.method() == Method::GET && request.uri().path() == metrics::PATH;
    let answer = if !is_read && ![Method::POST, Method::OPTIONS].contains(request.method()) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "405 - Method Not Allowed");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("OPTIONS, POST"));
        answer
    } else if !is_allowed(settings, request) {
        tracing::warn!(path = request.uri().path(), ?origin, host = ?headers.get(HOST), "request refused");
        text(StatusCode::FORBIDDEN, "403 - Forbidden")
    } else if request.method() == Method::OPTIONS {
        preflight(request)
    } else if !is_authorized(settings, request) {
        text(
            StatusCode::FORBIDDEN,
            "403 - Forbidden: give a valid authorization as defined in API.Authorizations",
        )
    } else {
        return Verdict::Pass { origin: origin.cloned() };
    };
    let mut answer = answer;
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Origin"));
    Verdict::Answer(Box::new(answer))
}

/// Adds what every answer carries.
pub(super) fn label(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.insert(SERVER, HeaderValue::from_static(concat!("cairn/", env!("CARGO_PKG_VERSION"))));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

fn preflight(request: &Request) -> Response {
    let mut answer = Response::new(axum::body::Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("OPTIONS, POST"));
    if let Some(origin) = request.headers().get(ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        if let Some(wanted) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
    answer
}

fn is_allowed(settings: &RpcSettings, request: &Request) -> bool {
    let header = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or(""));
    let authority = header(HOST).and_then(|host| host.parse::<Authority>().ok());
    let Some(host) = authority.or_else(|| request.uri().authority().cloned()) else { return false };
    if !is_own_name(settings, host.host()) {
        return false;
    }
    match (header(ORIGIN), header(REFERER)) {
        (Some(origin), _) => is_allowed_origin(settings, origin, &host),
        (None, Some(referer)) => {
            let uri = referer.parse::<Uri>().ok();
            let origin = uri.and_then(|uri| Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?)));
            origin.is_some_and(|origin| is_allowed_origin(settings, &origin, &host))
        }
        // Browsers leave the origin out of some requests; no other program calls itself Mozilla.
        (None, None) => !header(USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla")),
    }
}

/// An address cannot be rebound by DNS, `localhost` never leaves this computer, and the owner vouches for the others.
fn is_own_name(settings: &RpcSettings, host: &str) -> bool {
    is_address(host)
        || is_localhost(host)
        || settings.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok()
}

fn is_localhost(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn is_allowed_origin(settings: &RpcSettings, origin: &str, host: &Authority) -> bool {
    if settings.allowed_origins.iter().any(|allowed| allowed == "*" || allowed == origin)
        || EXTENSIONS.contains(&origin)
    {
        return true;
    }
    let Some((scheme @ ("http" | "https"), authority)) = origin.split_once("://") else { return false };
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let port =
        |authority: &Authority| authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let same_host = authority.host().eq_ignore_ascii_case(host.host())
        || (is_loopback(authority.host()) && is_loopback(host.host()));
    same_host && port(&authority) == port(host)
}

fn is_authorized(settings: &RpcSettings, request: &Request) -> bool {
    let path = request.uri().path();
    if settings.authorizations.is_empty() || path == OPEN_PATH {
        return true;
    }
    let Some(given) = request.headers().get(AUTHORIZATION) else { return false };
    settings.authorizations.iter().any(|caller| {
        is_equal(caller.header.as_bytes(), given.as_bytes())
            && caller.allowed_paths.iter().any(|prefix| path.starts_with(prefix.as_str()))
    })
}

/// Compares in a time that does not tell where two secrets of one length differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}
