//! What is drawn for the elements of a tensor.
//!
//! Draws depend on their stream and on their element's flat index alone, so they do not move with threads,
//! pieces, weights or densities.

use std::sync::LazyLock;

use super::{philox, splitmix};

/// Independent draws for one input of one tensor: for every element a byte, and 64 bits for those that need
/// more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The key of the generator of bytes.
    pub key: [u32; 2],
    /// The upper half of its counter.
    pub high: [u32; 2],
    /// The seed of the generator of 64 bits.
    pub seed: u64,
}

impl Stream {
    /// The stream of an input: the first 24 bytes of a BLAKE3 hash of what names it.
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
        let (words, _) = bytes.as_chunks();
        let word = |i: usize| u32::from_le_bytes(words[i]);
        let seed = u64::from(word(5)) << 32 | u64::from(word(4));
        Self { key: [word(0), word(1)], high: [word(2), word(3)], seed }
    }

    /// The bytes of `n` elements from `start` on, made in a buffer.
    pub fn bytes<'a>(&self, start: u64, n: usize, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        // One counter serves many elements, and the first of them may come before `start`.
        let before = (start % philox::BYTES as u64) as usize;
        buffer.resize(before + n, 0);
        philox::fill(self.key, self.high, start / philox::BYTES as u64, buffer);
        &buffer[before..]
    }

    /// The 64 bits of one element.
    #[inline(always)]
    pub fn bits(&self, index: u64) -> u64 {
        splitmix::output(self.seed, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_by_index_wherever_they_start() {
        let stream = Stream::derive(7, "stage", 1, "tensor");
        let mut buffer = vec![1; 3];
        let all = stream.bytes(0, 2000, &mut buffer).to_vec();
        for (start, n) in [(1, 1), (15, 2), (16, 16), (255, 1000), (1999, 1), (5, 0)] {
            assert_eq!(stream.bytes(start as u64, n, &mut buffer), &all[start..start + n], "{start}");
        }
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
            let differs = |b: &Stream| a.key != b.key && a.high != b.high && a.seed != b.seed;
            assert!(streams[i + 1..].iter().all(differs));
        }
    }
}
