//! The host of a request: which content has it to itself, if any. Pure.

use std::net::IpAddr;

use cairn_proto::cid::{self, Cid};
use cairn_proto::ipns::Name;
use http::{HeaderMap, Uri, header};
use multibase::Base;

use crate::error::{Failure, Refusal};
use crate::policy::{Hosts, Policy};

/// Longest label of a host name, in bytes. Source: RFC 1035 §2.3.4.
const MAX_LABEL_BYTES: usize = 63;

/// What a host stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site<'a> {
    /// Nothing: content lies under paths.
    Path,
    /// A gateway that gives every content an origin of its own.
    Gateway,
    /// One immutable content.
    Content {
        /// Its root.
        root: Cid,
        /// First label of the host, as the client wrote it (in lower case).
        label: &'a str,
        /// Host and port of the gateway above it.
        gateway: &'a str,
    },
    /// One name, which leads to content.
    Name {
        /// The name as the host has it.
        label: &'a str,
        /// Host and port of the gateway above it.
        gateway: &'a str,
    },
}

/// Host and port that a request was sent to: of its target, else of its `Host` header. Empty if it has neither.
pub(crate) fn authority(uri: &Uri, headers: &HeaderMap) -> Result<String, Refusal> {
    // RFC 9112 §3.2.2: the authority of an absolute target counts, and HTTP/2 has no other.
    let text = match (uri.authority(), headers.get(header::HOST)) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => {
            host.to_str().map_err(|_| Refusal::new(Failure::Invalid, "invalid Host header"))?
        }
        (None, None) => "",
    };
    Ok(normal(text))
}

/// Host and port in the form that they are compared in.
pub(crate) fn normal(text: &str) -> String {
    let without_user = text.rsplit_once('@').map_or(text, |(_, host)| host);
    without_user.to_ascii_lowercase()
}

/// The policy that holds for a lower-case `authority`: its own, that of the gateway above it, or that of the others.
pub(crate) fn policy<'a>(authority: &str, hosts: &'a Hosts) -> &'a Policy {
    let above = || below(authority).find_map(|(_, _, gateway)| subdomains(gateway, hosts));
    hosts.find(authority, name_of(authority)).or_else(above).unwrap_or(&hosts.others)
}

/// Finds the site of a lower-case `authority`.
pub(crate) fn site<'a>(authority: &'a str, hosts: &Hosts) -> Result<Site<'a>, Refusal> {
    if let Some(policy) = hosts.find(authority, name_of(authority)) {
        return Ok(if policy.subdomains { Site::Gateway } else { Site::Path });
    }
    let found = below(authority).find(|(_, _, gateway)| subdomains(gateway, hosts).is_some());
    match found {
        Some((label, Namespace::Ipfs, gateway)) => {
            Ok(Site::Content { root: root_of(label)?, label, gateway })
        }
        Some((label, Namespace::Ipns, gateway)) => Ok(Site::Name { label, gateway }),
        None => Ok(Site::Path),
    }
}

enum Namespace {
    Ipfs,
    Ipns,
}

/// The ways to read a host as `{label}.ipfs.{gateway}` or `{label}.ipns.{gateway}`.
fn below(authority: &str) -> impl Iterator<Item = (&str, Namespace, &str)> {
    authority.match_indices('.').filter_map(|(at, _)| {
        let (label, rest) = (&authority[..at], &authority[at + 1..]);
        let of = |name, namespace| rest.strip_prefix(name).map(|gateway| (label, namespace, gateway));
        of("ipfs.", Namespace::Ipfs).or_else(|| of("ipns.", Namespace::Ipns))
    })
}

/// The policy of a gateway that gives content origins of its own.
fn subdomains<'a>(gateway: &str, hosts: &'a Hosts) -> Option<&'a Policy> {
    hosts.find(gateway, name_of(gateway)).filter(|policy| policy.subdomains)
}

fn root_of(label: &str) -> Result<Cid, Refusal> {
    if label.len() > MAX_LABEL_BYTES {
        return Err(label_too_long(label));
    }
    cid::parse(label)
        .map_err(|error| Refusal::new(Failure::Invalid, format!("invalid CID in the host name: {error}")))
}

