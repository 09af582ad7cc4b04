//! `cairn swarm`, `cairn routing`, `cairn bitswap`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use cairn_node::settings::units::format_size;
use cairn_rpc::commands::bitswap::{BitswapStat, Ledger, Receipt, Stat, Wantlist};
use cairn_rpc::commands::routing::{FindPeer, FindProviders, Get, Provide, Put, QueryEvent};
use cairn_rpc::commands::swarm::{
    Addrs, AutoNat, Connect, Disconnect, Lines, Listen, Local, PeerList, Peers, Reached, peering,
};
use multibase::Base;

use super::network::{self, Filters};
use crate::args::Encoding;
use crate::session::Session;
use crate::terminal::{self, escape};
use crate::walk;

/// Shows connections, or makes and ends them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Swarm {
    /// List connected peers.
    Peers(PeersArgs),
    /// Connect to peers.
    Connect(AddressArgs),
    /// End connections.
    Disconnect(AddressArgs),
    /// List the addresses of known peers.
    #[command(args_conflicts_with_subcommands = true)]
    Addrs {
        #[command(subcommand)]
        own: Option<OwnAddrs>,
    },
    /// Show or change the peers to stay connected to while the daemon runs; `Peering.Peers` of the config is for good.
    #[command(subcommand)]
    Peering(Peering),
    /// Show or change the networks that are neither dialled nor let in.
    #[command(args_conflicts_with_subcommands = true)]
    Filters {
        #[command(subcommand)]
        command: Option<Filters>,
    },
    /// Show how many connections there are, and how many there may be.
    Resources,
}

/// Peers to stay connected to.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Peering {
    /// Stay connected to peers.
    Add(AddressArgs),
    /// List them.
    Ls,
    /// Stay connected to peers no longer.
    Rm {
        /// Peer IDs.
        #[arg(required = true, value_name = "PEER")]
        peers: Vec<String>,
    },
}

