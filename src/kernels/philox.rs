//! Philox4x32-10, a counter-based random generator.
//!
//! Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011). A draw depends on
//! its stream and on its element's index alone, so masks do not move with threads, chunks or weights.

use std::sync::LazyLock;

use super::simd::vectorized;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Draws that one counter gives.
const LANES: usize = 4;

/// Counters that are worked on together, for the compiler to put into vector registers.
const WIDE: usize = 16;

/// Identifies one independent sequence of draws: the generator's key and the upper half of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub key: [u32; 2],
    pub high: [u32; 2],
}

impl Stream {
    /// The stream of an input: the first 16 bytes of a BLAKE3 hash of what names it.
    pub fn derive(seed: u64, stage: &str, position: usize, tensor: &str) -> Self {
        static EMPTY: LazyLock<blake3::Hasher> =
            LazyLock::new(|| blake3::Hasher::new_derive_key("lamarck random stream"));
        let mut hasher = EMPTY.clone();
        hasher.update(&seed.to_le_bytes());
        hasher.update(&(position as u64).to_le_bytes());
        for part in [stage, tensor] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let bytes = *hasher.finalize().as_bytes();
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Self { key: [word(0), word(4)], high: [word(8), word(12)] }
    }

    /// The draw of the element with this index, uniform over all u32.
    pub fn draw(&self, index: u64) -> u32 {
        let [low, high] = halves(index / LANES as u64);
        philox([low, high, self.high[0], self.high[1]], self.key)[(index % LANES as u64) as usize]
    }

    /// Fills `out` with the draws of the elements from `start` on.
    pub fn fill(&self, start: u64, out: &mut [u32]) {
        let lead = (LANES - (start % LANES as u64) as usize) % LANES;
        let (first, rest) = out.split_at_mut(lead.min(out.len()));
        for (i, draw) in first.iter_mut().enumerate() {
            *draw = self.draw(start + i as u64);
        }
        fill_from(self, (start + lead as u64) / LANES as u64, rest);
    }
}

vectorized! {
    /// Fills `out` with all draws of the counters from `counter` on.
    fn fill_from(stream: &Stream, counter: u64, out: &mut [u32]) {
        let (blocks, rest) = out.as_chunks_mut::<{ WIDE * LANES }>();
        let mut counter = counter;
        for block in blocks {
            *block = wide(stream, counter);
            counter += WIDE as u64;
        }
        let n = rest.len();
        if n > 0 {
            rest.copy_from_slice(&wide(stream, counter)[..n]);
        }
    }
}

/// The draws of `WIDE` neighbouring counters, in order.
///
/// Words are held in the lower halves of u64, as vector multiplication takes them; what gathers in the
/// upper halves is cut off before it counts.
#[inline(always)]
fn wide(stream: &Stream, counter: u64) -> [u32; WIDE * LANES] {
    const LOW: u64 = 0xffff_ffff;
    let [mut c0, mut c1] = [[0; WIDE]; 2];
    for i in 0..WIDE {
        let counter = counter.wrapping_add(i as u64);
        [c0[i], c1[i]] = [counter, counter >> 32];
    }
    let [mut c2, mut c3] = stream.high.map(|word| [u64::from(word); WIDE]);
    let mut key = stream.key;
    for _ in 0..ROUNDS {
        let [k0, k1] = key.map(u64::from);
        for i in 0..WIDE {
            let a = u64::from(MULTIPLIERS[0]) * (c0[i] & LOW);
            let b = u64::from(MULTIPLIERS[1]) * (c2[i] & LOW);
            [c0[i], c1[i], c2[i], c3[i]] = [b >> 32 ^ c1[i] ^ k0, b, a >> 32 ^ c3[i] ^ k1, a];
        }
        key = next_key(key);
    }
    let mut draws = [0; WIDE * LANES];
    for i in 0..WIDE {
        for (lane, word) in [c0[i], c1[i], c2[i], c3[i]].into_iter().enumerate() {
            draws[i * LANES + lane] = word as u32;
        }
    }
    draws
}

/// The bound below which a draw must lie to happen with probability `p`; all draws lie below that of 1.
///
/// The bound grows with `p`, so whatever a smaller probability lets happen, a larger one does too.
pub fn bound(p: f64) -> u64 {
    const ALL: f64 = 4_294_967_296.0;
    (p.clamp(0.0, 1.0) * ALL).ceil() as u64
}

fn halves(counter: u64) -> [u32; 2] {
    [counter as u32, (counter >> 32) as u32]
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        counter = round(counter, key);
        key = next_key(key);
    }
    counter
}

#[inline(always)]
fn round(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
    let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
    [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32]
}

fn next_key(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;

    /// The known answers that the authors publish with Random123.
    #[test]
    fn published_vectors_hold() {
        let ones = u32::MAX;
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([ones; 4], [ones; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn filling_and_single_draws_agree() {
        let stream = Stream::derive(7, "stage", 1, "tensor");
        let far = u64::from(u32::MAX) * 4 - 10;
        at_every_level(|level| {
            for (start, n) in [(0, 300), (1, 64), (3, 1), (62, 131), (far, 100)] {
                let mut draws = vec![0; n];
                stream.fill(start, &mut draws);
                let single: Vec<u32> = (0..n as u64).map(|i| stream.draw(start + i)).collect();
                assert_eq!(draws, single, "from {start}, {level:?}");
            }
        });
    }

    #[test]
    fn streams_differ_in_every_part_of_their_name() {
        let streams = [
            Stream::derive(0, "a", 0, "t"),
            Stream::derive(1, "a", 0, "t"),
            Stream::derive(0, "b", 0, "t"),
            Stream::derive(0, "a", 1, "t"),
            Stream::derive(0, "a", 0, "u"),
            Stream::derive(0, "at", 0, ""),
        ];
        for (i, a) in streams.iter().enumerate() {
            assert!(streams[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn bounds_cover_everything_and_nothing() {
        assert_eq!(bound(0.0), 0);
        assert_eq!(bound(1.0), 1 << 32);
        assert_eq!(bound(0.5), 1 << 31);
    }
}
