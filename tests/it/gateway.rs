//! The gateway over HTTP and HTTPS, as curl sees it.

use cairn_tests::{Curl, Node, Scratch, Transport, files_equal, free_port, until};
use serde_json::json;

const PAGE: &str = "<!doctype html><title>a site</title><p>a page";

fn node_with_site(scratch: &Scratch) -> (Node, String) {
    let site = scratch.site("site", &[("index.html", PAGE), ("data/a.txt", "0123456789")]);
    let mut node = Node::cairn();
    let cid = node.add(&site);
    node.start();
    (node, cid)
}

#[test]
fn a_site_is_served_over_https_with_a_certificate_of_the_local_authority() {
    let scratch = Scratch::new();
    let (node, cid) = node_with_site(&scratch);
    let port = node.port("Gateway (HTTPS)");
    let authority = node.authority();
    let trust = ["--location", "--cacert", authority.to_str().expect("paths of tests are UTF-8")];

    let page = Curl::get(&format!("https://localhost:{port}/ipfs/{cid}/")).with(&trust).body(200);
    assert_eq!(page, PAGE.as_bytes());
    let headers = Curl::get(&format!("https://{cid}.ipfs.localhost:{port}/")).with(&trust).headers();
    assert!(headers.starts_with("HTTP/2 200"), "{headers}");
    assert!(headers.contains("content-type: text/html"), "{headers}");
}

#[test]
fn a_client_without_the_authority_does_not_trust_the_gateway() {
    let scratch = Scratch::new();
    let (node, cid) = node_with_site(&scratch);
    let port = node.port("Gateway (HTTPS)");
    let url = format!("https://localhost:{port}/ipfs/{cid}/");
    // Exit code 60: the certificate cannot be verified.
    assert_eq!(Curl::get(&url).exit_code(), Some(60));
}

#[test]
fn ranges_conditions_and_errors_are_answered_as_http_wants_them() {
    let scratch = Scratch::new();
    let (node, cid) = node_with_site(&scratch);
    let file = format!("http://127.0.0.1:{}/ipfs/{cid}/data/a.txt", node.port("Gateway server"));

    assert_eq!(Curl::get(&file).with(&["--range", "3-5"]).body(206), b"345");
    assert_eq!(Curl::get(&file).with(&["--range", "-2"]).body(206), b"89");
    let headers = Curl::get(&file).headers();
    let etag = headers.lines().find_map(|line| line.strip_prefix("etag: ")).expect("content has an ETag");
    assert!(headers.contains("cache-control: public, max-age=29030400, immutable"), "{headers}");
    assert!(Curl::get(&file).with(&["--header", &format!("if-none-match: {etag}")]).body(304).is_empty());
    assert_eq!(Curl::get(&file).with(&["--header", &format!("if-match: {etag}")]).body(200), b"0123456789");
    assert_eq!(Curl::get(&file).with(&["--header", "if-match: \"other\""]).status(), 412);
    let missing = Curl::get(&file.replace("a.txt", "b.txt")).body(404);
    assert!(!missing.is_empty(), "an error says what is missing");
    assert_eq!(Curl::get(&file).with(&["--request", "DELETE"]).status(), 405);
}

#[test]
fn content_comes_from_the_network_through_the_gateway() {
    let scratch = Scratch::new();
    let (mut source, mut gateway) = (Node::cairn(), Node::cairn());
    let file = scratch.random_file("file", 20_000_000, 60);
    source.start();
    gateway.start();
    gateway.connect(&source, Transport::Tcp);
    let url = format!("http://127.0.0.1:{}/ipfs/{}", gateway.port("Gateway server"), source.add(&file));
    let got = scratch.path("got");
    std::fs::write(&got, Curl::get(&url).body(200)).expect("a file can be written");
    assert!(files_equal(&file, &got));
}

#[test]
fn a_gateway_alone_fetches_for_every_host_from_the_node_behind_it_and_takes_no_commands() {
    let scratch = Scratch::new();
    let (mut source, mut front) = (Node::cairn(), Node::cairn());
    let file = scratch.random_file("file", 5_000_000, 61);
    let cid = source.add(&file);
    source.start();
    let addr = source.addr(Transport::Tcp);
    let id = addr.rsplit('/').next().expect("an address ends in an id");
    front.set("Peering.Peers", json!([{ "ID": id, "Addrs": [addr] }]));
    front.set("Addresses.GatewayAdmin", json!(format!("/ip4/127.0.0.1/tcp/{}", free_port())));
    front.start_gateway();

    let url = format!("http://127.0.0.1:{}/ipfs/{cid}", front.port("Gateway server"));
    let got = scratch.path("got");
    let body = Curl::get(&url).with(&["--header", "host: gateway.example"]).body(200);
    std::fs::write(&got, body).expect("a file can be written");
    assert!(files_equal(&file, &got));
    assert!(!front.repo().join("api").exists(), "nobody can tell it what to do");

    let admin = format!("http://127.0.0.1:{}", front.port("Gateway (admin)"));
    assert_eq!(Curl::get(&format!("{admin}/readyz")).body(200), b"ready\n");
    let numbers =
        String::from_utf8(Curl::get(&format!("{admin}/metrics")).body(200)).expect("numbers are text");
    assert!(numbers.contains("cairn_gateway_responses_total{status=\"200\"} 1"), "{numbers}");
}

