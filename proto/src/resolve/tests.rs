use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ipld_core::ipld;
use multibase::Base;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::*;
use crate::cid::{HashFunction, JSON, Version, parse};
use crate::unixfs::import::{DirectoryBuilder, ImportOptions, symlink};
use crate::unixfs::{Attributes, Kind, Mtime};
use crate::walk::testing::{Peers, block, identity, node, raw};

fn peers() -> Peers {
    Peers::new(ChaCha8Rng::seed_from_u64(1))
}

fn resolve(peers: &mut Peers, root: Cid, path: &str) -> Result<Resolved, ResolveError> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    let path = ContentPath::new(Root::Ipfs(root), segments).unwrap();
    let resolved = peers.run(&mut Resolver::new(&path))?;
    assert_eq!(resolved.len(), 1);
    Ok(resolved.into_iter().next().unwrap())
}

fn directory(peers: &mut Peers, options: ImportOptions, entries: &[(&str, Cid, u64)]) -> Cid {
    let mut builder = DirectoryBuilder::new(options);
    for (name, cid, tsize) in entries {
        builder.insert(name, cid, *tsize).unwrap();
    }
    let built = builder.finish().unwrap();
    peers.add_all(built.blocks);
    built.cid
}

fn sharded() -> ImportOptions {
    ImportOptions { hamt_fanout: 8, hamt_threshold_bytes: 1, ..ImportOptions::default() }
}

fn cbor(value: &ipld_core::ipld::Ipld) -> Block {
    block(DAG_CBOR, serde_ipld_dagcbor::to_vec(value).unwrap())
}

fn ipld_link(cid: Cid) -> ipld_core::ipld::Ipld {
    ipld_core::ipld::Ipld::Link(ipld_core::cid::Cid::try_from(cid.to_bytes()).unwrap())
}

#[test]
fn a_path_leads_through_directories_to_what_is_there() {
    let mut peers = peers();
    let file = peers.add(raw("hello world"));
    let link = peers.add(symlink(&ImportOptions::default(), "a.txt", None).unwrap());
    let sub = directory(&mut peers, ImportOptions::default(), &[("a.txt", file, 11), ("link", link, 13)]);
    let root = directory(&mut peers, ImportOptions::default(), &[("sub", sub, 100), ("a.txt", file, 11)]);
    let sub_bytes = peers.get(&sub).data().len() as u64 + 11 + 13;
    for (path, cid, kind, roots) in [
        ("sub/a.txt", file, NodeKind::File { len_bytes: 11 }, vec![root, sub, file]),
        ("a.txt", file, NodeKind::File { len_bytes: 11 }, vec![root, file]),
        ("sub", sub, NodeKind::Directory { cumulative_bytes: sub_bytes }, vec![root, sub]),
        ("sub/link", link, NodeKind::Symlink { target: "a.txt".to_owned() }, vec![root, sub, link]),
    ] {
        let expected =
            Resolved { cid, kind, roots, remainder: Vec::new(), attributes: Attributes::default() };
        assert_eq!(resolve(&mut peers, root, path), Ok(expected), "{path}");
    }
}

#[test]
fn a_missing_name_tells_itself_and_its_directory() {
    let mut peers = peers();
    let file = peers.add(raw("x"));
    let plain = directory(&mut peers, ImportOptions::default(), &[("a", file, 1)]);
    let names: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), file, 1)).collect();
    let shards = directory(&mut peers, sharded(), &entries);
    for parent in [plain, shards] {
        let root = directory(&mut peers, ImportOptions::default(), &[("sub", parent, 1)]);
        for segment in ["nothing", "A", "a "] {
            let error = resolve(&mut peers, root, &format!("sub/{segment}/on")).unwrap_err();
            assert_eq!(error, ResolveError::NotFound { segment: segment.to_owned(), parent });
        }
    }
}

