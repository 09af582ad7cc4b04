use http::{HeaderName, HeaderValue};

use cairn_proto::cid::Cid;

use super::*;
use crate::policy::{HostPattern, Hosts};

// Source: Kubo, `hello world` as one raw leaf and the empty directory in both versions.
const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
const CID_V0: &str = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";
const CID_V0_AS_V1: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";

fn ask(host: &str, target: &str, extra: &[(&'static str, &'static str)]) -> Result<Wanted, Refusal> {
    ask_with(host, target, extra, &Settings::default())
}

fn ask_with(
    host: &str,
    target: &str,
    extra: &[(&'static str, &'static str)],
    settings: &Settings,
) -> Result<Wanted, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, host.parse().unwrap());
    headers.extend(
        extra.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    let uri = target.parse().unwrap();
    let caller = Caller::of(None, false, &uri, &headers, &[])?;
    read(&Method::GET, &uri, headers, &caller, None, settings)
}

fn content(host: &str, target: &str) -> ContentRequest {
    match ask(host, target, &[]) {
        Ok(Wanted::Content(request)) => *request,
        other => panic!("{host} {target}: {other:?}"),
    }
}

fn location(host: &str, target: &str) -> String {
    match ask(host, target, &[]) {
        Ok(Wanted::Moved(location)) => location,
        other => panic!("{host} {target}: {other:?}"),
    }
}

fn failure(host: &str, target: &str) -> Failure {
    ask(host, target, &[]).unwrap_err().failure
}

#[test]
fn an_address_without_a_name_is_a_path_gateway() {
    let request = content("127.0.0.1:8080", &format!("/ipfs/{CID}/a%20b/c%2541?x=1"));
    assert_eq!(request.path.to_string(), format!("/ipfs/{CID}/a b/c%41"));
    assert_eq!(request.mount, Mount::Path);
    assert_eq!(request.base_url(), format!("/ipfs/{CID}/a%20b/c%2541"));
}

#[test]
fn plus_is_a_plus_and_escapes_are_decoded_once() {
    // Source: gateway-conformance, TestPathGatewayMiscellaneous.
    let request =
        content("127.0.0.1", &format!("/ipfs/{CID}/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt"));
    assert_eq!(request.path.segments(), ["Portugal%2C+España=Peninsula Ibérica.txt"]);
    assert!(request.base_url().ends_with("/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt"));
}

#[test]
fn a_path_on_the_gateways_own_host_moves_to_its_own_origin_with_path_and_query() {
    // Source: gateway-conformance, TestGatewaySubdomains.
    let to = |target: String| location("localhost:8080", &target);
    assert_eq!(to(format!("/ipfs/{CID}/")), format!("http://{CID}.ipfs.localhost:8080/"));
    assert_eq!(to(format!("/ipfs/{CID}")), format!("http://{CID}.ipfs.localhost:8080/"));
    assert_eq!(
        to(format!("/ipfs/{CID_V0}/a%20b/?x=%2F")),
        format!("http://{CID_V0_AS_V1}.ipfs.localhost:8080/a%20b/?x=%2F")
    );
    assert_eq!(
        to(format!("/ipfs/{CID}/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt")),
        format!("http://{CID}.ipfs.localhost:8080/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt")
    );
}

#[test]
fn a_content_host_serves_its_root_and_has_no_namespaces() {
    let request = content(&format!("{CID}.ipfs.localhost:8080"), "/ipfs/file.txt?format=raw");
    assert_eq!(request.path.to_string(), format!("/ipfs/{CID}/ipfs/file.txt"));
    assert_eq!(request.mount, Mount::Host { gateway: "localhost:8080".to_owned() });
    assert_eq!(request.base_url(), "/ipfs/file.txt");
    assert_eq!(request.path_text, format!("/ipfs/{CID}/ipfs/file.txt"));
}

