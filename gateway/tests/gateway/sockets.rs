//! Over real sockets: what a client sees of a cut response, of TLS, of limits and of a shutdown.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_gateway::tls::{Tls, TlsSettings};
use cairn_gateway::{Gateway, ServerSettings, Settings, serve_http, serve_https};
use cairn_proto::content::ContentErrorKind;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::support::{Store, pattern};

/// Longer than anything here takes; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server that runs until it is told to stop.
struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    ca: Option<(tempfile::TempDir, Tls)>,
}

impl Running {
    async fn http(gateway: Gateway, settings: ServerSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(serve_http(listener, gateway.router(), settings, shutdown.clone()));
        Self { address, shutdown, task, ca: None }
    }

    async fn https(gateway: Gateway) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = TlsSettings { folder: dir.path().to_owned(), files: None, acme: None };
        let ca = Tls::open(settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(serve_https(
            listener,
            gateway.router(),
            ServerSettings::default(),
            ca.clone(),
            shutdown.clone(),
        ));
        Self { address, shutdown, task, ca: Some((dir, ca)) }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads all that comes until the server closes.
    async fn exchange(&self, request: &str) -> Vec<u8> {
        let mut stream = self.tcp().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read =
            tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the server closes");
        // A reset is a way of closing, too.
        drop(read);
        answer
    }

    async fn tls(&self, name: &str, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let (_, ca) = self.ca.as_ref().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca.ca_path()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tcp().await).await
    }

    async fn h2(&self, name: &str, target: &str) -> Response<Incoming> {
        let stream = self.tls(name, "h2").await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let uri = format!("https://{name}:{}{target}", self.address.port());
        let request =
            Request::builder().version(Version::HTTP_2).uri(uri).body(Empty::<Bytes>::new()).unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// Stops the server and waits until all its connections are done.
    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("the server stops").unwrap();
    }
}

fn plain_get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
}

fn split(answer: &[u8]) -> (&str, &[u8]) {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    (std::str::from_utf8(&answer[..end]).unwrap(), &answer[end + 4..])
}

/// A file whose last block is corrupt.
fn torn(store: &Store) -> cairn_proto::cid::Cid {
    let file = store.file(&pattern(30_000), 10_000);
    store.fail(&store.leaves(&file)[2], ContentErrorKind::Corrupt);
    file
}

#[tokio::test]
async fn a_cut_response_is_visible_over_http_1() {
    let store = Store::default();
    let file = torn(&store);
    let server = Running::http(store.gateway(), ServerSettings::default()).await;
    let whole = server.exchange(&plain_get(&format!("/ipfs/{file}"))).await;
    let (head, body) = split(&whole);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 30000"), "{head}");
    assert!(body.len() <= 20_000 && pattern(30_000).starts_with(body), "only content, and not all of it");
    let chunked = server.exchange(&plain_get(&format!("/ipfs/{file}?format=car"))).await;
    let (head, body) = split(&chunked);
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!body.ends_with(b"0\r\n\r\n"), "the end of a chunked body would say that it is complete");
    server.stop().await;
}

#[tokio::test]
async fn a_cut_response_is_visible_over_http_2() {
    let store = Store::default();
    let file = torn(&store);
    let server = Running::https(store.gateway()).await;
    for query in ["", "?format=car"] {
        let response = server.h2("127.0.0.1", &format!("/ipfs/{file}{query}")).await;
        assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
        let error = response.into_body().collect().await.unwrap_err();
        assert!(format!("{error:?}").contains("Reset"), "{error:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_whole_response_is_whole_over_both() {
    let store = Store::default();
    let data = pattern(5_000_000);
    let file = store.file(&data, 1 << 20);
    let (plain, secure) = (
        Running::http(store.gateway(), ServerSettings::default()).await,
        Running::https(store.gateway()).await,
    );
    assert_eq!(split(&plain.exchange(&plain_get(&format!("/ipfs/{file}"))).await).1, data);
    let response = secure.h2("127.0.0.1", &format!("/ipfs/{file}")).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), data);
    plain.stop().await;
    secure.stop().await;
}

