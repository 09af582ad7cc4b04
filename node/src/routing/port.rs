//! The node's routing as the gateway's port.

use cairn_proto::cid::{Cid, Multihash};
use cairn_proto::content::{ContentError, PortStream};
use cairn_proto::routing::{PeerRecord, Routing, RoutingOptions};
use futures::{StreamExt as _, stream};
use libp2p::{Multiaddr, PeerId};

use super::Handle;
use crate::Kind;
use crate::swarm::is_public;

impl Routing for Handle {
    fn providers(&self, cid: &Cid, options: RoutingOptions) -> PortStream<PeerRecord> {
        self.find_providers(*cid.hash(), options.limit)
            .map(move |provider| Ok(record(&provider.peer, &provider.addrs, options)))
            .boxed()
    }

    fn peer(&self, id: &Multihash, options: RoutingOptions) -> PortStream<PeerRecord> {
        let Ok(peer) = PeerId::from_bytes(&id.to_bytes()) else { return stream::empty().boxed() };
        let routing = self.clone();
        stream::once(async move { routing.find_peer(peer).await })
            .filter_map(move |found| async move {
                match found {
                    Ok(addrs) => Some(Ok(record(&peer, &addrs, options))),
                    Err(error) if error.kind() == Kind::NotFound => None,
                    Err(error) => Some(Err(ContentError::from(error))),
                }
            })
            .boxed()
    }
}

fn record(peer: &PeerId, addrs: &[Multiaddr], options: RoutingOptions) -> PeerRecord {
    let told = addrs.iter().filter(|addr| !options.public_only || is_public(addr));
    PeerRecord { id: peer.to_string(), addrs: told.map(ToString::to_string).collect(), protocols: Vec::new() }
}
