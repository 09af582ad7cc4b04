//! Which of the found peers a client of the routing API wants. Pure.
//!
//! Source: IPIP-484, <https://specs.ipfs.tech/ipips/ipip-0484/>.

use cairn_proto::routing::PeerRecord;

/// Stands for peers of which nothing is known.
const UNKNOWN: &str = "unknown";

/// What a client wants of a peer; nothing is left out where it says nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    addrs: Option<Vec<String>>,
    protocols: Option<Vec<String>>,
}

impl Filter {
    /// Reads `filter-addrs` and `filter-protocols`.
    pub(super) fn new(addrs: Option<&str>, protocols: Option<&str>) -> Self {
        let list = |text: &str| -> Vec<String> {
            text.split(',')
                .map(|item| item.trim().to_ascii_lowercase())
                .filter(|item| !item.is_empty())
                .collect()
        };
        let list = |text: Option<&str>| text.map(list).filter(|list| !list.is_empty());
        Self { addrs: list(addrs), protocols: list(protocols) }
    }

    /// The record with the addresses that are wanted, if the peer is.
    pub(super) fn apply(&self, mut record: PeerRecord) -> Option<PeerRecord> {
        if let Some(wanted) = &self.protocols {
            let is_wanted = if record.protocols.is_empty() {
                wanted.iter().any(|protocol| protocol == UNKNOWN)
            } else {
                record.protocols.iter().any(|protocol| wanted.contains(&protocol.to_ascii_lowercase()))
            };
            if !is_wanted {
                return None;
            }
        }
        let Some(wanted) = &self.addrs else { return Some(record) };
        if record.addrs.is_empty() {
            return wanted.iter().any(|item| item == UNKNOWN).then_some(record);
        }
        record.addrs.retain(|addr| is_wanted(addr, wanted));
        (!record.addrs.is_empty()).then_some(record)
    }
}

/// Whether an address has none of the protocols behind a `!` and one of the others, if there are any.
fn is_wanted(addr: &str, wanted: &[String]) -> bool {
    let has = |protocol: &str| addr.split('/').any(|part| part == protocol);
    let (without, with): (Vec<_>, Vec<_>) = wanted.iter().partition(|item| item.starts_with('!'));
    let mut with = with.into_iter().filter(|item| *item != UNKNOWN).peekable();
    !without.iter().any(|item| has(&item[1..])) && (with.peek().is_none() || with.any(|item| has(item)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIC: &str = "/ip4/192.0.2.1/udp/4001/quic-v1";
    const TCP: &str = "/ip4/192.0.2.1/tcp/4001";
    const RELAYED: &str = "/ip4/192.0.2.1/tcp/4001/p2p/12D3/p2p-circuit";

    fn addrs(filter: &str, addrs: &[&str]) -> Option<Vec<String>> {
        let record =
            PeerRecord { addrs: addrs.iter().map(ToString::to_string).collect(), ..PeerRecord::default() };
        Filter::new(Some(filter), None).apply(record).map(|record| record.addrs)
    }

    #[test]
    fn addresses_are_kept_that_have_one_protocol_and_none_of_the_forbidden() {
        let all = [QUIC, TCP, RELAYED];
        let some = |kept: &[&str]| Some(kept.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(addrs("", &all), some(&all));
        assert_eq!(addrs("tcp", &all), some(&[TCP, RELAYED]));
        assert_eq!(addrs("TCP,!p2p-circuit", &all), some(&[TCP]));
        assert_eq!(addrs("quic-v1,tcp,!p2p-circuit", &all), some(&[QUIC, TCP]));
        assert_eq!(addrs("!tcp", &all), some(&[QUIC]));
        assert_eq!(addrs("unknown,quic-v1", &all), some(&[QUIC]));
        assert_eq!(addrs("webtransport", &all), None);
        assert_eq!(addrs("tcp", &[]), None);
        assert_eq!(addrs("tcp,unknown", &[]), some(&[]));
    }

    #[test]
    fn peers_are_kept_by_the_ways_to_get_content() {
        let kept = |filter: &str, protocols: &[&str]| {
            let protocols = protocols.iter().map(ToString::to_string).collect();
            Filter::new(None, Some(filter)).apply(PeerRecord { protocols, ..PeerRecord::default() }).is_some()
        };
        assert!(kept("transport-bitswap", &["transport-bitswap", "x"]));
        assert!(kept("Transport-Bitswap,unknown", &[]));
        assert!(!kept("transport-bitswap", &[]));
        assert!(!kept("unknown", &["transport-bitswap"]));
    }
}
