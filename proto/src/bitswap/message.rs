//! Bitswap messages on the wire.
//!
//! Received bytes are counted before they are decoded, payloads stay slices of the receive buffer, and what is sent is
//! a list of buffers in which large payloads are shared, not copied.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{
    WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
};

use crate::block::{Block, BlockError};
use crate::cid::{self, Cid, CidError, DAG_PB, HashFunction, IDENTITY};
use crate::limits::{MAX_CID_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGE_ITEMS};

#[allow(missing_docs, unreachable_pub, reason = "generated from proto/bitswap.proto")]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/bitswap.pb.rs"));
}

use pb::message::wantlist::{Entry, WantType};
use pb::message::{BlockPresence, BlockPresenceType, Wantlist};

/// Payloads from this size on are sent from where they lie; smaller ones are copied together.
const SHARE_MIN_BYTES: usize = 16 * 1024;

/// A payload smaller than its message by this factor is copied, so that it does not keep the whole message in memory.
const MAX_RETAIN_FACTOR: usize = 4;

/// Field numbers of `Message`.
const WANTLIST: u32 = 1;
const BLOCKS: u32 = 2;
const PAYLOAD: u32 = 3;
const PRESENCES: u32 = 4;
const PENDING_BYTES: u32 = 5;

/// What a stream has negotiated, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Blocks without a prefix: CIDs of version 0 only. No presences.
    V1_0,
    /// Blocks with a prefix. No presences.
    V1_1,
    /// HAVE, DONT_HAVE and wants for them.
    V1_2,
}

impl Version {
    /// Names on the wire, in the order in which they are offered.
    ///
    /// Source: boxo `bitswap/network/bsnet/internal/default.go`.
    pub const PROTOCOLS: [(&'static str, Self); 4] = [
        ("/ipfs/bitswap/1.2.0", Self::V1_2),
        ("/ipfs/bitswap/1.1.0", Self::V1_1),
        ("/ipfs/bitswap/1.0.0", Self::V1_0),
        ("/ipfs/bitswap", Self::V1_0),
    ];

    /// Whether HAVE and DONT_HAVE are understood.
    pub fn has_presences(self) -> bool {
        self >= Self::V1_2
    }
}

/// Why received bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Announced or received length above [`MAX_MESSAGE_BYTES`].
    #[error("message too large, len_bytes={len_bytes} max={}", MAX_MESSAGE_BYTES)]
    TooLarge {
        /// Length, in bytes.
        len_bytes: usize,
    },
    /// More than [`MAX_MESSAGE_ITEMS`] entries, presences and blocks together.
    #[error("message has too many items, max={}", MAX_MESSAGE_ITEMS)]
    TooManyItems,
    /// Not protobuf of the schema.
    #[error("malformed message: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// What a want asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WantKind {
    /// Whether the peer has the block.
    Have,
    /// The block itself.
    Block,
}

/// One entry of a wantlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantEntry {
    /// Asks for a block or its presence.
    Want {
        /// CID of the block.
        cid: Cid,
        /// Higher is served first.
        priority: i32,
        /// Block or presence.
        kind: WantKind,
        /// Whether absence is to be answered.
        send_dont_have: bool,
    },
    /// Takes an earlier want back.
    Cancel(Cid),
}

/// Whether a peer has a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// It has.
    Have,
    /// It has not.
    DontHave,
}

/// A received message. Nothing in it is verified.
///
/// Entries and presences whose CID is malformed, longer than [`MAX_CID_BYTES`] or refused by [`cid::check`] are passed
/// over, and so are identity CIDs, which need no block: some implementations send them without ill intent.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    inner: pb::Message,
    len_bytes: usize,
}

