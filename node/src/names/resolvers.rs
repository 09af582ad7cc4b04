//! Which resolver knows the names below a domain: that of this computer, or one over HTTPS.
//!
//! Some domains end in names that the public DNS does not have, such as `.eth`.

use std::net::IpAddr;
use std::str::FromStr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use http::Uri;
use rustls::ClientConfig;
use tokio::sync::OnceCell;

use crate::{Error, Kind, Result};

/// A resolver that is asked over HTTPS. Source: RFC 8484.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DohServer {
    host: String,
    port: u16,
    path: String,
}

impl FromStr for DohServer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse =
            || Error::invalid(format!("not the URL of a resolver, want https://host/path, got {text:?}"));
        let uri: Uri = text.parse().map_err(|_| refuse())?;
        let (Some("https"), Some(host), None) = (uri.scheme_str(), uri.host(), uri.query()) else {
            return Err(refuse());
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(443), path: uri.path().to_owned() })
    }
}

/// The resolvers of a node.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    /// By the domain that they are for, without dots around it; that of the root is empty.
    special: Vec<(String, DohServer, OnceCell<TokioResolver>)>,
    /// Made by the first look-up, so that a node that needs no DNS reads no configuration of it.
    system: OnceCell<TokioResolver>,
    /// Whom to trust, where it is not whom this computer trusts.
    tls: Option<ClientConfig>,
}

impl Resolvers {
    /// The resolver of this computer, and others for the names below some domains.
    pub(super) fn new(special: Vec<(String, DohServer)>, tls: Option<ClientConfig>) -> Self {
        let normal = |domain: String| domain.trim_matches('.').to_ascii_lowercase();
        let mut special: Vec<_> =
            special.into_iter().map(|(domain, server)| (normal(domain), server, OnceCell::new())).collect();
        // The longest domain that matches comes first.
        special.sort_by_key(|(domain, ..)| std::cmp::Reverse(domain.len()));
        Self { special, system: OnceCell::new(), tls }
    }

    /// The resolver that knows the names below a lower-case domain.
    pub(super) async fn of(&self, domain: &str) -> Result<&TokioResolver> {
        let found = self.special.iter().find(|(suffix, ..)| is_below(domain, suffix));
        match found {
            Some((_, server, resolver)) => resolver.get_or_try_init(|| self.over_https(server)).await,
            None => self.system().await,
        }
    }

    async fn system(&self) -> Result<&TokioResolver> {
        self.system
            .get_or_try_init(|| async {
                TokioResolver::builder_tokio().map_err(unusable)?.build().map_err(unusable)
            })
            .await
    }

    /// A resolver over HTTPS. Its own address is asked of the computer's resolver.
    async fn over_https(&self, server: &DohServer) -> Result<TokioResolver> {
        let addresses: Vec<IpAddr> = match server.host.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let found =
                    self.system().await?.lookup_ip(format!("{}.", server.host)).await.map_err(unusable)?;
                found.iter().collect()
            }
        };
        let servers = addresses.into_iter().map(|address| {
            let mut connection =
                ConnectionConfig::https(server.host.as_str().into(), Some(server.path.as_str().into()));
            connection.port = server.port;
            NameServerConfig::new(address, true, vec![connection])
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        if let Some(tls) = &self.tls {
            builder = builder.with_tls_config(tls.clone());
        }
        builder.build().map_err(unusable)
    }
}

fn is_below(domain: &str, suffix: &str) -> bool {
    suffix.is_empty()
        || domain.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn unusable(error: hickory_resolver::net::NetError) -> Error {
    Error::new(Kind::Unavailable, "a resolver of domains cannot be used").with_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_has_an_https_url() {
        let server: DohServer = "https://dns.example:444/a/b".parse().unwrap();
        assert_eq!(server, DohServer { host: "dns.example".into(), port: 444, path: "/a/b".into() });
        let server: DohServer = "https://[2001:db8::1]/dns-query".parse().unwrap();
        assert_eq!((server.host.as_str(), server.port), ("2001:db8::1", 443));
        for text in ["", "dns.example", "http://dns.example/dns-query", "https:///x", "https://a/?x=1"] {
            assert!(text.parse::<DohServer>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_suffix_ends_at_a_dot() {
        assert!(is_below("vitalik.eth", "eth") && is_below("eth", "eth") && is_below("a.b", ""));
        assert!(!is_below("teeth", "eth") && !is_below("eth.link", "eth"));
    }
}
