//! Content that was made to do harm, asked for over HTTP: it is refused or its response cut, and others are served on.

use std::fs;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::car;
use cairn_proto::cid::{Cid, DAG_PB, HashFunction, IDENTITY, Multihash, RAW, Version};
use cairn_proto::codec::dag_pb::{PbLink, PbNode};
use cairn_proto::limits::{MAX_BLOCK_BYTES, MAX_DAG_DEPTH, MAX_DIGEST_BYTES};
use cairn_proto::unixfs::{Data, Kind};
use cairn_tests::{Curl, Node, Scratch, run};
use serde_json::json;

/// Hash function of sharded directories. Source: the UnixFS specification (murmur3-x64-64).
const MURMUR3: u64 = 0x22;

/// Longest wait for an answer: whoever takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(100);

/// Blocks, made without the checks that an importer makes.
#[derive(Default)]
struct Blocks(Vec<Block>);

impl Blocks {
    fn raw(&mut self, content: &[u8]) -> Cid {
        self.put(RAW, Bytes::copy_from_slice(content))
    }

    fn node(&mut self, data: Data, links: &[(&str, Cid, u64)]) -> Cid {
        let link = |(name, cid, tsize): &(&str, Cid, u64)| PbLink {
            cid: *cid,
            name: Some(Bytes::copy_from_slice(name.as_bytes())),
            tsize: Some(*tsize),
        };
        let links = links.iter().map(link).collect();
        let node = PbNode { links, data: Some(data.encode().into()) };
        self.put(DAG_PB, node.encode())
    }

    fn put(&mut self, codec: u64, bytes: Bytes) -> Cid {
        let block =
            Block::hash(Version::V1, codec, HashFunction::Sha2_256, bytes).expect("it is small enough");
        let cid = *block.cid();
        self.0.push(block);
        cid
    }

    fn car(&self) -> Vec<u8> {
        let mut bytes = car::header(&[*self.0[0].cid()]).to_vec();
        for block in &self.0 {
            bytes.extend(car::section_head(block));
            bytes.extend(block.data());
        }
        bytes
    }
}

fn file(len_bytes: u64, parts: &[u64]) -> Data {
    Data { filesize: Some(len_bytes), blocksizes: parts.to_vec(), ..Data::new(Kind::File) }
}

fn shard(fanout: u64, bitfield: &[u8]) -> Data {
    Data {
        fanout: Some(fanout),
        hash_type: Some(MURMUR3),
        data: Some(Bytes::copy_from_slice(bitfield)),
        ..Data::new(Kind::HamtShard)
    }
}

/// Exit code of curl, and the status.
fn ask(url: &str) -> (i32, u16) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url]);
    let output = run(&mut curl, DEADLINE);
    let status = String::from_utf8(output.stdout).expect("a status is text");
    (output.status.code().expect("curl ends by itself"), status.parse().expect("curl prints a status"))
}

#[test]
fn dags_that_lie_are_refused_or_cut_and_others_served_on() {
    let mut blocks = Blocks::default();
    let leaf = blocks.raw(b"leaf");
    let honest = blocks.node(file(8, &[4, 4]), &[("", leaf, 4), ("", leaf, 4)]);
    let mut deep = leaf;
    for _ in 0..=MAX_DAG_DEPTH {
        deep = blocks.node(file(4, &[4]), &[("", deep, 4)]);
    }
    let mut deep_folders = leaf;
    for _ in 0..=MAX_DAG_DEPTH {
        deep_folders = blocks.node(Data::new(Kind::Directory), &[("a", deep_folders, 4)]);
    }
    let more_sizes = blocks.node(file(8, &[4, 4]), &[("", leaf, 4)]);
    let fewer_sizes = blocks.node(file(4, &[4]), &[("", leaf, 4), ("", leaf, 4)]);
    let huge_claim = blocks.node(file(1 << 60, &[1 << 60]), &[("", leaf, 4)]);
    let wrapping = blocks.node(file(3, &[u64::MAX, 4]), &[("", leaf, 4), ("", leaf, 4)]);
    let a_file_of_folders = {
        let folder = blocks.node(Data::new(Kind::Directory), &[]);
        blocks.node(file(4, &[4]), &[("", folder, 4)])
    };
    let full = [0xff; 32];
    let fanouts =
        [0, 7, 12, 2048, u64::MAX].map(|fanout| blocks.node(shard(fanout, &full), &[("00a", leaf, 4)]));
    let no_bitfield = blocks.node(shard(256, &[]), &[("00a", leaf, 4)]);
    let long_bitfield = blocks.node(shard(256, &[0xff; 64]), &[("00a", leaf, 4)]);
    let wrong_bits = blocks.node(shard(256, &[0b11]), &[("00a", leaf, 4)]);
    let no_prefix = blocks.node(shard(256, &[0b1]), &[("a", leaf, 4)]);
    let same_prefix = blocks.node(shard(256, &[0b11]), &[("00a", leaf, 4), ("00b", leaf, 4)]);
    let not_a_shard = blocks.node(shard(256, &[0b1]), &[("00", honest, 4)]);

    let scratch = Scratch::new();
    let car = scratch.path("hostile.car");
    fs::write(&car, blocks.car()).expect("a file can be written");
    let mut node = Node::cairn();
    node.run(&["dag", "import", "--pin-roots=false", car.to_str().expect("a path of UTF-8")]).text();
    node.start();
    let url = |target: String| format!("http://127.0.0.1:{}/ipfs/{target}", node.port("Gateway server"));

    let mut targets = vec![
        format!("{deep}"),
        format!("{deep}?format=car"),
        format!("{deep}?format=tar"),
        format!("{deep_folders}?format=car"),
        format!("{deep_folders}?format=tar"),
        format!("{more_sizes}"),
        format!("{fewer_sizes}"),
        format!("{huge_claim}"),
        format!("{huge_claim}?format=tar"),
        format!("{wrapping}"),
        format!("{a_file_of_folders}"),
    ];
    let shards = [no_bitfield, long_bitfield, wrong_bits, no_prefix, same_prefix, not_a_shard];
    targets.extend(fanouts.iter().chain(&shards).map(|cid| format!("{cid}/")));
    for target in targets {
        let (exit, status) = ask(&url(target.clone()));
        assert!(exit != 0 || status >= 400, "{target}: {status}");
        assert_ne!(status, 504, "{target}: nothing was waited for");
        assert_eq!(Curl::get(&url(format!("{honest}"))).body(200), b"leafleaf", "after {target}");
    }
}

