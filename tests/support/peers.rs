//! Where the programs are that scenarios run: Cairn itself, the peers that `./dev peers` installs, plain tools.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;

/// A program that a scenario runs beside Cairn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `ipfs` of Kubo. `CAIRN_KUBO` overrides the path.
    Kubo,
    /// The folder with Helia's `node_modules`. `CAIRN_HELIA` overrides the path.
    Helia,
    /// The folder with the compiled suite of gateway-conformance and its fixtures. `CAIRN_CONFORMANCE` overrides the path.
    Conformance,
    /// The folder with `pebble` and `pebble-challtestsrv`. `CAIRN_PEBBLE` overrides the path.
    Pebble,
    /// The folder with axe-core's `node_modules`. `CAIRN_AXE` overrides the path.
    Axe,
    /// A browser without a screen. `CAIRN_CHROMIUM` overrides the path.
    Chromium,
}

/// The peer's path. Where it is absent, says so past the test harness and returns nothing: the test then passes,
/// unless `CAIRN_REQUIRE_PEERS` is set. The conformance suite is required only where its source can be had.
#[must_use]
pub fn find(peer: Peer) -> Option<PathBuf> {
    let (variable, candidates) = match peer {
        Peer::Kubo => ("CAIRN_KUBO", vec![cache().join("peers/kubo/ipfs")]),
        Peer::Helia => ("CAIRN_HELIA", vec![cache().join("peers/helia")]),
        Peer::Conformance => ("CAIRN_CONFORMANCE", vec![cache().join("peers/gateway-conformance")]),
        Peer::Pebble => ("CAIRN_PEBBLE", vec![cache().join("peers/pebble")]),
        Peer::Axe => ("CAIRN_AXE", vec![cache().join("peers/axe")]),
        Peer::Chromium => ("CAIRN_CHROMIUM", on_path(&["chromium", "chromium-browser", "google-chrome"])),
    };
    let candidates = env::var_os(variable).map_or(candidates, |path| vec![path.into()]);
    let found = candidates.iter().find(|path| path.exists());
    if found.is_none() {
        let message = format!("{peer:?} is absent, run ./dev peers or set {variable}, tried={candidates:?}");
        if peer == Peer::Conformance && env::var_os("CAIRN_CONFORMANCE_SOURCE").is_none() {
            say_skipped(&message);
        } else {
            skip(&message);
        }
    }
    found.cloned()
}

/// Says past the test harness that a test lacks something, or fails where `CAIRN_REQUIRE_PEERS` is set.
pub fn skip(message: &str) {
    assert!(env::var_os("CAIRN_REQUIRE_PEERS").is_none(), "{message}");
    say_skipped(message);
}

/// Says past the test harness that a test was skipped, for something that no machine can be made to have.
pub(crate) fn say_skipped(message: &str) {
    // println! would be captured with the output of a passing test.
    let _ = writeln!(std::io::stderr(), "skipped: {message}");
}

/// The `cairn` binary that was built beside this program. `CAIRN_BIN` overrides the path.
#[must_use]
pub fn cairn_binary() -> PathBuf {
    if let Some(path) = env::var_os("CAIRN_BIN") {
        return path.into();
    }
    let test = env::current_exe().expect("a process knows its executable");
    // A benchmark lies beside it, a test in `deps` below.
    let mut candidates = test.ancestors().skip(1).take(2).map(|folder| folder.join("cairn"));
    let found = candidates.find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no cairn beside {}: build the whole workspace", test.display()))
}

fn cache() -> PathBuf {
    env::var_os("CAIRN_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cache/cairn")))
        .expect("a home folder, or CAIRN_CACHE")
}

fn on_path(names: &[&str]) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    names.iter().flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name))).collect()
}
