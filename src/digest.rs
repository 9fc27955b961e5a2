//! Digests and action keys: 32-byte BLAKE3 values that cannot be mixed up; checksums for reading again.

use std::fmt;

use twox_hash::XxHash3_128;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Parses 64 lower-case hexadecimal digits.
            pub fn from_hex(text: &str) -> Option<Self> {
                blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
            }

            /// The first 12 digits, enough to tell values apart in a message.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(*hash.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }
    };
}

id_type! {
    /// BLAKE3 of the bytes of a tensor or any other blob; `b3sum` prints the same.
    ///
    /// Dtype and shape stand beside the digest wherever it identifies a tensor, so that the
    /// store can check a blob without knowing what a tensor is.
    Digest
}

id_type! {
    /// BLAKE3 of everything that can change an action's output bytes, and of nothing else.
    ActionKey
}

impl Digest {
    /// The digest of bytes held in memory; large inputs are hashed on all threads.
    pub fn of(bytes: &[u8]) -> Self {
        // Below this size the split costs more than it gains.
        const PARALLEL_FROM: usize = 1 << 20;
        let mut hasher = blake3::Hasher::new();
        if bytes.len() < PARALLEL_FROM {
            hasher.update(bytes);
        } else {
            hasher.update_rayon(bytes);
        }
        hasher.finalize().into()
    }
}

/// A fast checksum (XXH3) of every block of some bytes, taken in the pass that hashed them.
///
/// Bytes that are read again to compute with them are held to these: a block that differs is not what the
/// digest names. They guard against accidents alone, at a fraction of the cost of a digest, and name nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums(pub Vec<u128>);

impl Checksums {
    /// Bytes that share a checksum; only the last block may have fewer.
    pub const BLOCK: usize = 1 << 17;

    /// The checksum of one block.
    pub fn of(block: &[u8]) -> u128 {
        XxHash3_128::oneshot(block)
    }

    /// Those of all blocks.
    pub fn of_all(bytes: &[u8]) -> Self {
        Self(bytes.chunks(Self::BLOCK).map(Self::of).collect())
    }

    /// Whether there is one for each block of so many bytes.
    pub fn cover(&self, n_bytes: usize) -> bool {
        self.0.len() == n_bytes.div_ceil(Self::BLOCK)
    }

    /// Whether `bytes`, which begin with block number `first`, are what they were.
    pub fn agree(&self, first: usize, bytes: &[u8]) -> bool {
        bytes.chunks(Self::BLOCK).zip(&self.0[first..]).all(|(block, sum)| Self::of(block) == *sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips() {
        let digest = Digest::of(b"lamarck");
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("xyz"), None);
    }

    #[test]
    fn parallel_and_serial_hashing_agree() {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|i| (i * 7) as u8).collect();
        assert_eq!(Digest::of(&bytes), Digest::from(blake3::hash(&bytes)));
    }
}
