//! The bytes of a tensor, wherever they are.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::mapping::Mapping;
use crate::model::ModelError;
use crate::model::shard::Shard;

/// Bytes that are read and hashed in one go.
pub const READ_BYTES: usize = 1 << 20;

/// A tensor's bytes: in memory, in a mapped file of the store, or still in a checkpoint.
#[derive(Clone, Debug)]
pub enum Bytes {
    Memory(Arc<Vec<u8>>),
    Mapped(Arc<Mapping>),
    Source {
        shard: Arc<Shard>,
        offset: u64,
        n_bytes: usize,
    },
    /// One after the other.
    Joined(Arc<Vec<Bytes>>),
}

impl Bytes {
    pub fn source(shard: Arc<Shard>, tensor: &str) -> Self {
        let entry = &shard.tensors[tensor];
        let (offset, n_bytes) = (entry.offset, entry.spec.n_bytes());
        Self::Source { shard, offset, n_bytes }
    }

    pub fn n_bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Mapped(mapping) => mapping.len(),
            Self::Source { n_bytes, .. } => *n_bytes,
            Self::Joined(parts) => parts.iter().map(Self::n_bytes).sum(),
        }
    }

    /// All of them, if they can be looked at without reading.
    pub fn at_hand(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::Mapped(mapping) => Some(mapping),
            Self::Source { .. } | Self::Joined(_) => None,
        }
    }

    /// Copies a range of them into a buffer.
    pub fn read_into(&self, start: usize, n_bytes: usize, out: &mut Vec<u8>) -> Result<(), ModelError> {
        let mut scratch = std::mem::take(out);
        let copied = self.range(start..start + n_bytes, &mut scratch)?.len();
        debug_assert_eq!(copied, n_bytes);
        *out = scratch;
        Ok(())
    }

    /// How many of them take memory.
    pub fn in_memory(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Mapped(_) | Self::Source { .. } | Self::Joined(_) => 0,
        }
    }

    /// The same bytes, in memory.
    pub fn into_memory(self) -> Result<Self, ModelError> {
        match self {
            Self::Source { shard, offset, n_bytes } => {
                // Zeroed a step at a time, so that the cache has it when it is read into.
                const STEP: usize = 1 << 17;
                let mut bytes = Vec::with_capacity(n_bytes);
                while bytes.len() < n_bytes {
                    let at = bytes.len();
                    bytes.resize(n_bytes.min(at + STEP), 0);
                    shard.read_at(offset + at as u64, &mut bytes[at..])?;
                }
                Ok(Self::Memory(Arc::new(bytes)))
            }
            other => Ok(other),
        }
    }

    /// A checkpoint's shard that the bytes are still in, if they are.
    pub fn shard(&self) -> Option<&Arc<Shard>> {
        match self {
            Self::Memory(_) | Self::Mapped(_) => None,
            Self::Source { shard, .. } => Some(shard),
            Self::Joined(parts) => parts.iter().find_map(Self::shard),
        }
    }

    /// Hashes the bytes, reading them once from start to end.
    pub fn digest(&self) -> Result<Digest, ModelError> {
        let mut hasher = blake3::Hasher::new();
        self.blocks(|_, block| {
            hasher.update(block);
            Ok::<(), ModelError>(())
        })?;
        Ok(hasher.finalize().into())
    }

    /// Hands the bytes over in order, in blocks of at most 1 MiB, each with its offset.
    pub fn blocks<E: From<ModelError>>(
        &self,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut scratch = Vec::new();
        for start in (0..self.n_bytes()).step_by(READ_BYTES) {
            let end = (start + READ_BYTES).min(self.n_bytes());
            visit(start as u64, self.range(start..end, &mut scratch)?)?;
        }
        Ok(())
    }

    /// Hands the bytes over in order, in blocks large enough for all threads, which share in reading them.
    pub fn large_blocks<E: From<ModelError>>(
        &self,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        const LARGE: usize = 16 * READ_BYTES;
        let mut block = vec![0; LARGE.min(self.n_bytes())];
        for start in (0..self.n_bytes()).step_by(LARGE) {
            let block = &mut block[..LARGE.min(self.n_bytes() - start)];
            let read = |(i, piece): (usize, &mut [u8])| -> Result<(), ModelError> {
                let at = start + i * READ_BYTES;
                if let Self::Source { shard, offset, .. } = self {
                    return shard.read_at(offset + at as u64, piece);
                }
                piece.copy_from_slice(self.range(at..at + piece.len(), &mut Vec::new())?);
                Ok(())
            };
            block.par_chunks_mut(READ_BYTES).enumerate().try_for_each(read)?;
            visit(block)?;
        }
        Ok(())
    }

    /// A range of the bytes; `scratch` is used where they must be read from a file.
    pub fn range<'s>(
        &'s self,
        range: Range<usize>,
        scratch: &'s mut Vec<u8>,
    ) -> Result<&'s [u8], ModelError> {
        match self {
            Self::Memory(bytes) => Ok(&bytes[range]),
            Self::Mapped(mapping) => Ok(&mapping[range]),
            Self::Source { shard, offset, n_bytes } => {
                debug_assert!(range.end <= *n_bytes);
                scratch.resize(range.len(), 0);
                shard.read_at(offset + range.start as u64, scratch)?;
                Ok(scratch)
            }
            Self::Joined(parts) => {
                scratch.clear();
                let (mut start, mut own) = (0, Vec::new());
                for part in parts.iter() {
                    let end = start + part.n_bytes();
                    if start < range.end && range.start < end {
                        let within = range.start.max(start) - start..range.end.min(end) - start;
                        scratch.extend_from_slice(part.range(within, &mut own)?);
                    }
                    start = end;
                }
                Ok(scratch)
            }
        }
    }
}
