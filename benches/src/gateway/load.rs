//! Clients: connections that each ask for the next answer when the last one is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    port: u16,
    tls: bool,
    pub(super) path: String,
    /// What the client has already.
    pub(super) etag: Option<String>,
    /// First and last byte of each part in turn; the whole without any.
    pub(super) ranges: Vec<(u64, u64)>,
}

impl Target {
    pub(super) fn new(port: u16, tls: bool, path: &str) -> Self {
        Self { port, tls, path: path.to_owned(), etag: None, ranges: Vec::new() }
    }

    fn request(&self, number: usize) -> Result<Request<Empty<Bytes>>> {
        // Not `localhost`, which a gateway sends on to an origin of the content's own.
        let host = format!("127.0.0.1:{}", self.port);
        let mut request = Request::get(&self.path).header(header::HOST, host);
        if let Some(etag) = &self.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some((first, last)) = self.ranges.get(number % self.ranges.len().max(1)) {
            request = request.header(header::RANGE, format!("bytes={first}-{last}"));
        }
        Ok(request.body(Empty::new())?)
    }

    fn expected(&self) -> StatusCode {
        match (&self.etag, self.ranges.is_empty()) {
            (Some(_), _) => StatusCode::NOT_MODIFIED,
            (None, true) => StatusCode::OK,
            (None, false) => StatusCode::PARTIAL_CONTENT,
        }
    }
}

/// The clients of all benchmarks.
pub(super) struct Load {
    runtime: Runtime,
    tls: TlsConnector,
}

impl Load {
    /// Clients that trust these certificates, PEM files.
    pub(super) fn new(trusted: impl Iterator<Item = PathBuf>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for path in trusted {
            roots.add(CertificateDer::from_pem_file(&path).with_context(|| path.display().to_string())?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { runtime, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Asks `count` times over so many connections; returns the seconds within which 99 of 100 answers were there.
    pub(super) fn run(&self, target: &Target, connections: usize, count: usize) -> Result<f64> {
        let clients = self.start(target, connections, &Arc::default(), count);
        self.slowest(clients)
    }

    /// Asks while some work is done; the same.
    pub(super) fn run_beside(
        &self,
        target: &Target,
        connections: usize,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<f64> {
        // Never reached, and far from where it would overflow.
        const MANY: usize = usize::MAX / 2;
        let next = Arc::new(AtomicUsize::new(0));
        let clients = self.start(target, connections, &next, MANY);
        let done = work();
        next.store(MANY, Ordering::Relaxed);
        let slowest_s = self.slowest(clients)?;
        done.map(|()| slowest_s)
    }

    fn start(
        &self,
        target: &Target,
        connections: usize,
        next: &Arc<AtomicUsize>,
        count: usize,
    ) -> Vec<JoinHandle<Result<Vec<Duration>>>> {
        let start = |_| {
            let (target, tls, next) = (target.clone(), self.tls.clone(), Arc::clone(next));
            self.runtime.spawn(async move { client(&target, &tls, &next, count).await })
        };
        (0..connections).map(start).collect()
    }

    /// The seconds within which 99 of 100 answers were there.
    fn slowest(&self, clients: Vec<JoinHandle<Result<Vec<Duration>>>>) -> Result<f64> {
        let mut times = Vec::new();
        for client in clients {
            times.extend(self.runtime.block_on(client)??);
        }
        times.sort_unstable();
        let index = (times.len() * 99).div_ceil(100).saturating_sub(1);
        Ok(times.get(index).context("nothing was asked for")?.as_secs_f64())
    }

    /// The entity tag of what is there.
    pub(super) fn etag(&self, target: &Target) -> Result<String> {
        let response = self.runtime.block_on(async {
            let mut connection = connect(target, &self.tls).await?;
            send(&mut connection, target, 0).await
        })?;
        let etag = response.headers().get(header::ETAG).context("there is no entity tag")?;
        Ok(etag.to_str()?.to_owned())
    }

    /// Seconds until the first byte of the body, the rest of which is not read.
    pub(super) fn first_byte(&self, target: &Target) -> Result<f64> {
        self.runtime.block_on(async {
            let mut connection = connect(target, &self.tls).await?;
            let started = Instant::now();
            let mut body = send(&mut connection, target, 0).await?.into_body();
            body.frame().await.context("there is no body")??;
            Ok(started.elapsed().as_secs_f64())
        })
    }

    /// Connections that have got one answer and ask for nothing more.
    pub(super) fn idle(&self, target: &Target, count: usize) -> Result<Vec<SendRequest<Empty<Bytes>>>> {
        self.runtime.block_on(async {
            let mut connections = Vec::with_capacity(count);
            for _ in 0..count {
                let mut connection = connect(target, &self.tls).await?;
                send(&mut connection, target, 0).await?.into_body().collect().await?;
                connections.push(connection);
            }
            Ok(connections)
        })
    }
}

async fn client(
    target: &Target,
    tls: &TlsConnector,
    next: &AtomicUsize,
    count: usize,
) -> Result<Vec<Duration>> {
    let mut connection = connect(target, tls).await?;
    let mut times = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(times);
        }
        // A server may end a connection after as many requests as it likes.
        if connection.ready().await.is_err() {
            connection = connect(target, tls).await?;
        }
        let started = Instant::now();
        let mut body = send(&mut connection, target, number).await?.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        times.push(started.elapsed());
    }
}

async fn send(
    connection: &mut SendRequest<Empty<Bytes>>,
    target: &Target,
    number: usize,
) -> Result<Response<Incoming>> {
    let response = connection.send_request(target.request(number)?).await?;
    ensure!(response.status() == target.expected(), "{}: {}", target.path, response.status());
    Ok(response)
}

async fn connect(target: &Target, tls: &TlsConnector) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(("127.0.0.1", target.port)).await?;
    stream.set_nodelay(true)?;
    if !target.tls {
        return start(TokioIo::new(stream)).await;
    }
    let stream = tls.connect(ServerName::try_from("localhost")?, stream).await?;
    start(TokioIo::new(stream)).await
}

async fn start<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (connection, driver) = http1::handshake(stream).await?;
    // It ends with the connection, whose requests tell what went wrong.
    tokio::spawn(driver);
    Ok(connection)
}
