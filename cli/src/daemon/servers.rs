//! The listeners of the RPC and the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cairn_gateway::tls::{AcmeSettings, Tls, TlsSettings};
use cairn_gateway::{
    Fetch, Gateway, HostPattern, Hosts, Policy, Rate, ServerSettings, Settings, serve_http, serve_https,
};
use cairn_node::Node;
use cairn_node::settings::config::Config;
use cairn_node::settings::config::http::{GatewaySettings, HostSettings};
use cairn_rpc::Repo;
use cairn_rpc::address::{HostPort, multiaddr};
use cairn_rpc::server;
use http::{HeaderMap, HeaderName};
use libp2p::Multiaddr;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::terminal::print_line;

/// Folder of the local certificate authority in a repo.
const TLS_FOLDER: &str = "tls";

/// Every socket that the daemon listens on for HTTP.
#[derive(Debug)]
pub(super) struct Bound {
    api: Vec<TcpListener>,
    gateway: Vec<TcpListener>,
    gateway_tls: Vec<TcpListener>,
    gateway_admin: Vec<TcpListener>,
}

impl Bound {
    /// Binds what the configuration says.
    ///
    /// # Errors
    /// A port in use, naming the key to change.
    pub(super) async fn bind(config: &Config) -> Result<Self> {
        let gateway = config.gateway()?;
        Ok(Self {
            api: bind_all("Addresses.API", &config.rpc()?.listen).await?,
            gateway: bind_all("Addresses.Gateway", &gateway.listen).await?,
            gateway_tls: bind_all("Addresses.GatewayTLS", &gateway.listen_tls).await?,
            gateway_admin: bind_all("Addresses.GatewayAdmin", &gateway.listen_admin).await?,
        })
    }
}

