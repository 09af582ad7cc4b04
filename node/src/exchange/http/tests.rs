//! The client against servers of this computer, honest and otherwise.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_proto::cid::{HashFunction, RAW};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Longer than any answer takes; who waits for that long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Answer = Response<Full<Bytes>>;

/// A server that answers every request alike, and how often it did.
pub(crate) struct Server {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(answer, None).await
    }

    async fn listen(
        answer: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, requests) = (Arc::new(answer), Arc::<AtomicUsize>::default());
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, counter, tls) = (Arc::clone(&answer), Arc::clone(&counter), tls.clone());
                let service = service_fn(move |request| {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let response = answer(&request);
                    async { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(stream, service).await };
                    // A client that does not trust us ends the handshake.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, service).await;
                    }
                });
            }
        });
        Self { port, requests }
    }

    /// One that speaks HTTP/2 over TLS, and the certificate to trust for that.
    pub(crate) async fn over_tls(
        answer: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static,
    ) -> (Self, String) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], key.signing_key.into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        (Self::listen(answer, Some(Arc::new(config).into())).await, key.cert.pem())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> GatewayUrl {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) fn request_count(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve<S>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S)
where
    S: hyper::service::Service<Request<Incoming>, Response = Answer, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    let server = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is the client's matter.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

fn options(addresses: Addresses) -> ClientOptions {
    ClientOptions { addresses, timeout: PATIENCE, roots: None, agent: "test".to_owned() }
}

fn client() -> Client {
    Client::new(options(Addresses::Any)).unwrap()
}

pub(crate) fn body(content: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(content.into()))
}

pub(crate) fn status(status: u16) -> Answer {
    Response::builder().status(status).body(Full::default()).unwrap()
}

pub(crate) fn cid_of(content: &[u8]) -> Cid {
    Cid::new_v1(RAW, HashFunction::Sha2_256.multihash(content))
}

#[tokio::test]
async fn a_block_is_asked_for_as_the_specification_says_and_taken_if_it_hashes_to_its_cid() {
    let cid = cid_of(b"hello");
    let server = Server::start(move |request| {
        let is_right = request.uri().to_string() == format!("/sub/ipfs/{cid}?format=raw")
            && request.headers()[header::ACCEPT] == "application/vnd.ipld.raw"
            && request.headers()[header::USER_AGENT] == "test";
        if is_right { body("hello") } else { status(400) }
    })
    .await;
    let gateway = format!("{}/sub/", server.url()).parse().unwrap();
    let block = client().block(&gateway, &cid).await.unwrap();
    assert_eq!((block.cid(), block.data().as_ref()), (&cid, b"hello".as_slice()));
}

#[tokio::test]
async fn bytes_that_are_not_the_block_are_refused() {
    let server = Server::start(|_| body("hellO")).await;
    let refused = client().block(&server.url(), &cid_of(b"hello")).await;
    assert!(matches!(refused, Err(FetchError::Corrupt)), "{refused:?}");
}

#[tokio::test]
async fn a_block_of_the_largest_length_is_taken_and_one_byte_more_is_not() {
    let content = Bytes::from(vec![7; MAX_BLOCK_BYTES + 1]);
    for (len_bytes, fits) in [(MAX_BLOCK_BYTES, true), (MAX_BLOCK_BYTES + 1, false)] {
        let content = content.slice(..len_bytes);
        let cid = cid_of(&content);
        let server = Server::start(move |_| body(content.clone())).await;
        let result = client().block(&server.url(), &cid).await;
        assert_eq!(result.is_ok(), fits, "{len_bytes}");
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let target = Server::start(|_| body("hello")).await;
    let location = target.url().to_string();
    let server = Server::start(move |_| {
        Response::builder().status(302).header(header::LOCATION, &location).body(Full::default()).unwrap()
    })
    .await;
    let refused = client().block(&server.url(), &cid_of(b"hello")).await;
    assert!(matches!(refused, Err(FetchError::Failed(_))), "{refused:?}");
    assert_eq!((server.request_count(), target.request_count()), (1, 0));
}

#[tokio::test]
async fn hosts_that_strangers_name_are_asked_at_public_addresses_only() {
    let server = Server::start(|_| body("hello")).await;
    let client = Client::new(options(Addresses::Public)).unwrap();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"] {
        let gateway = format!("http://{host}:{}", server.port).parse().unwrap();
        let refused = client.block(&gateway, &cid_of(b"hello")).await;
        assert!(matches!(refused, Err(FetchError::Refused)), "{host}: {refused:?}");
    }
    assert_eq!(server.request_count(), 0);
}

