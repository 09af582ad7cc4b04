//! What an operator may want to count of the network, in Prometheus' text format.
//!
//! Source of the format: <https://prometheus.io/docs/instrumenting/exposition_formats/>. No label is ever a peer or a CID;
//! names of protocols are bounded by the swarm.

use std::fmt::{Display, Write as _};

use axum::response::Response;
use cairn_node::Node;
use cairn_node::provide::Stat;
use cairn_node::swarm::Scope;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response as Parts, StatusCode};

use crate::context::Repo;
use crate::error::Result;

/// Where the numbers are read. Source: Kubo `core/corehttp/metrics.go`.
pub(super) const PATH: &str = "/debug/metrics/prometheus";

/// The DHTs, and how labels call them.
const DHTS: [(Scope, &str); 2] = [(Scope::Wan, "wan"), (Scope::Lan, "lan")];

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers with the numbers of a running node.
pub(super) async fn answer(repo: &Repo) -> Response {
    match numbers(repo).await {
        Ok(page) => {
            let mut response = Parts::new(page.0.into());
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            response
        }
        Err(error) => super::respond::text(StatusCode::SERVICE_UNAVAILABLE, &error.message),
    }
}

async fn numbers(repo: &Repo) -> Result<Page> {
    let mut page = Page::default();
    let node = repo.node().await?;
    of_swarm(node, &mut page).await?;
    of_exchange(node, &mut page).await?;
    of_provide(node, &mut page);
    Ok(page)
}

async fn of_swarm(node: &Node, page: &mut Page) -> Result<()> {
    let Some(swarm) = node.swarm() else { return Ok(()) };
    let counters = swarm.counters().await?;
    page.gauge("ipfs_p2p_peers_total", "Connected peers.", counters.peers_connected_count);
    page.head("cairn_swarm_connections_open_count", "gauge", "Open connections.");
    for (direction, count) in
        [("inbound", counters.inbound_open_count), ("outbound", counters.outbound_open_count)]
    {
        page.line("cairn_swarm_connections_open_count", Some(("direction", direction)), count);
    }
    page.gauge("cairn_swarm_streams_open_count", "Open streams.", swarm.stream_count());
    for (name, help, value) in [
        ("cairn_swarm_connections_opened_total", "Connections opened.", counters.connections_opened_total),
        ("cairn_swarm_connections_closed_total", "Connections closed.", counters.connections_closed_total),
        (
            "cairn_swarm_inbound_failed_total",
            "Inbound connections refused or failed.",
            counters.inbound_failed_total,
        ),
        ("cairn_swarm_outbound_failed_total", "Dials that failed.", counters.outbound_failed_total),
        ("cairn_dht_queries_total", "Questions asked to the DHTs.", counters.queries_total),
        ("cairn_dht_records_stored_total", "Records of others stored.", counters.records_stored_total),
        ("cairn_dht_records_refused_total", "Records of others refused.", counters.records_refused_total),
    ] {
        page.counter(name, help, value);
    }
    let tables = swarm.tables().await?;
    page.head("cairn_dht_table_peers_count", "gauge", "Peers in the routing table of a DHT.");
    for (scope, dht) in DHTS {
        if let Some(table) = tables.iter().find(|table| table.protocol == swarm.dht_protocol(scope)) {
            page.line("cairn_dht_table_peers_count", Some(("dht", dht)), table.peers.len());
        }
    }
    let flow = swarm.flow();
    page.counter("cairn_swarm_received_bytes_total", "Bytes received over streams.", flow.received_bytes);
    page.counter("cairn_swarm_sent_bytes_total", "Bytes sent over streams.", flow.sent_bytes);
    let flows = swarm.flows();
    page.head("cairn_protocol_received_bytes_total", "counter", "Bytes received over streams of a protocol.");
    for (protocol, flow) in &flows {
        page.line("cairn_protocol_received_bytes_total", Some(("protocol", protocol)), flow.received_bytes);
    }
    page.head("cairn_protocol_sent_bytes_total", "counter", "Bytes sent over streams of a protocol.");
    for (protocol, flow) in &flows {
        page.line("cairn_protocol_sent_bytes_total", Some(("protocol", protocol)), flow.sent_bytes);
    }
    Ok(())
}

