//! nginx as Debian's package has it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use cairn_tests::{Process, command_in, free_port};

/// Longest wait for it to end.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// nginx over a folder. Dropping it ends it.
pub(crate) struct Nginx {
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    /// What it shows over TLS, PEM.
    pub(crate) certificate: PathBuf,
    config: PathBuf,
    process: Option<Process>,
}

impl Nginx {
    /// Starts it, if it is installed: on loopback, or for all who can reach a network namespace.
    pub(crate) fn start(folder: PathBuf, namespace: Option<&str>) -> Result<Option<Self>> {
        if Command::new("nginx").arg("-v").output().is_err() {
            println!("skipped: nginx is not installed");
            return Ok(None);
        }
        let (port, tls_port) = (free_port(), free_port());
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let [certificate, private] = ["nginx.pem", "nginx-key.pem"].map(|name| folder.join(name));
        fs::write(&certificate, key.cert.pem())?;
        fs::write(&private, key.signing_key.serialize_pem())?;
        let config = folder.join("nginx.conf");
        // What Debian's nginx.conf sets, in a folder of its own; only a connection may be asked as often as a client likes.
        let text = format!(
            "daemon off; worker_processes auto; pid {dir}/nginx.pid; error_log {dir}/nginx-error.log;
             events {{ worker_connections 4096; }}
             http {{
                 sendfile on; tcp_nopush on; types_hash_max_size 2048; gzip on;
                 include /etc/nginx/mime.types; default_type application/octet-stream;
                 ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
                 access_log {dir}/nginx-access.log; keepalive_requests 1000000000;
                 client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
                 uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
                 server {{
                     listen {ip}:{port}; listen {ip}:{tls_port} ssl; root {dir};
                     ssl_certificate {certificate}; ssl_certificate_key {private};
                 }}
             }}\n",
            dir = folder.display(),
            ip = if namespace.is_some() { "0.0.0.0" } else { "127.0.0.1" },
            certificate = certificate.display(),
            private = private.display(),
        );
        fs::write(&config, text)?;
        // Its workers run as another user when it is started by root.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let mut command = command_in(namespace, "nginx");
        command.arg("-c").arg(&config).arg("-p").arg(&folder);
        let process = Process::start("nginx", &mut command);
        let url = format!("http://127.0.0.1:{port}/");
        cairn_tests::until("nginx listens", || {
            let asked = command_in(namespace, "curl").args(["-s", "-o", "/dev/null", &url]).status();
            asked.is_ok_and(|status| status.success())
        });
        Ok(Some(Self { port, tls_port, certificate, config, process: Some(process) }))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers would outlive it if it were just killed.
        let _ = Command::new("nginx").arg("-c").arg(&self.config).args(["-s", "stop"]).output();
        self.process.take().map(|process| process.wait(STOP_DEADLINE));
    }
}
