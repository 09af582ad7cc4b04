//! `version`.

use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::Result;

/// Version of the repo's format, as Kubo counts it; programs compare it.
pub const REPO_VERSION: u32 = 18;

/// Tells what program this is.
#[derive(Debug, Clone, Default)]
pub struct Version;

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionInfo {
    /// Version of Cairn.
    pub version: String,
    /// Commit that it was built from, empty when unknown.
    pub commit: String,
    /// Version of the repo's format.
    pub repo: String,
    /// Architecture and operating system, as Go names them.
    pub system: String,
    /// Version of Go; empty, since there is none.
    pub golang: String,
}

impl JsonEvent for VersionInfo {}

impl VersionInfo {
    /// This program.
    pub fn current() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let system = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: String::new(),
            repo: REPO_VERSION.to_string(),
            system: format!("{architecture}/{system}"),
            golang: String::new(),
        }
    }
}

impl Command for Version {
    const PATH: &'static str = "version";
    type Event = VersionInfo;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, _context: Context, output: Output<VersionInfo>) -> Result<()> {
        output.send(VersionInfo::current()).await
    }
}