async fn bind_all(key: &str, addresses: &[Multiaddr]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let host = HostPort::from_multiaddr(address).with_context(|| {
            format!("cannot listen on {address}: not an address and a TCP port, key={key}")
        })?;
        let listener = TcpListener::bind(host.to_pair()).await.with_context(|| {
            format!("cannot listen on {address}; choose another port with `cairn config {key} /ip4/127.0.0.1/tcp/PORT`")
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The servers while they run.
#[derive(Debug)]
pub(super) struct Servers {
    api: Vec<SocketAddr>,
    gateway: Vec<SocketAddr>,
    gateway_tls: Vec<SocketAddr>,
    gateway_admin: Vec<SocketAddr>,
    ca: Option<PathBuf>,
    handler: Gateway,
    tasks: JoinSet<()>,
}

impl Servers {
    /// Serves on bound sockets until `shutdown` is cancelled.
    ///
    /// # Errors
    /// Certificates that cannot be read or made.
    pub(super) fn start(
        bound: Bound,
        repo: Arc<Repo>,
        config: &Config,
        node: &Node,
        shutdown: &CancellationToken,
    ) -> Result<Self> {
        let settings = config.gateway()?;
        let tls = match bound.gateway_tls.is_empty() {
            false => Some(Tls::open(tls_settings(&settings, repo.path().join(TLS_FOLDER)))?),
            true => None,
        };
        let mut servers = Self {
            api: addresses(&bound.api)?,
            gateway: addresses(&bound.gateway)?,
            gateway_tls: addresses(&bound.gateway_tls)?,
            gateway_admin: addresses(&bound.gateway_admin)?,
            ca: tls.as_ref().map(|tls| tls.ca_path().to_owned()),
            handler: Gateway::new(node.content(), gateway_settings(&settings)?, tls.clone()),
            tasks: JoinSet::new(),
        };
        let api = server::router(repo, config.rpc()?);
        for listener in bound.api {
            servers.tasks.spawn(server::serve(listener, api.clone(), shutdown.clone()));
        }
        let listeners = (bound.gateway, bound.gateway_tls, bound.gateway_admin);
        servers.start_gateway(listeners, &settings, tls, shutdown);
        Ok(servers)
    }

    fn start_gateway(
        &mut self,
        (plain, encrypted, private): (Vec<TcpListener>, Vec<TcpListener>, Vec<TcpListener>),
        settings: &GatewaySettings,
        tls: Option<Tls>,
        shutdown: &CancellationToken,
    ) {
        let default = ServerSettings::default();
        let server = ServerSettings {
            drain_timeout: settings.drain_timeout.unwrap_or(default.drain_timeout),
            ..default
        };
        for listener in private {
            let router = cairn_gateway::admin(&self.handler);
            self.tasks.spawn(serve_http(listener, router, server.clone(), shutdown.clone()));
        }
        let router = self.handler.router();
        let answering = tls.as_ref().map_or_else(|| router.clone(), |tls| tls.answering(router.clone()));
        for listener in plain {
            self.tasks.spawn(serve_http(listener, answering.clone(), server.clone(), shutdown.clone()));
        }
        let Some(tls) = tls else { return };
        for listener in encrypted {
            let serving =
                serve_https(listener, router.clone(), server.clone(), tls.clone(), shutdown.clone());
            self.tasks.spawn(serving);
        }
        let renewing = tls.run(shutdown.clone());
        self.tasks.spawn(async {
            if let Err(error) = renewing.await {
                tracing::error!(%error, "certificates are not renewed");
            }
        });
    }

    /// Lets the gateway go by the limits and hosts of another configuration.
    ///
    /// # Errors
    /// A configuration that is not valid; nothing is changed then.
    pub(super) fn reload(&self, config: &Config) -> Result<()> {
        self.handler.reload(gateway_settings(&config.gateway()?)?);
        Ok(())
    }

    /// Says that the gateway is not ready any more; requests are answered on.
    pub(super) fn announce_stop(&self) {
        self.handler.stop();
    }

    /// Prints where they listen.
    pub(super) fn print(&self) -> Result<()> {
        for address in &self.api {
            print_line(&format!("RPC API server listening on {}", multiaddr(*address)))?;
        }
        for address in &self.gateway {
            print_line(&format!("Gateway server listening on {}", multiaddr(*address)))?;
        }
        for address in &self.gateway_tls {
            print_line(&format!("Gateway (HTTPS) listening on {}", multiaddr(*address)))?;
        }
        for address in &self.gateway_admin {
            print_line(&format!("Gateway (admin) listening on {}", multiaddr(*address)))?;
        }
        if let Some(address) = self.gateway_tls.first() {
            print_line(&format!("Web address: https://localhost:{}/", address.port()))?;
        }
        if let Some(ca) = &self.ca {
            print_line(&format!("Certificate authority for browsers and curl: {}", ca.display()))?;
        }
        Ok(())
    }

    /// What stands in the file `api`.
    pub(super) fn api_address(&self) -> Option<String> {
        Some(multiaddr(reachable(*self.api.first()?)))
    }

    /// What stands in the file `gateway`.
    pub(super) fn gateway_url(&self) -> Option<String> {
        Some(format!("http://{}", reachable(*self.gateway.first()?)))
    }

    /// Waits until all have ended, each of which bounds its own end.
    pub(super) async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

fn tls_settings(settings: &GatewaySettings, folder: PathBuf) -> TlsSettings {
    let acme = settings.acme.as_ref().map(|acme| AcmeSettings {
        directory: acme.directory.clone().unwrap_or_else(|| AcmeSettings::LETS_ENCRYPT.to_owned()),
        contact: acme.email.clone(),
        domains: acme.domains.clone(),
        on_demand: acme.on_demand.iter().map(|name| HostPattern::new(name)).collect(),
        on_demand_per_hour: acme.on_demand_per_hour.unwrap_or(AcmeSettings::ON_DEMAND_PER_HOUR),
        root: acme.root.clone(),
    });
    TlsSettings { folder, files: settings.certificate.clone(), acme }
}

fn gateway_settings(settings: &GatewaySettings) -> Result<Settings> {
    let default = Settings::default();
    let named = settings.hosts.iter().map(|(name, host)| Ok((HostPattern::new(name), policy(host)?)));
    Ok(Settings {
        hosts: Hosts { named: named.collect::<Result<_>>()?, others: policy(&settings.others)? },
        routing: settings.expose_routing,
        trusted_proxies: settings.trusted_proxies.clone(),
        redirect_to_https: settings.redirect_to_https,
        hsts: settings.hsts,
        first_byte_timeout: settings.retrieval_timeout.unwrap_or(default.first_byte_timeout),
        chunk_timeout: settings.retrieval_timeout.unwrap_or(default.chunk_timeout),
        request_timeout: settings.max_request_duration.unwrap_or(default.request_timeout),
        max_requests: settings.max_requests.unwrap_or(default.max_requests),
        rate: settings.rate_limit.map(|(per_second, burst)| Rate { per_second, burst }),
        max_rows: settings.max_listing_rows.unwrap_or(default.max_rows),
        max_file_bytes: settings.max_file_bytes,
        max_content_bytes: settings.max_content_bytes,
        max_range_file_bytes: settings.max_range_file_bytes,
        cache_bytes: settings.cache_bytes,
    })
}

fn policy(host: &HostSettings) -> Result<Policy> {
    let mut headers = HeaderMap::new();
    for (name, values) in &host.headers {
        for value in values {
            let header = || Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?));
            let (name, value) =
                header().with_context(|| format!("Gateway.HTTPHeaders: not a header, {name}: {value}"))?;
            headers.append(name, value);
        }
    }
    Ok(Policy {
        subdomains: host.use_subdomains,
        ipfs: host.ipfs,
        ipns: host.ipns,
        dnslink: host.dnslink,
        deserialized: host.deserialized,
        fetch: match host.no_fetch {
            None => Fetch::Loopback,
            Some(true) => Fetch::Never,
            Some(false) => Fetch::Always,
        },
        headers,
    })
}

fn addresses(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>> {
    listeners.iter().map(|listener| listener.local_addr().context("a listener has no address")).collect()
}

/// An address by which a socket that listens on all of them is reached from this computer.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
