use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use cairn_proto::unixfs::import::{ImportOptions, Profile as ImportProfile};
use serde_json::json;

use super::profile::{PROFILES, Profile};
use super::*;
use crate::settings::{ConnectionMarks, DhtMode};

/// A configuration that reaches nobody.
fn config() -> Config {
    let mut config = Config::new(&Keypair::generate_ed25519());
    config.apply(Profile::Test).unwrap();
    config
}

fn with(key: &str, value: Value) -> Config {
    let mut config = config();
    config.set(key, value).unwrap();
    config
}

fn swarm(config: &Config) -> crate::settings::SwarmSettings {
    config.to_settings(Path::new("/repo")).unwrap().swarm.unwrap()
}

#[test]
fn a_fresh_configuration_reads_and_has_the_documented_ports() {
    let config = Config::new(&Keypair::generate_ed25519());
    config.check().unwrap();
    let ports: Vec<_> = swarm(&config).listen.iter().map(ToString::to_string).collect();
    assert!(ports.iter().all(|address| address.contains("/4001")), "{ports:?}");
    assert_eq!(config.rpc().unwrap().listen[0].to_string(), "/ip4/127.0.0.1/tcp/5001");
    assert_eq!(config.gateway().unwrap().listen[0].to_string(), "/ip4/127.0.0.1/tcp/8080");
    assert_eq!(config.gateway().unwrap().listen_tls[0].to_string(), "/ip4/127.0.0.1/tcp/8443");
    assert_eq!(swarm(&config).bootstrap.len(), BOOTSTRAP.len());
}

#[test]
fn an_empty_document_with_an_identity_means_the_defaults_but_no_bootstrap() {
    let fresh = Config::new(&Keypair::generate_ed25519());
    let mut bare = Config::parse("{}").unwrap();
    bare.replace(Config::parse("{}").unwrap());
    bare.document.insert("Identity".into(), fresh.document["Identity"].clone());
    bare.check().unwrap();
    assert_eq!(swarm(&bare).listen, swarm(&fresh).listen);
    assert!(swarm(&bare).bootstrap.is_empty());
}

#[test]
fn the_file_survives_a_round_trip_with_unknown_keys_in_place() {
    let repo = tempfile::tempdir().unwrap();
    let mut config = config();
    config.set("Experimental.SomethingNew", json!({ "a": [1, 2.5, null] })).unwrap();
    config.save(repo.path()).unwrap();
    assert_eq!(Config::load(repo.path()).unwrap(), config);
    assert_eq!(fs::read_dir(repo.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let repo = tempfile::tempdir().unwrap();
    config().save(repo.path()).unwrap();
    let mode = fs::metadata(repo.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_missing_repo_says_how_to_make_one() {
    let repo = tempfile::tempdir().unwrap();
    for error in [
        Config::load(repo.path()).unwrap_err(),
        Config::edit(&repo.path().join("none"), |_| Ok(())).unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("cairn init"), "{error}");
    }
}

#[test]
fn edits_at_the_same_time_all_arrive() {
    let repo = tempfile::tempdir().unwrap();
    config().save(repo.path()).unwrap();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let repo = repo.path();
            scope.spawn(move || {
                Config::edit(repo, |config| config.set(&format!("Mine.K{n}"), json!(n))).unwrap()
            });
        }
    });
    let config = Config::load(repo.path()).unwrap();
    assert_eq!(config.get("Mine").unwrap().as_object().unwrap().len(), 16);
}

#[test]
fn an_edit_that_makes_the_configuration_invalid_leaves_the_file_alone() {
    let repo = tempfile::tempdir().unwrap();
    config().save(repo.path()).unwrap();
    let before = fs::read(repo.path().join(FILE_NAME)).unwrap();
    let error =
        Config::edit(repo.path(), |config| config.set("Routing.Type", json!("sideways"))).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(fs::read(repo.path().join(FILE_NAME)).unwrap(), before);
}

