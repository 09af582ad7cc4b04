//! What a command runs against: a repo, and how this one call wants to be served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_node::builder::Builder;
use cairn_node::settings::config::Config;
use cairn_node::settings::units::parse_duration;
use cairn_node::{Node, dag};
use cairn_proto::cid::{Cid, Version};
use cairn_proto::content::SessionOptions;
use multibase::Base;
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::command::Binder;
use crate::error::{Error, Result};

/// A repo: its configuration, and its node once a command needs it.
#[derive(Debug)]
pub struct Repo {
    path: PathBuf,
    config: Config,
    node: OnceCell<Node>,
    daemon: Option<Daemon>,
}

/// What commands can ask of the daemon that they run in.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Stops it when cancelled.
    pub shutdown: CancellationToken,
    /// Lets it read its configuration again.
    pub reloads: mpsc::Sender<Reload>,
}

/// Where a daemon answers that it has read its configuration again: the changed keys that wait for its next start, or why
/// nothing was changed.
pub type Reload = oneshot::Sender<Result<Vec<String>, String>>;

impl Repo {
    /// A repo that is opened, without a network, when the first command needs it. `config` is the one in effect.
    pub fn local(path: PathBuf, config: Config) -> Self {
        Self { path, config, node: OnceCell::new(), daemon: None }
    }

    /// The repo of a running daemon.
    pub fn daemon(path: PathBuf, config: Config, node: Node, daemon: Daemon) -> Self {
        Self { path, config, node: OnceCell::new_with(Some(node)), daemon: Some(daemon) }
    }

    /// Folder of the repo.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration in effect, with what the environment laid over the file.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The daemon that this process is; `None` if it is none.
    pub fn as_daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    /// The node; opens the repo, without a network, if nobody did.
    ///
    /// # Errors
    /// What opening says: in use by another process, of a newer format, not writable.
    pub async fn node(&self) -> Result<&Node> {
        let open = || async {
            let mut settings = self.config.to_settings(&self.path)?;
            settings.swarm = None;
            Builder::new(settings).open().await
        };
        Ok(self.node.get_or_try_init(open).await?)
    }

    /// Closes the node if a command opened it.
    ///
    /// # Errors
    /// What closing the store says.
    pub async fn close(&self) -> Result<()> {
        match self.node.get() {
            Some(node) => Ok(node.shutdown().await?),
            None => Ok(()),
        }
    }
}

/// A repo and the options of one call.
#[derive(Debug, Clone)]
pub struct Context {
    /// The repo.
    pub repo: Arc<Repo>,
    /// How this call wants to be served.
    pub options: CallOptions,
}

impl Context {
    /// The node; see [`Repo::node`].
    ///
    /// # Errors
    /// As there.
    pub async fn node(&self) -> Result<&Node> {
        self.repo.node().await
    }

    /// How this call's session reads.
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions { local_only: self.options.offline, ..SessionOptions::default() }
    }

    /// A session of the node for this call.
    ///
    /// # Errors
    /// As [`Repo::node`].
    pub async fn session(&self) -> Result<dag::Session> {
        Ok(self.node().await?.session(self.session_options()))
    }

    /// Text of a CID as this call wants it.
    pub fn text(&self, cid: &Cid) -> String {
        self.options.cids.text(cid)
    }
}

/// The options that every command takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Use what is in the store only.
    pub offline: bool,
    /// Longest time that the command may take.
    pub timeout: Option<Duration>,
    /// How CIDs are written.
    pub cids: CidEncoder,
}

impl CallOptions {
    /// As [`crate::Command::bind`].
    ///
    /// # Errors
    /// An option of the wrong form.
    pub fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("offline", "", &mut self.offline)?;
        let mut timeout = self.timeout.map(|timeout| format!("{}ms", timeout.as_millis()));
        binder.option("timeout", "", &mut timeout)?;
        let timeout = timeout.as_deref().map(parse_duration).transpose();
        self.timeout =
            timeout.map_err(|error| Error::client(format!("invalid value of \"timeout\": {error}")))?;
        let mut base = self.cids.base.and_then(base_name).map(str::to_owned);
        binder.option("cid-base", "", &mut base)?;
        let mut upgrade = self.cids.upgrade;
        binder.option("upgrade-cidv0-in-output", "", &mut upgrade)?;
        self.cids = CidEncoder::new(base.as_deref(), upgrade)?;
        Ok(())
    }
}