/// The label under which `root` has an origin: base32, or base36 where that is too long.
pub(crate) fn label(root: &Cid) -> Result<String, Refusal> {
    let root = root.into_v1().expect("a CID of version 0 converts to version 1");
    [Base::Base32Lower, Base::Base36Lower]
        .into_iter()
        .filter_map(|base| root.to_string_of_base(base).ok())
        .find(|label| label.len() <= MAX_LABEL_BYTES)
        .ok_or_else(|| label_too_long(&root.to_string()))
}

/// The label under which a name has an origin: base36 for a key, a domain inlined.
pub(crate) fn name_label(name: &str) -> Result<String, Refusal> {
    let label = match Name::parse(name) {
        Ok(name) => name.to_string(),
        Err(_) => inline(name),
    };
    if label.len() > MAX_LABEL_BYTES { Err(label_too_long(&label)) } else { Ok(label) }
}

/// A domain as one label, which a certificate for `*.ipns.{gateway}` covers.
///
/// Source: <https://specs.ipfs.tech/http-gateways/subdomain-gateway/#host-request-header>.
fn inline(domain: &str) -> String {
    if domain.contains('.') { domain.replace('-', "--").replace('.', "-") } else { domain.to_owned() }
}

/// The domain that a label can have been made of.
pub(crate) fn inlined_domain(label: &str) -> Option<String> {
    if label.contains('.') || !label.contains('-') {
        return None;
    }
    // No label holds a slash.
    Some(label.replace("--", "/").replace('-', ".").replace('/', "-"))
}

/// The domain of a host that may be a site by itself: neither an address nor this computer.
pub(crate) fn domain(authority: &str) -> Option<&str> {
    let name = name_of(authority);
    let is_domain = name.contains('.')
        && !name.starts_with('[')
        && name.parse::<IpAddr>().is_err()
        && !is_loopback(authority);
    is_domain.then_some(name)
}

fn label_too_long(label: &str) -> Refusal {
    // The conformance suite looks for this phrase.
    Refusal::new(
        Failure::Invalid,
        format!("CID incompatible with DNS label length limit of {MAX_LABEL_BYTES}: {label}"),
    )
}

/// Whether an authority names this machine: `localhost`, a name below it, or a loopback address.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let name = name_of(authority);
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name == "localhost"
        || name.ends_with(".localhost")
        || literal.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// Whether a client is on this computer or on a network that no one else is on: a container's gateway, a home.