impl Message {
    /// Decodes a message without its length prefix.
    ///
    /// # Errors
    /// [`MessageError`]; a peer that causes one is not worth listening to any longer.
    pub fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        let len_bytes = bytes.len();
        if len_bytes > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLarge { len_bytes });
        }
        if count_items(&bytes)? > MAX_MESSAGE_ITEMS {
            return Err(MessageError::TooManyItems);
        }
        Ok(Self { inner: pb::Message::decode(bytes)?, len_bytes })
    }

    /// Whether the entries replace the peer's whole wantlist.
    pub fn is_full_wantlist(&self) -> bool {
        self.inner.wantlist.as_ref().is_some_and(|wantlist| wantlist.full)
    }

    /// Entries of the wantlist.
    pub fn entries(&self) -> impl Iterator<Item = WantEntry> + '_ {
        self.inner.wantlist.iter().flat_map(|wantlist| &wantlist.entries).filter_map(|entry| {
            let cid = acceptable_cid(&entry.block)?;
            if entry.cancel {
                return Some(WantEntry::Cancel(cid));
            }
            let kind = match entry.want_type() {
                WantType::Block => WantKind::Block,
                WantType::Have => WantKind::Have,
            };
            let (priority, send_dont_have) = (entry.priority, entry.send_dont_have);
            Some(WantEntry::Want { cid, priority, kind, send_dont_have })
        })
    }

    /// HAVEs and DONT_HAVEs.
    pub fn presences(&self) -> impl Iterator<Item = (Cid, Presence)> + '_ {
        self.inner.block_presences.iter().filter_map(|presence| {
            let kind = match presence.r#type() {
                BlockPresenceType::Have => Presence::Have,
                BlockPresenceType::DontHave => Presence::DontHave,
            };
            Some((acceptable_cid(&presence.cid)?, kind))
        })
    }

    /// Takes the blocks, still to be hashed. Those with an unusable prefix are passed over.
    pub fn take_payloads(&mut self) -> Vec<Payload> {
        let len_bytes = self.len_bytes;
        let detach = |data: Bytes| {
            let retains_too_much = data.len() * MAX_RETAIN_FACTOR < len_bytes;
            if retains_too_much { Bytes::copy_from_slice(&data) } else { data }
        };
        let bare = std::mem::take(&mut self.inner.blocks)
            .into_iter()
            .map(|data| Payload { prefix: Prefix::V0, data: detach(data) });
        let prefixed = std::mem::take(&mut self.inner.payload).into_iter().filter_map(|block| {
            Some(Payload { prefix: Prefix::parse(&block.prefix)?, data: detach(block.data) })
        });
        bare.chain(prefixed).collect()
    }

    /// Whether there are blocks in it.
    pub fn has_payloads(&self) -> bool {
        !self.inner.blocks.is_empty() || !self.inner.payload.is_empty()
    }

    /// Whether there are wants or cancels in it, or an order to forget all earlier ones.
    pub fn has_entries(&self) -> bool {
        self.inner.wantlist.as_ref().is_some_and(|wantlist| wantlist.full || !wantlist.entries.is_empty())
    }

    /// Length on the wire, prefix excluded, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }
}

/// Bytes that a peer sent as a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    prefix: Prefix,
    data: Bytes,
}

impl Payload {
    /// The block that the bytes are. Its CID follows from them; whether anyone wants it is for the caller to see.
    ///
    /// # Errors
    /// [`BlockError`] for a block that is too large or a hash function that is not allowed.
    pub fn hash(self) -> Result<Block, BlockError> {
        let Prefix { version, codec, function, digest_bytes } = self.prefix;
        let block = Block::hash(version, codec, HashFunction::from_code(function)?, self.data)?;
        if block.multihash().size() == digest_bytes {
            return Ok(block);
        }
        // A CID with a shortened digest: rare enough to hash once more.
        let cid = Cid::new(version, codec, block.multihash().truncate(digest_bytes));
        Block::verify(cid.map_err(|error| CidError::Malformed(error.to_string()))?, block.into_data())
    }

    /// Content length, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.data.len()
    }
}

/// A CID without its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    version: cid::Version,
    codec: u64,
    function: u64,
    digest_bytes: u8,
}

impl Prefix {
    /// What a block without prefix has.
    const V0: Self =
        Self { version: cid::Version::V0, codec: DAG_PB, function: cid::SHA2_256, digest_bytes: 32 };

