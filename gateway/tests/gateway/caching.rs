//! Conditional requests, what needs no look-up, and what must not be fetched.

use cairn_proto::content::ContentErrorKind;

use crate::support::{Store, get};

#[tokio::test]
async fn a_known_path_is_answered_304_without_a_block() {
    let store = Store::default();
    let file = store.raw(vec![7; 100_000]);
    let root = store.directory(&[("a.bin", file)]);
    let gateway = store.gateway();
    let target = format!("/ipfs/{root}/a.bin");
    let first = get(&target).of(&gateway).await;
    let reads = store.read_count();
    for tag in
        [format!("\"{file}\""), format!("W/\"{file}\""), format!("\"x\", \"y\", \"{file}\""), "*".to_owned()]
    {
        let answer = get(&target).with("if-none-match", &tag).of(&gateway).await;
        assert_eq!(answer.status, 304, "{tag}");
        assert_eq!(answer.header("etag"), first.header("etag"));
        assert_eq!(answer.header("cache-control"), "public, max-age=29030400, immutable");
        assert!(answer.bytes().is_empty());
    }
    assert_eq!(store.read_count(), reads);
    let other = get(&target).with("if-none-match", "\"other\"").of(&gateway).await;
    assert_eq!(other.bytes().len(), 100_000);
}

#[tokio::test]
async fn a_directory_known_to_have_no_index_is_not_searched_again() {
    let store = Store::default();
    let root = store.directory(&[("a", store.raw("x"))]);
    let gateway = store.gateway();
    let read_by = async || {
        let before = store.read_count();
        get(format!("/ipfs/{root}/")).of(&gateway).await;
        store.read_count() - before
    };
    let (first, second) = (read_by().await, read_by().await);
    assert!(second < first && second == 1, "{first} {second}");
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_never_waits_for_peers() {
    // Source: gateway-conformance, TestGatewayCache.
    let store = Store::default();
    let (here, there) = (store.raw("here"), store.raw("there"));
    store.move_to_peers(&there);
    let gateway = store.gateway();
    assert_eq!(get(format!("/ipfs/{there}")).of(&gateway).await.status, 200);
    for (cid, expected) in [(here, 200), (there, 412)] {
        for ask in [
            get(format!("/ipfs/{cid}?format=raw")),
            get(format!("/ipfs/{cid}")).head(),
            get(format!("/ipfs/{cid}")),
        ] {
            let before = tokio::time::Instant::now();
            let answer = ask.with("cache-control", "only-if-cached").of(&gateway).await;
            assert_eq!(answer.status, expected, "{cid}");
            assert_eq!(before.elapsed().as_millis(), 0);
        }
    }
}

#[tokio::test]
async fn strangers_are_not_served_from_peers() {
    let store = Store::default();
    let (here, there) = (store.raw("here"), store.raw("there"));
    store.move_to_peers(&there);
    let gateway = store.gateway();
    for (cid, host, expected) in
        [(here, "gateway.example", 200), (there, "gateway.example", 404), (there, "127.0.0.1:8080", 200)]
    {
        assert_eq!(
            get(format!("/ipfs/{cid}")).host(host).of(&gateway).await.status,
            expected,
            "{cid} {host}"
        );
    }
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let store = Store::default();
    let file = store.raw("x");
    store.fail(&file, ContentErrorKind::Unavailable);
    let gateway = store.gateway();
    assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.status, 503);
    store.heal(&file);
    assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.status, 200);
}