/// How CIDs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CidEncoder {
    base: Option<Base>,
    upgrade: Option<bool>,
}

/// Names of the bases that CIDs are written in. Source: the multibase table.
const BASES: [(&str, Base); 8] = [
    ("base32", Base::Base32Lower),
    ("base32upper", Base::Base32Upper),
    ("base36", Base::Base36Lower),
    ("base58btc", Base::Base58Btc),
    ("base16", Base::Base16Lower),
    ("base64", Base::Base64),
    ("base64url", Base::Base64Url),
    ("base58flickr", Base::Base58Flickr),
];

fn base_name(base: Base) -> Option<&'static str> {
    BASES.iter().find(|(_, known)| *known == base).map(|(name, _)| *name)
}

impl CidEncoder {
    /// Writes CIDs in the base of that name. Those of version 0 have only one form: they are made version 1 first, when
    /// `upgrade` says so or a base is given and it says nothing.
    ///
    /// # Errors
    /// An unknown base.
    pub fn new(base: Option<&str>, upgrade: Option<bool>) -> Result<Self> {
        let find = |name: &str| {
            let base = BASES.iter().find(|(known, base)| *known == name || base.code().to_string() == name);
            base.map(|(_, base)| *base).ok_or_else(|| {
                let known: Vec<_> = BASES.iter().map(|(known, _)| *known).collect();
                Error::client(format!("no such base: {name:?}; there are {}", known.join(", ")))
            })
        };
        Ok(Self { base: base.map(find).transpose()?, upgrade })
    }

    /// Text of a CID.
    pub fn text(&self, cid: &Cid) -> String {
        let cid = match cid.version() {
            Version::V0 if self.upgrade.unwrap_or(self.base.is_some()) => {
                Cid::new_v1(cid.codec(), *cid.hash())
            }
            _ => *cid,
        };
        match (cid.version(), self.base) {
            (Version::V1, Some(base)) => multibase::encode(base, cid.to_bytes()),
            _ => cid.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Source of the texts: `ipfs cid format -b base36` and `ipfs cid base32` of Kubo 0.43.
    const V0: &str = "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN";
    const V1: &str = "bafybeiffndsajwhk3lwjewwdxqntmjm4b5wxaaanokonsggenkbw6slwk4";

    fn text(base: Option<&str>, upgrade: Option<bool>, cid: &str) -> String {
        CidEncoder::new(base, upgrade).unwrap().text(&cairn_proto::cid::parse(cid).unwrap())
    }

    #[test]
    fn cids_are_written_as_they_are_or_in_the_base_asked_for() {
        assert_eq!(text(None, None, V0), V0);
        assert_eq!(text(None, None, V1), V1);
        assert_eq!(text(None, Some(true), V0), V1);
        assert_eq!(text(Some("base32"), None, V0), V1);
        assert_eq!(text(Some("b"), None, V0), V1);
        assert_eq!(text(Some("base32"), Some(false), V0), V0);
        assert!(text(Some("base16"), None, V1).starts_with("f01701220"));
        assert!(CidEncoder::new(Some("base7"), None).is_err());
    }

    #[test]
    fn call_options_survive_a_trip_through_a_query() {
        let mut sent = CallOptions {
            offline: true,
            timeout: Some(Duration::from_millis(1500)),
            cids: CidEncoder::new(Some("base36"), Some(false)).unwrap(),
        };
        let mut binder = Binder::write();
        sent.bind(&mut binder).unwrap();
        let mut received = CallOptions::default();
        received.bind(&mut Binder::read(binder.into_query())).unwrap();
        assert_eq!(received, sent);
    }
}
