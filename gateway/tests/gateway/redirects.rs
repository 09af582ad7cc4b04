//! `_redirects`: what a site says of paths that it does not have.

use crate::support::{Answer, Store, get};

struct Site {
    store: Store,
    host: String,
}

impl Site {
    fn new(rules: &str) -> Self {
        let store = Store::default();
        let root = store.directory(&[
            ("404.html", store.raw("<p>not here</p>")),
            ("_redirects", store.raw(rules.to_owned())),
            ("here.txt", store.raw("here")),
            ("index.html", store.raw("<p>index</p>")),
        ]);
        Self { store, host: format!("{root}.ipfs.localhost") }
    }

    async fn get(&self, target: &str) -> Answer {
        get(target).host(&self.host).of(&self.store.gateway()).await
    }
}

#[tokio::test]
async fn rules_hold_for_what_is_missing_and_for_nothing_else() {
    let site = Site::new("/a /b?x=1 302\n/here.txt /b\n/app/* /index.html 200\n/* /404.html 404");
    let answer = site.get("/a?y=2").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (302, "/b?x=1&y=2"));
    assert_eq!(site.get("/here.txt").await.text(), "here");
    let answer = site.get("/app/deep/page").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "<p>index</p>"));
    let answer = site.get("/nowhere").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (404, "<p>not here</p>"));
    assert_eq!(answer.header("content-type"), "text/html");
    assert_eq!(answer.header("cache-control"), "public, max-age=29030400, immutable");
}

#[tokio::test]
async fn the_page_of_an_error_is_whole_whatever_was_asked_of_it() {
    let site = Site::new("/* /404.html 404");
    let etag = site.get("/x").await.header("etag").to_owned();
    let answer = get("/x")
        .host(&site.host)
        .with("range", "bytes=0-1")
        .with("if-none-match", etag)
        .of(&site.store.gateway())
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (404, "<p>not here</p>"));
}

#[tokio::test]
async fn a_rule_that_leads_nowhere_leaves_a_plain_404() {
    let site = Site::new("/a /gone.html 404\n/b /gone.html 200");
    for target in ["/a", "/b", "/c"] {
        assert_eq!(site.get(target).await.status, 404, "{target}");
    }
}

#[tokio::test]
async fn a_broken_file_is_an_error_that_names_its_line() {
    let site = Site::new("/a /b 301!");
    let answer = site.get("/x").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("could not parse _redirects: line 1"), "{}", answer.text());
    assert_eq!(site.get("/here.txt").await.text(), "here");
}

#[tokio::test]
async fn without_an_origin_of_its_own_a_site_has_no_rules() {
    let site = Site::new("/* /index.html 200");
    let root = site.host.split('.').next().unwrap();
    let answer = get(format!("/ipfs/{root}/x")).of(&site.store.gateway()).await;
    assert_eq!(answer.status, 404);
    let block = get("/x?format=raw").host(&site.host).of(&site.store.gateway()).await;
    assert_eq!(block.status, 404);
}
