//! One honest provider among nine in bad faith.

use cairn_tests::{Liar, Lie, Node, Scratch, Transport, files_equal};

const FILE_BYTES: u64 = 20_000_000;

#[test]
fn a_file_arrives_whole_from_one_honest_provider_among_nine_liars_and_nothing_else_is_stored() {
    let liars = Lie::NINE.map(Liar::start);
    let (mut sender, mut receiver) = (Node::cairn(), Node::cairn());
    sender.start();
    receiver.start();
    // The liars are there first.
    liars.iter().for_each(|liar| receiver.connect_to(liar.addr()));
    receiver.connect(&sender, Transport::Tcp);
    let scratch = Scratch::new();
    let file = scratch.random_file("file", FILE_BYTES, 90);
    let cid = sender.add(&file);
    receiver.run(&["pin", "add", &cid]).text();
    let wanted = receiver.run(&["refs", "-r", "-u", &cid]).text().lines().count() + 1;
    assert_eq!(receiver.run(&["refs", "local"]).text().lines().count(), wanted);
    assert!(files_equal(&file, &receiver.get(&cid)));
}
