//! `config`, `config show`, `config replace`, `config reload`, `config profile apply`.
//!
//! All of them work on the file: what the environment lays over it is neither shown nor written.

use cairn_node::settings::config::Config as Document;
use cairn_node::settings::config::profile::Profile as Changes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::Files;

/// Longest configuration that is accepted, in bytes.
const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;

/// Shows or sets one key.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Dotted key.
    pub key: String,
    /// Value to set; the key is shown when missing.
    pub value: Option<String>,
    /// The value is JSON.
    pub json: bool,
    /// The value is true or false.
    pub bool: bool,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Field {
    /// Dotted key.
    pub key: String,
    /// Its value.
    pub value: Value,
}

impl JsonEvent for Field {}

impl Command for Config {
    const PATH: &'static str = "config";
    type Event = Field;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("key", &mut self.key)?;
        binder.optional_arg("value", &mut self.value)?;
        binder.option("json", "", &mut self.json)?;
        binder.option("bool", "", &mut self.bool)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Field>) -> Result<()> {
        let repo = context.repo.path();
        let value = match self.value()? {
            None => {
                let shown = Document::load(repo)?.public();
                let value = self.key.split('.').try_fold(&shown, |value, part| value.get(part));
                value.cloned().ok_or_else(|| {
                    Error::new(format!("failed to get config value: {:?} not found", self.key))
                })?
            }
            Some(value) => {
                Document::edit(repo, |document| document.set(&self.key, value.clone()))
                    .map_err(|error| Error::client(hint(&self, &error)))?;
                value
            }
        };
        output.send(Field { key: self.key, value }).await
    }
}

impl Config {
    fn value(&self) -> Result<Option<Value>> {
        let Some(text) = &self.value else { return Ok(None) };
        let value = if self.json {
            serde_json::from_str(text)
                .map_err(|error| Error::client(format!("the value is not JSON: {error}")))?
        } else if self.bool {
            Value::Bool(text == "true")
        } else {
            Value::String(text.clone())
        };
        Ok(Some(value))
    }
}

/// A text where a number or list belongs is most often a forgotten flag.
fn hint(command: &Config, error: &cairn_node::Error) -> String {
    let flag = if command.json || command.bool { "" } else { " (maybe use --json?)" };
    format!("failed to set config value: {error}{flag}")
}

/// Shows the whole configuration without its secrets.
#[derive(Debug, Clone, Default)]
pub struct Show;

/// A configuration without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shown(pub Value);

impl JsonEvent for Shown {}

impl Command for Show {
    const PATH: &'static str = "config/show";
    type Event = Shown;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Shown>) -> Result<()> {
        output.send(Shown(Document::load(context.repo.path())?.public())).await
    }
}

/// Replaces the whole configuration but the identity.
#[derive(Debug, Default)]
pub struct Replace {
    /// The configuration.
    pub files: Option<Files>,
}

impl Command for Replace {
    const PATH: &'static str = "config/replace";
    const FILES: Option<&'static str> = Some("file");
    type Event = Shown;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn set_files(&mut self, files: Files) {
        self.files = Some(files);
    }

    fn take_files(&mut self) -> Option<Files> {
        self.files.take()
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, _output: Output<Shown>) -> Result<()> {
        let mut files = self.files.ok_or_else(|| Error::client("the configuration is missing"))?;
        let file = files.next().await?.ok_or_else(|| Error::client("the configuration is missing"))?;
        let text = files.read_all(file, MAX_CONFIG_BYTES).await?;
        let text = std::str::from_utf8(&text).map_err(|_| Error::client("the configuration is not UTF-8"))?;
        let new = Document::parse(text)?;
        Ok(Document::edit(context.repo.path(), |document| {
            document.replace(new);
            Ok(())
        })?)
    }
}

/// Lets the daemon read its configuration again. Not a command of Kubo's.
#[derive(Debug, Clone, Default)]
pub struct Reload;

/// What became of a changed configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Reloaded {
    /// Changed keys that the daemon takes over at its next start only.
    pub waiting: Vec<String>,
}

impl JsonEvent for Reloaded {}

impl Command for Reload {
    const PATH: &'static str = "config/reload";
    type Event = Reloaded;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Reloaded>) -> Result<()> {
        let missing = || Error::new("the daemon is not running, and reads its configuration when it starts");
        let daemon = context.repo.as_daemon().ok_or_else(missing)?;
        let stopping = || Error::new("the daemon is about to stop");
        let (reply, answer) = oneshot::channel();
        daemon.reloads.send(reply).await.map_err(|_| stopping())?;
        let waiting = answer.await.map_err(|_| stopping())?.map_err(Error::client)?;
        output.send(Reloaded { waiting }).await
    }
}

/// Applies a profile.
#[derive(Debug, Clone, Default)]
pub struct ApplyProfile {
    /// Name of the profile.
    pub profile: String,
    /// Show what would change only.
    pub dry_run: bool,
}

/// The configuration before and after a profile, without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Applied {
    /// Before.
    pub old_cfg: Value,
    /// After.
    pub new_cfg: Value,
}

impl JsonEvent for Applied {}

impl Command for ApplyProfile {
    const PATH: &'static str = "config/profile/apply";
    type Event = Applied;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("profile", &mut self.profile)?;
        binder.option("dry-run", "", &mut self.dry_run)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Applied>) -> Result<()> {
        let profile: Changes = self.profile.parse()?;
        let repo = context.repo.path();
        let mut changed = Document::load(repo)?;
        let old_cfg = changed.public();
        if self.dry_run {
            changed.apply(profile)?;
        } else {
            changed = Document::edit(repo, |document| document.apply(profile).map(|()| document.clone()))?;
        }
        output.send(Applied { old_cfg, new_cfg: changed.public() }).await
    }
}