/// Addresses of this node.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum OwnAddrs {
    /// List the addresses that this node tells others.
    Local {
        /// Add the peer ID.
        #[arg(long)]
        id: bool,
    },
    /// List the addresses that this node listens on.
    Listen,
    /// Show whether others can dial this node, and at which addresses.
    Autonat,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PeersArgs {
    /// Print everything.
    #[arg(long, short)]
    verbose: bool,
    /// Print the protocols of open streams.
    #[arg(long)]
    streams: bool,
    /// Print round-trip times.
    #[arg(long)]
    latency: bool,
    /// Print who connected to whom.
    #[arg(long)]
    direction: bool,
    /// Print programs.
    #[arg(long)]
    identify: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddressArgs {
    /// Addresses that end in /p2p/ and a peer ID.
    #[arg(required = true, value_name = "ADDRESS")]
    pub(super) addresses: Vec<String>,
}

pub(super) async fn run(command: Swarm, session: &Session) -> Result<()> {
    match command {
        Swarm::Peers(args) => {
            let command = Peers {
                verbose: args.verbose,
                streams: args.streams,
                latency: args.latency,
                direction: args.direction,
                identify: args.identify,
            };
            session.print(command, |out, list| text_of_peers(out, list, args.verbose || args.streams)).await
        }
        Swarm::Connect(args) => session.print(Connect { addresses: args.addresses }, lines).await,
        Swarm::Disconnect(args) => session.print(Disconnect { addresses: args.addresses }, lines).await,
        Swarm::Filters { command } => network::filters(command, session).await,
        Swarm::Resources => network::resources(session).await,
        Swarm::Peering(command) => peering(command, session).await,
        Swarm::Addrs { own: Some(OwnAddrs::Local { id }) } => session.print(Local { id }, lines).await,
        Swarm::Addrs { own: Some(OwnAddrs::Listen) } => session.print(Listen, lines).await,
        Swarm::Addrs { own: Some(OwnAddrs::Autonat) } => session.print(AutoNat, text_of_reached).await,
        Swarm::Addrs { own: None } => {
            session
                .print(Addrs, |out, map| {
                    for (peer, addresses) in map.addrs {
                        super::line!(out, "{peer} ({})", addresses.len())?;
                        addresses
                            .iter()
                            .try_for_each(|address| super::line!(out, "\t{}", escape(address)))?;
                    }
                    Ok(())
                })
                .await
        }
    }
}

pub(super) fn lines(out: &mut String, lines: Lines) -> Result<()> {
    lines.strings.iter().try_for_each(|line| super::line!(out, "{}", escape(line)))
}

/// Source of the form: Kubo `core/commands/swarm_addrs_autonat.go`.
fn text_of_reached(out: &mut String, reached: Reached) -> Result<()> {
    super::line!(
        out,
        "AutoNAT V2 Status:\n  Reachability: {}\n\nPer-Address Reachability:",
        reached.reachability
    )?;
    if reached.reachable.is_empty() && reached.unreachable.is_empty() {
        super::line!(out, "  (no address reachability data available)")?;
    }
    for (title, addrs) in [("Reachable", reached.reachable), ("Unreachable", reached.unreachable)] {
        if !addrs.is_empty() {
            super::line!(out, "  {title}:")?;
            addrs.iter().try_for_each(|addr| super::line!(out, "    {}", escape(addr)))?;
        }
    }
    Ok(())
}

/// Source of the forms: Kubo `core/commands/swarm.go`.
async fn peering(command: Peering, session: &Session) -> Result<()> {
    match command {
        Peering::Add(AddressArgs { addresses }) => {
            session
                .print(peering::Add { addresses }, |out, peer| {
                    super::line!(out, "add {} {}", peer.id, peer.status)
                })
                .await
        }
        Peering::Ls => {
            session
                .print(peering::Ls, |out, list| {
                    for peer in list.peers.unwrap_or_default() {
                        super::line!(out, "{}", peer.id)?;
                        peer.addrs.iter().try_for_each(|addr| super::line!(out, "\t{}", escape(addr)))?;
                    }
                    Ok(())
                })
                .await
        }
        Peering::Rm { peers } => {
            session
                .print(peering::Rm { peers }, |out, peer| {
                    super::line!(out, "remove {} {}", peer.id, peer.status)
                })
                .await
        }
    }
}

/// Source of the form: Kubo `core/commands/swarm.go`.
fn text_of_peers(out: &mut String, list: PeerList, streams: bool) -> Result<()> {
    for peer in list.peers.unwrap_or_default() {
        let mut text = peer.addr;
        if !text.ends_with(&peer.id) {
            text += &format!("/p2p/{}", peer.id);
        }
        if !peer.latency.is_empty() {
            text += &format!(" {}", peer.latency);
        }
        text += match peer.direction {
            1 => " inbound",
            2 => " outbound",
            _ => "",
        };
        if !peer.identify.agent_version.is_empty() {
            text += &format!(" {}", peer.identify.agent_version);
        }
        super::line!(out, "{}", escape(&text))?;
        if streams {
            peer.streams.iter().try_for_each(|stream| super::line!(out, "  {}", escape(&stream.protocol)))?;
        }
    }
    Ok(())
}

/// Finds who has content, or tells that this node has it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Routing {
    /// Find peers that have content.
    Findprovs {
        /// CID.
        #[arg(value_name = "CID")]
        key: String,
        /// Most peers to find.
        #[arg(long, short, value_name = "COUNT", default_value_t = 20)]
        num_providers: usize,
        /// Print their addresses, too.
        #[arg(long, short)]
        verbose: bool,
    },
    /// Find the addresses of a peer.
    Findpeer {
        /// Peer ID.
        #[arg(value_name = "PEER")]
        peer: String,
    },
    /// Print the record of a name.
    Get {
        /// /ipns/ and a name.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Keep the record of a name and give it to peers.
    Put {
        /// /ipns/ and a name.
        #[arg(value_name = "KEY")]
        key: String,
        /// File with the record.
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// Offline, keeping it is enough.
        #[arg(long)]
        allow_offline: bool,
    },
    /// Tell the network that this node has content.
    Provide {
        /// CIDs.
        #[arg(required = true, value_name = "CID")]
        keys: Vec<String>,
        /// And everything below it, one by one; `provide once -r` is faster and does not wait.
        #[arg(long, short)]
        recursive: bool,
    },
}

pub(super) async fn routing(command: Routing, session: &Session) -> Result<()> {
    match command {
        Routing::Findprovs { key, num_providers, verbose } => {
            let command = FindProviders { key, limit: num_providers };
            session.print(command, |out, event| text_of_providers(out, event, verbose)).await
        }
        Routing::Findpeer { peer } => {
            session
                .print(FindPeer { peer }, |out, event| {
                    let found = event.responses.unwrap_or_default();
                    let addresses = found.iter().filter_map(|peer| peer.addrs.as_deref()).flatten();
                    addresses.into_iter().try_for_each(|address| super::line!(out, "{}", escape(address)))
                })
                .await
        }
        Routing::Get { key } => get_value(key, session).await,
        Routing::Put { key, path, allow_offline } => {
            let command = Put { key, allow_offline, files: Some(walk::files(vec![path])) };
            session.print(command, |out, event| super::line!(out, "{}", event.id)).await
        }
        Routing::Provide { keys, recursive } => {
            session.print(Provide { keys, recursive }, |_, _| Ok(())).await
        }
    }
}

/// Source of the form: Kubo `core/commands/routing.go`.
fn text_of_providers(out: &mut String, event: QueryEvent, verbose: bool) -> Result<()> {
    for peer in event.responses.unwrap_or_default() {
        super::line!(out, "{}{}", if verbose { "provider: " } else { "" }, peer.id)?;
        for addr in peer.addrs.unwrap_or_default().iter().filter(|_| verbose) {
            super::line!(out, "\t{}", escape(addr))?;
        }
    }
    Ok(())
}

/// Prints the bytes of a value, or the event as it is.
async fn get_value(key: String, session: &Session) -> Result<()> {
    if session.encoding() == Encoding::Json {
        return session.print(Get { key }, |_, _| Ok(())).await;
    }
    let value = session.one(Get { key }).await?.extra;
    let mut out = terminal::stdout();
    out.write_all(&Base::Base64Pad.decode(value)?)?;
    Ok(out.flush()?)
}

/// Shows what is exchanged with peers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bitswap {
    /// Print counters.
    Stat {
        /// Print the peers.
        #[arg(long, short)]
        verbose: bool,
        /// Print sizes with units.
        #[arg(long)]
        human: bool,
    },
    /// List the blocks that this node wants, or that a peer wants from it.
    Wantlist {
        /// Of that peer.
        #[arg(long, short, value_name = "PEER")]
        peer: Option<String>,
    },
    /// Print what was exchanged with a peer since it connected.
    Ledger {
        /// Peer ID.
        #[arg(value_name = "PEER")]
        peer: String,
    },
}

