//! The gateway over HTTP and HTTPS, as curl sees it.

use cairn_tests::{Curl, Node, Scratch, Transport, files_equal, free_port};
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
