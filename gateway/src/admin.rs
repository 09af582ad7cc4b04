//! What operators and their programs ask: numbers, health and readiness. For a port of its own that the world cannot reach.

use axum::Router;
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};

use crate::pipeline::Gateway;

/// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// `/metrics`; `/healthz` while the process answers; `/readyz` while there is room for one more request and the program is not
/// about to stop, so that a load balancer that asks for it sends the next one elsewhere.
pub fn admin(gateway: &Gateway) -> Router {
    let metrics = gateway.metrics();
    let metrics = async move || ([(header::CONTENT_TYPE, PROMETHEUS)], metrics.text());
    let gateway = gateway.clone();
    let ready = async move || match (gateway.is_stopping(), gateway.has_room()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        (false, true) => (StatusCode::OK, "ready\n"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "busy\n"),
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
}