async fn of_exchange(node: &Node, page: &mut Page) -> Result<()> {
    let Some(exchange) = node.exchange() else { return Ok(()) };
    let stat = exchange.stat().await?;
    page.gauge("ipfs_bitswap_wantlist_total", "Blocks wanted.", stat.wantlist.len());
    page.gauge("cairn_bitswap_peers_count", "Peers that blocks are exchanged with.", stat.peers.len());
    for (name, help, value) in [
        ("cairn_bitswap_blocks_received_total", "Blocks received.", stat.blocks_received),
        ("cairn_bitswap_received_bytes_total", "Bytes of blocks received.", stat.data_received),
        (
            "cairn_bitswap_unwanted_blocks_total",
            "Blocks received that nobody wanted.",
            stat.dup_blocks_received,
        ),
        ("cairn_bitswap_unwanted_bytes_total", "Bytes of these.", stat.dup_data_received),
        ("cairn_bitswap_messages_received_total", "Messages received.", stat.messages_received),
        ("cairn_bitswap_blocks_sent_total", "Blocks sent.", stat.blocks_sent),
        ("cairn_bitswap_sent_bytes_total", "Bytes of blocks sent.", stat.data_sent),
    ] {
        page.counter(name, help, value);
    }
    Ok(())
}

/// A number of the announcements in one DHT: its name and kind, what it is, and the number itself.
type ProvideNumber = (&'static str, &'static str, &'static str, fn(&Stat) -> u64);

const PROVIDE: [ProvideNumber; 10] = [
    ("scheduled_keys", "gauge", "Keys told again and again.", |stat| stat.scheduled_count),
    ("fresh_keys", "gauge", "Keys to be told soon.", |stat| stat.fresh_count),
    ("online", "gauge", "Whether peers take records.", |stat| stat.is_online.into()),
    ("keys_total", "counter", "Keys told.", |stat| stat.counters.keys_total),
    ("keys_failed_total", "counter", "Keys that nobody took.", |stat| stat.counters.keys_failed_total),
    ("records_total", "counter", "Records that peers took.", |stat| stat.counters.records_total),
    ("regions_total", "counter", "Regions told.", |stat| stat.counters.regions_total),
    ("peers_total", "counter", "Peers that were given records.", |stat| stat.counters.peers_total),
    ("peers_reached_total", "counter", "Peers that took records.", |stat| stat.counters.peers_reached_total),
    ("faults_total", "counter", "Times that the store failed.", |stat| stat.counters.faults_total),
];

fn of_provide(node: &Node, page: &mut Page) {
    let Some(provide) = node.provide() else { return };
    let stats = DHTS.map(|(scope, dht)| (dht, provide.stat(scope)));
    for (name, kind, help, value) in PROVIDE {
        let name = format!("cairn_provide_{name}");
        page.head(&name, kind, help);
        for (dht, stat) in &stats {
            page.line(&name, Some(("dht", dht)), value(stat));
        }
    }
}

/// A page of numbers.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) {
        let _ = match label {
            None => writeln!(self.0, "{name} {value}"),
            Some((label, of)) => {
                let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}")
            }
        };
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, None, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.line(name, None, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Source of the form: the specification's example.
    #[test]
    fn a_label_is_quoted_as_the_format_wants_it() {
        let mut page = Page::default();
        page.counter("a_total", "What.", 7);
        page.line("b", Some(("protocol", "/x\"\\\n")), 1);
        assert_eq!(
            page.0,
            "# HELP a_total What.\n# TYPE a_total counter\na_total 7\nb{protocol=\"/x\\\"\\\\\\n\"} 1\n"
        );
    }
}