    fn of(cid: &Cid) -> Self {
        let hash = cid.hash();
        Self { version: cid.version(), codec: cid.codec(), function: hash.code(), digest_bytes: hash.size() }
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut varint = || decode_varint(&mut bytes).ok();
        let (version, codec, function) = (varint()?, varint()?, varint()?);
        let digest_bytes = u8::try_from(varint()?).ok()?;
        let version = cid::Version::try_from(version).ok()?;
        (function != IDENTITY && bytes.is_empty()).then_some(Self { version, codec, function, digest_bytes })
    }

    fn to_bytes(self) -> ([u8; 40], usize) {
        let mut bytes = [0; 40];
        let mut rest = &mut bytes[..];
        for value in [u64::from(self.version), self.codec, self.function, u64::from(self.digest_bytes)] {
            encode_varint(value, &mut rest);
        }
        let len_bytes = 40 - rest.len();
        (bytes, len_bytes)
    }
}

/// A message to send.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outgoing {
    /// Wants and cancels.
    pub entries: Vec<WantEntry>,
    /// Whether the entries replace what was sent before.
    pub full: bool,
    /// Blocks.
    pub blocks: Vec<Block>,
    /// HAVEs and DONT_HAVEs.
    pub presences: Vec<(Cid, Presence)>,
    /// Bytes of blocks that wait to be sent to this peer behind this message.
    pub pending_bytes: u32,
}

impl Outgoing {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.blocks.is_empty() && self.presences.is_empty() && !self.full
    }

    /// The message with its length prefix, as buffers to be written one behind the other.
    ///
    /// A peer before [`Version::V1_2`] gets neither presences nor wants for them. The wantlist field is always there,
    /// since older Kubo nodes crash without it (paritytech/litep2p#457).
    pub fn encode(&self, version: Version) -> Vec<Bytes> {
        let wantlist = self.wantlist(version);
        let presences = self.presences(version);
        let pending_bytes = if version.has_presences() { self.pending_bytes } else { 0 };
        let envelopes: Vec<_> = self.blocks.iter().map(|block| Envelope::of(block, version)).collect();

        let blocks_bytes: usize = envelopes.iter().map(Envelope::len_bytes).sum();
        let rest_bytes = prost::encoding::message::encoded_len(WANTLIST, &wantlist)
            + prost::encoding::message::encoded_len_repeated(PRESENCES, &presences)
            + if pending_bytes == 0 {
                0
            } else {
                key_len(PENDING_BYTES) + encoded_len_varint(pending_bytes.into())
            };

        let mut frames = Frames::with_capacity(rest_bytes + 64);
        encode_varint((blocks_bytes + rest_bytes) as u64, &mut frames.open);
        prost::encoding::message::encode(WANTLIST, &wantlist, &mut frames.open);
        prost::encoding::message::encode_repeated(PRESENCES, &presences, &mut frames.open);
        if pending_bytes != 0 {
            encode_key(PENDING_BYTES, WireType::Varint, &mut frames.open);
            encode_varint(pending_bytes.into(), &mut frames.open);
        }
        envelopes.iter().for_each(|envelope| envelope.encode(&mut frames));
        frames.finish()
    }

    fn wantlist(&self, version: Version) -> Wantlist {
        let entry = |entry: &WantEntry| match *entry {
            WantEntry::Cancel(cid) => {
                Some(Entry { block: cid.to_bytes().into(), cancel: true, ..Entry::default() })
            }
            WantEntry::Want { kind: WantKind::Have, .. } if !version.has_presences() => None,
            WantEntry::Want { cid, priority, kind, send_dont_have } => Some(Entry {
                block: cid.to_bytes().into(),
                priority,
                cancel: false,
                want_type: match kind {
                    WantKind::Block => WantType::Block.into(),
                    WantKind::Have => WantType::Have.into(),
                },
                send_dont_have: send_dont_have && version.has_presences(),
            }),
        };
        Wantlist { entries: self.entries.iter().filter_map(entry).collect(), full: self.full }
    }

    fn presences(&self, version: Version) -> Vec<BlockPresence> {
        if !version.has_presences() {
            return Vec::new();
        }
        let presence = |(cid, presence): &(Cid, Presence)| BlockPresence {
            cid: cid.to_bytes().into(),
            r#type: match presence {
                Presence::Have => BlockPresenceType::Have.into(),
                Presence::DontHave => BlockPresenceType::DontHave.into(),
            },
        };
        self.presences.iter().map(presence).collect()
    }
}

