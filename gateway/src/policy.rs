//! What an operator decides for each host, and which host a name is. Pure.

use http::HeaderMap;

/// Settings of the hosts that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Every content gets an origin of its own, `{cid}.ipfs.{host}`, and a path request is redirected there.
    pub subdomains: bool,
    /// Serve `/ipfs`.
    pub ipfs: bool,
    /// Serve `/ipns`.
    pub ipns: bool,
    /// Serve a host that is a site by itself: a domain with a DNSLink.
    pub dnslink: bool,
    /// Serve files, directories and data as browsers see them, and not only what a client can verify.
    pub deserialized: bool,
    /// For whom content may be fetched from peers.
    pub fetch: Fetch,
    /// Headers of every response, in place of those of the same name.
    pub headers: HeaderMap,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            subdomains: false,
            ipfs: true,
            ipns: true,
            dnslink: true,
            deserialized: true,
            fetch: Fetch::default(),
            headers: HeaderMap::new(),
        }
    }
}

/// For whom content may be fetched from peers; the others get what is in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fetch {
    /// Requests whose host is `localhost`, a name below it, or a loopback address, and whose client is on this computer or
    /// its networks: the user of this machine.
    ///
    /// A gateway that fetches for everybody gets its whole domain onto blocking lists.
    #[default]
    Loopback,
    /// Everybody.
    Always,
    /// Nobody.
    Never,
}

/// The name of one host, or of several: `*` stands for one or more characters of a label. With a port it is for requests
/// to that port alone.
///
/// Source: Kubo `docs/config.md`, `Gateway.PublicGateways`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// The hosts of that name.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase())
    }

    /// Whether a lower-case `authority` is one of them. `name` is the authority without its port.
    pub(crate) fn matches(&self, authority: &str, name: &str) -> bool {
        [authority, name].iter().any(|text| matches(self.0.as_bytes(), text.as_bytes()))
    }
}

/// Backtracks to the last star only, so it takes time in proportion to the product of the lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') if text[from] != b'.' => {
                star = Some((at, from + 1));
                (at, from) = (at + 1, from + 1);
            }
            Some(byte) if *byte == text[from] => (at, from) = (at + 1, from + 1),
            _ => {
                let Some((star_at, end)) = star else { return false };
                if text[end] == b'.' {
                    return false;
                }
                star = Some((star_at, end + 1));
                (at, from) = (star_at + 1, end + 1);
            }
        }
    }
    pattern.len() == at
}

/// The policies of all hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Hosts with a policy of their own; the first that matches counts.
    pub named: Vec<(HostPattern, Policy)>,
    /// The policy of every other host.
    pub others: Policy,
}

impl Default for Hosts {
    fn default() -> Self {
        let localhost = Policy { subdomains: true, ..Policy::default() };
        Self { named: vec![(HostPattern::new("localhost"), localhost)], others: Policy::default() }
    }
}

impl Hosts {
    /// The policy of a host that has one of its own.
    pub(crate) fn find(&self, authority: &str, name: &str) -> Option<&Policy> {
        self.named.iter().find(|(pattern, _)| pattern.matches(authority, name)).map(|(_, policy)| policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_characters_of_one_label() {
        // Source: the examples of Kubo's documentation, and boxo `gateway/hostname_test.go`.
        for (pattern, yes, no) in [
            ("example.com", vec!["example.com"], vec!["xexample.com", "example.com.org", ""]),
            (
                "*.example.com",
                vec!["foo.example.com"],
                vec!["example.com", "a.b.example.com", ".example.com"],
            ),
            ("foo-*.example.com", vec!["foo-bar.example.com"], vec!["foo.example.com", "foo-.example.com"]),
            ("*.*.example.com", vec!["a.b.example.com"], vec!["a.example.com"]),
            ("a*b*c", vec!["a1b2c", "axbxbxc"], vec!["abc", "a1b2", "a.b.c", "a1b2cd"]),
            ("*", vec!["a"], vec!["a.b", ""]),
        ] {
            for name in yes {
                assert!(HostPattern::new(pattern).matches(name, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!HostPattern::new(pattern).matches(name, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_pattern_with_a_port_is_for_that_port() {
        let pattern = HostPattern::new("Example.com:8443");
        assert!(pattern.matches("example.com:8443", "example.com"));
        assert!(!pattern.matches("example.com:80", "example.com"));
        assert!(HostPattern::new("example.com").matches("example.com:80", "example.com"));
    }
}
