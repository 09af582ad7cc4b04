//! Servers that have the same bytes: nginx as Debian's package has it, and a bare axum.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::routing::get;
use bytes::Bytes;
use cairn_tests::{Process, free_port};
use http::{HeaderValue, StatusCode, header};
use tokio::net::TcpListener;

/// nginx over a folder. Dropping it ends it.
pub(super) struct Nginx {
    pub(super) port: u16,
    pub(super) tls_port: u16,
    /// What it shows over TLS, PEM.
    pub(super) certificate: PathBuf,
    _process: Process,
}

impl Nginx {
    /// Starts it, if it is installed.
    pub(super) fn start(folder: PathBuf) -> Result<Option<Self>> {
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
                     listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl; root {dir};
                     ssl_certificate {certificate}; ssl_certificate_key {private};
                 }}
             }}\n",
            dir = folder.display(),
            certificate = certificate.display(),
            private = private.display(),
        );
        fs::write(&config, text)?;
        // Its workers run as another user when it is started by root.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let process =
            Process::start("nginx", Command::new("nginx").arg("-c").arg(&config).arg("-p").arg(&folder));
        cairn_tests::until("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", tls_port)).is_ok());
        Ok(Some(Self { port, tls_port, certificate, _process: process }))
    }
}

/// An axum with the files of a folder in memory, and the headers that a gateway sends. It ends with this program.
pub(super) struct Axum {
    pub(super) port: u16,
}

type Files = Arc<HashMap<String, Bytes>>;

impl Axum {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
            // The big file is for ranges, which it has none of.
            if path.is_file() && path.metadata()?.len() <= 1 << 20 {
                files.insert(name, Bytes::from(fs::read(&path)?));
            }
        }
        let router = Router::new().route("/{name}", get(answer)).with_state(Arc::new(files));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        thread::Builder::new()
            .name("axum".to_owned())
            .spawn(move || runtime.block_on(async { axum::serve(listener, router).await }))?;
        Ok(Self { port })
    }
}

async fn answer(
    State(files): State<Files>,
    UrlPath(name): UrlPath<String>,
) -> Result<([(header::HeaderName, HeaderValue); 3], Bytes), StatusCode> {
    let content = files.get(&name).cloned().ok_or(StatusCode::NOT_FOUND)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=29030400, immutable")),
        (
            header::ETAG,
            HeaderValue::from_static("\"bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e\""),
        ),
    ];
    Ok((headers, content))
}