#[test]
fn a_gateway_alone_takes_everything_from_another_gateway_and_asks_no_peer() {
    let scratch = Scratch::new();
    let (mut source, mut front) = (Node::cairn(), Node::cairn());
    let file = scratch.random_file("file", 5_000_000, 62);
    let cid = source.add(&file);
    let forbidden = source.add(&scratch.random_file("other", 300_000, 63));
    let list = source.repo().join("denylists");
    std::fs::create_dir(&list).expect("a folder can be made");
    std::fs::write(list.join("own.deny"), format!("/ipfs/{forbidden}\n")).expect("a file can be written");
    // Nobody else listens there when it has stopped.
    source.set("Addresses.Gateway", json!(format!("/ip4/127.0.0.1/tcp/{}", free_port())));
    source.start();
    let upstream = format!("http://127.0.0.1:{}", source.port("Gateway server"));
    front.start_gateway_with(&["--upstream", &upstream]);

    let url = |cid: &str| format!("http://127.0.0.1:{}/ipfs/{cid}", front.port("Gateway server"));
    let got = scratch.path("got");
    for state in ["from the other gateway", "from the cache"] {
        let body = Curl::get(&url(&cid)).with(&["--header", "host: gateway.example"]).body(200);
        std::fs::write(&got, body).expect("a file can be written");
        assert!(files_equal(&file, &got), "{state}");
    }
    assert_eq!(Curl::get(&url(&forbidden)).status(), 410, "what the other refuses is refused alike");
    // Nobody has it, and nobody but the other gateway, which fetches for this computer, is waited for.
    source.stop();
    assert_eq!(Curl::get(&url("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")).status(), 503);
    assert_eq!(Curl::get(&url(&cid)).body(200).len(), 5_000_000);
}

#[test]
fn a_changed_configuration_is_taken_over_at_a_signal_or_a_command() {
    let scratch = Scratch::new();
    let (node, cid) = node_with_site(&scratch);
    let url = format!("http://127.0.0.1:{}/ipfs/{cid}/", node.port("Gateway server"));
    let has = |value: &str| Curl::get(&url).headers().contains(&format!("x-name: {value}\n"));
    let signal = |name: &str| {
        let kill = std::process::Command::new("kill").args([name, &node.process_id().to_string()]).status();
        assert!(kill.expect("kill is everywhere").success());
    };
    node.set("Gateway.HTTPHeaders", json!({ "X-Name": ["a"] }));
    signal("-HUP");
    until("the header is there", || has("a"));
    node.set("Gateway.HTTPHeaders", json!({ "X-Name": ["b"] }));
    node.set("Swarm.ConnMgr", json!({ "HighWater": 7 }));
    assert_eq!(node.run(&["config", "reload"]).text(), "at the next start: Swarm.ConnMgr.HighWater");
    assert!(has("b"));
    node.set("Gateway.HTTPHeaders", json!({ "X-Name": ["c"] }));
    node.set("Gateway.RetrievalTimeout", json!("soon"));
    let refused = node.run(&["config", "reload"]);
    assert!(refused.error().contains("Gateway.RetrievalTimeout"), "{}", refused.stderr);
    assert!(has("b"), "what is not valid changes nothing");
}

#[test]
fn a_program_about_to_stop_says_so_and_answers_on_until_its_time() {
    let scratch = Scratch::new();
    let mut node = Node::cairn();
    let cid = node.add(&scratch.random_file("file", 1000, 64));
    // Long enough for every machine; the test does not wait for its end.
    node.set("Gateway.DrainDelay", json!("1h"));
    node.set("Addresses.GatewayAdmin", json!(format!("/ip4/127.0.0.1/tcp/{}", free_port())));
    node.start();
    let ready = format!("http://127.0.0.1:{}/readyz", node.port("Gateway (admin)"));
    assert_eq!(Curl::get(&ready).status(), 200);
    node.run(&["shutdown"]).text();
    until("it is not ready", || Curl::get(&ready).status() == 503);
    let url = format!("http://127.0.0.1:{}/ipfs/{cid}", node.port("Gateway server"));
    assert_eq!(Curl::get(&url).body(200).len(), 1000);
    node.kill();
}