#[tokio::test]
async fn answers_without_a_body_claim_no_length() {
    let store = Store::default();
    let root = store.directory(&[]);
    let file = store.raw("x");
    let server = Running::http(store.gateway(), ServerSettings::default()).await;
    for (request, status) in [
        (format!("HEAD /ipfs/{root}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"), "200"),
        (
            format!(
                "GET /ipfs/{file} HTTP/1.1\r\nHost: 127.0.0.1\r\nIf-None-Match: *\r\nConnection: close\r\n\r\n"
            ),
            "304",
        ),
        ("OPTIONS / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".to_owned(), "204"),
    ] {
        let answer = server.exchange(&request).await;
        let (head, body) = split(&answer);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert!(!head.contains("content-length") && body.is_empty(), "{head}");
    }
    server.stop().await;
}

#[tokio::test]
async fn both_protocols_are_spoken_over_tls_on_every_name() {
    let store = Store::default();
    let site = store.directory(&[("a.txt", store.raw("hello"))]);
    let server = Running::https(store.gateway()).await;
    let host = format!("{site}.ipfs.localhost");
    let response = server.h2(&host, "/a.txt").await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    let stream = server.tls("localhost", "http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .uri(format!("/ipfs/{site}/a.txt"))
        .header("host", format!("localhost:{}", server.address.port()))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 301);
    assert_eq!(response.headers()["location"], format!("https://{host}:{}/a.txt", server.address.port()));
    server.stop().await;
}

