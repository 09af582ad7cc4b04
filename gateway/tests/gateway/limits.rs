//! The limits that an operator sets: at each it passes, one over it is refused.

use std::net::IpAddr;
use std::time::Duration;

use cairn_gateway::{Rate, Settings};

use crate::support::{Store, get, pattern};

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let store = Store::default();
    let file = store.raw("x");
    let rate = Some(Rate { per_second: 1, burst: 3 });
    let gateway = store.gateway_with(Settings { rate, ..Settings::default() });
    let ask = async |client: &str| {
        get(format!("/ipfs/{file}")).from(client.parse::<IpAddr>().unwrap()).of(&gateway).await
    };
    for _ in 0..3 {
        assert_eq!(ask("192.0.2.1").await.status, 200);
    }
    let refused = ask("192.0.2.1").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "2"));
    assert_eq!(refused.header("access-control-allow-origin"), "*");
    assert_eq!(ask("192.0.2.2").await.status, 200, "others are not held up");
    for _ in 0..10 {
        assert_eq!(ask("127.0.0.1").await.status, 200, "nor is this computer");
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(ask("192.0.2.1").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_takes_too_long_is_cut_although_content_keeps_coming() {
    let store = Store::default();
    let file = store.file(&pattern(30_000), 1000);
    store.delay(Duration::from_secs(5));
    let settings = |secs| Settings { request_timeout: Duration::from_secs(secs), ..Settings::default() };
    let whole = get(format!("/ipfs/{file}")).of(&store.gateway_with(settings(200))).await;
    assert_eq!(whole.bytes(), &pattern(30_000));
    let cut = get(format!("/ipfs/{file}")).of(&store.gateway_with(settings(60))).await;
    assert_eq!(cut.status, 200);
    assert!(cut.body.unwrap_err().contains("takes longer"));
}

#[tokio::test]
async fn a_listing_of_as_many_rows_as_allowed_is_whole_and_a_longer_one_says_that_it_is_not() {
    let store = Store::default();
    let file = store.raw("x");
    let site = store.directory(&[("a", file), ("b", file), ("c", file)]);
    for (max_rows, expected, rows) in [(3, ">3 entries", 3), (2, "The first 2 entries", 2)] {
        let gateway = store.gateway_with(Settings { max_rows, ..Settings::default() });
        let page = get(format!("/ipfs/{site}/")).of(&gateway).await;
        assert!(page.text().contains(expected), "{}", page.text());
        assert_eq!(page.text().matches("ipfs-hash\"").count(), rows);
    }
}

#[tokio::test]
async fn files_above_a_size_are_gone_for_those_who_do_not_verify() {
    // Source: boxo `gateway/gateway_test.go`, TestMaxDeserializedResponseSize.
    let store = Store::default();
    let file = store.file(&pattern(5000), 1000);
    let site = store.directory(&[("index.html", file)]);
    for (max, status) in [(5000, 200), (4999, 410)] {
        let gateway = store.gateway_with(Settings { max_file_bytes: Some(max), ..Settings::default() });
        for path in [format!("/ipfs/{file}"), format!("/ipfs/{site}/"), format!("/ipfs/{site}/index.html")] {
            let answer = get(&path).of(&gateway).await;
            assert_eq!(answer.status, status, "{path}");
            let week = "public, max-age=604800, stale-while-revalidate=2678400";
            assert_eq!(answer.header("cache-control") == week, status == 410);
        }
        let range = get(format!("/ipfs/{file}")).with("range", "bytes=0-0").of(&gateway).await;
        assert_eq!(range.status.as_u16(), if status == 200 { 206 } else { 410 });
        for format in ["raw", "car"] {
            let answer = get(format!("/ipfs/{file}?format={format}")).of(&gateway).await;
            assert_eq!(answer.status, 200, "{format}");
        }
    }
}

#[tokio::test]
async fn content_above_a_size_is_gone_in_every_format_but_blocks() {
    let store = Store::default();
    let file = store.file(&pattern(5000), 1000);
    for (max, status) in [(5000, 200), (4999, 410)] {
        let gateway = store.gateway_with(Settings { max_content_bytes: Some(max), ..Settings::default() });
        for query in ["", "?format=car"] {
            assert_eq!(get(format!("/ipfs/{file}{query}")).of(&gateway).await.status, status, "{query}");
        }
        assert_eq!(get(format!("/ipfs/{file}?format=raw")).of(&gateway).await.status, 200);
    }
}

#[tokio::test]
async fn archives_are_held_to_what_comes_and_not_to_what_their_root_claims() {
    let store = Store::default();
    let file = store.file(&pattern(300_000), 1000);
    // A directory of the store claims to have nothing below it.
    let liar = store.directory(&[("a", file)]);
    for (max, is_whole) in [(300_000, true), (100_000, false)] {
        let gateway = store.gateway_with(Settings { max_content_bytes: Some(max), ..Settings::default() });
        let car = get(format!("/ipfs/{liar}?format=car")).of(&gateway).await;
        assert_eq!((car.status.as_u16(), car.body.is_ok()), (200, is_whole), "{max}");
        if let Err(error) = car.body {
            assert!(error.contains("larger than what may be served"), "{error}");
        }
    }
    // What a scope leaves out does not count.
    let gateway = store.gateway_with(Settings { max_content_bytes: Some(100_000), ..Settings::default() });
    for (scope, status) in [("all", 410), ("entity", 410), ("block", 200)] {
        let answer = get(format!("/ipfs/{file}?format=car&dag-scope={scope}")).of(&gateway).await;
        assert_eq!(answer.status, status, "{scope}");
    }
}

#[tokio::test]
async fn ranges_of_files_above_a_size_are_not_served() {
    let store = Store::default();
    let file = store.file(&pattern(5000), 1000);
    for (max, status) in [(5000, 206), (4999, 501)] {
        let settings = Settings { max_range_file_bytes: Some(max), ..Settings::default() };
        let gateway = store.gateway_with(settings);
        let answer = get(format!("/ipfs/{file}")).with("range", "bytes=0-9").of(&gateway).await;
        assert_eq!(answer.status, status);
        assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.status, 200);
    }
}
