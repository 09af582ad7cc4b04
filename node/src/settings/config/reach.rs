//! The keys about being reached behind a router. Source of names and defaults: Kubo `docs/config.md`.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::node::peer_address;
use super::{Config, invalid};
use crate::error::Result;
use crate::settings::reach::{ReachSettings, Reachability, RelayLimits, Throttle};
use crate::settings::units::parse_duration;

impl Config {
    pub(super) fn reach(&self) -> Result<ReachSettings> {
        let has_relays = self.is_on("Swarm.Transports.Network.Relay")?;
        let is_client = has_relays && self.is_on("Swarm.RelayClient.Enabled")?;
        let is_service = has_relays && self.is_on("Swarm.RelayService.Enabled")?;
        Ok(ReachSettings {
            forced: self.read_with("Internal.Libp2pForceReachability", reachability)?,
            asks: true,
            answers: self.throttle()?,
            relays: if is_client { Some(self.relays()?) } else { None },
            relay_service: if is_service { Some(self.relay_limits()?) } else { None },
            punches_holes: is_client && self.is_on("Swarm.EnableHolePunching")?,
            maps_ports: !self.read("Swarm.DisableNatPortMap")?.unwrap_or(false),
        })
    }

    /// A flag that is on unless it is said to be off.
    fn is_on(&self, key: &str) -> Result<bool> {
        Ok(self.read(key)?.unwrap_or(true))
    }

    fn throttle(&self) -> Result<Option<Throttle>> {
        let defaults = Throttle::default();
        let throttle = Throttle {
            max_count: self.read("AutoNAT.Throttle.GlobalLimit")?.unwrap_or(defaults.max_count),
            max_per_peer: self.read("AutoNAT.Throttle.PeerLimit")?.unwrap_or(defaults.max_per_peer),
            interval: self
                .read_with("AutoNAT.Throttle.Interval", parse_duration)?
                .unwrap_or(defaults.interval),
        };
        let is_on = self.read_with("AutoNAT.ServiceMode", |mode| match mode {
            "enabled" => Ok(true),
            // The first version is not served.
            "disabled" | "legacy-v1" => Ok(false),
            other => Err(format!("no such mode: {other:?}; there are enabled, disabled, legacy-v1")),
        });
        Ok(is_on?.unwrap_or(true).then_some(throttle))
    }

    fn relays(&self) -> Result<Vec<(PeerId, Multiaddr)>> {
        let key = "Swarm.RelayClient.StaticRelays";
        let relays = self.read_list(key, |text| Ok::<_, String>(text.to_owned()))?;
        let relays = relays.iter().map(|text| {
            let mut addr = peer_address(key, text)?;
            match addr.pop() {
                Some(Protocol::P2p(peer)) => Ok((peer, addr)),
                _ => Err(invalid(key, "the address does not end in a peer ID")),
            }
        });
        relays.collect()
    }

    fn relay_limits(&self) -> Result<RelayLimits> {
        let defaults = RelayLimits::default();
        let key = |name: &str| format!("Swarm.RelayService.{name}");
        let count = |name| self.read::<usize>(&key(name));
        let duration = |name| self.read_with(&key(name), parse_duration);
        Ok(RelayLimits {
            max_reservations: count("MaxReservations")?.unwrap_or(defaults.max_reservations),
            reservation_ttl: duration("ReservationTTL")?.unwrap_or(defaults.reservation_ttl),
            max_circuits_per_peer: count("MaxCircuits")?.unwrap_or(defaults.max_circuits_per_peer),
            max_circuit_duration: duration("ConnectionDurationLimit")?
                .unwrap_or(defaults.max_circuit_duration),
            max_circuit_bytes: self
                .read_size(&key("ConnectionDataLimit"))?
                .unwrap_or(defaults.max_circuit_bytes),
        })
    }
}

