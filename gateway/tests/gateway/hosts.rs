//! Hosts: each content on its own origin, and what the gateway's own pages say.

use std::net::IpAddr;

use cairn_gateway::tls::{Tls, TlsSettings};
use cairn_gateway::{HostPattern, Hosts, Policy, Settings};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::support::{Store, get};

#[tokio::test]
async fn a_site_with_absolute_links_works_on_its_own_host() {
    let store = Store::default();
    let style = store.raw("a{}");
    let site = store.directory(&[
        ("index.html", store.raw("<!doctype html><link rel=stylesheet href=/style.css>")),
        ("style.css", style),
    ]);
    let gateway = store.gateway();
    let moved = get(format!("/ipfs/{site}/")).host("localhost:8080").of(&gateway).await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (301, &*format!("http://{site}.ipfs.localhost:8080/"))
    );
    let host = format!("{site}.ipfs.localhost:8080");
    assert!(get("/").host(&host).of(&gateway).await.text().contains("/style.css"));
    let answer = get("/style.css").host(&host).of(&gateway).await;
    assert_eq!((answer.text(), answer.header("x-ipfs-path")), ("a{}", &*format!("/ipfs/{site}/style.css")));
    assert_eq!(get(format!("/ipfs/{style}")).host(&host).of(&gateway).await.status, 404);
}

