//! The keys that the HTTP servers read, as plain values.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use ipnet::IpNet;
use libp2p::Multiaddr;
use multibase::Base;
use serde::Deserialize;

use super::{Config, defaults, invalid};
use crate::error::Result;
use crate::settings::units::parse_duration;

/// Share of the memory budget that the gateway gets for what is asked for often: an eighth.
const CACHE_SHARE: u64 = 8;

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
    /// Addresses for numbers, health and readiness.
    pub listen_admin: Vec<Multiaddr>,
    /// How long the gateway says that it is not ready before it stops.
    pub drain_delay: Duration,
    /// Longest time that requests get to finish on shutdown, `None` for the gateway's own default.
    pub drain_timeout: Option<Duration>,
    /// Certificate chain and key as PEM files; `None` for a certificate of the local CA.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Certificates from a certificate authority.
    pub acme: Option<AcmeSettings>,
    /// Send browsers that come without TLS to the same URL with it.
    pub redirect_to_https: bool,
    /// How long browsers shall come with TLS only.
    pub hsts: Option<Duration>,
    /// What each host is for; the first whose name matches counts.
    pub hosts: Vec<(String, HostSettings)>,
    /// What every other host is for.
    pub others: HostSettings,
    /// Networks of proxies that tell who asks, as an address or `10.0.0.0/8`.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest wait for content, `None` for the gateway's own default.
    pub retrieval_timeout: Option<Duration>,
    /// Requests answered at the same time, `None` for the gateway's own default.
    pub max_requests: Option<usize>,
    /// Longest time of one response, `None` for the gateway's own default.
    pub max_request_duration: Option<Duration>,
    /// Requests a second of one client, and at once; `None` for any number.
    pub rate_limit: Option<(u32, u32)>,
    /// Largest file that is served as a file, in bytes.
    pub max_file_bytes: Option<u64>,
    /// Largest content that is served as more than a block, in bytes.
    pub max_content_bytes: Option<u64>,
    /// Largest file of which ranges are served, in bytes.
    pub max_range_file_bytes: Option<u64>,
    /// Answer questions of the routing API.
    pub expose_routing: bool,
    /// Most rows of a listing, `None` for the gateway's own default.
    pub max_listing_rows: Option<u64>,
    /// Memory for what is asked for often, in bytes.
    pub cache_bytes: u64,
}

/// Certificates from a certificate authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// URL of its directory, `None` for the gateway's own default.
    pub directory: Option<String>,
    /// Mail address that it may write to.
    pub email: Option<String>,
    /// Names that get a certificate at the start.
    pub domains: Vec<String>,
    /// Names that get one when the first client asks.
    pub on_demand: Vec<String>,
    /// Orders on demand in an hour, `None` for the gateway's own default.
    pub on_demand_per_hour: Option<u32>,
    /// PEM file of the only root to trust in talking to it.
    pub root: Option<PathBuf>,
}

