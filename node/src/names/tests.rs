//! Names without a network: what is kept, and how long it holds.

use std::time::UNIX_EPOCH;

use cairn_proto::cid::DAG_CBOR;
use cairn_proto::codec::{self, Value};
use libp2p::identity::Keypair;
use tempfile::TempDir;

use super::*;
use crate::settings::StoreSettings;
use crate::store::{Store, Table};

const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

/// 2030, in seconds since 1970.
const NOW_S: u64 = 1_893_456_000;

struct Bench {
    names: Names,
    store: Store,
    _folder: TempDir,
}

impl Bench {
    fn new(map: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &StoreSettings::default()).unwrap();
        let names = names(&store, map, NOW_S);
        Self { names, store, _folder: folder }
    }

    async fn resolve(&self, path: &str) -> Result<String> {
        let path = ContentPath::parse(path).unwrap();
        self.names.resolve(&path, LookUp::default()).await.map(|target| target.path.to_string())
    }
}

fn names(store: &Store, map: &str, now_s: u64) -> Names {
    let clock: WallClock = Arc::new(move || UNIX_EPOCH + Duration::from_secs(now_s));
    Names::new(
        store.rows(Table::Names),
        Source::Nobody,
        Dns::new(DnsSettings { map: map.parse().unwrap(), resolvers: Vec::new() }, None),
        clock,
        Tasks::new("test"),
    )
}

fn name_of(key: &Keypair) -> Name {
    Name::parse(&key.public().to_peer_id().to_string()).unwrap()
}

/// A record of the second version only, valid to the end of `year`.
pub(crate) fn record(key: &Keypair, value: &str, sequence: i128, year: u32) -> Bytes {
    let bytes = |text: String| Value::Bytes(text.into_bytes());
    let entries = [
        ("Value", bytes(value.to_owned())),
        ("Validity", bytes(format!("{year}-12-31T23:59:59Z"))),
        ("ValidityType", Value::Integer(0)),
        ("Sequence", Value::Integer(sequence)),
        ("TTL", Value::Integer(60_000_000_000)),
    ];
    let entries = entries.map(|(key, value)| (key.to_owned(), value));
    let data = codec::encode(DAG_CBOR, &Value::Map(entries.into())).unwrap();
    let signature = key.sign(&[b"ipns-signature:", data.as_ref()].concat()).unwrap();
    // Fields 8 and 9 of the protobuf form.
    let mut record = Vec::new();
    for (tag, field) in [(0x42, signature.as_slice()), (0x4a, &data)] {
        record.push(tag);
        let mut buffer = unsigned_varint::encode::usize_buffer();
        record.extend_from_slice(unsigned_varint::encode::usize(field.len(), &mut buffer));
        record.extend_from_slice(field);
    }
    record.into()
}

#[tokio::test]
async fn a_name_leads_where_its_record_says_even_after_a_restart() {
    let bench = Bench::new("");
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    let path = format!("/ipfs/{CID}/site");
    assert!(
        !bench.names.put(&name, record(&key, &path, 1, 2031), true).await.unwrap(),
        "nobody is told offline"
    );
    for form in [name.to_string(), name.to_peer_id_text()] {
        assert_eq!(bench.resolve(&format!("/ipns/{form}/a")).await.unwrap(), format!("{path}/a"));
    }
    let again = names(&bench.store, "", NOW_S);
    let target = again
        .resolve(&ContentPath::parse(&format!("/ipns/{name}")).unwrap(), LookUp::default())
        .await
        .unwrap();
    assert_eq!((target.path.to_string(), target.fresh_for), (path, Some(Duration::from_secs(60))));
}

#[tokio::test]
async fn only_a_record_that_is_not_older_is_taken() {
    let bench = Bench::new("");
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    let put = async |value: &str, sequence, year| {
        let record = record(&key, &format!("/ipfs/{CID}/{value}"), sequence, year);
        bench.names.put(&name, record, false).await
    };
    put("b", 2, 2031).await.unwrap();
    assert_eq!(put("a", 1, 2035).await.unwrap_err().kind(), Kind::Invalid);
    put("b", 2, 2031).await.unwrap();
    put("c", 2, 2032).await.unwrap();
    assert_eq!(bench.resolve(&format!("/ipns/{name}")).await.unwrap(), format!("/ipfs/{CID}/c"));
    assert_eq!(put("d", 3, 2029).await.unwrap_err().kind(), Kind::Invalid, "it has expired");
}

#[tokio::test]
async fn a_record_holds_to_its_end_and_no_longer() {
    let bench = Bench::new("");
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    bench.names.put(&name, record(&key, &format!("/ipfs/{CID}"), 1, 2030), false).await.unwrap();
    // The last second of 2030, and the one before it.
    for (now_s, is_valid) in [(1_924_991_998, true), (1_924_991_999, false)] {
        let names = names(&bench.store, "", now_s);
        let found = names.record(&name, LookUp::default()).await;
        assert_eq!(
            found.map(|record| names.fresh_for(&record)).ok(),
            is_valid.then_some(Duration::from_secs(1))
        );
    }
}