#[test]
fn a_content_host_in_another_base_moves_to_the_canonical_one() {
    let base36 = cid::parse(CID).unwrap().to_string_of_base(multibase::Base::Base36Lower).unwrap();
    assert_eq!(
        location(&format!("{base36}.ipfs.localhost:1"), "/a?b=c"),
        format!("http://{CID}.ipfs.localhost:1/a?b=c")
    );
}

#[test]
fn forwarded_headers_of_strangers_mean_nothing() {
    let forwarded = [("x-forwarded-host", "localhost"), ("x-forwarded-proto", "https")];
    let asked = ask("fake.example", &format!("/ipfs/{CID}"), &forwarded).unwrap();
    assert!(matches!(asked, Wanted::Content(_)), "{asked:?}");
    let asked = ask("localhost", &format!("/ipfs/{CID}/"), &forwarded).unwrap();
    assert!(matches!(asked, Wanted::Moved(location) if location.starts_with("http://")));
}

#[test]
fn what_is_no_content_path_is_refused_with_the_path_in_its_own_case() {
    let refusal = ask("localhost", "/ipfs/QmInvalidCID", &[]).unwrap_err();
    assert!(refusal.message.contains("invalid path \"/ipfs/QmInvalidCID\""), "{refusal:?}");
    for (target, expected) in [
        ("/ipfs/", Failure::Invalid),
        ("/ipfs/x", Failure::Invalid),
        ("/api/v0/id", Failure::NoSuchUrl),
        (&format!("/ipfs/{CID}/%ff"), Failure::Invalid),
        (&format!("/ipfs/{CID}/a/../b"), Failure::Invalid),
        (&format!("/ipfs/{CID}/%2e%2e"), Failure::Invalid),
        (&format!("/ipfs/{CID}/%00"), Failure::Invalid),
        (&format!("/ipfs/{CID}?format=nonsense"), Failure::Invalid),
        (&format!("/ipfs/{CID}{}", "/a".repeat(300)), Failure::TooLong),
    ] {
        assert_eq!(failure("127.0.0.1", target), expected, "{target}");
    }
}

#[test]
fn only_reading_is_allowed() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::CONNECT, Method::TRACE] {
        let (uri, headers) = (Uri::from_static("/"), HeaderMap::new());
        let caller = Caller::of(None, false, &uri, &headers, &[]).unwrap();
        let asked = read(&method, &uri, headers, &caller, None, &Settings::default());
        assert_eq!(asked.unwrap_err().failure, Failure::Method, "{method}");
    }
}

#[test]
fn a_reference_in_any_form_leads_to_its_content_path() {
    let to = |reference: &str| {
        let escaped = utf8_percent_encode(reference, NON_ALPHANUMERIC).to_string();
        location("127.0.0.1", &format!("/ipfs/?uri={escaped}"))
    };
    // The first is gateway-conformance's; the others are what people paste.
    assert_eq!(
        to(&format!("ipfs://{CID_V0}/wiki/Diego_Maradona.html")),
        format!("/ipfs/{CID_V0}/wiki/Diego_Maradona.html")
    );
    assert_eq!(to(&format!(" {CID} ")), format!("/ipfs/{CID}"));
    assert_eq!(to(&format!("/ipfs/{CID}/a b/?x=1")), format!("/ipfs/{CID}/a%20b/?x=1"));
    assert_eq!(to(&format!("https://dweb.link/ipfs/{CID}/a%20b")), format!("/ipfs/{CID}/a%20b"));
    assert_eq!(to(&format!("https://{CID}.ipfs.dweb.link/x/")), format!("/ipfs/{CID}/x/"));
    assert_eq!(to("ipns://docs.ipfs.tech/a"), "/ipns/docs.ipfs.tech/a");
    assert_eq!(failure("127.0.0.1", "/ipfs/?uri=hello"), Failure::Invalid);
    assert_eq!(failure("127.0.0.1", "/ipfs/?uri=https%3A%2F%2Fexample.com%2F"), Failure::Invalid);
}