fn reachability(text: &str) -> Result<Reachability, String> {
    match text {
        "public" => Ok(Reachability::Public),
        "private" => Ok(Reachability::Private),
        other => Err(format!("no such reachability: {other:?}; there are public and private")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn reach(keys: &[(&str, serde_json::Value)]) -> Result<ReachSettings> {
        let mut config = Config::generate();
        for (key, value) in keys {
            config.set(key, value.clone()).unwrap();
        }
        config.reach()
    }

    #[test]
    fn everything_is_on_by_default_with_the_limits_of_kubo() {
        let expected = ReachSettings {
            forced: None,
            asks: true,
            answers: Some(Throttle { max_count: 30, max_per_peer: 3, interval: Duration::from_secs(60) }),
            relays: Some(Vec::new()),
            relay_service: Some(RelayLimits {
                max_reservations: 128,
                reservation_ttl: Duration::from_secs(3600),
                max_circuits_per_peer: 16,
                max_circuit_duration: Duration::from_secs(120),
                max_circuit_bytes: 131_072,
            }),
            punches_holes: true,
            maps_ports: true,
        };
        assert_eq!(reach(&[]).unwrap(), expected);
    }

    #[test]
    fn each_key_matters() {
        let relay = PeerId::random();
        let reach_with = |key, value| reach(&[(key, value)]).unwrap();
        let text = format!("/ip4/1.2.3.4/tcp/1/p2p/{relay}");
        let relays = reach_with("Swarm.RelayClient.StaticRelays", json!([text])).relays.unwrap();
        assert_eq!(relays, [(relay, "/ip4/1.2.3.4/tcp/1".parse().unwrap())]);
        assert_eq!(reach_with("Swarm.RelayClient.Enabled", json!(false)).relays, None);
        assert!(!reach_with("Swarm.RelayClient.Enabled", json!(false)).punches_holes);
        assert_eq!(reach_with("Swarm.RelayService.Enabled", json!(false)).relay_service, None);
        let off = reach_with("Swarm.Transports.Network.Relay", json!(false));
        assert_eq!((off.relays, off.relay_service), (None, None));
        assert!(!reach_with("Swarm.EnableHolePunching", json!(false)).punches_holes);
        assert!(!reach_with("Swarm.DisableNatPortMap", json!(true)).maps_ports);
        assert_eq!(reach_with("AutoNAT.ServiceMode", json!("disabled")).answers, None);
        let throttle =
            reach_with("AutoNAT.Throttle", json!({ "GlobalLimit": 1, "PeerLimit": 2, "Interval": "3s" }));
        let expected = Throttle { max_count: 1, max_per_peer: 2, interval: Duration::from_secs(3) };
        assert_eq!(throttle.answers, Some(expected));
        let forced = reach_with("Internal.Libp2pForceReachability", json!("public")).forced;
        assert_eq!(forced, Some(Reachability::Public));
        let limits = json!({ "MaxReservations": 1, "ReservationTTL": "2s", "MaxCircuits": 3,
            "ConnectionDurationLimit": "4s", "ConnectionDataLimit": 5 });
        let expected = RelayLimits {
            max_reservations: 1,
            reservation_ttl: Duration::from_secs(2),
            max_circuits_per_peer: 3,
            max_circuit_duration: Duration::from_secs(4),
            max_circuit_bytes: 5,
        };
        assert_eq!(reach_with("Swarm.RelayService", limits).relay_service, Some(expected));
    }

    #[test]
    fn words_that_do_not_exist_are_refused_with_those_that_do() {
        let error = reach(&[("AutoNAT.ServiceMode", json!("sometimes"))]).unwrap_err().to_string();
        assert!(error.contains("AutoNAT.ServiceMode") && error.contains("legacy-v1"), "{error}");
        let error = reach(&[("Internal.Libp2pForceReachability", json!("maybe"))]).unwrap_err().to_string();
        assert!(error.contains("private"), "{error}");
        assert!(reach(&[("Swarm.RelayClient.StaticRelays", json!(["/ip4/1.2.3.4/tcp/1"]))]).is_err());
    }
}
