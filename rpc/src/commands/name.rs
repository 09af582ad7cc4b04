//! `name resolve`.

use cairn_node::names::LookUp;
use cairn_proto::path::{ContentPath, Root};
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::Result;

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResolvedPath {
    /// Content path.
    pub path: String,
}

impl JsonEvent for ResolvedPath {}

/// Follows a name to where it leads.
#[derive(Debug, Clone)]
pub struct Resolve {
    /// Name, with `/ipns/` before it or not; this node's own when missing.
    pub name: Option<String>,
    /// Follow names that it leads to.
    pub recursive: bool,
    /// Ask peers even if a fresh record is here.
    pub no_cache: bool,
}

impl Default for Resolve {
    fn default() -> Self {
        Self { name: None, recursive: true, no_cache: false }
    }
}

impl Command for Resolve {
    const PATH: &'static str = "name/resolve";
    type Event = ResolvedPath;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        // How a search asks its peers is fixed, and the best answer comes as the only one.
        let (mut record_count, mut timeout, mut stream) = (None::<u64>, None::<String>, false);
        binder.optional_arg("name", &mut self.name)?;
        binder.option("recursive", "r", &mut self.recursive)?;
        binder.option("nocache", "n", &mut self.no_cache)?;
        binder.option("dht-record-count", "dhtrc", &mut record_count)?;
        binder.option("dht-timeout", "dhtt", &mut timeout)?;
        binder.option("stream", "s", &mut stream)
    }

    async fn run(self, context: Context, output: Output<ResolvedPath>) -> Result<()> {
        let node = context.node().await?;
        let name = match self.name {
            Some(name) => name,
            None => context.repo.config().peer_id()?.to_string(),
        };
        let path = if name.starts_with('/') {
            ContentPath::parse(&name)?
        } else {
            let (root, rest) = name.split_once('/').unwrap_or((&name, ""));
            ContentPath::new(Root::Ipns(root.to_owned()), rest.split('/'))?
        };
        let look_up = LookUp {
            local_only: context.options.offline,
            one_step: !self.recursive,
            no_cache: self.no_cache,
        };
        let target = node.names().resolve(&path, look_up).await?;
        output.send(ResolvedPath { path: target.path.to_string() }).await
    }
}
