//! `cairn daemon`: a node with its RPC and its gateway, until it is told to stop.
//!
//! The lines on standard output are a contract: programs wait for `RPC API server listening on …`, `Gateway server
//! listening on …` and `Daemon is ready`. Source: Kubo `cmd/ipfs/kubo/daemon.go` and js-ipfsd-ctl.

mod reload;
mod servers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cairn_node::Node;
use cairn_node::builder::Builder;
use cairn_node::settings::config::{Config, FILE_NAME};
use cairn_rpc::Repo;
use cairn_rpc::commands::version::VersionInfo;
use cairn_rpc::context::Daemon;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use tokio_util::task::AbortOnDropHandle;

use crate::args::Global;
use crate::session::{API_FILE, daemon_of};
use crate::signals::{Asked, Signals};
use crate::terminal::print_line;
use crate::{commands, environment, limits};
use reload::Reloader;
use servers::{Bound, Servers};

/// Programs that wait for the configuration to be read again.
const RELOAD_QUEUE: usize = 4;

/// Name of the file in a repo that says where the gateway listens.
pub(crate) const GATEWAY_FILE: &str = "gateway";

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A node with everything.
    Node,
    /// A gateway alone: it gives no blocks, keeps nothing for ever, and no program can tell it what to do.
    Gateway,
}

/// Name of the profile of a repo that is made for [`Role::Gateway`].
const GATEWAY_PROFILE: &str = "gateway";

/// Runs a gateway alone until it is interrupted: a cache in front of the network, or of nodes that it peers with.
///
/// A repo is made if there is none, with the profile `gateway`; it is not the repo of a node.
#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// Profiles for a repo that is made, separated by commas, besides `gateway`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    init_profile: Vec<String>,
    /// Take content from the gateway at this URL, and from no peer. May be given several times.
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,
}

impl From<GatewayArgs> for Args {
    fn from(args: GatewayArgs) -> Self {
        let profiles = args.init_profile.into_iter().chain([GATEWAY_PROFILE.to_owned()]);
        Self {
            init: None,
            init_profile: profiles.collect(),
            migrate: None,
            enable_gc: None,
            agent_version_suffix: None,
            upstream: args.upstream,
            max_upload: None,
            max_download: None,
        }
    }
}

/// Runs a node until it is interrupted. A repo is made if there is none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Make a repo if there is none; always so.
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    init: Option<bool>,
    /// Profiles for a repo that is made, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    init_profile: Vec<String>,
    /// Bring an older repo to the present format; always so.
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    migrate: Option<bool>,
    /// Collect what nothing keeps; always so.
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_gc: Option<bool>,
    /// Words to add to the name that peers see.
    #[arg(long, value_name = "TEXT")]
    agent_version_suffix: Option<String>,
    #[arg(skip)]
    upstream: Vec<String>,
    /// Most bytes a second to send to peers, as 5MB; in place of `Resources.MaxUpload`.
    #[arg(long, value_name = "SIZE")]
    max_upload: Option<String>,
    /// Most bytes a second to receive from peers, as 5MB; in place of `Resources.MaxDownload`.
    #[arg(long, value_name = "SIZE")]
    max_download: Option<String>,
}

pub(crate) async fn run(args: Args, role: Role, global: &Global) -> Result<()> {
    let mut signals = Signals::listen()?;
    print_line("Initializing daemon...")?;
    limits::raise_open_files()?;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let _memory = AbortOnDropHandle::new(tokio::spawn(crate::memory::return_freed()));
    let path = environment::repo_path(global)?;
    if daemon_of(&path, None).await.is_some() {
        bail!("a daemon runs already on {}; stop it with `cairn shutdown`", path.display());
    }
    make_if_missing(&path, &args)?;
    let config = Source { path: &path, args: &args, role }.load()?;
    let node = tokio::select! {
        node = open_node(&config, &path, role, global) => node?,
        () = signals.stop() => return Ok(()),
    };
    let source = Source { path: &path, args: &args, role };
    let result = serve(&node, &config, source, &mut signals).await;
    let stopped = tokio::select! {
        stopped = node.shutdown() => stopped.context("the node did not stop cleanly"),
        () = signals.stop() => force(),
    };
    result.and(stopped)
}

/// Ends the process at once: the user asked twice.
fn force() -> ! {
    eprintln!("Received a second interrupt signal, stopping at once.");
    std::process::exit(1)
}

fn make_if_missing(path: &Path, args: &Args) -> Result<()> {
    if path.join(FILE_NAME).exists() {
        return Ok(());
    }
    commands::init(path, &args.init_profile)?;
    Ok(print_line(&format!("initialized repo at {}", path.display()))?)
}

/// Where the configuration in effect comes from.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    args: &'a Args,
    role: Role,
}

impl Source<'_> {
    /// Reads the file, with the environment, the options and the role laid over it.
    fn load(self) -> Result<Config> {
        let config = environment::overlay(&Config::load(self.path)?)?;
        in_role(with_args(config, self.args)?, self.role)
    }
}

fn with_args(mut config: Config, args: &Args) -> Result<Config> {
    let options = [
        ("Version.AgentSuffix", &args.agent_version_suffix),
        ("Resources.MaxUpload", &args.max_upload),
        ("Resources.MaxDownload", &args.max_download),
    ];
    for (key, value) in options {
        if let Some(value) = value {
            config.set(key, value.as_str().into())?;
        }
    }
    if !args.upstream.is_empty() {
        config.set("Gateway.Upstream.URLs", args.upstream.clone().into())?;
    }
    Ok(config)
}

