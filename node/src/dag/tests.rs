use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::cid::Cid;
use cairn_proto::content::{DagScope, NodeKind, SessionOptions};
use cairn_proto::path::ContentPath;
use cairn_proto::unixfs::Attributes;
use cairn_proto::unixfs::import::{Chunker, FileBuilder, ImportOptions, Profile, leaf};
use futures::{StreamExt as _, TryStreamExt as _};
use libp2p::identity::Keypair;
use tempfile::TempDir;

use super::*;
use crate::builder::Builder;
use crate::pins::PinKind;
use crate::settings::{Settings, StoreSettings};
use crate::{Kind, Node};

async fn offline_node(repo: PathBuf) -> Node {
    node_without(repo, Vec::new()).await
}

/// A node that does not serve what the lists of some folders forbid.
async fn node_without(repo: PathBuf, denylists: Vec<PathBuf>) -> Node {
    let settings = Settings {
        repo,
        identity: Keypair::generate_ed25519(),
        store: StoreSettings::default(),
        swarm: None,
        upstream: None,
        routers: Vec::new(),
        retrieval: None,
        provide: crate::provide::ProvideSettings::default(),
        dns: crate::names::DnsSettings::default(),
        block_timeout: Duration::from_secs(1),
        denylists,
    };
    Builder::new(settings).open().await.unwrap()
}

fn options(profile: Profile) -> AddOptions {
    AddOptions {
        import: ImportOptions::from_profile(profile),
        pin: true,
        pin_name: None,
        wrap: false,
        wrap_attributes: Attributes::default(),
        only_hash: false,
    }
}

/// Adds files and returns the root and the paths in the order of their events.
async fn add(node: &Node, options: AddOptions, files: &[(&str, &[u8])]) -> (Cid, Vec<(String, Cid)>) {
    let (mut adder, mut events) = node.add(options);
    let reader = tokio::spawn(async move {
        let mut added = Vec::new();
        while let Some(event) = events.recv().await {
            if let AddEvent::Added { path, cid, .. } = event {
                added.push((path, cid));
            }
        }
        added
    });
    for &(path, content) in files {
        let mut content = content;
        adder.file(path, Attributes::default(), &mut content).await.unwrap();
    }
    let root = adder.finish().await.unwrap();
    (root, reader.await.unwrap())
}

