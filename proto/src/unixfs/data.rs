//! The UnixFS message inside a dag-pb node.
//!
//! Reading follows proto2: unknown fields are passed over, the last of a repeated single field holds, numbers
//! may be packed. Writing gives the form that every importer gives: fields by number, nothing packed.
//!
//! Source: <https://specs.ipfs.tech/unixfs/> and boxo `ipld/unixfs/pb/unixfs.proto`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::codec::wire::{
    BYTES, FIXED32, Reader, Reason, VARINT, bytes_field_len, put_bytes_field, put_bytes_header,
    put_fixed32_field, put_varint_field, varint_field_len,
};

const KIND: u32 = 1;
const DATA: u32 = 2;
const FILESIZE: u32 = 3;
const BLOCKSIZES: u32 = 4;
const HASH_TYPE: u32 = 5;
const FANOUT: u32 = 6;
const MODE: u32 = 7;
const MTIME: u32 = 8;

/// What a UnixFS node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A leaf of a file in an old form; read as a file.
    Raw = 0,
    /// A directory in one node.
    Directory = 1,
    /// A file, or a part of one.
    File = 2,
    /// MIME type of another node; not in use.
    Metadata = 3,
    /// A symbolic link.
    Symlink = 4,
    /// A shard of a directory.
    HamtShard = 5,
}

/// Time of the last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtime {
    /// Seconds since 1970, UTC.
    pub seconds: i64,
    /// Nanoseconds beyond them, as they stand in the bytes: they may be out of range.
    pub nanos: Option<u32>,
}

/// What a file system keeps of a file beside its content, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions: the lowest 12 bits.
    pub mode: Option<u32>,
    /// Time of the last change.
    pub mtime: Option<Mtime>,
}

impl Attributes {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The moment of the last change; `None` for one that is out of range too.
    pub fn modified(&self) -> Option<SystemTime> {
        self.mtime?.time()
    }
}

/// The UnixFS message, field by field. What the fields mean together is for [`super::decode`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// What the node is.
    pub kind: Kind,
    /// Content of a file's own, target of a symlink, or bitfield of a shard.
    pub data: Option<Bytes>,
    /// Length of the file below this node, in bytes.
    pub filesize: Option<u64>,
    /// For each link, the length of the file's part below it, in bytes.
    pub blocksizes: Vec<u64>,
    /// Hash function of a sharded directory.
    pub hash_type: Option<u64>,
    /// Children of a shard, at most.
    pub fanout: Option<u64>,
    /// Permissions, and above the lowest 12 bits what no one has defined.
    pub mode: Option<u32>,
    /// Time of the last change.
    pub mtime: Option<Mtime>,
}

impl Data {
    /// A message of that kind, with no other field.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            data: None,
            filesize: None,
            blocksizes: Vec::new(),
            hash_type: None,
            fanout: None,
            mode: None,
            mtime: None,
        }
    }

    /// Reads a message. Its content shares the memory of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        parse(bytes).map_err(super::malformed)
    }

    /// Mode and time; of the mode the permissions.
    pub fn attributes(&self) -> Attributes {
        Attributes { mode: self.mode.map(|mode| mode & 0o7777), mtime: self.mtime }
    }

    /// Puts mode and time in place.
    pub fn set_attributes(&mut self, attributes: Attributes) {
        (self.mode, self.mtime) = (attributes.mode, attributes.mtime);
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.put(&mut out);
        out
    }

    /// Length of [`Self::encode`], in bytes.
    pub fn encoded_len(&self) -> usize {
        let numbers = [self.filesize, self.hash_type, self.fanout, self.mode.map(u64::from)];
        varint_field_len(self.kind as u64)
            + self.data.as_ref().map_or(0, |data| bytes_field_len(data.len()))
            + numbers.into_iter().flatten().map(varint_field_len).sum::<usize>()
            + self.blocksizes.iter().copied().map(varint_field_len).sum::<usize>()
            + self.mtime.map_or(0, |mtime| bytes_field_len(mtime.encoded_len()))
    }

    /// Appends the message to `out`.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint_field(out, KIND, self.kind as u64);
        if let Some(data) = &self.data {
            put_bytes_field(out, DATA, data);
        }
        let put_number = |out: &mut Vec<u8>, field, number: Option<u64>| {
            number.into_iter().for_each(|number| put_varint_field(out, field, number));
        };
        put_number(out, FILESIZE, self.filesize);
        self.blocksizes.iter().for_each(|&size| put_varint_field(out, BLOCKSIZES, size));
        put_number(out, HASH_TYPE, self.hash_type);
        put_number(out, FANOUT, self.fanout);
        put_number(out, MODE, self.mode.map(u64::from));
        if let Some(mtime) = self.mtime {
            put_bytes_header(out, MTIME, mtime.encoded_len());
            mtime.put(out);
        }
    }
}