#[tokio::test]
async fn a_cid_too_long_for_a_host_is_refused_in_both_places() {
    // Source: gateway-conformance, TestGatewaySubdomains: the SHA2-512 CID of "hello\n".
    let store = Store::default();
    let cid = "bafkrgqhhyivzstcz3hhswshfjgy6ertgmnqeleynhwt4dlfsthi4hn7zgh4uvlsb5xncykzapi3ocd4lzogukir6ksdy6wzrnz6ohnv4aglcs";
    for (target, host) in [
        (format!("/ipfs/{cid}/"), "localhost:8080".to_owned()),
        ("/".to_owned(), format!("{cid}.ipfs.localhost:8080")),
    ] {
        let answer = get(&target).host(host).of(&store.gateway()).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("CID incompatible with DNS label length limit of 63"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn the_front_page_is_there_for_people() {
    let store = Store::default();
    for host in ["localhost:8080", "127.0.0.1:8080", "gateway.example"] {
        let answer = get("/").host(host).of(&store.gateway()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, "text/html; charset=utf-8")
        );
        assert!(answer.text().contains("<form action=\"/ipfs/\""), "{host}");
    }
}

#[tokio::test]
async fn the_form_of_the_front_page_leads_to_content() {
    let store = Store::default();
    let file = store.raw("x");
    let answer = get(format!("/ipfs/?uri=https%3A%2F%2F{file}.ipfs.dweb.link%2F")).of(&store.gateway()).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (301, &*format!("/ipfs/{file}/")));
}

/// A gateway for `*.example` behind a proxy, both of an operator.
fn public_gateway(store: &Store) -> cairn_gateway::Gateway {
    let headers = HeaderMap::from_iter([
        (HeaderName::from_static("x-own"), HeaderValue::from_static("yes")),
        (http::header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://own.example")),
    ]);
    let policy = Policy { subdomains: true, headers, ..Policy::default() };
    let hosts = Hosts { named: vec![(HostPattern::new("*.example"), policy)], ..Hosts::default() };
    let trusted_proxies = vec!["10.0.0.1/32".parse().expect("a network")];
    store.gateway_with(Settings { hosts, trusted_proxies, ..Settings::default() })
}

#[tokio::test]
async fn a_trusted_proxy_may_say_which_host_was_asked_and_a_stranger_may_not() {
    // Source: gateway-conformance, TestGatewaySubdomains: X-Forwarded-Host and X-Forwarded-Proto.
    let store = Store::default();
    let file = store.raw("hello");
    let gateway = public_gateway(&store);
    let ask = async |client: &str| {
        get(format!("/ipfs/{file}"))
            .host("fake.domain.com")
            .with("x-forwarded-host", "dweb.example")
            .with("x-forwarded-proto", "https")
            .from(client.parse::<IpAddr>().unwrap())
            .of(&gateway)
            .await
    };
    let moved = ask("10.0.0.1").await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (301, &*format!("https://{file}.ipfs.dweb.example/"))
    );
    assert_eq!(ask("10.0.0.2").await.text(), "hello");
}

#[tokio::test]
async fn a_host_may_be_written_in_every_way_that_browsers_write_it() {
    let store = Store::default();
    let file = store.raw("hello");
    let gateway = public_gateway(&store);
    for host in
        ["dweb.example", "DWEB.Example", "dweb.example:8443", "dweb.example.", "xn--bcher-kva.example"]
    {
        let moved = get(format!("/ipfs/{file}")).host(host).of(&gateway).await;
        let expected = format!("http://{file}.ipfs.{}/", host.to_ascii_lowercase());
        assert_eq!((moved.status.as_u16(), moved.header("location")), (301, &*expected));
        let content = get("/").host(format!("{file}.ipfs.{host}")).of(&gateway).await;
        assert_eq!(content.text(), "hello", "{host}");
    }
    for host in ["[::1]:8080", "[2001:db8::1]", "192.0.2.1:80", "a.b.example", "example"] {
        assert_eq!(get(format!("/ipfs/{file}")).host(host).of(&gateway).await.text(), "hello", "{host}");
    }
}

#[tokio::test]
async fn headers_of_a_host_are_on_every_response_once() {
    let store = Store::default();
    let file = store.raw("hello");
    let gateway = public_gateway(&store);
    let content = format!("{file}.ipfs.dweb.example");
    for (host, target) in [("dweb.example", "/"), (content.as_str(), "/"), (content.as_str(), "/missing")] {
        let answer = get(target).host(host).of(&gateway).await;
        assert_eq!(answer.header("x-own"), "yes", "{host}{target}");
        let origins: Vec<_> = answer.headers.get_all("access-control-allow-origin").iter().collect();
        assert_eq!(origins, ["https://own.example"]);
    }
    assert_eq!(get("/").host("other.org").of(&gateway).await.header("x-own"), "");
}

#[tokio::test]
async fn browsers_are_sent_to_https_only_where_there_is_a_certificate_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["site.example", "*.ipfs.site.example"].map(str::to_owned);
    let key = rcgen::generate_simple_self_signed(names).unwrap();
    let files = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&files[0], key.cert.pem()).unwrap();
    std::fs::write(&files[1], key.signing_key.serialize_pem()).unwrap();
    let [certificate, key] = files;
    let tls = TlsSettings { folder: folder.path().to_owned(), files: Some((certificate, key)), acme: None };
    let tls = Tls::open(tls).unwrap();
    let store = Store::default();
    let file = store.raw("x");
    let settings = Settings { redirect_to_https: true, ..Settings::default() };
    let ask = async |host: &str, tls: Option<Tls>| {
        let gateway = store.gateway_behind(settings.clone(), tls);
        let answer = get(format!("/ipfs/{file}?x=1")).host(host).of(&gateway).await;
        (answer.status.as_u16(), answer.header("location").to_owned())
    };
    for host in ["site.example", "a.ipfs.site.example", "Site.Example:8080"] {
        let (status, location) = ask(host, Some(tls.clone())).await;
        let name = host.split(':').next().unwrap().to_ascii_lowercase();
        assert_eq!((status, location), (301, format!("https://{name}/ipfs/{file}?x=1")), "{host}");
    }
    for host in ["other.example", "ipfs.site.example", "a.b.ipfs.site.example", "192.0.2.1"] {
        assert_eq!(ask(host, Some(tls.clone())).await.0, 200, "{host}");
    }
    // Where a proxy has the certificates, it has them all.
    assert_eq!(ask("other.example", None).await.0, 301);
}
