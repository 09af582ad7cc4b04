//! What operators see.

use axum::Router;
use axum::body::Body;
use cairn_gateway::{Gateway, Rate, Settings, admin};
use cairn_proto::content::ContentErrorKind;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::support::{Store, get, pattern};

async fn ask(router: Router, target: &str) -> (StatusCode, String) {
    let answer = router.oneshot(Request::get(target).body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let (status, text) = ask(admin(gateway), "/metrics").await;
    assert_eq!(status, 200);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn responses_bytes_and_cuts_are_counted() {
    let store = Store::default();
    let file = store.file(&pattern(30_000), 10_000);
    let torn = store.file(&[7; 20_001], 10_000);
    store.fail(&store.leaves(&torn)[2], ContentErrorKind::Corrupt);
    let gateway = store.gateway();
    assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.bytes().len(), 30_000);
    assert_eq!(metric(&gateway, "cairn_gateway_sent_bytes_total").await, 30_000.0);
    assert_eq!(metric(&gateway, "cairn_gateway_responses_cut_total").await, 0.0);
    get(format!("/ipfs/{file}")).head().of(&gateway).await;
    get(format!("/ipfs/{file}")).with("if-none-match", "*").of(&gateway).await;
    assert_eq!(metric(&gateway, "cairn_gateway_responses_cut_total").await, 0.0);
    assert!(get(format!("/ipfs/{torn}")).of(&gateway).await.body.is_err());
    get(format!("/ipfs/{file}/missing")).of(&gateway).await;
    for (name, expected) in [
        ("cairn_gateway_responses_total{status=\"200\"}", 3.0),
        ("cairn_gateway_responses_total{status=\"304\"}", 1.0),
        ("cairn_gateway_responses_total{status=\"404\"}", 1.0),
        ("cairn_gateway_responses_cut_total", 1.0),
        ("cairn_gateway_requests_active", 0.0),
        ("cairn_gateway_first_byte_seconds_count", 5.0),
    ] {
        assert_eq!(metric(&gateway, name).await, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_before_an_answer_is_no_longer_active() {
    let store = Store::default();
    let file = store.raw("x");
    store.lose(&file);
    let gateway = store.gateway();
    let waiting = get(format!("/ipfs/{file}"));
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), waiting.of(&gateway)).await.is_err());
    assert_eq!(metric(&gateway, "cairn_gateway_requests_active").await, 0.0);
    assert_eq!(metric(&gateway, "cairn_gateway_responses_cut_total").await, 1.0);
}

#[tokio::test]
async fn a_gateway_is_ready_while_it_has_room() {
    let store = Store::default();
    let file = store.file(&pattern(3000), 1000);
    let gateway = store.gateway_with(Settings { max_requests: 1, ..Settings::default() });
    assert_eq!(ask(admin(&gateway), "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
    let request =
        Request::get(format!("/ipfs/{file}")).header("host", "127.0.0.1").body(Body::empty()).unwrap();
    let busy = gateway.router().oneshot(request).await.unwrap();
    assert_eq!(ask(admin(&gateway), "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(admin(&gateway), "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    drop(busy);
    assert_eq!(ask(admin(&gateway), "/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn numbers_are_not_on_the_public_side_and_each_response_says_how_long_it_took() {
    let store = Store::default();
    let gateway = store.gateway();
    for target in ["/metrics", "/healthz", "/readyz"] {
        let answer = get(target).of(&gateway).await;
        assert_eq!(answer.status, 404, "{target}");
        let timing = answer.timing.unwrap();
        assert!(timing.to_str().unwrap().starts_with("wait;dur="), "{timing:?}");
    }
}

#[tokio::test]
async fn a_gateway_about_to_stop_is_not_ready_and_answers_on() {
    let store = Store::default();
    let file = store.raw("x");
    let gateway = store.gateway();
    gateway.stop();
    let stopping = (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    assert_eq!(ask(admin(&gateway), "/readyz").await, stopping);
    assert_eq!(ask(admin(&gateway), "/healthz").await.0, StatusCode::OK);
    assert_eq!(get(format!("/ipfs/{file}")).of(&gateway).await.status, 200);
}

#[tokio::test]
async fn other_settings_hold_from_the_next_request_on_and_not_for_those_that_run() {
    let store = Store::default();
    let file = store.file(&pattern(3000), 1000);
    let gateway = store.gateway_with(Settings { max_requests: 1, ..Settings::default() });
    let router = gateway.router();
    let request =
        || Request::get(format!("/ipfs/{file}")).header("host", "127.0.0.1").body(Body::empty()).unwrap();
    let running = router.clone().oneshot(request()).await.unwrap();
    assert_eq!(router.clone().oneshot(request()).await.unwrap().status(), 429);
    gateway.reload(Settings { max_requests: 1, max_rows: 7, ..Settings::default() });
    assert_eq!(router.clone().oneshot(request()).await.unwrap().status(), 429, "the same limit holds on");
    gateway.reload(Settings { max_requests: 2, max_file_bytes: Some(2999), ..Settings::default() });
    assert_eq!(router.clone().oneshot(request()).await.unwrap().status(), 410);
    gateway.reload(Settings { max_requests: 1, ..Settings::default() });
    assert_eq!(
        router.clone().oneshot(request()).await.unwrap().status(),
        429,
        "the one that runs still counts"
    );
    assert_eq!(running.into_body().collect().await.unwrap().to_bytes().len(), 3000);
    gateway.reload(Settings { rate: Some(Rate { per_second: 1, burst: 1 }), ..Settings::default() });
    let ask = async || get(format!("/ipfs/{file}")).from([192, 0, 2, 1].into()).of(&gateway).await.status;
    assert_eq!((ask().await, ask().await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
    assert!(metric(&gateway, "cairn_gateway_first_byte_seconds_count").await >= 4.0, "counters go on");
}
