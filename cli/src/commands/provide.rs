//! `cairn provide`.

use std::fmt::Write as _;

use anyhow::Result;
use cairn_rpc::commands::provide::{Clear, Once, Queued, Stat, Stats, Sweep};
use futures::TryStreamExt as _;

use crate::args::Encoding;
use crate::session::Session;

/// Shows how this node tells others what it has, or changes what is told soon.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Provide {
    /// Print how the announcements go.
    Stat(StatArgs),
    /// Forget what is to be told soon; it is still told in its turn.
    Clear {
        /// Print nothing.
        #[arg(long, short)]
        quiet: bool,
    },
    /// Tell of content soon, and once.
    Once {
        /// CIDs.
        #[arg(required = true, value_name = "CID")]
        keys: Vec<String>,
        /// And of everything below it.
        #[arg(long, short)]
        recursive: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// Of the local network's DHT.
    #[arg(long)]
    lan: bool,
    /// Print every section.
    #[arg(long, short)]
    all: bool,
    /// Print whether peers answer.
    #[arg(long)]
    connectivity: bool,
    /// Print the peers.
    #[arg(long)]
    network: bool,
    /// Print what is told again and again.
    #[arg(long)]
    schedule: bool,
    /// Print when.
    #[arg(long)]
    timings: bool,
    /// Print what was done.
    #[arg(long)]
    operations: bool,
    /// Print what waits.
    #[arg(long)]
    queues: bool,
}

pub(super) async fn run(command: Provide, session: &Session) -> Result<()> {
    match command {
        Provide::Stat(args) => {
            session.print(Stat { lan: args.lan }, |out, stats: Stats| text(out, &stats.sweep, &args)).await
        }
        Provide::Clear { quiet } => {
            session
                .print(Clear, |out, cleared| {
                    if quiet {
                        return Ok(());
                    }
                    super::line!(out, "removed {} items from provide queue", cleared.0)
                })
                .await
        }
        Provide::Once { keys, recursive } => once(Once { keys, recursive }, session).await,
    }
}

/// Source of the form: Kubo `core/commands/provide.go`.
async fn once(command: Once, session: &Session) -> Result<()> {
    if session.encoding() == Encoding::Json {
        return session.print(command, |_, _: Queued| Ok(())).await;
    }
    let mut queued = session.run(command);
    let mut count = 0_u64;
    while queued.try_next().await?.is_some() {
        count += 1;
    }
    Ok(crate::terminal::print_line(&format!("queued {count} CID(s) for immediate provide"))?)
}

/// Source of the words: as above.
fn text(out: &mut String, sweep: &Sweep, args: &StatArgs) -> Result<()> {
    let StatArgs { all, connectivity, network, schedule, timings, operations, queues, .. } = *args;
    let asked = [connectivity, network, schedule, timings, operations, queues];
    let is_brief = !all && !asked.contains(&true);
    let has_titles = all || asked.iter().filter(|asked| **asked).count() > 1;
    let mut sections: Vec<(&str, Vec<(&str, String)>)> = Vec::new();
    let mut add = |title, is_shown: bool, lines: Vec<(&'static str, String)>| {
        if is_shown {
            sections.push((title, lines));
        }
    };
    let status = &sweep.connectivity;
    let is_away = is_brief && status.status != "online";
    add(
        "Connectivity",
        all || connectivity || is_away,
        vec![("Status", format!("{} ({})", status.status, status.since))],
    );
    add(
        "Queues",
        all || queues || is_brief,
        vec![("Provide queue", format!("{} CIDs", sweep.queues.pending_key_provides))],
    );
    let mut lines = vec![
        ("CIDs scheduled", sweep.schedule.keys.to_string()),
        ("Regions scheduled", or_none(sweep.schedule.regions)),
    ];
    if !is_brief {
        lines.push(("Avg prefix length", format!("{:.1}", sweep.schedule.avg_prefix_length)));
        lines.push(("Next region reprovide", sweep.schedule.next_reprovide_at.clone()));
    }
    add("Schedule", all || schedule || is_brief, lines);
    add(
        "Timings",
        all || timings,
        vec![
            ("Uptime", seconds(sweep.timing.uptime)),
            ("Current time offset", seconds(sweep.timing.current_time_offset)),
            ("Cycle started", sweep.timing.cycle_start.clone()),
            ("Reprovide interval", seconds(sweep.timing.reprovides_interval)),
        ],
    );
    let mut lines = vec![("Avg record holders", format!("{:.1}", sweep.network.avg_holders))];
    if !is_brief {
        lines.push(("Peers swept", sweep.network.peers.to_string()));
        lines.push(("Reachable peers", sweep.network.reachable.to_string()));
        lines.push(("Avg region size", format!("{:.1}", sweep.network.avg_region_size)));
        lines.push(("Replication factor", sweep.network.replication_factor.to_string()));
    }
    add("Network", all || network || is_brief, lines);
    let past = &sweep.operations.past;
    let mut lines = vec![
        ("Ongoing reprovides", format!("{} regions", sweep.operations.ongoing.region_reprovides)),
        ("Total CIDs provided", past.keys_provided.to_string()),
    ];
    if !is_brief {
        lines.push(("Total records provided", past.records_provided.to_string()));
        lines.push(("Total provide errors", past.keys_failed.to_string()));
        lines.push(("Total regions provided", past.regions_provided.to_string()));
        lines.push(("Region reprovide duration", seconds(past.reprovide_duration)));
    }
    add("Operations", all || operations || is_brief, lines);

    let width =
        sections.iter().flat_map(|(_, lines)| lines).map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    for (index, (title, lines)) in sections.iter().enumerate() {
        if has_titles {
            super::line!(out, "{}{title}:", if index > 0 { "\n" } else { "" })?;
        }
        let indent = if has_titles { "  " } else { "" };
        for (name, value) in lines {
            super::line!(out, "{indent}{:width$} {value}", format!("{name}:"))?;
        }
    }
    Ok(())
}

fn or_none(count: u64) -> String {
    if count == 0 { "N/A".to_owned() } else { count.to_string() }
}

fn seconds(nanoseconds: u64) -> String {
    let time = std::time::Duration::from_nanos(nanoseconds);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{time:.1?}");
    text
}
