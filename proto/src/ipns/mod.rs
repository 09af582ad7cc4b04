//! IPNS: names that are keys, and the signed records that say where a name leads. Pure.
//!
//! Invariant: a [`Record`] exists only after its signature was checked against its name. Whether it has expired is a
//! question of the time, which the caller knows: [`Record::expires`].
//!
//! Source: <https://specs.ipfs.tech/ipns/ipns-record/>.

mod name;
mod time;

use std::cmp::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use libp2p_identity::PublicKey;
use prost::Message as _;

use crate::cid::DAG_CBOR;
use crate::codec::{self, Value};
use crate::limits::MAX_IPNS_RECORD_BYTES;
use crate::path::ContentPath;

pub use name::{Name, NameError};

#[allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "generated")]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/ipns.pb.rs"));
}

/// What stands before the signed bytes.
const SIGNED_PREFIX: &[u8] = b"ipns-signature:";

/// Why bytes are not a record of a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More than [`MAX_IPNS_RECORD_BYTES`].
    #[error("IPNS record too large, len_bytes={len_bytes} max={}", MAX_IPNS_RECORD_BYTES)]
    TooLarge {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// Bytes that are not of the format, or parts of it that contradict each other.
    #[error("invalid IPNS record: {0}")]
    Malformed(&'static str),
    /// The key in the record is not that of the name, or the name does not hold its key and neither does the record.
    #[error("IPNS record is not for this name, name={name}")]
    Key {
        /// The name.
        name: Name,
    },
    /// Not signed by the key of the name.
    #[error("IPNS record has a false signature, name={name}")]
    Signature {
        /// The name.
        name: Name,
    },
}

/// A record whose signature is that of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Bytes,
    value: Bytes,
    validity: Bytes,
    expires: SystemTime,
    sequence: u64,
    ttl: Duration,
}

impl Record {
    /// Reads a record and checks that the key of `name` signed it.
    ///
    /// Only the second version of signatures counts. What a record says twice, for readers of the first version, must be
    /// the same both times.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn verify(name: &Name, bytes: Bytes) -> Result<Self, RecordError> {
        if bytes.len() > MAX_IPNS_RECORD_BYTES {
            return Err(RecordError::TooLarge { len_bytes: bytes.len() });
        }
        let entry =
            pb::IpnsEntry::decode(bytes.clone()).map_err(|_| RecordError::Malformed("not protobuf"))?;
        let (Some(signature), Some(data)) = (&entry.signature_v2, &entry.data) else {
            return Err(RecordError::Malformed("no signature of the second version"));
        };
        let key = key_of(name, entry.pub_key.as_deref())?;
        if !key.verify(&[SIGNED_PREFIX, data].concat(), signature) {
            return Err(RecordError::Signature { name: *name });
        }
        let signed = Signed::read(data)?;
        signed.check_repeated(&entry)?;
        let expires = time::parse(&signed.validity).ok_or(RecordError::Malformed("validity is no time"))?;
        Ok(Self {
            bytes,
            value: signed.value,
            validity: signed.validity,
            expires,
            sequence: signed.sequence,
            ttl: Duration::from_nanos(signed.ttl),
        })
    }

    /// The record as it travels.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where the name leads: a content path in most records.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// Where the name leads.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] for a value that is no content path.
    pub fn path(&self) -> Result<ContentPath, RecordError> {
        let text = std::str::from_utf8(&self.value).ok();
        let path = text.and_then(|text| ContentPath::parse(text).ok());
        path.ok_or(RecordError::Malformed("value is no content path"))
    }

    /// When it stops to be valid.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// Counts the changes of the name.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How long it may be taken for the latest one.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How long it may be taken for the latest one from `now` on: never past its end. `None` once it has expired.
    pub fn fresh_for(&self, now: SystemTime) -> Option<Duration> {
        let valid_for = self.expires.duration_since(now).ok().filter(|left| !left.is_zero())?;
        Some(self.ttl.min(valid_for))
    }

    /// Which of two valid records of one name holds: the one of more changes, else the one that is valid for longer, else
    /// the one whose bytes are greater, so that everybody decides alike.
    pub fn order(&self, other: &Self) -> Ordering {
        let by = |record: &Self| (record.sequence, record.expires);
        by(self).cmp(&by(other)).then_with(|| self.bytes.cmp(&other.bytes))
    }
}

/// The key of a name: in the name itself, else in the record, and then it must hash to the name.
fn key_of(name: &Name, in_record: Option<&[u8]>) -> Result<PublicKey, RecordError> {
    let wrong = || RecordError::Key { name: *name };
    let bytes = match (name.inlined_key(), in_record.filter(|key| !key.is_empty())) {
        (_, Some(key)) | (Some(key), None) => key,
        (None, None) => return Err(wrong()),
    };
    let key = PublicKey::try_decode_protobuf(bytes).map_err(|_| wrong())?;
    if key.to_peer_id().to_bytes() == name.multihash().to_bytes() { Ok(key) } else { Err(wrong()) }
}

/// What is signed.
struct Signed {
    value: Bytes,
    validity: Bytes,
    sequence: u64,
    ttl: u64,
}

impl Signed {
    fn read(data: &Bytes) -> Result<Self, RecordError> {
        let document =
            codec::decode(DAG_CBOR, data).map_err(|_| RecordError::Malformed("data is not DAG-CBOR"))?;
        let bytes = |key| match document.get(key) {
            Some(Value::Bytes(bytes)) => Ok(Bytes::copy_from_slice(bytes)),
            _ => Err(RecordError::Malformed("data lacks bytes")),
        };
        let number = |key| match document.get(key) {
            Some(Value::Integer(number)) => {
                u64::try_from(*number).map_err(|_| RecordError::Malformed("number out of range"))
            }
            _ => Err(RecordError::Malformed("data lacks a number")),
        };
        if number("ValidityType")? != 0 {
            return Err(RecordError::Malformed("unknown kind of validity"));
        }
        Ok(Self {
            value: bytes("Value")?,
            validity: bytes("Validity")?,
            sequence: number("Sequence")?,
            ttl: number("TTL")?,
        })
    }

    /// Holds the fields of the first version, if a record has any, against the signed ones.
    fn check_repeated(&self, entry: &pb::IpnsEntry) -> Result<(), RecordError> {
        let is_set = |field: &Option<Bytes>| field.as_ref().is_some_and(|bytes| !bytes.is_empty());
        if !is_set(&entry.signature_v1) && !is_set(&entry.value) {
            return Ok(());
        }
        let is_same = entry.value.clone().unwrap_or_default() == self.value
            && entry.validity.clone().unwrap_or_default() == self.validity
            && entry.validity_type.unwrap_or_default() == 0
            && entry.sequence.unwrap_or_default() == self.sequence
            && entry.ttl.unwrap_or_default() == self.ttl;
        if is_same { Ok(()) } else { Err(RecordError::Malformed("its two versions contradict each other")) }
    }
}

#[cfg(test)]
mod tests;
