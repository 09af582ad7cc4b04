//! Cuts where the remainder of the last 16 bytes, taken as a polynomial, ends in zeros.
//!
//! Source: boxo `chunker/rabin.go`, and the Go package `whyrusleeping/chunker` below it.

/// The irreducible polynomial that is divided by, its coefficients as bits.
const POLYNOMIAL: u64 = 17_437_180_132_763_653;
const DEGREE: u32 = 53;
/// Bytes that the remainder is of.
const WINDOW: usize = 16;

/// The remainder of each byte followed by 15 zeros, and what brings a remainder that grew by a byte down again.
static TABLES: Tables = Tables::new();

struct Tables {
    out: [u64; 256],
    reduce: [u64; 256],
}

impl Tables {
    const fn new() -> Self {
        let mut tables = Self { out: [0; 256], reduce: [0; 256] };
        let mut byte = 0;
        while byte < 256 {
            let mut out = remainder(byte as u64);
            let mut zeros = 1;
            while zeros < WINDOW {
                out = remainder(out << 8);
                zeros += 1;
            }
            tables.out[byte] = out;
            let above = (byte as u64) << DEGREE;
            tables.reduce[byte] = remainder(above) | above;
            byte += 1;
        }
        tables
    }
}

const fn remainder(mut dividend: u64) -> u64 {
    while dividend >> DEGREE != 0 {
        dividend ^= POLYNOMIAL << (dividend.ilog2() - DEGREE);
    }
    dividend
}

/// Lengths of chunks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rabin {
    pub(super) min: usize,
    pub(super) average: usize,
    pub(super) max: usize,
}

impl Rabin {
    /// Shortest that `min` may be, in bytes.
    pub(super) const MIN_BYTES: usize = WINDOW;

    /// Length of the first chunk of `data`, which is `max` long, or all that is left.
    pub(super) fn cut(self, data: &[u8]) -> usize {
        let mask = (1 << self.average.ilog2()) - 1;
        let data = &data[..data.len().min(self.max)];
        // As if a one came before the chunk.
        let mut window = [0; WINDOW];
        window[0] = 1;
        let mut at = 1;
        let mut hash = 1_u64;
        for (index, &byte) in data.iter().enumerate().skip(self.min - WINDOW) {
            let gone = std::mem::replace(&mut window[at], byte);
            at = (at + 1) % WINDOW;
            hash ^= TABLES.out[usize::from(gone)];
            let above = hash >> (DEGREE - 8);
            hash = (hash << 8 | u64::from(byte)) ^ TABLES.reduce[above as usize];
            if index + 1 >= self.min && hash & mask == 0 {
                return index + 1;
            }
        }
        data.len()
    }
}
