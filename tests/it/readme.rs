//! What the README shows works as it is written there.

use std::process::Command;
use std::time::Duration;

use cairn_tests::{Node, Scratch, Transport, cairn_binary, run};

const README: &str = include_str!("../../README.md");

#[test]
fn the_commands_of_the_readme_work_in_their_order() {
    let scratch = Scratch::new();
    let site = scratch.site("site", &[("index.html", "<title>a site</title>"), ("a/b.txt", "b")]);
    let (mut node, mut other) = (Node::cairn(), Node::cairn());
    let cid = node.add(&site);
    node.start();
    other.start();
    // The program may lie elsewhere under another name, so the shell is told what `cairn` means.
    let define = format!("cairn() {{ '{}' \"$@\"; }}", cairn_binary().display());
    let lines = README.lines().filter(|line| line.starts_with("cairn "));
    let mut count = 0;
    for line in lines {
        let line = line.replace("<cid>", &cid).replace("<multiaddr>", &other.addr(Transport::Tcp));
        let mut shell = Command::new("sh");
        shell.args(["-ec", &format!("{define}\n{line}")]);
        shell.current_dir(scratch.path("")).env("CAIRN_PATH", node.repo()).env("IPFS_PATH", node.repo());
        let output = run(&mut shell, Duration::from_secs(60));
        assert!(output.status.success(), "{line}: {}", output.stderr);
        count += 1;
    }
    assert!(count > 5, "the README has commands");
    assert!(scratch.path("copy/a/b.txt").is_file());
    assert!(scratch.path("site.car").is_file());
}
