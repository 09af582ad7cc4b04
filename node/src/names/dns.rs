//! DNSLink: what a domain's TXT records, or the operator, say that it leads to.
//!
//! Source: <https://dnslink.dev/>, <https://specs.ipfs.tech/http-gateways/dnslink-gateway/>.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Instant;

use cairn_proto::content::Target;
use cairn_proto::path::ContentPath;
use hickory_resolver::proto::rr::RData;
use rustls::ClientConfig;

use super::resolvers::{DohServer, Resolvers};
use crate::{Error, Kind, Result};

/// Longest domain name, in bytes. Source: RFC 1035 §2.3.4.
const MAX_DOMAIN_BYTES: usize = 253;

/// What domains lead to whatever the DNS says: `domain:path`, separated by commas.
///
/// Source: Kubo `docs/environment-variables.md`, `IPFS_NS_MAP`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameMap(BTreeMap<String, ContentPath>);

impl FromStr for NameMap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (domain, path) = pair
                .split_once(':')
                .ok_or_else(|| Error::invalid(format!("want domain:path in a map of names, got {pair:?}")))?;
            Ok((normal(domain), ContentPath::parse(path)?))
        });
        Ok(Self(pairs.collect::<Result<_>>()?))
    }
}

/// Where domains are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// What counts before the DNS.
    pub map: NameMap,
    /// Resolvers for the names below some domains; this computer's knows the others.
    pub resolvers: Vec<(String, DohServer)>,
}

/// Looks domains up.
#[derive(Debug, Default)]
pub struct Dns {
    map: NameMap,
    resolvers: Resolvers,
}

impl Dns {
    /// Look-ups as the settings say. `tls` says whom a resolver over HTTPS is trusted by, in place of this computer's list.
    pub fn new(settings: DnsSettings, tls: Option<ClientConfig>) -> Self {
        Self { map: settings.map, resolvers: Resolvers::new(settings.resolvers, tls) }
    }

    /// What a domain leads to.
    pub(super) async fn look_up(&self, domain: &str, is_offline: bool) -> Result<Target> {
        let domain = normal(domain);
        if let Some(path) = self.map.0.get(&domain) {
            return Ok(Target { path: path.clone(), fresh_for: None });
        }
        if !is_domain(&domain) {
            return Err(Error::invalid(format!("neither an IPNS key nor a domain, name={domain:?}")));
        }
        if is_offline {
            return Err(Error::new(Kind::NotLocal, format!("the DNS is not asked offline, domain={domain}")));
        }
        let resolver = self.resolvers.of(&domain).await?;
        // The dot at the end keeps the search list of this computer out of it.
        let answer = resolver.txt_lookup(format!("_dnslink.{domain}.")).await;
        let answer = answer.map_err(|error| {
            let kind = if error.is_no_records_found() { Kind::NotFound } else { Kind::Unavailable };
            Error::new(kind, format!("no DNSLink record found, domain={domain}")).with_cause(error)
        })?;
        let texts = answer.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        let path = link_of(texts).ok_or_else(|| {
            Error::not_found(format!("no TXT record of the domain is a DNSLink, domain={domain}"))
        })?;
        Ok(Target { path, fresh_for: Some(answer.valid_until().saturating_duration_since(Instant::now())) })
    }
}

/// The path of the first link; of several the lowest text counts, so that every resolver decides alike.
fn link_of(texts: impl Iterator<Item = Vec<u8>>) -> Option<ContentPath> {
    let texts = texts.filter_map(|text| String::from_utf8(text).ok());
    let paths = texts.filter_map(|text| {
        let path = text.strip_prefix("dnslink=")?.trim_end();
        let path = path.starts_with('/').then(|| ContentPath::parse(path).ok())??;
        Some((text, path))
    });
    paths.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, path)| path)
}

fn normal(domain: &str) -> String {
    domain.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether a text can be looked up: at least two labels, none of them empty, too long or of other characters.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= MAX_DOMAIN_BYTES && text.contains('.') && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    fn link(texts: &[&str]) -> Option<String> {
        link_of(texts.iter().map(|text| text.as_bytes().to_vec())).map(|path| path.to_string())
    }

    #[test]
    fn a_link_is_a_path_behind_its_word() {
        let path = format!("/ipfs/{CID}/a");
        assert_eq!(link(&["v=spf1", &format!("dnslink={path}")]), Some(path));
        assert_eq!(link(&["dnslink=/ipns/example.com"]), Some("/ipns/example.com".to_owned()));
        for text in [
            "",
            "dnslink=",
            "dnslink=/ipfs/x",
            "dnslink=/http/x",
            &format!("dnslink={CID}"),
            "DNSLINK=/ipns/a.b",
        ] {
            assert_eq!(link(&[text]), None, "{text}");
        }
        let (a, b) = ("dnslink=/ipns/a.example", "dnslink=/ipns/b.example");
        assert_eq!(link(&[a, b]), link(&[b, a]));
    }

    #[test]
    fn a_map_is_read_and_holds_before_the_dns() {
        let map: NameMap = format!("Example.com:/ipfs/{CID}, b.example:/ipns/example.com,").parse().unwrap();
        assert_eq!(map.0.keys().collect::<Vec<_>>(), ["b.example", "example.com"]);
        for bad in ["example.com", "example.com:", "example.com:/ipfs/x"] {
            assert!(bad.parse::<NameMap>().is_err(), "{bad}");
        }
    }

    #[test]
    fn domains_have_two_labels_or_more() {
        for text in ["a.b", "xn--bcher-kva.example", "_x.a.b", "1.2.3.4"] {
            assert!(is_domain(text), "{text}");
        }
        for text in ["", "a", ".a", "a.", "a..b", "a b.c", "ü.example", &format!("{}.a", "x".repeat(64))] {
            assert!(!is_domain(text), "{text}");
        }
    }
}
