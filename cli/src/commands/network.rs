//! `cairn ping`, `cairn stats`, `cairn swarm filters`, `cairn swarm resources`.

use std::io::Write as _;

use anyhow::Result;
use cairn_node::settings::units::format_size;
use cairn_rpc::commands::ping::Ping;
use cairn_rpc::commands::stats::{self, Bandwidth};
use cairn_rpc::commands::swarm::filters;
use cairn_rpc::commands::swarm::resources::{Resources, Usage};
use futures::TryStreamExt as _;

use super::swarm::{AddressArgs, lines, text_of_bitswap};
use crate::args::Encoding;
use crate::session::Session;
use crate::terminal::escape;

/// Measures the way to a peer and back.
#[derive(Debug, clap::Args)]
pub(crate) struct PingArgs {
    /// Peer ID, or an address that ends in /p2p/ and one.
    #[arg(value_name = "PEER")]
    peer: String,
    /// How often.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10)]
    count: u32,
}

/// Source of the form: Kubo `core/commands/ping.go`.
pub(super) async fn ping(args: PingArgs, session: &Session) -> Result<()> {
    let command = Ping { peer: args.peer, count: Some(args.count) };
    session
        .print(command, |out, pong| {
            if !pong.text.is_empty() {
                super::line!(out, "{}", escape(&pong.text))
            } else {
                super::line!(out, "Pong received: time={:.2} ms", pong.time as f64 / 1e6)
            }
        })
        .await
}

/// Shows what goes over the network.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Stats {
    /// Print bytes sent and received, in all and a second.
    Bw(BandwidthArgs),
    /// Print what was exchanged with peers.
    Bitswap {
        /// Print the peers.
        #[arg(long, short)]
        verbose: bool,
        /// Print sizes with units.
        #[arg(long)]
        human: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct BandwidthArgs {
    /// With that peer alone.
    #[arg(long, short, value_name = "PEER", conflicts_with = "protocol")]
    peer: Option<String>,
    /// Over streams of that protocol alone.
    #[arg(long = "proto", short = 't', value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Print again and again.
    #[arg(long)]
    poll: bool,
    /// Time between two lines, as 1s.
    #[arg(long, short, value_name = "TIME", default_value = "1s")]
    interval: String,
}

pub(super) async fn stats(command: Stats, session: &Session) -> Result<()> {
    match command {
        Stats::Bw(args) => bandwidth(args, session).await,
        Stats::Bitswap { verbose, human } => {
            let command = cairn_rpc::commands::bitswap::Stat { verbose, human };
            session.print(command, |out, stat| text_of_bitswap(out, &stat, verbose, human)).await
        }
    }
}

/// Source of the forms: Kubo `core/commands/stat.go`.
async fn bandwidth(args: BandwidthArgs, session: &Session) -> Result<()> {
    let command = Bandwidth {
        peer: args.peer,
        protocol: args.protocol,
        poll: args.poll,
        interval: Some(args.interval),
    };
    if !args.poll || session.encoding() == Encoding::Json {
        return session.print(command, text_of_bandwidth).await;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "Total Up    Total Down  Rate Up     Rate Down")?;
    let mut events = session.run(command);
    while let Some(stats) = events.try_next().await.map_err(|error| session.explain(error))? {
        let [up, down] = [stats.total_out, stats.total_in].map(format_size);
        let [rate_up, rate_down] = [stats.rate_out, stats.rate_in].map(rate);
        write!(out, "{up:>8}    {down:>8}    {rate_up:>10}  {rate_down:>10}\r")?;
        out.flush()?;
    }
    Ok(writeln!(out)?)
}

fn text_of_bandwidth(out: &mut String, stats: stats::Stats) -> Result<()> {
    super::line!(out, "Bandwidth")?;
    super::line!(out, "TotalIn: {}", format_size(stats.total_in))?;
    super::line!(out, "TotalOut: {}", format_size(stats.total_out))?;
    super::line!(out, "RateIn: {}", rate(stats.rate_in))?;
    super::line!(out, "RateOut: {}", rate(stats.rate_out))
}

fn rate(bytes: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive and far below"
    )]
    let bytes = bytes as u64;
    format!("{}/s", format_size(bytes))
}

/// Networks that are neither dialled nor let in.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Filters {
    /// List them.
    Ls,
    /// Refuse further ones, as /ip4/10.0.0.0/ipcidr/8: at once and for good.
    Add(AddressArgs),
    /// Refuse them no longer; `all` for all.
    Rm(AddressArgs),
}

pub(super) async fn filters(command: Option<Filters>, session: &Session) -> Result<()> {
    match command {
        None | Some(Filters::Ls) => session.print(filters::Filters, lines).await,
        Some(Filters::Add(args)) => session.print(filters::Add { networks: args.addresses }, lines).await,
        Some(Filters::Rm(args)) => session.print(filters::Rm { networks: args.addresses }, lines).await,
    }
}

pub(super) async fn resources(session: &Session) -> Result<()> {
    session.print(Resources, text_of_usage).await
}

/// Source of the form: Kubo `core/commands/swarm.go`.
fn text_of_usage(out: &mut String, usage: Usage) -> Result<()> {
    let system = usage.system;
    super::line!(
        out,
        "{:<10} {:<15} {:<12} {:<12}",
        "Scope",
        "Limit Name",
        "Limit Value",
        "Limit Usage Amount"
    )?;
    for (name, limit, used) in [
        ("Conns", system.conns, system.conns_usage),
        ("ConnsInbound", system.conns_inbound, system.conns_inbound_usage),
        ("ConnsOutbound", system.conns_outbound, system.conns_outbound_usage),
        ("Streams", system.streams, system.streams_usage),
    ] {
        let limit = limit.to_string();
        super::line!(out, "{:<10} {name:<15} {limit:<12} {used:<12}", "system")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_rates_are_printed_as_kubo_does() {
        let stats = stats::Stats { total_in: 878, total_out: 1_500_000, rate_in: 48.29, rate_out: 0.0 };
        let mut text = String::new();
        text_of_bandwidth(&mut text, stats).unwrap();
        assert_eq!(text, "Bandwidth\nTotalIn: 878 B\nTotalOut: 1.5 MB\nRateIn: 48 B/s\nRateOut: 0 B/s\n");
    }
}