#[test]
fn each_wrong_value_is_an_error_that_names_its_key() {
    for (key, value) in [
        ("Addresses.Swarm", json!(["/ip4/1.2.3.4/nonsense/1"])),
        ("Addresses.API", json!(5001)),
        ("Addresses.Gateway", json!("localhost:8080")),
        ("Addresses.GatewayTLS", json!(["x"])),
        ("Addresses.GatewayAdmin", json!(["x"])),
        ("Addresses.Announce", json!("x")),
        ("Addresses.AppendAnnounce", json!("x")),
        ("Addresses.NoAnnounce", json!(["x"])),
        ("Swarm.AddrFilters", json!(["/ip4/10.0.0.0"])),
        ("API.AllowedHosts", json!("x")),
        ("API.HTTPHeaders", json!({ "Access-Control-Allow-Origin": "x" })),
        ("API.Authorizations", json!({ "a": { "AuthSecret": "odd:x" } })),
        ("Bitswap.BlockTimeout", json!("5 minutes")),
        ("Bitswap.ServerEnabled", json!("yes")),
        ("Bootstrap", json!(["/ip4/127.0.0.1/tcp/4001"])),
        ("Datastore.StorageMax", json!("lots")),
        ("Discovery.MDNS.Enabled", json!(1)),
        ("Denylists.Folders", json!(1)),
        ("Gateway.MaxConcurrentRequests", json!("x")),
        ("Gateway.MaxDeserializedResponseSize", json!("x")),
        ("Gateway.MaxListingRows", json!("x")),
        ("Gateway.MaxRangeRequestFileSize", json!("x")),
        ("Gateway.MaxRequestDuration", json!("x")),
        ("Gateway.MaxUnixFSDAGResponseSize", json!("x")),
        ("Gateway.NoFetch", json!("x")),
        ("Gateway.DeserializedResponses", json!("x")),
        ("Gateway.DrainTimeout", json!("x")),
        ("Gateway.HTTPHeaders", json!({ "a": 1 })),
        ("Gateway.PublicGateways", json!({ "a": 1 })),
        ("Gateway.PublicGateways", json!({ "a": { "Paths": ["/api"] } })),
        ("Gateway.TrustedProxies", json!(["10.0.0.0/99"])),
        ("Gateway.RateLimit.Burst", json!("x")),
        ("Gateway.RateLimit.RequestsPerSecond", json!(-1)),
        ("Gateway.RetrievalTimeout", json!("x")),
        ("Gateway.TLS.ACME.Directory", json!(1)),
        ("Gateway.TLS.ACME.Domains", json!(1)),
        ("Gateway.TLS.ACME.Email", json!(1)),
        ("Gateway.TLS.ACME.OnDemand", json!(1)),
        ("Gateway.TLS.ACME.OnDemandPerHour", json!("x")),
        ("Gateway.TLS.ACME.Root", json!(1)),
        ("Gateway.TLS.Certificate", json!("/cert.pem")),
        ("Gateway.TLS.HSTS", json!("x")),
        ("Gateway.TLS.Key", json!("/key.pem")),
        ("Gateway.TLS.Redirect", json!("x")),
        ("Import.CidVersion", json!(2)),
        ("Import.HashFunction", json!("md4")),
        ("Import.UnixFSChunker", json!("size-0")),
        ("Import.UnixFSDAGLayout", json!("sideways")),
        ("Import.UnixFSDirectoryMaxLinks", json!(-1)),
        ("Import.UnixFSFileMaxLinks", json!(1)),
        ("Import.UnixFSHAMTDirectoryMaxFanout", json!(100)),
        ("Import.UnixFSHAMTDirectorySizeEstimation", json!("x")),
        ("Import.UnixFSHAMTDirectorySizeThreshold", json!("x")),
        ("Import.UnixFSRawLeaves", json!("x")),
        ("Peering.Peers", json!([{ "ID": "x" }])),
        ("Resources.MaxMemory", json!(-1)),
        ("Routing.DHTProtocol", json!("x")),
        ("Routing.LanDHTProtocol", json!("x")),
        ("Routing.Type", json!("custom")),
        ("Swarm.ConnMgr.HighWater", json!("x")),
        ("Version.AgentSuffix", json!(1)),
    ] {
        let error = with(key, value).check().expect_err(key);
        assert_eq!(error.kind(), Kind::Invalid, "{key}");
        let named = match key {
            "Gateway.TLS.Certificate" => "Gateway.TLS.Key",
            "Gateway.TLS.Key" => "Gateway.TLS.Certificate",
            "Import.UnixFSFileMaxLinks" | "Import.UnixFSHAMTDirectoryMaxFanout" => "Import",
            key => key,
        };
        assert!(error.to_string().contains(named), "{key}: {error}");
    }
}

