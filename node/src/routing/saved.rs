//! Routing tables on disk, so that a restart needs no peer to start from.

use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::records::{Backing, RowChange};
use crate::swarm::{self, Table};

/// What stands before the protocol of a DHT in the key of its row.
const PREFIX: &[u8] = b"table/";
/// How often the tables are written, and once more at the end.
const SAVE_INTERVAL: Duration = Duration::from_secs(300);

#[derive(Clone, PartialEq, prost::Message)]
struct StoredTable {
    #[prost(message, repeated, tag = "1")]
    peers: Vec<StoredPeer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredPeer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addrs: Vec<Vec<u8>>,
}

/// The saved tables of every DHT that this node ever took part in. Blocks its thread.
pub(crate) fn load(backing: &dyn Backing) -> Vec<Table> {
    let rows = backing
        .iter(PREFIX)
        .filter_map(|row| row.inspect_err(|error| debug!(%error, "saved routing table not read")).ok());
    rows.filter_map(|(key, row)| {
        let protocol = String::from_utf8(key.strip_prefix(PREFIX)?.to_vec()).ok()?;
        Some(Table { protocol, peers: decode(&row) })
    })
    .collect()
}

/// Saves the tables from time to time, and at the end.
pub(crate) async fn keep(swarm: swarm::Handle, backing: Arc<dyn Backing>, stopping: CancellationToken) {
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(SAVE_INTERVAL) => false,
            () = stopping.cancelled() => true,
        };
        save(&swarm, &backing).await;
        if is_last {
            return;
        }
    }
}

/// Saves the tables. One without peers leaves what was saved earlier: the network may be away for a while.
pub(super) async fn save(swarm: &swarm::Handle, backing: &Arc<dyn Backing>) {
    let Ok(mut tables) = swarm.tables().await else { return };
    tables.retain(|table| !table.peers.is_empty());
    let changes: Vec<_> = tables
        .iter()
        .map(|table| RowChange {
            key: [PREFIX, table.protocol.as_bytes()].concat(),
            value: Some(encode(&table.peers)),
        })
        .collect();
    if changes.is_empty() {
        return;
    }
    let backing = Arc::clone(backing);
    match tokio::task::spawn_blocking(move || backing.write(changes)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "routing tables not saved"),
        Err(error) => debug!(%error, "saving routing tables stopped"),
    }
}

fn encode(peers: &[(PeerId, Vec<Multiaddr>)]) -> Vec<u8> {
    let peers = peers.iter().map(|(peer, addrs)| StoredPeer {
        id: peer.to_bytes(),
        addrs: addrs.iter().map(Multiaddr::to_vec).collect(),
    });
    StoredTable { peers: peers.collect() }.encode_to_vec()
}

/// What can be read of a stored table.
fn decode(bytes: &[u8]) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let table = StoredTable::decode(bytes).unwrap_or_default();
    let peers = table.peers.into_iter().filter_map(|peer| {
        let addrs = peer.addrs.into_iter().filter_map(|addr| Multiaddr::try_from(addr).ok());
        Some((PeerId::from_bytes(&peer.id).ok()?, addrs.collect()))
    });
    peers.collect()
}