#[test]
fn nothing_has_a_name_but_directories() {
    let mut peers = peers();
    let file = peers.add(raw("x"));
    let link = peers.add(symlink(&ImportOptions::default(), "dir", None).unwrap());
    for (cid, kind) in [(file, "file"), (link, "symbolic link")] {
        let root = directory(&mut peers, ImportOptions::default(), &[("it", cid, 1)]);
        let error = resolve(&mut peers, root, "it/a").unwrap_err();
        assert_eq!(error, ResolveError::NotADirectory { segment: "a".to_owned(), cid, kind });
    }
    let json = peers.add(block(JSON, "{}"));
    assert_eq!(
        resolve(&mut peers, json, "a").unwrap_err(),
        ResolveError::Codec { segment: "a".to_owned(), cid: json, codec: JSON }
    );
}

#[test]
fn every_name_of_a_sharded_directory_is_found_by_the_shards_on_its_way() {
    let mut peers = peers();
    let names: Vec<String> = (0..500).map(|at| format!("file-{at}")).collect();
    let files: Vec<Cid> = names.iter().map(|name| peers.add(raw(name.clone()))).collect();
    let entries: Vec<_> = names.iter().zip(&files).map(|(name, cid)| (name.as_str(), *cid, 1)).collect();
    let root = directory(&mut peers, sharded(), &entries);
    for (name, file) in names.iter().zip(&files) {
        let resolved = resolve(&mut peers, root, name).unwrap();
        assert_eq!((resolved.cid, resolved.roots), (*file, vec![root, *file]));
        // 500 names in shards of 8: about three levels, with the file itself, and never many more.
        assert!(peers.asked.len() <= 9, "{}", peers.asked.len());
    }
    let NodeKind::Directory { cumulative_bytes } = resolve(&mut peers, root, "").unwrap().kind else {
        panic!("a sharded directory is a directory")
    };
    assert!(cumulative_bytes > 500);
}

#[test]
fn the_first_of_two_links_with_one_name_is_taken() {
    let mut peers = peers();
    let (first, second) = (peers.add(raw("1")), peers.add(raw("2")));
    let links = [first, second].map(|cid| PbLink { cid, name: Some("a".into()), tsize: None });
    let data = Some(Bytes::from(Data::new(Kind::Directory).encode()));
    let root = peers.add(block(DAG_PB, PbNode { links: links.to_vec(), data }.encode()));
    assert_eq!(resolve(&mut peers, root, "a").unwrap().cid, first);
}

#[test]
fn dag_pb_that_is_not_unixfs_has_its_links() {
    let mut peers = peers();
    let file = peers.add(raw("x"));
    let inner = peers.add(node(&[("b", file, None)]));
    let root = peers.add(node(&[("a", inner, None)]));
    assert_eq!(resolve(&mut peers, root, "a/b").unwrap().cid, file);
    assert_eq!(resolve(&mut peers, root, "a").unwrap().kind, NodeKind::Data { codec: DAG_PB });
    assert!(matches!(resolve(&mut peers, root, "c"), Err(ResolveError::NotFound { .. })));
}

#[test]
fn a_path_crosses_the_links_of_dag_cbor_and_may_end_inside_a_block() {
    let mut peers = peers();
    let file = peers.add(raw("x"));
    let directory = directory(&mut peers, ImportOptions::default(), &[("f", file, 1)]);
    let inner = peers.add(cbor(&ipld!({ "list": [0, ipld_link(directory)], "word": { "deep": true } })));
    let root = peers.add(cbor(&ipld!({ "a": { "b": ipld_link(inner) } })));
    let resolved = resolve(&mut peers, root, "a/b/list/1/f").unwrap();
    assert_eq!(resolved.cid, file);
    assert_eq!(resolved.roots, [root, root, inner, inner, directory, file]);
    let resolved = resolve(&mut peers, root, "a/b").unwrap();
    let kind = NodeKind::Data { codec: DAG_CBOR };
    let whole = Resolved {
        cid: inner,
        kind,
        roots: vec![root, root, inner],
        remainder: Vec::new(),
        attributes: Attributes::default(),
    };
    assert_eq!(resolved, whole);
    let remainder = vec!["word".to_owned(), "deep".to_owned()];
    assert_eq!(resolve(&mut peers, root, "a/b/word/deep"), Ok(Resolved { remainder, ..whole }));
    assert_eq!(
        resolve(&mut peers, root, "a/b/list/2"),
        Err(ResolveError::NotFound { segment: "2".to_owned(), parent: inner })
    );
    assert!(matches!(
        resolve(&mut peers, root, "a/b/word/deep/x"),
        Err(ResolveError::NotADirectory { segment, .. }) if segment == "x"
    ));
}

