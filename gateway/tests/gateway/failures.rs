//! What goes wrong, and how it is told.

use std::time::Duration;

use axum::body::Body;
use cairn_gateway::Settings;
use cairn_proto::content::ContentErrorKind;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::support::{Store, car_header, get, pattern};

/// A CID that nobody has. Source: gateway-conformance, TestGatewayCache.
const NOWHERE: &str = "QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN";

#[tokio::test(start_paused = true)]
async fn content_that_nobody_delivers_is_504_with_a_reason_after_its_time() {
    let store = Store::default();
    let gateway = store.gateway();
    for target in [
        format!("/ipfs/{NOWHERE}"),
        format!("/ipfs/{NOWHERE}?format=raw"),
        format!("/ipfs/{NOWHERE}?format=car"),
    ] {
        let before = tokio::time::Instant::now();
        let answer = get(&target).of(&gateway).await;
        assert_eq!(answer.status, 504, "{target}");
        assert_eq!(before.elapsed().as_secs(), Settings::default().first_byte_timeout.as_secs());
        assert_eq!(answer.header("retry-after"), "60");
        assert_eq!(
            answer.text(),
            format!("no content of /ipfs/{NOWHERE} within 30 s: found 3 providers and asked 7 peers\n")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_chunk_is_read_before_the_status() {
    let store = Store::default();
    let file = store.file(&[7; 3000], 1000);
    let gateway = store.gateway();
    assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.status, 200);
    store.lose(&store.leaves(&file)[0]);
    assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.status, 504);
}

#[tokio::test(start_paused = true)]
async fn a_first_block_that_is_missing_is_a_status_and_a_later_one_a_cut() {
    let store = Store::default();
    let data = pattern(3000);
    let file = store.file(&data, 1000);
    let leaves = store.leaves(&file);
    let gateway = store.gateway();
    store.fail(&leaves[1], ContentErrorKind::Corrupt);
    let answer = get(format!("/ipfs/{file}")).of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, "3000"));
    assert!(answer.body.is_err(), "{answer:?}");
    store.fail(&leaves[0], ContentErrorKind::Corrupt);
    assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.status, 500);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stalls_is_cut_after_its_time() {
    let store = Store::default();
    let data = pattern(3000);
    let file = store.file(&data, 1000);
    store.lose(&store.leaves(&file)[2]);
    for query in ["", "?format=car"] {
        let before = tokio::time::Instant::now();
        let answer = get(format!("/ipfs/{file}{query}")).of(&store.gateway()).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.unwrap_err().contains("no content for 30s"));
        assert_eq!(before.elapsed().as_secs(), Settings::default().chunk_timeout.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_car_whose_root_is_missing_is_a_status_though_its_header_could_be_sent() {
    let store = Store::default();
    let file = store.raw("x");
    let gateway = store.gateway();
    assert!(
        get(format!("/ipfs/{file}?format=car")).of(&gateway).await.bytes().starts_with(&car_header(&file))
    );
    store.fail(&file, ContentErrorKind::NotLocal);
    assert_eq!(get(format!("/ipfs/{file}?format=car")).of(&gateway).await.status, 404);
}

#[tokio::test]
async fn a_listing_that_fails_midway_is_cut() {
    let store = Store::default();
    let names: Vec<String> = (0..3000).map(|number| format!("entry-{number}")).collect();
    let child = store.raw("x");
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), child)).collect();
    let sharded =
        cairn_proto::unixfs::import::ImportOptions { hamt_threshold_bytes: 1, ..crate::support::options() };
    let root = store.directory_with(&entries, sharded);
    let shards = store.links(&root).into_iter().filter(|cid| *cid != child).collect::<Vec<_>>();
    store.fail(&shards[shards.len() - 1], ContentErrorKind::Corrupt);
    // index.html is looked for in another shard, or none.
    let answer = get(format!("/ipfs/{root}/")).of(&store.gateway()).await;
    assert!(answer.status == 500 || (answer.status == 200 && answer.body.is_err()), "{answer:?}");
}

