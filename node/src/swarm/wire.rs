//! Kademlia spoken with one chosen peer, on streams of our own: libp2p's Kademlia only asks whom it chooses itself, and
//! takes one walk through the network for every record.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use cairn_proto::cid::Multihash;
use cairn_proto::kad;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::swarm::StreamProtocol;
use libp2p::{Multiaddr, PeerId, Stream};
use libp2p_stream::Control;

use super::address::{Rule, told};
use super::bitswap::frame;
use super::{Handle, Scope};
use crate::settings::SwarmSettings;
use crate::{Error, Kind};

/// Longest wait for one step of a peer: to connect, to answer, to take some bytes.
///
/// Source: Kubo, `Provide.DHT` (10 s per peer).
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a peer to say that it has read all records.
const TAKEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer, in bytes: twenty peers with a few addresses need a tenth of it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Bytes of records that are written at once.
const WRITE_BYTES: usize = 64 * 1024;
/// Addresses told with a record.
const MAX_TOLD_ADDRS: usize = 16;

/// A peer and where it may listen.
pub(crate) type Contact = (PeerId, Vec<Multiaddr>);

/// Opens streams of the DHTs' protocols.
#[derive(Clone)]
pub(super) struct Wire {
    streams: Control,
    /// Of the public DHT, and of the local one.
    protocols: Arc<[StreamProtocol; 2]>,
}

impl Wire {
    /// Speaks the protocols of the settings.
    pub(super) fn new(streams: Control, settings: &SwarmSettings) -> Result<Self, Error> {
        let protocol = |protocol: &str| {
            StreamProtocol::try_from_owned(protocol.to_owned()).map_err(|_| {
                Error::invalid(format!("DHT protocol must start with a slash, protocol={protocol}"))
            })
        };
        let protocols = [protocol(&settings.dht_protocol)?, protocol(&settings.lan_dht_protocol)?];
        Ok(Self { streams, protocols: Arc::new(protocols) })
    }

    /// Protocol of a DHT.
    pub(super) fn protocol(&self, scope: Scope) -> &StreamProtocol {
        let [wan, lan] = &*self.protocols;
        match scope {
            Scope::Wan => wan,
            Scope::Lan => lan,
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("protocols", &self.protocols).finish_non_exhaustive()
    }
}

impl Handle {
    /// Name of the protocol of a DHT.
    pub fn dht_protocol(&self, scope: Scope) -> &str {
        self.wire.protocol(scope).as_ref()
    }

    /// Asks a peer whom it knows closest to a target; those with no address that belongs into this DHT are left out.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] for a peer that is not reached or speaks nonsense, [`Kind::Timeout`], [`Kind::Closed`].
    ///
    /// # Cancellation
    /// Cancel-safe: the answer is dropped.
    pub(crate) async fn find_node(
        &self,
        scope: Scope,
        contact: &Contact,
        target: &[u8],
    ) -> Result<Vec<Contact>, Error> {
        let mut stream = self.open(scope, contact).await?;
        let answer = async {
            frame::write(&mut stream, &[framed(&kad::find_node(target))]).await.map_err(failed)?;
            let len_bytes = frame::read_len(&mut stream).await.map_err(failed)?.unwrap_or(0);
            if len_bytes > MAX_ANSWER_BYTES {
                return Err(Error::new(
                    Kind::Unavailable,
                    format!("answer too large, len_bytes={len_bytes}"),
                ));
            }
            frame::read_body(&mut stream, len_bytes, |_| ()).await.map_err(failed)
        };
        let answer = in_time(STEP_TIMEOUT, answer).await??;
        let peers = kad::closer_peers(answer).map_err(failed)?;
        let rule = Rule::of_protocol(self.dht_protocol(scope));
        let contacts = peers.into_iter().filter_map(|peer| {
            let addrs = peer.addrs.into_iter().filter_map(|addr| Multiaddr::try_from(addr.to_vec()).ok());
            let addrs: Vec<_> = addrs.filter(|addr| rule.lets_in(addr)).collect();
            let id = PeerId::from_bytes(&peer.id).ok()?;
            (!addrs.is_empty() && id != self.local_peer_id).then_some((id, addrs))
        });
        Ok(contacts.collect())
    }

    /// Tells a peer that this node provides all of these, and waits until it has read that.
    ///
    /// # Errors
    /// As [`Self::find_node`]. The peer may have taken some of them.
    ///
    /// # Cancellation
    /// Cancel-safe: the peer may have taken some of them.
    pub(crate) async fn tell_provided(
        &self,
        scope: Scope,
        contact: &Contact,
        keys: impl Iterator<Item = Multihash> + Send,
    ) -> Result<(), Error> {
        let mut stream = self.open(scope, contact).await?;
        let rule = Rule::of_protocol(self.dht_protocol(scope));
        let addrs = told(rule, &self.external_addrs());
        let record = kad::AddProvider::of(&kad::Peer {
            id: self.local_peer_id.to_bytes().into(),
            addrs: addrs.iter().take(MAX_TOLD_ADDRS).map(|addr| addr.to_vec().into()).collect(),
        });
        let mut buffer = BytesMut::new();
        for key in keys {
            buffer.put(framed(&record.message(&key.to_bytes())));
            if buffer.len() >= WRITE_BYTES {
                in_time(STEP_TIMEOUT, stream.write_all(&buffer)).await?.map_err(failed)?;
                buffer.clear();
            }
        }
        in_time(STEP_TIMEOUT, stream.write_all(&buffer)).await?.map_err(failed)?;
        in_time(STEP_TIMEOUT, stream.close()).await?.map_err(failed)?;
        // There is no answer to a record. But a peer that has read the end of ours ends its side as well.
        match in_time(TAKEN_TIMEOUT, stream.read(&mut [0])).await? {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::new(Kind::Unavailable, "the peer answered records, which have no answer")),
            Err(error) => Err(failed(error)),
        }
    }

    async fn open(&self, scope: Scope, (peer, addrs): &Contact) -> Result<Stream, Error> {
        in_time(STEP_TIMEOUT, self.connect(*peer, addrs.clone())).await??;
        let mut streams = self.wire.streams.clone();
        let opening = streams.open_stream(*peer, self.wire.protocol(scope).clone());
        in_time(STEP_TIMEOUT, opening).await?.map_err(failed)
    }
}

/// A message behind its length.
fn framed(message: &[u8]) -> Bytes {
    let mut prefix = unsigned_varint::encode::usize_buffer();
    [unsigned_varint::encode::usize(message.len(), &mut prefix), message].concat().into()
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Unavailable, "the peer of the DHT failed").with_cause(error)
}

async fn in_time<T>(limit: Duration, step: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(limit, step)
        .await
        .map_err(|_| Error::new(Kind::Timeout, "the peer of the DHT did not answer in time"))
}
