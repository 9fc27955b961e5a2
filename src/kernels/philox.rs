//! Philox4x32-7, a random generator that is a function of a counter.
//!
//! Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011). Seven rounds are the
//! fewest with which it passes BigCrush.

use super::simd::vectorized;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 7;

/// Bytes that one counter gives: four words, each with its lowest byte first.
pub const BYTES: usize = 16;

/// Counters that are worked on together, for the compiler to put into vector registers.
const WIDE: usize = 16;

vectorized! {
    /// Fills `out` with the bytes of the counters from `counter` on, whose upper halves are `high`.
    pub fn fill(key: [u32; 2], high: [u32; 2], counter: u64, out: &mut [u8]) {
        let (blocks, rest) = out.as_chunks_mut::<{ WIDE * BYTES }>();
        let mut counter = counter;
        for block in blocks {
            *block = wide(key, high, counter);
            counter = counter.wrapping_add(WIDE as u64);
        }
        let n = rest.len();
        if n > 0 {
            rest.copy_from_slice(&wide(key, high, counter)[..n]);
        }
    }
}

/// The bytes of `WIDE` neighbouring counters, in order.
///
/// Words are held in the lower halves of u64, as vector multiplication takes them; what gathers in the
/// upper halves is cut off before it counts.
#[inline(always)]
fn wide(mut key: [u32; 2], high: [u32; 2], counter: u64) -> [u8; WIDE * BYTES] {
    const LOW: u64 = 0xffff_ffff;
    let [mut c0, mut c1] = [[0; WIDE]; 2];
    for i in 0..WIDE {
        let counter = counter.wrapping_add(i as u64);
        [c0[i], c1[i]] = [counter, counter >> 32];
    }
    let [mut c2, mut c3] = high.map(|word| [u64::from(word); WIDE]);
    for _ in 0..ROUNDS {
        let [k0, k1] = key.map(u64::from);
        for i in 0..WIDE {
            let a = u64::from(MULTIPLIERS[0]) * (c0[i] & LOW);
            let b = u64::from(MULTIPLIERS[1]) * (c2[i] & LOW);
            [c0[i], c1[i], c2[i], c3[i]] = [b >> 32 ^ c1[i] ^ k0, b, a >> 32 ^ c3[i] ^ k1, a];
        }
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    let mut bytes = [0; WIDE * BYTES];
    let (words, _) = bytes.as_chunks_mut::<8>();
    for i in 0..WIDE {
        words[2 * i] = (c0[i] & LOW | c1[i] << 32).to_le_bytes();
        words[2 * i + 1] = (c2[i] & LOW | c3[i] << 32).to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;

    fn words(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
        let mut bytes = [0; BYTES];
        let low = u64::from(counter[1]) << 32 | u64::from(counter[0]);
        fill(key, [counter[2], counter[3]], low, &mut bytes);
        let (words, _) = bytes.as_chunks();
        std::array::from_fn(|i| u32::from_le_bytes(words[i]))
    }

    /// The known answers that the authors publish with Random123.
    #[test]
    fn published_vectors_hold() {
        let ones = u32::MAX;
        let cases = [
            ([0; 4], [0; 2], [0x5f6f_b709, 0x0d89_3f64, 0x4f12_1f81, 0x4f73_0a48]),
            ([ones; 4], [ones; 2], [0x5207_ddc2, 0x4516_5e59, 0x4d8e_e751, 0x8c52_f662]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0x4dfc_caba, 0x190a_87f0, 0xc473_62ba, 0xb6b5_242a],
            ),
        ];
        at_every_level(|level| {
            for (counter, key, expected) in cases {
                assert_eq!(words(counter, key), expected, "{level:?}");
            }
        });
    }

    #[test]
    fn counters_follow_one_another_at_every_level() {
        let (key, high) = ([3, 5], [7, 11]);
        at_every_level(|level| {
            // The lower word of a counter runs over in the midst of a block.
            for (start, n) in [(0, 1), (1, 16), (3, 4096), (u64::from(u32::MAX) - 20, 2000 + 3)] {
                let mut bytes = vec![0; n];
                fill(key, high, start, &mut bytes);
                for (i, bytes) in bytes.chunks(BYTES).enumerate() {
                    let mut alone = vec![0; bytes.len()];
                    fill(key, high, start + i as u64, &mut alone);
                    assert_eq!(bytes, alone, "{i} from {start}, {level:?}");
                }
            }
        });
    }
}