#[tokio::test]
async fn a_status_says_whether_to_ask_again() {
    let ask = async |code: u16| {
        let server = Server::start(move |_| status(code)).await;
        client().block(&server.url(), &cid_of(b"hello")).await.unwrap_err()
    };
    for code in [404, 410, 412, 451, 504] {
        assert!(matches!(ask(code).await, FetchError::Missing(status) if status == code), "{code}");
    }
    for code in [429, 503] {
        assert!(matches!(ask(code).await, FetchError::Busy { retry_after: None, .. }), "{code}");
    }
    for code in [206, 400, 403, 500] {
        assert!(matches!(ask(code).await, FetchError::Failed(_)), "{code}");
    }
    let server = Server::start(|_| {
        let busy = Response::builder().status(429).header(header::RETRY_AFTER, "17");
        busy.body(Full::default()).unwrap()
    })
    .await;
    let busy = client().block(&server.url(), &cid_of(b"hello")).await.unwrap_err();
    let wait = Duration::from_secs(17);
    assert!(matches!(busy, FetchError::Busy { retry_after: Some(after), .. } if after == wait), "{busy:?}");
}

#[tokio::test]
async fn a_gateway_that_stays_silent_is_given_up() {
    // Connections are accepted by the kernel, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let timeout = Duration::from_millis(50);
    let client = Client::new(ClientOptions { timeout, ..options(Addresses::Any) }).unwrap();
    let refused = client.block(&gateway, &cid_of(b"hello")).await;
    assert!(matches!(refused, Err(FetchError::Timeout(after)) if after == timeout), "{refused:?}");
}

#[tokio::test]
async fn only_the_roots_that_were_given_are_trusted() {
    let answer = |request: &Request<Incoming>| {
        if request.version() == http::Version::HTTP_2 { body("hello") } else { status(400) }
    };
    let (server, certificate) = Server::over_tls(answer).await;
    let gateway = format!("https://127.0.0.1:{}", server.port).parse().unwrap();
    let cid = cid_of(b"hello");

    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, certificate).unwrap();
    let trusting = ClientOptions { roots: Some(roots), ..options(Addresses::Any) };
    Client::new(trusting).unwrap().block(&gateway, &cid).await.unwrap();
    let refused = client().block(&gateway, &cid).await;
    assert!(matches!(refused, Err(FetchError::Failed(_))), "{refused:?}");

    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let unusable = Client::new(ClientOptions { roots: Some(empty), ..options(Addresses::Any) });
    assert_eq!(unusable.unwrap_err().kind(), crate::Kind::Invalid);
}

#[test]
fn a_gateway_is_named_by_a_url_without_a_question() {
    let url: GatewayUrl = "https://GW.example:444/a/".parse().unwrap();
    assert_eq!((url.to_string().as_str(), url.host()), ("https://GW.example:444/a", "gw.example"));
    let url: GatewayUrl = "http://[2001:db8::1]".parse().unwrap();
    assert_eq!((url.to_string().as_str(), url.host()), ("http://[2001:db8::1]", "2001:db8::1"));
    for text in ["", "gw.example", "/a", "ftp://gw.example", "https://", "https://a:b@c", "https://a/?x=1"] {
        assert!(text.parse::<GatewayUrl>().is_err(), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_slow_as_long_as_something_comes_and_not_without_end() {
    let patience = Duration::from_secs(30);
    // The clock of the test goes on by itself while everybody waits.
    let pieces = |count: usize, wait: Duration| {
        stream::unfold(0, move |sent| async move {
            tokio::time::sleep(wait).await;
            (sent < count).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"piece")), sent + 1))
        })
    };
    let almost = patience - Duration::from_millis(1);
    let mut came = Vec::new();
    let whole = gather(pieces(10, almost), patience, 100, |len_bytes| came.push(len_bytes)).await;
    assert_eq!((whole.unwrap().len(), came), (50, vec![5; 10]));
    let stalled = gather(pieces(1, patience * 2), patience, 100, |_| ()).await;
    assert!(matches!(stalled, Err(FetchError::Timeout(_))), "{stalled:?}");
    let endless = gather(pieces(usize::MAX, almost), patience, 1000, |_| ()).await;
    assert!(matches!(endless, Err(FetchError::Timeout(_))), "{endless:?}");
    let long = gather(pieces(usize::MAX, Duration::ZERO), patience, 100, |_| ()).await;
    assert!(matches!(long, Err(FetchError::Failed(_))), "{long:?}");
}
