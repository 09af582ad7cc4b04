//! Sends commands to a daemon and reads their events.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, TE, USER_AGENT};
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::address::HostPort;
use crate::command::{Binder, Command, Event as _, Events};
use crate::context::CallOptions;
use crate::error::{Code, Error, Result};
use crate::files::Files;
use crate::multipart;
use crate::server::{CONTENT_LENGTH, STREAM_ERROR};

/// Longest error that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Why files could not be sent, when it was not the connection's fault.
type SendFailure = Arc<OnceLock<Error>>;

/// A daemon's RPC.
#[derive(Debug, Clone)]
pub struct Client {
    host: HostPort,
    authorization: Option<HeaderValue>,
}

type RequestBody = UnsyncBoxBody<Bytes, Error>;

impl Client {
    /// A daemon at an address as [`HostPort::parse`] reads it; `authorization` is the value of that header.
    ///
    /// # Errors
    /// An address of another form, or an authorization that no header can hold.
    pub fn new(address: &str, authorization: Option<&str>) -> Result<Self> {
        let authorization = authorization.map(HeaderValue::from_str).transpose();
        let authorization =
            authorization.map_err(|_| Error::client("no header can hold this authorization"))?;
        Ok(Self { host: HostPort::parse(address)?, authorization })
    }

    /// Whether something accepts connections there.
    pub async fn is_up(&self) -> bool {
        self.connect().await.is_ok()
    }

    /// Runs a command there. Dropping the events closes the connection, which stops the command.
    pub fn run<C: Command>(&self, command: C, options: CallOptions) -> Events<C::Event> {
        let client = self.clone();
        let events = async move { client.send(command, options).await };
        futures::stream::once(events).try_flatten().boxed()
    }

    async fn send<C: Command>(&self, mut command: C, mut options: CallOptions) -> Result<Events<C::Event>> {
        let failure = SendFailure::default();
        let files = command.take_files();
        let mut binder = Binder::write();
        command.bind(&mut binder)?;
        options.bind(&mut binder)?;
        let uri = format!("/api/v0/{}?{}", C::PATH, binder.into_query());
        let request = self.request(&uri, files, &failure)?;

        let broken = |error: hyper::Error| failure.get().cloned().unwrap_or_else(|| self.broken(&error));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.open().await?)).await.map_err(broken)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // The request or its answer says what went wrong.
            let _ = connection.await;
        }));
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = Answer { client: self.clone(), body, failure, _sender: sender, _connection: connection };
        if parts.status != StatusCode::OK {
            return Err(body.into_error(parts.status).await);
        }
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(C::Event::decode(length, body.into_stream().boxed()))
    }

    fn request(
        &self,
        uri: &str,
        files: Option<Files>,
        failure: &SendFailure,
    ) -> Result<Request<RequestBody>> {
        let mut request = Request::post(uri)
            .header(HOST, self.host.to_string())
            .header(USER_AGENT, concat!("cairn/", env!("CARGO_PKG_VERSION")))
            .header(TE, "trailers");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let body = match files {
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Some(files) => {
                let (boundary, failure) = (boundary(), Arc::clone(failure));
                request = request.header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"));
                let pieces = multipart::encode(files, &boundary).map_ok(Frame::data);
                // Only the first failure counts, and there is only one.
                let pieces = pieces.inspect_err(move |error| drop(failure.set(error.clone())));
                StreamBody::new(pieces).boxed_unsync()
            }
        };
        request.body(body).map_err(|error| Error::client(error.to_string()))
    }

    async fn open(&self) -> Result<TcpStream> {
        self.connect()
            .await
            .map_err(|error| Error::new(format!("cannot connect to the daemon at {}: {error}", self.host)))
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.host.to_pair()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn broken(&self, error: &hyper::Error) -> Error {
        Error::new(format!("the connection to the daemon at {} broke: {error}", self.host))
    }
}

/// The body of an answer, and what must live as long as it is read.
struct Answer {
    client: Client,
    body: Incoming,
    failure: SendFailure,
    _sender: http1::SendRequest<RequestBody>,
    _connection: AbortOnDropHandle<()>,
}

impl Answer {
    /// The bytes of the body; a failure told in the trailer or a torn body is an error.
    fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send {
        futures::stream::unfold(Some(self), |state| async move {
            let mut answer = state?;
            match answer.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Some((Ok(data), Some(answer))),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let message = trailers.get(STREAM_ERROR)?;
                        Some((Err(Error::new(String::from_utf8_lossy(message.as_bytes()))), None))
                    }
                },
                Err(error) => {
                    let error = answer.failure.get().cloned().unwrap_or_else(|| answer.client.broken(&error));
                    Some((Err(error), None))
                }
            }
        })
    }

    /// What an answer that is not a success says.
    async fn into_error(mut self, status: StatusCode) -> Error {
        let mut text = BytesMut::new();
        while let Some(Ok(frame)) = self.body.frame().await
            && let Ok(data) = frame.into_data()
            && text.len() + data.len() <= MAX_ERROR_BYTES
        {
            text.extend_from_slice(&data);
        }
        serde_json::from_slice(&text).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&text);
            let code = if status == StatusCode::BAD_REQUEST { Code::Client } else { Code::Normal };
            match text.trim() {
                "" => Error::with_code(code, format!("the daemon at {} answered {status}", self.client.host)),
                text => Error::with_code(code, text),
            }
        })
    }
}

/// A line that no file is likely to hold.
fn boundary() -> String {
    format!("cairn-{:032x}", rand::random::<u128>())
}
