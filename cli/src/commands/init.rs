//! `cairn init`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cairn_node::settings::config::{Config, FILE_NAME};

use crate::args::Global;
use crate::environment;
use crate::terminal::print_line;

/// Makes a repo: a folder with a configuration and the key of a new identity.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Profiles to apply, separated by commas.
    #[arg(long, short, value_name = "NAMES", value_delimiter = ',')]
    profile: Vec<String>,
    /// Kind of the key; only ed25519.
    #[arg(long, short, value_name = "NAME", default_value = "ed25519")]
    algorithm: String,
    /// Length of the key; an ed25519 key has only one.
    #[arg(long, short, value_name = "COUNT", hide = true)]
    bits: Option<u32>,
    /// Add no first content; there is none.
    #[arg(long, short, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    empty_repo: Option<bool>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    if args.algorithm != "ed25519" {
        bail!("keys of kind {} are not made here; there is ed25519", args.algorithm);
    }
    let path = environment::repo_path(global)?;
    if path.join(FILE_NAME).exists() {
        bail!("a repo exists already at {}; its configuration is changed by `cairn config`", path.display());
    }
    let config = init(&path, &args.profile)?;
    print_line(&format!("generating ED25519 keypair...done\npeer identity: {}", config.peer_id()?))?;
    Ok(print_line(&format!("initialized repo at {}", path.display()))?)
}

/// Makes a repo in a folder, which may exist, with profiles applied in order.
pub(crate) fn init(path: &Path, profiles: &[String]) -> Result<Config> {
    let mut config = Config::generate();
    for name in profiles.iter().filter(|name| !name.is_empty()) {
        config.apply(name.parse()?)?;
    }
    // Its owner only: it will hold a private key.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))?;
    config.save(path)?;
    Ok(config)
}
