//! `refs`, `refs local`.

use cairn_proto::cid::{Cid, RAW};
use cairn_proto::path::ContentPath;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Lists the links of DAGs.
#[derive(Debug, Clone)]
pub struct Refs {
    /// Where to start.
    pub paths: Vec<String>,
    /// Text of each line: `<src>`, `<dst>` and `<linkname>` are replaced.
    pub format: Option<String>,
    /// Show `<src> -> <dst>`.
    pub edges: bool,
    /// Each child once.
    pub unique: bool,
    /// Follow links.
    pub recursive: bool,
    /// Most levels to follow; below 0 for all of them.
    pub max_depth: i64,
}

impl Default for Refs {
    fn default() -> Self {
        Self { paths: Vec::new(), format: None, edges: false, unique: false, recursive: false, max_depth: -1 }
    }
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ref {
    /// The line that shows it.
    #[serde(rename = "Ref")]
    pub text: String,
    /// Why it cannot be shown; empty.
    #[serde(default)]
    pub err: String,
}

impl JsonEvent for Ref {}

impl Command for Refs {
    const PATH: &'static str = "refs";
    type Event = Ref;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("ipfs-path", 1, &mut self.paths)?;
        binder.option("format", "", &mut self.format)?;
        binder.option("edges", "e", &mut self.edges)?;
        binder.option("unique", "u", &mut self.unique)?;
        binder.option("recursive", "r", &mut self.recursive)?;
        binder.option("max-depth", "", &mut self.max_depth)
    }

    async fn run(self, context: Context, output: Output<Ref>) -> Result<()> {
        let format = match (self.edges, &self.format) {
            (true, Some(_)) => return Err(Error::client("using format argument with edges is not allowed")),
            (true, None) => "<src> -> <dst>",
            (false, Some(format)) => format,
            (false, None) => "<dst>",
        };
        let max_depth = match (self.recursive, usize::try_from(self.max_depth)) {
            (false, _) => Some(1),
            (true, Ok(depth)) => Some(depth),
            (true, Err(_)) => None,
        };
        let session = context.session().await?;
        for path in &self.paths {
            let root = session.resolve(&ContentPath::parse(path)?).await?.cid;
            let mut references = std::pin::pin!(session.references(&root, max_depth, self.unique));
            while let Some(link) = references.try_next().await? {
                let text = format
                    .replace("<src>", &context.text(&link.parent))
                    .replace("<dst>", &context.text(&link.child))
                    .replace("<linkname>", &link.name);
                output.send(Ref { text, err: String::new() }).await?;
            }
        }
        Ok(())
    }
}

/// Lists every block of the store.
#[derive(Debug, Clone, Default)]
pub struct Local;

impl Command for Local {
    const PATH: &'static str = "refs/local";
    type Event = Ref;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    async fn run(self, context: Context, output: Output<Ref>) -> Result<()> {
        let store = context.node().await?.store().clone();
        output
            .send_blocking(move || {
                store.blocks().map(move |block| {
                    // The store knows no codecs; Kubo lists them as raw blocks too.
                    let cid = Cid::new_v1(RAW, block?.0);
                    Ok(Ref { text: context.text(&cid), err: String::new() })
                })
            })
            .await
    }
}
