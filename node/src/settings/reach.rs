//! How a node that others cannot dial is reached, and what it does for others in that place.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

/// Whether anybody can dial this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reachability {
    /// Nobody has tried yet.
    #[default]
    Unknown,
    /// An address of this node was dialled from outside, or the operator named one.
    Public,
    /// None of its addresses can be dialled.
    Private,
}

/// What a node does to be reached, and to help others with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachSettings {
    /// What holds whatever peers find out.
    pub forced: Option<Reachability>,
    /// Ask peers whether they can dial this node (AutoNAT v2).
    pub asks: bool,
    /// How often peers who ask are dialled; `None` for never.
    pub answers: Option<Throttle>,
    /// Be reached through relays while nobody can dial this node: through these, or, without any, through such peers as
    /// relay. `None` for never, and to dial nobody through a relay.
    pub relays: Option<Vec<(PeerId, Multiaddr)>>,
    /// What others may have relayed while this node is public; `None` for nothing.
    pub relay_service: Option<RelayLimits>,
    /// Turn connections through a relay into direct ones (DCUtR).
    pub punches_holes: bool,
    /// Have the router open ports (UPnP, NAT-PMP).
    pub maps_ports: bool,
}

impl ReachSettings {
    /// Nothing of all this.
    pub const NONE: Self = Self {
        forced: None,
        asks: false,
        answers: None,
        relays: None,
        relay_service: None,
        punches_holes: false,
        maps_ports: false,
    };
}

/// Dials for peers who ask whether they can be dialled.
///
/// Source of the defaults: Kubo `docs/config.md`, `AutoNAT.Throttle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Most of them in [`Self::interval`].
    pub max_count: u32,
    /// Most of them for one peer.
    pub max_per_peer: u32,
    /// Time after which counting starts again.
    pub interval: Duration,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { max_count: 30, max_per_peer: 3, interval: Duration::from_secs(60) }
    }
}

/// What others may have relayed.
///
/// Source of the defaults: Kubo `docs/config.md`, `Swarm.RelayService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Peers that may be reached through this node.
    pub max_reservations: usize,
    /// How long one may without asking again.
    pub reservation_ttl: Duration,
    /// Connections of one peer at a time.
    pub max_circuits_per_peer: usize,
    /// How long one lasts.
    pub max_circuit_duration: Duration,
    /// Bytes that one carries, in each direction.
    pub max_circuit_bytes: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            max_reservations: 128,
            reservation_ttl: Duration::from_secs(3600),
            max_circuits_per_peer: 16,
            max_circuit_duration: Duration::from_secs(120),
            max_circuit_bytes: 128 * 1024,
        }
    }
}
