//! Reading the configuration again while the daemon runs.

use std::time::Duration;

use anyhow::Result;
use cairn_node::settings::config::Config;
use cairn_rpc::context::Reload;

use super::Source;
use super::servers::Servers;

/// Keys that are taken over, with everything below them. `docs/CONFIG.md` marks them.
const RELOADED: [&str; 18] = [
    "Gateway.DeserializedResponses",
    "Gateway.DrainDelay",
    "Gateway.ExposeRoutingAPI",
    "Gateway.HTTPHeaders",
    "Gateway.MaxConcurrentRequests",
    "Gateway.MaxDeserializedResponseSize",
    "Gateway.MaxListingRows",
    "Gateway.MaxRangeRequestFileSize",
    "Gateway.MaxRequestDuration",
    "Gateway.MaxUnixFSDAGResponseSize",
    "Gateway.NoDNSLink",
    "Gateway.NoFetch",
    "Gateway.PublicGateways",
    "Gateway.RateLimit",
    "Gateway.RetrievalTimeout",
    "Gateway.TLS.HSTS",
    "Gateway.TLS.Redirect",
    "Gateway.TrustedProxies",
];

/// The configuration that the daemon started with, and where to look for another.
#[derive(Debug)]
pub(super) struct Reloader<'a> {
    source: Source<'a>,
    started: Config,
    drain_delay: Duration,
}

impl<'a> Reloader<'a> {
    pub(super) fn new(source: Source<'a>, started: &Config) -> Self {
        let drain_delay = started.gateway().map(|gateway| gateway.drain_delay).unwrap_or_default();
        Self { source, started: started.clone(), drain_delay }
    }

    /// How long the gateway says that it is not ready before it stops.
    pub(super) fn drain_delay(&self) -> Duration {
        self.drain_delay
    }

    pub(super) fn on_command(&mut self, servers: &Servers, reply: Reload) {
        let answer = self.reload(servers).map_err(|error| format!("{error:#}"));
        // Whoever asked may be gone.
        let _ = reply.send(answer);
    }

    pub(super) fn on_signal(&mut self, servers: &Servers) {
        if let Err(error) = self.reload(servers) {
            tracing::error!(%error, "configuration not read again, the former one stays");
        }
    }

    /// Takes over what can be, and names the other keys that were changed.
    fn reload(&mut self, servers: &Servers) -> Result<Vec<String>> {
        let config = self.source.load()?;
        servers.reload(&config)?;
        self.drain_delay = config.gateway()?.drain_delay;
        let mut waiting = self.started.differences(&config);
        waiting.retain(|key| !is_reloaded(key));
        tracing::info!(?waiting, "configuration read again");
        Ok(waiting)
    }
}

fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|reloaded| {
        key.strip_prefix(reloaded).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_taken_over_is_marked_in_its_documentation_and_no_other() {
        let text = include_str!("../../../docs/CONFIG.md");
        let marked = text.lines().filter(|line| line.contains("\u{21bb}") && line.starts_with('|'));
        let keys = marked.flat_map(|line| {
            let cell = line.split('|').nth(1).unwrap_or_default();
            cell.split('`').filter(|part| part.starts_with("Gateway.")).map(str::to_owned).collect::<Vec<_>>()
        });
        let keys: Vec<_> = keys.collect();
        for key in &keys {
            assert!(is_reloaded(key), "{key}");
        }
        for key in RELOADED {
            assert!(keys.iter().any(|marked| marked.starts_with(key)), "{key}");
        }
        assert!(!is_reloaded("Gateway.TLS.Certificate") && !is_reloaded("Gateway.NoFetchX"));
    }
}
