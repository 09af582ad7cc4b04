//! Certificates from a real certificate authority, as browsers would see them.

use std::fs;

use cairn_tests::{Curl, Node, Pebble, free_port, until};
use serde_json::{Value, json};

const DOMAIN: &str = "gateway.example";

/// A node whose gateway the authority looks for on the right ports, and its certificates' root.
struct Site {
    node: Node,
    _pebble: Pebble,
    issuer: String,
    http_port: u16,
    tls_port: u16,
}

/// Starts both. `is_tls_reachable`: the authority can reach the port for TLS, and so need not use the other.
fn site(acme: Value, is_tls_reachable: bool) -> Option<Site> {
    let (http_port, tls_port) = (free_port(), free_port());
    let pebble = Pebble::start(http_port, if is_tls_reachable { tls_port } else { free_port() })?;
    let mut node = Node::cairn();
    let mut acme = acme;
    acme["Directory"] = json!(pebble.directory());
    acme["Root"] = json!(pebble.root());
    acme["Email"] = json!("operator@gateway.example");
    node.set("Gateway.TLS", json!({ "ACME": acme }));
    node.set("Addresses.Gateway", json!(format!("/ip4/127.0.0.1/tcp/{http_port}")));
    node.set("Addresses.GatewayTLS", json!(format!("/ip4/127.0.0.1/tcp/{tls_port}")));
    node.start();
    let issuer = pebble.issuer().display().to_string();
    Some(Site { node, _pebble: pebble, issuer, http_port, tls_port })
}

impl Site {
    /// A request to a name, as if this computer were the whole world.
    fn get(&self, scheme: &str, name: &str) -> Curl {
        let (public, port) = if scheme == "https" { (443, self.tls_port) } else { (80, self.http_port) };
        Curl::get(&format!("{scheme}://{name}/ipfs/bafkqaaa")).with(&[
            "--connect-to",
            &format!("{name}:{public}:127.0.0.1:{port}"),
            "--cacert",
            &self.issuer,
        ])
    }

    fn is_trusted(&self, name: &str) -> bool {
        self.get("https", name).exit_code() == Some(0)
    }
}

#[test]
fn a_listed_name_gets_a_certificate_by_either_proof_and_keeps_it_over_a_restart() {
    for is_tls_reachable in [true, false] {
        let acme = json!({ "Domains": [DOMAIN] });
        let Some(mut site) = site(acme, is_tls_reachable) else { return };
        until("there is a certificate", || site.is_trusted(DOMAIN));
        let headers = site.get("https", DOMAIN).headers();
        assert!(headers.starts_with("HTTP/2 200"), "{headers}");
        assert!(headers.contains("strict-transport-security: max-age=31536000"), "{headers}");
        let headers = site.get("http", DOMAIN).headers();
        assert!(headers.starts_with("HTTP/1.1 301"), "{headers}");
        assert!(headers.contains(&format!("location: https://{DOMAIN}/ipfs/bafkqaaa\n")), "{headers}");

        let path = site.node.repo().join(format!("tls/acme/{DOMAIN}.pem"));
        let first = fs::read(&path).expect("the certificate is kept");
        site.node.stop();
        site.node.start();
        assert!(site.is_trusted(DOMAIN));
        assert!(fs::read(&path).expect("it is still there") == first, "a restart orders nothing");
    }
}

#[test]
fn a_name_on_demand_gets_one_at_its_first_handshake_and_no_other_name_does() {
    let Some(site) = site(json!({ "OnDemand": ["*.sites.example"] }), true) else { return };
    assert!(site.is_trusted("one.sites.example"), "the first client waits for it");
    for name in ["other.example", "a.b.sites.example", "sites.example"] {
        assert!(!site.is_trusted(name), "{name}");
    }
    let kept = fs::read_dir(site.node.repo().join("tls/acme")).expect("a folder");
    let certificates = kept.filter(|entry| {
        let path = entry.as_ref().expect("an entry").path();
        path.extension().is_some_and(|extension| extension == "pem")
    });
    assert_eq!(certificates.count(), 1);
}

#[test]
fn orders_on_demand_have_a_rate() {
    // The burst is ten; no other name is ordered for an hour.
    let Some(site) = site(json!({ "OnDemand": ["*.sites.example"], "OnDemandPerHour": 1 }), true) else {
        return;
    };
    let trusted = (0..11).filter(|number| site.is_trusted(&format!("n{number}.sites.example"))).count();
    assert_eq!(trusted, 10);
    assert!(site.is_trusted("n0.sites.example"), "names that have one are served on");
}
