//! The node's content as the gateway's port.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_proto::block::Block;
use cairn_proto::cid::Cid;
use cairn_proto::content::{
    self, CarSelection, Content, ContentError, Entry, NameRecord, PortFuture, PortStream, Progress, Resolved,
    SessionOptions, Target,
};
use cairn_proto::ipns::Name;
use cairn_proto::path::ContentPath;
use cairn_proto::routing::Routing;
use futures::StreamExt as _;

use super::Session;
use super::session::Crowd;
use crate::blocks::Blocks;
use crate::names::Names;
use crate::routing;

/// Opens port sessions over the node's blocks.
#[derive(Debug)]
pub(crate) struct NodeContent {
    blocks: Blocks,
    names: Names,
    routing: Option<routing::Handle>,
    crowd: Crowd,
}

impl NodeContent {
    pub(crate) fn new(blocks: Blocks, names: Names, routing: Option<routing::Handle>) -> Self {
        Self { blocks, names, routing, crowd: Crowd::default() }
    }
}

impl Content for NodeContent {
    fn routing(&self) -> Option<Arc<dyn Routing>> {
        Some(Arc::new(self.routing.clone()?))
    }

    fn session(&self, options: SessionOptions) -> Arc<dyn content::Session> {
        let (blocks, names) = (self.blocks.clone(), self.names.clone());
        Arc::new(Session::among(self.crowd.clone(), blocks, names, options))
    }

    fn check(&self, path: &ContentPath) -> Result<(), ContentError> {
        Ok(self.blocks.denylists().check_path(path)?)
    }
}

impl content::Session for Session {
    fn name<'a>(&'a self, path: &'a ContentPath) -> PortFuture<'a, Target> {
        Box::pin(async move { self.target(path).await.map_err(ContentError::from) })
    }

    fn record<'a>(&'a self, name: &'a Name) -> PortFuture<'a, NameRecord> {
        Box::pin(async move {
            let (record, fresh_for) = Session::record(self, name).await?;
            Ok(NameRecord { bytes: record.bytes().clone(), expires: record.expires(), fresh_for })
        })
    }

    fn resolve<'a>(&'a self, path: &'a ContentPath) -> PortFuture<'a, Resolved> {
        Box::pin(async move { Session::resolve(self, path).await.map_err(ContentError::from) })
    }

    fn bytes(&self, file: &Cid, range: Range<u64>) -> PortStream<Bytes> {
        Session::bytes(self, file, range).map(|bytes| bytes.map_err(ContentError::from)).boxed()
    }

    fn entries(&self, directory: &Cid) -> PortStream<Entry> {
        Session::entries(self, directory).map(|entry| entry.map_err(ContentError::from)).boxed()
    }

    fn block<'a>(&'a self, cid: &'a Cid) -> PortFuture<'a, Block> {
        Box::pin(async move { self.get(cid).await.map_err(ContentError::from) })
    }

    fn car(&self, path: &ContentPath, selection: CarSelection) -> PortStream<Bytes> {
        Session::car(self, path, selection).map(|piece| piece.map_err(ContentError::from)).boxed()
    }

    fn tar(&self, name: &str, root: &Resolved) -> PortStream<Bytes> {
        Session::tar(self, name, root).map(|piece| piece.map_err(ContentError::from)).boxed()
    }

    fn progress(&self) -> Progress {
        Session::progress(self)
    }
}
