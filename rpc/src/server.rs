//! Kubo's `/api/v0` over HTTP: parses requests into commands, runs them, encodes their events.
//!
//! Invariant: a page of a browser reaches a command only from an origin that the owner allowed ([`guard`]), and an answer
//! that fails after its first byte never ends cleanly for a client that cannot see why.

mod guard;
mod listen;
mod metrics;
mod respond;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use cairn_node::settings::config::http::RpcSettings;
use futures::future::BoxFuture;
use futures::stream::Fuse;
use futures::{FutureExt as _, Stream, StreamExt as _};
use http::StatusCode;
use http::header::{CONTENT_TYPE, TE};

use crate::command::{Binder, Command, Query};
use crate::commands::{self, Visitor};
use crate::context::{CallOptions, Context, Repo};
use crate::error::{Error, Result};
use crate::multipart;

pub use listen::serve;
pub(crate) use respond::{CONTENT_LENGTH, STREAM_ERROR};

/// Everything before the name of a command.
const PREFIX: &str = "/api/v0/";

type Handler = fn(Call) -> BoxFuture<'static, Response>;

/// One request for a command that exists.
struct Call {
    context: Context,
    query: Query,
    request: Request,
}

struct Server {
    repo: Arc<Repo>,
    commands: HashMap<&'static str, Handler>,
    settings: RpcSettings,
}

impl Visitor for HashMap<&'static str, Handler> {
    fn command<C: Command>(&mut self) {
        self.insert(C::PATH, |call| handle::<C>(call).boxed());
    }
}

/// The RPC of a repo.
pub fn router(repo: Arc<Repo>, settings: RpcSettings) -> Router {
    let mut commands = HashMap::new();
    commands::visit(&mut commands);
    with_commands(repo, settings, commands)
}

fn with_commands(repo: Arc<Repo>, settings: RpcSettings, commands: HashMap<&'static str, Handler>) -> Router {
    let server = Arc::new(Server { repo, commands, settings });
    Router::new()
        .route("/api/v0/{*command}", any(dispatch))
        .route(
            metrics::PATH,
            get(|State(server): State<Arc<Server>>| async move { metrics::answer(&server.repo).await }),
        )
        .fallback(|| async { respond::text(StatusCode::NOT_FOUND, "404 page not found") })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&server), check))
        .with_state(server)
}

async fn check(
    State(server): State<Arc<Server>>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let origin = match guard::check(&server.settings, &request) {
        guard::Verdict::Pass { origin } => origin,
        guard::Verdict::Answer(answer) => return *answer,
    };
    let mut response = next.run(request).await;
    guard::label(response.headers_mut(), origin);
    response
}

async fn dispatch(State(server): State<Arc<Server>>, request: Request) -> Response {
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let Some(handler) = server.commands.get(path.trim_end_matches('/')) else {
        return respond::text(StatusCode::NOT_FOUND, "404 page not found");
    };
    match parse_query(request.uri().query().unwrap_or_default()) {
        Ok((query, options)) => {
            handler(Call { context: Context { repo: Arc::clone(&server.repo), options }, query, request })
                .await
        }
        Err(error) => respond::failure(&error),
    }
}

fn parse_query(text: &str) -> Result<(Query, CallOptions)> {
    let mut binder = Binder::read(Query::parse(text)?);
    let mut options = CallOptions::default();
    options.bind(&mut binder)?;
    let query = binder.into_query();
    match query.option("encoding", "enc")? {
        None | Some("json") => Ok((query, options)),
        Some(other) => Err(Error::client(format!("no such encoding: {other:?}; there is json"))),
    }
}

async fn handle<C: Command>(call: Call) -> Response {
    let wants_trailers = call
        .request
        .headers()
        .get_all(TE)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let boundary = call
        .request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| multer::parse_boundary(value.to_str().ok()?).ok());
    let body = SharedBody::new(call.request.into_body());
    let command = parse_command::<C>(call.query, boundary, &body);
    let rest = C::FILES.is_some().then_some(body);
    match command {
        Ok(command) => respond::events(command, call.context, wants_trailers, rest).await,
        Err(error) => respond::failure_before(&error, rest),
    }
}

fn parse_command<C: Command>(query: Query, boundary: Option<String>, body: &SharedBody) -> Result<C> {
    let mut command = C::default();
    if let Some(name) = C::FILES {
        let boundary =
            boundary.ok_or_else(|| Error::client(format!("file argument '{name}' is required")))?;
        command.set_files(multipart::decode(body.clone(), boundary));
    }
    command.bind(&mut Binder::read(query))?;
    Ok(command)
}

/// The body of a request, which a command reads and the answer reads to its end: a client that still sends when the
/// connection closes may lose the answer.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Fuse<BodyDataStream>>>);

impl SharedBody {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body.into_data_stream().fuse())))
    }
}

impl Stream for SharedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().expect("no holder of this lock panics").poll_next_unpin(cx)
    }
}

#[cfg(test)]
mod tests;
