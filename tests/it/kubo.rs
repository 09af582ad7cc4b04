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
        &["--chunker=rabin"],
        &["--chunker=rabin-1000-3000-5000", "--cid-version=1"],
        &["--chunker=buzhash"],
        &["--trickle", "--chunker=size-1000", "--max-file-links=5"],
        &["--trickle", "--cid-version=1"],
        &["--inline", "--chunker=size-20000"],
        &["--mode=0640", "--mtime=-5", "--mtime-nsecs=9", "--raw-leaves=false"],
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
    let exported = cairn.run(&["dag", "export", "--progress=false", "--car-version=2", &cairn.add(&tree)]);
    let (one, two) = (std::fs::read(scratch.path("tree.car")).expect("it was written"), exported.stdout);
    assert_eq!(two[51..], one, "the second version has the first one inside");
    let car = scratch.path("tree-v2.car");
    std::fs::write(&car, two).expect("a file can be written");
    for node in [Some(Node::cairn()), Node::kubo()].into_iter().flatten() {
        let stats = node.run(&["dag", "import", "--stats", car.to_str().expect("paths of tests are UTF-8")]);
        assert!(stats.text().contains("Imported "), "{}", stats.stderr);
    }
}

/// What a command of a node prints that is given `input` on its standard input; the error's presence is all of it that counts.
fn fed(node: &Node, args: &[&str], input: &str) -> Option<String> {
    let folder = Scratch::new();
    let path = folder.path("input");
    std::fs::write(&path, input).expect("a file can be written");
    let path = path.to_str().expect("paths of tests are UTF-8");
    let output = node.run(&[args, &[path]].concat());
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[test]
fn nodes_have_the_same_cids_and_texts_in_both() {
    let Some(kubo) = Node::kubo() else { return };
    let cairn = Node::cairn();
    let nodes = [&kubo, &cairn];
    let same = |what: &str, answer: &dyn Fn(&Node) -> Option<String>| {
        let [theirs, ours] = nodes.map(answer);
        assert_eq!(ours, theirs, "{what}");
        ours
    };
    let inner = r#"{"x":{"y":[1,"z",null,1.0,-0.5,1e21,true]},"é<\u0001\u2028":{"/":{"bytes":"AQI"}}}"#;
    let leaf = same("inner", &|node| fed(node, &["dag", "put"], inner)).expect("a node is stored");
    let outer = format!(r#"{{"link":{{"/":"{leaf}"}},"list":[{{"/":"{leaf}"}}],"a":1}}"#);
    let root = same("outer", &|node| fed(node, &["dag", "put", "--pin"], &outer)).expect("a node is stored");
    let pb = r#"{"Data":{"/":{"bytes":"CAE"}},"Links":[{"Hash":{"/":"bafkqaaa"},"Name":"n","Tsize":0}]}"#;
    for store in ["dag-cbor", "dag-json", "dag-pb", "cbor", "json", "raw", "bogus"] {
        for input in [inner, outer.as_str(), pb, "[]", "\"x\"", r#"{"/":{"bytes":"AQ"}}"#, "{", "1 2", ""] {
            let put = |node: &Node| fed(node, &["dag", "put", "--store-codec", store], input);
            let Some(cid) = same(&format!("put {store} {input}"), &put) else { continue };
            let print = |node: &Node| Some(node.run(&["dag", "get", &cid]).text());
            same(&format!("get {store} {input}"), &print);
        }
    }
    // What looks like a link is none in these codecs. The CBOR is {"l": tag 42 of an identity CID}.
    let json = fed(&cairn, &["block", "put", "--cid-codec=json"], &outer).expect("a block is stored");
    assert_eq!(fed(&kubo, &["block", "put", "--cid-codec=json"], &outer).as_ref(), Some(&json));
    same("links of JSON", &|node| Some(node.run(&["refs", &json]).text()));
    let scratch = Scratch::new();
    let cbor = scratch.path("cbor");
    std::fs::write(&cbor, b"\xa1al\xd8*E\x00\x01U\x00\x00").expect("a file can be written");
    let cbor = cbor.to_str().expect("paths of tests are UTF-8");
    let [theirs, ours] = nodes.map(|node| {
        let cid = node.run(&["block", "put", "--cid-codec=cbor", cbor]).text();
        node.run(&["refs", &cid])
    });
    assert!(theirs.error().contains("tag 42"), "{}", theirs.stderr);
    assert_eq!(ours.text(), "");
    for hash in ["sha2-512", "blake3", "md5", "bogus"] {
        same(hash, &|node| fed(node, &["dag", "put", "--hash", hash], inner));
    }
    for below in ["", "/link", "/link/x/y/1", "/list/0/x", "/list/1", "/a", "/a/b", "/none"] {
        let path = format!("{root}{below}");
        for command in [&["dag", "get"][..], &["dag", "resolve"], &["dag", "resolve", "--enc=json"]] {
            same(&format!("{command:?} {below}"), &|node| {
                let output = node.run(&[command, &[&path]].concat());
                output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
            });
        }
    }
    for codec in ["dag-json", "dag-cbor", "cbor", "json", "dag-pb", "raw"] {
        same(&format!("get as {codec}"), &|node| {
            let output = node.run(&["dag", "get", "--output-codec", codec, &format!("{root}/link/x")]);
            output.status.success().then(|| format!("{:?}", output.stdout))
        });
    }
}

#[test]
fn trees_with_modes_and_times_have_the_same_cids_in_both_and_come_back_with_them() {
    use std::fs::{self, FileTimes, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    let Some(kubo) = Node::kubo() else { return };
    let mut cairn = Node::cairn();
    for node in [&kubo, &cairn] {
        node.apply(Profile::V0);
    }
    let scratch = Scratch::new();
    let tree = scratch.tree("tree", Tree { file_count: 20, max_file_bytes: 900, nested: true, seed: 23 });
    let file = scratch.random_file("tree/file", 2_000, 24);
    symlink("file", tree.join("link")).expect("a link can be made");
    fs::create_dir(tree.join("empty")).expect("a folder can be made");
    for (path, mode, time) in [
        (&file, 0o4711, UNIX_EPOCH + Duration::new(1_700_000_000, 5)),
        (&tree.join("empty"), 0o1750, UNIX_EPOCH - Duration::from_millis(5_250)),
        (&tree, 0o710, UNIX_EPOCH + Duration::from_secs(1)),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        let open = fs::File::open(path).expect("it is there");
        open.set_times(FileTimes::new().set_modified(time)).expect("it is ours");
    }
    let path = tree.to_str().expect("paths of tests are UTF-8");
    let add = |node: &Node, flags: &[&str]| {
        let narrow = &["add", "-rQ", "--chunker=size-300", "--max-file-links=3"][..];
        node.run(&[narrow, flags, &[path]].concat()).text()
    };
    let all = &["--preserve-mode", "--preserve-mtime"][..];
    for with_daemon in [false, true] {
        if with_daemon {
            cairn.start();
        }
        for flags in [
            &["--preserve-mode"][..],
            &["--preserve-mtime"],
            all,
            &["--preserve-mode", "--preserve-mtime", "-w"],
            &["--preserve-mode", "--preserve-mtime", "--max-directory-links=2"],
            &["--preserve-mode", "--preserve-mtime", "--trickle"],
            &["--mode=0751", "--preserve-mtime", "-w"],
            &["--mode=0751", "--mtime=-7"],
            &["--inline", "--trickle"],
            &["--inline", "--preserve-mode", "--preserve-mtime"],
        ] {
            assert_eq!(add(&cairn, flags), add(&kubo, flags), "{flags:?} with_daemon={with_daemon}");
        }
        let cid = add(&cairn, all);
        let got = cairn.get(&cid);
        for below in ["", "file", "empty", "link"] {
            let [kept, made] =
                [&tree, &got].map(|top| fs::symlink_metadata(top.join(below)).expect("it is there"));
            let times = [&kept, &made].map(|metadata| (metadata.mtime(), metadata.mtime_nsec()));
            assert_eq!(times[1], times[0], "{below}");
            assert_eq!(made.mode() & 0o777, kept.mode() & 0o777, "{below}");
            assert!(below == "link" || made.mode() & 0o7000 == 0, "{below}");
        }
        fs::remove_dir_all(&got).expect("it is ours");
    }
}

#[test]
fn a_part_of_a_dag_is_exported_and_imported_as_kubo_does() {
    let scratch = Scratch::new();
    let folder = scratch.site("folder", &[("a", "here"), ("b", "gone"), ("c/d", "here too")]);
    for node in [Some(Node::cairn()), Node::kubo()].into_iter().flatten() {
        node.apply(Profile::V1);
        let path = folder.to_str().expect("paths of tests are UTF-8");
        let root = node.run(&["add", "-rQ", "--pin=false", path]).text();
        let gone = node.run(&["dag", "resolve", &format!("{root}/b")]).text();
        node.run(&["block", "rm", &gone]).text();
        // Whole, it cannot be had.
        assert!(!node.run(&["dag", "export", "--offline", "--progress=false", &root]).status.success());
        let exported = node.run(&["dag", "export", "--local-only", "--progress=false", &root]);
        assert!(exported.status.success(), "{}", exported.stderr);
        let car = scratch.path("part.car");
        std::fs::write(&car, &exported.stdout).expect("a file can be written");
        let car = car.to_str().expect("paths of tests are UTF-8");

        let other = Node::cairn();
        let stats = other.run(&["dag", "import", "--local-only", "--stats", car]).text();
        // Two folders and two files.
        assert!(stats.starts_with("Imported 4 blocks "), "{stats}");
        assert_eq!(other.run(&["pin", "ls", "--type=recursive"]).text(), "");
        assert_eq!(other.run(&["cat", &format!("{root}/c/d")]).text(), "here too");
        assert!(
            other.run(&["dag", "import", "--local-only", "--pin-roots", car]).error().contains("pin-roots")
        );
        // The root at least must be here.
        node.run(&["block", "rm", &root]).text();
        assert!(!node.run(&["dag", "export", "--local-only", "--progress=false", &root]).status.success());
    }
}

#[test]
fn links_are_listed_in_the_same_order_in_both_and_over_the_network() {
    let Some(kubo) = Node::kubo() else { return };
    let (mut cairn, mut other) = (Node::cairn(), Node::cairn());
    let scratch = Scratch::new();
    let tree = scratch.tree("tree", Tree { file_count: 120, max_file_bytes: 3_000, nested: true, seed: 25 });
    let _ = scratch.random_file("tree/large", 300_000, 26);
    // The same content twice.
    std::fs::copy(tree.join("large"), tree.join("again")).expect("a file can be copied");
    let path = tree.to_str().expect("paths of tests are UTF-8");
    let add = |node: &Node| {
        node.apply(Profile::V1);
        node.run(&["add", "-rQ", "--chunker=size-1000", "--max-file-links=5", path]).text()
    };
    let root = add(&kubo);
    assert_eq!(add(&cairn), root);
    for flags in [&[][..], &["-r"], &["-r", "-u"], &["-r", "--max-depth=2"], &["-r", "-e"]] {
        let list = |node: &Node| node.run(&[&["refs"], flags, &[&root]].concat()).text();
        assert_eq!(list(&cairn), list(&kubo), "{flags:?}");
    }
    let local = cairn.run(&["refs", "-r", &root]).text();
    cairn.start();
    other.start();
    other.connect(&cairn, Transport::Tcp);
    assert_eq!(other.run(&["refs", "-r", &root]).text(), local);
}
