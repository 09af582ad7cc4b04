//! The page that people see while content is looked for.

use cairn_gateway::{Fetch, Hosts, Policy, Settings};

use crate::support::{Ask, Store, get, pattern};

/// A browser that opens a link in a window.
fn open(target: &str) -> Ask {
    get(target).html().with("sec-fetch-dest", "document")
}

#[tokio::test(start_paused = true)]
async fn people_see_how_the_search_goes_and_in_the_end_why_it_was_in_vain() {
    let store = Store::default();
    let file = store.raw("hello");
    let block = store.peek(&file).unwrap();
    store.lose(&file);
    let gateway = store.gateway();
    let path = format!("/ipfs/{file}");
    let page = open(&path).of(&gateway).await;
    assert_eq!((page.status.as_u16(), page.header("cache-control")), (202, "no-store"));
    assert_eq!(page.header("refresh"), "2");
    assert!(page.text().contains("asked 7 peers"), "{}", page.text());
    let reads = store.read_count();
    let mut last = open(&path).of(&gateway).await;
    assert_eq!((last.status.as_u16(), store.read_count()), (202, reads), "looks share one search");
    while last.status == 202 {
        last = open(&path).of(&gateway).await;
    }
    assert_eq!(last.status, 504);
    store.put(block);
    assert_eq!(open(&path).of(&gateway).await.text(), "hello");
}

#[tokio::test(start_paused = true)]
async fn content_that_is_there_comes_without_a_page() {
    let store = Store::default();
    let file = store.file(&pattern(3000), 1000);
    let site = store.directory(&[("index.html", store.raw("<p>site"))]);
    let gateway = store.gateway();
    assert_eq!(open(&format!("/ipfs/{file}")).of(&gateway).await.bytes(), &pattern(3000));
    assert_eq!(open(&format!("/ipfs/{site}/")).of(&gateway).await.text(), "<p>site");
    assert_eq!(open(&format!("/ipfs/{site}/missing")).of(&gateway).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn programs_parts_of_pages_and_formats_wait_for_content_itself() {
    let store = Store::default();
    let file = store.raw("hello");
    store.lose(&file);
    let gateway = store.gateway();
    for ask in [
        get(format!("/ipfs/{file}")),
        get(format!("/ipfs/{file}")).with("sec-fetch-dest", "image"),
        open(&format!("/ipfs/{file}?format=raw")),
        open(&format!("/ipfs/{file}?download=true")),
        open(&format!("/ipfs/{file}")).head(),
    ] {
        assert_eq!(ask.of(&gateway).await.status, 504);
    }
    let others = Policy { fetch: Fetch::Never, ..Policy::default() };
    let hosts = Hosts { others, ..Hosts::default() };
    let gateway = store.gateway_with(Settings { hosts, ..Settings::default() });
    assert_eq!(open(&format!("/ipfs/{file}")).of(&gateway).await.status, 404);
}
