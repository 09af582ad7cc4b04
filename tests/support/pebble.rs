//! Pebble, Let's Encrypt's own test authority: it checks proofs as the real one does, over ports that it is told.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::peers::{self, Peer};
use crate::ports::free_port;
use crate::process::{Process, run, until};
use crate::tools::Curl;

const DEADLINE: Duration = Duration::from_secs(60);

/// A running authority, which finds every name on loopback. Dropping it kills it.
#[derive(Debug)]
pub struct Pebble {
    _names: Process,
    _authority: Process,
    folder: TempDir,
    port: u16,
    roots_port: u16,
}

impl Pebble {
    /// Starts an authority that looks for HTTP-01 and TLS-ALPN-01 proofs on these ports. Nothing, and a line that says so,
    /// where pebble is absent.
    #[must_use]
    pub fn start(http_port: u16, tls_port: u16) -> Option<Self> {
        let programs = peers::find(Peer::Pebble)?;
        let folder = tempfile::Builder::new().prefix("cairn-pebble-").tempdir().expect("a temporary folder");
        let (port, roots_port, names_port) = (free_port(), free_port(), free_port());
        let at = |port: u16| format!("127.0.0.1:{port}");

        let mut names = Command::new(programs.join("pebble-challtestsrv"));
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv6", ""]);
        names.args(["-dnsserver", &at(names_port), "-management", &at(free_port())]);
        let names = Process::start("pebble-challtestsrv", &mut names);

        let (certificate, key) = (folder.path().join("own.pem"), folder.path().join("own-key.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        openssl.args(["-days", "2", "-subj", "/CN=pebble", "-addext", "subjectAltName=IP:127.0.0.1"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        run(&mut openssl, DEADLINE).text();

        let config = json!({ "pebble": {
            "listenAddress": at(port),
            "managementListenAddress": at(roots_port),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": http_port,
            "tlsPort": tls_port,
            "retryAfter": { "authz": 1, "order": 1 },
        } });
        let config_path = folder.path().join("config.json");
        fs::write(&config_path, config.to_string()).expect("a file can be written");
        let mut authority = Command::new(programs.join("pebble"));
        authority.arg("-config").arg(&config_path).args(["-strict", "-dnsserver", &at(names_port)]);
        // It refuses some good nonces, to see that clients try again, which they do three times: one in twenty, as it comes, would
        // fail one order in a thousand.
        authority.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "1");
        let mut authority = Process::start("pebble", &mut authority);
        authority.wait_for("its directory", DEADLINE, |line| line.contains("ACME directory").then_some(()));
        let pebble = Self { _names: names, _authority: authority, folder, port, roots_port };
        let root = pebble.root().display().to_string();
        until("the authority answers", || {
            Curl::get(&pebble.directory()).with(&["--cacert", &root]).exit_code() == Some(0)
        });
        Some(pebble)
    }

    /// URL of its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The root to trust in talking to it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("own.pem")
    }

    /// The root of the certificates that it issues, which it makes at each start.
    #[must_use]
    pub fn issuer(&self) -> PathBuf {
        let url = format!("https://127.0.0.1:{}/roots/0", self.roots_port);
        let root = self.root().display().to_string();
        let path = self.folder.path().join("issuer.pem");
        fs::write(&path, Curl::get(&url).with(&["--cacert", &root]).body(200))
            .expect("a file can be written");
        path
    }
}
