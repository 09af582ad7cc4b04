//! Answers: events as a body, failures as JSON, a trailer or a cut connection.
//!
//! Source of the headers: go-ipfs-cmds `http/responseemitter.go`, and Kubo 0.43 as it answers.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER, X_CONTENT_TYPE_OPTIONS};
use http::{Response as Parts, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;

use super::SharedBody;
use crate::command::{Command, Encoded, Event, Events, run};
use crate::context::Context;
use crate::error::{Code, Error};

pub(crate) const STREAM_ERROR: HeaderName = HeaderName::from_static("x-stream-error");
pub(crate) const CONTENT_LENGTH: HeaderName = HeaderName::from_static("x-content-length");

/// Longest time that the rest of a request is read after the answer was given.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A short answer for a person.
pub(super) fn text(status: StatusCode, message: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{message}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A failed command as Kubo tells it.
pub(super) fn failure(error: &Error) -> Response {
    failure_before(error, None)
}

/// The same while the client may still be sending.
pub(super) fn failure_before(error: &Error, rest: Option<SharedBody>) -> Response {
    let status = match error.code {
        Code::Client => StatusCode::BAD_REQUEST,
        Code::Normal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut body = serde_json::to_vec(error).expect("an error has a JSON form");
    body.push(b'\n');
    let body = match rest {
        None => Body::from(body),
        Some(rest) => {
            let first = futures::stream::once(async { Ok::<_, Error>(Frame::data(Bytes::from(body))) });
            Body::new(StreamBody::new(first.chain(drain(rest))))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Runs a command and answers with its events. The status waits for the first of them, so that a command that fails at
/// once is told by it.
pub(super) async fn events<C: Command>(
    command: C,
    context: Context,
    wants_trailers: bool,
    rest: Option<SharedBody>,
) -> Response {
    let mut builder = Parts::builder()
        .header(CONTENT_TYPE, command.content_type())
        .header(TRAILER, HeaderValue::from_static("X-Stream-Error"));
    if command.is_stream() {
        builder = builder.header(C::Event::STREAM_HEADER, "1");
    }
    let mut events = run(command, context);
    let first = loop {
        match events.next().await {
            Some(Err(error)) => return failure_before(&error, rest),
            None => break None,
            Some(Ok(event)) => match event.encode() {
                Encoded::Body(bytes) => break Some(bytes),
                Encoded::Length(length) => builder = builder.header(CONTENT_LENGTH, length),
            },
        }
    };
    let body = Body::new(StreamBody::new(frames(first, events, wants_trailers, rest)));
    builder.body(body).expect("every header above is valid")
}

fn frames<E: Event>(
    first: Option<Bytes>,
    events: Events<E>,
    wants_trailers: bool,
    rest: Option<SharedBody>,
) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + Send {
    let first = futures::stream::iter(first.map(|bytes| Ok(Frame::data(bytes))));
    let later = events.filter_map(move |event| async move {
        match event.map(Event::encode) {
            Ok(Encoded::Body(bytes)) => Some(Ok(Frame::data(bytes))),
            Ok(Encoded::Length(_)) => None,
            // A trailer ends the body cleanly. Only a client that says that it reads trailers sees the failure then; for
            // any other the connection is cut.
            Err(error) if wants_trailers => Some(Ok(Frame::trailers(trailer(&error)))),
            Err(error) => {
                // What was yielded before goes out first: an error makes hyper drop what it has not written.
                tokio::task::yield_now().await;
                Some(Err(error))
            }
        }
    });
    let drained = futures::stream::iter(rest).flat_map(drain);
    first.chain(later).chain(drained)
}

fn trailer(error: &Error) -> HeaderMap {
    let text: String = error.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let value = HeaderValue::from_bytes(text.as_bytes());
    let value = value.unwrap_or_else(|_| HeaderValue::from_static("the command failed"));
    HeaderMap::from_iter([(STREAM_ERROR, value)])
}

/// Reads the rest of a request and yields nothing.
fn drain(rest: SharedBody) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + Send {
    let deadline = Box::pin(tokio::time::sleep(DRAIN_TIMEOUT));
    rest.take_until(deadline).filter_map(|_| std::future::ready(None))
}
