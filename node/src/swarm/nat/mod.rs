//! Being reached behind a router: finding out whether this node can be dialled, relays, hole punching, ports of the router.
//!
//! The protocols are libp2p's. Ours is what they leave open: which addresses are worth a test and whom we dial for a test
//! ([`probe`], [`answer`]), what the answers mean ([`findings`]), and which relays to be reached through ([`relays`]).

mod answer;
pub(super) mod findings;
pub(super) mod probe;
pub(super) mod relays;
mod router;

use std::convert::Infallible;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{dcutr, relay};

use crate::settings::reach::{ReachSettings, Reachability, RelayLimits};

/// Protocol that a relay answers. Source: <https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md>.
pub(super) const HOP_PROTOCOL: &str = "/libp2p/circuit/relay/0.2.0/hop";

/// Protocol of a peer that is reached through a relay. Source: the same.
const STOP_PROTOCOL: &str = "/libp2p/circuit/relay/0.2.0/stop";
/// Protocols of AutoNAT. Source: <https://github.com/libp2p/specs/blob/master/autonat/autonat-v2.md>.
const DIAL_REQUEST_PROTOCOL: &str = "/libp2p/autonat/2/dial-request";
const DIAL_BACK_PROTOCOL: &str = "/libp2p/autonat/2/dial-back";

/// Everything that a node does to be reached.
#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "Event")]
pub(super) struct Nat {
    probe: Toggle<probe::Probe>,
    answer: Toggle<answer::Answer>,
    client: Toggle<relay::client::Behaviour>,
    service: Toggle<relay::Behaviour>,
    punch: Toggle<dcutr::Behaviour>,
    ports: Toggle<router::Ports>,
}

/// What is found out.
#[derive(Debug)]
pub(super) enum Event {
    /// Peers were asked to dial an address of ours.
    Probed(probe::Event),
    /// A direct connection took the place of a relayed one, or not.
    Punched(dcutr::Event),
    /// Something of which others are told, or nobody.
    Other,
}

/// A transport through relays, what keeps ports of the router open, and everything else.
pub(super) struct Parts {
    pub(super) ports: Option<router::Keeper>,
    pub(super) transport: Option<relay::client::Transport>,
    pub(super) nat: Nat,
}

impl Nat {
    pub(super) fn with_transport(settings: &ReachSettings, identity: &Keypair) -> Parts {
        let local = identity.public().to_peer_id();
        let (transport, client) = match settings.relays {
            Some(_) => Some(relay::client::new(local)).unzip(),
            None => (None, None),
        };
        let punches = settings.punches_holes && client.is_some();
        let service = settings.relay_service.map(|limits| {
            let mut service = relay::Behaviour::new(local, relay_config(limits));
            service.set_status(Some(relay::Status::Disable));
            service
        });
        let (keeper, ports) = settings.maps_ports.then(router::new).unzip();
        let nat = Self {
            probe: settings.asks.then(probe::Probe::default).into(),
            answer: settings.answers.map(answer::Answer::new).into(),
            client: client.into(),
            service: service.into(),
            punch: punches.then(|| dcutr::Behaviour::new(local)).into(),
            ports: ports.into(),
        };
        Parts { ports: keeper, transport, nat }
    }

    /// Names of the protocols that are answered here.
    pub(super) fn protocols(&self, reachability: Reachability) -> Vec<String> {
        let is_relay = self.service.is_enabled() && reachability == Reachability::Public;
        [
            (self.probe.is_enabled(), DIAL_BACK_PROTOCOL),
            (self.answer.is_enabled(), DIAL_REQUEST_PROTOCOL),
            (self.client.is_enabled(), STOP_PROTOCOL),
            (is_relay, HOP_PROTOCOL),
        ]
        .into_iter()
        .filter(|(is_answered, _)| *is_answered)
        .map(|(_, name)| name.to_owned())
        .collect()
    }

    /// Relays for others while this node is public.
    pub(super) fn on_reachability(&mut self, reachability: Reachability) {
        let status =
            if reachability == Reachability::Public { relay::Status::Enable } else { relay::Status::Disable };
        if let Some(service) = self.service.as_mut() {
            service.set_status(Some(status));
        }
    }
}

fn relay_config(limits: RelayLimits) -> relay::Config {
    relay::Config {
        max_reservations: limits.max_reservations,
        reservation_duration: limits.reservation_ttl,
        max_circuits: limits.max_reservations,
        max_circuits_per_peer: limits.max_circuits_per_peer,
        max_circuit_duration: limits.max_circuit_duration,
        max_circuit_bytes: limits.max_circuit_bytes,
        // How often peers and networks may ask.
        ..relay::Config::default()
    }
}

impl From<probe::Event> for Event {
    fn from(event: probe::Event) -> Self {
        Self::Probed(event)
    }
}

impl From<dcutr::Event> for Event {
    fn from(event: dcutr::Event) -> Self {
        Self::Punched(event)
    }
}

impl From<relay::client::Event> for Event {
    fn from(event: relay::client::Event) -> Self {
        tracing::debug!(?event, "relay");
        Self::Other
    }
}

impl From<relay::Event> for Event {
    fn from(event: relay::Event) -> Self {
        tracing::debug!(?event, "relayed for others");
        Self::Other
    }
}

impl From<Infallible> for Event {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
