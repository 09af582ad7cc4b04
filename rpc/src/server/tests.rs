use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_node::settings::config::Config;
use cairn_node::settings::config::http::Authorization;
use cairn_node::settings::config::profile::Profile;
use libp2p::identity::Keypair;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::client::Client;
use crate::command::{JsonEvent, Output, Piece};
use crate::commands::version::{Version, VersionInfo};
use crate::files::{Files, Part};

/// Counts up, then fails, or waits for ever.
#[derive(Debug, Default)]
struct Count {
    to: u32,
    fail: bool,
    hang: bool,
    watched: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Number {
    n: u32,
}

impl JsonEvent for Number {}

static RUNNING: AtomicUsize = AtomicUsize::new(0);

struct RunGuard;

impl RunGuard {
    fn new() -> Self {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Command for Count {
    const PATH: &'static str = "test/count";
    type Event = Number;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("to", &mut self.to)?;
        binder.option("fail", "f", &mut self.fail)?;
        binder.option("hang", "", &mut self.hang)?;
        binder.option("watched", "", &mut self.watched)
    }

    async fn run(self, _context: Context, output: Output<Number>) -> Result<()> {
        for n in 0..self.to {
            output.send(Number { n }).await?;
        }
        if self.hang {
            let _guard = self.watched.then(RunGuard::new);
            output.send(Number { n: self.to }).await?;
            std::future::pending::<()>().await;
        }
        if self.fail { Err(Error::new("it broke\nhere")) } else { Ok(()) }
    }
}

/// Gives the content of its files back, with the length told first, or refuses without reading.
#[derive(Debug, Default)]
struct Echo {
    refuse: bool,
    files: Option<Files>,
}

impl Command for Echo {
    const PATH: &'static str = "test/echo";
    const CONTENT_TYPE: &'static str = "application/vnd.ipld.raw";
    const FILES: Option<&'static str> = Some("data");
    type Event = Piece;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("refuse", "", &mut self.refuse)
    }

    fn set_files(&mut self, files: Files) {
        self.files = Some(files);
    }

    fn take_files(&mut self) -> Option<Files> {
        self.files.take()
    }

    async fn run(self, _context: Context, output: Output<Piece>) -> Result<()> {
        if self.refuse {
            return Err(Error::client("refused"));
        }
        let mut files = self.files.expect("the command takes files");
        while let Some(part) = files.next().await? {
            let content = files.read_all(part, 64 << 20).await?;
            output.send(Piece::Length(content.len() as u64)).await?;
            output.send(Piece::Bytes(content)).await?;
        }
        Ok(())
    }
}

struct TestServer {
    port: u16,
    shutdown: CancellationToken,
    _repo: tempfile::TempDir,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl TestServer {
    async fn start() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut RpcSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(&Keypair::generate_ed25519());
        config.apply(Profile::Test).unwrap();
        config.save(folder.path()).unwrap();
        let mut settings = config.rpc().unwrap();
        change(&mut settings);
        let mut commands = HashMap::new();
        commands::visit(&mut commands);
        commands.command::<Count>();
        commands.command::<Echo>();
        let shutdown = CancellationToken::new();
        let repo = Arc::new(Repo::local(folder.path().to_owned(), config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener, with_commands(repo, settings, commands), shutdown.clone()));
        Self { port, shutdown, _repo: folder }
    }

    fn client(&self) -> Client {
        Client::new(&format!("/ip4/127.0.0.1/tcp/{}", self.port), None).unwrap()
    }