#[test]
fn a_path_crosses_the_links_of_dag_json() {
    let mut peers = peers();
    let file = peers.add(raw("x"));
    let root = peers.add(block(crate::cid::DAG_JSON, format!(r#"{{"a":[{{"/":"{file}"}}, 7]}}"#)));
    let resolved = resolve(&mut peers, root, "a/0").unwrap();
    assert_eq!((resolved.cid, resolved.roots), (file, vec![root, root, file]));
    let inside = resolve(&mut peers, root, "a/1").unwrap();
    assert_eq!((inside.cid, inside.remainder), (root, vec!["a".to_owned(), "1".to_owned()]));
}

#[test]
fn identity_cids_on_the_way_are_read_without_asking() {
    let mut peers = peers();
    let file = peers.add(raw("x"));
    let inline = identity(DAG_PB, node(&[("b", file, None)]).data());
    let root = peers.add(node(&[("a", inline, None)]));
    let resolved = resolve(&mut peers, root, "a/b").unwrap();
    assert_eq!(resolved.roots, [root, inline, file]);
    assert_eq!(peers.asked, [root, file]);
    // The CID that gateways are probed with.
    let probe = parse("bafkqaaa").unwrap();
    assert_eq!(resolve(&mut peers, probe, "").unwrap().kind, NodeKind::File { len_bytes: 0 });
    assert_eq!(peers.asked, []);
}

#[test]
fn a_block_of_structured_data_at_the_end_is_not_fetched() {
    let mut peers = peers();
    let data = peers.add(cbor(&ipld!([1])));
    let root = peers.add(node(&[("a", data, None)]));
    assert_eq!(resolve(&mut peers, root, "a").unwrap().cid, data);
    assert_eq!(peers.asked, [root]);
}

#[test]
fn names_are_left_to_others() {
    let path = ContentPath::parse("/ipns/docs.ipfs.tech/install").unwrap();
    let error = peers().run(&mut Resolver::new(&path)).unwrap_err();
    assert_eq!(error, ResolveError::Name { name: "docs.ipfs.tech".to_owned() });
}

#[test]
fn bad_blocks_on_the_way_are_named() {
    let mut peers = peers();
    for bad in [block(DAG_PB, vec![0xff]), block(DAG_CBOR, vec![0xa1])] {
        let bad = peers.add(bad);
        let root = peers.add(node(&[("a", bad, None)]));
        assert!(matches!(
            resolve(&mut peers, root, "a/b"),
            Err(ResolveError::Decode { cid, .. }) if cid == bad
        ));
    }
}

#[test]
fn a_file_tells_when_it_was_changed() {
    // Made by `ipfs add --preserve-mtime` of Kubo 0.43: "hello", at 2020-01-02T03:04:05.5Z and at 1969-12-31T00:00:00Z.
    let late = "0a180802120568656c6c6f1805420b08a5bbb5f0051500 65cd1d";
    let early = "0a180802120568656c6c6f1805420b0880ddfaffffffffffff01";
    let moment = |seconds: i64, nanos: u32| Mtime { seconds, nanos: Some(nanos) }.time();
    let day = Duration::from_secs(86_400);
    for (hex, expected) in [
        (late, SystemTime::UNIX_EPOCH + Duration::new(1_577_934_245, 500_000_000)),
        (early, SystemTime::UNIX_EPOCH - day),
    ] {
        let bytes = Base::Base16Lower.decode(hex.replace(' ', "")).unwrap();
        let block = Block::hash(Version::V0, DAG_PB, HashFunction::Sha2_256, bytes.into()).unwrap();
        let mut peers = peers();
        let file = peers.add(block);
        let root = directory(&mut peers, ImportOptions::default(), &[("a", file, 5)]);
        assert_eq!(resolve(&mut peers, root, "a").unwrap().attributes.modified(), Some(expected));
        assert_eq!(resolve(&mut peers, root, "").unwrap().attributes.modified(), None);
    }
    assert_eq!(moment(0, 999_999_999), Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(999_999_999)));
    assert_eq!(moment(0, 1_000_000_000), None);
}