/// What stands around the bytes of a block in a message.
struct Envelope<'a> {
    data: &'a Bytes,
    /// `None` before 1.1.0.
    prefix: Option<([u8; 40], usize)>,
}

impl<'a> Envelope<'a> {
    fn of(block: &'a Block, version: Version) -> Self {
        let prefix = (version > Version::V1_0).then(|| Prefix::of(block.cid()).to_bytes());
        Self { data: block.data(), prefix }
    }

    /// Length of the field's content.
    fn body_bytes(&self) -> usize {
        match self.prefix {
            None => self.data.len(),
            Some((_, prefix_bytes)) => delimited_bytes(prefix_bytes) + delimited_bytes(self.data.len()),
        }
    }

    fn len_bytes(&self) -> usize {
        delimited_bytes(self.body_bytes())
    }

    fn encode(&self, frames: &mut Frames) {
        let open = &mut frames.open;
        match &self.prefix {
            None => encode_key(BLOCKS, WireType::LengthDelimited, open),
            Some((prefix, prefix_bytes)) => {
                encode_key(PAYLOAD, WireType::LengthDelimited, open);
                encode_varint(self.body_bytes() as u64, open);
                encode_key(1, WireType::LengthDelimited, open);
                encode_varint(*prefix_bytes as u64, open);
                open.put_slice(&prefix[..*prefix_bytes]);
                encode_key(2, WireType::LengthDelimited, open);
            }
        }
        encode_varint(self.data.len() as u64, open);
        frames.put(self.data);
    }
}

/// Length of a field with a number below 16 and content of that length.
fn delimited_bytes(len_bytes: usize) -> usize {
    1 + encoded_len_varint(len_bytes as u64) + len_bytes
}

/// Buffers in the making: closed ones, and one that small pieces are copied into.
struct Frames {
    closed: Vec<Bytes>,
    open: BytesMut,
}

impl Frames {
    fn with_capacity(len_bytes: usize) -> Self {
        Self { closed: Vec::new(), open: BytesMut::with_capacity(len_bytes) }
    }

    fn put(&mut self, data: &Bytes) {
        if data.len() < SHARE_MIN_BYTES {
            return self.open.put_slice(data);
        }
        self.closed.push(self.open.split().freeze());
        self.closed.push(data.clone());
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.closed.push(self.open.freeze());
        }
        self.closed
    }
}

/// The CID of an entry or presence, if it is one that a block can be asked for by.
fn acceptable_cid(bytes: &[u8]) -> Option<Cid> {
    if bytes.len() > MAX_CID_BYTES {
        return None;
    }
    cid::parse_bytes(bytes).ok().filter(|cid| cid.hash().code() != IDENTITY)
}

/// Entries, presences and blocks in a message: each costs more memory decoded than on the wire.
fn count_items(bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    count_fields(bytes, |field, content| match field {
        WANTLIST => count_fields(content, |field, _| Ok(usize::from(field == 1))),
        BLOCKS | PAYLOAD | PRESENCES => Ok(1),
        _ => Ok(0),
    })
}

/// Sums up what `count` says of every field that has a length.
fn count_fields(
    mut bytes: &[u8],
    count: impl Fn(u32, &[u8]) -> Result<usize, prost::DecodeError>,
) -> Result<usize, prost::DecodeError> {
    let mut total = 0;
    while !bytes.is_empty() {
        let (field, wire_type) = decode_key(&mut bytes)?;
        if wire_type != WireType::LengthDelimited {
            prost::encoding::skip_field(
                wire_type,
                field,
                &mut bytes,
                prost::encoding::DecodeContext::default(),
            )?;
            continue;
        }
        let len_bytes = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
        if len_bytes > bytes.len() {
            // Let the decoder word the error.
            return Ok(total);
        }
        total += count(field, &bytes[..len_bytes])?;
        bytes.advance(len_bytes);
    }
    Ok(total)
}

#[cfg(test)]
mod tests;