async fn read(node: &Node, path: &str) -> crate::Result<Vec<u8>> {
    let session = node.session(SessionOptions::default());
    let resolved = session.resolve(&ContentPath::parse(path).unwrap()).await?;
    let NodeKind::File { len_bytes } = resolved.kind else { panic!("not a file: {resolved:?}") };
    let pieces: Vec<Bytes> = session.bytes(&resolved.cid, 0..len_bytes).try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_gets_the_cids_of_kubo_and_reads_back() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("repo")).await;
    let files: [(&str, &[u8]); 3] =
        [("site/a.txt", b"hello world"), ("site/sub/b.txt", b"b\n"), ("site/empty", b"")];
    let (root, added) = add(&node, options(Profile::UnixfsV0_2015), &files).await;
    // From `ipfs add -r` of Kubo 0.43 with its profile unixfs-v0-2015.
    assert_eq!(root.to_string(), "Qmbey6dbxS8hzKxBkYLVAHCo2aVCNH9frjcQ8PU5vHyA2C");
    assert_eq!(added.last(), Some(&("site".to_owned(), root)));
    let paths: Vec<&str> = added.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["site/a.txt", "site/sub/b.txt", "site/empty", "site/sub", "site"]);
    for (path, content) in files {
        let path = path.replace("site", &root.to_string());
        assert_eq!(read(&node, &path).await.unwrap(), content, "{path}");
    }
    let missing = read(&node, &format!("{root}/none")).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_added_survives_a_restart_and_a_collection() {
    let dir = TempDir::new().unwrap();
    let content = vec![7; 3 << 20];
    let node = offline_node(dir.path().join("repo")).await;
    let (root, _) = add(&node, options(Profile::UnixfsV1_2025), &[("big", &content)]).await;
    let unpinned = AddOptions { pin: false, ..options(Profile::UnixfsV1_2025) };
    let (loose, _) = add(&node, unpinned, &[("loose", b"loose")]).await;
    node.shutdown().await.unwrap();
    drop(node);

    let node = offline_node(dir.path().join("repo")).await;
    let mut removed = Vec::new();
    node.collect(|cid| removed.push(cid)).await.unwrap();
    assert_eq!(removed, [loose]);
    assert_eq!(read(&node, &root.to_string()).await.unwrap(), content);
    assert_eq!(read(&node, &loose.to_string()).await.unwrap_err().kind(), Kind::NotLocal);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_hash_stores_nothing() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("repo")).await;
    let hash = AddOptions { only_hash: true, ..options(Profile::UnixfsV1_2025) };
    let (root, _) = add(&node, hash, &[("", b"hello world")]).await;
    // Source: IPIP-499.
    assert_eq!(root.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    assert_eq!(node.store().stat().block_count, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_file_stands_under_its_name() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("repo")).await;
    let wrap = AddOptions { wrap: true, ..options(Profile::UnixfsV1_2025) };
    let (root, added) = add(&node, wrap, &[("a", b"hello world")]).await;
    assert_eq!(added.last(), Some(&(String::new(), root)));
    assert_eq!(read(&node, &format!("/ipfs/{root}/a")).await.unwrap(), b"hello world");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_leave_the_tree_or_meet_are_refused() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("repo")).await;
    let (mut adder, _events) = node.add(options(Profile::UnixfsV1_2025));
    for path in ["../x", "a/../x", "/x", "a//x", "a/."] {
        let refused = adder.file(path, Attributes::default(), &mut &b"x"[..]).await;
        assert_eq!(refused.unwrap_err().kind(), Kind::Invalid, "{path}");
    }
    adder.file("a", Attributes::default(), &mut &b"x"[..]).await.unwrap();
    let refused = adder.file("a/b", Attributes::default(), &mut &b"x"[..]).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Invalid);
    drop(adder);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_car_carries_a_dag_to_another_repo() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("one")).await;
    let content = vec![5; 2_500_000];
    let (root, _) = add(&node, options(Profile::UnixfsV1_2025), &[("d/x", &content), ("d/y", b"y")]).await;
    let path = ContentPath::from_cid(root);
    let session = node.session(SessionOptions::default());
    let pieces: Vec<Bytes> = session.car(&path, DagScope::All.into()).try_collect().await.unwrap();
    let car = pieces.concat();

    let other = offline_node(dir.path().join("two")).await;
    let mut import = other.import_car(&car[..], true);
    let mut roots = Vec::new();
    while let Some(event) = import.next().await.unwrap() {
        if let ImportEvent::Root { cid, pin_error } = event {
            assert_eq!(pin_error, "");
            roots.push(cid);
        }
    }
    assert_eq!(roots, [root]);
    assert_eq!(read(&other, &format!("{root}/x")).await.unwrap(), content);
    let pin = other.pins().get(&root).unwrap().unwrap();
    assert_eq!(pin.kind, PinKind::Recursive);
    let torn = other.import_car(&car[..car.len() - 1], true).next().await.unwrap_err();
    assert_eq!(torn.kind(), Kind::Corrupt);
    node.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn references_come_in_the_order_of_the_links() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("repo")).await;
    let files: [(&str, &[u8]); 3] = [("d/a", b"1"), ("d/b/c", b"2"), ("d/e", b"1")];
    let (root, _) = add(&node, options(Profile::UnixfsV1_2025), &files).await;
    let names = async |max_depth, unique| {
        let session = node.session(SessionOptions::default());
        let references =
            session.references(&root, max_depth, unique).map(|reference| reference.unwrap().name);
        references.collect::<Vec<_>>().await
    };
    assert_eq!(names(Some(1), false).await, ["a", "b", "e"]);
    assert_eq!(names(None, false).await, ["a", "b", "c", "e"]);
    assert_eq!(names(None, true).await, ["a", "b", "c"]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_file_is_what_it_is_as_a_stream_whatever_cuts_it() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("repo")).await;
    let content: Vec<u8> = (0..(9u32 << 20))
        .map(|at| u8::try_from((at ^ (at >> 9).wrapping_mul(2_654_435_761)) % 251).unwrap())
        .collect();
    std::fs::write(dir.path().join("file"), &content).unwrap();
    for chunker in ["size-1048576", "rabin", "buzhash", "rabin-1000-2000-2096896"] {
        let mut options = options(Profile::UnixfsV1_2025);
        options.import.chunker = Chunker::parse(chunker).unwrap();
        let (mut adder, mut events) = node.add(options.clone());
        let drained = tokio::spawn(async move { while events.recv().await.is_some() {} });
        let source = std::fs::File::open(dir.path().join("file")).unwrap();
        adder.local_file("file", Attributes::default(), source).await.unwrap();
        let root = adder.finish().await.unwrap();
        drained.await.unwrap();
        let mut whole = FileBuilder::new(options.import.clone());
        for chunk in options.import.chunker.chunks(&content) {
            whole.push(leaf(&options.import, Bytes::copy_from_slice(chunk)).unwrap()).unwrap();
        }
        assert_eq!(root, whole.finish().unwrap().cid, "{chunker}");
        assert_eq!(root, add(&node, options, &[("file", &content)]).await.0, "{chunker}");
        assert_eq!(read(&node, &root.to_string()).await.unwrap(), content);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_what_is_here_reads_no_leaf_and_counts_all() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("repo")).await;
    let content: Vec<u8> = (0..(3u32 << 20)).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
    let unpinned = AddOptions { pin: false, ..options(Profile::UnixfsV1_2025) };
    let (root, _) = add(&node, unpinned, &[("d/big", &content), ("d/small", b"small")]).await;
    let session = node.session(SessionOptions::default());
    let mut last = (0, 0);
    session.fetch_dag(&root, |block_count, block_bytes| last = (block_count, block_bytes)).await.unwrap();
    let stat = session.stat(&root).await.unwrap();
    assert_eq!(last, (stat.block_count, stat.block_bytes));

    let path = ContentPath::from_cid(root);
    let pin = node.pin_add(&path, PinKind::Recursive, None, SessionOptions::default(), |_, _| ());
    assert_eq!(pin.await.unwrap(), root);
    let mut told = false;
    session.fetch_dag(&root, |block_count, _| told |= block_count > 0).await.unwrap();
    assert!(!told, "what a pin keeps is not walked");
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_torn_car_gives_its_whole_blocks_and_says_where_it_broke() {
    let dir = TempDir::new().unwrap();
    let node = offline_node(dir.path().join("repo")).await;
    let content: Vec<u8> = (0..(9u32 << 20)).map(|byte| u8::try_from(byte % 241).unwrap()).collect();
    let (root, _) = add(&node, options(Profile::UnixfsV1_2025), &[("file", &content)]).await;
    let pieces =
        node.session(SessionOptions::default()).car(&ContentPath::from_cid(root), DagScope::All.into());
    let car = pieces.try_collect::<Vec<_>>().await.unwrap().concat();
    node.shutdown().await.unwrap();
    // Nine chunks follow the root; the last one lacks its last byte, or the fifth has a wrong one.
    let mut false_block = car.clone();
    false_block[5 << 20] ^= 1;
    for (name, torn, whole_count) in [("torn", &car[..car.len() - 1], 9), ("false", &false_block[..], 5)] {
        let node = offline_node(dir.path().join(name)).await;
        let mut import = node.import_car(torn, true);
        let error = loop {
            match import.next().await {
                Ok(Some(ImportEvent::Progress { .. })) => {}
                Ok(other) => panic!("{name}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), Kind::Corrupt, "{name}");
        assert!(error.to_string().contains("offset="), "{name}: {error}");
        assert!(error.to_string().contains(&format!("block_count={whole_count}")), "{name}: {error}");
        assert_eq!(node.store().stat().block_count, whole_count, "{name}");
        node.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_denied_is_not_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let (lists, source) = (folder.path().join("lists"), offline_node(folder.path().join("a")).await);
    let content = vec![7; 300_000];
    let (root, _) = add(&source, options(Profile::UnixfsV0_2015), &[("file", &content)]).await;
    let references = source.session(SessionOptions::default()).references(&root, None, false);
    let leaf = references.try_collect::<Vec<_>>().await.unwrap()[0].child;
    let car: Vec<Bytes> = source
        .session(SessionOptions::default())
        .car(&ContentPath::from_cid(root), DagScope::All.into())
        .try_collect()
        .await
        .unwrap();
    std::fs::create_dir(&lists).unwrap();
    // The root, and a block below it.
    for (index, denied) in [root, leaf].into_iter().enumerate() {
        std::fs::write(lists.join("own.deny"), format!("/ipfs/{denied}\n")).unwrap();
        let node = node_without(folder.path().join(format!("b{index}")), vec![lists.clone()]).await;
        let (mut adder, _events) = node.add(options(Profile::UnixfsV0_2015));
        let added = async {
            adder.file("file", Attributes::default(), &mut content.as_slice()).await?;
            adder.finish().await
        };
        let refused = added.await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Blocked);
        assert!(refused.to_string().contains(&denied.to_string()), "{refused}");
        let car = car.concat();
        let mut import = node.import_car(car.as_slice(), true);
        let refused = loop {
            match import.next().await {
                Ok(event) => assert!(event.is_some(), "the import ended"),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), Kind::Blocked);
        assert!(node.store().get(&denied).unwrap().is_none());
    }
}