#[test]
fn a_doubled_namespace_moves_to_what_was_meant() {
    assert_eq!(location("127.0.0.1", &format!("/ipfs/ipfs/{CID}/a")), format!("/ipfs/{CID}/a"));
    assert_eq!(location("127.0.0.1", &format!("/ipns/ipfs/{CID}")), format!("/ipfs/{CID}"));
    assert_eq!(location("127.0.0.1", "/ipfs/ipns/example.com"), "/ipns/example.com");
}

#[test]
fn a_worker_may_not_control_all_content_of_a_host() {
    let worker = [("service-worker", "script")];
    let asked = |host: &str, target: &str| ask(host, target, &worker).map(|_| ());
    assert_eq!(asked("127.0.0.1", &format!("/ipfs/{CID}")).unwrap_err().failure, Failure::Invalid);
    assert_eq!(asked("127.0.0.1", &format!("/ipfs/{CID}/sw.js")), Ok(()));
    assert_eq!(asked(&format!("{CID}.ipfs.localhost"), "/"), Ok(()));
}

#[test]
fn strangers_get_what_is_in_the_store_unless_the_settings_say_otherwise() {
    let local_only = |client: &str, host: &'static str, fetch| {
        let policy = Policy { fetch, ..Policy::default() };
        let settings = Settings { hosts: Hosts { named: Vec::new(), others: policy }, ..Settings::default() };
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        let uri = format!("/ipfs/{CID}").parse().unwrap();
        let caller = Caller::of(client.parse().ok(), false, &uri, &headers, &[]).unwrap();
        match read(&Method::GET, &uri, headers, &caller, None, &settings) {
            Ok(Wanted::Content(request)) => request.local_only,
            other => panic!("{other:?}"),
        }
    };
    for near in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "172.17.0.1", "fd00::1", "fe80::1", ""] {
        assert!(!local_only(near, "127.0.0.1:8080", Fetch::Loopback), "{near}");
        assert!(!local_only(near, "localhost", Fetch::Loopback), "{near}");
        assert!(local_only(near, "gateway.example", Fetch::Loopback), "{near}");
    }
    for stranger in ["192.0.2.1", "2001:db8::1"] {
        assert!(local_only(stranger, "localhost", Fetch::Loopback), "anybody can claim that host");
        assert!(!local_only(stranger, "gateway.example", Fetch::Always));
    }
    assert!(local_only("127.0.0.1", "127.0.0.1", Fetch::Never));
}

#[test]
fn a_host_serves_the_namespaces_that_it_is_for() {
    let named = |policy| {
        let hosts = Hosts { named: vec![(HostPattern::new("a.example"), policy)], others: Policy::default() };
        Settings { hosts, ..Settings::default() }
    };
    let asked = |host: &str, settings: &Settings| ask_with(host, &format!("/ipfs/{CID}"), &[], settings);
    let without = named(Policy { ipfs: false, ..Policy::default() });
    assert_eq!(asked("a.example", &without).unwrap_err().failure, Failure::NoSuchUrl);
    assert!(asked("b.example", &without).is_ok());
    let without = named(Policy { ipfs: false, subdomains: true, ..Policy::default() });
    assert_eq!(asked("a.example", &without).unwrap_err().failure, Failure::NoSuchUrl);
    assert_eq!(asked(&format!("{CID}.ipfs.a.example"), &without).unwrap_err().failure, Failure::NoSuchUrl);
}

