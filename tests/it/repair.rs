//! `repo verify` and `repo salvage`, as a user sees them.

use std::fs;
use std::path::PathBuf;

use cairn_tests::{Node, Scratch, Transport, files_equal};

/// Adds a file, stops, and flips a bit of it in the store. Returns the root.
fn rotten(node: &mut Node, scratch: &Scratch) -> (PathBuf, String) {
    let file = scratch.random_file("file", 3_000_000, 77);
    let root = node.add(&file);
    // What a command leaves in the log is in tables after the next one.
    node.run(&["pin", "ls"]).text();
    let bytes = fs::read(&file).expect("a file can be read");
    let needle = &bytes[1_500_000..1_500_040];
    let store = fs::read_dir(node.repo().join("store")).expect("a store has a folder");
    for path in store.map(|entry| entry.expect("a folder can be read").path()) {
        let mut stored = fs::read(&path).unwrap_or_default();
        let place = stored.windows(needle.len()).position(|part| part == needle);
        if let Some(at) = place {
            stored[at] ^= 1;
            fs::write(&path, stored).expect("a file can be written");
            return (file, root);
        }
    }
    panic!("the file is not in the store");
}

#[test]
fn a_rotten_block_is_named_by_verify_and_comes_back_from_a_peer() {
    let scratch = Scratch::new();
    let (mut node, mut peer) = (Node::cairn(), Node::cairn());
    let (file, root) = rotten(&mut node, &scratch);
    let verify = node.run(&["repo", "verify"]);
    assert!(verify.error().contains("1 of 4 blocks are damaged and missing"), "{}", verify.stderr);
    assert!(String::from_utf8_lossy(&verify.stdout).contains(" was corrupt, set aside"));
    assert!(node.run(&["repo", "verify", "--heal"]).error().contains("cairn daemon"));
    assert_eq!(peer.add(&file), root);
    peer.start();
    node.start();
    node.connect(&peer, Transport::Tcp);
    let healed = node.run(&["repo", "verify", "--heal"]).text();
    assert!(healed.contains(" was corrupt, healed"), "{healed}");
    node.stop();
    assert_eq!(node.run(&["repo", "verify"]).text(), "verify complete, all blocks validated.");
    assert!(files_equal(&file, &node.get(&root)));
}

#[test]
fn a_store_that_is_refused_is_salvaged_but_not_under_a_daemon() {
    let scratch = Scratch::new();
    let mut node = Node::cairn();
    let file = scratch.random_file("file", 3_000_000, 78);
    let root = node.add(&file);
    node.start();
    assert!(node.run(&["repo", "salvage"]).error().contains("cairn shutdown"));
    node.stop();
    fs::write(node.repo().join("store/CURRENT"), "MANIFEST-999999\n").expect("a file can be written");
    assert!(node.run(&["cat", &root]).error().contains("repo salvage"));
    let report = node.run(&["repo", "salvage"]).text();
    assert!(report.starts_with("salvaged 4 blocks") && report.contains("and 1 pins"), "{report}");
    assert!(files_equal(&file, &node.get(&root)));
    assert_eq!(node.run(&["repo", "ls"]).text().lines().count(), 4);
}

#[test]
fn pinning_again_fetches_what_was_damaged_of_a_pinned_dag() {
    let scratch = Scratch::new();
    let (mut source, mut node) = (Node::cairn(), Node::cairn());
    let (file, root) = rotten(&mut node, &scratch);
    assert_eq!(source.add(&file), root);
    // What is damaged is found and set aside.
    node.run(&["repo", "verify", "--drop"]).text();
    source.start();
    node.start();
    node.connect(&source, Transport::Tcp);
    node.run(&["pin", "add", &root]).text();
    source.stop();
    node.stop();
    assert!(files_equal(&file, &node.get(&root)));
}
