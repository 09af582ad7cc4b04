//! `dag put`, `dag get`, `dag resolve`: single nodes as structured data.

use cairn_node::pins::PinKind;
use cairn_node::settings::config::import::parse_hash;
use cairn_node::store::Durability;
use cairn_proto::block::Block;
use cairn_proto::cid::{DAG_CBOR, DAG_JSON, Version};
use cairn_proto::codec;
use cairn_proto::limits::MAX_BLOCK_BYTES;
use cairn_proto::path::ContentPath;
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output, Piece};
use crate::commands::CidLink;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::Files;

/// Most bytes of one node as it is given. JSON may be some times as long as the block that it becomes.
const MAX_INPUT_BYTES: usize = 4 * MAX_BLOCK_BYTES;

/// The codec of that name.
///
/// # Errors
/// A name that is not known.
pub(crate) fn codec_of(name: &str) -> Result<u64> {
    codec::from_name(name).ok_or_else(|| Error::client(format!("unknown multicodec: {name:?}")))
}

fn codec_or(name: Option<&str>, default: u64) -> Result<u64> {
    name.map_or(Ok(default), codec_of)
}

/// Stores nodes.
#[derive(Debug, Default)]
pub struct Put {
    /// Codec in which they are stored; dag-cbor when missing.
    pub store_codec: Option<String>,
    /// Codec in which they are given; dag-json when missing.
    pub input_codec: Option<String>,
    /// Hash function; the configured one when missing.
    pub hash: Option<String>,
    /// Pin each node with all below it.
    pub pin: bool,
    /// Do not refuse big blocks. No store of Cairn takes a block above [`MAX_BLOCK_BYTES`], so this changes nothing.
    pub allow_big_block: bool,
    /// The nodes.
    pub files: Option<Files>,
}

/// A node that was stored. Source: Kubo `core/commands/dag/dag.go`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stored {
    /// CID.
    pub cid: CidLink,
}

impl JsonEvent for Stored {}

impl Command for Put {
    const PATH: &'static str = "dag/put";
    const FILES: Option<&'static str> = Some("object data");
    type Event = Stored;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("store-codec", "", &mut self.store_codec)?;
        binder.option("input-codec", "", &mut self.input_codec)?;
        binder.option("hash", "", &mut self.hash)?;
        binder.option("pin", "", &mut self.pin)?;
        binder.option("allow-big-block", "", &mut self.allow_big_block)
    }

    fn set_files(&mut self, files: Files) {
        self.files = Some(files);
    }

    fn take_files(&mut self) -> Option<Files> {
        self.files.take()
    }

    async fn run(mut self, context: Context, output: Output<Stored>) -> Result<()> {
        let mut files = self.files.take().ok_or_else(|| Error::client("the node is missing"))?;
        let input_codec = codec_or(self.input_codec.as_deref(), DAG_JSON)?;
        let store_codec = codec_or(self.store_codec.as_deref(), DAG_CBOR)?;
        let hash = match &self.hash {
            Some(name) => parse_hash(name).map_err(Error::client)?,
            None => context.repo.config().import()?.hash,
        };
        let node = context.node().await?;
        // Until the pin is written, nothing may collect the block.
        let lease = node.store().lease();
        while let Some(part) = files.next().await? {
            let data = files.read_all(part, MAX_INPUT_BYTES).await?;
            let value =
                codec::decode(input_codec, &data).map_err(|error| Error::client(error.to_string()))?;
            let data =
                codec::encode(store_codec, &value).map_err(|error| Error::client(error.to_string()))?;
            let block = Block::hash(Version::V1, store_codec, hash, data)
                .map_err(|error| Error::client(error.to_string()))?;
            let cid = *block.cid();
            node.denylists().check_block(&cid)?;
            node.store().put(vec![block], Durability::Now, &lease).await?;
            if self.pin {
                let path = ContentPath::from_cid(cid);
                node.pin_add(&path, PinKind::Recursive, None, context.session_options(), |_, _| ()).await?;
            }
            output.send(Stored { cid: CidLink::new(context.text(&cid)) }).await?;
        }
        Ok(())
    }
}

/// Gives what a path leads to, as structured data.
#[derive(Debug, Clone, Default)]
pub struct Get {
    /// CID or path, which may lead on inside the last block.
    pub path: String,
    /// Codec in which it is given; dag-json when missing.
    pub output_codec: Option<String>,
}

impl Command for Get {
    const PATH: &'static str = "dag/get";
    const CONTENT_TYPE: &'static str = "text/plain";
    type Event = Piece;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("ref", &mut self.path)?;
        binder.option("output-codec", "", &mut self.output_codec)
    }

    async fn run(self, context: Context, output: Output<Piece>) -> Result<()> {
        let output_codec = codec_or(self.output_codec.as_deref(), DAG_JSON)?;
        let session = context.session().await?;
        let resolved = session.resolve(&ContentPath::parse(&self.path)?).await?;
        let block = session.get(&resolved.cid).await?;
        let value = codec::decode(block.cid().codec(), block.data())
            .map_err(|error| Error::new(format!("{error}, cid={}", resolved.cid)))?;
        let value = value
            .at(&resolved.remainder)
            .ok_or_else(|| Error::new(format!("no such value, path={}", self.path)))?;
        let data = codec::encode(output_codec, value).map_err(|error| Error::client(error.to_string()))?;
        output.send(Piece::Bytes(data)).await
    }
}

/// Tells in which block a path ends, and what of the path leads on inside it.
#[derive(Debug, Clone, Default)]
pub struct Resolve {
    /// CID or path.
    pub path: String,
}

/// The end of a path. Source: Kubo `core/commands/dag/dag.go`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PathEnd {
    /// The block.
    pub cid: CidLink,
    /// What leads on inside it, each segment behind a slash; empty for none.
    pub rem_path: String,
}

impl JsonEvent for PathEnd {}

impl Command for Resolve {
    const PATH: &'static str = "dag/resolve";
    type Event = PathEnd;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.arg("ref", &mut self.path)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<PathEnd>) -> Result<()> {
        let session = context.session().await?;
        let resolved = session.resolve(&ContentPath::parse(&self.path)?).await?;
        let cid = CidLink::new(context.text(&resolved.cid));
        let rem_path = resolved.remainder.iter().map(|segment| format!("/{segment}")).collect();
        output.send(PathEnd { cid, rem_path }).await
    }
}
