//! Hosts: each content on its own origin, and what the gateway's own pages say.

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
async fn names_get_a_clear_answer() {
    let store = Store::default();
    for (target, host) in [
        ("/ipns/docs.ipfs.tech/", "localhost"),
        ("/ipns/docs.ipfs.tech/", "127.0.0.1"),
        ("/", "docs-ipfs-tech.ipns.localhost"),
    ] {
        let answer = get(target).host(host).of(&store.gateway()).await;
        assert_eq!(answer.status, 501);
        assert!(answer.text().contains("does not resolve names"), "{}", answer.text());
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