#[tokio::test]
async fn every_kind_of_failure_has_its_status_and_cross_origin_headers() {
    let store = Store::default();
    let gateway = store.gateway();
    for (kind, expected) in [
        (ContentErrorKind::NotFound, 404),
        (ContentErrorKind::NotLocal, 404),
        (ContentErrorKind::Timeout, 504),
        (ContentErrorKind::Invalid, 400),
        (ContentErrorKind::Blocked, 410),
        (ContentErrorKind::Corrupt, 500),
        (ContentErrorKind::Unavailable, 503),
        (ContentErrorKind::Internal, 500),
    ] {
        let file = store.raw(format!("{kind:?}"));
        store.fail(&file, kind);
        let answer = get(format!("/ipfs/{file}")).with("origin", "https://app.example").of(&gateway).await;
        assert_eq!(answer.status, expected, "{kind:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{kind:?}");
    }
}

#[tokio::test]
async fn cross_origin_headers_stand_on_every_status() {
    let store = Store::default();
    let file = store.raw("12345");
    let gateway = store.gateway();
    let target = format!("/ipfs/{file}");
    for (ask, expected) in [
        (get(&target), 200),
        (get(&target).with("range", "bytes=0-1"), 206),
        (get(&target).with("range", "bytes=9-"), 416),
        (get(&target).with("if-none-match", "*"), 304),
        (get(format!("{target}?format=dag-json")), 406),
        (get(format!("{target}/x")), 404),
        (get("/ipfs/nonsense"), 400),
        (get(&target).host("localhost"), 301),
        (get(&target).method(Method::OPTIONS), 204),
        (get(&target).method(Method::POST), 405),
        (get(format!("{target}/{}", "x/".repeat(300))), 414),
        (get("/ipns/name"), 500),
        (get(&target).with("cache-control", "only-if-cached"), 200),
        (get(format!("/ipfs/{NOWHERE}")).with("cache-control", "max-age=1, only-if-cached"), 412),
    ] {
        let answer = ask.of(&gateway).await;
        assert_eq!(answer.status, expected);
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{expected}");
        assert!(answer.header("access-control-expose-headers").contains("X-Ipfs-Roots"), "{expected}");
        assert_eq!(answer.headers.get_all("access-control-allow-origin").iter().count(), 1);
    }
}

#[tokio::test]
async fn people_get_a_page_and_programs_a_line() {
    let store = Store::default();
    let root = store.directory(&[]);
    let target = format!("/ipfs/{root}/%3Cmissing%3E");
    let page = get(&target).html().of(&store.gateway()).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (404, "text/html; charset=utf-8"));
    assert!(
        page.text().contains("&#60;missing&#62;") && !page.text().contains("<missing>"),
        "{}",
        page.text()
    );
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    let line = get(&target).with("accept", "*/*").of(&store.gateway()).await;
    assert_eq!(
        (line.header("content-type"), line.text()),
        ("text/plain; charset=utf-8", "no link named \"<missing>\"\n")
    );
    assert_eq!((page.header("vary"), line.header("vary")), ("Accept", "Accept"));
}

#[tokio::test]
async fn methods_that_write_are_405_and_name_those_that_read() {
    let store = Store::default();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = get("/ipfs/bafkqaaa").method(method).of(&store.gateway()).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, HEAD, OPTIONS"));
    }
}

#[tokio::test]
async fn one_request_over_the_limit_is_429_until_a_body_is_done() {
    let store = Store::default();
    let data = pattern(3000);
    let file = store.file(&data, 1000);
    let gateway = store.gateway_with(Settings { max_requests: 1, ..Settings::default() });
    let request = || {
        Request::builder()
            .uri(format!("/ipfs/{file}"))
            .header("host", "127.0.0.1")
            .body(Body::empty())
            .unwrap()
    };
    let first = gateway.router().oneshot(request()).await.unwrap();
    assert_eq!(first.status(), 200);
    let second = get(format!("/ipfs/{file}")).of(&gateway).await;
    assert_eq!((second.status.as_u16(), second.header("retry-after")), (429, "60"));
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), data);
    assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_frees_its_place() {
    let store = Store::default();
    let gateway = store.gateway_with(Settings { max_requests: 1, ..Settings::default() });
    let waiting = get(format!("/ipfs/{NOWHERE}"));
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting.of(&gateway)).await.is_err());
    assert_eq!(get("/ipfs/bafkqaaa").of(&gateway).await.status, 200);
}
