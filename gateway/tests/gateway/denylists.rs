//! What the operator forbids.

use crate::support::{Store, get, pattern};

#[tokio::test]
async fn denied_content_is_410_and_names_what_it_is_about_in_every_format() {
    let store = Store::default();
    let file = store.file(&pattern(3000), 1000);
    store.deny(&format!("/ipfs/{file}"));
    let gateway = store.gateway();
    for query in ["", "?format=raw", "?format=car", "?format=tar", "?download=true"] {
        let answer = get(format!("/ipfs/{file}{query}")).of(&gateway).await;
        assert_eq!(answer.status, 410, "{query}");
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    let conditional = get(format!("/ipfs/{file}")).with("if-none-match", "*").of(&gateway).await;
    assert_eq!((conditional.status.as_u16(), store.read_count()), (410, 0));
    // The same hash under another codec is the same content.
    let raw = cairn_proto::cid::Cid::new_v1(cairn_proto::cid::RAW, *file.hash());
    assert_eq!(get(format!("/ipfs/{raw}")).of(&gateway).await.status, 410);
}

#[tokio::test]
async fn what_the_law_forbids_is_451() {
    let store = Store::default();
    let file = store.raw("x");
    store.deny(&format!("/ipfs/{file} gateway_status:451"));
    let answer = get(format!("/ipfs/{file}")).html().of(&store.gateway()).await;
    assert_eq!(answer.status, 451);
    assert!(answer.text().contains("legal reasons"));
}

#[tokio::test]
async fn a_rule_that_comes_while_the_gateway_runs_holds_at_once() {
    let store = Store::default();
    let file = store.raw("x");
    let site = store.directory(&[("a", file), ("index.html", store.raw("<p>"))]);
    let gateway = store.gateway();
    let status = async |path: &str| get(format!("/ipfs/{site}{path}")).of(&gateway).await.status.as_u16();
    assert_eq!((status("/a").await, status("/").await), (200, 200));
    // By the path, by the CID at its end, and by a block on the way, each of which is in the memory of the gateway.
    for rule in [format!("/ipfs/{site}/a"), format!("/ipfs/{file}"), format!("/ipfs/{site}")] {
        store.deny(&rule);
        assert_eq!(status("/a").await, 410, "{rule}");
        store.deny("");
        assert_eq!(status("/a").await, 200, "{rule}");
    }
}

#[tokio::test]
async fn denied_parts_are_in_no_car_and_no_file() {
    let store = Store::default();
    let (file, other) = (store.file(&pattern(30_000), 10_000), store.raw("other"));
    let site = store.directory(&[("file", file), ("other", other)]);
    let leaf = store.leaves(&file)[1];
    store.deny(&format!("/ipfs/{leaf}"));
    let gateway = store.gateway();
    for path in
        [format!("/ipfs/{site}?format=car"), format!("/ipfs/{file}?format=car"), format!("/ipfs/{file}")]
    {
        let answer = get(&path).of(&gateway).await;
        assert!(answer.body.is_err(), "{path}: a response without a part of it must not look complete");
    }
    assert_eq!(get(format!("/ipfs/{leaf}?format=raw")).of(&gateway).await.status, 410);
    assert_eq!(get(format!("/ipfs/{site}/other")).of(&gateway).await.bytes(), "other");
}

#[tokio::test]
async fn a_path_rule_leaves_the_rest_of_the_directory() {
    let store = Store::default();
    let site = store.directory(&[("a b", store.raw("x")), ("c", store.raw("y"))]);
    store.deny(&format!("/ipfs/{site}/a%20b"));
    let gateway = store.gateway();
    let status = async |path: &str| get(format!("/ipfs/{site}{path}")).of(&gateway).await.status.as_u16();
    assert_eq!(status("/a%20b").await, 410);
    assert_eq!((status("/c").await, status("/").await), (200, 200));
}

#[tokio::test]
async fn the_empty_directory_is_served_whatever_a_list_says() {
    let store = Store::default();
    let empty = store.directory(&[]);
    store.deny(&format!("/ipfs/{empty}/*"));
    assert_eq!(get(format!("/ipfs/{empty}/")).of(&store.gateway()).await.status, 200);
}
