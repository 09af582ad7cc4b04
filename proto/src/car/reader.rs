//! Reading an archive piece by piece.

use bytes::{Buf as _, Bytes, BytesMut};
use unsigned_varint::decode::Error as VarintError;

use super::{CarError, MAX_SECTION_BYTES, V2_HEADER_BYTES, V2_PRAGMA};
use crate::block::Block;
use crate::cid::{self, Cid};
use crate::codec::dag_cbor::{self, LINK_TAG, LIST, MAP, Reason, TAG, TEXT};
use crate::limits::MAX_CAR_HEADER_BYTES;

/// Takes the bytes of an archive in any pieces, and gives its blocks.
///
/// Holds at most one section and the piece pushed last, so take all blocks before the next push.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    /// Bytes of the archive before `buffer`.
    offset: u64,
    state: State,
    roots: Vec<Cid>,
    /// Where the payload of a CARv2 ends.
    end: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first header, of either version.
    #[default]
    Start,
    /// The fixed part of a CARv2 header.
    V2Header,
    /// The bytes of a CARv2 before its payload, which starts at this offset.
    Padding(u64),
    /// The header of a CARv2's payload.
    Header,
    /// Between two sections.
    Sections,
    /// Behind the payload of a CARv2: what follows is its index.
    Ended,
}

impl Reader {
    /// A reader at the start of an archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next block, `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`CarError`]; nothing more can be read then.
    #[allow(clippy::should_implement_trait, reason = "`None` is not the end: more bytes may come")]
    pub fn next(&mut self) -> Result<Option<Block>, CarError> {
        let Some(Section { offset, cid, data }) = self.next_section()? else { return Ok(None) };
        Block::verify(cid, data).map(Some).map_err(|source| CarError::Block { offset, source })
    }

