//! What a user gets for input that cannot be: what happened, to which path or CID, and exit code 1.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;
use std::time::Duration;

use cairn_tests::{Node, Scratch, run};
use serde_json::json;

#[test]
fn a_missing_path_is_named() {
    let node = Node::cairn();
    assert!(node.run(&["add", "/no/such/file"]).error().contains("/no/such/file"));
}

#[test]
fn a_fifo_in_a_tree_is_named_and_nothing_hangs() {
    let scratch = Scratch::new();
    let tree = scratch.site("tree", &[("a", "a")]);
    let fifo = tree.join("pipe");
    run(Command::new("mkfifo").arg(&fifo), Duration::from_secs(10)).text();
    let output = Node::cairn().run(&["add", "-r", tree.to_str().expect("paths of tests are UTF-8")]);
    assert!(output.error().contains("pipe"), "{}", output.stderr);
}

#[test]
fn a_folder_without_the_recursive_flag_is_refused() {
    let scratch = Scratch::new();
    let tree = scratch.site("tree", &[("a", "a")]);
    let output = Node::cairn().run(&["add", tree.to_str().expect("paths of tests are UTF-8")]);
    assert!(output.error().contains("-r"), "the message says what to do: {}", output.stderr);
}

#[test]
fn a_cid_that_is_none_is_named() {
    let node = Node::cairn();
    assert!(node.run(&["cat", "bafynonsense"]).error().contains("bafynonsense"));
}

#[test]
fn without_a_daemon_missing_content_says_to_start_one() {
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let output = Node::cairn().run(&["cat", absent]);
    assert!(output.error().contains(absent), "{}", output.stderr);
    assert!(output.stderr.contains("cairn daemon"), "{}", output.stderr);
}

#[test]
fn get_refuses_a_target_that_exists() {
    let scratch = Scratch::new();
    let node = Node::cairn();
    let cid = node.add(&scratch.random_file("file", 1_000, 70));
    let target = scratch.path("target");
    fs::write(&target, "mine").expect("a file can be written");
    let output = node.run(&["get", "-o", target.to_str().expect("paths of tests are UTF-8"), &cid]);
    assert!(output.error().contains("target"), "{}", output.stderr);
    assert_eq!(fs::read(&target).expect("it is still there"), b"mine");
}

#[test]
fn get_does_not_follow_a_symlink_out_of_its_target() {
    // A directory with a symlink `out`, and another version of it with a folder of that name: got over each other,
    // the file in the folder must not end up where the symlink points.
    let scratch = Scratch::new();
    let node = Node::cairn();
    let outside = scratch.path("outside");
    fs::create_dir(&outside).expect("a folder can be created");
    let linked = scratch.path("linked");
    fs::create_dir(&linked).expect("a folder can be created");
    symlink(&outside, linked.join("out")).expect("a symlink can be made");
    let folder = scratch.site("folder", &[("out/file", "escaped")]);
    let (linked, folder) = (node.add(&linked), node.add(&folder));

    let target = scratch.path("target");
    let target_text = target.to_str().expect("paths of tests are UTF-8");
    node.run(&["get", "-o", target_text, &linked]).text();
    assert!(target.join("out").is_symlink());
    let _ = node.run(&["get", "-o", target_text, &folder]);
    assert!(!outside.join("file").exists());
}

#[test]
fn a_second_daemon_on_the_repo_gets_a_clear_message() {
    let mut node = Node::cairn();
    node.start();
    let output = node.run(&["daemon"]);
    assert!(output.error().contains("runs already"), "{}", output.stderr);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port can be had");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let node = Node::cairn();
    node.set("Addresses.API", json!(format!("/ip4/127.0.0.1/tcp/{port}")));
    let output = node.run(&["daemon"]);
    assert!(output.error().contains(&port), "{}", output.stderr);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let scratch = Scratch::new();
    let file = scratch.random_file("secret", 10, 71);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("permissions can be set");
    if fs::read(&file).is_ok() {
        return; // The superuser reads everything.
    }
    let output = Node::cairn().run(&["add", file.to_str().expect("paths of tests are UTF-8")]);
    assert!(output.error().contains("secret"), "{}", output.stderr);
}

#[test]
fn names_with_control_characters_are_escaped_before_they_are_printed() {
    let scratch = Scratch::new();
    let tree = scratch.site("tree", &[("red\u{1b}[31m", "x")]);
    let node = Node::cairn();
    let cid = node.add(&tree);
    for command in ["ls", "refs"] {
        let printed = node.run(&[command, &cid]).text();
        assert!(!printed.contains('\u{1b}'), "{command}: {printed:?}");
    }
    let output = node.run(&["add", "-r", tree.to_str().expect("paths of tests are UTF-8")]);
    assert!(!output.text().contains('\u{1b}'));
}