#[test]
fn a_value_is_reached_by_its_dotted_key() {
    let config = with("Swarm.ConnMgr.HighWater", json!(7));
    assert_eq!(config.get("Swarm.ConnMgr.HighWater"), Some(&json!(7)));
    assert_eq!(config.get("Swarm.Nothing.Here"), None);
    assert_eq!(config.get(""), None);
}

#[test]
fn setting_below_a_value_that_is_no_object_or_at_an_empty_key_is_refused() {
    let mut config = config();
    for key in ["Bootstrap.First", "", "A..B", "."] {
        assert_eq!(config.set(key, json!(1)).unwrap_err().kind(), Kind::Invalid, "{key}");
    }
}

#[test]
fn the_private_key_can_be_neither_shown_nor_set_nor_replaced() {
    let mut config = config();
    let key = config.get("Identity.PrivKey").unwrap().as_str().unwrap().to_owned();
    assert!(!config.public().to_string().contains(&key));
    assert!(!format!("{config:?}").contains(&key));
    assert!(config.set("Identity.PrivKey", json!("x")).is_err());
    assert!(config.set("Identity", json!({})).is_err());

    let shown = config.public().to_string();
    config.replace(Config::parse(&shown).unwrap());
    assert_eq!(config.get("Identity.PrivKey").unwrap().as_str(), Some(key.as_str()));
    let other = Config::new(&Keypair::generate_ed25519());
    config.replace(other);
    assert_eq!(config.get("Identity.PrivKey").unwrap().as_str(), Some(key.as_str()));
}

#[test]
fn secrets_of_callers_are_hidden_and_survive_a_replace_by_what_was_shown() {
    let mut config = with(
        "API.Authorizations",
        json!({ "Ann": { "AuthSecret": "bearer:hush", "AllowedPaths": ["/api/v0"] } }),
    );
    let shown = config.public().to_string();
    assert!(!shown.contains("hush") && shown.contains("AllowedPaths"));
    config.replace(Config::parse(&shown).unwrap());
    assert_eq!(config.rpc().unwrap().authorizations[0].header, "Bearer hush");
    assert!(config.set("API.Authorizations.Ann.AuthSecret", json!("x")).is_err());
}

#[test]
fn an_error_never_repeats_a_secret() {
    let mut config = config();
    config.put("Identity.PrivKey", json!("c2VjcmV0IGJ1dCBubyBrZXk=")).unwrap();
    let error = config.check().unwrap_err().to_string();
    assert!(error.contains("Identity.PrivKey") && !error.contains("c2Vj"), "{error}");
}

#[test]
fn a_peer_id_that_is_not_that_of_the_key_is_refused() {
    let mut config = config();
    config.put("Identity.PeerID", json!("12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8")).unwrap();
    assert!(config.check().unwrap_err().to_string().contains("Identity.PeerID"));
}