    /// Adds all blocks to `blocks` that [`Self::next`] would give, hashed together.
    ///
    /// # Errors
    /// As [`Self::next`]; the blocks before it were added.
    pub fn take(&mut self, blocks: &mut Vec<Block>) -> Result<(), CarError> {
        let (mut offsets, mut unverified) = (Vec::new(), Vec::new());
        let ended = loop {
            match self.next_section() {
                Ok(Some(Section { offset, cid, data })) => {
                    offsets.push(offset);
                    unverified.push((cid, data));
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        for (offset, block) in offsets.into_iter().zip(Block::verify_all(unverified)) {
            blocks.push(block.map_err(|source| CarError::Block { offset, source })?);
        }
        ended
    }

    /// The next block before it is hashed.
    fn next_section(&mut self) -> Result<Option<Section>, CarError> {
        loop {
            let went_on = match self.state {
                State::Start => self.start()?,
                State::V2Header => self.v2_header()?,
                State::Padding(until) => self.padding(until),
                State::Header => self.header()?,
                State::Sections if self.end.is_some_and(|end| self.offset >= end) => {
                    self.state = State::Ended;
                    true
                }
                State::Sections => return self.section(),
                State::Ended => {
                    self.advance(self.buffer.len());
                    return Ok(None);
                }
            };
            if !went_on {
                return Ok(None);
            }
        }
    }

    /// Roots of the header, once it was read.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// Says that no more bytes come, after the last block was taken.
    ///
    /// # Errors
    /// [`CarError::Torn`] in the middle of a section, [`CarError::Header`] before the end of the header.
    pub fn finish(&self) -> Result<(), CarError> {
        match self.state {
            State::Ended => Ok(()),
            State::Sections if self.buffer.is_empty() && self.end.is_none_or(|end| self.offset >= end) => {
                Ok(())
            }
            State::Sections => Err(CarError::Torn { offset: self.offset }),
            _ => Err(bad_header("it ends within its header")),
        }
    }

    fn start(&mut self) -> Result<bool, CarError> {
        if self.buffer.len() >= V2_PRAGMA.len() && self.buffer.starts_with(V2_PRAGMA) {
            self.advance(V2_PRAGMA.len());
            self.state = State::V2Header;
            return Ok(true);
        }
        self.header()
    }

    fn v2_header(&mut self) -> Result<bool, CarError> {
        if self.buffer.len() < V2_HEADER_BYTES {
            return Ok(false);
        }
        let mut fields = &self.buffer[16..V2_HEADER_BYTES];
        let (data_offset, data_bytes) = (fields.get_u64_le(), fields.get_u64_le());
        let least = (V2_PRAGMA.len() + V2_HEADER_BYTES) as u64;
        let end = data_offset.checked_add(data_bytes).filter(|_| data_offset >= least);
        self.end = Some(end.ok_or_else(|| bad_header("the payload of the CARv2 lies outside"))?);
        self.advance(V2_HEADER_BYTES);
        self.state = State::Padding(data_offset);
        Ok(true)
    }

    fn padding(&mut self, until: u64) -> bool {
        let skip = usize::try_from(until - self.offset).unwrap_or(usize::MAX).min(self.buffer.len());
        self.advance(skip);
        if self.offset == until {
            self.state = State::Header;
        }
        self.offset == until
    }

    fn header(&mut self) -> Result<bool, CarError> {
        let Some((len_bytes, head)) = self.length().map_err(|()| bad_header("its length is not a varint"))?
        else {
            return Ok(false);
        };
        let len = usize::try_from(len_bytes).ok().filter(|len| *len <= MAX_CAR_HEADER_BYTES);
        let len = len.ok_or(CarError::HeaderTooLarge { len_bytes })?;
        if self.end.is_some_and(|end| self.offset + head as u64 + len_bytes > end) {
            return Err(CarError::Overrun { offset: self.offset });
        }
        if self.buffer.len() < head + len {
            return Ok(false);
        }
        self.roots = decode_header(&self.buffer[head..head + len]).map_err(bad_header)?;
        self.advance(head + len);
        self.state = State::Sections;
        Ok(true)
    }

    fn section(&mut self) -> Result<Option<Section>, CarError> {
        let offset = self.offset;
        let length = self.length().map_err(|()| CarError::SectionLength { offset, len_bytes: u64::MAX })?;
        let Some((len_bytes, head)) = length else { return Ok(None) };
        let len = usize::try_from(len_bytes).ok().filter(|len| (1..=MAX_SECTION_BYTES).contains(len));
        let len = len.ok_or(CarError::SectionLength { offset, len_bytes })?;
        if self.end.is_some_and(|end| offset + head as u64 + len_bytes > end) {
            return Err(CarError::Overrun { offset });
        }
        if self.buffer.len() < head + len {
            return Ok(None);
        }
        self.advance(head);
        let section = self.buffer.split_to(len).freeze();
        self.offset += len as u64;
        Section::read(&section, offset).map(Some)
    }

    /// The varint at the front and how many bytes it takes.
    fn length(&self) -> Result<Option<(u64, usize)>, ()> {
        match unsigned_varint::decode::u64(&self.buffer) {
            Ok((value, rest)) => Ok(Some((value, self.buffer.len() - rest.len()))),
            Err(VarintError::Insufficient) => Ok(None),
            Err(_) => Err(()),
        }
    }

    fn advance(&mut self, count: usize) {
        self.buffer.advance(count);
        self.offset += count as u64;
    }
}

/// A CID, and what is said to be its block.
struct Section {
    /// Where it starts, in bytes from the start of the archive.
    offset: u64,
    cid: Cid,
    data: Bytes,
}

impl Section {
    fn read(section: &Bytes, offset: u64) -> Result<Self, CarError> {
        let mut rest = section.as_ref();
        let cid = Cid::read_bytes(&mut rest)
            .map_err(|error| cid::CidError::Malformed(error.to_string()))
            .and_then(|cid| cid::check(&cid).map(|()| cid))
            .map_err(|source| CarError::Cid { offset, source })?;
        Ok(Self { offset, cid, data: section.slice(section.len() - rest.len()..) })
    }
}

/// Major type of a number that is not negative. Source: RFC 8949, section 3.1.
const UNSIGNED: u8 = 0;

/// The roots in a header, which is `{"roots": [links], "version": 1}`.
fn decode_header(bytes: &[u8]) -> Result<Vec<Cid>, Reason> {
    let mut reader = dag_cbor::Reader::new(bytes);
    let (mut roots, mut version) = (None, None);
    let (MAP, count) = reader.head()? else { return Err("its header is not a map") };
    for _ in 0..count {
        let (TEXT, len) = reader.head()? else { return Err("a key of its header is not text") };
        match reader.take(len)? {
            b"roots" if roots.is_none() => roots = Some(decode_roots(&mut reader)?),
            b"version" if version.is_none() => version = Some(reader.head()?),
            _ => return Err("its header has an unknown key"),
        }
    }
    if version != Some((UNSIGNED, 1)) {
        return Err("its version is not 1");
    }
    if !reader.is_empty() {
        return Err("its header is longer than it should be");
    }
    roots.ok_or("its header has no roots")
}

fn decode_roots(reader: &mut dag_cbor::Reader<'_>) -> Result<Vec<Cid>, Reason> {
    let (LIST, count) = reader.head()? else { return Err("its roots are not a list") };
    let mut roots = Vec::new();
    for _ in 0..count {
        let (TAG, LINK_TAG) = reader.head()? else { return Err("a root is not a CID") };
        roots.push(reader.link()?);
    }
    Ok(roots)
}

fn bad_header(reason: &str) -> CarError {
    CarError::Header { reason: reason.to_owned() }
}
