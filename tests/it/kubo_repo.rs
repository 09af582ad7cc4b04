//! A Kubo repo is taken over as it is, and left as it was.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_tests::{Node, Profile, Scratch, Tree, trees_equal};

/// A Kubo repo with files, pins of both kinds, files of its own and a key; `None` without Kubo.
struct Given {
    kubo: Node,
    tree: PathBuf,
    root: String,
    direct: String,
    files: String,
}

fn given(scratch: &Scratch) -> Option<Given> {
    let kubo = Node::kubo()?;
    kubo.apply(Profile::V1);
    let tree = scratch.tree("tree", Tree { file_count: 60, max_file_bytes: 20_000, nested: true, seed: 31 });
    let _ = scratch.random_file("tree/big", 3_000_000, 32);
    let path = tree.to_str().expect("paths of tests are UTF-8");
    let root = kubo.run(&["add", "-rQ", "--pin-name=my tree", path]).text();
    let single = scratch.random_file("single", 500, 33);
    let single = single.to_str().expect("paths of tests are UTF-8");
    let direct = kubo.run(&["add", "-Q", "--pin=false", single]).text();
    kubo.run(&["pin", "add", "--recursive=false", &direct]).text();
    kubo.run(&["files", "mkdir", "/notes"]).text();
    kubo.run(&["files", "cp", &format!("/ipfs/{direct}"), "/notes/single"]).text();
    let files = kubo.run(&["files", "stat", "--hash", "/"]).text();
    kubo.run(&["key", "gen", "My site"]).text();
    Some(Given { kubo, tree, root, direct, files })
}

/// Every file below a folder with its content.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = fs::read(&path).expect("a file can be read");
                files.push((path, content));
            }
        }
    }
    files.sort();
    files
}

fn import(node: &Node, kubo: &Node, options: &[&str]) -> cairn_tests::Output {
    let repo = kubo.repo();
    let repo = repo.to_str().expect("paths of tests are UTF-8");
    node.run(&[&["repo", "import-kubo", repo], options].concat())
}

#[test]
fn a_repo_of_kubo_is_taken_over_and_left_as_it_was() {
    let scratch = Scratch::new();
    let Some(Given { kubo, tree, root, direct, files }) = given(&scratch) else { return };
    let before = snapshot(&kubo.repo());
    let cairn = Node::cairn();
    let own_id = cairn.run(&["id", "-f", "<id>"]).text();
    let told = import(&cairn, &kubo, &[]).text();
    assert!(snapshot(&kubo.repo()) == before, "nothing of Kubo's is written");

    assert!(told.contains(&format!("pinned the root of Kubo's files as kubo-files: {files}")), "{told}");
    assert!(told.contains("copied key My site"), "{told}");
    assert!(told.contains("stays with Kubo; --identity takes it over"), "{told}");
    assert_eq!(cairn.run(&["id", "-f", "<id>"]).text(), own_id);
    let pins = cairn.run(&["pin", "ls", "--names", "--type=recursive"]).text();
    assert!(pins.lines().any(|line| line == format!("{root} recursive my tree")), "{pins}");
    assert!(pins.lines().any(|line| line == format!("{files} recursive kubo-files")), "{pins}");
    assert_eq!(cairn.run(&["pin", "ls", "--type=direct"]).text(), format!("{direct} direct"));
    assert_eq!(cairn.run(&["pin", "verify"]).text(), "");
    let single = cairn.run(&["cat", &format!("{files}/notes/single")]);
    assert_eq!(single.stdout, fs::read(scratch.path("single")).expect("a file can be read"));
    let keys = |repo: &Path| fs::read(repo.join("keystore/key_jv4sa43jorsq")).expect("there is such a key");
    assert_eq!(keys(&cairn.repo()), keys(&kubo.repo()));

    // Again, it finds everything here already.
    let again = import(&cairn, &kubo, &["--identity"]).text();
    assert!(again.contains(" (0 bytes new), "), "{again}");
    cairn.run(&["repo", "gc"]).text();
    assert!(trees_equal(&tree, &cairn.get(&root)));
    assert_eq!(cairn.run(&["id", "-f", "<id>"]).text(), kubo.run(&["id", "-f", "<id>"]).text());
}

#[test]
fn what_is_damaged_in_a_repo_of_kubo_is_named_and_the_rest_is_taken_over() {
    let scratch = Scratch::new();
    let Some(Given { mut kubo, root, direct, .. }) = given(&scratch) else { return };
    let blocks = snapshot(&kubo.repo().join("blocks"));
    let largest = blocks.iter().max_by_key(|(_, content)| content.len()).expect("there are blocks");
    let mut content = largest.1.clone();
    content[0] ^= 1;
    fs::write(&largest.0, content).expect("a file can be written");
    let cairn = Node::cairn();
    let output = import(&cairn, &kubo, &[]);
    let errors = output.error();
    assert!(errors.contains("not taken over: block "), "{errors}");
    assert!(errors.contains(&format!("not taken over: pin {root}: ")), "{errors}");
    assert_eq!(cairn.run(&["pin", "ls", "--type=direct"]).text(), format!("{direct} direct"));

    kubo.start();
    assert!(import(&cairn, &kubo, &[]).error().contains("Kubo runs on this repo"));
    kubo.stop();
}
