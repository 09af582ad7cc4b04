//! `block get`, `block put`, `block stat`, `block rm`.

use cairn_node::pins::PinKind;
use cairn_node::settings::config::import::parse_hash;
use cairn_node::store::Durability;
use cairn_proto::block::Block;
use cairn_proto::cid::{DAG_PB, HashFunction, Version};
use cairn_proto::limits::MAX_BLOCK_BYTES;
use cairn_proto::path::ContentPath;
use serde::{Deserialize, Serialize};

use super::bare_cid;
use crate::command::{Binder, Command, JsonEvent, Output, Piece};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::Files;

/// A block and its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockStat {
    /// CID.
    pub key: String,
    /// Length, in bytes.
    pub size: u64,
}

impl JsonEvent for BlockStat {}

async fn load(context: &Context, path: &str) -> Result<Block> {
    let session = context.session().await?;
    let path = ContentPath::parse(path)?;
    let cid = match bare_cid(&path) {
        Some(cid) => cid,
        None => session.resolve(&path).await?.cid,
    };
    Ok(session.get(&cid).await?)
}

/// Gives a block.
#[derive(Debug, Clone, Default)]
pub struct Get {
    /// CID or path.
    pub path: String,
}

impl Command for Get {
    const PATH: &'static str = "block/get";
    const CONTENT_TYPE: &'static str = "application/vnd.ipld.raw";
    type Event = Piece;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("cid", &mut self.path)
    }

    async fn run(self, context: Context, output: Output<Piece>) -> Result<()> {
        output.send(Piece::Bytes(load(&context, &self.path).await?.into_data())).await
    }
}

/// Tells a block's length.
#[derive(Debug, Clone, Default)]
pub struct Stat {
    /// CID or path.
    pub path: String,
}

impl Command for Stat {
    const PATH: &'static str = "block/stat";
    type Event = BlockStat;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("cid", &mut self.path)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<BlockStat>) -> Result<()> {
        let block = load(&context, &self.path).await?;
        output.send(BlockStat { key: context.text(block.cid()), size: block.data().len() as u64 }).await
    }
}

/// Stores blocks.
#[derive(Debug, Default)]
pub struct Put {
    /// Codec; raw when missing.
    pub codec: Option<String>,
    /// Older way to name the codec; `v0` makes a CID of version 0.
    pub format: Option<String>,
    /// Hash function; SHA2-256 when missing.
    pub hash: Option<String>,
    /// Length of the digest; that of the function when missing or below 0.
    pub digest_len: Option<i64>,
    /// Pin each block.
    pub pin: bool,
    /// The blocks.
    pub files: Option<Files>,
}

impl Command for Put {
    const PATH: &'static str = "block/put";
    const FILES: Option<&'static str> = Some("data");
    type Event = BlockStat;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("cid-codec", "", &mut self.codec)?;
        binder.option("format", "f", &mut self.format)?;
        binder.option("mhtype", "", &mut self.hash)?;
        binder.option("mhlen", "", &mut self.digest_len)?;
        binder.option("pin", "", &mut self.pin)
    }

    fn set_files(&mut self, files: Files) {
        self.files = Some(files);
    }

    fn take_files(&mut self) -> Option<Files> {
        self.files.take()
    }

    async fn run(mut self, context: Context, output: Output<BlockStat>) -> Result<()> {
        let mut files = self.files.take().ok_or_else(|| Error::client("the block is missing"))?;
        let (version, codec, hash) = self.form()?;
        let node = context.node().await?;
        let lease = node.store().lease();
        while let Some(part) = files.next().await? {
            let data = files.read_all(part, MAX_BLOCK_BYTES).await?;
            let block =
                Block::hash(version, codec, hash, data).map_err(|error| Error::client(error.to_string()))?;
            let (cid, size) = (*block.cid(), block.data().len() as u64);
            node.denylists().check_block(&cid)?;
            node.store().put(vec![block], Durability::Now, &lease).await?;
            if self.pin {
                node.pins().pin(cid, PinKind::Recursive, None, &lease, |_, _| ()).await?;
            }
            output.send(BlockStat { key: context.text(&cid), size }).await?;
        }
        Ok(())
    }
}

impl Put {
    fn form(&self) -> Result<(Version, u64, HashFunction)> {
        let hash =
            self.hash.as_deref().map_or(Ok(HashFunction::Sha2_256), parse_hash).map_err(Error::client)?;
        if self.digest_len.is_some_and(|len| len >= 0) {
            return Err(Error::client("this option is not there yet: mhlen"));
        }
        let name = match (&self.codec, self.format.as_deref()) {
            (Some(codec), _) => codec,
            (None, Some("v0")) => return Ok((Version::V0, DAG_PB, hash)),
            (None, Some(format)) => format,
            (None, None) => "raw",
        };
        let name = if name == "protobuf" { "dag-pb" } else { name };
        Ok((Version::V1, super::dag::codec_of(name)?, hash))
    }
}

/// Removes blocks that nothing keeps.
#[derive(Debug, Clone, Default)]
pub struct Rm {
    /// CIDs.
    pub cids: Vec<String>,
    /// A block that is not there is no error.
    pub force: bool,
    /// Say nothing of what was removed.
    pub quiet: bool,
}

/// A block that was removed, or why it was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Removed {
    /// CID.
    pub hash: String,
    /// Why it is still there; empty when it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl JsonEvent for Removed {}

impl Command for Rm {
    const PATH: &'static str = "block/rm";
    type Event = Removed;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("cid", 1, &mut self.cids)?;
        binder.option("force", "f", &mut self.force)?;
        binder.option("quiet", "q", &mut self.quiet)
    }

    async fn run(self, context: Context, output: Output<Removed>) -> Result<()> {
        let cids = self.cids.iter().map(|text| cairn_proto::cid::parse(text));
        let cids: Vec<_> = cids.collect::<Result<_, _>>()?;
        let results = context.node().await?.store().remove(&cids).await?;
        for (cid, result) in results {
            let error = match result {
                Ok(()) => String::new(),
                Err(error) if self.force && error.kind() == cairn_node::Kind::NotFound => String::new(),
                Err(error) => error.to_string(),
            };
            if !self.quiet || !error.is_empty() {
                output.send(Removed { hash: context.text(&cid), error }).await?;
            }
        }
        Ok(())
    }
}
