//! What an operator forbids, in a running node.

use std::fs;

use cairn_tests::{Curl, Node, Scratch, Transport, until};

#[test]
fn a_rule_written_while_the_node_runs_holds_for_gateway_commands_and_peers_until_it_is_removed() {
    let scratch = Scratch::new();
    let (mut author, mut reader) = (Node::cairn(), Node::cairn());
    let file = scratch.random_file("file", 3_000_000, 70);
    let cid = author.add(&file);
    author.start();
    reader.start();
    reader.connect(&author, Transport::Tcp);
    let url = format!("http://127.0.0.1:{}/ipfs/{cid}", author.port("Gateway server"));
    assert_eq!(Curl::get(&url).status(), 200);

    let list = author.repo().join("denylists/own.deny");
    fs::create_dir(list.parent().expect("a file is in a folder")).expect("a folder can be made");
    fs::write(&list, format!("name: my list\n---\n/ipfs/{cid}\n")).expect("a file can be written");
    until("the gateway obeys", || Curl::get(&url).status() == 410);
    let page = String::from_utf8(Curl::get(&url).body(410)).expect("a refusal is text");
    assert!(page.contains("my list"), "{page}");
    let blocked = author.run(&["cat", &cid]);
    assert!(!blocked.status.success() && blocked.stderr.contains("blocked"), "{}", blocked.stderr);
    let refused = reader.run(&["--timeout", "3s", "cat", &cid]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{}", refused.stderr);

    fs::remove_file(&list).expect("a file can be removed");
    until("the gateway serves it again", || Curl::get(&url).status() == 200);
    let got = reader.get(&cid);
    assert!(cairn_tests::files_equal(&file, &got));
}
