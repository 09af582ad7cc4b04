//! The arrows between crates (docs/ARCHITECTURE.md), and what `proto` may pull in.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use cairn_tests::run;
use serde_json::Value;

/// What each member of the workspace may depend on among the others; `tests` and `benches`
/// may use all of them.
const ARROWS: [(&str, &[&str]); 7] = [
    ("cairn", &["cairn-gateway", "cairn-node", "cairn-proto", "cairn-rpc"]),
    ("cairn-benches", &["cairn-gateway", "cairn-node", "cairn-proto", "cairn-rpc", "cairn-tests"]),
    ("cairn-gateway", &["cairn-proto"]),
    ("cairn-node", &["cairn-proto"]),
    ("cairn-proto", &[]),
    ("cairn-rpc", &["cairn-node", "cairn-proto"]),
    ("cairn-tests", &["cairn-gateway", "cairn-node", "cairn-proto", "cairn-rpc"]),
];

/// Crates that `proto` is built from. One more is a decision: it belongs in a commit that says why.
const PROTO: [&str; 14] = [
    "bytes",
    "cid",
    "futures-core",
    "libp2p-identity",
    "multibase",
    "multihash",
    "multihash-codetable",
    "multihash-derive",
    "percent-encoding",
    "prost",
    "serde",
    "serde_json",
    "thiserror",
    "unsigned-varint",
];

/// Crates that bring a runtime, a socket or a disk. None may stand anywhere below `proto`.
const IMPURE: [&str; 9] =
    ["async-io", "async-std", "hyper", "libp2p", "mio", "rocksdb", "smol", "socket2", "tokio"];

#[test]
fn crates_depend_on_each_other_only_along_the_arrows() {
    let metadata = metadata();
    let members = members(&metadata);
    let found: BTreeMap<_, BTreeSet<_>> = members
        .iter()
        .map(|(name, package)| {
            let arrows = dependencies(package, None).filter(|other| members.contains_key(other));
            (*name, arrows.collect())
        })
        .collect();
    assert!(found.keys().eq(ARROWS.iter().map(|(name, _)| name)), "members: {:?}", found.keys());

    let undeclared: Vec<_> = ARROWS
        .iter()
        .flat_map(|(name, allowed)| {
            let arrows = found[name].iter().filter(|other| !allowed.contains(other));
            arrows.map(move |other| format!("{name} -> {other}"))
        })
        .collect();
    assert!(undeclared.is_empty(), "arrows that docs/ARCHITECTURE.md does not have: {undeclared:#?}");
}

#[test]
fn proto_is_built_from_these_crates_only() {
    let metadata = metadata();
    let found: BTreeSet<_> = dependencies(members(&metadata)["cairn-proto"], Some(None)).collect();
    let listed = BTreeSet::from(PROTO);
    let added: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(added.is_empty() && gone.is_empty(), "dependencies of proto: added={added:?} gone={gone:?}");
}

#[test]
fn nothing_below_proto_has_a_runtime_a_socket_or_a_disk() {
    let metadata = metadata();
    let nodes: BTreeMap<_, _> =
        list(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), node)).collect();
    let mut paths = vec![vec![text(&members(&metadata)["cairn-proto"]["id"])]];
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        let id = path[path.len() - 1];
        if !seen.insert(id) {
            continue;
        }
        for below in list(&nodes[id]["deps"]) {
            // What builds and tests it does not count.
            if list(&below["dep_kinds"]).any(|kind| kind["kind"].is_null()) {
                let path = [&path[..], &[text(&below["pkg"])]].concat();
                if IMPURE.contains(&text(&below["name"])) {
                    found.push(path.join("\n  -> "));
                }
                paths.push(path);
            }
        }
    }
    assert!(seen.len() > PROTO.len(), "the walk went below the direct dependencies");
    assert!(found.is_empty(), "impure crates below proto:\n{}", found.join("\n"));
}

/// What Cargo says about the workspace.
fn metadata() -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--locked", "--offline", "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    let output = run(&mut command, Duration::from_secs(60));
    serde_json::from_str(&output.text()).expect("cargo metadata prints JSON")
}

fn members(metadata: &Value) -> BTreeMap<&str, &Value> {
    let ids: BTreeSet<_> = list(&metadata["workspace_members"]).map(text).collect();
    let packages = list(&metadata["packages"]).filter(|package| ids.contains(text(&package["id"])));
    packages.map(|package| (text(&package["name"]), package)).collect()
}

/// Names of a package's direct dependencies: of every kind, or of one (`None` is the normal kind).
fn dependencies<'a>(package: &'a Value, kind: Option<Option<&'a str>>) -> impl Iterator<Item = &'a str> {
    let dependencies = list(&package["dependencies"]);
    dependencies
        .filter(move |dependency| kind.is_none_or(|kind| dependency["kind"].as_str() == kind))
        .map(|dependency| text(&dependency["name"]))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("cargo metadata has a list there").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata has a text there")
}
