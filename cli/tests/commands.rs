//! The program as a user runs it: with and without a daemon, on loopback, reaching nobody.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A repo of the profile `test`, and a folder beside it to work in.
struct Repo {
    folder: tempfile::TempDir,
}

impl Repo {
    fn new() -> Self {
        let repo = Self::empty();
        assert_eq!(repo.ok(["init", "--profile=test"]).lines().count(), 3);
        repo
    }

    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    fn work(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command
            .args(args)
            .env("CAIRN_PATH", self.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; gives its output.
    fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail; gives its error.
    fn fail<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.run(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.starts_with("Error: "), "{error}");
        error
    }

    /// A small tree whose CIDs Kubo gave.
    fn tree(&self) -> PathBuf {
        let top = self.work("d");
        fs::create_dir_all(top.join("sub")).unwrap();
        fs::write(top.join("a.txt"), "hello\n").unwrap();
        fs::write(top.join("sub/b c+d.txt"), "b b\n").unwrap();
        symlink("a.txt", top.join("link")).unwrap();
        top
    }
}

// Source: `ipfs add -r --cid-version=1` of Kubo 0.43.
const TREE: &str = "bafybeiengjoanobo7tekl6ehj6jztzwkhpebl5zomynm6iwjc56uwwl33y";
const TREE_LINES: &str = "\
added bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am d/a.txt
added bafybeibysfkbozujnkzmx63h6nk4td2kmqcyhxhq67adb6vgr3mis24ble d/link
added bafkreiberyqzxy3zvi7uxvozxa3yr4v2uivixddus45gyjmlnl3v6vsvo4 d/sub/b c+d.txt
added bafybeihtyb2cqrzhi2iux4borc7t7jkdylkvvqgevqrgzzkectvlatmvsy d/sub
added bafybeiengjoanobo7tekl6ehj6jztzwkhpebl5zomynm6iwjc56uwwl33y d
";
/// A block that nobody has.
const NOWHERE: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

/// A daemon that is ready. It is killed when it is dropped.
struct Daemon {
    child: Child,
    lines: Vec<String>,
    rest: BufReader<ChildStdout>,
}

impl Daemon {
    fn start(repo: &Repo, args: &[&str]) -> Self {
        let mut command = repo.command(["daemon"].iter().chain(args));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let rest = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Self { child, lines: Vec::new(), rest };
        while daemon.lines.last().is_none_or(|line| line != "Daemon is ready") {
            let mut line = String::new();
            assert_ne!(daemon.rest.read_line(&mut line).unwrap(), 0, "the daemon ended: {:?}", daemon.lines);
            daemon.lines.push(line.trim_end().to_owned());
        }
        daemon
    }