impl Mtime {
    const SECONDS: u32 = 1;
    const NANOS: u32 = 2;

    /// The moment; `None` for one that is out of range.
    pub fn time(self) -> Option<SystemTime> {
        let nanos = self.nanos.unwrap_or_default();
        if nanos >= 1_000_000_000 {
            return None;
        }
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let second =
            if self.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
        second?.checked_add(Duration::from_nanos(nanos.into()))
    }

    fn encoded_len(self) -> usize {
        varint_field_len(self.seconds.cast_unsigned()) + self.nanos.map_or(0, |_| 5)
    }

    fn put(self, out: &mut Vec<u8>) {
        put_varint_field(out, Self::SECONDS, self.seconds.cast_unsigned());
        if let Some(nanos) = self.nanos {
            put_fixed32_field(out, Self::NANOS, nanos);
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(bytes);
        let (mut seconds, mut nanos) = (None, None);
        while !reader.is_empty() {
            match reader.tag()? {
                (Self::SECONDS, VARINT) => seconds = Some(reader.varint()?.cast_signed()),
                (Self::NANOS, FIXED32) => nanos = Some(reader.fixed32()?),
                (_, wire_type) => reader.skip(wire_type)?,
            }
        }
        Ok(Self { seconds: seconds.ok_or("time without seconds")?, nanos })
    }
}

fn parse(bytes: &Bytes) -> Result<Data, Reason> {
    let mut reader = Reader::new(bytes);
    let mut kind = None;
    let mut message = Data::new(Kind::Raw);
    while !reader.is_empty() {
        match reader.tag()? {
            (KIND, VARINT) => kind = Some(parse_kind(reader.varint()?)?),
            (DATA, BYTES) => message.data = Some(bytes.slice_ref(reader.bytes()?)),
            (FILESIZE, VARINT) => message.filesize = Some(reader.varint()?),
            (BLOCKSIZES, VARINT) => message.blocksizes.push(reader.varint()?),
            (BLOCKSIZES, BYTES) => {
                let mut packed = Reader::new(reader.bytes()?);
                while !packed.is_empty() {
                    message.blocksizes.push(packed.varint()?);
                }
            }
            (HASH_TYPE, VARINT) => message.hash_type = Some(reader.varint()?),
            (FANOUT, VARINT) => message.fanout = Some(reader.varint()?),
            // A proto2 uint32 keeps the low half of a longer number.
            (MODE, VARINT) => message.mode = Some(low_half(reader.varint()?)),
            (MTIME, BYTES) => message.mtime = Some(Mtime::parse(reader.bytes()?)?),
            (_, wire_type) => reader.skip(wire_type)?,
        }
    }
    message.kind = kind.ok_or("no type")?;
    Ok(message)
}

fn parse_kind(number: u64) -> Result<Kind, Reason> {
    Ok(match number {
        0 => Kind::Raw,
        1 => Kind::Directory,
        2 => Kind::File,
        3 => Kind::Metadata,
        4 => Kind::Symlink,
        5 => Kind::HamtShard,
        _ => return Err("unknown type"),
    })
}

fn low_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("the high half was masked out")
}
