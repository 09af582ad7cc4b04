//! Names: IPNS keys and domains, on paths, below the gateway's host, and on hosts of their own.

use crate::support::{Store, get};

// Source: gateway-conformance, TestRedirectCanonicalIPNS.
const KEY: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";

#[tokio::test]
async fn a_name_leads_to_content_that_is_kept_as_long_as_the_name_says() {
    let store = Store::default();
    let page = store.raw("a page");
    let site = store.directory(&[("sub", store.directory(&[("a.txt", page)]))]);
    store.name(KEY, &format!("/ipfs/{site}/sub"), Some(90));
    store.name("example.org", &format!("/ipfs/{site}"), None);
    let gateway = store.gateway();

    let answer = get(format!("/ipns/{KEY}/a.txt")).of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "a page"));
    assert_eq!(answer.header("cache-control"), "public, max-age=90");
    assert_eq!(answer.header("etag"), format!("\"{page}\""));
    assert_eq!(answer.header("x-ipfs-path"), format!("/ipns/{KEY}/a.txt"));
    let unmodified =
        get(format!("/ipns/{KEY}/a.txt")).with("if-none-match", format!("\"{page}\"")).of(&gateway).await;
    assert_eq!((unmodified.status.as_u16(), unmodified.header("cache-control")), (304, "public, max-age=90"));

    let answer = get("/ipns/example.org/sub/").of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, ""));
}

#[tokio::test]
async fn a_domain_is_a_site_of_its_own_below_the_gateway_and_by_itself() {
    let store = Store::default();
    let page = store.raw("a page");
    let site = store.directory(&[("a.txt", page)]);
    store.name("my-site.example.org", &format!("/ipfs/{site}"), Some(60));
    store.name("a-b", &format!("/ipfs/{site}"), Some(60));
    let gateway = store.gateway();
    for host in [
        "my--site-example-org.ipns.localhost:8080",
        "my-site.example.org.ipns.localhost",
        // No domain is inlined in it, so it is read as it is written.
        "a-b.ipns.localhost",
        "my-site.example.org",
        "My-Site.example.org.:8080",
    ] {
        assert_eq!(get("/a.txt").host(host).of(&gateway).await.text(), "a page", "{host}");
    }
    let listing = get("/").host("my-site.example.org:8080").of(&gateway).await;
    let text = listing.text();
    assert!(
        text.contains(r#"/ipns/<a href="//my-site.example.org:8080/">my-site.example.org</a>"#),
        "{text}"
    );
    assert!(text.contains(&format!("https://cid.ipfs.tech/#{page}")), "{text}");
    // A host without a link is a path gateway.
    assert_eq!(get(format!("/ipfs/{page}")).host("other.example.org").of(&gateway).await.text(), "a page");
    // One with a link is nothing but its site.
    assert_eq!(get(format!("/ipfs/{page}")).host("my-site.example.org").of(&gateway).await.status, 404);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_says_so() {
    let store = Store::default();
    for (target, host) in [
        (format!("/ipns/{KEY}"), "127.0.0.1"),
        ("/ipns/example.org/".to_owned(), "127.0.0.1"),
        ("/".to_owned(), "example-org.ipns.localhost"),
    ] {
        let answer = get(&target).host(host).html().of(&store.gateway()).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (500, "no-store"), "{target}");
        assert!(answer.text().contains("This name leads nowhere"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_key_has_a_record_and_nothing_else_has() {
    let store = Store::default();
    let file = store.raw("x");
    let gateway = store.gateway();
    let answer = get(format!("/ipns/{KEY}?format=ipns-record")).of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, &*format!("record of {KEY}")));
    assert_eq!(answer.header("content-type"), "application/vnd.ipfs.ipns-record");
    assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"{KEY}.ipns-record\""));
    assert_eq!(answer.header("cache-control"), "public, max-age=90");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let head = get(format!("/ipns/{KEY}"))
        .with("accept", "application/vnd.ipfs.ipns-record")
        .head()
        .of(&gateway)
        .await;
    assert_eq!((head.status.as_u16(), head.header("etag")), (200, answer.header("etag")));
    for target in [
        format!("/ipns/{KEY}/a?format=ipns-record"),
        "/ipns/example.org?format=ipns-record".to_owned(),
        format!("/ipfs/{file}?format=ipns-record"),
    ] {
        assert_eq!(get(&target).of(&gateway).await.status, 400, "{target}");
    }
}
