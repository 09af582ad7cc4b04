//! The routing API: who has content, where a peer is, and the record of a name.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Store, get};

const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
// Source: gateway-conformance, TestRedirectCanonicalIPNS.
const PEER: &str = "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK";
const KEY: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";

/// A store whose peers are at these addresses.
fn store(addrs: &[&[&str]]) -> Store {
    let store = Store::default();
    for (number, addrs) in addrs.iter().enumerate() {
        store.peer(&format!("peer-{number}"), addrs);
    }
    store
}

async fn ask(store: &Store, target: &str) -> Answer {
    get(format!("/routing/v1/{target}")).of(&store.gateway()).await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(answer.text()).expect("the answer is JSON")
}

#[tokio::test]
async fn providers_come_as_a_list_or_one_by_one() {
    let store = store(&[&["/ip4/192.0.2.1/tcp/4001"], &[]]);
    let answer = ask(&store, &format!("providers/{CID}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert!(answer.header("cache-control").contains("max-age=300"), "{}", answer.header("cache-control"));
    let first =
        json!({ "Schema": "peer", "ID": "peer-0", "Addrs": ["/ip4/192.0.2.1/tcp/4001"], "Protocols": [] });
    let second = json!({ "Schema": "peer", "ID": "peer-1", "Addrs": [], "Protocols": [] });
    assert_eq!(json_of(&answer), json!({ "Providers": [first, second] }));

    let lines = get(format!("/routing/v1/providers/{CID}"))
        .with("accept", "application/x-ndjson")
        .of(&store.gateway())
        .await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [first, second]);
}

#[tokio::test]
async fn no_results_are_an_empty_list_that_is_kept_briefly() {
    // Source: IPIP-513.
    let store = Store::default();
    for (target, list) in [(format!("providers/{CID}"), "Providers"), (format!("peers/{PEER}"), "Peers")] {
        let answer = ask(&store, &target).await;
        assert_eq!((answer.status.as_u16(), json_of(&answer)), (200, json!({ list: [] })));
        assert!(answer.header("cache-control").contains("max-age=15"), "{}", answer.header("cache-control"));
    }
}

#[tokio::test]
async fn a_list_has_its_limit_behind_the_filter() {
    let mut peers: Vec<&[&str]> = vec![&["/ip4/192.0.2.1/udp/1/quic-v1"]; 10];
    peers.extend([&["/ip4/192.0.2.1/tcp/1"] as &[&str]; 30]);
    let store = store(&peers);
    let count = |answer: &Answer| json_of(answer)["Providers"].as_array().unwrap().len();
    assert_eq!(count(&ask(&store, &format!("providers/{CID}?filter-addrs=tcp")).await), 20);
    assert_eq!(count(&ask(&store, &format!("providers/{CID}?filter-addrs=quic-v1")).await), 10);
    assert_eq!(count(&ask(&store, &format!("providers/{CID}?filter-protocols=transport-bitswap")).await), 0);
}

#[tokio::test]
async fn the_record_of_a_name_comes_as_it_is_and_words_where_there_is_none() {
    let store = Store::default();
    for name in [KEY, PEER] {
        let answer = ask(&store, &format!("ipns/{name}")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, &*format!("record of {KEY}")));
        assert_eq!(answer.header("content-type"), "application/vnd.ipfs.ipns-record");
        assert!(answer.header("cache-control").contains("max-age=90"), "{}", answer.header("cache-control"));
    }
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let store = Store::default();
    for (target, status) in [
        ("providers/x", 400),
        ("peers/x", 400),
        ("ipns/example.com", 400),
        ("dht/closest/peers/x", 404),
        ("", 404),
    ] {
        assert_eq!(ask(&store, target).await.status, status, "{target}");
    }
    let put = get(format!("/routing/v1/ipns/{KEY}")).method(Method::PUT).of(&store.gateway()).await;
    assert_eq!(put.status, 405);
}

#[tokio::test]
async fn strangers_get_no_searches_and_content_keeps_its_paths() {
    let store = store(&[&["/ip4/192.0.2.1/tcp/4001"]]);
    let target = format!("/routing/v1/providers/{CID}");
    assert_eq!(get(&target).host("gateway.example").of(&store.gateway()).await.status, 404);
    let site = store.directory(&[("a", store.raw("x"))]);
    assert_eq!(get(&target).host(format!("{site}.ipfs.localhost")).of(&store.gateway()).await.status, 404);
}
