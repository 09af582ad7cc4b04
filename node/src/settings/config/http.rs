//! The keys that the HTTP servers read, as plain values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use libp2p::Multiaddr;
use multibase::Base;
use serde::Deserialize;

use super::{Config, defaults, invalid};
use crate::error::Result;
use crate::settings::units::parse_duration;

/// Settings of the RPC server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcSettings {
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Origins of web pages that may call besides the server's own, `*` for every one.
    pub allowed_origins: Vec<String>,
    /// Names besides `localhost` that the server may be called by; an address needs none.
    pub allowed_hosts: Vec<String>,
    /// Who may call what; everyone everything when empty.
    pub authorizations: Vec<Authorization>,
}

/// One caller of the RPC.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Value of the `Authorization` header that proves who calls.
    pub header: String,
    /// Path prefixes that this caller may use.
    pub allowed_paths: Vec<String>,
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authorization({:?})", self.allowed_paths)
    }
}

/// Settings of the gateway's listeners and of what it may fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Addresses for HTTP.
    pub listen: Vec<Multiaddr>,
    /// Addresses for HTTPS.
    pub listen_tls: Vec<Multiaddr>,
    /// Certificate chain and key as PEM files; `None` for a certificate of the local CA.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Serve what is in the store only (`true`), or fetch for everybody (`false`); `None` to fetch for this computer.
    pub no_fetch: Option<bool>,
    /// Host names under which every content gets an origin of its own.
    pub subdomain_hosts: Vec<String>,
    /// Longest wait for content, `None` for the gateway's own default.
    pub retrieval_timeout: Option<Duration>,
    /// Requests answered at the same time, `None` for the gateway's own default.
    pub max_requests: Option<usize>,
}

impl Config {
    /// What the RPC server is built from.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`], naming the key whose value is wrong.
    pub fn rpc(&self) -> Result<RpcSettings> {
        let headers: BTreeMap<String, Vec<String>> = self.read("API.HTTPHeaders")?.unwrap_or_default();
        let origins =
            headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("Access-Control-Allow-Origin"));
        Ok(RpcSettings {
            listen: self.addresses("Addresses.API", defaults::API)?,
            allowed_origins: origins.map(|(_, origins)| origins).unwrap_or_default(),
            allowed_hosts: self.read("API.AllowedHosts")?.unwrap_or_default(),
            authorizations: self.authorizations()?,
        })
    }

    /// What the gateway's listeners are built from.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`], naming the key whose value is wrong.
    pub fn gateway(&self) -> Result<GatewaySettings> {
        let file = |key| self.read_with(key, |text| Ok::<_, String>(PathBuf::from(text)));
        let certificate = match (file("Gateway.TLS.Certificate")?, file("Gateway.TLS.Key")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(invalid("Gateway.TLS.Key", "the key of Gateway.TLS.Certificate is missing"));
            }
            (None, Some(_)) => {
                return Err(invalid(
                    "Gateway.TLS.Certificate",
                    "the certificate of Gateway.TLS.Key is missing",
                ));
            }
        };
        Ok(GatewaySettings {
            listen: self.addresses("Addresses.Gateway", defaults::GATEWAY)?,
            listen_tls: self.addresses("Addresses.GatewayTLS", defaults::GATEWAY_TLS)?,
            certificate,
            no_fetch: self.read("Gateway.NoFetch")?,
            subdomain_hosts: self.subdomain_hosts()?,
            retrieval_timeout: self.read_with("Gateway.RetrievalTimeout", parse_duration)?,
            max_requests: self.read("Gateway.MaxConcurrentRequests")?,
        })
    }

    /// `localhost`, unless it is set to null, and every host of `Gateway.PublicGateways` with `UseSubdomains`.
    ///
    /// Source: Kubo `docs/config.md`, `Gateway.PublicGateways`.
    fn subdomain_hosts(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Host {
            #[serde(default)]
            use_subdomains: bool,
        }
        let key = "Gateway.PublicGateways";
        let hosts: BTreeMap<String, Option<Host>> = self.read(key)?.unwrap_or_default();
        let localhost = (!hosts.contains_key("localhost")).then(|| "localhost".to_owned());
        let named =
            hosts.into_iter().filter(|(_, host)| host.as_ref().is_some_and(|host| host.use_subdomains));
        Ok(localhost.into_iter().chain(named.map(|(name, _)| name.to_ascii_lowercase())).collect())
    }

    /// A text, a list of texts, or `default` when the key is missing; null and an empty text or list mean no address.
    fn addresses(&self, key: &str, default: &str) -> Result<Vec<Multiaddr>> {
        match self.get(key) {
            None => Ok(vec![default.parse().map_err(|error| invalid(key, error))?]),
            Some(serde_json::Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(_) => self.read_list(key, Multiaddr::from_str),
        }
    }

    fn authorizations(&self) -> Result<Vec<Authorization>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Scope {
            auth_secret: String,
            #[serde(default)]
            allowed_paths: Vec<String>,
        }
        let key = "API.Authorizations";
        let scopes: BTreeMap<String, Scope> = self.read(key)?.unwrap_or_default();
        scopes
            .into_iter()
            .map(|(name, scope)| {
                let header = authorization_header(&scope.auth_secret)
                    .map_err(|error| invalid(&format!("{key}.{name}.AuthSecret"), error))?;
                Ok(Authorization { header, allowed_paths: scope.allowed_paths })
            })
            .collect()
    }
}

/// The `Authorization` header of a secret: `bearer:token`, `basic:user:password`, `basic:base64` or a bare token.
///
/// Source: Kubo `docs/config.md`, `API.Authorizations: AuthSecret`.
///
/// # Errors
/// A secret that is empty or of another kind.
pub fn authorization_header(secret: &str) -> Result<String, String> {
    match secret.split_once(':') {
        None if secret.is_empty() => Err("the secret is empty".to_owned()),
        None => Ok(format!("Bearer {secret}")),
        Some(("bearer", token)) => Ok(format!("Bearer {token}")),
        Some(("basic", pair)) if pair.contains(':') => Ok(format!("Basic {}", Base::Base64Pad.encode(pair))),
        Some(("basic", encoded)) => Ok(format!("Basic {encoded}")),
        Some(_) => Err("a secret starts with bearer: or basic:".to_owned()),
    }
}
