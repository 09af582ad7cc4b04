//! Plain tools whose word counts more than ours: curl, OpenSSL, a browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::peers::{self, Peer};
use crate::process::run;

const DEADLINE: Duration = Duration::from_secs(120);

/// SHA-256 of a file in hexadecimal, by OpenSSL.
#[must_use]
pub fn sha256_of(path: &Path) -> String {
    let output = run(Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(path), DEADLINE);
    output.text().split(' ').next().unwrap_or_default().to_owned()
}

/// An HTTP request by curl.
#[derive(Debug)]
pub struct Curl {
    args: Vec<String>,
}

impl Curl {
    /// A GET of `url`.
    #[must_use]
    pub fn get(url: &str) -> Self {
        Self { args: vec!["--silent".into(), "--show-error".into(), url.into()] }
    }

    /// Adds arguments of curl.
    #[must_use]
    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// The body, after checking that the status is `status`.
    #[must_use]
    pub fn body(self, status: u16) -> Vec<u8> {
        // The status goes to stderr, so that the body stays as it is.
        let curl = self.with(&["--write-out", "%{stderr}%{http_code}"]);
        let output = run(Command::new("curl").args(&curl.args), DEADLINE);
        assert_eq!(output.stderr, status.to_string(), "curl {:?}: {:?}", curl.args, output.status);
        output.stdout
    }

    /// The status line and headers, names in lower case.
    #[must_use]
    pub fn headers(self) -> String {
        let curl = self.with(&["--output", "/dev/null", "--dump-header", "-"]);
        let text = run(Command::new("curl").args(&curl.args), DEADLINE).text();
        let lower = |line: &str| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {}\n", name.to_ascii_lowercase(), value.trim_end()),
            None => format!("{}\n", line.trim_end()),
        };
        text.lines().map(lower).collect()
    }

    /// The status.
    #[must_use]
    pub fn status(self) -> u16 {
        let curl = self.with(&["--output", "/dev/null", "--write-out", "%{http_code}"]);
        let text = run(Command::new("curl").args(&curl.args), DEADLINE).text();
        text.parse().expect("curl prints a status")
    }

    /// The exit code of curl.
    #[must_use]
    pub fn exit_code(self) -> Option<i32> {
        run(Command::new("curl").args(&self.args), DEADLINE).status.code()
    }
}

/// The page at `url` as a browser has it when its scripts have run, where the browser trusts nothing beyond its own
/// list but the certificates in `authority`. Nothing, and a line that says so, where no browser is.
#[must_use]
pub fn browse(url: &str, authority: &Path) -> Option<String> {
    let chromium = peers::find(Peer::Chromium)?;
    let home = tempfile::Builder::new().prefix("cairn-browser-").tempdir().expect("a temporary folder");
    let trusted = home.path().join(".pki/nssdb");
    std::fs::create_dir_all(&trusted).expect("a folder can be created");
    let database = format!("sql:{}", trusted.display());
    let mut certutil = Command::new("certutil");
    certutil.args(["-d", &database, "-N", "--empty-password"]);
    run(&mut certutil, DEADLINE).text();
    let mut certutil = Command::new("certutil");
    certutil.args(["-d", &database, "-A", "-n", "cairn", "-t", "C,,", "-i"]).arg(authority);
    run(&mut certutil, DEADLINE).text();

    let mut command = Command::new(chromium);
    command.env("HOME", home.path()).args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-sync",
        // Nothing but this machine is looked up.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", home.path().join("profile").display())).arg(url);
    Some(run(&mut command, DEADLINE).text())
}
