//! Messages of the Kademlia DHT that are exchanged with one chosen peer: whom it knows, and what is provided here.
//!
//! Source: <https://specs.ipfs.tech/routing/kad-dht/#message-format>.

use bytes::Bytes;
use prost::Message as _;

use crate::sweep::REPLICATION;

#[allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "generated")]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/kad.pb.rs"));
}

use pb::message::{ConnectionType, MessageType};

/// Peers of an answer that are read: twice as many as there should be.
const MAX_PEERS: usize = 2 * REPLICATION;
/// Addresses of one peer that are read.
const MAX_ADDRS: usize = 16;

/// A peer as messages tell of it, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Bytes of a peer ID.
    pub id: Bytes,
    /// Bytes of multiaddrs.
    pub addrs: Vec<Bytes>,
}

/// Asks for the peers closest to a target.
pub fn find_node(target: &[u8]) -> Vec<u8> {
    let message = pb::Message {
        r#type: MessageType::FindNode.into(),
        key: Bytes::copy_from_slice(target),
        ..pb::Message::default()
    };
    message.encode_to_vec()
}

/// Tells that a peer, which is who sends this, has some content. What is the same for all content is encoded once.
#[derive(Debug, Clone)]
pub struct AddProvider {
    provider: Vec<u8>,
}

impl AddProvider {
    /// Of that peer.
    pub fn of(provider: &Peer) -> Self {
        let provider = pb::message::Peer {
            id: provider.id.clone(),
            addrs: provider.addrs.clone(),
            connection: ConnectionType::Connected.into(),
        };
        // A message without anything else: fields of two that follow each other are those of one.
        let message = pb::Message { provider_peers: vec![provider], ..pb::Message::default() };
        Self { provider: message.encode_to_vec() }
    }

    /// The message for some content.
    pub fn message(&self, multihash: &[u8]) -> Vec<u8> {
        let head = pb::Message {
            r#type: MessageType::AddProvider.into(),
            key: Bytes::copy_from_slice(multihash),
            ..pb::Message::default()
        };
        let mut message = head.encode_to_vec();
        message.extend_from_slice(&self.provider);
        message
    }
}

/// The peers that an answer names, as many of them as an honest one has.
///
/// # Errors
/// Bytes that are no message.
pub fn closer_peers(message: Bytes) -> Result<Vec<Peer>, prost::DecodeError> {
    let message = pb::Message::decode(message)?;
    let peers = message.closer_peers.into_iter().take(MAX_PEERS);
    let peers =
        peers.map(|peer| Peer { id: peer.id, addrs: peer.addrs.into_iter().take(MAX_ADDRS).collect() });
    Ok(peers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_that_the_schema_says() {
        // Written by hand from the table of fields: tag ‖ length ‖ bytes, enumerations as varints.
        assert_eq!(find_node(b"abc"), b"\x08\x04\x12\x03abc");
        let peer = Peer { id: Bytes::from_static(b"p"), addrs: vec![Bytes::from_static(b"xy")] };
        assert_eq!(
            AddProvider::of(&peer).message(b"abc"),
            b"\x08\x02\x12\x03abc\x4a\x09\x0a\x01p\x12\x02xy\x18\x01"
        );
        let answer = Bytes::from_static(b"\x08\x04\x42\x07\x0a\x01p\x12\x02xy\x50\x0a");
        assert_eq!(closer_peers(answer), Ok(vec![peer]));
        assert!(closer_peers(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn an_answer_with_too_many_peers_is_cut() {
        let peer = b"\x42\x03\x0a\x01p";
        assert_eq!(closer_peers(peer.repeat(MAX_PEERS).into()).map(|peers| peers.len()), Ok(MAX_PEERS));
        assert_eq!(closer_peers(peer.repeat(MAX_PEERS + 1).into()).map(|peers| peers.len()), Ok(MAX_PEERS));
    }
}