/// What a gateway alone never does, whatever its configuration says.
fn in_role(mut config: Config, role: Role) -> Result<Config> {
    if role == Role::Gateway {
        config.set("Addresses.API", serde_json::Value::Null)?;
        config.set("Bitswap.ServerEnabled", false.into())?;
    }
    Ok(config)
}

async fn open_node(config: &Config, path: &Path, role: Role, global: &Global) -> Result<Node> {
    let mut settings = config.to_settings(path)?;
    match role {
        _ if global.offline => settings.swarm = None,
        Role::Node => {}
        Role::Gateway => settings.upstream = config.upstream()?,
    }
    greet(config)?;
    Ok(Builder::new(settings).open().await?)
}

fn greet(config: &Config) -> Result<()> {
    let info = VersionInfo::current();
    print_line(&format!("Cairn version: {}", info.version))?;
    print_line(&format!("Repo version: {}", info.repo))?;
    print_line(&format!("System version: {}", info.system))?;
    Ok(print_line(&format!("PeerID: {}", config.peer_id()?))?)
}

/// Serves until a signal, the RPC or a failure ends it.
async fn serve(node: &Node, config: &Config, source: Source<'_>, signals: &mut Signals) -> Result<()> {
    print_swarm(node)?;
    let bound = Bound::bind(config).await?;
    let (shutdown, stop) = (CancellationToken::new(), CancellationToken::new());
    let (reloads, mut asked) = mpsc::channel(RELOAD_QUEUE);
    let daemon = Daemon { shutdown: shutdown.clone(), reloads };
    let repo = Arc::new(Repo::daemon(source.path.to_owned(), config.clone(), node.clone(), daemon));
    let servers = Servers::start(bound, repo, config, node, &stop)?;
    servers.print()?;
    let files = AddressFiles::write(source.path, &servers)?;
    print_line("Daemon is ready")?;
    let mut reloader = Reloader::new(source, config);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Asked::Reload => reloader.on_signal(&servers),
                Asked::Stop => {
                    print_line("Received interrupt signal, shutting down...")?;
                    print_line("(Hit ctrl-c again to force-shutdown the daemon.)")?;
                    break;
                }
            },
            Some(reply) = asked.recv() => reloader.on_command(&servers, reply),
            () = shutdown.cancelled() => break,
        }
    }
    servers.announce_stop();
    tokio::select! {
        () = tokio::time::sleep(reloader.drain_delay()) => {}
        () = signals.stop() => force(),
    }
    drop(files);
    stop.cancel();
    tokio::select! {
        () = servers.join() => Ok(()),
        () = signals.stop() => force(),
    }
}

/// Kubo's lines: one for each host and port, with its transports.
fn print_swarm(node: &Node) -> Result<()> {
    if let Some(upstream) = &node.settings().upstream {
        let urls: Vec<_> = upstream.gateways.iter().map(ToString::to_string).collect();
        return Ok(print_line(&format!("Content comes from {} only.", urls.join(", ")))?);
    }
    let Some(swarm) = node.swarm() else {
        return Ok(print_line("Swarm not listening, running in offline mode.")?);
    };
    if let Some(key) = node.settings().swarm.as_ref().and_then(|swarm| swarm.private_network) {
        print_line("Swarm is limited to private network of peers with the swarm key")?;
        print_line(&format!("Swarm key fingerprint: {}", key.fingerprint()))?;
    }
    let mut sockets: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for address in swarm.listen_addrs() {
        if let Some((socket, transport)) = socket(&address) {
            sockets.entry(socket).or_default().push(transport);
        }
    }
    for (socket, transports) in sockets {
        print_line(&format!("Swarm listening on {socket} ({})", transports.join("+")))?;
    }
    Ok(print_line("Run 'cairn id' to inspect announced and discovered multiaddrs of this node.")?)
}

fn socket(address: &Multiaddr) -> Option<(String, &'static str)> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) if parts.next().is_none() => Some((format!("{host}:{port}"), "TCP")),
        Protocol::Tcp(port) => Some((format!("{host}:{port}"), "WS")),
        Protocol::Udp(port) => Some((format!("{host}:{port}"), "UDP")),
        _ => None,
    }
}

/// The files that say where the daemon listens. They are gone when this is dropped.
#[derive(Debug)]
struct AddressFiles(Vec<PathBuf>);

impl AddressFiles {
    fn write(repo: &Path, servers: &Servers) -> Result<Self> {
        let mut files = Self(Vec::new());
        let addresses = [(API_FILE, servers.api_address()), (GATEWAY_FILE, servers.gateway_url())];
        for (name, text) in addresses {
            let Some(text) = text else { continue };
            let path = repo.join(name);
            // In one step: whoever waits for the file must not read half of it.
            let fresh = repo.join(format!("{name}.new"));
            std::fs::write(&fresh, text)
                .and_then(|()| std::fs::rename(&fresh, &path))
                .with_context(|| format!("cannot write {}", path.display()))?;
            files.0.push(path);
        }
        Ok(files)
    }
}

impl Drop for AddressFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // One that is left over is found out by the next command.
            let _ = std::fs::remove_file(path);
        }
    }
}