#[test]
fn overrides_are_json_or_plain_text_and_leave_the_original_alone() {
    let config = config();
    let changed = config
        .with_overrides([
            ("Swarm__ConnMgr__HighWater", "12"),
            ("Routing__Type", "none"),
            ("Bootstrap", r#"["auto"]"#),
            ("Discovery__MDNS__Enabled", "true"),
        ])
        .unwrap();
    let swarm = swarm(&changed);
    assert_eq!((swarm.connections.marks.unwrap().high, swarm.dht, swarm.mdns), (12, DhtMode::Off, true));
    assert_eq!(swarm.bootstrap.len(), BOOTSTRAP.len());
    assert_ne!(config, changed);
    assert!(config.with_overrides([("A____B", "1")]).is_err());
}

#[test]
fn keys_of_the_node_matter() {
    let peer = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";
    let id = peer.rsplit_once('/').unwrap().1;
    let read = |key, value| swarm(&with(key, value));
    assert_eq!(read("Addresses.Swarm", json!(["/ip4/127.0.0.1/tcp/7"])).listen.len(), 1);
    assert_eq!(read("Addresses.Announce", json!(["/ip4/1.2.3.4/tcp/7"])).announce.replace.len(), 1);
    assert_eq!(read("Addresses.AppendAnnounce", json!(["/ip4/1.2.3.4/tcp/7"])).announce.append.len(), 1);
    assert_eq!(
        read("Addresses.NoAnnounce", json!(["/ip4/1.2.3.4/tcp/7", "/ip4/10.0.0.0/ipcidr/8"]))
            .announce
            .withhold
            .len(),
        2
    );
    let refused = read("Swarm.AddrFilters", json!(["/ip4/10.0.0.0/ipcidr/8"])).refused;
    assert!(refused.contain(&"/ip4/10.9.8.7/tcp/1".parse().unwrap()));
    assert_eq!(read("Bootstrap", json!([peer])).bootstrap[0].to_string(), peer);
    assert_eq!(
        read("Peering.Peers", json!([{ "ID": id, "Addrs": ["/ip4/127.0.0.1/tcp/9"] }])).peering[0].1.len(),
        1
    );
    assert!(read("Discovery.MDNS.Enabled", json!(true)).mdns);
    assert_eq!(read("Routing.Type", json!("dhtserver")).dht, DhtMode::Server);
    assert_eq!(read("Routing.DHTProtocol", json!("/mine/kad")).dht_protocol, "/mine/kad");
    assert_eq!(read("Routing.LanDHTProtocol", json!("/mine/lan")).lan_dht_protocol, "/mine/lan");
    assert!(!read("Bitswap.ServerEnabled", json!(false)).bitswap_server);
    let marks = |key, value| read(key, value).connections.marks;
    let defaults = ConnectionMarks { low: 32, high: 96, grace: Duration::from_secs(20) };
    assert_eq!(marks("Swarm.ConnMgr.HighWater", json!(40)), Some(ConnectionMarks { high: 40, ..defaults }));
    assert_eq!(marks("Swarm.ConnMgr.LowWater", json!(5)), Some(ConnectionMarks { low: 5, ..defaults }));
    let grace = Duration::from_secs(60);
    assert_eq!(marks("Swarm.ConnMgr.GracePeriod", json!("1m")), Some(ConnectionMarks { grace, ..defaults }));
    assert_eq!(marks("Swarm.ConnMgr.Type", json!("none")), None);
    let max_count = |key, value| read(key, value).connections.max_count;
    assert_eq!(max_count("Resources.MaxMemory", json!("1GiB")), 512);
    assert_eq!(max_count("Swarm.ResourceMgr.MaxMemory", json!("100MiB")), 200);
    assert_eq!(max_count("Swarm.ResourceMgr.MaxFileDescriptors", json!(50)), 50);
    assert_eq!(max_count("Swarm.ResourceMgr.Enabled", json!(false)), u32::MAX);
    assert_eq!(marks("Resources.MaxMemory", json!("100MiB")).unwrap().high, 50, "a lower budget goes before");
    assert_eq!(read("Resources.MaxUpload", json!("1MB")).bandwidth.up_bytes, Some(1_000_000));
    assert_eq!(read("Resources.MaxDownload", json!(5)).bandwidth.down_bytes, Some(5));
    assert!(read("Version.AgentSuffix", json!("docker")).agent_version.ends_with("/docker"));

    let settings = |key, value| with(key, value).to_settings(Path::new("/repo")).unwrap();
    assert_eq!(settings("Datastore.StorageMax", json!("10GB")).store.max_bytes, Some(10_000_000_000));
    assert_eq!(settings("Resources.MaxMemory", json!("800MB")).store.memory_bytes, 300_000_000);
    assert_eq!(settings("Bitswap.BlockTimeout", json!("1m30s")).block_timeout, Duration::from_secs(90));
    let folders = settings("Denylists.Folders", json!(["/a", "/b"])).denylists;
    assert_eq!(folders, ["/a", "/b", "/repo/denylists"].map(PathBuf::from));
}

#[test]
fn listeners_of_transports_that_are_missing_here_are_left_out() {
    // Source of the list: the default of Kubo 0.43.
    let config = with(
        "Addresses.Swarm",
        json!([
            "/ip4/0.0.0.0/tcp/4001",
            "/ip4/0.0.0.0/udp/4001/webrtc-direct",
            "/ip4/0.0.0.0/udp/4001/quic-v1",
            "/ip4/0.0.0.0/udp/4001/quic-v1/webtransport",
        ]),
    );
    assert_eq!(swarm(&config).listen.len(), 2);
}

#[test]
fn keys_of_the_servers_matter() {
    let rpc = |key, value| with(key, value).rpc().unwrap();
    assert_eq!(rpc("Addresses.API", json!(["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"])).listen.len(), 2);
    assert!(rpc("Addresses.API", json!(null)).listen.is_empty());
    let headers = json!({ "Access-Control-Allow-Origin": ["https://example.com"] });
    assert_eq!(rpc("API.HTTPHeaders", headers).allowed_origins, ["https://example.com"]);
    assert_eq!(rpc("API.AllowedHosts", json!(["cairn"])).allowed_hosts, ["cairn"]);

    let gateway = |key, value| with(key, value).gateway().unwrap();
    assert!(gateway("Addresses.Gateway", json!([])).listen.is_empty());
    assert!(gateway("Addresses.GatewayTLS", json!("")).listen_tls.is_empty());
    assert_eq!(gateway("Addresses.GatewayAdmin", json!("/ip4/127.0.0.1/tcp/1")).listen_admin.len(), 1);
    assert_eq!(gateway("Gateway.DrainTimeout", json!("9s")).drain_timeout, Some(Duration::from_secs(9)));
    assert_eq!(gateway("Gateway.NoFetch", json!(true)).others.no_fetch, Some(true));
    assert_eq!(gateway("Gateway.NoFetch", json!(null)).others.no_fetch, None);
    assert!(!gateway("Gateway.DeserializedResponses", json!(false)).others.deserialized);
    let headers = gateway("Gateway.HTTPHeaders", json!({ "X-A": ["b"] })).others.headers;
    assert_eq!(headers["X-A"], ["b"]);
    let proxies = gateway("Gateway.TrustedProxies", json!(["127.0.0.1", "fd00::/8"])).trusted_proxies;
    assert_eq!(proxies.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1/32", "fd00::/8"]);
    assert_eq!(
        gateway("Gateway.RetrievalTimeout", json!("5s")).retrieval_timeout,
        Some(Duration::from_secs(5))
    );
    assert_eq!(gateway("Gateway.MaxConcurrentRequests", json!(7)).max_requests, Some(7));
    assert_eq!(gateway("Resources.MaxMemory", json!("800MB")).cache_bytes, 100_000_000);
    assert_eq!(
        gateway("Gateway.MaxRequestDuration", json!("2h")).max_request_duration,
        Some(Duration::from_secs(7200))
    );
    assert_eq!(gateway("Gateway.RateLimit", json!({ "RequestsPerSecond": 5 })).rate_limit, Some((5, 50)));
    let limit = json!({ "RequestsPerSecond": 5, "Burst": 7 });
    assert_eq!(gateway("Gateway.RateLimit", limit).rate_limit, Some((5, 7)));
    assert_eq!(gateway("Gateway.RateLimit", json!({ "RequestsPerSecond": 0 })).rate_limit, None);
    assert_eq!(gateway("Gateway.MaxDeserializedResponseSize", json!("1kB")).max_file_bytes, Some(1000));
    assert_eq!(gateway("Gateway.MaxUnixFSDAGResponseSize", json!(5)).max_content_bytes, Some(5));
    assert_eq!(gateway("Gateway.MaxRangeRequestFileSize", json!(0)).max_range_file_bytes, None);
    assert_eq!(gateway("Gateway.MaxRangeRequestFileSize", json!("5GiB")).max_range_file_bytes, Some(5 << 30));
    assert_eq!(gateway("Gateway.MaxListingRows", json!(9)).max_listing_rows, Some(9));
    assert!(gateway("Gateway.TLS", json!({ "Certificate": "a", "Key": "b" })).certificate.is_some());
}

#[test]
fn names_for_an_authority_bring_what_belongs_to_https() {
    let gateway = |tls| with("Gateway.TLS", tls).gateway().unwrap();
    let none = gateway(json!({ "ACME": { "Email": "a@b.example" } }));
    assert_eq!((none.acme, none.redirect_to_https, none.hsts), (None, false, None));
    let year = Some(Duration::from_secs(365 * 24 * 3600));
    let files = gateway(json!({ "Certificate": "a", "Key": "b" }));
    assert_eq!((files.redirect_to_https, files.hsts), (false, year));
    let some = gateway(json!({ "ACME": {
        "Directory": "https://ca.example/dir",
        "Email": "a@b.example",
        "Domains": ["b.example"],
        "OnDemand": ["*.c.example"],
        "OnDemandPerHour": 5,
        "Root": "/root.pem",
    } }));
    assert_eq!((some.redirect_to_https, some.hsts), (true, year));
    let acme = some.acme.unwrap();
    assert_eq!(
        (acme.domains, acme.on_demand),
        (vec!["b.example".to_owned()], vec!["*.c.example".to_owned()])
    );
    assert_eq!(acme.directory.as_deref(), Some("https://ca.example/dir"));
    assert_eq!((acme.email.as_deref(), acme.on_demand_per_hour), (Some("a@b.example"), Some(5)));
    assert_eq!(acme.root, Some(PathBuf::from("/root.pem")));
    let off = gateway(json!({ "ACME": { "Domains": "b.example" }, "Redirect": false, "HSTS": "0" }));
    assert_eq!((off.redirect_to_https, off.hsts), (false, None));
}

#[test]
fn hosts_are_read_as_kubo_documents_them() {
    let hosts = |value| with("Gateway.PublicGateways", value).gateway().unwrap().hosts;
    let names = |value| hosts(value).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(json!({})), ["localhost"]);
    assert!(names(json!({ "localhost": null })).is_empty());
    assert_eq!(names(json!({ "*.example": {}, "z.example": {} })), ["localhost", "z.example", "*.example"]);

    let host = |value| hosts(json!({ "a.example": value })).swap_remove(0).1;
    let empty = host(json!({}));
    assert!(!empty.ipfs && !empty.ipns && !empty.use_subdomains && empty.deserialized);
    assert_eq!(empty.no_fetch, None);
    let full = host(json!({
        "Paths": ["/ipfs", "/ipns/"],
        "UseSubdomains": true,
        "DeserializedResponses": false,
        "NoFetch": false,
        "HTTPHeaders": { "X-A": ["b"] },
        "NoDNSLink": true,
    }));
    assert!(full.ipfs && full.ipns && full.use_subdomains && !full.deserialized);
    assert_eq!((full.no_fetch, full.headers.len()), (Some(false), 1));

    let localhost = hosts(json!({ "localhost": { "DeserializedResponses": false } })).swap_remove(0).1;
    assert!(localhost.ipfs && localhost.ipns && localhost.use_subdomains && !localhost.deserialized);
}

#[test]
fn secrets_become_the_headers_that_kubo_makes_of_them() {
    // Source: Kubo `config/api_test.go`.
    for (secret, header) in [
        ("someToken", "Bearer someToken"),
        ("bearer:someToken", "Bearer someToken"),
        ("basic:user:pass", "Basic dXNlcjpwYXNz"),
        ("basic:dXNlcjpwYXNz", "Basic dXNlcjpwYXNz"),
    ] {
        assert_eq!(http::authorization_header(secret).unwrap(), header);
    }
    assert!(http::authorization_header("").is_err());
    assert!(http::authorization_header("unknown:x").is_err());
}

#[test]
fn import_profiles_set_what_ipip_499_says_and_keys_matter_one_by_one() {
    let mut config = config();
    let default = config.import().unwrap();
    assert_eq!(default, ImportOptions::from_profile(ImportProfile::UnixfsV1_2025));
    for (name, profile) in [
        ("unixfs-v0-2015", ImportProfile::UnixfsV0_2015),
        ("unixfs-v1-2025", ImportProfile::UnixfsV1_2025),
        ("legacy-cid-v0", ImportProfile::UnixfsV0_2015),
    ] {
        config.apply(name.parse().unwrap()).unwrap();
        assert_eq!(config.import().unwrap(), ImportOptions::from_profile(profile), "{name}");
    }

    let read = |key, value| with(key, value).import().unwrap();
    assert!(!read("Import.CidVersion", json!(0)).raw_leaves);
    assert!(!read("Import.UnixFSRawLeaves", json!(false)).raw_leaves);
    assert_eq!(read("Import.UnixFSChunker", json!("size-1000")).chunker.max_chunk_bytes(), 1000);
    assert_ne!(read("Import.HashFunction", json!("blake3")).hash, default.hash);
    assert_eq!(read("Import.UnixFSFileMaxLinks", json!(7)).max_file_links, 7);
    assert_eq!(read("Import.UnixFSDirectoryMaxLinks", json!(9)).max_directory_links, 9);
    assert_eq!(read("Import.UnixFSHAMTDirectoryMaxFanout", json!(8)).hamt_fanout, 8);
    assert_eq!(read("Import.UnixFSHAMTDirectorySizeThreshold", json!("1KiB")).hamt_threshold_bytes, 1024);
}

#[test]
fn the_test_profile_reaches_nobody_and_default_networking_reverses_it() {
    let test = config();
    let settings = swarm(&test);
    assert!(settings.bootstrap.is_empty() && !settings.mdns);
    for address in
        settings.listen.iter().chain(&test.rpc().unwrap().listen).chain(&test.gateway().unwrap().listen_tls)
    {
        let text = address.to_string();
        assert!(text.starts_with("/ip4/127.0.0.1/") && text.contains("/0"), "{text}");
    }
    let mut back = test.clone();
    back.apply(Profile::DefaultNetworking).unwrap();
    assert_eq!(back.get("Addresses"), Config::new(&Keypair::generate_ed25519()).get("Addresses"));
    assert!(swarm(&back).mdns);
}

#[test]
fn the_server_profile_filters_private_ranges_once_and_local_discovery_takes_them_out_again() {
    let mut config = with("Swarm.AddrFilters", json!(["/ip4/8.8.8.0/ipcidr/24"]));
    config.apply(Profile::Server).unwrap();
    config.apply(Profile::Server).unwrap();
    let filters: Vec<String> = config.read("Swarm.AddrFilters").unwrap().unwrap();
    assert!(filters.contains(&"/ip4/10.0.0.0/ipcidr/8".to_owned()));
    assert_eq!(filters.len(), filters.iter().collect::<BTreeSet<_>>().len());
    config.apply(Profile::LocalDiscovery).unwrap();
    assert_eq!(config.get("Swarm.AddrFilters"), Some(&json!(["/ip4/8.8.8.0/ipcidr/24"])));
}

#[test]
fn every_profile_leaves_a_valid_configuration() {
    for (name, profile) in PROFILES {
        let mut config = config();
        config.apply(profile).unwrap();
        config.check().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!("nonsense".parse::<Profile>().unwrap_err().to_string().contains("unixfs-v1-2025"));
}

#[test]
fn gateways_that_stand_in_for_peers_are_named_by_their_urls() {
    let upstream = |value| with("Gateway.Upstream", value).upstream();
    assert_eq!(upstream(json!({})).unwrap(), None);
    assert_eq!(upstream(json!({ "URLs": [], "Timeout": "5s" })).unwrap(), None);
    let one = upstream(json!({ "URLs": "https://gw.example/" })).unwrap().unwrap();
    let expected = (vec!["https://gw.example".parse().unwrap()], None, Duration::from_secs(30));
    assert_eq!((one.gateways, one.roots, one.timeout), expected);
    let two = json!({ "URLs": ["http://a:8080", "https://b"], "Root": "/root.pem", "Timeout": "5s" });
    let two = upstream(two).unwrap().unwrap();
    assert_eq!((two.gateways.len(), two.timeout), (2, Duration::from_secs(5)));
    assert_eq!(two.roots, Some(PathBuf::from("/root.pem")));
    assert!(upstream(json!({ "URLs": ["gw.example"] })).is_err());
}

#[test]
fn configurations_differ_in_the_keys_that_were_changed() {
    let before = with("Gateway", json!({ "NoFetch": true, "TLS": { "HSTS": "1h" }, "Writable": false }));
    assert!(before.differences(&before.clone()).is_empty());
    let mut after = before.clone();
    after.set("Gateway.TLS", serde_json::Value::Null).unwrap();
    after.set("Gateway.NoFetch", json!(false)).unwrap();
    after.set("Gateway.RateLimit.Burst", json!(5)).unwrap();
    let expected = ["Gateway.NoFetch", "Gateway.RateLimit.Burst", "Gateway.TLS"];
    let sorted = |mut keys: Vec<String>| {
        keys.sort_unstable();
        keys
    };
    assert_eq!(sorted(before.differences(&after)), expected);
    assert_eq!(sorted(after.differences(&before)), expected);
}
