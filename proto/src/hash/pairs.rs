//! SHA2-256 of two messages at once, on processors with instructions for it.
//!
//! Each of those instructions waits for the result of the one before, so a single message leaves the unit idle for half of
//! the time. Two messages whose rounds alternate take hardly longer than one. Sources: FIPS 180-4, and Intel's "SHA
//! Extensions" for what the instructions expect where.

/// Digest of SHA2-256.
pub(super) type Digest = [u8; 32];

/// Digests of two messages; `None` on a processor that cannot.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "code for a processor that has certain instructions, called when it has them")]
pub(super) fn digests(messages: [&[u8]; 2]) -> Option<[Digest; 2]> {
    let is_able = is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1");
    // SAFETY: the processor has every instruction that the function is compiled for.
    is_able.then(|| unsafe { x86::digests(messages) })
}

/// Digests of two messages; `None` on a processor that cannot.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn digests(_messages: [&[u8]; 2]) -> Option<[Digest; 2]> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
        _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::Digest;

    /// Bytes that one round of compression takes.
    const BLOCK_BYTES: usize = 64;
    /// The constants of the rounds, four at a time. Source: FIPS 180-4, section 4.2.2.
    #[rustfmt::skip]
    const K: [[i32; 4]; 16] = constants([
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ]);
    /// The first hash value. Source: FIPS 180-4, section 5.3.3.
    const FIRST: [[i32; 4]; 2] = [
        // The instructions want a, b, e, f in one register and c, d, g, h in another.
        [0x6a09_e667, 0xbb67_ae85_u32.cast_signed(), 0x510e_527f, 0x9b05_688c_u32.cast_signed()],
        [0x3c6e_f372, 0xa54f_f53a_u32.cast_signed(), 0x1f83_d9ab, 0x5be0_cd19],
    ];

    /// The hash value of one message so far: a, b, e, f and c, d, g, h, from the top.
    type State = [__m128i; 2];

    const fn constants(words: [u32; 64]) -> [[i32; 4]; 16] {
        let mut quads = [[0; 4]; 16];
        let mut at = 0;
        while at < words.len() {
            quads[at / 4][at % 4] = words[at].cast_signed();
            at += 1;
        }
        quads
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn digests(messages: [&[u8]; 2]) -> [Digest; 2] {
        let [[a, b, e, f], [c, d, g, h]] = FIRST;
        let mut states = [[_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]; 2];
        let [first, second] = messages.map(|message| message.as_chunks::<BLOCK_BYTES>());
        let both = first.0.len().min(second.0.len());
        compress(&mut states, [&first.0[..both], &second.0[..both]]);
        let [one, other] = states;
        [
            finish(one, &first.0[both..], first.1, messages[0].len()),
            finish(other, &second.0[both..], second.1, messages[1].len()),
        ]
    }

    /// The digest of a message of `len` bytes: what is left of it, and the padding. Source: FIPS 180-4, section 5.1.1.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn finish(state: State, blocks: &[[u8; BLOCK_BYTES]], rest: &[u8], len: usize) -> Digest {
        let mut states = [state];
        compress(&mut states, [blocks]);
        let mut last = [[0; BLOCK_BYTES]; 2];
        let bytes = last.as_flattened_mut();
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        let end = if rest.len() + 9 > BLOCK_BYTES { 2 * BLOCK_BYTES } else { BLOCK_BYTES };
        bytes[end - 8..end].copy_from_slice(&(8 * len as u64).to_be_bytes());
        compress(&mut states, [&last[..end / BLOCK_BYTES]]);
        let [[abef, cdgh]] = states;
        let words = [
            _mm_extract_epi32::<3>(abef),
            _mm_extract_epi32::<2>(abef),
            _mm_extract_epi32::<3>(cdgh),
            _mm_extract_epi32::<2>(cdgh),
            _mm_extract_epi32::<1>(abef),
            _mm_extract_epi32::<0>(abef),
            _mm_extract_epi32::<1>(cdgh),
            _mm_extract_epi32::<0>(cdgh),
        ];
        let mut digest = [0; 32];
        digest.as_chunks_mut().0.copy_from_slice(&words.map(i32::to_be_bytes));
        digest
    }

    /// Takes as many blocks of each message as there are of the first. Source: FIPS 180-4, section 6.2.2.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn compress<const N: usize>(states: &mut [State; N], messages: [&[[u8; BLOCK_BYTES]]; N]) {
        for at in 0..messages[0].len() {
            let before = *states;
            let mut words = [[_mm_setzero_si128(); 4]; N];
            for (words, message) in words.iter_mut().zip(messages) {
                *words = load(&message[at]);
            }
            for (round, constants) in K.iter().enumerate() {
                let [k0, k1, k2, k3] = *constants;
                let constants = _mm_set_epi32(k3, k2, k1, k0);
                for (state, words) in states.iter_mut().zip(&mut words) {
                    let added = _mm_add_epi32(words[0], constants);
                    state[1] = _mm_sha256rnds2_epu32(state[1], state[0], added);
                    state[0] = _mm_sha256rnds2_epu32(state[0], state[1], _mm_shuffle_epi32::<0x0e>(added));
                    let next = if round < 12 { schedule(*words) } else { words[0] };
                    *words = [words[1], words[2], words[3], next];
                }
            }
            for (state, before) in states.iter_mut().zip(before) {
                *state = [_mm_add_epi32(state[0], before[0]), _mm_add_epi32(state[1], before[1])];
            }
        }
    }

    /// The next four words of the message schedule.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn schedule([w0, w4, w8, w12]: [__m128i; 4]) -> __m128i {
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8::<4>(w12, w8));
        _mm_sha256msg2_epu32(sum, w12)
    }

    /// The sixteen words of a block, which are big endian.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn load(block: &[u8; BLOCK_BYTES]) -> [__m128i; 4] {
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let (halves, _) = block.as_chunks::<8>();
        let mut words = [_mm_setzero_si128(); 4];
        for (words, halves) in words.iter_mut().zip(halves.as_chunks().0) {
            let [low, high]: &[[u8; 8]; 2] = halves;
            let bytes = _mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low));
            *words = _mm_shuffle_epi8(bytes, swap);
        }
        words
    }
}
