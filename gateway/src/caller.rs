//! Who sent a request, and to which URL: as the connection has it, or as a proxy that is trusted says. Pure.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Uri};
use ipnet::IpNet;

use crate::error::Refusal;
use crate::host;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The sender of a request and the start of its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// `None` where there is no connection.
    pub(crate) client: Option<IpAddr>,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// Host and port, in lower case; empty if the request has neither.
    pub(crate) authority: String,
}

impl Caller {
    /// Reads it from a request that came from `peer`.
    ///
    /// # Errors
    /// A host that is no text.
    pub(crate) fn of(
        peer: Option<IpAddr>,
        encrypted: bool,
        uri: &Uri,
        headers: &HeaderMap,
        proxies: &[IpNet],
    ) -> Result<Self, Refusal> {
        let is_proxy = |address: &IpAddr| {
            let address = address.to_canonical();
            proxies.iter().any(|network| network.contains(&address))
        };
        let scheme = if encrypted { "https" } else { "http" };
        if !peer.as_ref().is_some_and(is_proxy) {
            return Ok(Self { client: peer, scheme, authority: host::authority(uri, headers)? });
        }
        let scheme = match last(headers, &FORWARDED_PROTO) {
            Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
            Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
            _ => scheme,
        };
        let authority = match last(headers, &FORWARDED_HOST) {
            Some(host) => host::normal(host),
            None => host::authority(uri, headers)?,
        };
        Ok(Self { client: sender(peer, headers, is_proxy), scheme, authority })
    }
}

/// The last address that is no proxy of ours: what stands before it anybody can have written.
fn sender(peer: Option<IpAddr>, headers: &HeaderMap, is_proxy: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let mut client = peer;
    for text in list(headers, &FORWARDED_FOR).rev() {
        let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() else { break };
        client = Some(address);
        if !is_proxy(&address) {
            break;
        }
    }
    client
}

/// The last value of a list: that of the proxy nearest to us.
fn last<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> Option<&'a str> {
    list(headers, name).next_back()
}

fn list<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PROXY: &str = "10.1.2.3";

    fn caller(peer: &str, headers: &[(HeaderName, &'static str)]) -> Caller {
        let mut map = HeaderMap::new();
        map.insert(http::header::HOST, HeaderValue::from_static("own.example"));
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        let proxies = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        Caller::of(Some(peer.parse().unwrap()), false, &Uri::from_static("/"), &map, &proxies).unwrap()
    }

    #[test]
    fn what_strangers_say_of_themselves_is_ignored() {
        let headers =
            [(FORWARDED_FOR, "127.0.0.1"), (FORWARDED_HOST, "other.example"), (FORWARDED_PROTO, "https")];
        let found = caller("192.0.2.1", &headers);
        let expected = ("192.0.2.1".parse().ok(), "http", "own.example");
        assert_eq!((found.client, found.scheme, found.authority.as_str()), expected);
    }

    #[test]
    fn a_trusted_proxy_tells_host_scheme_and_client() {
        let headers = [
            (FORWARDED_FOR, "192.0.2.9, 192.0.2.1"),
            (FORWARDED_HOST, "forged.example, Other.Example:444"),
            (FORWARDED_PROTO, "https"),
        ];
        for peer in [PROXY, "::ffff:10.9.9.9", "2001:db8::1"] {
            let found = caller(peer, &headers);
            let expected = ("192.0.2.1".parse().ok(), "https", "other.example:444");
            assert_eq!((found.client, found.scheme, found.authority.as_str()), expected, "{peer}");
        }
        let silent = caller(PROXY, &[]);
        assert_eq!((silent.client, silent.scheme), (PROXY.parse().ok(), "http"));
        assert_eq!(silent.authority, "own.example");
    }

    #[test]
    fn a_chain_of_trusted_proxies_leads_to_the_client_in_front_of_it() {
        let client =
            |value: &'static str| caller(PROXY, &[(FORWARDED_FOR, value)]).client.unwrap().to_string();
        assert_eq!(client("192.0.2.9, 192.0.2.1, 10.0.0.1, 10.0.0.2"), "192.0.2.1");
        assert_eq!(client("10.0.0.1"), "10.0.0.1");
        assert_eq!(client("192.0.2.9, unknown, 10.0.0.1"), "10.0.0.1");
        assert_eq!(client("[2001:db9::1]"), "2001:db9::1");
    }
}
