//! Listening sockets: HTTP/1.1, and HTTP/2 and HTTP/1.1 over TLS, with a bound on everything that a client can hold.

mod stream;
mod tunnel;

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::settings::ServerSettings;
use crate::tls::{CHALLENGE_PROTOCOL, Tls};
use stream::Patient;
use tunnel::Tunnel;

/// Largest head of a request, in bytes: a path of the longest kind that is accepted, and its headers.
const MAX_HEAD_BYTES: u32 = 64 * 1024;

/// Headers of a request.
const MAX_HEADER_COUNT: usize = 100;

/// Streams that a client may open at the same time on one HTTP/2 connection.
///
/// Source: the trustless gateway specification wants a stated number; 100 is the least that RFC 9113 §6.5.2 advises.
const MAX_STREAMS: u32 = 128;

/// Resets that a client may cause on one HTTP/2 connection before it is cut (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 32;

/// How long the next accept waits after one failed because this process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The mark on a request that tells who sent it: the address at the other end of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(pub IpAddr);

/// The mark on a request that came over TLS.
#[derive(Debug, Clone, Copy)]
pub struct Encrypted;

/// Serves HTTP/1.1 until `shutdown`, then lets requests finish for [`ServerSettings::drain_timeout`].
///
/// # Cancellation
/// Dropping it closes the listener; connections run on. Use `shutdown`.
pub async fn serve_http(
    listener: TcpListener,
    router: Router,
    settings: ServerSettings,
    shutdown: CancellationToken,
) {
    Server::new(router, settings, None, shutdown).run(listener).await;
}

/// Serves HTTP/2 and HTTP/1.1 over TLS, otherwise as [`serve_http`]. [`Tls::run`] must run beside it.
pub async fn serve_https(
    listener: TcpListener,
    router: Router,
    settings: ServerSettings,
    tls: Tls,
    shutdown: CancellationToken,
) {
    Server::new(router, settings, Some(tls), shutdown).run(listener).await;
}

struct Server {
    router: Router,
    settings: ServerSettings,
    tls: Option<Tls>,
    /// No more requests.
    shutdown: CancellationToken,
    /// No more patience with those that run.
    cut: CancellationToken,
}

impl Server {
    fn new(
        router: Router,
        settings: ServerSettings,
        tls: Option<Tls>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { router, settings, tls, shutdown, cut: CancellationToken::new() })
    }

    async fn run(self: Arc<Self>, listener: TcpListener) {
        let connections = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(self.settings.max_connections.min(Semaphore::MAX_PERMITS)));
        let accepting = async {
            while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
                let stream = accept(&listener).await;
                let server = Arc::clone(&self);
                connections.spawn(async move {
                    if let Err(error) = server.connection(stream).await {
                        tracing::debug!(%error, "connection failed");
                    }
                    drop(slot);
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = self.shutdown.cancelled() => {}
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(self.settings.drain_timeout, connections.wait()).await.is_err() {
            self.cut.cancel();
            connections.wait().await;
        }
    }

    async fn connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let client = Client(stream.peer_addr()?.ip());
        let stream = Patient::new(stream, self.settings.write_timeout);
        let Some(tls) = &self.tls else { return self.http1(stream, client).await };
        let handshake = tokio::time::timeout(self.settings.header_timeout, accept_tls(tls, stream));
        let mut stream = tokio::select! {
            done = handshake => done.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
            () = self.shutdown.cancelled() => return Ok(()),
        };
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => self.http2(stream, client).await,
            // The certificate was all that it wanted.
            Some(CHALLENGE_PROTOCOL) => stream.shutdown().await,
            _ => self.http1(stream, client).await,
        }
    }

    async fn http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        client: Client,
    ) -> io::Result<()> {
        let tunnel = Tunnel::default();
        let service = service_fn(|request| self.call_or_tunnel(request, client, &tunnel));
        let connection = self.http1_builder().serve_connection(TokioIo::new(stream), service).with_upgrades();
        self.drive(connection).await?;
        let Some(stream) = tunnel.open().await else { return Ok(()) };
        let stream = stream.map_err(io::Error::other)?;
        // No tunnel within the tunnel.
        let service = service_fn(|request| self.call(request, client));
        self.drive(self.http1_builder().serve_connection(stream, service).with_upgrades()).await
    }

    fn http1_builder(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_headers(MAX_HEADER_COUNT)
            .max_header_size(MAX_HEAD_BYTES as usize);
        builder
    }

    async fn http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        client: Client,
    ) -> io::Result<()> {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_header_list_size(MAX_HEAD_BYTES)
            .keep_alive_interval(self.settings.header_timeout)
            .keep_alive_timeout(self.settings.header_timeout)
            .serve_connection(TokioIo::new(stream), service_fn(|request| self.call(request, client)));
        self.drive(connection).await
    }

    async fn call_or_tunnel(
        &self,
        mut request: Request<Incoming>,
        client: Client,
        tunnel: &Tunnel,
    ) -> Result<Response, Infallible> {
        match tunnel.accept(&mut request) {
            Some(accepted) => Ok(accepted),
            None => self.call(request, client).await,
        }
    }

    fn call(&self, request: Request<Incoming>, client: Client) -> RouteFuture<Infallible> {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(client);
        if self.tls.is_some() {
            request.extensions_mut().insert(Encrypted);
        }
        self.router.clone().call(request)
    }

    /// Runs a connection to its end, or to that of its time.
    async fn drive(&self, connection: impl Connection) -> io::Result<()> {
        let mut connection = pin!(connection);
        let age = self.settings.max_connection_age;
        tokio::select! {
            biased;
            done = connection.as_mut() => return done.map_err(io::Error::other),
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(age) => {}
        }
        connection.as_mut().take_no_more();
        tokio::select! {
            biased;
            done = connection => done.map_err(io::Error::other),
            () = self.cut.cancelled() => Ok(()),
            () = tokio::time::sleep(age) => Ok(()),
        }
    }
}

/// A connection of HTTP that can be asked to end after the request that runs.
trait Connection: Future<Output = hyper::Result<()>> {
    fn take_no_more(self: Pin<&mut Self>);
}

impl<I, S> Connection for http1::UpgradeableConnection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    fn take_no_more(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Connection for http2::Connection<I, S, TokioExecutor>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
    TokioExecutor: Http2ServerConnExec<S::Future, Body>,
{
    fn take_no_more(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// The handshake, which may wait for a certificate.
async fn accept_tls<S>(tls: &Tls, stream: S) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let config = tls.config(&start.client_hello()).await;
    start.into_stream(config).await
}

/// The next connection. A failure concerns that connection, or passes.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections, trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