    fn signal(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for its end; gives what it printed since it was ready.
    fn wait(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.rest.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn same(a: &Path, b: &Path) {
    assert!(Command::new("diff").args(["-r", "--no-dereference"]).arg(a).arg(b).status().unwrap().success());
}

/// What works the same with and without a daemon.
fn add_and_read_back(repo: &Repo) {
    let tree = repo.tree();
    assert_eq!(repo.ok(["add", "-r", "d"]), TREE_LINES);
    assert_eq!(repo.ok(["add", "-rQ", "d"]), format!("{TREE}\n"));
    assert_eq!(repo.ok(["cat", &format!("{TREE}/sub/b c+d.txt")]), "b b\n");
    assert_eq!(repo.ok(["cat", "-o", "1", "-l", "3", &format!("/ipfs/{TREE}/a.txt")]), "ell");
    let listing = repo.ok(["ls", TREE]);
    assert!(
        listing.ends_with("bafybeihtyb2cqrzhi2iux4borc7t7jkdylkvvqgevqrgzzkectvlatmvsy - sub/\n"),
        "{listing}"
    );
    repo.ok(["get", TREE, "-o", "copy"]);
    same(&tree, &repo.work("copy"));
    assert!(repo.fail(["get", TREE, "-o", "copy"]).contains("--force"));
    assert_eq!(repo.ok(["pin", "ls", "-t", "recursive"]), format!("{TREE} recursive\n"));
    assert_eq!(repo.ok(["refs", TREE]).lines().count(), 3);
    assert!(repo.ok(["dag", "stat", "--progress=false", TREE]).contains("Unique Blocks: 5"));

    let car = repo.run(["dag", "export", TREE]).stdout;
    fs::write(repo.work("tree.car"), &car).unwrap();
    let imported = repo.ok(["dag", "import", "--stats", "tree.car"]);
    assert_eq!(imported, format!("Pinned root\t{TREE}\tsuccess\nImported 5 blocks (226 bytes)\n"));

    let block = repo.run(["block", "get", TREE]).stdout;
    assert_eq!(repo.ok(["block", "stat", TREE]), format!("Key: {TREE}\nSize: {}\n", block.len()));
    let refused = repo.run(["block", "rm", TREE]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().ends_with("Error: some blocks not removed\n"));

    assert_eq!(repo.ok(["pin", "rm", TREE]), format!("unpinned {TREE}\n"));
    assert!(repo.fail(["pin", "rm", TREE]).contains("not pinned"));
    assert_eq!(repo.ok(["repo", "gc", "-q"]).lines().count(), 5);
    assert!(repo.ok(["repo", "stat"]).contains("NumObjects: 0\n"));
    fs::remove_dir_all(repo.work("copy")).unwrap();
}

#[test]
fn content_is_added_and_read_back_without_a_daemon() {
    let repo = Repo::new();
    add_and_read_back(&repo);
    let error = repo.fail(["cat", NOWHERE]);
    assert!(error.contains(NOWHERE) && error.contains("start `cairn daemon`"), "{error}");
    assert!(repo.fail(["swarm", "peers"]).contains("cairn daemon"));
    assert!(repo.fail(["shutdown"]).contains("not running"));
}

#[test]
fn content_is_added_and_read_back_through_a_daemon() {
    let repo = Repo::new();
    let daemon = Daemon::start(&repo, &[]);
    add_and_read_back(&repo);
    assert_eq!(repo.ok(["swarm", "peers"]), "");
    assert!(repo.ok(["id", "-f", "<addrs>"]).contains("/ip4/127.0.0.1/tcp/"));
    assert!(repo.ok(["bitswap", "stat"]).starts_with("bitswap status\n"));
    assert!(repo.fail(["--timeout=100ms", "cat", NOWHERE]).contains("timeout=100ms"));
    assert!(repo.fail(["--offline", "cat", NOWHERE]).contains(NOWHERE));
    assert!(repo.fail(["daemon"]).contains("a daemon runs already"));
    repo.ok(["shutdown"]);
    assert_eq!(daemon.wait().0, Some(0));
}

// Source of the lines: js-ipfsd-ctl and Kubo 0.43.
#[test]
fn a_daemon_prints_the_lines_that_programs_wait_for_and_leaves_no_address_behind() {
    let repo = Repo::new();
    let daemon = Daemon::start(&repo, &[]);
    let starts = [
        "Initializing daemon...",
        "Cairn version: ",
        "Repo version: ",
        "System version: ",
        "PeerID: 12D3KooW",
        "Swarm listening on 127.0.0.1:",
        "Swarm listening on 127.0.0.1:",
        "Run 'cairn id' ",
        "RPC API server listening on /ip4/127.0.0.1/tcp/",
        "Gateway server listening on /ip4/127.0.0.1/tcp/",
        "Gateway (HTTPS) listening on /ip4/127.0.0.1/tcp/",
        "Web address: https://localhost:",
        "Certificate authority for browsers and curl: ",
        "Daemon is ready",
    ];
    assert_eq!(daemon.lines.len(), starts.len(), "{:?}", daemon.lines);
    for (line, start) in daemon.lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    let api = fs::read_to_string(repo.path().join("api")).unwrap();
    assert!(daemon.lines[8].ends_with(&api), "{api}");
    let gateway = fs::read_to_string(repo.path().join("gateway")).unwrap();
    assert!(gateway.starts_with("http://127.0.0.1:"), "{gateway}");

    daemon.signal();
    let (code, text) = daemon.wait();
    assert_eq!(code, Some(0));
    assert!(text.starts_with("Received interrupt signal"), "{text}");
    assert!(!repo.path().join("api").exists() && !repo.path().join("gateway").exists());
}

#[test]
fn a_daemon_makes_a_repo_where_there_is_none() {
    let repo = Repo::empty();
    let daemon = Daemon::start(&repo, &["--offline", "--init-profile=test"]);
    assert!(daemon.lines.contains(&"Swarm not listening, running in offline mode.".to_owned()));
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(repo.path()), 0o700);
    assert_eq!(mode(repo.path().join("config")), 0o600);
}

#[test]
fn an_address_left_over_by_a_daemon_that_died_is_no_obstacle() {
    let repo = Repo::new();
    drop(Daemon::start(&repo, &["--offline"]));
    assert!(repo.path().join("api").exists());
    assert_eq!(repo.ok(["repo", "stat", "-s"]).lines().count(), 2);
}

#[test]
fn a_repo_that_another_process_has_open_is_refused() {
    let repo = Repo::new();
    let _daemon = Daemon::start(&repo, &["--offline"]);
    fs::remove_file(repo.path().join("api")).unwrap();
    let error = repo.fail(["repo", "stat"]);
    assert!(error.contains("in use"), "{error}");
}

#[test]
fn a_port_in_use_names_the_key_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    for key in ["Addresses.API", "Addresses.Gateway", "Addresses.GatewayTLS"] {
        let repo = Repo::new();
        repo.ok(["config", key, &address]);
        let error = repo.fail(["daemon", "--offline"]);
        assert!(error.contains(&address) && error.contains(&format!("cairn config {key}")), "{error}");
        assert!(!repo.path().join("api").exists());
    }
}

#[test]
fn a_command_without_a_repo_says_how_to_make_one() {
    let repo = Repo::empty();
    assert!(repo.fail(["id"]).contains("cairn init"));
    repo.ok(["init", "--profile=test", "--empty-repo", "--algorithm=ed25519", "--bits=2048"]);
    assert!(repo.fail(["init"]).contains("exists already"));
    assert!(repo.fail(["init", "--algorithm=rsa"]).contains("ed25519"));
    assert!(repo.ok(["id", "-f", "<id>\\n"]).starts_with("12D3KooW"));
}

#[test]
fn the_environment_goes_before_the_file_and_is_never_written_to_it() {
    let repo = Repo::new();
    fs::write(repo.work("f"), "hello world").unwrap();
    let before = fs::read(repo.path().join("config")).unwrap();
    let mut command = repo.command(["add", "-q", "f"]);
    let output = command.env("CAIRN_CONFIG__Import__CidVersion", "0").output().unwrap();
    // Source: kubo's golden vectors of both profiles.
    assert_eq!(output.stdout, b"Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD\n");
    assert_eq!(repo.ok(["add", "-q", "f"]), format!("{NOWHERE}\n"));
    let output =
        repo.command(["id"]).env("CAIRN_CONFIG__Swarm__ConnMgr__HighWater", "many").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("Swarm.ConnMgr.HighWater"));
    assert_eq!(fs::read(repo.path().join("config")).unwrap(), before);
}

#[test]
fn the_configuration_is_shown_and_set_by_keys() {
    let repo = Repo::new();
    assert_eq!(repo.ok(["config", "Swarm.ConnMgr.HighWater", "32", "--json"]), "");
    assert_eq!(repo.ok(["config", "Swarm.ConnMgr.HighWater"]), "32\n");
    assert_eq!(repo.ok(["config", "--bool", "Discovery.MDNS.Enabled", "false"]), "");
    assert!(repo.fail(["config", "Swarm.ConnMgr.HighWater", "32"]).contains("maybe use --json?"));
    assert!(repo.fail(["config", "No.Such.Key"]).contains("not found"));
    assert!(repo.fail(["config", "Identity.PrivKey"]).contains("not found"));
    assert!(!repo.ok(["config", "show"]).contains("PrivKey"));
    assert!(
        repo.ok(["config", "profile", "apply", "lowpower", "--dry-run"])
            .contains("+ Routing.Type: \"autoclient\"")
    );
    repo.ok(["config", "profile", "apply", "unixfs-v0-2015"]);
    assert_eq!(repo.ok(["config", "Import.UnixFSChunker"]), "size-262144\n");

    let id = repo.ok(["id", "-f", "<id>"]);
    fs::write(repo.work("new.json"), r#"{ "Bootstrap": [], "Mine": { "Kept": 1 } }"#).unwrap();
    repo.ok(["config", "replace", "new.json"]);
    assert_eq!(repo.ok(["config", "Mine.Kept"]), "1\n");
    assert_eq!(repo.ok(["id", "-f", "<id>"]), id);
}

#[test]
fn an_editor_changes_the_configuration_only_when_it_stays_valid() {
    let repo = Repo::new();
    let edit = |script: &str| {
        repo.command(["config", "edit"]).env_remove("VISUAL").env("EDITOR", script).output().unwrap()
    };
    assert!(edit("sed -i 's/\"Import\": {}/\"Import\": { \"CidVersion\": 0 }/'").status.success());
    assert_eq!(repo.ok(["config", "Import.CidVersion"]), "0\n");
    assert!(!edit("sed -i 's/\"CidVersion\": 0/\"CidVersion\": 9/'").status.success());
    assert!(!edit("false").status.success());
    assert_eq!(repo.ok(["config", "Import.CidVersion"]), "0\n");
    assert_eq!(
        fs::read_dir(repo.path())
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".json") })
            .count(),
        0
    );
}

