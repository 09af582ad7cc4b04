//! `repo backup` of a running node, and `repo restore`.

use std::fs;

use cairn_tests::{Node, Scratch, files_equal};

#[test]
fn a_backup_of_a_running_node_has_what_was_acknowledged_and_is_restored_into_an_empty_repo() {
    let scratch = Scratch::new();
    let mut node = Node::cairn();
    node.start();
    let before = scratch.random_file("before", 9_000_000, 1);
    let after = scratch.random_file("after", 3_000_000, 2);
    let root = node.add(&before);
    let backup = scratch.path("backup");
    let backup = backup.to_str().expect("paths of tests are UTF-8");
    let made = node.run(&["repo", "backup", backup]).text();
    assert!(made.contains("10 blocks") && made.contains("1 pins"), "{made}");
    assert!(node.run(&["repo", "backup", backup]).error().contains("exists"));
    let later = node.add(&after);
    node.stop();

    // The same node, in another place.
    let other = Node::cairn();
    assert!(other.run(&["repo", "restore", backup]).error().contains("has a repo already"));
    fs::remove_dir_all(other.repo()).expect("a repo can be removed");
    let restored = other.run(&["repo", "restore", backup]).text();
    assert!(restored.contains("10 blocks") && restored.contains("1 pins"), "{restored}");
    assert!(files_equal(&before, &other.get(&root)));
    assert!(!other.run(&["repo", "ls"]).text().contains(&later), "what came after it is not in it");
    assert_eq!(other.run(&["id", "-f", "<id>"]).text(), node.run(&["id", "-f", "<id>"]).text());
}

#[test]
fn a_backup_with_a_bad_file_is_not_restored() {
    let scratch = Scratch::new();
    let node = Node::cairn();
    node.run(&["pin", "ls"]).text();
    let file = scratch.random_file("file", 3_000_000, 3);
    let _ = node.add(&file);
    let backup = scratch.path("backup");
    node.run(&["repo", "backup", backup.to_str().expect("paths of tests are UTF-8")]).text();
    let names = fs::read_dir(backup.join("store")).expect("a backup has a store");
    let paths = names.map(|entry| entry.expect("a folder can be read").path());
    let blob = paths.filter(|path| path.extension().is_some_and(|extension| extension == "blob")).last();
    let blob = blob.expect("a file of three blocks is in a blob file");
    let mut bytes = fs::read(&blob).expect("a file can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).expect("a file can be written");
    fs::remove_dir_all(node.repo()).expect("a repo can be removed");
    let refused = node.run(&["repo", "restore", backup.to_str().expect("paths of tests are UTF-8")]);
    assert!(refused.error().contains("backup is damaged"), "{}", refused.stderr);
    assert!(!node.repo().exists(), "nothing of it is left");
}
