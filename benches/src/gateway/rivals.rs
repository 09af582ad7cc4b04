//! A server that has the same bytes: a bare axum.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tokio::net::TcpListener;

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