#[test]
fn identities_and_blocks_of_the_limit_are_served_and_one_byte_more_is_refused() {
    let scratch = Scratch::new();
    let mut node = Node::cairn();
    let identity = |len: usize| {
        Cid::new_v1(
            RAW,
            Multihash::wrap(IDENTITY, &vec![b'x'; len]).expect("a digest of that length can be held"),
        )
    };
    let whole = scratch.path("whole");
    fs::write(&whole, vec![0; MAX_BLOCK_BYTES]).expect("a file can be written");
    let block = node.run(&["block", "put", whole.to_str().expect("a path of UTF-8")]).text();
    fs::write(&whole, vec![0; MAX_BLOCK_BYTES + 1]).expect("a file can be written");
    assert!(!node.run(&["block", "put", whole.to_str().expect("a path of UTF-8")]).status.success());
    node.start();
    let url = |target: String| format!("http://127.0.0.1:{}/ipfs/{target}", node.port("Gateway server"));
    assert_eq!(Curl::get(&url(block)).body(200).len(), MAX_BLOCK_BYTES);
    let text = identity(MAX_DIGEST_BYTES).to_string();
    assert_eq!(Curl::get(&url(text)).body(200), vec![b'x'; MAX_DIGEST_BYTES]);
    // Multibase of a CID that nobody may make: version 1, raw, identity, 129 bytes.
    let mut bytes = vec![0x01, 0x55, 0x00, 0x81, 0x01];
    bytes.extend([b'x'; MAX_DIGEST_BYTES + 1]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(Curl::get(&url(format!("f{hex}"))).status(), 400);
}

#[test]
fn names_that_lead_to_themselves_and_rules_without_end_do_no_harm() {
    let scratch = Scratch::new();
    let mut node = Node::cairn();
    // As long as a file of rules may be, each of which looks at a long path.
    let rule = "/a/*/b/*/c /x 301\n";
    let rules = "/very/long/placeholder/:a/:b/:c/:d/* /other/:d/:c/:b/:a/:splat 302\n".repeat(900);
    assert!(rules.len() < 64 * 1024);
    let long = scratch.site("long", &[("_redirects", &rules), ("index.html", "<p>a")]);
    let wrong = scratch.site("wrong", &[("_redirects", rule), ("index.html", "<p>a")]);
    let (long, wrong) = (node.add(&long), node.add(&wrong));
    let names = "one.example:/ipns/two.example,two.example:/ipns/one.example,self.example:/ipns/self.example";
    node.set("DNS.NameMap", json!(names));
    node.start();
    let port = node.port("Gateway server");
    for name in ["one.example", "self.example"] {
        let (exit, status) = ask(&format!("http://127.0.0.1:{port}/ipns/{name}/"));
        assert_eq!(exit, 0);
        assert!((400..=500).contains(&status), "{name}: {status}");
    }
    let path = "/very/long/placeholder".to_owned() + &"/x".repeat(200);
    for (site, path, expected) in [
        (&long, &*path, 302),
        (&long, &*path.replace("very", "other"), 404),
        (&long, "/index.html", 200),
        (&wrong, "/missing", 500),
        (&wrong, "/index.html", 200),
    ] {
        let host = format!("host: {site}.ipfs.localhost:{port}");
        let status = Curl::get(&format!("http://127.0.0.1:{port}{path}")).with(&["--header", &host]).status();
        assert_eq!(status, expected, "{path}");
    }
}
