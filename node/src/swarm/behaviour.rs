//! The protocols that the swarm speaks.

use std::convert::Infallible;

use cairn_proto::bitswap::message::Version;
use libp2p::kad::store::RecordStore;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, identify, mdns, ping};
use tracing::warn;

use super::bitswap;
use super::dht::{self, Dht, Scope};
use super::gate::Gate;
use super::nat::{self, Nat};
use super::pong;
use super::wire::Wire;
use super::{Components, Shared};
use crate::settings::reach::Reachability;
use crate::settings::{DhtMode, SwarmSettings};

/// Version of the protocol family. Source: Kubo `core/node/libp2p` (`ipfs/0.1.0`).
const PROTOCOL_VERSION: &str = "ipfs/0.1.0";

/// Every protocol of the node.
#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "Event")]
pub(super) struct Behaviour<R: RecordStore + Send + 'static> {
    /// First, so that a refused connection costs the others nothing.
    gate: Gate,
    identify: identify::Behaviour,
    /// Before `ping`, so that it gets the inbound streams.
    pong: pong::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    wan: Toggle<Dht<R>>,
    lan: Toggle<Dht<R>>,
    bitswap: Toggle<bitswap::Behaviour>,
    nat: Nat,
    /// Streams of the DHTs' protocols to chosen peers.
    streams: libp2p_stream::Behaviour,
}

/// What the protocols report.
#[derive(Debug)]
pub(super) enum Event {
    Identify(Box<identify::Event>),
    Ping(ping::Event),
    Mdns(mdns::Event),
    Dht(Box<dht::Event>),
    Nat(nat::Event),
    /// Of streams, which report nothing, under the type that they have for it.
    Nothing,
}

impl<R: RecordStore + Send + 'static> Behaviour<R> {
    pub(super) fn new(
        settings: &SwarmSettings,
        components: Components<R>,
        shared: &Shared,
        nat: Nat,
        wire: &Wire,
        streams: libp2p_stream::Behaviour,
    ) -> Self {
        let Components { identity, wan_records, lan_records, bitswap, .. } = components;
        let local = identity.public().to_peer_id();
        let kept = settings.peering.iter().map(|(peer, _)| *peer).collect();
        let has_dht = settings.dht != DhtMode::Off;
        let dht = |scope, records| -> Toggle<Dht<R>> {
            has_dht.then(|| Dht::new(scope, local, wire.protocol(scope).clone(), records)).into()
        };
        // Unsigned records: the signed form of rust-libp2p cannot be verified by Go and JavaScript.
        // Addresses of peers are kept in a book of our own.
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), identity.public())
            .with_agent_version(settings.agent_version.clone())
            .with_push_listen_addr_updates(true)
            // What is told is the external addresses: they follow the listening ones unless the operator says otherwise.
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        Self {
            gate: Gate::new(settings.connections, shared.filters.clone(), kept, shared.traffic.clone()),
            identify: identify::Behaviour::new(identify),
            pong: pong::Behaviour::default(),
            ping: ping::Behaviour::default(),
            mdns: settings.mdns.then(|| new_mdns(local)).flatten().into(),
            wan: dht(Scope::Wan, wan_records),
            lan: dht(Scope::Lan, lan_records),
            bitswap: bitswap.into(),
            nat,
            streams,
        }
    }

    /// The DHT of that scope, if the node takes part.
    pub(super) fn dht(&mut self, scope: Scope) -> Option<&mut Dht<R>> {
        match scope {
            Scope::Wan => self.wan.as_mut(),
            Scope::Lan => self.lan.as_mut(),
        }
    }

    /// Pings a peer that is connected.
    pub(super) fn ping(&mut self, peer: PeerId, reply: pong::Reply) {
        self.pong.ping(peer, reply);
    }

    /// Takes in the name of the program that a peer runs.
    pub(super) fn on_agent(&mut self, peer: &PeerId, agent: &str) {
        if let Some(bitswap) = self.bitswap.as_mut() {
            bitswap.on_agent(peer, agent);
        }
    }

    /// What the node does to be reached.
    pub(super) fn nat(&mut self) -> &mut Nat {
        &mut self.nat
    }

    /// Keeps idle connections of a peer open from now on, or no longer.
    pub(super) fn keep(&mut self, peer: PeerId, is_kept: bool) {
        self.gate.keep(peer, is_kept);
    }

    /// Names of the protocols that are answered here, sorted.
    pub(super) fn protocols(&mut self, reachability: Reachability) -> Vec<String> {
        let mut protocols: Vec<_> =
            [identify::PROTOCOL_NAME, identify::PUSH_PROTOCOL_NAME, ping::PROTOCOL_NAME]
                .iter()
                .map(ToString::to_string)
                .collect();
        if self.bitswap.is_enabled() {
            protocols.extend(Version::PROTOCOLS.map(|(name, _)| name.to_owned()));
        }
        protocols.extend(self.nat.protocols(reachability));
        protocols.extend(self.dhts().flat_map(|dht| dht.answered_protocols()));
        protocols.sort_unstable();
        protocols
    }

    /// The DHTs that the node takes part in.
    pub(super) fn dhts(&mut self) -> impl Iterator<Item = &mut Dht<R>> {
        self.wan.as_mut().into_iter().chain(self.lan.as_mut())
    }
}

/// Discovery on the local network; a machine without multicast goes without.
fn new_mdns(local: PeerId) -> Option<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config::default(), local)
        .inspect_err(|error| warn!(%error, "peers on the local network are not looked for"))
        .ok()
}

impl From<Infallible> for Event {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<()> for Event {
    fn from((): ()) -> Self {
        Self::Nothing
    }
}

impl From<identify::Event> for Event {
    fn from(event: identify::Event) -> Self {
        Self::Identify(Box::new(event))
    }
}

impl From<ping::Event> for Event {
    fn from(event: ping::Event) -> Self {
        Self::Ping(event)
    }
}

impl From<mdns::Event> for Event {
    fn from(event: mdns::Event) -> Self {
        Self::Mdns(event)
    }
}

impl From<nat::Event> for Event {
    fn from(event: nat::Event) -> Self {
        Self::Nat(event)
    }
}

impl From<dht::Event> for Event {
    fn from(event: dht::Event) -> Self {
        Self::Dht(Box::new(event))
    }
}
