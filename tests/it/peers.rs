//! The peers with each other: when these fail, so do the scenarios with us, for a reason that is not ours.

use cairn_tests::{Helia, Node, Scratch, Transport, files_equal, sha256_of};

const FILE_BYTES: u64 = 5_000_000;

#[test]
fn kubo_and_helia_understand_each_other() {
    let (Some(mut kubo), Some(mut helia)) = (Node::kubo(), Helia::start()) else { return };
    let scratch = Scratch::new();
    let (first, second) =
        (scratch.random_file("1", FILE_BYTES, 80), scratch.random_file("2", FILE_BYTES, 81));
    kubo.start();
    helia.dial(&kubo.addr(Transport::Tcp));
    assert_eq!(helia.get(&kubo.add(&first)), (FILE_BYTES, sha256_of(&first)));
    assert!(files_equal(&second, &kubo.get(&helia.add_file(&second))));
    kubo.stop();
}

#[test]
fn kubo_understands_itself_over_both_transports() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let (Some(mut first), Some(mut second)) = (Node::kubo(), Node::kubo()) else { return };
        let scratch = Scratch::new();
        let file = scratch.random_file("file", FILE_BYTES, 82);
        first.start();
        second.start();
        second.connect(&first, transport);
        assert!(files_equal(&file, &second.get(&first.add(&file))), "{transport:?}");
    }
}
