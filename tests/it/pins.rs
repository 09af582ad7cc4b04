//! `pin update` and `pin verify` say and do what Kubo's do.

use cairn_tests::{Node, Profile, Scratch};

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
