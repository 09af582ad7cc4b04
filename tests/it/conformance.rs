//! The gateway before the official suite: every case of every group, none left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cairn_tests::{Curl, Node, Peer, find, run};
use serde_json::json;

/// Cases of gateway-conformance v0.13.2; Kubo 0.43 passes as many.
const CASE_COUNT: usize = 893;

/// Records among the fixtures that no node may take: their signatures or fields are false.
const FALSE_RECORD_COUNT: usize = 3;

const DEADLINE: Duration = Duration::from_secs(300);

#[test]
fn every_case_of_the_conformance_suite_passes() {
    let Some(suite) = find(Peer::Conformance) else { return };
    let fixtures = suite.join("fixtures");
    let mut node = Node::cairn();
    load(&node, &fixtures);
    node.set(
        "Gateway.PublicGateways",
        json!({ "example.com": { "Paths": ["/ipfs", "/ipns"], "UseSubdomains": true } }),
    );
    node.set("Gateway.TrustedProxies", json!(["127.0.0.0/8"]));
    node.set("DNS.NameMap", json!(name_map(&fixtures)));
    // Content that is missing must stay missing.
    node.start_with(&["--offline"]);

    let port = node.port("Gateway server");
    let mut command = Command::new(suite.join("suite"));
    command
        .arg("-test.v=true")
        .current_dir(&suite)
        .env("GATEWAY_CONFORMANCE_HOME", &suite)
        .env("GATEWAY_URL", format!("http://127.0.0.1:{port}"))
        .env("SUBDOMAIN_GATEWAY_URL", format!("http://example.com:{port}"));
    let output = run(&mut command, DEADLINE);
    let report = String::from_utf8_lossy(&output.stdout);
    let cases = cases(&report);
    let failed: Vec<_> = cases.iter().filter(|(_, result)| **result != "PASS").collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}\n{report}", failed.len(), cases.len());
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(cases.len(), CASE_COUNT);
    refuses_what_the_suite_cannot_fail(port, &fixtures);
}

/// The suite asks for these, but it records no result of a check for a range of statuses.
fn refuses_what_the_suite_cannot_fail(port: u16, fixtures: &Path) {
    for path in files(fixtures, "ipns-record") {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("paths of tests are UTF-8");
        let Some((name, what)) = stem.split_once('_') else { continue };
        if matches!(what, "v1" | "v1-v2-broken-v1-value" | "v1-v2-broken-signature-v2") {
            assert_eq!(Curl::get(&format!("http://127.0.0.1:{port}/ipns/{name}")).status(), 500, "{what}");
        }
    }
    // Source: `fixtures/path_gateway_tar/outside-root.car`: a folder with a file called `../foo`.
    let outside = "bafybeicaj7kvxpcv4neaqzwhrqqmdstu4dhrwfpknrgebq6nzcecfucvyu";
    let status = Curl::get(&format!("http://127.0.0.1:{port}/ipfs/{outside}?format=tar")).status();
    assert_eq!(status, 500);
}

/// Brings the content and the records of the suite into the node.
fn load(node: &Node, fixtures: &Path) {
    let cars = files(fixtures, "car");
    let cars = cars.iter().map(|path| path.to_str().expect("paths of tests are UTF-8"));
    let import: Vec<_> = ["dag", "import", "--pin-roots=false"].into_iter().chain(cars).collect();
    node.run(&import).text();
    let refused = files(fixtures, "ipns-record").into_iter().filter(|path| {
        // A record is called by its name, and by what is the matter with it behind a line.
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("paths of tests are UTF-8");
        let key = format!("/ipns/{}", stem.split('_').next().unwrap_or_default());
        let path = path.to_str().expect("paths of tests are UTF-8");
        !node.run(&["routing", "put", "--allow-offline", &key, path]).status.success()
    });
    assert_eq!(refused.count(), FALSE_RECORD_COUNT);
}

/// The files below a folder that have that extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the suite can be read");
    let mut found: Vec<_> = entries
        .flat_map(|entry| {
            let path = entry.expect("a folder of the suite can be read").path();
            if path.is_dir() { files(&path, extension) } else { vec![path] }
        })
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// What the domains of the suite lead to, in the form of `IPFS_NS_MAP`. Its files hold pairs of lines `domain: …` and
/// `path: …`, each perhaps with a comment behind it.
fn name_map(fixtures: &Path) -> String {
    let mut pairs = Vec::new();
    let mut domain = String::new();
    for path in files(fixtures, "yml") {
        let text = fs::read_to_string(path).expect("a file of the suite can be read");
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("domain:"), Some(name)) => domain = name.to_owned(),
                (Some("path:"), Some(path)) => pairs.push(format!("{domain}:{path}")),
                _ => {}
            }
        }
    }
    assert!(!pairs.is_empty(), "the suite has domains");
    pairs.join(",")
}

/// The results of the tests that have no tests below them, from what Go's `-test.v` prints.
fn cases(report: &str) -> BTreeMap<&str, &str> {
    let results = report.lines().filter_map(|line| {
        let (result, name) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
        Some((name.rsplit_once(" (")?.0, result))
    });
    let results: BTreeMap<_, _> = results.collect();
    let parents: BTreeSet<_> =
        results.keys().flat_map(|name| name.match_indices('/').map(|(at, _)| &name[..at])).collect();
    results.into_iter().filter(|(name, _)| !parents.contains(name)).collect()
}
