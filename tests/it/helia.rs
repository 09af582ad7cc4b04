//! Real Helia, both ways.

use std::fs;

use cairn_tests::{Helia, Node, Profile, Scratch, Transport, Tree, files_equal, sha256_of, trees_equal};

const FILE_BYTES: u64 = 16 * 1024 * 1024;

fn pair() -> Option<(Node, Helia)> {
    let mut helia = Helia::start()?;
    let mut cairn = Node::cairn();
    cairn.start();
    helia.dial(&cairn.addr(Transport::Tcp));
    Some((cairn, helia))
}

#[test]
fn helia_gets_a_file_of_either_profile_from_us() {
    let Some((cairn, mut helia)) = pair() else { return };
    let scratch = Scratch::new();
    let file = scratch.random_file("file", FILE_BYTES, 30);
    for profile in Profile::ALL {
        cairn.apply(profile);
        assert_eq!(helia.get(&cairn.add(&file)), (FILE_BYTES, sha256_of(&file)), "{profile:?}");
    }
}

#[test]
fn helia_lists_ten_thousand_entries_of_ours() {
    let Some((cairn, mut helia)) = pair() else { return };
    let scratch = Scratch::new();
    let tree = Tree { file_count: 10_000, max_file_bytes: 100, nested: false, seed: 31 };
    let directory = scratch.tree("flat", tree);
    let mut names = helia.list(&cairn.add(&directory));
    names.sort();
    let expected: Vec<_> = (0..10_000).map(|number| format!("file-{number:05}.bin")).collect();
    assert!(names == expected, "{} names", names.len());
}

#[test]
fn we_get_a_file_from_helia() {
    let Some((cairn, mut helia)) = pair() else { return };
    let scratch = Scratch::new();
    let file = scratch.random_file("file", FILE_BYTES, 32);
    let got = cairn.get(&helia.add_file(&file));
    assert!(files_equal(&file, &got));
}

#[test]
fn we_get_a_tree_from_helia_that_we_dialled() {
    let Some(mut helia) = Helia::start() else { return };
    let mut cairn = Node::cairn();
    cairn.start();
    cairn.connect_to(helia.addr());
    let scratch = Scratch::new();
    let tree = Tree { file_count: 500, max_file_bytes: 5_000, nested: true, seed: 33 };
    let tree = scratch.tree("tree", tree);
    let got = cairn.get(&helia.add_directory(&tree));
    assert!(fs::read_dir(&got).is_ok_and(|entries| entries.count() == 7));
    assert!(trees_equal(&tree, &got));
}
