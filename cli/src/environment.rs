//! What comes from outside: the repo's place, the configuration that the environment lays over the file, the log.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cairn_node::settings::config::Config;
use tracing_subscriber::EnvFilter;

use crate::args::Global;

/// Start of the names of variables that set keys of the configuration.
const CONFIG_PREFIX: &str = "CAIRN_CONFIG__";

/// Variables of Kubo's that stand for a key of the configuration.
const KEPT_VARIABLES: [(&str, &str); 2] =
    [("IPFS_NS_MAP", "DNS__NameMap"), ("LIBP2P_FORCE_PNET", "Swarm__RequireKey")];

/// The variable that says what is logged.
const LOG_VARIABLE: &str = "CAIRN_LOG";

/// Folder of the repo: the option, `$CAIRN_PATH`, or `.cairn` in the home folder.
pub(crate) fn repo_path(global: &Global) -> Result<PathBuf> {
    if let Some(path) = &global.repo_dir {
        return Ok(path.clone());
    }
    let home = std::env::home_dir().context("there is no home folder; set CAIRN_PATH")?;
    Ok(home.join(".cairn"))
}

/// The configuration in effect: the file with the environment laid over it.
pub(crate) fn overlay(config: &Config) -> Result<Config> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.to_str()?;
        let kept = KEPT_VARIABLES.iter().find(|(kept, _)| *kept == name).map(|(_, key)| *key);
        let key = kept.or_else(|| name.strip_prefix(CONFIG_PREFIX))?.to_owned();
        Some(value.into_string().map(|value| (key.clone(), value)).map_err(|_| key))
    });
    let overrides = variables
        .collect::<Result<Vec<_>, _>>()
        .map_err(|key| anyhow::anyhow!("the variable for {key} is not UTF-8"))?;
    let config = config.with_overrides(overrides)?;
    config.check()?;
    Ok(config)
}

/// Logs to stderr what `$CAIRN_LOG` names, warnings by default.
pub(crate) fn start_logging(debug: bool) {
    // kad warns about an empty table at every start and then every few minutes: nothing that an operator could mend.
    let default = if debug { "debug" } else { "warn,libp2p_kad=error" };
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
