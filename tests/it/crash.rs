//! What was acknowledged survives `kill -9`.

use std::time::Duration;

use cairn_tests::{Node, Process, Scratch, Tree, files_equal};

const DEADLINE: Duration = Duration::from_secs(120);

/// Adds a folder of 3,000 files, kills whoever writes after `acknowledged` lines, and looks for what they named.
fn kill_after(acknowledged: usize, with_daemon: bool) {
    let scratch = Scratch::new();
    let tree = Tree { file_count: 3_000, max_file_bytes: 30_000, nested: false, seed: 50 };
    let tree = scratch.tree("tree", tree);
    let mut node = Node::cairn();
    if with_daemon {
        node.start();
    }
    let mut command = node.command(&["add", "-r", "--progress=false"]);
    let mut add = Process::start("add", command.arg(&tree));
    let lines: Vec<_> = (0..acknowledged)
        .map(|_| add.wait_for("an added line", DEADLINE, |line| Some(line.to_owned())))
        .collect();
    if with_daemon {
        node.kill();
    } else {
        add.kill();
    }

    for line in lines {
        let [word, cid, name] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("not an added line: {line}");
        };
        assert_eq!(word, "added");
        let file = scratch.path(name);
        assert!(files_equal(&file, &node.get(cid)), "{line}");
    }
    node.start();
    let whole = node.add(&tree);
    node.stop();
    assert_eq!(node.run(&["pin", "ls", "--type=recursive", "-q"]).text(), whole);
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_of_an_add_loses_nothing_acknowledged() {
    kill_after(1, true);
    kill_after(40, true);
}

#[test]
fn an_add_without_a_daemon_that_is_killed_loses_nothing_acknowledged() {
    kill_after(1, false);
    kill_after(40, false);
}