#[test]
fn names_are_escaped_before_they_reach_a_terminal() {
    let repo = Repo::new();
    let folder = repo.work("d");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a\u{1b}[31m\nb\u{202e}"), "x").unwrap();
    let shown = "a\\x1b[31m\\nb\\u{202e}";
    let added = repo.ok(["add", "-r", "d"]);
    assert!(added.contains(shown), "{added}");
    let root = added.lines().last().unwrap().split(' ').nth(1).unwrap();
    assert!(repo.ok(["ls", root]).contains(shown));
    assert!(repo.ok(["refs", "--format=<linkname>", root]).contains(shown));
    let error = repo.fail(["cat", &format!("{root}/\u{1b}[2J")]);
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn add_has_the_flags_that_scripts_use() {
    let repo = Repo::new();
    repo.tree();
    assert_eq!(repo.ok(["add", "-q", "-r", "d"]).lines().last(), Some(TREE));
    assert_eq!(repo.ok(["add", "--silent", "-r", "d"]), "");
    let wrapped = repo.ok(["add", "-w", "d/a.txt"]);
    assert_eq!(wrapped.lines().count(), 2);
    assert!(wrapped.ends_with(" \n"), "the wrapping directory has no name: {wrapped:?}");
    assert!(repo.fail(["add", "d"]).contains("use the '-r' flag"));
    assert!(repo.fail(["add", "none"]).contains("\"none\""));
    assert!(repo.fail(["add", "/dev/null"]).contains("unrecognized file type"));
    assert!(repo.fail(["add", "--chunker=size-0", "d/a.txt"]).contains("chunk"));
    // Source: `ipfs add` of Kubo 0.43 of the same file.
    assert_eq!(
        repo.ok(["add", "-Q", "--cid-version=0", "d/a.txt"]),
        "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN\n"
    );
    let json = repo.ok(["--enc=json", "add", "-q", "--pin=false", "d/a.txt"]);
    let last = json.lines().last().unwrap();
    assert_eq!(
        last,
        r#"{"Name":"a.txt","Hash":"bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am","Size":"6"}"#
    );

    let fresh = Repo::new();
    fresh.tree();
    fresh.ok(["add", "-n", "-r", "d"]);
    assert!(fresh.ok(["repo", "stat"]).contains("NumObjects: 0\n"));

    let mut child = repo.command(["add", "-Q"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello world").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, format!("{NOWHERE}\n").into_bytes());
}

#[test]
fn an_archive_is_made_on_demand() {
    let repo = Repo::new();
    repo.tree();
    repo.ok(["add", "-r", "d"]);
    assert_eq!(repo.ok(["get", "-a", "-o", "d2", TREE]), "Saving archive to d2.tar\n");
    assert_eq!(repo.ok(["get", "-aC", "-o", "d2", TREE]), "Saving archive to d2.tar.gz\n");
    for archive in ["d2.tar", "d2.tar.gz"] {
        assert!(
            Command::new("tar")
                .arg("xf")
                .arg(archive)
                .current_dir(repo.folder.path())
                .status()
                .unwrap()
                .success()
        );
        same(&repo.work("d"), &repo.work(TREE));
        fs::remove_dir_all(repo.work(TREE)).unwrap();
    }
    assert_eq!(repo.ok(["get", "-C", &format!("{TREE}/a.txt")]), "Saving archive to a.txt.gz\n");
    assert_eq!(Command::new("zcat").arg(repo.work("a.txt.gz")).output().unwrap().stdout, b"hello\n");
}

#[test]
fn an_interrupted_get_leaves_nothing_behind() {
    let repo = Repo::new();
    let daemon = Daemon::start(&repo, &[]);
    let mut child = repo.command(["get", "-o", "out", NOWHERE]).stderr(Stdio::piped()).spawn().unwrap();
    // The folder in which the target is made is there once the command waits for content.
    let has_staging = || {
        let names = fs::read_dir(repo.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.into_iter().any(|name| name.to_string_lossy().starts_with(".cairn-get-"))
    };
    while !has_staging() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(1), "Error: interrupted\n"));
    assert!(!has_staging() && !repo.work("out").exists());
    drop(daemon);
}

#[test]
fn every_command_has_help_and_completions_name_it() {
    let repo = Repo::empty();
    let commands = repo.ok(["commands"]);
    assert!(commands.lines().count() > 40, "{commands}");
    for command in commands.lines() {
        let words = command.split(' ').skip(1).chain(["--help"]);
        assert!(repo.ok(words).contains("Usage: cairn"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = repo.ok(["completion", shell]);
        assert!(script.contains("bitswap"), "{shell}");
        assert_eq!(script, repo.ok(["commands", "completion", shell]));
    }
}

#[test]
fn output_that_nobody_reads_ends_the_command_quietly() {
    let repo = Repo::new();
    fs::write(repo.work("big"), vec![7; 4_000_000]).unwrap();
    let cid = repo.ok(["add", "-Q", "big"]);
    let mut child =
        repo.command(["cat", cid.trim()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
