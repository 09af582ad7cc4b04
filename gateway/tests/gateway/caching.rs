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

#[tokio::test]
async fn a_file_that_tells_when_it_was_changed_can_be_asked_for_by_date() {
    // Source: what Kubo 0.43 answers for `ipfs add --preserve-mtime`.
    let store = Store::default();
    let (file, index) = (store.raw("hello"), store.raw("<p>hello"));
    store.modify(&file, 1_577_934_245.5);
    store.modify(&index, 1_577_934_245.0);
    let root = store.directory(&[("index.html", index)]);
    store.modify(&root, 1_777_934_245.0);
    let gateway = store.gateway();
    const CHANGED: &str = "Thu, 02 Jan 2020 03:04:05 GMT";
    for target in [format!("/ipfs/{file}"), format!("/ipfs/{root}/")] {
        assert_eq!(get(&target).of(&gateway).await.header("last-modified"), CHANGED, "{target}");
        let ask = async |since: &str, tag: Option<&str>| {
            let request = get(&target).with("if-modified-since", since);
            let request = tag.into_iter().fold(request, |request, tag| request.with("if-none-match", tag));
            request.of(&gateway).await
        };
        let known = ask(CHANGED, None).await;
        assert_eq!(known.status, 304);
        assert_ne!(known.header("etag"), "");
        assert_eq!(known.header("last-modified"), "");
        assert_eq!(ask("Fri, 03 Jan 2020 00:00:00 GMT", None).await.status, 304);
        assert_eq!(ask("Thu, 02 Jan 2020 03:04:04 GMT", None).await.status, 200);
        assert_eq!(ask("yesterday", None).await.status, 200);
        assert_eq!(ask("Fri, 03 Jan 2020 00:00:00 GMT", Some("\"x\"")).await.status, 200, "a tag goes first");
        for (if_range, status) in [(CHANGED, 206), ("Thu, 02 Jan 2020 03:04:06 GMT", 200)] {
            let part = get(&target).with("range", "bytes=0-1").with("if-range", if_range).of(&gateway).await;
            assert_eq!(part.status, status, "{if_range}");
        }
    }
    for format in ["raw", "car", "tar"] {
        let answer = get(format!("/ipfs/{file}?format={format}")).of(&gateway).await;
        assert_eq!((answer.status.as_u16(), answer.header("last-modified")), (200, ""), "{format}");
    }
    let epoch = store.raw("a");
    store.modify(&epoch, 0.0);
    assert_eq!(get(format!("/ipfs/{epoch}")).of(&gateway).await.header("last-modified"), "");
}