#[test]
fn a_trustless_host_serves_only_what_can_be_verified() {
    let policy = Policy { deserialized: false, ..Policy::default() };
    let settings = Settings { hosts: Hosts { named: Vec::new(), others: policy }, ..Settings::default() };
    let asked = |query: &str, accept: &'static str| {
        let target = format!("/ipfs/{CID}{query}");
        ask_with("a.example", &target, &[("accept", accept)], &settings).map(|_| ())
    };
    for (query, accept) in [
        ("?format=raw", ""),
        ("?format=car", ""),
        ("", "application/vnd.ipld.raw"),
        ("", "application/vnd.ipld.car"),
    ] {
        assert_eq!(asked(query, accept), Ok(()), "{query} {accept}");
    }
    for (query, accept) in [("", ""), ("?format=tar", ""), ("?format=json", ""), ("", "text/html")] {
        assert_eq!(asked(query, accept).unwrap_err().failure, Failure::NotAcceptable, "{query} {accept}");
    }
}

#[test]
fn the_location_of_a_format_names_it_before_the_rest_of_the_query() {
    let request = content("127.0.0.1", &format!("/ipfs/{CID}/a?filename=b"));
    assert_eq!(request.url_with_format(Format::Raw), format!("/ipfs/{CID}/a?format=raw&filename=b"));
    let request = content(&format!("{CID}.ipfs.localhost"), "/");
    assert_eq!(request.url_with_format(Format::Car), "/?format=car");
}

// Source: gateway-conformance, TestRedirectCanonicalIPNS: one key in both forms.
const PEER: &str = "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK";
const KEY: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";

#[test]
fn a_key_has_one_path_and_one_host() {
    let target = format!("/ipns/{PEER}/root2/?x=1");
    match ask("127.0.0.1", &target, &[]) {
        Ok(Wanted::Found(location)) => assert_eq!(location, format!("/ipns/{KEY}/root2/?x=1")),
        other => panic!("{other:?}"),
    }
    assert_eq!(location("localhost:1", &target), format!("http://{KEY}.ipns.localhost:1/root2/?x=1"));
    let old = Cid::new_v1(cid::DAG_PB, *Name::parse(KEY).unwrap().multihash());
    let old = host::label(&old).unwrap();
    assert_eq!(
        location(&format!("{old}.ipns.localhost:1"), "/a"),
        format!("http://{KEY}.ipns.localhost:1/a")
    );
    let request = content(&format!("{KEY}.ipns.localhost"), "/a");
    assert_eq!((request.path.to_string(), request.other_name), (format!("/ipns/{KEY}/a"), None));
}

#[test]
fn a_domain_is_inlined_on_its_way_to_a_host_and_read_back_there() {
    let inlined = "en-wikipedia--on--ipfs-org";
    let moved = location("localhost", "/ipns/en.wikipedia-on-ipfs.org/wiki/");
    assert_eq!(moved, format!("http://{inlined}.ipns.localhost/wiki/"));
    let request = content(&format!("{inlined}.ipns.localhost"), "/wiki/");
    assert_eq!(request.path.to_string(), "/ipns/en.wikipedia-on-ipfs.org/wiki");
    assert_eq!(request.other_name.as_deref(), Some(inlined));
    assert_eq!(request.path_text, format!("/ipns/{inlined}/wiki/"));
    let request = content("en.wikipedia-on-ipfs.org.ipns.localhost", "/wiki/");
    assert_eq!(
        (request.path.to_string(), request.other_name),
        ("/ipns/en.wikipedia-on-ipfs.org/wiki".into(), None)
    );
}

#[test]
fn only_a_host_that_is_no_gateway_may_be_a_site_by_itself() {
    let possible = |host: &str, method: Method| {
        let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        let caller = Caller::of(None, false, &Uri::from_static("/"), &headers, &[]).unwrap();
        possible_site(&method, &caller, &Settings::default()).map(str::to_owned)
    };
    assert_eq!(possible("docs.example.org:8080", Method::GET).as_deref(), Some("docs.example.org"));
    assert_eq!(possible("docs.example.org", Method::OPTIONS), None);
    for host in ["localhost", "127.0.0.1", &format!("{CID}.ipfs.localhost"), "a-b.ipns.localhost"] {
        assert_eq!(possible(host, Method::GET), None, "{host}");
    }
}