pub(crate) fn is_near(client: IpAddr) -> bool {
    match client.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// The host without its port and without the dot of the root zone.
fn name_of(authority: &str) -> &str {
    let port =
        authority.rfind(':').filter(|at| authority[at + 1..].bytes().all(|byte| byte.is_ascii_digit()));
    let name = port.map_or(authority, |at| &authority[..at]);
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::HostPattern;

    // Source: Kubo, the empty directory in both versions.
    const CID_V0: &str = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";
    const CID_V1: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";

    fn hosts() -> Hosts {
        let policy = |subdomains| Policy { subdomains, ..Policy::default() };
        let mut hosts = Hosts::default();
        for (name, subdomains) in [("example.com", true), ("*.wild.org", true), ("path.org", false)] {
            hosts.named.push((HostPattern::new(name), policy(subdomains)));
        }
        hosts
    }

    #[test]
    fn the_policy_of_a_gateway_holds_for_the_hosts_below_it() {
        let hosts = hosts();
        for authority in
            ["example.com", "example.com.:80", "a.wild.org", "x.ipfs.example.com", "a.b.ipns.a.wild.org"]
        {
            assert!(policy(authority, &hosts).subdomains, "{authority}");
        }
        for authority in ["", "x.ipfs.path.org", "path.org", "wild.org", "a.b.wild.org", "x.example.com"] {
            assert!(!policy(authority, &hosts).subdomains, "{authority}");
        }
    }

    #[test]
    fn content_has_the_host_below_a_gateway_to_itself() {
        for suffix in ["localhost", "localhost:8080", "localhost.:8080", "example.com", "b.wild.org:1"] {
            let authority = format!("{CID_V1}.ipfs.{suffix}");
            let Site::Content { root, label, gateway } = site(&authority, &hosts()).unwrap() else {
                panic!("{authority} is not a content host")
            };
            assert_eq!((root.to_string().as_str(), label, gateway), (CID_V1, CID_V1, suffix));
        }
    }

    #[test]
    fn other_hosts_are_gateways_or_nothing() {
        for authority in ["localhost", "localhost:1", "example.com.", "a.wild.org"] {
            assert_eq!(site(authority, &hosts()), Ok(Site::Gateway), "{authority}");
        }
        for authority in [
            "",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "xlocalhost",
            "a.localhost",
            "ipfs.localhost",
            "a.ipfs.org",
            "a.ipfs.path.org",
            "path.org",
            "wild.org",
        ] {
            assert_eq!(site(authority, &hosts()), Ok(Site::Path), "{authority}");
        }
        for (authority, label, gateway) in
            [("k51.ipns.localhost", "k51", "localhost"), ("a.b.ipns.example.com:1", "a.b", "example.com:1")]
        {
            assert_eq!(site(authority, &hosts()), Ok(Site::Name { label, gateway }));
        }
    }

    #[test]
    fn domains_are_inlined_and_read_back() {
        // Source: subdomain-gateway specification, Host header.
        let (domain, label) = ("en.wikipedia-on-ipfs.org", "en-wikipedia--on--ipfs-org");
        assert_eq!(name_label(domain).as_deref(), Ok(label));
        assert_eq!(inlined_domain(label).as_deref(), Some(domain));
        assert_eq!(inlined_domain(domain), None);
        assert_eq!(inlined_domain("word"), None);
        let long = format!("{}.example", "x".repeat(60));
        assert_eq!(name_label(&long).unwrap_err().failure, Failure::Invalid);
        let key = "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK";
        assert!(name_label(key).unwrap().starts_with("k51"));
    }

    #[test]
    fn a_site_by_itself_has_a_domain() {
        for (authority, expected) in [
            ("example.org", Some("example.org")),
            ("a.example.org.:8080", Some("a.example.org")),
            ("localhost", None),
            ("x.localhost:1", None),
            ("127.0.0.1:80", None),
            ("192.0.2.1", None),
            ("[2001:db8::1]:80", None),
            ("intranet", None),
            ("", None),
        ] {
            assert_eq!(domain(authority), expected, "{authority}");
        }
    }

    #[test]
    fn a_host_that_holds_no_cid_is_an_error() {
        for label in ["x", "a.b", &CID_V0.to_ascii_lowercase()] {
            let refusal = site(&format!("{label}.ipfs.localhost"), &hosts()).unwrap_err();
            assert_eq!(refusal.failure, Failure::Invalid, "{label}");
        }
    }

    #[test]
    fn a_label_is_base32_and_of_version_1() {
        assert_eq!(label(&cid::parse(CID_V0).unwrap()).unwrap(), CID_V1);
    }

    #[test]
    fn a_label_of_63_bytes_passes_and_one_of_64_is_refused() {
        // An identity CID grows by its content: base36 needs 63 characters for 38 bytes of it.
        let cid = |len| Cid::new_v1(cid::RAW, cid::Multihash::wrap(cid::IDENTITY, &vec![0xff; len]).unwrap());
        let longest = (1..60).take_while(|len| label(&cid(*len)).is_ok()).last().unwrap();
        assert!(label(&cid(longest)).unwrap().len() <= MAX_LABEL_BYTES);
        let refusal = label(&cid(longest + 1)).unwrap_err();
        assert!(
            refusal.message.contains("CID incompatible with DNS label length limit of 63"),
            "{refusal:?}"
        );
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        for authority in [
            "localhost",
            "localhost:8080",
            "x.ipfs.localhost:1",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8443",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(authority), "{authority}");
        }
        for authority in ["", "localhost:1", "x.ipfs.localhost", "192.0.2.1:80", "[2001:db8::1]", "router"] {
            assert_eq!(domain(authority), None, "{authority}");
        }
        assert_eq!(domain("a.example.com.:80"), Some("a.example.com"));
        for authority in
            ["", "example.com", "localhost.example.com", "10.0.0.1", "[fe80::1]:1", "notlocalhost"]
        {
            assert!(!is_loopback(authority), "{authority}");
        }
    }
}