#[tokio::test]
async fn the_certificate_is_good_for_no_other_name() {
    let store = Store::default();
    let server = Running::https(store.gateway()).await;
    for name in ["example.com", "a.localhost", "a.b.ipfs.localhost", "127.0.0.2"] {
        assert!(server.tls(name, "h2").await.is_err(), "{name}");
    }
    for name in ["localhost", "x.ipfs.localhost", "y.ipns.localhost", "127.0.0.1", "::1"] {
        assert!(server.tls(name, "h2").await.is_ok(), "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn curl_trusts_the_local_ca_and_nothing_else_makes_it() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is not installed");
        return;
    }
    let store = Store::default();
    let site = store.directory(&[("a.txt", store.raw("hello"))]);
    let server = Running::https(store.gateway()).await;
    let ca_path = server.ca.as_ref().unwrap().1.ca_path().to_owned();
    let url = format!("https://localhost:{}/ipfs/{site}/a.txt", server.address.port());
    let resolve = format!("{site}.ipfs.localhost:{}:127.0.0.1", server.address.port());
    let curl = async |arguments: Vec<String>| {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--noproxy", "*", "--location", "--max-time", "60"])
            .args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    for version in ["--http1.1", "--http2"] {
        let arguments = ["--cacert", ca_path.to_str().unwrap(), "--resolve", &resolve, version, &url];
        let output = curl(arguments.map(str::to_owned).to_vec()).await;
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "hello",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(!curl(vec![url]).await.status.success(), "without the CA there is no trust");
    server.stop().await;
}

#[tokio::test]
async fn a_head_within_the_limit_passes_and_a_larger_one_is_refused() {
    let store = Store::default();
    let server = Running::http(store.gateway(), ServerSettings::default()).await;
    for (len, expected) in [(60 * 1024, "HTTP/1.1 200"), (65 * 1024, "HTTP/1.1 431")] {
        let padding = "x".repeat(len);
        let answer = server
            .exchange(&format!(
                "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Padding: {padding}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with(expected.as_bytes()), "{len}: {}", answer.escape_ascii());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_given_up() {
    let store = Store::default();
    let settings = ServerSettings { header_timeout: Duration::from_millis(50), ..ServerSettings::default() };
    let server = Running::http(store.gateway(), settings).await;
    for request in ["", "GET / HTTP/1.1\r\nHost: 127"] {
        server.exchange(request).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_a_place() {
    let store = Store::default();
    let settings = ServerSettings { max_connections: 1, ..ServerSettings::default() };
    let server = Running::http(store.gateway(), settings).await;
    let mut first = server.tcp().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    first.read_exact(&mut [0; 12]).await.unwrap();
    let mut second = server.tcp().await;
    second.write_all(plain_get("/").as_bytes()).await.unwrap();
    drop(first);
    let mut answer = [0; 12];
    tokio::time::timeout(DEADLINE, second.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(second);
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_a_request_finish_and_takes_no_other() {
    let store = Store::default();
    let data = pattern(20_000_000);
    let file = store.file(&data, 1 << 20);
    let settings = ServerSettings { drain_timeout: DEADLINE, ..ServerSettings::default() };
    let server = Running::http(store.gateway(), settings).await;
    let mut stream = server.tcp().await;
    // Kept alive by the client: the server closes it all the same.
    stream
        .write_all(format!("GET /ipfs/{file} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = vec![0; 1000];
    stream.read_exact(&mut answer).await.unwrap();
    server.shutdown.cancel();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(split(&answer).1, data);
    let address = server.address;
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_shutdown_ends_although_a_request_does_not() {
    let store = Store::default();
    let file = store.raw("x");
    store.lose(&file);
    let settings = ServerSettings { drain_timeout: Duration::from_millis(50), ..ServerSettings::default() };
    let server = Running::http(store.gateway_with(Settings::default()), settings).await;
    let mut stream = server.tcp().await;
    stream.write_all(plain_get(&format!("/ipfs/{file}")).as_bytes()).await.unwrap();
    store.wait_for_read().await;
    server.stop().await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_client_may_take_the_gateway_for_its_proxy() {
    // Source: RFC 9112 §3.2.2 for the absolute form, RFC 9110 §9.3.6 for the tunnel.
    let store = Store::default();
    let file = store.raw("a file");
    let running = Running::http(store.gateway(), ServerSettings::default()).await;
    let host = format!("{file}.ipfs.localhost");
    let whole = format!("GET http://{host}/ HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(running.exchange(&whole).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\na file"), "{answer}");

    let connect = format!("CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n");
    let within = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(running.exchange(&format!("{connect}{within}")).await).unwrap();
    let (accepted, answer) = answer.split_once("\r\n\r\n").unwrap();
    assert!(accepted.starts_with("HTTP/1.1 200 OK") && !accepted.contains("content-length"), "{accepted}");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\na file"), "{answer}");

    let nested = String::from_utf8(running.exchange(&format!("{connect}{connect}{within}")).await).unwrap();
    assert!(nested.contains("HTTP/1.1 405"), "{nested}");
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_opens_streams_only_to_reset_them_is_cut() {
    // Source: CVE-2023-44487; frames after RFC 9113 §4.1, §6.2, §6.4 and RFC 7541 §6.1.
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let store = Store::default();
    let server = Running::https(store.gateway()).await;
    let mut stream = server.tls("localhost", "h2").await.unwrap();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    flood.extend(frame(4, 0, 0, &[]));
    for number in 0..5000 {
        let id = 2 * number + 1;
        // GET / of "a" over https, the end of its headers and of its stream; then a reset.
        flood.extend(frame(1, 0x5, id, &[0x82, 0x87, 0x84, 0x41, 0x01, b'a']));
        flood.extend(frame(3, 0, id, &8_u32.to_be_bytes()));
    }
    // The server may close before all of it is sent.
    let sent = stream.write_all(&flood).await;
    let mut answer = Vec::new();
    let read =
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the server closes");
    drop((sent, read));
    // GOAWAY with ENHANCE_YOUR_CALM.
    let is_calmed = answer.windows(17).any(|bytes| {
        bytes[..9] == [0, 0, bytes[2], 7, 0, 0, 0, 0, 0] && bytes[13..17] == 11_u32.to_be_bytes()
    });
    assert!(is_calmed, "{}", answer.escape_ascii());
    server.stop().await;
}
