//! Real Kubo, both ways.

use std::path::{Path, PathBuf};

use cairn_tests::{Node, Profile, Scratch, Transport, Tree, big_file_bytes, files_equal, trees_equal};

/// A running Cairn and a running Kubo that are connected; `None` without Kubo.
fn pair(transport: Transport) -> Option<(Node, Node)> {
    let (mut cairn, mut kubo) = (Node::cairn(), Node::kubo()?);
    cairn.start();
    kubo.start();
    cairn.connect(&kubo, transport);
    Some((cairn, kubo))
}

fn big_file(scratch: &Scratch, seed: u64) -> PathBuf {
    scratch.random_file("big", big_file_bytes(), seed)
}

fn flat_directory(scratch: &Scratch, seed: u64) -> PathBuf {
    scratch.tree("flat", Tree { file_count: 10_000, max_file_bytes: 300, nested: false, seed })
}

/// Adds `path` to `from` with both profiles and gets it on `to`.
fn transfer(from: &Node, to: &Node, path: &Path) {
    for profile in Profile::ALL {
        from.apply(profile);
        let cid = from.add(path);
        // Kubo's `get` of a directory asks for one file after the other; its `pin add` walks ahead.
        to.run(&["pin", "add", &cid]).text();
        let got = to.get(&cid);
        let same = if path.is_dir() { trees_equal(path, &got) } else { files_equal(path, &got) };
        assert!(same, "{profile:?} {}", path.display());
    }
}

#[test]
fn kubo_gets_a_big_file_from_us_over_tcp() {
    let Some((cairn, kubo)) = pair(Transport::Tcp) else { return };
    transfer(&cairn, &kubo, &big_file(&Scratch::new(), 10));
}

#[test]
fn kubo_gets_a_big_file_from_us_over_quic() {
    let Some((cairn, kubo)) = pair(Transport::Quic) else { return };
    transfer(&cairn, &kubo, &big_file(&Scratch::new(), 11));
}

#[test]
fn we_get_a_big_file_from_kubo_over_tcp() {
    let Some((cairn, kubo)) = pair(Transport::Tcp) else { return };
    transfer(&kubo, &cairn, &big_file(&Scratch::new(), 12));
}

#[test]
fn we_get_a_big_file_from_kubo_over_quic() {
    let Some((cairn, kubo)) = pair(Transport::Quic) else { return };
    transfer(&kubo, &cairn, &big_file(&Scratch::new(), 13));
}

#[test]
fn kubo_gets_ten_thousand_entries_from_us() {
    let Some((cairn, kubo)) = pair(Transport::Tcp) else { return };
    transfer(&cairn, &kubo, &flat_directory(&Scratch::new(), 14));
}

#[test]
fn we_get_ten_thousand_entries_from_kubo() {
    let Some((cairn, kubo)) = pair(Transport::Tcp) else { return };
    transfer(&kubo, &cairn, &flat_directory(&Scratch::new(), 15));
}

/// Kubo does not send the empty raw block, so whoever asks for it waits forever. Its content needs no peer.
#[test]
fn we_get_an_empty_file_from_kubo() {
    let Some((cairn, kubo)) = pair(Transport::Tcp) else { return };
    let scratch = Scratch::new();
    let folder = scratch.site("folder", &[("empty", ""), ("full", "full")]);
    for profile in Profile::ALL {
        kubo.apply(profile);
        let got = cairn.get(&kubo.add(&folder));
        assert!(trees_equal(&folder, &got), "{profile:?}");
    }
}

#[test]
fn kubo_connects_to_us_over_both_transports() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let Some(mut kubo) = Node::kubo() else { return };
        let mut cairn = Node::cairn();
        cairn.start();
        kubo.start();
        kubo.connect(&cairn, transport);
        assert!(kubo.run(&["swarm", "peers"]).text().contains("127.0.0.1"), "{transport:?}");
    }
}

#[test]
fn the_same_tree_has_the_same_cid_in_both() {
    let Some(kubo) = Node::kubo() else { return };
    let cairn = Node::cairn();
    let scratch = Scratch::new();
    let content = [
        scratch.tree("nested", Tree { file_count: 300, max_file_bytes: 9_000, nested: true, seed: 16 }),
        flat_directory(&scratch, 17),
        scratch.random_file("empty", 0, 0),
        // One leaf, one leaf and a byte, and a second level of interior nodes, for either profile.
        scratch.random_file("chunk", 262_144, 18),
        scratch.random_file("chunk-and-one", 1_048_577, 19),
        scratch.random_file("levels", 174 * 262_144 + 1, 20),
    ];
    for profile in Profile::ALL {
        kubo.apply(profile);
        cairn.apply(profile);
        for path in &content {
            assert_eq!(cairn.add(path), kubo.add(path), "{profile:?} {}", path.display());
        }
    }
}

#[test]
fn add_flags_give_the_same_cids_in_both() {
    let Some(kubo) = Node::kubo() else { return };
    let cairn = Node::cairn();
    let scratch = Scratch::new();
    let file = scratch.random_file("file", 700_000, 21);
    let file = file.to_str().expect("paths of tests are UTF-8");
    for flags in [
        // With raw leaves configured, Kubo keeps them in version 0 and we do not.
        &["--cid-version=0", "--raw-leaves=false"][..],
        &["--cid-version=1"],
        &["--cid-version=1", "--raw-leaves=false"],
        &["--cid-version=0", "--raw-leaves"],
        &["--chunker=size-1000"],
        &["--hash=blake3"],
        &["--hash=sha2-512", "--chunker=size-65536"],
        &["-w"],
        &["-n"],
    ] {
        // The defaults differ: only what is spelled out is compared.
        for node in [&kubo, &cairn] {
            node.apply(Profile::V1);
        }
        let add = |node: &Node| node.run(&[&["add", "-Q"], flags, &[file]].concat()).text();
        assert_eq!(add(&cairn), add(&kubo), "{flags:?}");
    }
}

#[test]
fn a_car_of_one_is_imported_by_the_other() {
    let Some(kubo) = Node::kubo() else { return };
    let cairn = Node::cairn();
    let scratch = Scratch::new();
    let tree = scratch.tree("tree", Tree { file_count: 200, max_file_bytes: 9_000, nested: true, seed: 22 });
    for (from, to) in [(&kubo, &cairn), (&cairn, &kubo)] {
        from.apply(Profile::V1);
        let cid = from.add(&tree);
        let car = scratch.path("tree.car");
        let exported = from.run(&["dag", "export", "--progress=false", &cid]);
        assert!(exported.status.success(), "{}", exported.stderr);
        std::fs::write(&car, exported.stdout).expect("a file can be written");
        to.run(&["dag", "import", car.to_str().expect("paths of tests are UTF-8")]).text();
        assert!(trees_equal(&tree, &to.get(&cid)));
    }
}
