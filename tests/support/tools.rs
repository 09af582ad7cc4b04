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

    let profile = home.path().join("profile");
    let mut command = headless(&chromium, home.path());
    command.arg(format!("--user-data-dir={}", profile.display())).arg(url);
    Some(run(&mut command, DEADLINE).text())
}

/// A browser that prints a page when its scripts have run, and looks up nothing but this machine.
fn headless(chromium: &Path, home: &Path) -> Command {
    let mut command = Command::new(chromium);
    command.env("HOME", home).args([
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
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost",
        "--dump-dom",
    ]);
    command
}

/// What axe-core says against a page: rules and the markup that breaks them. Nothing, and a line that says so, where it or a
/// browser is absent.
#[must_use]
pub fn audit(html: &str) -> Option<Vec<String>> {
    let chromium = peers::find(Peer::Chromium)?;
    let axe = peers::find(Peer::Axe)?.join("node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(axe).expect("axe-core has its script");
    let home = tempfile::Builder::new().prefix("cairn-browser-").tempdir().expect("a temporary folder");
    // The policy of our pages allows no script, so the judge reads a copy of them.
    let report = "axe.run().then(found => {
        const told = found.violations.map(rule => rule.id + ': ' + rule.nodes.map(node => node.html).join(' '));
        const list = told.map(text => '<li>' + text.replace(/&/g, '&amp;').replace(/</g, '&lt;') + '</li>');
        document.body.innerHTML = '<ul id=\"found\">' + list.join('') + '</ul>';
    });";
    let page = home.path().join("page.html");
    let text = format!("{html}<script>{axe}</script><script>{report}</script>");
    std::fs::write(&page, text).expect("a file can be written");
    let mut command = headless(&chromium, home.path());
    command.arg("--virtual-time-budget=20000");
    command.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
    command.arg(format!("file://{}", page.display()));
    let judged = run(&mut command, DEADLINE).text();
    let (_, list) = judged.split_once("<ul id=\"found\">").expect("axe-core has run");
    let list = list.split_once("</ul>").expect("the list ends").0;
    Some(list.split("</li>").filter_map(|item| item.strip_prefix("<li>")).map(str::to_owned).collect())
}
