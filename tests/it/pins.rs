//! `pin update` and `pin verify` say and do what Kubo's do; pins of the background come through.

use cairn_tests::{Node, Profile, Scratch, Transport, Tree, until};

#[test]
fn updating_and_verifying_pins_is_as_in_kubo() {
    let scratch = Scratch::new();
    let [old, new] = [1, 2].map(|seed| scratch.random_file(&format!("file-{seed}"), 600_000, seed));
    for node in [Some(Node::cairn()), Node::kubo()].into_iter().flatten() {
        node.apply(Profile::V1);
        let add = |path: &std::path::Path, option: &str| {
            let path = path.to_str().expect("paths of tests are UTF-8");
            node.run(&["add", "-Q", "--progress=false", option, path]).text()
        };
        let (from, to) = (add(&old, "--pin-name=backup"), add(&new, "--pin=false"));
        assert_eq!(node.run(&["pin", "update", &from, &to]).text(), format!("updated {from} to {to}"));
        let listed = node.run(&["pin", "ls", "--names", "--type=recursive"]).text();
        assert!(listed.contains(&format!("{to} recursive backup")), "{listed}");
        assert!(!listed.contains(&from), "{listed}");
        assert!(node.run(&["pin", "update", &from, &to]).error().contains("recursively"));
        let both = node.run(&["pin", "update", "--unpin=false", "--enc=json", &to, &from]).text();
        assert_eq!(both, format!(r#"{{"Pins":["{to}","{from}"]}}"#));
        let verified = node.run(&["pin", "verify", "--verbose"]).text();
        assert!([&from, &to].iter().all(|cid| verified.contains(&format!("{cid} ok"))), "{verified}");
        assert_eq!(node.run(&["pin", "verify"]).text(), "");
    }
}

/// Nobody has it.
const ABSENT: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

#[test]
fn a_pin_of_the_background_survives_a_kill_and_comes_through_once_a_peer_has_it() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree", Tree { file_count: 50, max_file_bytes: 5_000, nested: true, seed: 3 });
    let (mut source, mut node) = (Node::cairn(), Node::cairn());
    let cid = source.add(&tree);
    let queued = |node: &Node| node.run(&["pin", "ls", "--status"]).text();

    // Without a daemon it waits for one.
    let answer = node.run(&["pin", "add", "--background", "--name=site", &cid]).text();
    assert_eq!(answer, format!("queued {cid} recursively"));
    assert_eq!(queued(&node), format!("{cid} recursive queued, site"));
    node.start();
    until("a pin under way", || queued(&node).contains("pinning"));
    node.kill();
    node.start();
    assert!(queued(&node).starts_with(&cid));

    source.start();
    node.connect(&source, Transport::Tcp);
    until("the end of the queue", || queued(&node).is_empty());
    let pins = node.run(&["pin", "ls", "--type=recursive", "--names"]).text();
    assert_eq!(pins, format!("{cid} recursive site"));
    source.stop();
    node.stop();
    assert!(cairn_tests::trees_equal(&tree, &node.get(&cid)));
}

#[test]
fn a_pin_of_the_background_is_given_up_by_rm_and_says_when_it_cannot_be() {
    let scratch = Scratch::new();
    let folder = scratch.site("folder", &[("a", "a")]);
    let mut node = Node::cairn();
    let cid = node.add(&folder);
    node.start();
    let queued = |node: &Node| node.run(&["pin", "ls", "--status"]).text();
    node.run(&["pin", "add", "--background", ABSENT]).text();
    assert_eq!(node.run(&["pin", "rm", ABSENT]).text(), format!("unpinned {ABSENT}"));
    assert_eq!(queued(&node), "");
    assert!(node.run(&["pin", "rm", ABSENT]).error().contains("not pinned"));

    let path = format!("/ipfs/{cid}/none");
    node.run(&["pin", "add", "--background", &path]).text();
    until("a pin that failed", || queued(&node).contains("failed"));
    let told = queued(&node);
    assert!(told.starts_with(&format!("{path} recursive failed, 1 failures, the last: ")), "{told}");
    assert!(told.contains("none"), "{told}");
    assert_eq!(node.run(&["pin", "rm", &path]).text(), format!("unpinned {path}"));
    assert_eq!(queued(&node), "");
}
