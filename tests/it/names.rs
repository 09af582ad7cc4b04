//! Names between Cairn and Kubo: what one tells the DHT of the local network the other finds there.

use std::fs;

use cairn_tests::{Node, Scratch, Transport};
use serde_json::{Value, json};

/// Source: IPIP-499, the text `hello world`.
const PATH: &str = "/ipfs/bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

/// A running Cairn and a running Kubo that answer each other's questions; `None` without Kubo.
fn pair() -> Option<(Node, Node)> {
    let (mut cairn, mut kubo) = (Node::cairn(), Node::kubo()?);
    cairn.set("Routing.Type", json!("dhtserver"));
    kubo.set("Routing.Type", json!("dht"));
    kubo.set("Routing.LoopbackAddressesOnLanDHT", json!(true));
    cairn.start();
    kubo.start();
    cairn.connect(&kubo, Transport::Tcp);
    Some((cairn, kubo))
}

#[test]
fn a_name_that_kubo_published_is_resolved_and_its_content_read() {
    let Some((cairn, kubo)) = pair() else { return };
    let name = kubo.run(&["name", "publish", "--allow-offline", "--resolve=false", "-Q", PATH]).text();
    assert_eq!(cairn.run(&["name", "resolve", &name]).text(), PATH);
    let record = cairn.run(&["routing", "get", &format!("/ipns/{name}")]);
    assert!(record.status.success(), "{}", record.stderr);
    let scratch = Scratch::new();
    let file = scratch.path("record");
    fs::write(&file, record.stdout).expect("a file can be written");
    let inspected =
        kubo.run(&["name", "inspect", "--enc=json", "--verify", &name, file.to_str().expect("UTF-8")]).text();
    let inspected: Value = serde_json::from_str(&inspected).expect("inspect prints JSON");
    assert_eq!(inspected["Validation"]["Valid"], json!(true), "{inspected}");
}

#[test]
fn a_record_that_we_put_is_found_by_kubo() {
    let Some((cairn, kubo)) = pair() else { return };
    // Somebody else's name, who is not connected to either.
    let Some(mut author) = Node::kubo() else { return };
    author.set("Routing.Type", json!("dht"));
    author.start();
    let name = author.run(&["name", "publish", "--allow-offline", "--resolve=false", "-Q", PATH]).text();
    let record = author.run(&["name", "get", &name]);
    assert!(record.status.success(), "{}", record.stderr);
    let scratch = Scratch::new();
    let file = scratch.path("record");
    fs::write(&file, record.stdout).expect("a file can be written");

    let key = format!("/ipns/{name}");
    cairn.run(&["routing", "put", &key, file.to_str().expect("paths of tests are UTF-8")]).text();
    assert_eq!(kubo.run(&["name", "resolve", "--nocache", &name]).text(), PATH);
}
