//! The protobuf wire format, as far as dag-pb and UnixFS need it.
//!
//! Reading borrows from the input and allocates nothing; a length is held against what is left before it is
//! used. Both formats are hashed, so their bytes are written here field by field instead of by a library that
//! may reorder them.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

/// Why bytes are not protobuf.
pub(crate) type Reason = &'static str;

/// Wire type of numbers of variable length.
pub(crate) const VARINT: u8 = 0;
/// Wire type of eight bytes.
const FIXED64: u8 = 1;
/// Wire type of a length and bytes.
pub(crate) const BYTES: u8 = 2;
/// Wire type of four bytes.
pub(crate) const FIXED32: u8 = 5;

/// Largest field number.
const MAX_FIELD: u32 = (1 << 29) - 1;

/// A cursor over protobuf bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Field number and wire type.
    pub(crate) fn tag(&mut self) -> Result<(u32, u8), Reason> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(field @ 1..=MAX_FIELD) => Ok((field, (tag & 7) as u8)),
            _ => Err("field number out of range"),
        }
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Reason> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            if index == 9 && byte > 1 {
                return Err("number overflows 64 bits");
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err("truncated")
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Reason> {
        let len = usize::try_from(self.varint()?).map_err(|_| "truncated")?;
        self.take(len)
    }

    pub(crate) fn fixed32(&mut self) -> Result<u32, Reason> {
        let bytes = self.take(4)?.try_into().expect("four bytes were taken");
        Ok(u32::from_le_bytes(bytes))
    }

    /// Passes over the value of a field that is not known.
    pub(crate) fn skip(&mut self, wire_type: u8) -> Result<(), Reason> {
        match wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => self.take(4).map(drop),
            _ => Err("wire type not allowed"),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or("truncated")?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Bytes that `value` takes.
pub(crate) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes that a field of `len` bytes takes, with the tag of a field below 16.
pub(crate) fn bytes_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Bytes that a field with that number takes, with the tag of a field below 16.
pub(crate) fn varint_field_len(value: u64) -> usize {
    1 + varint_len(value)
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

pub(crate) fn put_varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, VARINT);
    put_varint(out, value);
}

/// Tag and length of a field of bytes; the bytes follow.
pub(crate) fn put_bytes_header(out: &mut Vec<u8>, field: u32, len: usize) {
    put_tag(out, field, BYTES);
    put_varint(out, len as u64);
}

pub(crate) fn put_bytes_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_bytes_header(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_fixed32_field(out: &mut Vec<u8>, field: u32, value: u32) {
    put_tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u8) {
    put_varint(out, u64::from(field) << 3 | u64::from(wire_type));
}

#[cfg(test)]
mod tests {
    use super::*;

    // Source of the numbers: protobuf encoding guide, and the boundaries of seven-bit groups.
    const VARINTS: [(u64, &[u8]); 6] = [
        (0, &[0x00]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (150, &[0x96, 0x01]),
        (16384, &[0x80, 0x80, 0x01]),
        (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ];

    #[test]
    fn numbers_are_written_and_read_as_the_guide_says() {
        for (value, bytes) in VARINTS {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(varint_len(value), bytes.len());
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 2;
        assert_eq!(Reader::new(&bytes).varint(), Err("number overflows 64 bits"));
        assert_eq!(Reader::new(&[0x80; 11]).varint(), Err("number overflows 64 bits"));
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_at_once() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(Reader::new(&bytes).bytes(), Err("truncated"));
        assert_eq!(Reader::new(&[3, 1, 2]).bytes(), Err("truncated"));
        assert_eq!(Reader::new(&[2, 1, 2]).bytes(), Ok([1, 2].as_slice()));
    }
}
