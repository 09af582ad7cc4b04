//! Clients that take this gateway for their proxy: `CONNECT` to any host leads to the gateway itself.

use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};

/// What becomes of one connection after a `CONNECT`.
#[derive(Default)]
pub(super) struct Tunnel(Mutex<Option<OnUpgrade>>);

impl Tunnel {
    /// Accepts the tunnel that a request asks for, if it does.
    ///
    /// Source: RFC 9110 §9.3.6.
    pub(super) fn accept(&self, request: &mut Request<Incoming>) -> Option<Response> {
        if request.method() != Method::CONNECT {
            return None;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(hyper::upgrade::on(request));
        Some(Response::new(Body::empty()))
    }

    /// The tunnel, once the connection has ended as one of HTTP.
    pub(super) async fn open(self) -> Option<Result<Upgraded, hyper::Error>> {
        let upgrade = self.0.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        Some(upgrade.await)
    }
}
