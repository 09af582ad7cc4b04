//! The read-only port through which the gateway tells others who has content and where peers are.
//!
//! Source: <https://specs.ipfs.tech/routing/http-routing-v1/>.

use crate::cid::{Cid, Multihash};
use crate::content::PortStream;

/// A peer, as the routing API tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerRecord {
    /// Peer ID in base58.
    pub id: String,
    /// Addresses, without the peer ID at their end.
    pub addrs: Vec<String>,
    /// Ways to get content from it; empty where nothing is known.
    pub protocols: Vec<String>,
}

/// Who may be told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoutingOptions {
    /// Most peers.
    pub limit: usize,
    /// Leave out addresses of private networks and of this computer: whoever asks is elsewhere.
    pub public_only: bool,
}

/// Who has what, and where peers are. Dropping a stream ends its search.
pub trait Routing: Send + Sync + 'static {
    /// Peers that say they have some content, each once, as they are found.
    fn providers(&self, cid: &Cid, options: RoutingOptions) -> PortStream<PeerRecord>;

    /// A peer by the multihash of its key; nothing where its addresses are not known.
    fn peer(&self, id: &Multihash, options: RoutingOptions) -> PortStream<PeerRecord>;
}
