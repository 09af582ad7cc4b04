//! `cairn health`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cairn_node::exchange::http::{Addresses, Client, ClientOptions, FetchError, GatewayUrl};

use crate::args::Global;
use crate::daemon::GATEWAY_FILE;
use crate::environment;
use crate::session::{API_FILE, daemon_of};
use crate::terminal::print_line;

/// Longest wait for an answer, unless `--timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Content that every gateway has: none. Source: trustless gateway specification, "Identity CIDs".
const PROBE: &str = "bafkqaaa";

/// Asks the daemon or the gateway that runs on the repo, whichever it is, whether it answers.
pub(super) async fn run(global: &Global) -> Result<()> {
    let repo = environment::repo_path(global)?;
    let gateway = std::fs::read_to_string(repo.join(GATEWAY_FILE)).ok();
    let has_api = repo.join(API_FILE).exists();
    ensure!(has_api || gateway.is_some(), "nothing runs on {}", repo.display());
    if has_api {
        ensure!(daemon_of(&repo, None).await.is_some(), "the daemon on {} does not answer", repo.display());
    }
    if let Some(url) = gateway {
        let url = url.trim().parse::<GatewayUrl>().map_err(anyhow::Error::msg)?;
        probe(&url, global.timeout.unwrap_or(TIMEOUT)).await?;
    }
    Ok(print_line("ok")?)
}

async fn probe(gateway: &GatewayUrl, timeout: Duration) -> Result<()> {
    let agent = concat!("cairn/", env!("CARGO_PKG_VERSION")).to_owned();
    let options = ClientOptions { addresses: Addresses::Any, timeout, roots: None, agent };
    let probe = cairn_proto::cid::parse(PROBE)?;
    match Client::new(options)?.block(gateway, &probe).await {
        // Whoever refuses is there.
        Ok(_) | Err(FetchError::Missing(_) | FetchError::Busy { .. }) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("the gateway at {gateway} does not answer")),
    }
}