pub(super) async fn bitswap(command: Bitswap, session: &Session) -> Result<()> {
    match command {
        Bitswap::Stat { verbose, human } => {
            session
                .print(Stat { verbose, human }, |out, stat| text_of_bitswap(out, &stat, verbose, human))
                .await
        }
        Bitswap::Wantlist { peer } => {
            session
                .print(Wantlist { peer }, |out, list| {
                    list.keys.iter().try_for_each(|key| super::line!(out, "{}", key.cid))
                })
                .await
        }
        Bitswap::Ledger { peer } => session.print(Ledger { peer }, text_of_ledger).await,
    }
}

/// Source of the form: Kubo `core/commands/bitswap.go`.
fn text_of_ledger(out: &mut String, receipt: Receipt) -> Result<()> {
    super::line!(out, "Ledger for {}", receipt.peer)?;
    super::line!(out, "Debt ratio:\t{:.6}", receipt.value)?;
    super::line!(out, "Exchanges:\t{}", receipt.exchanged)?;
    super::line!(out, "Bytes sent:\t{}", receipt.sent)?;
    super::line!(out, "Bytes received:\t{}\n", receipt.recv)
}

/// Source of the form: Kubo `core/commands/bitswap.go`.
pub(super) fn text_of_bitswap(
    out: &mut String,
    stat: &BitswapStat,
    verbose: bool,
    human: bool,
) -> Result<()> {
    let size = |bytes: u64| if human { format_size(bytes) } else { bytes.to_string() };
    super::line!(out, "bitswap status")?;
    super::line!(out, "\tblocks received: {}", stat.blocks_received)?;
    super::line!(out, "\tblocks sent: {}", stat.blocks_sent)?;
    super::line!(out, "\tdata received: {}", size(stat.data_received))?;
    super::line!(out, "\tdata sent: {}", size(stat.data_sent))?;
    super::line!(out, "\tdup blocks received: {}", stat.dup_blks_received)?;
    super::line!(out, "\tdup data received: {}", size(stat.dup_data_received))?;
    super::line!(out, "\twantlist [{} keys]", stat.wantlist.len())?;
    stat.wantlist.iter().try_for_each(|key| super::line!(out, "\t\t{}", key.cid))?;
    super::line!(out, "\tpartners [{}]", stat.peers.len())?;
    if verbose { stat.peers.iter().try_for_each(|peer| super::line!(out, "\t\t{peer}")) } else { Ok(()) }
}