/// What the gateway does for some hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// Every content gets an origin of its own.
    pub use_subdomains: bool,
    /// Serve `/ipfs`.
    pub ipfs: bool,
    /// Serve `/ipns`.
    pub ipns: bool,
    /// Serve a host that is a site by itself: a domain with a DNSLink.
    pub dnslink: bool,
    /// Serve more than what a client can verify.
    pub deserialized: bool,
    /// Serve what is in the store only (`true`), or fetch for everybody (`false`); `None` to fetch for this computer.
    pub no_fetch: Option<bool>,
    /// Headers of every response.
    pub headers: BTreeMap<String, Vec<String>>,
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
        let acme = self.acme()?;
        let hsts = self.read_with("Gateway.TLS.HSTS", parse_duration)?;
        let has_certificate = acme.is_some() || certificate.is_some();
        Ok(GatewaySettings {
            redirect_to_https: self.read("Gateway.TLS.Redirect")?.unwrap_or(acme.is_some()),
            hsts: hsts.or(has_certificate.then_some(defaults::HSTS)).filter(|age| !age.is_zero()),
            acme,
            listen: self.addresses("Addresses.Gateway", defaults::GATEWAY)?,
            listen_tls: self.addresses("Addresses.GatewayTLS", defaults::GATEWAY_TLS)?,
            listen_admin: self.read_list("Addresses.GatewayAdmin", Multiaddr::from_str)?,
            drain_delay: self.read_with("Gateway.DrainDelay", parse_duration)?.unwrap_or_default(),
            drain_timeout: self.read_with("Gateway.DrainTimeout", parse_duration)?,
            certificate,
            hosts: self.hosts()?,
            others: self.other_hosts()?,
            trusted_proxies: self.read_list("Gateway.TrustedProxies", network)?,
            retrieval_timeout: self.read_with("Gateway.RetrievalTimeout", parse_duration)?,
            max_requests: self.read("Gateway.MaxConcurrentRequests")?,
            max_request_duration: self.read_with("Gateway.MaxRequestDuration", parse_duration)?,
            rate_limit: self.rate_limit()?,
            max_file_bytes: self.size_limit("Gateway.MaxDeserializedResponseSize")?,
            max_content_bytes: self.size_limit("Gateway.MaxUnixFSDAGResponseSize")?,
            max_range_file_bytes: self.size_limit("Gateway.MaxRangeRequestFileSize")?,
            expose_routing: self.read("Gateway.ExposeRoutingAPI")?.unwrap_or(true),
            max_listing_rows: self.read("Gateway.MaxListingRows")?,
            cache_bytes: self.max_memory_bytes()? / CACHE_SHARE,
        })
    }

    fn acme(&self) -> Result<Option<AcmeSettings>> {
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        let acme = AcmeSettings {
            directory: self.read_with("Gateway.TLS.ACME.Directory", text)?,
            email: self.read_with("Gateway.TLS.ACME.Email", text)?,
            domains: self.read_list("Gateway.TLS.ACME.Domains", text)?,
            on_demand: self.read_list("Gateway.TLS.ACME.OnDemand", text)?,
            on_demand_per_hour: self.read("Gateway.TLS.ACME.OnDemandPerHour")?,
            root: self.read_with("Gateway.TLS.ACME.Root", text)?.map(PathBuf::from),
        };
        let is_wanted = !(acme.domains.is_empty() && acme.on_demand.is_empty());
        Ok(is_wanted.then_some(acme))
    }

    /// A burst is ten seconds' worth unless it is set.
    fn rate_limit(&self) -> Result<Option<(u32, u32)>> {
        let burst = self.read("Gateway.RateLimit.Burst")?;
        let per_second = self.read::<u32>("Gateway.RateLimit.RequestsPerSecond")?.filter(|rate| *rate > 0);
        Ok(per_second.map(|rate| (rate, burst.unwrap_or(rate.saturating_mul(10)))))
    }

    /// Zero stands for no limit, as in Kubo.
    fn size_limit(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.read_size(key)?.filter(|size| *size > 0))
    }

    fn other_hosts(&self) -> Result<HostSettings> {
        Ok(HostSettings {
            use_subdomains: false,
            ipfs: true,
            ipns: true,
            dnslink: !self.read("Gateway.NoDNSLink")?.unwrap_or(false),
            deserialized: self.read("Gateway.DeserializedResponses")?.unwrap_or(true),
            no_fetch: self.read("Gateway.NoFetch")?,
            headers: self.read("Gateway.HTTPHeaders")?.unwrap_or_default(),
        })
    }

    /// Every host of `Gateway.PublicGateways`, those without stars first, and `localhost` unless it is set to null.
    ///
    /// Source: Kubo `docs/config.md`, `Gateway.PublicGateways`.
    fn hosts(&self) -> Result<Vec<(String, HostSettings)>> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Host {
            paths: Option<Vec<String>>,
            use_subdomains: Option<bool>,
            #[serde(rename = "NoDNSLink")]
            no_dnslink: Option<bool>,
            deserialized_responses: Option<bool>,
            no_fetch: Option<bool>,
            #[serde(rename = "HTTPHeaders")]
            http_headers: BTreeMap<String, Vec<String>>,
        }
        let key = "Gateway.PublicGateways";
        let mut hosts: BTreeMap<String, Option<Host>> = self.read(key)?.unwrap_or_default();
        let localhost = hosts.entry("localhost".to_owned()).or_insert_with(|| Some(Host::default()));
        if let Some(localhost) = localhost {
            localhost.paths.get_or_insert_with(|| NAMESPACES.map(str::to_owned).to_vec());
            localhost.use_subdomains.get_or_insert(true);
        }
        let others = self.other_hosts()?;
        let mut settings = Vec::new();
        for (name, host) in hosts {
            let Some(host) = host else { continue };
            let paths = host.paths.unwrap_or_default();
            if let Some(path) = paths.iter().find(|path| !NAMESPACES.contains(&path.trim_end_matches('/'))) {
                let reason = format!("Paths can hold /ipfs and /ipns, not {path:?}, host={name}");
                return Err(invalid(key, reason));
            }
            let has = |namespace| paths.iter().any(|path| path.trim_end_matches('/') == namespace);
            let host = HostSettings {
                use_subdomains: host.use_subdomains.unwrap_or(false),
                ipfs: has("/ipfs"),
                ipns: has("/ipns"),
                dnslink: host.no_dnslink.map_or(others.dnslink, |without| !without),
                deserialized: host.deserialized_responses.unwrap_or(others.deserialized),
                no_fetch: host.no_fetch.or(others.no_fetch),
                headers: others.headers.clone().into_iter().chain(host.http_headers).collect(),
            };
            settings.push((name, host));
        }
        settings.sort_by_key(|(name, _)| name.contains('*'));
        Ok(settings)
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

/// What a host can serve.
const NAMESPACES: [&str; 2] = ["/ipfs", "/ipns"];

/// A network, or the network of a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse()
        .ok()
        .or_else(single)
        .ok_or_else(|| format!("not an address or a network as 10.0.0.0/8: {text:?}"))
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