    /// Sends a head with `Connection: close`, and a body; returns everything that comes back.
    async fn raw(&self, line: &str, headers: &[&str], body: &str) -> String {
        let mut stream = self.send(line, headers, body).await;
        let mut answer = Vec::new();
        // A cut connection may end in a reset; what came before it counts.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn send(&self, line: &str, headers: &[&str], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let mut head = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            head += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        }
        for header in headers {
            head += &format!("{}\r\n", header.replace("PORT", &self.port.to_string()));
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
        stream
    }

    async fn status(&self, line: &str, headers: &[&str]) -> u16 {
        let answer = self.raw(line, headers, "").await;
        answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
    }
}

const VERSION: &str = "POST /api/v0/version";

#[tokio::test]
async fn only_post_and_options_are_served() {
    let server = TestServer::start().await;
    assert_eq!(server.status(VERSION, &[]).await, 200);
    assert_eq!(server.status("OPTIONS /api/v0/version", &[]).await, 204);
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"] {
        assert_eq!(server.status(&format!("{method} /api/v0/version"), &[]).await, 405, "{method}");
    }
    let answer = server.raw("GET /api/v0/version", &[], "").await;
    assert!(
        answer.contains("allow: OPTIONS, POST") && answer.contains("405 - Method Not Allowed"),
        "{answer}"
    );
}

// Source of the cases: Kubo `test/sharness/t0401-api-browser-security.sh` and go-ipfs-cmds `http/reforigin_test.go`.
#[tokio::test]
async fn browsers_call_from_allowed_origins_only() {
    let server =
        TestServer::with(|settings| settings.allowed_origins = vec!["https://pages.example".into()]).await;
    for (headers, expected) in [
        (&["User-Agent: curl/8"][..], 200),
        (&["User-Agent: Mozilla/5.0 (X11)"], 403),
        (&["Origin: http://evil.example"], 403),
        (&["Origin: http://evil.example:PORT"], 403),
        (&["Origin: null"], 403),
        (&["Origin: file://"], 403),
        (&["Origin: http://127.0.0.1:PORT"], 200),
        (&["Origin: http://localhost:PORT"], 200),
        (&["Origin: http://[::1]:PORT"], 200),
        (&["Origin: http://127.0.0.1"], 403),
        (&["Origin: http://127.0.0.1:1"], 403),
        (&["Origin: http://localhost.evil.example:PORT"], 403),
        (&["Origin: http://127.0.0.1:PORT", "User-Agent: Mozilla/5.0"], 200),
        (&["Origin: https://pages.example"], 200),
        (&["Origin: https://pages.example.evil.example"], 403),
        (&["Origin: http://pages.example"], 403),
        (&["Origin: chrome-extension://nibjojkomfdiaoajekhjakgkdhaomnch"], 200),
        (&["Origin: chrome-extension://other"], 403),
        (&["Referer: http://evil.example/page"], 403),
        (&["Referer: http://127.0.0.1:PORT/webui"], 200),
        (&["Referer: https://pages.example/a?b"], 200),
        (&["Referer: nonsense"], 403),
        (&["Referer: http://127.0.0.1:PORT/", "User-Agent: Mozilla/5.0"], 200),
    ] {
        assert_eq!(server.status(VERSION, headers).await, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn a_star_allows_every_origin() {
    let server = TestServer::with(|settings| settings.allowed_origins = vec!["*".into()]).await;
    let answer = server.raw(VERSION, &["Origin: http://any.example"], "").await;
    assert!(
        answer.starts_with("HTTP/1.1 200")
            && answer.contains("access-control-allow-origin: http://any.example")
    );
    assert!(!answer.contains("allow-credentials"), "{answer}");
}

#[tokio::test]
async fn a_name_that_dns_could_point_here_is_refused() {
    let server = TestServer::with(|settings| settings.allowed_hosts = vec!["cairn".into()]).await;
    for (host, expected) in [
        ("Host: evil.example:5001", 403),
        ("Host: evil.example", 403),
        ("Host: localhost.evil.example:PORT", 403),
        ("Host: ", 403),
        ("Host: localhost:PORT", 200),
        ("Host: [::1]:PORT", 200),
        ("Host: 192.168.1.2:5001", 200),
        ("Host: cairn:5001", 200),
        ("Host: CAIRN", 200),
    ] {
        assert_eq!(server.status(VERSION, &[host]).await, expected, "{host}");
    }
    let rebound = ["Host: evil.example:PORT", "Origin: http://evil.example:PORT"];
    assert_eq!(server.status(VERSION, &rebound).await, 403);
}

#[tokio::test]
async fn a_preflight_is_answered_for_allowed_origins_only() {
    let server = TestServer::start().await;
    let line = "OPTIONS /api/v0/add";
    let answer =
        server.raw(line, &["Origin: http://localhost:PORT", "Access-Control-Request-Headers: x-a"], "").await;
    assert!(answer.contains("access-control-allow-methods: POST"), "{answer}");
    assert!(answer.contains("access-control-allow-headers: x-a"), "{answer}");
    assert_eq!(server.status(line, &["Origin: http://evil.example"]).await, 403);
}

#[tokio::test]
async fn callers_need_the_authorization_that_the_owner_asks_for() {
    let caller =
        |header: &str, path: &str| Authorization { header: header.into(), allowed_paths: vec![path.into()] };
    let server = TestServer::with(|settings| {
        settings.authorizations =
            vec![caller("Bearer all", "/api/v0"), caller("Basic aWQ6aWQ=", "/api/v0/id")];
    })
    .await;
    for (line, headers, expected) in [
        ("POST /api/v0/version", &[][..], 200),
        ("POST /api/v0/id", &[], 403),
        ("POST /api/v0/id", &["Authorization: Bearer al"], 403),
        ("POST /api/v0/id", &["Authorization: Bearer all"], 200),
        ("POST /api/v0/id", &["Authorization: Basic aWQ6aWQ="], 200),
        ("POST /api/v0/config/show", &["Authorization: Basic aWQ6aWQ="], 403),
        ("POST /api/v0/config/show", &["Authorization: Bearer all"], 200),
    ] {
        assert_eq!(server.status(line, headers).await, expected, "{line} {headers:?}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let server = TestServer::start().await;
    for path in ["/api/v0/nosuch", "/api/v0", "/api/v0/", "/", "/api/v0/version/more", "/ipfs/x"] {
        assert_eq!(server.status(&format!("POST {path}"), &[]).await, 404, "{path}");
    }
}

#[tokio::test]
async fn wrong_arguments_are_the_callers_fault() {
    let server = TestServer::start().await;
    for query in [
        "",
        "?arg=x",
        "?arg=1&fail=perhaps",
        "?arg=1&fail=1&fail=1",
        "?arg=1&timeout=soon",
        "?arg=1&cid-base=b7",
        "?arg=1&encoding=xml",
        "?arg=%ff",
    ] {
        let answer = server.raw(&format!("POST /api/v0/test/count{query}"), &[], "").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{query}: {answer}");
        assert!(answer.contains(r#""Code":1,"Type":"error"}"#), "{query}: {answer}");
    }
    assert_eq!(server.status("POST /api/v0/test/echo", &[]).await, 400);
}

// Source of the headers: Kubo 0.43 as it answers `pin/add?progress=true`.
#[tokio::test]
async fn a_stream_of_json_comes_with_kubos_headers() {
    let server = TestServer::start().await;
    let answer = server.raw("POST /api/v0/test/count?arg=2&unknown=x", &[], "").await;
    for part in [
        "HTTP/1.1 200 OK",
        "content-type: application/json",
        "trailer: X-Stream-Error",
        "x-chunked-output: 1",
        "transfer-encoding: chunked",
        "{\"n\":0}\n",
        "{\"n\":1}\n",
        "\r\n0\r\n\r\n",
    ] {
        assert!(answer.contains(part), "{part:?} in {answer}");
    }
}

#[tokio::test]
async fn a_failure_before_the_first_event_is_a_status_and_a_json_error() {
    let server = TestServer::start().await;
    let answer = server.raw("POST /api/v0/test/count?arg=0&fail=true", &["TE: trailers"], "").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains(r#"{"Message":"it broke\nhere","Code":0,"Type":"error"}"#), "{answer}");
}

#[tokio::test]
async fn a_late_failure_is_a_trailer_for_who_reads_trailers_and_a_cut_for_others() {
    let server = TestServer::start().await;
    let line = "POST /api/v0/test/count?arg=1&f";
    let answer = server.raw(line, &["TE: trailers"], "").await;
    assert!(answer.ends_with("\r\n0\r\nx-stream-error: it broke here\r\n\r\n"), "{answer}");
    let answer = server.raw(line, &[], "").await;
    assert!(answer.contains("{\"n\":0}\n") && !answer.contains("\r\n0\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_work() {
    let server = TestServer::start().await;
    let mut stream = server.send("POST /api/v0/test/count?arg=0&hang=true&watched=true", &[], "").await;
    let mut piece = [0; 1024];
    while !String::from_utf8_lossy(&piece).contains("{\"n\":0}") {
        assert_ne!(stream.read(&mut piece).await.unwrap(), 0);
    }
    assert_eq!(RUNNING.load(Ordering::SeqCst), 1);
    drop(stream);
    let stopped = async {
        while RUNNING.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("the command goes on");
}

#[tokio::test]
async fn a_command_ends_at_its_timeout() {
    let server = TestServer::start().await;
    let options = CallOptions { timeout: Some(Duration::from_millis(20)), ..CallOptions::default() };
    let mut events = server.client().run(Count { to: 0, hang: true, ..Count::default() }, options);
    assert!(events.next().await.unwrap().is_ok());
    let error = events.next().await.unwrap().unwrap_err();
    assert!(error.message.contains("timeout=20ms"), "{error}");
}

#[tokio::test]
async fn the_client_reads_what_the_server_sends() {
    let server = TestServer::start().await;
    let version: Vec<_> = server.client().run(Version, CallOptions::default()).collect().await;
    assert_eq!(version, [Ok(VersionInfo::current())]);

    let count = Count { to: 500, fail: true, ..Count::default() };
    let mut events: Vec<_> = server.client().run(count, CallOptions::default()).collect().await;
    assert_eq!(events.pop(), Some(Err(Error::new("it broke here"))));
    assert!(events.into_iter().map(|event| event.unwrap().n).eq(0..500));

    let count = Count { to: 0, fail: true, ..Count::default() };
    let events: Vec<_> = server.client().run(count, CallOptions::default()).collect().await;
    assert_eq!(events, [Err(Error::new("it broke\nhere"))]);
}

#[tokio::test]
async fn files_travel_both_ways() {
    let server = TestServer::start().await;
    let content = Bytes::from((0..5_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let parts = vec![Part::Stream { path: "f".into() }, Part::Data(content.clone())];
    let files = Files::new(futures::stream::iter([Ok(parts)]));
    let mut events = server.client().run(Echo { refuse: false, files: Some(files) }, CallOptions::default());
    assert_eq!(events.next().await, Some(Ok(Piece::Length(5_000_000))));
    let mut received = Vec::new();
    while let Some(event) = events.next().await {
        let Piece::Bytes(bytes) = event.unwrap() else { panic!("a second length") };
        received.extend_from_slice(&bytes);
    }
    assert!(received == content);
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_still_sends() {
    let server = TestServer::start().await;
    let piece = Bytes::from(vec![7; 1 << 20]);
    let parts = futures::stream::iter((0..32).map(move |n| {
        Ok(if n == 0 { vec![Part::Stream { path: "f".into() }] } else { vec![Part::Data(piece.clone())] })
    }));
    let echo = Echo { refuse: true, files: Some(Files::new(parts)) };
    let events: Vec<_> = server.client().run(echo, CallOptions::default()).collect().await;
    assert_eq!(events, [Err(Error::client("refused"))]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_the_error_that_the_client_tells() {
    let server = TestServer::start().await;
    let parts = futures::stream::iter([
        Ok(vec![Part::Stream { path: "f".into() }]),
        Err(Error::new("cannot read f")),
    ]);
    let echo = Echo { refuse: false, files: Some(Files::new(parts)) };
    let events: Vec<_> = server.client().run(echo, CallOptions::default()).collect().await;
    assert_eq!(events, [Err(Error::new("cannot read f"))]);
}

#[tokio::test]
async fn a_stopping_server_ends_requests_that_hang() {
    let server = TestServer::start().await;
    let mut events =
        server.client().run(Count { to: 1, hang: true, ..Count::default() }, CallOptions::default());
    assert!(events.next().await.unwrap().is_ok());
    server.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(30), events.collect::<Vec<_>>()).await;
    assert!(ended.expect("the request goes on").last().unwrap().is_err());
}
