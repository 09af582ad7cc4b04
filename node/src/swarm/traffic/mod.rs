//! What goes over the connections: counted for everybody, each peer and each protocol, and held to limits.
//!
//! It sits between connections and streams, so that it covers every protocol of every transport. What the transports add
//! themselves (ciphers, headers, acknowledgements) is not counted.

mod bucket;
mod meter;
mod metered;
mod sniff;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use libp2p::PeerId;

use bucket::Bucket;
pub use meter::Flow;
use meter::Meter;
pub(super) use metered::Metered;

use crate::settings::BandwidthLimits;

/// Protocols counted by name. Peers choose the names of those that are not ours.
const MAX_PROTOCOLS: usize = 64;
/// Peers after which those are looked for that have no connection.
const SWEEP_PEERS: usize = 256;
/// What the others are counted as.
const OTHER: &str = "other";

/// Counters and limits of all connections. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Traffic(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    up: Bucket,
    down: Bucket,
    all: Meter,
    peers: Mutex<HashMap<PeerId, Arc<PeerTraffic>>>,
    protocols: Mutex<HashMap<Arc<str>, Arc<Meter>>>,
}

/// Counters of one peer.
#[derive(Debug, Default)]
struct PeerTraffic {
    meter: Meter,
    /// Open streams by protocol.
    streams: Mutex<HashMap<Arc<str>, usize>>,
}

impl Traffic {
    pub(super) fn new(limits: BandwidthLimits) -> Self {
        Self(Arc::new(Shared {
            up: Bucket::new(limits.up_bytes, Instant::now()),
            down: Bucket::new(limits.down_bytes, Instant::now()),
            all: Meter::default(),
            peers: Mutex::default(),
            protocols: Mutex::default(),
        }))
    }

    /// Everything.
    pub(super) fn total(&self) -> Flow {
        self.0.all.flow(Instant::now())
    }

    /// What was exchanged with a peer that is connected.
    pub(super) fn of_peer(&self, peer: &PeerId) -> Option<Flow> {
        Some(lock(&self.0.peers).get(peer)?.meter.flow(Instant::now()))
    }

    /// What went over streams of a protocol.
    pub(super) fn of_protocol(&self, protocol: &str) -> Option<Flow> {
        Some(lock(&self.0.protocols).get(protocol)?.flow(Instant::now()))
    }

    /// What went over streams of each protocol, sorted by name.
    pub(super) fn protocols(&self) -> Vec<(String, Flow)> {
        let now = Instant::now();
        let protocols = lock(&self.0.protocols);
        let mut flows: Vec<_> =
            protocols.iter().map(|(name, meter)| (name.to_string(), meter.flow(now))).collect();
        flows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        flows
    }

    /// Protocols of the streams that are open with a peer, sorted, each as often as it is open.
    pub(super) fn streams(&self, peer: &PeerId) -> Vec<String> {
        let Some(traffic) = lock(&self.0.peers).get(peer).cloned() else { return Vec::new() };
        let streams = lock(&traffic.streams);
        let mut names: Vec<_> =
            streams.iter().flat_map(|(name, count)| std::iter::repeat_n(name.to_string(), *count)).collect();
        names.sort_unstable();
        names
    }

    /// Streams that are open with anybody.
    pub(super) fn stream_count(&self) -> usize {
        let peers: Vec<_> = lock(&self.0.peers).values().cloned().collect();
        peers.iter().map(|peer| lock(&peer.streams).values().sum::<usize>()).sum()
    }

    /// The peer is not connected any more.
    pub(super) fn forget(&self, peer: &PeerId) {
        lock(&self.0.peers).remove(peer);
    }

    fn peer(&self, peer: PeerId) -> Arc<PeerTraffic> {
        let mut peers = lock(&self.0.peers);
        if peers.len().is_multiple_of(SWEEP_PEERS) {
            // A connection may be refused after its peer was counted.
            peers.retain(|_, traffic| Arc::strong_count(traffic) > 1);
        }
        Arc::clone(peers.entry(peer).or_default())
    }

    /// Name and counter of a protocol.
    fn protocol(&self, name: &str) -> (Arc<str>, Arc<Meter>) {
        let mut protocols = lock(&self.0.protocols);
        let name = if protocols.len() < MAX_PROTOCOLS || protocols.contains_key(name) { name } else { OTHER };
        if let Some((name, meter)) = protocols.get_key_value(name) {
            return (Arc::clone(name), Arc::clone(meter));
        }
        let (name, meter) = (Arc::<str>::from(name), Arc::<Meter>::default());
        protocols.insert(Arc::clone(&name), Arc::clone(&meter));
        (name, meter)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_counted_by_name_up_to_a_bound_and_together_above() {
        let traffic = Traffic::new(BandwidthLimits::default());
        for number in 0..2 * MAX_PROTOCOLS {
            traffic.protocol(&format!("/p/{number}")).1.received(1, Instant::now());
        }
        assert_eq!(traffic.protocols().len(), MAX_PROTOCOLS + 1);
        assert_eq!(traffic.of_protocol("/p/0").unwrap().received_bytes, 1);
        assert_eq!(traffic.of_protocol(OTHER).unwrap().received_bytes, MAX_PROTOCOLS as u64);
    }
}