#[tokio::test]
async fn names_that_lead_to_names_are_followed_step_by_step() {
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    let bench = Bench::new(&format!(
        "a.example:/ipns/b.example/x,b.example:/ipns/{name},loop.example:/ipns/loop.example"
    ));
    bench.names.put(&name, record(&key, &format!("/ipfs/{CID}/y"), 1, 2031), false).await.unwrap();
    assert_eq!(bench.resolve("/ipns/A.Example./z").await.unwrap(), format!("/ipfs/{CID}/y/x/z"));
    let path = ContentPath::parse("/ipns/a.example/z").unwrap();
    let look_up = LookUp { one_step: true, ..LookUp::default() };
    assert_eq!(bench.names.resolve(&path, look_up).await.unwrap().path.to_string(), "/ipns/b.example/x/z");
    assert_eq!(bench.resolve("/ipns/loop.example").await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn what_leads_nowhere_says_why() {
    let bench = Bench::new("");
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    assert_eq!(bench.resolve(&format!("/ipns/{name}")).await.unwrap_err().kind(), Kind::NotLocal);
    assert_eq!(bench.resolve("/ipns/a.example").await.unwrap_err().kind(), Kind::NotLocal);
    assert_eq!(bench.resolve("/ipns/word").await.unwrap_err().kind(), Kind::Invalid);
    bench.names.put(&name, record(&key, "no path", 1, 2031), false).await.unwrap();
    assert_eq!(bench.resolve(&format!("/ipns/{name}")).await.unwrap_err().kind(), Kind::Corrupt);
    let other = Keypair::generate_ed25519();
    let refused = bench.names.put(&name, record(&other, CID, 2, 2031), false).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Invalid);
}

/// A resolver over HTTPS on this computer that answers every question with one text; and whom to trust for it.
async fn resolver(text: &'static str) -> (DohServer, rustls::ClientConfig) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.signing_key.into())
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/dns-query", listener.local_addr().unwrap());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = hyper_util::rt::TokioIo::new(acceptor.accept(stream).await.unwrap());
            let service = hyper::service::service_fn(|request| answer(request, text));
            let executor = hyper_util::rt::TokioExecutor::new();
            let serving =
                hyper::server::conn::http2::Builder::new(executor).serve_connection(stream, service);
            tokio::spawn(serving);
        }
    });
    (url.parse().unwrap(), client)
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    text: &'static str,
) -> Result<http::Response<http_body_util::Full<Bytes>>, std::convert::Infallible> {
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::rdata::TXT;
    use hickory_resolver::proto::rr::{RData, Record as Row};
    use hickory_resolver::proto::serialize::binary::{BinDecodable as _, BinEncodable as _};
    use http_body_util::BodyExt as _;

    let question = request.into_body().collect().await.unwrap().to_bytes();
    let question = Message::from_bytes(&question).unwrap();
    let mut answer = question.clone().into_response();
    for query in &question.queries {
        let text = RData::TXT(TXT::new(vec![text.to_owned()]));
        answer.add_answer(Row::from_rdata(query.name().clone(), 90, text));
    }
    let body = http_body_util::Full::new(answer.to_bytes().unwrap().into());
    Ok(http::Response::builder().header("content-type", "application/dns-message").body(body).unwrap())
}

#[tokio::test]
async fn names_below_a_domain_are_asked_of_its_own_resolver() {
    let (server, tls) =
        resolver("dnslink=/ipfs/bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").await;
    let settings = DnsSettings { map: NameMap::default(), resolvers: vec![("eth.".to_owned(), server)] };
    let target = Dns::new(settings, Some(tls)).look_up("site.eth", false).await.unwrap();
    assert_eq!(target.path.to_string(), format!("/ipfs/{CID}"));
    assert!(target.fresh_for.is_some_and(|fresh_for| fresh_for <= Duration::from_secs(90)), "{target:?}");
}

#[tokio::test]
async fn a_record_comes_from_a_gateway_where_gateways_stand_in_for_peers() {
    use crate::exchange::http::tests::{Server, body, status};

    let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (name, forged) = (name_of(&key), name_of(&other));
    let record = record(&key, &format!("/ipfs/{CID}"), 1, 2031);
    let server = Server::start(move |request| {
        let path = request.uri().to_string();
        let is_known = [name, forged].iter().any(|name| path == format!("/ipns/{name}?format=ipns-record"));
        if is_known { body(record.clone()) } else { status(404) }
    })
    .await;
    let settings = crate::settings::UpstreamSettings {
        gateways: vec![server.url()],
        roots: None,
        timeout: Duration::from_secs(60),
        agent: "test".to_owned(),
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &StoreSettings::default()).unwrap();
    let names = Names::new(
        store.rows(Table::Names),
        Source::Gateways(Gateways::new(&settings).unwrap()),
        Dns::default(),
        Arc::new(|| UNIX_EPOCH + Duration::from_secs(NOW_S)),
        Tasks::new("test"),
    );
    let found = async |name: &Name| names.record(name, LookUp::default()).await.map(|_| ());
    found(&name).await.unwrap();
    assert_eq!(found(&forged).await.unwrap_err().kind(), Kind::Corrupt);
    let missing = name_of(&Keypair::generate_ed25519());
    assert_eq!(found(&missing).await.unwrap_err().kind(), Kind::NotFound);
}
